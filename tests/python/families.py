"""Programs of several processes: run without bursar and with it, and what all of their ledgers say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from books import line_of
from running import Done, Facts, Run

# What `bursar run` is asked for.
MODES = {
    "exact": ("--domains", "all"),
    "native": ("--domains", "all", "--native"),
    "sample": ("--domains", "all", "--mode", "sample"),
    "count": ("--domains", "all", "--mode", "count"),
}
FEWEST = 100  # allocations of a process that ran any Python


class Family(NamedTuple):
    path: Path
    line: int  # the one marked `# @work`
    main: dict[str, Any]
    children: dict[int, dict[str, Any]]  # by pid

    def at_work(self, figure: str) -> list[int]:
        """A figure of the marked line in each process, the first one's first."""
        place = (str(self.path), self.line)
        return [
            sum(site[figure] for site in books["sites"] if site["domain"] == "python.obj" and line_in(site) == place)
            for books in (self.main, *self.children.values())
        ]


def line_in(site: dict[str, Any]) -> "tuple[str, int] | None":
    """The innermost line of Python."""
    return next(((frame["file"], frame["line"]) for frame in site["stack"] if not frame["native"]), None)


Under = Callable[..., Family]


def read_family(facts: Facts, ledger: Path, path: Path, text: str) -> Family:
    """The books of a program and its children. Each has seen what its process did."""
    main = facts(ledger)
    assert main["complete"] and main["state"] == "ended", main["notes"]
    children = {int(child.name.split(".")[2]): facts(child) for child in ledger.parent.glob(f"{ledger.name}.*")}
    for pid, books in children.items():
        assert books["state"] in ("ended", "killed"), (pid, books["notes"])
        assert books["mode"] == main["mode"]
        if books["state"] == "ended":  # a pool may end a child before it has begun
            assert books["peak_bytes"] > 0 if books["mode"] == "count" else books["allocations"] > FEWEST, (pid, books)
    return Family(path, line_of(text, "work"), main, children)


def own_words(done: Done) -> str:
    """A program's stderr without the summary."""
    return done.stderr.partition("bursar: peak")[0]


@pytest.fixture
def under(execute: Run, bursar: Run, python: str, facts: Facts, ledger: Path, tmp_path: Path) -> Under:
    """Runs a program without bursar and in that mode: both must do the same."""

    def run(text: str, mode: str, *arguments: str) -> Family:
        path = tmp_path / "program.py"
        path.write_text(text)
        plain = execute(python, path, *arguments)
        assert plain.returncode == 0, plain.stderr
        kept = bursar("run", "--follow-fork", "-f", "-o", ledger, *MODES[mode], path, *arguments)
        assert (kept.returncode, kept.stdout, own_words(kept)) == (0, plain.stdout, plain.stderr)
        return read_family(facts, ledger, path, text)

    return run
