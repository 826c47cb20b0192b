"""Scopes against plain dictionaries: any nesting, tasks that interleave, entries that end before what they began."""

import json
from pathlib import Path

import pytest
from programs import Program, printed, program
from running import Facts
from test_scopes import by_name

__all__ = ["program"]
pytestmark = pytest.mark.core

# Blocks are multiples of 100,000 bytes; what the steps themselves allocate in a scope is far below one.  All that one
# needs is made before, outside of any scope.
TEXT = '''\
import bursar, contextvars, gc, json, sys
from hypothesis import HealthCheck, given, settings, strategies as st

bursar.start(sys.argv[2], output="test.bursar")
UNIT = 100000
one = b"x"
names = ["a", "b", "c"]
totals = {name: {"calls": 0, "allocated": 0} for name in names}


class Entry:
    """One entry, as the documentation says."""

    def __init__(self, name, around, parent):
        self.real = bursar.scope(name)
        self.name, self.around, self.parent = name, around, parent
        self.open, self.live, self.peak, self.allocated = True, 0, 0, 0
        self.noise = 1
        above = parent
        while above and above.name != name:
            above = above.parent
        self.inner = above is not None

    def chain(self):
        while self:
            yield self
            self = self.parent


class Task:
    def __init__(self, context, here, own):
        self.context, self.here, self.own = context, here, own

    def target(self):
        entry = self.here
        while entry and not entry.open:
            entry = entry.around
        return entry


def check(entries):
    for entry in entries:
        real, ended = entry.real, entry.end if not entry.open else (entry.peak, entry.allocated)
        got = [round(figure / UNIT) for figure in (real.live, real.peak, real.allocated)]
        assert got == [entry.live, *ended], (entry.name, got, entry.live, ended)
        assert real.live >= 0 and real.allocated - UNIT * ended[1] < UNIT / 2
        assert (real.retained is None) == entry.open
        if not entry.open:
            assert real.retained == real.live


STEP = st.one_of(
    st.tuples(st.just("enter"), st.integers(0, 3), st.integers(0, 2)),
    st.tuples(st.just("leave"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("allocate"), st.integers(0, 3), st.integers(1, 9)),
    st.tuples(st.just("free"), st.integers(0, 19), st.just(0)),
    st.tuples(st.just("task"), st.integers(0, 3), st.just(0)),
)


@settings(max_examples=int(sys.argv[1]), deadline=None, database=None, derandomize=True,
          suppress_health_check=list(HealthCheck))
@given(st.lists(STEP, max_size=60))
def run(steps):
    tasks, entries, blocks = [Task(contextvars.copy_context(), None, [])], [], []
    for what, which, number in steps:
        task = tasks[which % len(tasks)]
        if what == "enter":
            entry = Entry(names[number], task.here, task.target())
            task.context.run(entry.real.__enter__)
            task.own.append((entry, task.here))
            task.here = entry
            entries.append(entry)
        elif what == "leave" and task.own:
            entry, task.here = task.own.pop()
            entry.open, entry.end = False, (entry.peak, entry.allocated)
            totals[entry.name]["calls"] += 1
            task.context.run(entry.real.__exit__, None, None, None)
        elif what == "allocate":
            blocks.append((task.context.run(one.__mul__, number * UNIT - 33), task.target(), number))
            for entry in task.target().chain() if task.target() else ():
                entry.live += number
                entry.allocated += number
                entry.peak = max(entry.peak, entry.live)
                if not entry.inner:
                    totals[entry.name]["allocated"] += number
        elif what == "free" and blocks:
            block, owner, number = blocks.pop(which % len(blocks))
            del block
            for entry in owner.chain() if owner else ():
                entry.live -= number
        elif what == "task" and len(tasks) < 4:
            tasks.append(Task(task.context.copy(), task.here, []))
        check(entries)
    for task in tasks:
        while task.own:
            entry, task.here = task.own.pop()
            totals[entry.name]["calls"] += 1
            task.context.run(entry.real.__exit__, None, None, None)


run()
print(json.dumps(totals))
'''


@pytest.mark.parametrize("mode", ["exact", "sample", "count"])
def test_any_program_of_scopes(program: Program, facts: Facts, tmp_path: Path, mode: str) -> None:
    done = program(TEXT, 150, mode)
    totals = printed(done)
    read = by_name(facts(tmp_path / "test.bursar"))
    assert sum(name["calls"] for name in totals.values()) > 200, json.dumps(totals)
    for name, total in totals.items():
        assert read[name]["calls"] == total["calls"]
        assert read[name]["open"] == 0
        # What the steps themselves allocate: less than one in a hundred.
        assert 0 <= read[name]["allocated_bytes"] / 100000 - total["allocated"] < 0.01 * total["allocated"] + 1
        assert read[name]["live_bytes"] < 100000
