"""Little address space, a read-only disk, no /proc, other preloads: one clear line, and the program goes on."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from running import Done, Facts, Run

pytestmark = pytest.mark.core

CODE = "import sys; kept = [bytes(100_000) for _ in range(50)]; print('result'); sys.exit(5)"
MODES = ["exact", "sample", "count"]


def assert_unharmed(done: Done, *lines: str) -> None:
    """The program's own result and status, and these lines alone of bursar's."""
    assert (done.returncode, done.stdout) == (5, "result\n"), done
    told = [line for line in done.stderr.splitlines() if line.startswith("bursar: ")]
    assert done.stderr.count("\n") == len(told) == len(lines), done.stderr
    for line, expected in zip(told, lines, strict=True):
        assert expected in line


# ---- address space ----

LIMITED = ("sh", "-c", 'ulimit -v "$0"; exec "$@"')


@pytest.fixture(scope="module")
def needs(python: str) -> int:
    """KiB of address space that the program itself takes, with both of bursar's libraries in it."""
    text = (
        "import ctypes, glob, os; from bursar import _bursar\n"
        "for path in glob.glob(os.path.dirname(_bursar.__file__) + '/preload/*_preload.so'): ctypes.CDLL(path)\n"
        "print(int(open('/proc/self/statm').read().split()[0]) * 4 + 8_000)"
    )
    return int(subprocess.run([python, "-c", text], capture_output=True, check=True, text=True).stdout)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("more", [2_000, 80_000])
def test_too_little_address_space(
    execute: Run, command: str, python: str, ledger: Path, needs: int, mode: str, more: int
) -> None:
    """For the table of live blocks, or for the ledger."""
    expected = "bursar: no books are kept: no address space for "
    limit = str(needs + more)
    run = (command, "run", "-f", "-o", ledger, "--mode", mode, "--domains", "all", "-c", CODE)
    assert_unharmed(execute(*LIMITED, limit, *run), expected)
    assert_unharmed(execute(*LIMITED, limit, python, "-c", CODE, env={"BURSAR": mode}), expected)


@pytest.mark.parametrize("mode", MODES)
def test_a_program_that_limits_itself(execute: Run, command: str, ledger: Path, facts: Facts, mode: str) -> None:
    """What the books cannot get any more they do without."""
    text = (
        "import resource, sys\n"
        "there = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (there + (30 << 20),) * 2)\n"
        "kept = []\n"
        "try:\n"
        "    while True: kept.append([bytes(100 + len(kept) % 300) for _ in range(1000)])\n"
        "except MemoryError:\n"
        "    del kept[len(kept) // 2:]\n"
        "print('result'); sys.exit(5)\n"
    )
    done = execute(command, "run", "-f", "-o", ledger, "--mode", mode, "--domains", "all", "--native", "-c", text)
    assert (done.returncode, done.stdout) == (5, "result\n"), done
    assert facts(ledger)["complete"] and facts(ledger)["allocated_bytes"] > 4_000_000


# ---- file systems ----


@pytest.fixture
def mounted(execute: Run) -> Run:
    """The same after a shell's commands, in a mount namespace that nobody else sees."""
    if execute("unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt").returncode != 0:
        pytest.skip("may not mount here")

    def run(first: "str | Path", *arguments: "str | Path", **more: object) -> Done:
        return execute("unshare", "-m", "sh", "-c", f'{first} && exec "$@"', "sh", *arguments, **more)

    return run


