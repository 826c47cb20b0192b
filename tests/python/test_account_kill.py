"""SIGKILL at random moments: every ledger opens, its totals agree with its sums by site, and both agree with a count
that the victim kept in shared memory.

`make test` kills 60 times in each way, `make check` a thousand times. Seeds are in the names of failures."""

import ctypes
import errno
import json
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from books import Capped, capped
from running import LIMIT, Run

__all__ = ["capped"]
ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = 4096
PAGES = 16
COUNT = ("allocs", "alloc_bytes", "frees", "free_bytes")
LARGEST = 1 << 20  # no step of the victim is larger

VICTIM = """\
import ctypes, sys
victim = ctypes.CDLL(sys.argv[1])
run = victim.victim_run
run.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_int]
sys.exit(run(sys.argv[2].encode(), sys.argv[3].encode(), int(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6])))
"""

# The whole time makes stacks that were not there before; with a small ledger they are folded again and again.
FOLDING = """\
import sys
one, kept, i = b'x', [None] * 1000, 0
text = 'def f(n, i):\\n    if not n: return one * 100\\n' + ''.join(
    f'    if i % 40 == {k}: return f(n - 1, i // 40)\\n' for k in range(40))
exec(text)
while True:
    kept[i % 1000] = f(4, i * 7919)
    i += 1
"""


@pytest.fixture(scope="session")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler to build the victim with: install gcc")
    out = tmp_path_factory.mktemp("victim") / "victim.so"
    subprocess.run(
        [*compiler.split(), "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-I", ROOT / "src",
         "-o", out, ROOT / "tests/crash/victim.c"], check=True,
    )  # fmt: skip
    return out


def counts(file: "mmap.mmap") -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """What was there before, and what all threads have begun and done."""
    begun, done = dict.fromkeys(COUNT, 0), dict.fromkeys(COUNT, 0)
    for page in range(PAGES):
        words = struct.unpack_from("<8Q", file, page * PAGE)
        for number, name in enumerate(COUNT):
            begun[name] += words[number]
            done[name] += words[4 + number]
    return dict(zip(COUNT, struct.unpack_from("<4Q", file, 64), strict=True)), begun, done


def wait_until(deadline: float) -> None:
    """To the microsecond, as far as the machine lets us: no sleep is that exact."""
    left = deadline - time.perf_counter()
    if left > 0.002:
        time.sleep(left - 0.001)
    while time.perf_counter() < deadline:
        pass


def read(bursar: Run, ledger: Path) -> dict[str, Any]:
    done = bursar("report", ledger, "--format", "json")
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    assert facts["complete"] is False
    return facts


def check_sums(facts: dict[str, Any], outside: int) -> None:
    """Under the GIL totals and sums are the same; of each thread outside it one event may be half booked."""
    for name, largest in ("live_bytes", LARGEST), ("allocated_bytes", LARGEST), ("allocations", 1):
        difference = abs(facts[name] - sum(site[name] for site in facts["sites"]))
        assert difference <= outside * largest, (name, difference, facts["notes"])


def check_killed(facts: dict[str, Any], count: "mmap.mmap", outside: int) -> int:
    """Sums, and the victim's own count. Returns how many allocations it made."""
    before, begun, done = counts(count)
    check_sums(facts, outside)
    for name, fact in ("allocs", "allocations"), ("frees", "frees"), ("alloc_bytes", "allocated_bytes"):
        made = facts[fact] - before[name]
        assert done[name] <= made <= begun[name], (name, done[name], made, begun[name], facts["notes"])
    live = facts["live_bytes"] - (before["alloc_bytes"] - before["free_bytes"])
    assert done["alloc_bytes"] - begun["free_bytes"] <= live <= begun["alloc_bytes"] - done["free_bytes"]
    assert facts["peak_bytes"] + facts["peak_error_bytes"] >= facts["live_bytes"]
    return done["allocs"]


# Arguments: the seed, threads without and with the GIL beside the program's own.
StartVictim = Callable[[int, int, int], "tuple[subprocess.Popen[bytes], Path, mmap.mmap]"]


@pytest.fixture
def start_victim(
    command: str, environment: dict[str, str], tmp_path: Path, victim: Path
) -> Iterator[StartVictim]:
    """Starts a victim and returns once it is at work: the process, its ledger, its count."""
    ledger, shared, program = tmp_path / "victim.bursar", tmp_path / "counts", tmp_path / "victim.py"
    program.write_text(VICTIM)
    with ExitStack() as stack:

        def start(seed: int, without: int, with_gil: int) -> "tuple[subprocess.Popen[bytes], Path, mmap.mmap]":
            stack.close()
            shared.write_bytes(bytes(PAGE * PAGES))
            ledger.unlink(missing_ok=True)
            words = [victim, shared, ledger, seed, without, with_gil]
            process = stack.enter_context(subprocess.Popen(
                [command, "run", "-o", ledger, program, *map(str, words)], env=environment, cwd=tmp_path,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            ))  # fmt: skip
            stack.callback(process.kill)
            file = stack.enter_context(shared.open("r+b"))
            count = stack.enter_context(mmap.mmap(file.fileno(), 0))
            limit = time.perf_counter() + LIMIT
            while not struct.unpack_from("<Q", count, 96)[0]:
                assert process.poll() is None and time.perf_counter() < limit, process.communicate()[0]
                time.sleep(0.001)
            return process, ledger, count

        yield start


