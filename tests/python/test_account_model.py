"""The exact account against a slow model: sequences of allocations, reallocs and frees by several threads, with the GIL
and without it. Every total after every operation is the model's, to the byte.

A C driver makes the allocations, so that none of Python's own is in between."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import LIMIT, Facts

pytestmark = pytest.mark.core

HERE = Path(__file__).parent
DOMAINS = OBJ, MEM, RAW = 0, 1, 2
MALLOC, CALLOC, REALLOC, FREE = range(4)
SLOTS = 64
TOO_MUCH = 1 << 62

DRIVER = """\
import ctypes, json, sys
from bursar import _bursar

class Op(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in 'thread domain kind slot with_gil reserved'.split()]
    _fields_ += [('size', ctypes.c_uint64)]

class Figures(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ('live', 'peak', 'free_high')]
    _fields_ += [(name, ctypes.c_uint64 * 3) for name in ('allocs', 'alloc_bytes', 'frees', 'free_bytes')]

    def facts(self):
        return {name: list(value) if hasattr(value, '__len__') else value
                for name, _ in self._fields_ for value in [getattr(self, name)]}

driver = ctypes.CDLL(sys.argv[1])
driver.driver_storm.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p]
assert driver.driver_open() == 0
for line in sys.stdin:
    task = json.loads(line)
    ledger = _bursar.create(task['ledger'], True)
    _bursar.start(ledger)
    assert driver.driver_books(ledger.encode()) == 0
    if 'ops' in task:
        ops = (Op * len(task['ops']))(*map(tuple, task['ops']))
        out = (Figures * (len(ops) + 1))()
        driver.driver_run(ops, len(ops), out)
        own = Figures()
    else:
        out, own = (Figures * 2)(), Figures()
        driver.driver_storm(task['seed'], task['count'], out, ctypes.byref(own))
    _bursar.stop()
    print(json.dumps([[figures.facts() for figures in out], own.facts()]), flush=True)
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler to build the driver with: install gcc")
    out = tmp_path_factory.mktemp("driver") / "account_driver.so"
    subprocess.run(
        [*compiler.split(), "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread",
         "-I", HERE.parent.parent / "src", "-o", out, HERE / "account_driver.c"], check=True,
    )  # fmt: skip
    return out


# The figures, what the threads counted themselves, and the ledger.
Ask = Callable[[dict[str, Any]], "tuple[list[dict[str, Any]], dict[str, Any], Path]"]


@pytest.fixture
def ask(library: Path, python: str, environment: dict[str, str], tmp_path: Path, allocator: str) -> Iterator[Ask]:
    """Gives the driver a task, and returns the figures."""
    program = tmp_path / "driver.py"
    program.write_text(DRIVER)
    extra = {} if allocator == "default" else {"PYTHONMALLOC": allocator}
    with subprocess.Popen(
        [python, program, library], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment | extra, cwd=tmp_path,
    ) as process:  # fmt: skip
        assert process.stdin and process.stderr
        tasks = 0

        def put(task: dict[str, Any]) -> "tuple[list[dict[str, Any]], dict[str, Any], Path]":
            nonlocal tasks
            assert process.stdin and process.stdout and process.stderr
            # A ledger that was stopped stays mapped until the next start: each task has a new one.
            (tmp_path / f"driver{tasks - 1}.bursar").unlink(missing_ok=True)
            ledger = tmp_path / f"driver{tasks}.bursar"
            tasks += 1
            print(json.dumps(task | {"ledger": str(ledger)}), file=process.stdin, flush=True)
            line = process.stdout.readline()
            assert line, process.stderr.read()
            figures, own = json.loads(line)
            return figures, own, ledger

        yield put
        process.stdin.close()
        assert process.wait(LIMIT) == 0, process.stderr.read()


class Step(NamedTuple):
    """What somebody wants; whether it is an allocation, a resize or a free is up to what the slot holds then."""

    thread: int
    slot: int
    domain: int
    with_gil: bool
    kind: int
    size: int


SIZES = st.one_of(
    st.sampled_from([0, 1, 15, 16, 17, 31, 32, 33, 479, 480, 481, 511, 512, 513, 4096, 65519, 65535, 65536, 65537]),
    st.integers(0, 600),
    st.integers(0, 100_000),
    st.integers(1 << 20, 1 << 24),
)
STEPS = st.lists(
    st.builds(
        Step,
        thread=st.integers(0, 3), slot=st.integers(0, 11), domain=st.sampled_from(DOMAINS), with_gil=st.booleans(),
        kind=st.sampled_from([MALLOC, CALLOC, REALLOC, FREE, FREE]), size=SIZES | st.just(TOO_MUCH),
    ),
    max_size=80,
)  # fmt: skip


