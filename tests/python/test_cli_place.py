"""Where ledgers live: the default directory, who may share it, what ls and clean say, and what is kept."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import Run, UnderWay, finish

Complains = Callable[..., str]
Listed = Callable[[], list[dict[str, Any]]]


KEEP = 20


@pytest.fixture
def ledgers(environment: dict[str, str]) -> Path:
    return Path(environment["BURSAR_DIR"])


def test_the_directory_is_made_and_private(bursar: Run, ledgers: Path) -> None:
    done = bursar("run", "-c", "pass", umask=0)
    assert done.returncode == 0, done.stderr
    assert ledgers.stat().st_mode & 0o777 == 0o700
    (ledger,) = ledgers.iterdir()
    assert ledger.stat().st_mode & 0o777 == 0o600


def test_the_order_of_places(bursar: Run, tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    temp = tmp_path / "temp"
    runtime.mkdir()
    temp.mkdir()
    uid = os.geteuid()

    def found(**env: "str | None") -> str:
        done = bursar("ls", "--format", "json", env={"BURSAR_DIR": None, **env})
        assert done.returncode == 0, done.stderr
        directory: str = json.loads(done.stdout)["directory"]
        return directory

    assert found(BURSAR_DIR=str(tmp_path / "own"), XDG_RUNTIME_DIR=str(runtime)) == str(tmp_path / "own")
    assert found(XDG_RUNTIME_DIR=str(runtime), TMPDIR=str(temp)) == str(runtime / "bursar")
    assert found(BURSAR_DIR="", XDG_RUNTIME_DIR="", TMPDIR=str(temp)) == str(temp / f"bursar-{uid}")
    assert found(TMPDIR=None) == f"/tmp/bursar-{uid}"
    # A runtime directory that is not there is passed over, as under su.
    assert found(XDG_RUNTIME_DIR=str(tmp_path / "gone"), TMPDIR=str(temp)) == str(temp / f"bursar-{uid}")
    assert found(BURSAR_DIR="own///") == str(tmp_path / "own")
    assert not (tmp_path / "own").exists(), "listing makes nothing"


def test_a_directory_that_is_a_link(complains: Complains, bursar: Run, ledgers: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    ledgers.symlink_to("elsewhere")
    expected = f"bursar: the ledger directory {ledgers} is a link or no directory: remove it, or name another one with "
    for words in (["run", "-c", "pass"], ["ls"], ["clean"]):
        assert complains(1, *words).startswith(expected)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert bursar("run", "-o", "x.bursar", "-c", "pass").returncode == 0, "with -o nobody needs it"


def test_a_directory_that_is_a_file(complains: Complains, ledgers: Path) -> None:
    ledgers.touch()
    assert "is a link or no directory" in complains(1, "run", "-c", "pass")


def test_a_directory_that_others_may_write(complains: Complains, ledgers: Path) -> None:
    ledgers.mkdir()
    for mode in (0o770, 0o777, 0o1777):
        ledgers.chmod(mode)
        assert "is open for others to write" in complains(1, "run", "-c", "pass")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_a_directory_of_another_user(complains: Complains, ledgers: Path) -> None:
    ledgers.mkdir(mode=0o700)
    os.chown(ledgers, 65534, 65534)
    for words in (["run", "-c", "pass"], ["ls"], ["clean"]):
        assert "belongs to another user" in complains(1, *words)


@pytest.mark.skipif(os.geteuid() == 0, reason="all of root's folders are root's")
def test_a_directory_of_root(complains: Complains) -> None:
    for words in (["run", "-c", "pass"], ["ls"], ["clean"]):
        assert "belongs to another user" in complains(1, *words, env={"BURSAR_DIR": "/usr"})


def test_a_directory_that_cannot_be_made(complains: Complains, tmp_path: Path) -> None:
    line = complains(1, "run", "-c", "pass", env={"BURSAR_DIR": str(tmp_path / "no" / "such")})
    assert "cannot use the ledger directory" in line
    assert "No such file or directory" in line


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["train model.py"], "train_model"),
        (["-m", "this"], "this"),
        (["-c", "pass"], "code"),
        (["folder/"], "folder"),
        (["--", "./tool"], "tool"),
        (["x" * 200 + ".py"], "x" * 64),
        (["\x1b[31m.py"], "__31m"),
        ([".hidden.py"], "_hidden"),
    ],
)
def test_names_hold_the_program_and_no_arguments(
    bursar: Run, ledgers: Path, listed: Listed, tmp_path: Path, words: list[str], name: str
) -> None:
    if words == ["folder/"]:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "__main__.py").touch()
    elif words[0].endswith(".py"):
        (tmp_path / words[0]).touch()
    elif words[0] == "--":
        (tmp_path / "tool").write_text("#!/bin/sh\n:\n")
        (tmp_path / "tool").chmod(0o755)
    done = bursar("run", *words, "secret-argument")
    assert done.returncode == 0, done.stderr
    (ledger,) = ledgers.iterdir()
    assert ledger.name == f"{name}-{listed()[0]['pid']}.bursar"
    assert b"secret-argument" not in ledger.read_bytes()


def test_states(bursar: Run, under_way: UnderWay, listed: Listed) -> None:
    running = under_way()
    killed = under_way()
    killed.kill()
    assert finish(killed) == -signal.SIGKILL
    ended = under_way()
    assert finish(ended) == 0
    unused = bursar("run", "--", "sh", "-c", ":")
    assert unused.returncode == 0
    found = {entry["pid"]: entry for entry in listed()}
    assert found[running.pid]["state"] == "running"
    assert found[killed.pid]["state"] == "killed"
    assert found[ended.pid]["state"] == "ended"
    assert sorted(entry["state"] for entry in found.values()) == ["ended", "killed", "running", "unused"]
    for pid in (running.pid, ended.pid):
        entry = found[pid]
        assert 4_000_000 < entry["peak_bytes"] < 5_000_000
        assert entry["size_bytes"] >= 65536
        assert entry["python"].startswith("3.")
        assert Path(entry["path"]).exists()
    starts = [entry["started_s"] for entry in listed()]
    assert starts == sorted(starts)

    text = bursar("ls").stdout.splitlines()
    assert len(text) == 5
    assert text[0].split() == ["PID", "STATE", "PEAK", "SIZE", "PYTHON", "STARTED", "LEDGER"]
    assert [line.split()[1] for line in text[1:]] == [entry["state"] for entry in listed()]

    # An ended process is found by its pid, a running one too.
    for pid in (running.pid, ended.pid):
        done = bursar("report", str(pid), "--format", "json")
        assert done.returncode == 0, done.stderr
    assert finish(running) == 0


def test_clean_takes_the_ended_alone(bursar: Run, under_way: UnderWay, ledgers: Path) -> None:
    running = under_way()
    assert finish(under_way()) == 0
    (ledgers / "notes.txt").write_text("mine")
    (ledgers / "fake.bursar").write_text("mine too")
    (ledgers / "link.bursar").symlink_to(next(ledgers.glob("code-*")))
    (ledgers / "folder.bursar").mkdir()
    before = sorted(ledgers.iterdir())

    dry = bursar("clean", "--dry-run")
    assert dry.returncode == 0
    assert sorted(ledgers.iterdir()) == before
    assert dry.stdout.count("would remove ") == 1

    done = bursar("clean", "--format", "json")
    (removed,) = json.loads(done.stdout)["ledgers"]
    assert removed["state"] == "ended"
    assert sorted(ledgers.iterdir()) == sorted(set(before) - {Path(removed["path"])})
    assert bursar("clean").stdout == "0 ledgers, 0 B\n"
    assert finish(running) == 0


def test_clean_and_ls_of_nothing(bursar: Run, ledgers: Path) -> None:
    for words in (["ls"], ["clean"]):
        done = bursar(*words)
        assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(bursar("ls", "--format", "json").stdout)["ledgers"] == []
    assert not ledgers.exists()


def test_only_the_last_twenty_are_kept(
    bursar: Run, under_way: UnderWay, ledgers: Path, listed: Listed
) -> None:
    running = under_way()
    assert bursar("run", "-c", "pass").returncode == 0
    (sample,) = (path for path in ledgers.iterdir() if str(running.pid) not in path.name)
    header = bytearray(sample.read_bytes())
    begun = int.from_bytes(header[72:80], "little")  # started_unix_ns: see layout.h
    for age in range(1, KEEP + 5):
        header[72:80] = (begun - age).to_bytes(8, "little")
        (ledgers / f"old-{age}.bursar").write_bytes(header)
    assert bursar("run", "-c", "pass").returncode == 0
    found = listed()
    assert len(found) == 1 + KEEP + 1, "the running one, twenty of ended ones, and the new one"
    assert running.pid in [entry["pid"] for entry in found]
    kept = {path.name for path in ledgers.glob("old-*")}
    assert kept == {f"old-{age}.bursar" for age in range(1, KEEP)}, "the oldest go"
    assert finish(running) == 0


def test_at_most_512_mib_are_kept(bursar: Run, ledgers: Path) -> None:
    assert bursar("run", "-c", "pass").returncode == 0
    (sample,) = ledgers.iterdir()
    if shutil.disk_usage(ledgers).free < 2 << 30:
        pytest.skip("not enough room on the disk")
    header = bytearray(sample.read_bytes())
    begun = int.from_bytes(header[72:80], "little")
    for age in range(1, 4):
        header[72:80] = (begun - age).to_bytes(8, "little")
        path = ledgers / f"old-{age}.bursar"
        path.write_bytes(header)
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, 200 << 20)
    assert bursar("run", "-c", "pass").returncode == 0
    assert {path.name for path in ledgers.glob("old-*")} == {"old-1.bursar", "old-2.bursar"}


def test_a_name_that_is_taken(execute: Run, command: str, ledgers: Path) -> None:
    """By a program that had the same pid: a shell takes the names of its own pid, and becomes bursar."""
    ledgers.mkdir(mode=0o700)
    taken = 'for n in "" .1 .2; do printf x > "$BURSAR_DIR/code-$$$n.bursar"; done; exec "$1" run -c pass'
    done = execute("sh", "-c", taken, "sh", command)
    assert done.returncode == 0, done.stderr
    assert sorted(path.read_bytes() == b"x" for path in ledgers.iterdir()) == [False, True, True, True]
    assert len(list(ledgers.glob("code-*.3.bursar"))) == 1