Kill = Callable[[int, int, int], int]


@pytest.fixture
def kill(bursar: Run, start_victim: StartVictim) -> Kill:
    """Kills one victim and compares. Returns how many allocations it made."""

    def one(seed: int, without: int, with_gil: int) -> int:
        process, ledger, count = start_victim(seed, without, with_gil)
        wait_until(time.perf_counter() + random.Random(seed).random() ** 2 * 0.04)
        process.send_signal(signal.SIGKILL)
        assert process.wait(LIMIT) == -signal.SIGKILL
        return check_killed(read(bursar, ledger), count, without)

    return one


# threads without the GIL, threads that pass it on (beside the program's own)
WAYS = [(0, 0), (0, 2), (3, 0), (2, 2)]
TIMES = [
    pytest.param(60, id="60"), pytest.param(1000, id="1000", marks=pytest.mark.check),
    pytest.param(10_000, id="10000", marks=pytest.mark.soak),
]  # fmt: skip


def first_seed() -> int:
    return int(os.environ.get("BURSAR_SEED", random.SystemRandom().randrange(1 << 40)))


@pytest.mark.parametrize(("without", "with_gil"), WAYS, ids=["one", "turns", "outside", "both"])
@pytest.mark.parametrize("times", TIMES)
def test_killed_at_a_random_moment(kill: Kill, times: int, without: int, with_gil: int) -> None:
    first, made = first_seed(), 0
    for number in range(times // len(WAYS)):
        try:
            made += kill(first + number, without, with_gil)
        except AssertionError as error:
            raise AssertionError(f"BURSAR_SEED={first + number}: {error}") from error
    assert made > times * 100  # they were killed at work


PTRACE_ATTACH, PTRACE_SINGLESTEP = 16, 9


def ptrace(request: int, pid: int) -> None:
    """Asks, and waits for the process to stop."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(request, pid, None, None) != 0:
        error = ctypes.get_errno()
        if request == PTRACE_ATTACH and error == errno.EPERM:
            pytest.skip("this system lets no process trace its child (ptrace: EPERM)")
        raise OSError(error, os.strerror(error))
    _, status = os.waitpid(pid, 0)
    assert os.WIFSTOPPED(status), status


@pytest.mark.parametrize("events", [pytest.param(15), pytest.param(300, marks=pytest.mark.check)])
def test_killed_after_each_single_instruction(
    bursar: Run, start_victim: StartVictim, tmp_path: Path, events: int
) -> None:
    """One instruction at a time: what the ledger says then is what it would say if the program were killed there."""
    copy, seed = tmp_path / "copy.bursar", first_seed()
    process, ledger, count = start_victim(seed, 0, 0)
    seen: set[int] = set()
    last: tuple[bytes, bytes] = b"", b""
    ptrace(PTRACE_ATTACH, process.pid)
    try:
        for step in range(events * 20_000):
            if len(seen) > events:
                break
            now = ledger.read_bytes(), count[:]
            if now != last:  # most instructions write to neither
                last = now
                copy.unlink(missing_ok=True)
                copy.write_bytes(now[0])
                try:
                    seen.add(check_killed(read(bursar, copy), count, 0))
                except AssertionError as error:
                    raise AssertionError(f"BURSAR_SEED={seed}, step {step}: {error}") from error
            ptrace(PTRACE_SINGLESTEP, process.pid)
    finally:
        process.kill()
    assert len(seen) > events


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(12, id="12"), pytest.param(250, id="250", marks=pytest.mark.check),
        pytest.param(2500, id="2500", marks=pytest.mark.soak),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["folding", "start"])
def test_killed_in_start_up_or_while_stacks_are_folded(
    bursar: Run, capped: Capped, tmp_path: Path, times: int, name: str
) -> None:
    """No count to compare with: the totals are those of the sites, but where it was killed in the middle of folding.
    A ledger that was not begun says so."""
    first, ledger, opened, folded = first_seed(), tmp_path / "program.bursar", 0, 0
    text = FOLDING if name == "folding" else "import json\nwhile True: json.loads(json.dumps([1, 2, {}]))\n"
    for number in range(times):
        seed = first + number
        delay = random.Random(seed).random() * (0.8 if name == "folding" else 0.1)
        ledger.unlink(missing_ok=True)
        with capped(ledger, 1 << 20, text) as process:
            wait_until(time.perf_counter() + delay)
            process.send_signal(signal.SIGKILL)
        done = bursar("report", ledger, "--format", "json")
        if done.returncode:
            assert done.stderr.count("\n") == 1 and done.stderr.startswith("bursar: "), (seed, done.stderr)
            assert delay < 0.3, (seed, done.stderr)
            continue
        opened += 1
        facts = json.loads(done.stdout)
        folded += facts["folded_sites"] > 0
        if not facts["notes"]:
            try:
                check_sums(facts, 0)
            except AssertionError as error:
                raise AssertionError(f"BURSAR_SEED={seed}: {error}") from error
    assert opened > times // 4
    assert folded > times // 8 or name == "start"
