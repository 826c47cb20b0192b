"""Ledgers that a report cannot show, or not whole: what is said of each, in one line, and what is still shown."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import Facts, Run, UnderWay, finish

Complains = Callable[..., str]

HEAD = 65536  # the first extent, which holds the header: see layout.h
VERSION_AT = 8
NOBODY = 65534


@pytest.fixture
def whole(bursar: Run, ledger: Path) -> Path:
    """A ledger of a program that ended, with some thousand events in it."""
    done = bursar("run", "-o", ledger, "-c", "kept = [bytes(n) for n in range(3000)]; import json")
    assert done.returncode == 0, done.stderr
    return ledger


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "report: give one ledger or process id: "),
        (["{ledger}", "{ledger}"], "report: give one ledger or process id: "),
        (["{ledger}", "--view", "tabel"], "report: no view 'tabel': did you mean table?"),
        (["{ledger}", "--view", "pie"], "report: no view 'pie': there is table, tree, lines, flame, leaks, temporary"),
        (["{ledger}", "--veiw", "table"], "report: no option --veiw: did you mean --view?"),
        (["{ledger}", "--format", "pdf"], "report: no format 'pdf': there is text, html, json"),
        (["{ledger}", "--at", "noon"], "report: --at takes peak, end, or seconds since the start like 1.5, not 'noon'"),
        (["{ledger}", "--at", "-1"], "report: --at takes peak, end, or seconds since the start like 1.5, not '-1'"),
        (["{ledger}", "--at", ""], "report: --at takes peak, end, or seconds since the start like 1.5, not ''"),
    ],
)
def test_wrong_use_of_report(complains: Complains, whole: Path, words: list[str], expected: str) -> None:
    line = complains(2, "report", *(word.format(ledger=whole) for word in words))
    assert line.startswith(f"bursar: {expected}")


def test_no_name_is_shown_as_none(complains: Complains) -> None:
    assert complains(1, "report", "") == "bursar: cannot read '': No such file or directory\n"


def test_a_time_outside_the_run(complains: Complains, bursar: Run, whole: Path, facts: Facts) -> None:
    run = facts(whole)["run_s"]
    for words in (["--at", "99999"], ["--at", str(run + 1), "--format", "json"]):
        done = bursar("report", whole, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"is outside the run, which lasted {run:.3f} s: give 0 to {run:.3f}\n" in done.stderr
    for at in ("0", "0.0", f"{run:.9f}", f"{run / 2:.9f}"):
        done = bursar("report", whole, "--at", at)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty, not a ledger"),
        (b"B", "is not a ledger"),
        (b"print('hello')\n", "is not a ledger"),
        (b"\0" * 200_000, "is not a ledger"),
    ],
)
def test_what_is_no_ledger(complains: Complains, ledger: Path, content: bytes, expected: str) -> None:
    ledger.write_bytes(content)
    assert complains(1, "report", ledger).startswith(f"bursar: {ledger} {expected}")


def test_what_is_no_file(complains: Complains, tmp_path: Path, ledger: Path) -> None:
    assert "No such file or directory" in complains(1, "report", ledger)
    assert f"{tmp_path} is not a ledger: it is a directory" in complains(1, "report", tmp_path)
    assert "/dev/zero is not a ledger: it is not a regular file" in complains(1, "report", "/dev/zero")
    os.mkfifo(ledger)
    assert "is not a ledger" in complains(1, "report", ledger)


def test_a_process_without_a_ledger(complains: Complains) -> None:
    assert f"no ledger of process {os.getpid()} in " in complains(1, "report", str(os.getpid()))
    complains(1, "report", "0")
    complains(1, "report", "99999999999999999999")


def test_a_newer_format(complains: Complains, whole: Path) -> None:
    content = bytearray(whole.read_bytes())
    content[VERSION_AT : VERSION_AT + 4] = (1000).to_bytes(4, "little")
    whole.write_bytes(content)
    line = complains(1, "report", whole)
    assert line.startswith(f"bursar: {whole} has ledger format 1000, and this bursar reads up to ")
    assert line.endswith(": read it with a newer bursar\n")


def test_a_newer_format_is_listed_and_kept(bursar: Run, whole: Path, tmp_path: Path) -> None:
    content = bytearray(whole.read_bytes())
    content[VERSION_AT : VERSION_AT + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "ledgers").mkdir(mode=0o700)
    newer = tmp_path / "ledgers" / "later.bursar"
    newer.write_bytes(content)
    (entry,) = json.loads(bursar("ls", "--format", "json").stdout)["ledgers"]
    assert (entry["path"], entry["state"]) == (str(newer), "newer")
    assert bursar("clean").returncode == 0
    assert newer.read_bytes() == content


@pytest.mark.parametrize("size", [8, 9, 100, 4096, 8192, 12288 + 8, 16384, 20479])
def test_one_that_is_cut_in_its_head(complains: Complains, whole: Path, size: int) -> None:
    os.truncate(whole, size)
    assert complains(1, "report", whole).startswith(f"bursar: {whole} is truncated")


def test_one_that_is_cut_later_shows_what_is_sound(bursar: Run, whole: Path, facts: Facts) -> None:
    before = facts(whole)
    content = whole.read_bytes()
    for cut in range(HEAD, len(content), (len(content) - HEAD) // 10):
        whole.write_bytes(content[:cut])
        told = facts(whole)
        assert any("truncated" in note for note in told["notes"])
        for key in ("peak_bytes", "allocations", "frees", "allocated_bytes"):
            assert told[key] == before[key], "the totals are in the head"
        for form in ("text", "html"):
            done = bursar("report", whole, "--format", form)
            assert (done.returncode, done.stderr) == (0, "")
            assert "truncated" in done.stdout


def test_one_that_was_never_begun(complains: Complains, bursar: Run, ledger: Path) -> None:
    assert bursar("run", "-o", ledger, "--", "sh", "-c", ":").returncode == 0
    assert complains(1, "report", ledger).startswith(f"bursar: {ledger} holds nothing: ")


def test_a_report_replaces_a_file_but_no_ledger(complains: Complains, bursar: Run, whole: Path, tmp_path: Path) -> None:
    before = whole.read_bytes()
    assert complains(1, "report", whole, "-o", whole).startswith(f"bursar: {whole} is a ledger: ")
    copy = tmp_path / "other.bursar"
    copy.write_bytes(before)
    complains(1, "report", whole, "--format", "html", "-o", copy)
    assert copy.read_bytes() == whole.read_bytes() == before

    page = tmp_path / "page.html"
    page.write_text("old")
    assert bursar("report", whole, "--format", "html", "-o", page).returncode == 0
    assert page.read_text().startswith("<!")
    page.write_text("old")
    complains(1, "report", whole, "-o", tmp_path / "no" / "page.html")
    complains(1, "report", whole, "-o", tmp_path)
    assert page.read_text() == "old"


def test_a_running_one_is_read_while_it_runs(bursar: Run, under_way: UnderWay, ledger: Path, facts: Facts) -> None:
    program = under_way("-o", ledger)
    told = facts(ledger)
    assert (told["complete"], told["state"]) == (False, "running")
    assert told["live_bytes"] > 4_000_000
    assert finish(program) == 0
    assert (facts(ledger)["complete"], facts(ledger)["state"]) == (True, "ended")


# ---- other users ----


@pytest.fixture
def shared(command: str) -> Iterator[Path]:
    """A folder that every user may enter, with the command in it."""
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    folder = Path(tempfile.mkdtemp(prefix="bursar-test-"))
    folder.chmod(0o755)
    shutil.copy(command, folder / "bursar")
    (folder / "bursar").chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_ledger_of_another_user(execute: Run, whole: Path, shared: Path) -> None:
    ledger = shared / "theirs.bursar"
    shutil.copy(whole, ledger)
    ledger.chmod(0o600)
    options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/"}
    done = execute(shared / "bursar", "report", ledger, **options)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"bursar: cannot read {ledger}: it belongs to another user")
    assert done.stderr.count("\n") == 1

    # Nor may it be written: in another's folder, over another's file.
    for words in (["-o", str(ledger)], ["-f", "-o", str(ledger)], ["-o", str(shared / "new.bursar")]):
        done = execute(shared / "bursar", "run", *words, "--", "/bin/true", **options)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Permission denied" in done.stderr
        assert done.stderr.count("\n") == 1


def test_the_default_directory_of_another_user(execute: Run, shared: Path) -> None:
    ledgers = shared / "ledgers"
    ledgers.mkdir(mode=0o755)
    options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/"}
    for words in (["ls"], ["clean"], ["run", "--", "/bin/true"]):
        done = execute(shared / "bursar", *words, env={"BURSAR_DIR": str(ledgers)}, **options)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"the ledger directory {ledgers} belongs to another user" in done.stderr
    assert not list(ledgers.iterdir())


def test_a_running_one_is_found_by_its_process_wherever_it_is(
    bursar: Run, complains: Complains, under_way: UnderWay, tmp_path: Path
) -> None:
    ledger = tmp_path / "some\nwhere.bursar"
    program = under_way("-o", ledger)
    told = json.loads(bursar("report", str(program.pid), "--format", "json").stdout)
    assert (told["pid"], told["state"]) == (program.pid, "running")
    assert told["live_bytes"] > 4_000_000
    assert finish(program) == 0
    assert f"no ledger of process {program.pid} in " in complains(1, "report", str(program.pid))
