"""Limits of all entries of a name, and of the process: who is refused, and what is counted."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import Program, printed, program
from running import Run

__all__ = ["program"]
pytestmark = pytest.mark.core

MIB = 1 << 20
HEAD = """\
import bursar, gc, json, os, sys, threading, time
from bursar import _bursar
MIB = 1 << 20
def exceeded(name, work, **limits):
    try:
        with bursar.scope(name, **limits): work()
    except bursar.BudgetExceeded as error:
        return error
def until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.001)
"""


@pytest.fixture(params=["exact", "sample", "count"])
def on(request: pytest.FixtureRequest, ledger: Path) -> str:
    """The beginning of a program, in each mode."""
    return HEAD + f"bursar.start({request.param!r}, output={str(ledger)!r})\n"


# --- of a name --------------------------------------------------------------------------------------------------------


def test_entries_of_a_name_share_a_limit(on: str, program: Program) -> None:
    """Those that have ended and still hold something too; other names are not concerned."""
    done = program(
        on + "_bursar.limit_set('load', 'sum', 20 * MIB, False)\n"
        "kept = []\n"
        "errors = [exceeded('load', lambda: kept.append(bytearray(4 * MIB))) for _ in range(6)]\n"
        "other = exceeded('other', lambda: kept.append(bytearray(30 * MIB)))\n"
        "del kept[0]\n"
        "again = exceeded('load', lambda: kept.append(bytearray(4 * MIB)))\n"
        "print(json.dumps([[error is None for error in errors], errors[-1].limit, errors[-1].whose, errors[-1].held,\n"
        "                  str(errors[-1]), other is None, again is None]))\n"
    )
    through, limit, whose, held, text, other, again = printed(done)
    assert through == [True] * 4 + [False] * 2, "the last sixteenth is the reserve"
    assert limit == 20 * MIB and whose == "name" and 16 * MIB <= held < 17 * MIB
    assert text == f"all of scope 'load' may hold {20 * MIB} bytes: it held {held} and asked for {4 * MIB + 1} more"
    assert other and again


def test_threads_of_a_name_share_it(on: str, program: Program) -> None:
    """Each is within what it may have, all together are not."""
    done = program(
        on + "_bursar.limit_set('load', 'sum', 40 * MIB, False)\n"
        "ready, refused, most = threading.Barrier(4), [], []\n"
        "def work():\n"
        "    kept = []\n"
        "    ready.wait()\n"
        "    def load():\n"
        "        for _ in range(30): kept.append(bytearray(MIB)); most.append(_bursar.budget_held('load'))\n"
        "    refused.append(exceeded('load', load, hard='35 MiB'))\n"
        "    ready.wait()\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(json.dumps([[error.whose for error in refused if error], max(most)]))\n"
    )
    whose, most = printed(done)
    assert len(whose) >= 3 and set(whose) == {"name"}
    assert most <= 40 * MIB


def test_an_entry_within_its_own_name_counts_once(on: str, program: Program) -> None:
    program(
        on + "_bursar.limit_set('load', 'sum', 20 * MIB, False)\n"
        "def nested():\n"
        "    kept = bytearray(10 * MIB)\n"
        "    with bursar.scope('load'):\n"
        "        more = bytearray(5 * MIB)\n"
        "        assert 15 * MIB <= _bursar.budget_held('load') < 16 * MIB\n"
        "assert exceeded('load', nested) is None\n"
        "with bursar.scope('load') as s: pass\n"
        "gc.collect()\n"
        "assert _bursar.budget_held('load') < MIB\n"
    )


def test_many_that_hold_a_little(on: str, program: Program) -> None:
    """Far more entries than are gone through each time."""
    done = program(
        on + "_bursar.limit_set('load', 'sum', 16 * MIB, False)\n"
        "kept = []\n"
        "def load(): kept.append(bytes(8000))\n"
        "for turn in range(5000):\n"
        "    if exceeded('load', load): break\n"
        "held = _bursar.budget_held('load')\n"
        "del kept[:100]\n"
        "free = [exceeded('load', load) is None for _ in range(150)]\n"
        "print(json.dumps([turn, held, sum(free)]))\n"
    )
    turn, held, again = printed(done)
    assert 15 * MIB - 20_000 < held <= 15 * MIB
    assert turn == pytest.approx(held / 8100, rel=0.03)
    assert 98 <= again <= 102


def test_where_slots_run_short_what_was_folded_counts(on: str, program: Program) -> None:
    """65,536 entries and no more have figures of their own."""
    program(
        on + "_bursar.limit_set('load', 'sum', 1 << 40, False)\n"
        "kept = []\n"
        "for turn in range(70_000):\n"
        "    with bursar.scope('load'): kept.append(bytes(600))\n"
        "assert 70_000 * 600 < _bursar.budget_held('load') < 70_000 * 760, _bursar.budget_held('load')\n"
        "_bursar.limit_set('load', 'sum', 40 * MIB, True)\n"
        "assert exceeded('load', lambda: bytes(600)).whose == 'name'\n"
        "kept.clear()\n"
        "assert exceeded('load', lambda: bytes(600)) is None\n"
        "assert _bursar.budget_held('load') < MIB\n"
    )


Steps = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from("ab"), st.integers(1, 40)),
        st.tuples(st.just("leave"), st.just(""), st.just(0)),
        st.tuples(st.just("take"), st.just(""), st.integers(600, 300_000)),
        st.tuples(st.just("free"), st.just(""), st.integers(0, 1000)),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(all_steps=st.lists(Steps, min_size=20, max_size=20))
def test_sums_are_those_of_a_model(all_steps: list[object], program: Program) -> None:
    """Each block counts in each of the names that it was allocated in, once, until it is freed."""
    program(
        HEAD + "bursar.start('exact')\n"
        "for name in 'ab': _bursar.limit_set(name, 'sum', 1 << 40, False)\n"
        "def play(steps):\n"
        "    entered, blocks, expected = [], [], {'a': 0, 'b': 0}\n"
        "    before = {name: _bursar.budget_held(name) for name in 'ab'}\n"
        "    for what, name, number in steps:\n"
        "        if what == 'enter' and len(entered) < 40:\n"
        "            scope = bursar.scope(name)\n"
        "            scope.__enter__()\n"
        "            entered.append((name, scope))\n"
        "        elif what == 'leave' and entered:\n"
        "            entered.pop()[1].__exit__(None, None, None)\n"
        "        elif what == 'take':\n"
        "            blocks.append((bytes(number), {name for name, _ in entered}))\n"
        "            for name in blocks[-1][1]: expected[name] += sys.getsizeof(blocks[-1][0])\n"
        "        elif what == 'free' and blocks:\n"
        "            block, names = blocks.pop(number % len(blocks))\n"
        "            for name in names: expected[name] -= sys.getsizeof(block)\n"
        "            del block\n"
        "        for name in 'ab':\n"
        "            held = _bursar.budget_held(name) - before[name]\n"
        "            assert abs(held - expected[name]) < 24_000, (name, held, expected)  # and our own lists\n"
        "    while entered: entered.pop()[1].__exit__(None, None, None)\n"
        f"for steps in {all_steps!r}: play(steps)\n"
    )


# --- of the process ---------------------------------------------------------------------------------------------------


def test_who_holds_most_is_refused(on: str, program: Program) -> None:
    """Others go on, also while it still holds it."""
    done = program(
        on + "_bursar.limit_set(None, '', _bursar.budget_held(None) + 100 * MIB, False)\n"
        "full, over, honest = threading.Event(), threading.Event(), []\n"
        "def absurd():\n"
        "    kept = []\n"
        "    try:\n"
        "        while True: kept.append(bytearray(MIB))\n"
        "    except MemoryError:\n"
        "        full.set()\n"
        "        over.wait()\n"
        "        raise\n"
        "def serve(): honest.append(exceeded('honest', lambda: [bytes(30_000) for _ in range(50)]))\n"
        "def beside():\n"
        "    full.wait()\n"
        "    for _ in range(20): serve()\n"
        "    over.set()\n"
        "thread = threading.Thread(target=beside)\n"
        "thread.start()\n"
        "error = exceeded('absurd', absurd)\n"
        "thread.join()\n"
        "print(json.dumps([error.whose, error.scope, error.limit, error.held, str(error), honest]))\n"
    )
    whose, scope, limit, held, text, honest = printed(done)
    assert (whose, scope) == ("process", "absurd")
    assert limit - 8 * MIB < held <= limit + limit // 16  # an estimate, in mode sample
    assert text == f"the process may hold {limit} bytes: it held {held}, and scope 'absurd' asked for {MIB + 1} more"
    assert honest == [None] * 20


def test_beyond_a_sixteenth_all_are_refused(program: Program, ledger: Path) -> None:
    done = program(
        HEAD + f"bursar.start('exact', output={str(ledger)!r})\n"
        "limit = _bursar.budget_held(None) + 160 * MIB\n"
        "_bursar.limit_set(None, '', limit, False)\n"
        "full, over, kept = threading.Event(), threading.Event(), []\n"
        "def absurd():\n"
        "    mine = []\n"
        "    try:\n"
        "        while True: mine.append(bytearray(MIB))\n"
        "    except MemoryError: full.set()\n"
        "    over.wait()\n"
        "def honest():\n"
        "    full.wait()\n"
        "    while True:  # each a small one, and all of them kept\n"
        "        error = exceeded('honest', lambda: kept.append(bytearray(MIB)))\n"
        "        if error: break\n"
        "    most.append([error.whose, _bursar.budget_held(None)])\n"
        "    over.set()\n"
        "most = []\n"
        "thread = threading.Thread(target=honest)\n"
        "thread.start()\n"
        "exceeded('absurd', absurd)\n"
        "thread.join()\n"
        "print(json.dumps([limit, *most[0], len(kept)]))\n"
    )
    limit, whose, held, others = printed(done)
    assert whose == "process"
    # What is not booked is seen at the next look: malloc maps each of these 160 blocks with up to two pages of its own.
    assert limit + limit // 16 - 2 * MIB < held < limit + limit // 16 + 2 * MIB
    assert others > 5


def test_no_scope_is_open(bursar: Run, ledger: Path) -> None:
    """Then the program itself is what the limit is for, whatever holds the memory: here nobody that is booked does."""
    text = (
        "import json, mmap\n"
        "area = mmap.mmap(-1, 120 << 20)\n"
        "for _ in range(30720): area.write(b'x' * 4096)\n"
        "import time\n"
        "kept = []\n"
        "end = time.monotonic() + 30\n"
        "try:\n"
        "    while time.monotonic() < end: kept.append(bytearray(1 << 20)); time.sleep(0.001)\n"
        "except MemoryError: print(len(kept))\n"
    )
    done = bursar("run", "--budget", "200MiB", "--domains", "python", "-f", "-o", ledger, "-c", text)
    assert done.returncode == 0, done.stderr
    assert 30 < int(done.stdout) < 75  # of the 80, Python has some


def test_a_limit_lowered_below_what_is_held(on: str, program: Program) -> None:
    """The next that can be refused pays; once there is room again all is well."""
    program(
        on + "held = _bursar.budget_held(None)\n"
        "_bursar.limit_set(None, '', held + 500 * MIB, False)\n"
        "kept = [bytearray(MIB) for _ in range(100)]\n"
        "_bursar.limit_set(None, '', held + 50 * MIB, True)\n"
        "assert exceeded('load', lambda: bytes(10_000)).whose == 'process'\n"
        "kept.clear()\n"
        "until(lambda: exceeded('load', lambda: bytes(10_000)) is None)\n"
        "try: _bursar.limit_set(None, '', held + 501 * MIB, True)\n"
        "except PermissionError: pass\n"
        "else: raise SystemExit('it was weakened')\n"
    )


def test_who_forks_has_no_thread_that_looks(program: Program, ledger: Path) -> None:
    """It is there again afterwards, in the child too where that keeps books."""
    done = program(
        HEAD + "counts = []\n"
        "os.register_at_fork(before=lambda: counts.append(0))\n"
        "def tasks(): return len(os.listdir('/proc/self/task'))\n"
        f"bursar.start('exact', output={str(ledger)!r}, follow_fork=True, budget='1 GiB')\n"
        "until(lambda: tasks() == 2)\n"
        "for _ in range(30):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        forked = tasks()\n"
        "        bytes(10_000)\n"
        "        status = 0 if forked == 1 and tasks() == 2 else 1\n"
        "        os._exit(0 if status == 0 and _bursar.limit_of(None, '') == 1 << 30 else 1)\n"
        "    counts[-1] = tasks()\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        "    bytes(10_000)\n"
        "    assert tasks() == 2\n"
        "print(json.dumps(max(counts)))\n"
    )
    assert printed(done) == 1


@pytest.mark.parametrize("governor", [False, True])
def test_a_process_ends_with_its_last_thread(program: Program, ledger: Path, governor: bool) -> None:
    """The only thread of a fork's child may be no main one: where that returns, no thread of ours stays."""
    done = program(
        HEAD + "import signal\n"
        "def work():\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        signal.alarm(30)\n"
        f"        bursar.start('sample', output={str(ledger)!r}, budget='8 GiB')\n"
        f"        kept.append(bursar.governor() if {governor} else None)\n"
        "        threading.Thread(target=time.sleep, args=(0.3,)).start()\n"
        "        return\n"
        "    began = time.monotonic(); statuses.append(os.waitpid(pid, 0)[1]); took.append(time.monotonic() - began)\n"
        "kept, statuses, took = [], [], []\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
        "print(statuses, 0.3 <= took[0] < 20)\n",
        says=True,  # 3.12 and on warn who forks beside a thread
    )
    assert done.stdout == "[0] True\n"


