"""What watching for resources left open costs, counted under callgrind; see test_work.py."""

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench" / "instructions.py"
EVENTS = 1000
# A pair of descriptors a time, or an entry of a scope.
PROGRAM = """
import os
state, case, count, ledger = os.read(0, 4096).decode().split()
import bursar._bursar
def pipes(count):
    pipe, close = os.pipe, os.close
    for _ in range(count):
        first, second = pipe()
        close(first)
        close(second)
def entries(count):
    scope = bursar._bursar.Scope
    for _ in range(count):
        with scope("it", left_open="event" if case == "watched" else None):
            pass
if state != "plain":
    with bursar._bursar.Scope("it", left_open="event"):
        pipes(100)
    entries(100)
if state == "inside":
    scope = bursar._bursar.Scope("it", left_open="event").__enter__()
(pipes if case == "pipes" else entries)(int(count))
print(0, 0, flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of one event, by state and case."""
    spec = importlib.util.spec_from_file_location("bursar_bench_instructions", BENCH)
    assert spec is not None and spec.loader is not None
    instructions = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = instructions
    spec.loader.exec_module(instructions)
    folder = tmp_path_factory.mktemp("work")
    instructions.write_program(folder, PROGRAM)
    cases = [("plain", "pipes"), ("after", "pipes"), ("inside", "pipes"), ("after", "plain"), ("after", "watched")]

    def counted(case: tuple[str, str]) -> Any:
        counts = [instructions.Count(case[0], "pymalloc", case[1], events) for events in (EVENTS, 2 * EVENTS)]
        first, second = [instructions.count_once(sys.executable, count, folder) for count in counts]
        return (second - first).each(EVENTS)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(cases, pool.map(counted, cases), strict=True))


def test_hooks_that_nobody_asks_cost_a_look(work: Any) -> None:
    more = work["after", "pipes"] - work["plain", "pipes"]
    assert 10 < more.instructions <= 70 and abs(more.syscalls) < 0.01 and abs(more.allocators) < 0.01


def test_what_is_noted_costs_a_question_to_the_kernel_each(work: Any) -> None:
    more = work["inside", "pipes"] - work["plain", "pipes"]
    # fstat, and whether this is a child's: twice, and once for each that is closed.
    assert more.syscalls == pytest.approx(6, abs=0.01) and abs(more.allocators) < 0.01
    assert 500 < more.instructions <= 4000


def test_an_entry_that_opens_nothing_costs_no_call(work: Any) -> None:
    more = work["after", "watched"] - work["after", "plain"]
    assert 20 < more.instructions <= 350 and abs(more.syscalls) < 0.01 and abs(more.allocators) < 0.01
