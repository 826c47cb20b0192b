"""What the tests of the installed program share: the command, the interpreter it runs, a ledger and its facts.

Each test has a folder of its own for ledgers, and an environment without the caller's settings, so that nothing that
somebody exported or left behind decides a test."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import LIMIT, Done, Facts, Run, UnderWay

# Who runs the tests in the background may have had SIGINT ignored: then every program below would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter under test. Not resolved: a virtual environment's python is a link."""
    return os.environ.get("BURSAR_PYTHON", sys.executable)


@pytest.fixture(scope="session")
def command(python: str) -> str:
    """The command under test: BURSAR_COMMAND, else the one beside the interpreter, else the one on PATH."""
    beside = Path(python).parent / "bursar"
    found = os.environ.get("BURSAR_COMMAND") or (str(beside) if beside.exists() else shutil.which("bursar"))
    if not found:
        pytest.fail("no bursar command: make build, or name one in BURSAR_COMMAND", pytrace=False)
    return found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("BURSAR", "PYTHON", "XDG_RUNTIME_DIR", "MESON", "COVERAGE", "PYTEST"))
    }
    return kept | {"BURSAR_DIR": str(tmp_path / "ledgers")}


@pytest.fixture
def execute(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Any command, in the test's folder and environment."""

    def run(*arguments: "str | Path", env: "dict[str, str | None] | None" = None, **options: Any) -> Done:
        full: dict[str, str] = {k: v for k, v in (environment | (env or {})).items() if v is not None}
        settings: dict[str, Any] = {
            "cwd": tmp_path, "env": full, "text": True, "timeout": LIMIT, "errors": "surrogateescape",
            "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
        }  # fmt: skip
        if "input" in options:
            del settings["stdin"]
        return subprocess.run([str(word) for word in arguments], **(settings | options))

    return run


@pytest.fixture
def bursar(command: str, execute: Run) -> Run:
    """`bursar` with these arguments."""

    def run(*arguments: "str | Path", env: "dict[str, str | None] | None" = None, **options: Any) -> Done:
        return execute(command, *arguments, env=env, **options)

    return run


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Where a test's ledger may go; nothing is there yet."""
    return tmp_path / "test.bursar"


@pytest.fixture
def facts(bursar: Run) -> Facts:
    """What `bursar report LEDGER --format json` says."""

    def read(ledger: Path) -> dict[str, Any]:
        done = bursar("report", ledger, "--format", "json")
        assert done.returncode == 0, done.stderr
        read: dict[str, Any] = json.loads(done.stdout)
        return read

    return read


@pytest.fixture
def listed(bursar: Run) -> Callable[[], list[dict[str, Any]]]:
    """What `bursar ls --format json` says of the test's ledgers."""

    def read() -> list[dict[str, Any]]:
        done = bursar("ls", "--format", "json")
        assert done.returncode == 0, done.stderr
        ledgers: list[dict[str, Any]] = json.loads(done.stdout)["ledgers"]
        return ledgers

    return read


@pytest.fixture
def complains(bursar: Run) -> Callable[..., str]:
    """Runs bursar, and returns what it complains about: one line on stderr, nothing on stdout, this exit status."""

    def run(status: int, *arguments: "str | Path", **options: Any) -> str:
        done = bursar(*arguments, **options)
        assert done.returncode == status, done
        assert done.stdout == ""
        assert done.stderr.startswith("bursar: ")
        assert done.stderr.endswith("\n")
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.strip("\n").isprintable()
        return done.stderr

    return run


@pytest.fixture
def under_way(command: str, environment: dict[str, str], tmp_path: Path) -> Iterator[UnderWay]:
    """Starts a program under bursar that holds a few megabytes, and returns it once it is under way. It ends at a line
    on its stdin, or with the test. Arguments: options of `bursar run`."""
    started = []

    def start(*options: "str | Path") -> "subprocess.Popen[str]":
        program = subprocess.Popen(
            [command, "run", *map(str, options), "-c", "kept = bytes(4_000_000); print('here', flush=True); input()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
            cwd=tmp_path,
        )  # fmt: skip
        started.append(program)
        assert program.stdout and program.stdout.readline() == "here\n"
        return program

    yield start
    for program in started:
        with program:
            program.kill()

