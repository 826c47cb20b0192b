"""What the tests of the installed program share beside the fixtures of conftest.py."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

Done = subprocess.CompletedProcess[str]
LIMIT = 120  # seconds: far above what any of these programs needs on a busy machine


class Run(Protocol):
    """Runs a command to its end in the test's folder; `env` is added to its environment, None takes a name away."""

    def __call__(
        self, *arguments: "str | Path", env: "dict[str, str | None] | None" = None, **options: Any
    ) -> Done: ...


UnderWay = Callable[..., "subprocess.Popen[str]"]
Facts = Callable[[Path], dict[str, Any]]


def finish(program: "subprocess.Popen[str]") -> int:
    """Lets a program of `under_way` end, and returns its exit status."""
    program.communicate("\n", timeout=LIMIT)
    return program.returncode


def with_site(facts: dict[str, Any], file: "str | Path", line: int) -> list[dict[str, Any]]:
    """The report's sites whose innermost frame is at that line, largest first."""
    return [
        site
        for site in facts["sites"]
        if site["stack"] and (site["stack"][0]["file"], site["stack"][0]["line"]) == (str(file), line)
    ]
