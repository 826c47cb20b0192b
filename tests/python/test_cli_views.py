"""What `bursar report` and `bursar diff` show of programs whose memory is known: views, instants, formats."""

import json
import os
import pty
import re
import resource
from pathlib import Path
from typing import Any

import pytest
from running import Facts, Run, with_site

# Where comprehensions are no functions of their own (3.12), the peak has the loop's iterator on their line too.
KEPT = (900_000, 900_000 + 40)
VIEWS = ["table", "tree", "lines", "flame", "leaks", "temporary"]

PROGRAM = """\
import time
def load():
    return bytearray(4_000_000)
def keep():
    return [bytes(90_000 - 33) for _ in range(10)]
first = load()
time.sleep(0.3)
kept = keep()
del first
time.sleep(0.3)
other = keep()
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def whole(bursar: Run, script: Path, ledger: Path) -> Path:
    done = bursar("run", "-o", ledger, script)
    assert done.returncode == 0, done.stderr
    return ledger


def show(bursar: Run, *arguments: "str | Path") -> str:
    done = bursar("report", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_peak_and_the_end_are_known_to_the_byte(whole: Path, script: Path, facts: Facts) -> None:
    known = facts(whole)
    assert known["complete"] is True
    assert known["state"] == "ended"
    big, kept = with_site(known, script, 3), with_site(known, script, 5)
    assert sum(site["peak_bytes"] for site in big) >= 4_000_000
    assert sum(site["live_bytes"] for site in big) < 1000
    assert max(site["peak_bytes"] for site in kept) in KEPT
    assert sum(site["live_bytes"] for site in kept if site["live_blocks"] == 10) == 2 * 900_000
    assert sum(site["peak_bytes"] for site in known["sites"]) == known["peak_bytes"]
    assert sum(site["live_bytes"] for site in known["sites"]) == known["live_bytes"]
    assert [site["peak_bytes"] for site in known["sites"]] == sorted(
        (site["peak_bytes"] for site in known["sites"]), reverse=True
    )


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ("table", r"\d\d\.\d %  3\.81 MiB +\d  python\.\w+ +load program\.py:3 ← <module>:6"),
        ("tree", r"3\.81 MiB +\d\d\.\d % .*<module> program\.py:6 → load program\.py:3"),
        ("lines", r"3\.81 MiB +3\.81 MiB +\d+  program\.py:3\n +return bytearray\(4_000_000\)"),
        ("flame", r"│load program\.py:3─"),
        ("leaks", r"879 KiB +10  python\.obj +.*program\.py:5"),
        ("temporary", r"Temporary allocations: freed before their thread's next 1"),
    ],
)
def test_each_view_shows_it(bursar: Run, whole: Path, view: str, expected: str) -> None:
    text = show(bursar, whole, "--view", view)
    assert re.search(expected, text), text
    assert "\x1b" not in text


def test_the_first_instants_held_less(bursar: Run, whole: Path, script: Path, facts: Facts) -> None:
    known = facts(whole)
    ticks = [tick["time_s"] for tick in known["timeline"]]
    assert ticks == sorted(ticks)

    def live(at: str, line: int) -> int:
        read: dict[str, Any] = json.loads(show(bursar, whole, "--at", at, "--format", "json"))
        return sum(site["live_bytes"] for site in with_site(read, script, line) if site["live_bytes"] > 50_000)

    before = next(t["time_s"] for t in known["timeline"] if 4_000_000 < t["live_bytes"] < known["peak_bytes"] - 500_000)
    assert live(str(before), 3) > 3_900_000
    assert live(str(before), 5) < 500_000
    assert live("end", 5) == 2 * 900_000
    assert live("end", 3) == 0
    assert live("peak", 3) > 3_900_000
    assert live("peak", 5) in KEPT
    assert "Held at the end" in show(bursar, whole, "--at", "end")


def test_names_are_only_text_in_every_view(bursar: Run, tmp_path: Path, ledger: Path) -> None:
    name = "<script>alert(1)</script>\x1b[31m\u202e"
    script = tmp_path / "hostile.py"
    script.write_text(f"exec(compile('def f(): return bytearray(3_000_000)\\nkept = f()', {name!r}, 'exec'))\n")
    assert bursar("run", "-o", ledger, script).returncode == 0
    for view in VIEWS:
        text = show(bursar, ledger, "--view", view)
        assert "\x1b" not in text
        assert "\u202e" not in text
    table = show(bursar, ledger)
    assert "script>\\x1b[31m\\u{202e}:1" in table
    text = show(bursar, ledger, "--format", "json")
    assert "<" not in text
    assert name in {frame["file"] for site in json.loads(text)["sites"] for frame in site["stack"]}
    page = show(bursar, ledger, "--format", "html")
    assert "<script>alert" not in page
    assert "\x1b" not in page


def in_terminal(words: list[str], environment: dict[str, str]) -> str:
    """What a command prints to a terminal of 80 columns."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(words[0], words, environment)
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # how a terminal ends on Linux
            break
        if not piece:
            break
        shown += piece
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return shown.decode()


