"""Count the work that the books add to each allocation and free: instructions, system calls, mallocs, under callgrind.

Each case runs N and then 2N events in a loop; the difference between the two runs is N events and nothing of the
interpreter's start. The same difference without bursar is taken off, and what is left is bursar's. Counts, unlike
seconds, come out the same each time, so that a test can pin them: tests/python/test_work.py holds them to BOUNDS.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from pathlib import Path

EVENTS = 20_000

# What happens in one event of each case.
CASES = {
    "pair": "one block allocated and freed, the stack unchanged",
    "deep": "the same below 200 Python frames",
    "keep": "one block allocated and kept",
    "moved": "one block moved by realloc",
    "lines": "two blocks allocated on two lines and freed, the line changes each time",
    "calls": "a Python function called that allocates one block, which its caller frees",
}
# Kept blocks need new pools and arenas, at moments that differ by state: it cannot be compared to the instruction.
INEXACT = frozenset(("keep",))
# How the program stands to bursar.
STATES = {
    "none": "no site-packages at all",
    "off": "installed, never imported",
    "imported": "imported with its extension, never started",
    "exact": "the exact account is on",
    "scoped": "the same inside a scope",
    "native": "the same, with native frames in its stacks",
    "sample": "mode sample is on",
    "count": "mode count is on",
    "sample-scoped": "mode sample inside a scope",
    "count-scoped": "mode count inside a scope",
    "wiping": "no books, all that is freed is wiped",
    "beside": "no books, another thread is in a wiping scope",
    "after": "no books, a block of a wiping scope is left",
}
BOOKS = ("exact", "sample", "count")  # modes
SCOPED = {"scoped": "exact", "sample-scoped": "sample", "count-scoped": "count"}  # states and their modes
BOOKED_STATES = (*BOOKS, *SCOPED, "native")  # where there are books
WIPING = ("wiping", "beside", "after")
# The most that an event may cost while books are kept, in instructions; `off` and `imported` may cost exactly nothing.
# Measured, in mode exact, on 3.10 to 3.13 at most 170, 1576, 129, 256, 389 and 176 (a move costs 249 to 256, by
# where addresses fall); the rest is for another day's compiler. A frame of 3.10 has its position in two places, which
# makes 2149 of `deep`.
DEEP = 2375 if sys.version_info < (3, 11) else 1750
# What a scope adds to each block, at most, by mode; measured on 3.11: 64, 107 and 99 to 103, most where one is moved;
# on 3.12 that is 93 in mode exact.
SCOPED_MORE = {"exact": 95, "sample": 115, "count": 104}
BOUNDS: dict[str, dict[str, float]] = {
    "exact": {"pair": 185, "deep": DEEP, "keep": 140, "moved": 262, "lines": 425, "calls": 195},
    # Most of it is the same whatever the stack: what samples cost, one in two thousand events, is 2 to 8 of these.
    # And 14 are the call of the allocator itself, which an interpreter built with profiles (a distribution's) has
    # inlined where no hook is: there count measures 104, 117 and 204. Elsewhere sample measures 29, 22, 22, 54, 57, 25.
    "sample": {"pair": 56, "deep": 56, "keep": 48, "moved": 82, "lines": 106, "calls": 56},
    "count": {"pair": 108, "deep": 108, "keep": 104, "moved": 122, "lines": 212, "calls": 108},
}

# ... and in the state `native`, where the native stack is as it was; measured on 3.11: 577.
NATIVE_BOUNDS: dict[str, float] = {"pair": 650}

# ... and without books, in the states of wiping; 17 stores are the zeros of a block. Measured on 3.11: 67, 33, 27; on
# 3.14, as Debian builds it, up to 64 beside a scope: there the thread's state is asked by a call.
WIPING_BOUNDS: dict[str, float] = {"wiping": 90, "beside": 74, "after": 50}

# What to do comes on stdin, so that all runs start alike: an argument of another text is another path through dicts.
# Of each size that is allocated in the loops whole pools are held and every second block is freed, so that no pool of
# Python's allocator fills or empties there: that would cost more in one state than in another. What is copied is short,
# because memcpy copies more than 128 bytes by a way that depends on the addresses.
PROGRAM = """
import collections, itertools, operator, os, sys
state, case, count, ledger = os.read(0, 4096).decode().split()
left, right = b"x" * 120, b"y" * 107
held = [(left + right, bytearray(20), bytearray(100)) for _ in range(400)]
del held[::2]

def blocks(count):
    return map(operator.add, itertools.repeat(left, count), itertools.repeat(right, count))

def pair(count):
    collections.deque(blocks(count), maxlen=0)

def deep(count, depth=200):
    if depth:
        deep(count, depth - 1)
    else:
        pair(count)

def keep(count):
    return list(blocks(count))