@pytest.mark.parametrize("mode", MODES)
def test_a_read_only_place(mounted: Run, command: str, python: str, mode: str) -> None:
    """Who names a place is told that it is none; else the program runs without books."""
    mount, env = "mount -t tmpfs -o ro none /mnt", {"BURSAR_DIR": "/mnt/ledgers"}
    done = mounted(mount, command, "run", "--mode", mode, "-o", "/mnt/x.bursar", "-c", CODE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "bursar: cannot write the ledger /mnt/x.bursar: Read-only file system\n"
    expected = (
        "bursar: no books are kept: cannot use the ledger directory /mnt/ledgers: Read-only file system: "
        "name another one with BURSAR_DIR"
    )
    assert_unharmed(mounted(mount, command, "run", "--mode", mode, "-c", CODE, env=env), expected)
    assert_unharmed(mounted(mount, python, "-c", CODE, env=env | {"BURSAR": mode}), expected)


NO_PROC = "umount -l /proc"


@pytest.mark.parametrize("mode", MODES)
def test_books_without_proc(mounted: Run, command: str, python: str, ledger: Path, facts: Facts, mode: str) -> None:
    run = (command, "run", "-o", ledger, "--mode", mode, "--domains", "all", "--native", "-c", CODE)
    done = mounted(NO_PROC, *run)
    if mode == "count":  # which has to look for the arenas that were there before it
        line = "mode count must find Python's arenas in /proc/self, which cannot be read: use mode sample"
        assert_unharmed(done, line)
        assert_unharmed(mounted(NO_PROC, python, "-c", CODE, env={"BURSAR": mode}), line)
        return
    assert (done.returncode, done.stdout) == (5, "result\n")
    assert done.stderr.startswith("bursar: peak ")
    assert facts(ledger)["complete"] and facts(ledger)["allocated_bytes"] > 5_000_000
    assert_unharmed(mounted(NO_PROC, python, "-c", CODE, env={"BURSAR": mode}))


def test_a_running_program_without_proc(mounted: Run, command: str) -> None:
    """It is not taken for killed, nor its ledger for nobody's."""
    text = (
        "import json, os, subprocess, sys\n"
        "kept = bytes(10_000_000)\n"
        "def ask(*words):\n"
        f"    done = subprocess.run([{command!r}, *words], capture_output=True, text=True)\n"
        "    return [done.returncode, done.stdout, done.stderr]\n"
        "pid = str(os.getpid())\n"
        "told = [ask('clean', '--format', 'json'), ask('report', pid, '--format', 'json'), ask('balance', pid)]\n"
        "import bursar\n"
        "for question in (bursar.memory_usage, bursar.balance):\n"
        "    try: question()\n"
        "    except OSError as error: told.append([type(error).__name__, str(error)])\n"
        "print(json.dumps(told))\n"
    )
    done = mounted(NO_PROC, command, "run", "-c", text)
    assert done.returncode == 0, done.stderr
    clean, report, balance, usage, inside = json.loads(done.stdout)
    assert clean[0] == 0 and json.loads(clean[1])["ledgers"] == []
    facts = json.loads(report[1])
    assert facts["state"] == "running" and facts["live_bytes"] > 10_000_000
    assert any(note.startswith("there is no /proc here: ") for note in facts["notes"])
    assert balance == [1, "", "bursar: balance: there is no /proc here: mount it\n"]
    assert usage == ["OSError", "there is no /proc here: mount it"]
    assert inside[0] in ("OSError", "FileNotFoundError") and "/proc/self/smaps" in inside[1]


# ---- who else is there ----


@pytest.mark.parametrize("mode", MODES)
def test_other_preloads_stay(execute: Run, command: str, ledger: Path, tmp_path: Path, mode: str) -> None:
    """Also behind a blank; and children see them alone."""
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no compiler to build a library with: install gcc")
    (tmp_path / "empty.c").write_text("int nothing;\n")
    for name in ("a.so", "b.so"):
        subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / name, tmp_path / "empty.c"], check=True)
    mine = f"{tmp_path}/a.so {tmp_path}/b.so"
    text = (
        "import os, subprocess, sys\n"
        "print(os.environ['LD_PRELOAD'], flush=True)\n"
        "child = 'echo \"$LD_PRELOAD\"; env | grep BURSAR_RUN; grep -c bursar_preload /proc/$$/maps'\n"
        "subprocess.run(['sh', '-c', child])\n"
        "maps = open('/proc/self/maps').read()\n"
        "print(all(name in maps for name in ('a.so', 'b.so', 'libbursar_preload.so')))\n"
    )
    run = (command, "run", "-o", ledger, "--mode", mode, "--domains", "all", "-c", text)
    done = execute(*run, env={"LD_PRELOAD": mine})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [mine, mine, "0", "True"]
