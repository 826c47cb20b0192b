"""Undumpable: no core file, no debugger, no look into the memory by another process of the same user.

Each attack is first shown to work on a program that did not ask for it.  It comes from a user without rights: root may
read everything, so where root runs the tests, program and attacker become somebody else."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import LIMIT, Run

pytestmark = pytest.mark.core

SOMEBODY = 65533
SECRET = b"a secret of forty characters, in memory."
PR_GET_DUMPABLE, PR_SET_DUMPABLE, PTRACE_ATTACH, PTRACE_DETACH = 3, 4, 16, 17
libc = ctypes.CDLL(None, use_errno=True)

# A process that gave up root is undumpable by that alone; a program that this user started is not.
PROGRAM = f"""
import ctypes, os, sys
from bursar import no_core
if os.getuid() == 0:
    os.setgroups([]); os.setresgid(*[{SOMEBODY}] * 3); os.setresuid(*[{SOMEBODY}] * 3)
    ctypes.CDLL(None).prctl({PR_SET_DUMPABLE}, 1)
if "no_core" in sys.argv:
    no_core()
kept = ctypes.create_string_buffer(bytes(c ^ 1 for c in {bytes(c ^ 1 for c in SECRET)!r}))
print(ctypes.addressof(kept), flush=True)
if sys.stdin.readline() == "abort\\n":
    os.abort()
"""

Start = Callable[..., "tuple[subprocess.Popen[str], int]"]


@pytest.fixture
def start(python: str, environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """The program, and where its secret is."""
    started = []

    most = resource.getrlimit(resource.RLIMIT_CORE)[1]

    def run(*arguments: str) -> tuple[subprocess.Popen[str], int]:
        program = subprocess.Popen(
            [python, "-c", PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment, cwd=tmp_path,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (most, most)),
        )  # fmt: skip
        started.append(program)
        assert program.stdout
        return program, int(program.stdout.readline())

    yield run
    for program in started:
        with program:
            program.kill()


def as_somebody(attack: Callable[[], Any]) -> Any:
    """What the attack returns, done by a child without rights."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setresgid(*[SOMEBODY] * 3)
                os.setresuid(*[SOMEBODY] * 3)
            os.write(there, json.dumps(attack()).encode())
        finally:
            os._exit(0)
    os.close(there)
    with open(here) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer)


def read_memory(pid: int, address: int) -> str:
    try:
        with open(f"/proc/{pid}/mem", "rb", 0) as memory:
            memory.seek(address)
            return memory.read(len(SECRET)).decode()
    except OSError as error:
        return type(error).__name__


def read_vm(pid: int, address: int) -> str:
    class Part(ctypes.Structure):
        _fields_ = [("at", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]

    into = ctypes.create_string_buffer(len(SECRET))
    here, there = Part(ctypes.addressof(into), len(SECRET)), Part(address, len(SECRET))
    got = libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    return into.raw.decode() if got == len(SECRET) else os.strerror(ctypes.get_errno())


def attach(pid: int) -> str:
    """By ptrace, as a debugger does."""
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(PTRACE_ATTACH, pid, None, None) != 0:
        return os.strerror(ctypes.get_errno())
    os.waitpid(pid, 0)
    libc.ptrace(PTRACE_DETACH, pid, None, None)
    return "attached"


def test_nobody_else_reads_its_memory(start: Start) -> None:
    open_one, where = start()
    if as_somebody(lambda: attach(open_one.pid)) != "attached":
        pytest.skip("this system refuses ptrace anyway")
    assert as_somebody(lambda: read_memory(open_one.pid, where)) == SECRET.decode()
    assert as_somebody(lambda: read_vm(open_one.pid, where)) == SECRET.decode()
    assert as_somebody(lambda: bool(os.listdir(f"/proc/{open_one.pid}/fd")))

    closed, where = start("no_core")
    assert as_somebody(lambda: attach(closed.pid)) == "Operation not permitted"
    assert as_somebody(lambda: read_memory(closed.pid, where)) == "PermissionError"
    assert as_somebody(lambda: read_vm(closed.pid, where)) == "Operation not permitted"


def test_no_core_file(start: Start, tmp_path: Path) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith(("|", "/")) or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("core files go elsewhere here, or nowhere")
    tmp_path.chmod(0o777)
    program, _ = start()
    program.communicate("abort\n", timeout=LIMIT)
    cores = [path for path in tmp_path.iterdir() if path.name.startswith("core")]
    assert program.returncode == -signal.SIGABRT
    assert len(cores) == 1 and SECRET in cores[0].read_bytes()
    cores[0].unlink()
    program, _ = start("no_core")
    program.communicate("abort\n", timeout=LIMIT)
    assert program.returncode == -signal.SIGABRT
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("core")]


TELL = (
    "import ctypes, os, resource, subprocess, sys\n"
    f"def tell(): return [ctypes.CDLL(None).prctl({PR_GET_DUMPABLE}), *resource.getrlimit(resource.RLIMIT_CORE)]\n"
)