def moved(count):
    buffer = bytearray(20)
    contents = itertools.cycle((bytearray(100), bytearray(20)))
    step = map(operator.setitem, itertools.repeat(buffer, count), itertools.repeat(slice(None)), contents)
    collections.deque(step, maxlen=0)

def lines(count):
    for _ in itertools.repeat(None, count):
        a = left + right
        a = None
        b = left + right
        b = None

def one():
    return left + right

def calls(count):
    for _ in itertools.repeat(None, count):
        one()

if state == "imported":
    import bursar._bursar
elif state == "wiping":
    import bursar._bursar
    bursar._bursar.wipe()
elif state in ("beside", "after"):
    import _thread, bursar._bursar
    ready, wait = _thread.allocate_lock(), _thread.allocate_lock()
    ready.acquire(), wait.acquire()
    def other():
        with bursar._bursar.Scope("it", wipe=True) as scope:
            if state == "after":
                held.append(bytes(count and 40))
                return ready.release()
            ready.release()
            wait.acquire()
    _thread.start_new_thread(other, ())
    ready.acquire()
elif state not in ("none", "off"):
    import bursar._bursar
    mode = state.partition("-")[0] if state.startswith(("sample", "count")) else "exact"
    bursar._bursar.start(bursar._bursar.create(ledger, False), mode=mode, seed=1, native=state == "native")
    if state.endswith("scoped"):
        scope = bursar._bursar.Scope("it").__enter__()
