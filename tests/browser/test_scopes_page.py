"""The page's table of scopes, from programs that entered some."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_report import HOSTILE, Page, Report, open_page, tool

__all__ = ["open_page"]

PROGRAM = """\
import bursar, sys
bursar.start("exact", output=sys.argv[1])
one = b"x"
kept = []
for i in range(4):
    with bursar.scope("load"): kept.append(one * 1_000_000)
for name in sys.argv[2:]:
    with bursar.scope(name): kept.append(one * 1_000)
"""


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Report]:
    """The report of a program, with these names of scopes besides; without any, the program enters none."""

    def write(text: str, *names: str) -> Report:
        ledger, page = tmp_path / "test.bursar", tmp_path / "report.html"
        for command in (
            [sys.executable, "-c", text, ledger, *names],
            [tool("src/cli/bursar"), "report", ledger, "--format", "html", "-o", page],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        return Report(page, {})

    return write


def rows(page: Page) -> list[list[str]]:
    return [row.split("\t") for row in page.inner_text("#scopes tbody").splitlines()]


def test_each_scope_is_a_row(written: Callable[..., Report], open_page: Callable[..., Any]) -> None:
    page = open_page(written(PROGRAM, *(f"name {i}" for i in range(1100))))
    shown = rows(page)
    assert page.is_visible("#scopes")
    assert page.inner_text("#scopes-note") == "the first 1,000 of 1,101"
    assert len(shown) == 1000
    name, live, retained, calls, opened, *peaks, most, allocated, time = shown[0]
    assert (name, live, retained, calls, opened) == ("load", "3.81 MiB", "3.81 MiB", "4", "0")
    assert most == "977 KiB" and allocated == "3.81 MiB" and time.endswith("s")
    assert len(peaks) == 3 and all(900 < float(peak.split()[0]) <= 977 for peak in peaks)


def test_names_are_only_text(written: Callable[..., Report], open_page: Callable[..., Any]) -> None:
    names = [*HOSTILE, "\x1b[31m\u202eturned", "n" * 3000]
    page = open_page(written(PROGRAM, *names))
    shown = [row[0] for row in rows(page)]
    assert set(HOSTILE) < set(shown)
    assert any("\\x1b[31m\\u202eturned" in name for name in shown)
    assert page.locator("#scopes script, #scopes img").count() == 0
    assert all(len(name) <= 200 for name in shown)


def test_without_scopes_there_is_no_table(written: Callable[..., Report], open_page: Callable[..., Any]) -> None:
    page = open_page(written(PROGRAM.partition("for i")[0]))
    assert page.is_hidden("#scopes")