class Model:
    """What the totals are; slow and plain."""

    def __init__(self, before: dict[str, Any]) -> None:
        self.figures = before
        self.held: dict[int, tuple[int, int]] = {}  # slot: domain, size
        self.greatest = before["peak"]

    def allocated(self, domain: int, size: int) -> None:
        self.figures["allocs"][domain] += 1
        self.figures["alloc_bytes"][domain] += size
        self.figures["live"] += size

    def freed(self, domain: int, size: int) -> None:
        self.figures["frees"][domain] += 1
        self.figures["free_bytes"][domain] += size
        self.figures["live"] -= size

    def take(self, step: Step) -> list[int]:
        """Does the step, and returns it as the operation that it came to."""
        kind, domain, old = step.kind, step.domain, self.held.get(step.slot)
        if old:
            kind, domain = (REALLOC if kind == REALLOC else FREE), old[0]
        elif kind == FREE:
            kind = MALLOC
        with_gil = step.with_gil or domain != RAW
        if kind == FREE or step.size != TOO_MUCH:
            if old:
                self.freed(*old)
                del self.held[step.slot]
            if kind != FREE:
                self.held[step.slot] = domain, step.size
                self.allocated(domain, step.size)
        self.greatest = max(self.greatest, self.figures["live"])
        return [step.thread, domain, kind, step.slot, with_gil, 0, step.size]


def check(ask: Ask, steps: list[Step], facts: Facts) -> None:
    planned = Model({"live": 0, "peak": 0, "allocs": [0] * 3, "frees": [0] * 3, "alloc_bytes": [0] * 3,
                     "free_bytes": [0] * 3})  # fmt: skip
    ops = [planned.take(step) for step in steps]
    # Whatever is left is freed at the end, by the first thread.
    ops += [[0, domain, FREE, slot, True, 0, 0] for slot, (domain, _) in planned.held.items()]
    seen, _, ledger = ask({"ops": ops})
    model = Model(seen[0])
    outside = False
    for number, (op, figures) in enumerate(zip(ops, seen[1:], strict=True)):
        thread, domain, kind, slot, with_gil, _, size = op
        model.take(Step(thread, slot, domain, with_gil, kind, size))
        for name in "live", "allocs", "frees", "alloc_bytes", "free_bytes":
            assert figures[name] == model.figures[name], (number, op, name)
        outside = outside or not with_gil
        if not outside:
            assert figures["peak"] == model.greatest, (number, op)
        # What is seen outside the GIL is noted apart; together they miss nothing.
        assert max(figures["peak"], figures["free_high"]) == model.greatest, (number, op)
    read = facts(ledger)
    assert not read["notes"]
    for name in "live_bytes", "allocations", "allocated_bytes":
        assert read[name] == sum(site[name] for site in read["sites"]), name
    at_peak = sum(site["peak_bytes"] for site in read["sites"])
    assert abs(read["peak_bytes"] - at_peak) <= read["peak_error_bytes"], (read["peak_bytes"], at_peak)


@pytest.mark.parametrize("allocator", ["default", "malloc", "pymalloc_debug"])
def test_every_total_is_the_models(ask: Ask, facts: Facts) -> None:
    @settings(
        max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True
    )  # fmt: skip
    @given(STEPS)
    def run(steps: list[Step]) -> None:
        check(ask, steps, facts)

    run()


@pytest.mark.parametrize("allocator", ["default"])
@pytest.mark.parametrize("size", [2**32 - 2, 2**32 - 1, 2**32, 2**33 + 5])
def test_sizes_that_do_not_fit_32_bits(ask: Ask, facts: Facts, size: int) -> None:
    steps = [
        Step(thread, slot, domain, with_gil, CALLOC if kind == MALLOC else kind, size if kind == MALLOC else 100)
        for slot, domain in enumerate(DOMAINS)
        for kind, thread, with_gil in [
            (MALLOC, 0, True), (REALLOC, 1, False), (FREE, 2, False), (MALLOC, 3, False), (FREE, 0, True)
        ]
    ]
    check(ask, steps, facts)


@pytest.mark.parametrize("allocator", ["default", "malloc", "pymalloc_debug"])
def test_a_storm_of_all_threads_at_once(ask: Ask, facts: Facts) -> None:
    """Blocks change hands between threads with and without the GIL: nothing is lost, nothing counted twice."""
    for seed in range(5):
        (before, after), own, ledger = ask({"seed": seed, "count": 50_000})
        for name in "allocs", "frees", "alloc_bytes", "free_bytes":
            # Blocks of an earlier storm end in a later one: its books began after them.
            if "alloc" in name or not seed:
                difference = [late - early for early, late in zip(before[name], after[name], strict=True)]
                assert difference == own[name], (name, seed)
        assert sum(own["allocs"]) > 50_000
        live = sum(after["alloc_bytes"]) - sum(after["free_bytes"])
        assert live == after["live"]
        read = facts(ledger)
        assert read["notes"] == []
        for name in "live_bytes", "allocations", "allocated_bytes":
            assert read[name] == sum(site[name] for site in read["sites"]), name
        assert read["peak_bytes"] + read["peak_error_bytes"] >= after["live"]
