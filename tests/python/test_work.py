"""The hot path's work, counted under callgrind: counts come out the same each time, so that a regression must fail.

The bounds stand in bench/instructions.py, which `make bench` prints from as well.
"""
from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench" / "instructions.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bursar_bench_instructions", BENCH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


instructions = load()
EXACT_CASES = [case for case in instructions.CASES if case not in instructions.INEXACT]


@pytest.fixture(scope="module")
def added():
    """What bursar adds to an event, by state and case. Fails, and says so, where valgrind is missing."""
    return instructions.measure(sys.executable, states=("off", "imported", "exact", "scoped"))


@pytest.fixture(scope="module")
def added_by_mode(added):
    states = [state for state in (*instructions.BOOKS, *instructions.SCOPED) if state not in added]
    return added | instructions.measure(sys.executable, states=states)


# The core of the tests, which runs on each Python, is short: one mode of three.
MODES = [pytest.param(mode, marks=pytest.mark.core if mode == "exact" else ()) for mode in instructions.BOOKS]


@pytest.fixture
def work(request, mode, case):
    return request.getfixturevalue("added" if mode == "exact" else "added_by_mode")[mode][case]


@pytest.mark.core
@pytest.mark.parametrize("case", EXACT_CASES)
@pytest.mark.parametrize("state", ["off", "imported"])
def test_off_adds_not_one_instruction(added, state, case):
    work = added[state][case]
    assert abs(work.instructions) <= instructions.OFF_ERROR.get(case, instructions.RUN_ERROR)
    assert (work.syscalls, work.allocators) == (0, 0)


@pytest.mark.parametrize("case", instructions.CASES)
@pytest.mark.parametrize("mode", MODES)
def test_a_mode_stays_within_its_bound(work, mode, case):
    # A cost is believed only beside the events that it paid for.
    assert (work.booked_allocations, work.booked_frees) == pytest.approx(instructions.booked(mode, case), abs=0.01)
    assert 10 < work.instructions <= instructions.BOUNDS[mode][case]


@pytest.mark.parametrize("case", instructions.CASES)
@pytest.mark.parametrize(
    "state", [pytest.param(state, marks=pytest.mark.core if state == "scoped" else ()) for state in instructions.SCOPED]
)
def test_a_scope_costs_little_more(request, state, case):
    mode = instructions.SCOPED[state]
    measured = request.getfixturevalue("added" if mode == "exact" else "added_by_mode")
    work = measured[state][case]
    assert (work.booked_allocations, work.booked_frees) == pytest.approx(instructions.booked(state, case), abs=0.01)
    most = instructions.BOUNDS[mode][case] + instructions.SCOPED_MORE[mode] * work.booked_allocations
    assert measured[mode][case].instructions + 20 < work.instructions <= most
    assert work.allocators == pytest.approx(0, abs=0.001) and work.syscalls == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize("case", instructions.CASES)
@pytest.mark.parametrize("mode", MODES)
def test_a_mode_makes_no_system_call_and_no_allocation(work, case):
    # Kept blocks fill the table of live blocks: it grows by the page, and is as rare as one event in a thousand.
    rare = 0.001 if case in instructions.INEXACT else 0
    assert abs(work.syscalls) <= rare
    assert abs(work.allocators) <= rare


@pytest.mark.skipif(platform.machine() != "x86_64", reason="native stacks are known on x86-64")
def test_native_stacks_stay_within_their_bound():
    cases = instructions.NATIVE_BOUNDS
    for case, work in instructions.measure(sys.executable, cases, ["native"])["native"].items():
        paid = (work.booked_allocations, work.booked_frees)
        assert paid == pytest.approx(instructions.booked("native", case), abs=0.01)
        # More than without them, or none were looked at.
        assert instructions.BOUNDS["exact"][case] < work.instructions <= cases[case]
        assert (abs(work.syscalls), abs(work.allocators)) == (0, 0)


def test_wiping_stays_within_its_bounds():
    """Whoever is in no wiping scope pays for a look at where it is, and for one bit, while such a scope is open."""
    measured = instructions.measure(sys.executable, ["pair", "calls"], instructions.WIPING)
    for state, cases in measured.items():
        for work in cases.values():
            assert 10 < work.instructions <= instructions.WIPING_BOUNDS[state]
            assert (work.syscalls, work.allocators) == pytest.approx((0, 0), abs=0.001)


def test_the_measure_sees_what_is_added(tmp_path):
    """A measure that sees nothing would let everything pass. One more block an event, and larger than the pools serve,
    is more instructions and calls into malloc."""
    program = instructions.PROGRAM
    heavier = program.replace("itertools.repeat(left, count)", "map(bytes, itertools.repeat(600, count))")
    assert heavier != program
    each = {}
    for name, text in (("plain", program), ("heavier", heavier)):
        folder = tmp_path / name
        folder.mkdir()
        instructions.write_program(folder, text)
        counts = [instructions.Count("none", "pymalloc", "pair", n) for n in (2000, 4000)]
        runs = [instructions.count_once(sys.executable, count, folder) for count in counts]
        each[name] = (runs[1] - runs[0]).each(2000)
    more = each["heavier"] - each["plain"]
    assert more.instructions >= 100
    assert more.allocators >= 2
