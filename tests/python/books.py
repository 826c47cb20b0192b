"""What the tests of the account share: run a program under `bursar run`, and read what its books say about lines.

A program marks the lines that a test asks about with a comment: `# @name`."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from running import Done, Facts, Run

# b"x" * n is one allocation of n + 33 bytes in python.obj, in every version, and nothing else.
ONE = "ONE = b'x'\n"


def line_of(text: str, mark: str) -> int:
    """The number of the only line with that mark."""
    found = [number for number, line in enumerate(text.splitlines(), 1) if line.endswith(f"# @{mark}")]
    assert len(found) == 1, (mark, found)
    return found[0]


class Books(NamedTuple):
    text: str
    path: Path
    done: Done
    facts: dict[str, Any]

    def sites(self, mark: str, domain: str = "python.obj") -> list[dict[str, Any]]:
        """The sites of a domain whose innermost frame is at the marked line."""
        place = (str(self.path), line_of(self.text, mark))
        return [
            site for site in self.facts["sites"]
            if site["domain"] == domain and site["stack"]
            and (site["stack"][0]["file"], site["stack"][0]["line"]) == place
        ]  # fmt: skip

    def sum(self, mark: str, figure: str, domain: str = "python.obj") -> int:
        return sum(site[figure] for site in self.sites(mark, domain))


Keep = Callable[..., Books]


def assert_balanced(facts: dict[str, Any], peak_error: int = 0) -> None:
    """Totals, which are kept apart, agree with the sums by site; at the peak within an error that is told and allowed.
    How many blocks lane FREE once held is not known."""
    sites = facts["sites"]
    assert not peak_error or facts["peak_error_bytes"] <= peak_error
    for total, by_site in [
        ("live_bytes", "live_bytes"), ("peak_bytes", "peak_bytes"),
        ("allocations", "allocations"), ("allocated_bytes", "allocated_bytes"),
        ("temporary_allocations", "temporary_allocations"),
    ]:  # fmt: skip
        summed = sum(site[by_site] for site in sites)
        error = facts["live_error_bytes"] if total == "live_bytes" else peak_error if total == "peak_bytes" else 0
        assert abs(facts[total] - summed) <= error, (total, facts["peak_error_bytes"], facts["live_error_bytes"])
    # What the error is there for: a thread's own few words, freed outside the GIL after the end.
    assert facts["live_error_bytes"] < 100_000
    if not facts["outside_allocations"]:
        assert facts["live_blocks"] == sum(site["live_blocks"] for site in sites)


@pytest.fixture
def keep(bursar: Run, facts: Facts, ledger: Path, tmp_path: Path) -> Keep:
    """Runs a program under `bursar run` to its success, and reads its ledger; the books must balance."""

    def run(text: str, *options: str, balanced: bool = True, peak_error: int = 0, **more: Any) -> Books:
        path = tmp_path / "program.py"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        done = bursar("run", "-f", "-o", ledger, *options, path, **more)
        assert done.returncode == 0, done.stderr
        read = facts(ledger)
        assert read["complete"] and read["state"] == "ended", read["notes"]
        assert read["notes"] == []
        if balanced:
            assert_balanced(read, peak_error)
        return Books(text, path, done, read)

    return run


Capped = Callable[[Path, int, str], "subprocess.Popen[str]"]


@pytest.fixture
def capped(python: str, environment: dict[str, str], tmp_path: Path) -> Capped:
    """Starts a program with a ledger of at most so many bytes, in the way that `bursar run` does it."""

    def start(ledger: Path, cap: int, text: str) -> "subprocess.Popen[str]":
        create = "import sys; from bursar import _bursar; _bursar.create(sys.argv[1], True)"
        subprocess.run([python, "-c", create, ledger], check=True, env=environment)
        path = tmp_path / "capped.py"
        path.write_text(text)
        settings = f"mode=exact;out={quote(str(ledger), safe='/')};cap={cap};within=1;follow=0;quiet=0"
        return subprocess.Popen(
            ["sh", "-c", f'BURSAR_RUN="pid=$$;{settings}" exec "$@"', "sh", python, path], env=environment,
            cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start