def test_what_it_sets_and_who_inherits_it(execute: Run, python: str) -> None:
    done = execute(
        python, "-c", TELL + "import bursar\n"
        "before = tell()[0]; bursar.no_core(); bursar.no_core()\n"
        "print(before, *tell(), flush=True)\n"
        "child = os.fork()\n"
        "if child == 0: print(*tell(), flush=True); os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        f"os.execv(sys.executable, [sys.executable, '-c', {TELL + 'print(*tell())'!r}])\n",
    )  # fmt: skip
    assert done.stdout.splitlines() == ["1 0 0 0", "0 0 0", "1 0 0"], done.stderr


def test_run_sets_it_before_the_program(bursar: Run) -> None:
    assert bursar("run", "-c", TELL + "print(tell()[0])").stdout == "1\n"
    done = bursar("run", "--no-core", "-c", TELL + "print(*tell())")
    assert done.stdout == "0 0 0\n", done.stderr
    assert "peak" in done.stderr


@pytest.mark.parametrize("follow", [False, True])
def test_executed_pythons_are_undumpable_where_they_are_followed(bursar: Run, follow: bool) -> None:
    child = TELL + "print(*tell())"
    options = ["--follow-fork"] if follow else []
    done = bursar(
        "run", "--no-core", *options, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    )
    assert done.stdout == ("0 0 0\n" if follow else "1 0 0\n"), done.stderr


def test_a_program_without_python(bursar: Run, tmp_path: Path) -> None:
    compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no compiler to build the program with: install gcc")
    source, program = tmp_path / "tell.c", tmp_path / "tell"
    source.write_text(
        "#include <stdio.h>\n#include <sys/prctl.h>\n#include <sys/resource.h>\n"
        "int main(void) {\n"
        "  struct rlimit limit;\n"
        "  getrlimit(RLIMIT_CORE, &limit);\n"
        '  printf("%d %d %d\\n", prctl(PR_GET_DUMPABLE), (int)limit.rlim_cur, (int)limit.rlim_max);\n'
        "}\n"
    )
    subprocess.run([compiler, "-o", program, source], check=True)
    assert bursar("run", "--", program).stdout.startswith("1 ")
    assert bursar("run", "--no-core", "--", program).stdout == "0 0 0\n"


def test_what_cannot_be_kept_is_refused(
    bursar: Run, complains: Callable[..., str], tmp_path: Path, python: str, ledger: Path
) -> None:
    """Before the program starts: it would run unprotected."""
    assert "option -S leaves out" in complains(2, "run", "--no-core", "--", python, "-S", "-c", "print('ran')")
    script = tmp_path / "script.sh"
    script.write_text(f"#!/bin/sh\nexec {python} -c 'print(1)'\n")
    script.chmod(0o755)
    assert "--no-core cannot be kept" in complains(1, "run", "--no-core", "--", script)
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))}
    done = bursar("run", "-o", ledger, "-c", "print('ran')", **limit)
    assert done.stdout == "ran\n", done  # without a ledger, but it runs
    ledger.unlink(missing_ok=True)
    assert "ran" not in bursar("run", "--no-core", "-o", ledger, "-c", "print('ran')", **limit).stdout


def test_reports_of_it(bursar: Run, command: str, environment: dict[str, str], tmp_path: Path) -> None:
    """Its ledger is a file of the user's: that can be read, by number too."""
    program = subprocess.Popen(
        [command, "run", "--no-core", "-c", "kept = bytes(4_000_000); print('here', flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        cwd=tmp_path,
    )  # fmt: skip
    with program:
        assert program.stdout and program.stdout.readline() == "here\n"
        done = bursar("report", str(program.pid), "--format", "json")
        assert done.returncode == 0 and json.loads(done.stdout)["live_bytes"] >= 4_000_000, done.stderr
        program.communicate("\n", timeout=LIMIT)


def test_a_balance_from_within(execute: Run, python: str) -> None:
    """Without root's rights its page map is not to be had; it explains itself all the same."""
    done = execute(
        python, "-c",
        "import os\n"
        "import bursar\n"
        "bursar.start('exact', output=os.path.abspath('it.bursar'))\n"
        "kept = [bytes(1000) for _ in range(3000)]\n"
        "bursar.no_core, bursar.balance()\n"  # loaded, and on the books: a ledger of root's grows for root alone
        f"if os.getuid() == 0: os.setgroups([]); os.setresgid(*[{SOMEBODY}] * 3); os.setresuid(*[{SOMEBODY}] * 3)\n"
        "bursar.no_core()\n"
        "balance = bursar.balance()\n"
        "line = next(line for line in balance.lines if line.name == 'python.obj')\n"
        "print(line.bytes >= 3_000_000, line.live_bytes >= 3_000_000, *balance.notes)\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True True\n"