result = globals()[case](int(count))
booked = state.partition("-")[0] in ("exact", "scoped", "native", "sample", "count")
print(*bursar._bursar.counters()[2:4] if booked else (0, 0), flush=True)
os._exit(0)
"""
# Whose blocks are counted. What pymalloc's free costs depends, by a few instructions, on where in an arena the block
# is, and that differs by state. malloc's does not, so that `off` and `imported` can be held to nothing at all; but its
# realloc looks at the neighbours, which costs one instruction or two by state, up to 40 in newer C libraries: there the
# other cases alone are exact.
ALLOCATORS_OF = {"off": "malloc", "imported": "malloc"} | dict.fromkeys((*BOOKED_STATES, *WIPING), "pymalloc")
OFF_ERROR = {"moved": 3 if tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 40) else 45}
# Two runs of one program differ by an instruction or two in all. What is added to an event, or to one of a thousand, is
# 20 at least.
RUN_ERROR = 10 / EVENTS
# What the books themselves must say of an event, or its cost was not paid for: (allocations, frees).
# A realloc that moves a block is both.
BOOKED = {
    "pair": (1.0, 1.0),
    "deep": (1.0, 1.0),
    "keep": (1.0, 0.0),
    "moved": (1.0, 1.0),
    "lines": (2.0, 2.0),
    "calls": (1.0, 1.0),
}


def booked(state: str, case: str) -> tuple[float, float]:
    allocations, frees = BOOKED[case]
    return allocations, 0.0 if state.startswith("sample") else frees  # mode sample counts none


@dataclass(frozen=True)
class Work:
    """What one event costs: `allocators` are calls into malloc and its kin, `booked_…` what bursar's books hold."""

    instructions: float
    syscalls: float
    allocators: float
    booked_allocations: float = 0
    booked_frees: float = 0

    def __sub__(self, other: Work) -> Work:
        return Work(*(mine - theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def each(self, events: int) -> Work:
        return Work(*(value / events for value in astuple(self)))


ALLOCATORS = frozenset(("malloc", "calloc", "realloc", "free", "mmap", "munmap", "mremap", "brk"))


def count_syscalls(log: Path) -> int:
    """The system calls of the program's first thread. The clock is none outside valgrind: the vdso answers there."""
    pattern = re.compile(rb"SYSCALL\[\d+,1\]\([ \d]*\) (\w+)")
    return sum(found[1] != b"sys_clock_gettime" for found in pattern.finditer(log.read_bytes()))


def read_profile(profile: Path, log: Path) -> Work:
    """Totals of one run: callgrind's 'summary' line, the calls that it lists into ALLOCATORS, valgrind's log."""
    names: dict[str, str] = {}
    callee = ""
    allocators = 0
    events: list[str] = []
    totals: list[str] = []
    with profile.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith(("fn=", "cfn=")):
                key, _, name = line.partition("=")[2].rstrip("\n").partition(" ")
                if name:
                    names[key] = name
                if line.startswith("cfn="):
                    callee = re.sub(r"('\d+|@.*)$", "", names.get(key, ""))
            elif line.startswith("calls=") and callee in ALLOCATORS:
                allocators += int(line[len("calls=") :].split()[0])
            elif line.startswith("events:"):
                events = line.split()[1:]
            elif line.startswith(("totals:", "summary:")):
                totals = line.split()[1:]
    by_event = dict(zip(events, map(int, totals), strict=False))
    return Work(by_event["Ir"], count_syscalls(log), allocators)


def write_program(work: Path, text: str = PROGRAM) -> None:
    """In a folder of its own, which is on its sys.path and which nothing is written to."""
    (work / "program").mkdir()
    (work / "program" / "main.py").write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Count:
    """What one run counts: `events` of a case, in a state, over Python's allocator of that name."""

    state: str
    allocator: str
    case: str
    events: int


def count_once(python: str, count: Count, work: Path) -> Work:
    """One run under callgrind. Raises RuntimeError with what went wrong."""
    stem = f"{count.state}-{count.allocator}-{count.case}-{count.events}"
    profile, log = work / f"{stem}.callgrind", work / f"{stem}.log"
    flags = ["-s", "-S"] if count.state == "none" else ["-s"]  # not -I: it would draw a new seed for hashes each time
    command = [
        "valgrind",
        "--tool=callgrind",
        "--trace-syscalls=yes",
        f"--callgrind-out-file={profile}",
        f"--log-file={log}",
        python,
        *flags,
        str(work / "program" / "main.py"),
    ]
    env = {"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0", "HOME": str(work)}
    env["PYTHONMALLOC"] = count.allocator
    wanted = f"{count.state} {count.case} {count.events:09} {work / stem}.bursar"
    result = subprocess.run(
        command, env=env, cwd=work, input=wanted.encode(), capture_output=True, check=False
    )
    if result.returncode != 0 or not profile.is_file():
        said = result.stderr.strip() or (log.read_bytes() if log.is_file() else b"")
        last = said.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no output"]
        raise RuntimeError(f"{stem}: exit status {result.returncode}: {last[0]}")
    allocations, frees = map(int, result.stdout.split())
    return replace(read_profile(profile, log), booked_allocations=allocations, booked_frees=frees)


def measure(
    python: str = sys.executable,
    cases: Iterable[str] = tuple(CASES),
    states: Iterable[str] = ("off", "imported", *BOOKED_STATES, *WIPING),
    events: int = EVENTS,
) -> dict[str, dict[str, Work]]:
    """What bursar adds to each event, by state and case. Raises RuntimeError where a run fails."""
    if shutil.which("valgrind") is None:
        raise RuntimeError("valgrind is not installed: install the system package 'valgrind'")
    cases, states = list(cases), list(states)
    inexact = ("off", "imported", *WIPING)  # the cases that these cannot be asked to the instruction
    wanted = [(state, case) for state in states for case in cases if state not in inexact or case not in INEXACT]
    pairs = {(state, case): (Count(state, ALLOCATORS_OF[state], case, events),
                             Count("none", ALLOCATORS_OF[state], case, events)) for state, case in wanted}  # fmt: skip
    runs = {one for pair in pairs.values() for count in pair for one in (count, replace(count, events=2 * events))}
    with tempfile.TemporaryDirectory(prefix="bursar-work-") as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        write_program(Path(folder))
        counted = dict(zip(runs, pool.map(lambda run: count_once(python, run, Path(folder)), runs), strict=True))

    def each(count: Count) -> Work:
        return (counted[replace(count, events=2 * events)] - counted[count]).each(events)

    added: dict[str, dict[str, Work]] = {state: {} for state in states}
    for (state, case), (ours, none) in pairs.items():
        added[state][case] = each(ours) - each(none)
    return added


def main() -> int:
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="bench/instructions.py", description=about)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has bursar installed")
    parser.add_argument("--cases", default=",".join(CASES), help="some of " + ", ".join(CASES))
    states = ",".join(("off", "imported", *BOOKED_STATES, *WIPING))
    parser.add_argument("--states", default=states, help="some of " + ", ".join(STATES))
    options = parser.parse_args()
    try:
        added = measure(options.python, options.cases.split(","), options.states.split(","))
    except RuntimeError as error:
        print(f"instructions: {error}", file=sys.stderr)
        return 1
    if options.format == "json":
        facts: dict[str, object] = {"events": EVENTS, "cases": CASES, "states": STATES, "bounds": BOUNDS["exact"]}
        facts["bounds_of_modes"] = BOUNDS
        facts["off_error"] = OFF_ERROR
        for state, by_case in added.items():
            facts[state] = {case: work.instructions for case, work in by_case.items()}
            facts[f"{state}_syscalls"] = {case: work.syscalls for case, work in by_case.items()}
            facts[f"{state}_allocator_calls"] = {case: work.allocators for case, work in by_case.items()}
        print(json.dumps(facts, indent=1))
        return 0
    for state, by_case in added.items():
        print(f"{state} ({STATES[state]}), added to each event:")
        for case, work in by_case.items():
            print(
                f"  {case:<6}{work.instructions:+9.3f} instructions {work.syscalls:+.4f} system calls"
                f" {work.allocators:+.4f} malloc calls, {work.booked_allocations:.4f} + {work.booked_frees:.4f} booked"
                f"   {CASES[case]}"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