def test_what_run_takes(complains: Callable[..., str], bursar: Run) -> None:
    for wrong in ("0", "-1", "lots", "101%", "0%", "%", "5%%", ""):
        said = complains(2, "run", "--budget", wrong, "-c", "1")
        assert "--budget takes a size such as 2GiB, or a share such as 80%" in said
    done = bursar("run", "--budget", "2MiB", "-c", "print(1)")
    assert done.stdout == "1\n" and done.returncode == 0
    assert done.stderr.startswith("bursar: the budget of 2 MiB is not kept: Python holds ")


def test_a_share_is_of_the_machine_or_its_group(bursar: Run) -> None:
    text = "from bursar import _bursar; print(_bursar.limit_of(None, ''), _bursar.balance()['cgroup_limit_bytes'] or 0)"
    limit, group = map(int, bursar("run", "--budget", "50%", "-c", text).stdout.split())
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert limit == (min(group, machine) if group else machine) // 100 * 50


def test_what_start_takes(program: Program) -> None:
    done = program(
        HEAD + "errors = []\n"
        "for wrong in (0, -5, 'lots', '101%', 1.5, '1 MiB'):\n"
        "    try: bursar.start(budget=wrong)\n"
        "    except (ValueError, TypeError) as error: errors.append(str(error))\n"
        "bursar.start(budget='70%')\n"
        "with bursar.scope('load'): pass\n"
        "limit = _bursar.limit_of(None, '')\n"
        "bursar.stop()\n"
        "print(json.dumps([errors, limit > 0, _bursar.limit_of(None, ''), len(os.listdir('/proc/self/task'))]))\n"
    )
    errors, there, gone, tasks = printed(done)
    assert len(errors) == 6 and errors[-1].startswith("budget='1 MiB' is less than the ")
    assert there and gone == 0 and tasks == 1


def test_each_refusal_is_an_event(bursar: Run, ledger: Path) -> None:
    text = (
        "import bursar\n"
        "def take(): return bytearray(1 << 30)\n"
        "for name in ('load', 'serve'):\n"
        "    try:\n"
        "        with bursar.scope(name): take()\n"
        "    except bursar.BudgetExceeded: pass\n"
        "try: take()\n"
        "except MemoryError: pass\n"
    )
    assert bursar("run", "--budget", "300MiB", "-f", "-o", ledger, "-c", text).returncode == 0
    events = json.loads(bursar("report", ledger, "--view", "events", "--format", "json").stdout)["events"]
    assert [(event["kind"], event["scope"], event["bytes"]) for event in events] == [
        ("refused", "load", (1 << 30) + 1),
        ("refused", "serve", (1 << 30) + 1),
        ("refused", "(process)", (1 << 30) + 1),
    ]
    assert {event["text"] for event in events} == {"take (<string>:2)"}