def test_colour_is_for_terminals(command: str, environment: dict[str, str], whole: Path) -> None:
    base = {key: value for key, value in environment.items() if key != "NO_COLOR"} | {"TERM": "xterm"}
    for view in VIEWS:
        words = [command, "report", str(whole), "--view", view]
        coloured = in_terminal(words, base)
        assert "\x1b[1m" in coloured
        plain = in_terminal(words, base | {"NO_COLOR": "1"})
        assert "\x1b" not in plain
        assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).replace("─", " ") == plain.replace("─", " ")


def test_diff_tells_what_grew(bursar: Run, tmp_path: Path, whole: Path, complains: Any) -> None:
    more = tmp_path / "more" / "program.py"
    more.parent.mkdir()
    more.write_text(PROGRAM.replace("4_000_000", "5_000_000"))
    grown = tmp_path / "grown.bursar"
    assert bursar("run", "-o", grown, more).returncode == 0
    same = bursar("diff", whole, whole, "--fail-over", "0")
    assert (same.returncode, "no site changed" in same.stdout) == (0, True)
    text = bursar("diff", whole, grown)
    assert text.returncode == 0
    assert re.search(r"\+977 KiB  3\.81 MiB  4\.77 MiB  python\.\w+ +load program\.py:3", text.stdout), text.stdout
    read = json.loads(bursar("diff", whole, grown, "--format", "json").stdout)
    assert read["peak_change_bytes"] == read["after"]["peak_bytes"] - read["before"]["peak_bytes"]
    assert read["sites"][0]["change_bytes"] == 1_000_000
    assert read["sites"][0]["stack"][0]["function"] == "load"
    assert bursar("diff", whole, grown, "--fail-over", "2 MB").returncode == 0
    assert bursar("diff", grown, whole, "--fail-over", "0").returncode == 0
    failed = bursar("diff", whole, grown, "--fail-over", "900kB")
    assert failed.returncode == 1
    assert failed.stdout.startswith("before")
    assert re.fullmatch(r"bursar: diff: the peak grew by \d+ KiB, more than 879 KiB\n", failed.stderr), failed.stderr
    assert (
        complains(2, "diff", whole) == "bursar: diff: give two ledgers, the earlier one first: see bursar diff --help\n"
    )
    assert "takes a size like 10MiB, not 'lots'" in complains(2, "diff", whole, grown, "--fail-over", "lots")
    assert "no format 'html'" in complains(2, "diff", whole, grown, "--format", "html")


def test_the_summary_fits_a_screen(bursar: Run, script: Path, ledger: Path) -> None:
    done = bursar("run", "-o", ledger, script)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) <= 20
    first = r"bursar: peak 4\.\d+ MiB at \d+\.\d{3} s of \d+\.\d{3} s; 1\.\d+ MiB live at the end"
    assert re.fullmatch(first, lines[0]), lines
    assert any(re.match(r" +\d\d\.\d % +3\.81 MiB  program\.py:3 load", line) for line in lines), lines
    assert f"  bursar report {ledger}" in lines
    assert f"  bursar report {ledger} --format html -o report.html" in lines


def test_what_cannot_be_written_leaves_nothing(bursar: Run, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    for words in (["report", whole, "--format", "json"], ["report", whole, "--format", "html"]):
        done = bursar(*words, "-o", folder / "x", preexec_fn=limit)
        assert done.returncode == 1
        assert "File too large" in done.stderr
        assert list(folder.iterdir()) == []
    with open("/dev/full", "w") as full:
        done = bursar("report", whole, stdout=full)
    assert (done.returncode, done.stderr) == (1, "bursar: cannot write the report: No space left on device\n")


@pytest.mark.check
def test_json_of_a_deep_recursion_stays_readable(bursar: Run, ledger: Path, tmp_path: Path) -> None:
    """Each level allocates, so each has a site with a stack of its own: the rarest are cut, and say by how much."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, threading\n"
        "sys.setrecursionlimit(10000)\n"
        "threading.stack_size(256 << 20)\n"
        "kept = []\n"
        "def f(n):\n"
        "    kept.append(bytes(1000 + n))\n"
        "    if n: f(n - 1)\n"
        "thread = threading.Thread(target=f, args=(4000,))\n"
        "thread.start()\n"
        "thread.join()\n"
    )
    assert bursar("run", "-o", ledger, program).returncode == 0
    done = bursar("report", ledger, "--format", "json")
    assert len(done.stdout) < 400_000_000
    sites = json.loads(done.stdout)["sites"]
    mine = [
        site for site in sites
        if site["domain"] == "python.obj" and site["stack"] and site["stack"][0]["function"] == "f"
        and site["live_bytes"] > 1000
    ]  # fmt: skip
    assert len(mine) == 4001
    assert all(len(site["stack"]) + site.get("stack_omitted", 0) >= 64 or site["live_bytes"] > 4900 for site in mine)
    assert any("stack_omitted" in site for site in sites) and not any("stack_omitted" in site for site in sites[:100])
