"""Budgets of scopes: what is refused, to whom, what its user sees, and that all others go on."""

from pathlib import Path

import pytest
from programs import Program, printed, program
from running import Facts, Run
from test_native_start import build

__all__ = ["program"]
pytestmark = pytest.mark.core

MIB = 1 << 20
HEAD = """\
import asyncio, bursar, gc, json, os, sys, threading, time
MIB = 1 << 20
def exceeded(name, work, **limits):
    scope = bursar.scope(name, **limits)
    try:
        with scope: work()
    except bursar.BudgetExceeded as error:
        return error, scope
    return None, scope
"""


@pytest.fixture(params=["exact", "sample", "count"])
def on(request: pytest.FixtureRequest, ledger: Path) -> str:
    """The beginning of a program, in each mode."""
    return HEAD + f"bursar.start({request.param!r}, output={str(ledger)!r})\n"


def test_what_goes_too_far_is_told(on: str, program: Program) -> None:
    done = program(
        on + "def work():\n"
        "    kept = []\n"
        "    while True: kept.append(bytearray(MIB))\n"
        "error, scope = exceeded('load', work, hard='20 MiB')\n"
        "assert isinstance(error, MemoryError) and type(error.__cause__) is MemoryError\n"
        "assert error.__cause__.__traceback__.tb_next.tb_frame.f_code.co_name == 'work'\n"
        "assert scope.hard == 20 * MIB and scope.soft is None\n"
        "import pickle\n"
        "again = pickle.loads(pickle.dumps(error))\n"
        "assert str(again) == str(error) and again.limit == 20 * MIB\n"
        "print(json.dumps([error.scope, error.limit, error.held, error.asked, scope.peak]))\n"
    )
    name, limit, held, asked, peak = printed(done)
    assert (name, limit, asked) == ("load", 20 * MIB, MIB + 1)  # a bytearray has a byte more
    assert 18 * MIB <= held <= peak <= 20 * MIB - MIB  # the last of it is kept back


def test_a_thousand_times_in_a_row(on: str, program: Program) -> None:
    program(
        on + "good = 0\n"
        "for turn in range(1000):\n"
        "    error, _ = exceeded('absurd', lambda: bytearray(50 * MIB), hard='10 MiB')\n"
        "    assert error.asked == 50 * MIB + 1\n"
        "    with bursar.scope('honest', hard='10 MiB'): good += len(bytearray(MIB))\n"
        "assert good == 1000 * MIB\n"
    )


def test_what_is_handled_goes_on(on: str, program: Program) -> None:
    """Its reserve is there for that, and nothing is said at the end."""
    program(
        on + "def work():\n"
        "    kept = []\n"
        "    try:\n"
        "        while True: kept.append(bytearray(100_000))\n"
        "    except MemoryError: pass\n"
        "    texts = [b'x' * 600 for _ in range(500)]\n"  # small ones, in the reserve
        "    try: bytearray(100_000)\n"
        "    except MemoryError: pass\n"
        "    else: raise SystemExit('above the reserve')\n"
        "    kept.clear()\n"
        "    kept.append(bytearray(100_000))\n"
        "error, scope = exceeded('load', work, hard='20 MiB')\n"
        "assert error is None and scope.peak <= 20 * MIB\n"
    )


def test_small_blocks_alone(on: str, program: Program) -> None:
    """They cannot be refused: an exception comes between two instructions, a mebibyte above."""
    done = program(
        on + "def work():\n"
        "    last = None\n"
        "    while True: last = (last,)\n"
        "error, scope = exceeded('load', work, hard='5 MiB')\n"
        "print(json.dumps([error.asked, scope.peak]))\n"
        "for _ in range(3): assert exceeded('load', work, hard='5 MiB')[0]\n"
        "def slow():\n"  # it is over before anybody looked between two instructions: nothing is left to come
        "    list(map(lambda i: (i, i + 1000), range(60000)))\n"
        "exceeded('load', slow, hard='2 MiB')\n"
        "for _ in range(1000): pass\n"
    )
    asked, peak = printed(done)
    assert asked == 0 and 6 * MIB - (128 << 10) < peak <= 6 * MIB


def test_pymallocs_own_tables_are_not_refused(on: str, program: Program, facts: Facts, ledger: Path) -> None:
    """It asks RAW for a larger one at 16, 32, 64 arenas of 1 MiB.  Without it, small blocks would be malloc's for good:
    nobody would see that refusal, and nobody be the better for it."""
    program(
        on + "base = []\n"
        "gc.disable()\n"
        "def work():\n"
        "    last = None\n"
        "    while True: last = (last,)\n"
        "for step in range(70):\n"  # the scope's own 3 MiB come to lie over each of these arenas in turn
        "    base.append([(number,) for number in range((1 << 20) // 64)])\n"
        "    error, scope = exceeded('load', work, hard='2 MiB')\n"
        "    assert error and error.asked == 0 and scope.peak < 3 * MIB + (64 << 10), (step, error, scope.peak)\n"
    )
    events = [event for event in facts(ledger)["events"] if event["kind"] == "refused"]
    assert len(events) == 70 and {event["bytes"] for event in events} == {0}


def test_growth_counts_as_what_is_added(on: str, program: Program) -> None:
    program(
        on + "def work():\n"
        "    grows = bytearray(6 * MIB)\n"
        "    for _ in range(20): grows.extend(bytes(100_000))\n"  # to 8 MB: each time that much more
        "    grows.extend(bytes(5 * MIB))\n"
        "error, scope = exceeded('load', work, hard='10 MiB')\n"
        "assert error and scope.peak > 7 * MIB\n"
        "grows = bytearray(6 * MIB)\n"  # another's block: it is theirs until it moves here
        "error, scope = exceeded('load', lambda: grows.extend(bytes(100)), hard='5 MiB')\n"
        "assert error and len(grows) == 6 * MIB\n"
    )


def test_nested(on: str, program: Program) -> None:
    """An entry counts in those around it, and whose limit it was says so alone."""
    program(
        on + "def inner(hard, bytes):\n"
        "    with bursar.scope('inner', hard=hard): bytearray(bytes)\n"
        "error, _ = exceeded('outer', lambda: inner('100 MiB', 50 * MIB), hard='20 MiB')\n"
        "assert error.scope == 'outer' and type(error.__cause__) is MemoryError\n"
        "error, _ = exceeded('outer', lambda: inner('20 MiB', 50 * MIB), hard='100 MiB')\n"
        "assert error.scope == 'inner'\n"  # which goes through the outer one as it is
        "def recursive(depth):\n"
        "    with bursar.scope('deep', hard='20 MiB'):\n"
        "        kept = bytearray(MIB)\n"
        "        recursive(depth + 1)\n"
        "try: recursive(0)\n"
        "except bursar.BudgetExceeded as error: assert error.scope == 'deep'\n"
        "else: raise SystemExit(1)\n"
        "freed = [bytearray(8 * MIB)]\n"
        "def frees():\n"  # another's block: that one is credited
        "    freed.clear()\n"
        "    bytearray(9 * MIB)\n"
        "assert exceeded('load', frees, hard='8 MiB')[0]\n"
    )


def test_threads_and_tasks(on: str, program: Program) -> None:
    program(
        on + "got = []\n"
        "def work():\n"
        "    try: got.append(len(bytearray(50 * MIB)))\n"
        "    except MemoryError: got.append('refused')\n"
        "def load():\n"
        "    for target in bursar.carry(work), work:\n"  # the second is in no scope
        "        thread = threading.Thread(target=target); thread.start(); thread.join()\n"
        "assert exceeded('load', load, hard='10 MiB')[0] is None\n"
        "assert got == ['refused', 50 * MIB]\n"
        "async def request(mebibytes):\n"
        "    with bursar.scope('request', hard='10 MiB'):\n"
        "        await asyncio.sleep(0)\n"
        "        body = bytearray(mebibytes * MIB)\n"
        "        await asyncio.sleep(0.01)\n"
        "        return len(body) // MIB\n"
        "async def main():\n"
        "    return await asyncio.gather(*map(request, [1, 50, 3, 70, 8]), return_exceptions=True)\n"
        "answers = [a if isinstance(a, int) else type(a).__name__ for a in asyncio.run(main())]\n"
        "assert answers == [1, 'BudgetExceeded', 3, 'BudgetExceeded', 8], answers\n"
    )


def test_decorated(on: str, program: Program) -> None:
    program(
        on + "limit = {'hard': '5 MiB'}\n"
        "@bursar.scope('f', **limit)\n"
        "def function(n): return len(bytearray(n))\n"
        "@bursar.scope('g', **limit)\n"
        "def generator(n):\n"
        "    yield 1\n"
        "    yield len(bytearray(n))\n"
        "@bursar.scope('c', **limit)\n"
        "async def coroutine(n): return len(bytearray(n))\n"
        "@bursar.scope('a', **limit)\n"
        "async def stream(n):\n"
        "    yield 1\n"
        "    yield len(bytearray(n))\n"
        "async def drain(n): return [one async for one in stream(n)]\n"
        "ways = [function, lambda n: list(generator(n))[1], lambda n: asyncio.run(coroutine(n)),\n"
        "        lambda n: asyncio.run(drain(n))[1]]\n"
        "for way, name in zip(ways, 'fgca'):\n"
        "    assert way(MIB) == MIB\n"
        "    try: way(50 * MIB)\n"
        "    except bursar.BudgetExceeded as error: assert error.scope == name and error.asked > 50 * MIB\n"
        "    else: raise SystemExit(name)\n"
    )


def test_not_in_a_collection_an_import_or_a_failure(on: str, program: Program, tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("kept = bytearray(30 << 20)\n")
    program(
        on + "class Ends:\n"
        "    def __del__(self): got.append(len(bytearray(30 * MIB)))\n"
        "told = []\n"
        "sys.unraisablehook = lambda one: told.append(one.exc_type)\n"
        "def collects():\n"
        "    cycle = Ends(); cycle.own = cycle; del cycle\n"
        "    gc.collect()\n"
        "got = []\n"
        "assert exceeded('load', collects, hard='10 MiB')[0] is None\n"
        "assert got == [30 * MIB] and told == []\n"
        "def ends(): Ends()\n"  # by its count: not in a collection
        "assert exceeded('load', ends, hard='10 MiB')[0] is None\n"
        "assert told == [MemoryError]\n"
        "def imports():\n"
        "    import large\n"
        "    assert len(large.kept) == 30 * MIB\n"
        "assert exceeded('load', imports, hard='10 MiB')[0] is None\n"
    )


@pytest.mark.parametrize("mode", ["exact", "sample", "count"])
def test_a_collection_of_another_thread_lets_nothing_pass(program: Program, mode: str, tmp_path: Path) -> None:
    """Who asks malloc without the GIL is not in it."""
    driver = build(tmp_path / "libhdf5-refused.so", [], "refused.c")
    done = program(
        HEAD + "import ctypes\n"
        f"driver = ctypes.CDLL({str(driver)!r})\n"
        "collecting, done = (ctypes.c_int.in_dll(driver, name) for name in ('collecting', 'done'))\n"
        f"bursar.start({mode!r}, domains='all', output='test.bursar')\n"
        "def listen(phase, info):\n"
        "    if phase == 'start':\n"
        "        collecting.value = 1\n"
        "        while not done.value: pass\n"
        "got = []\n"
        "def work():\n"
        "    with bursar.scope('load', hard='10 MiB'):\n"
        "        begun.set()\n"
        "        got.append(driver.refused_meanwhile(ctypes.c_size_t(50 * MIB)))\n"
        "begun = threading.Event()\n"
        "gc.disable()\n"
        "thread = threading.Thread(target=work); thread.start(); begun.wait()\n"
        "gc.callbacks.append(listen)\n"
        "gc.collect()\n"
        "gc.callbacks.clear(); thread.join()\n"
        "print(got)\n"
    )
    assert done.stdout == "[1]\n"


def test_other_exceptions_stay_what_they_are(on: str, program: Program) -> None:
    program(
        on + "def fails(error):\n"
        "    def work():\n"
        "        try: bytearray(50 * MIB)\n"
        "        except MemoryError: pass\n"
        "        raise error\n"
        "    return work\n"
        "for error in ValueError('no'), RuntimeError('no'), KeyboardInterrupt(), SystemError('no'):\n"
        "    try: exceeded('load', fails(error), hard='10 MiB')\n"
        "    except BaseException as got: assert got is error\n"
        "    else: raise SystemExit(repr(error))\n"
        "try:\n"
        "    with bursar.scope('load', hard='10 MiB'): raise MemoryError('its own')\n"  # nothing was refused
        "except bursar.BudgetExceeded: raise SystemExit(1)\n"
        "except MemoryError: pass\n"
    )


def test_events_say_where(on: str, program: Program, facts: Facts, ledger: Path) -> None:
    program(
        on + "def too_much():\n"
        "    bytearray(50 * MIB)\n"
        "for _ in range(3): exceeded('load', too_much, hard='10 MiB', soft='5 MiB')\n"
        "exceeded('load', lambda: bytearray(6 * MIB), hard='10 MiB', soft='5 MiB')\n"
    )
    events = facts(ledger)["events"]
    assert [(e["kind"], e["scope"]) for e in events] == [("refused", "load")] * 3 + [("soft", "load")]
    assert {e["text"] for e in events[:3]} == {f"too_much ({ledger.parent / 'program.py'}:12)"}
    assert {e["bytes"] for e in events[:3]} == {50 * MIB + 1}
    assert events[3]["text"] == f"<lambda> ({ledger.parent / 'program.py'}:14)"
    assert 6 * MIB < events[3]["bytes"] < 6 * MIB + 4096, "with the block that went above"


def test_soft_limits_call(on: str, program: Program, facts: Facts, ledger: Path) -> None:
    program(
        on + "calls, rung = [], threading.Event()\n"
        "def call(scope):\n"
        "    calls.append((scope.name, threading.current_thread().name, bursar.carry(lambda: None) is not None))\n"
        "    got.append(len(bytearray(50 * MIB)))\n"  # it has no budget
        "    rung.set()\n"
        "    if len(calls) == 2: raise ValueError('of the callback')\n"
        "got, told = [], []\n"
        "sys.unraisablehook = lambda one: told.append((one.exc_type, str(one.exc_value)))\n"
        "with bursar.scope('load', hard='20 MiB', soft='5 MiB', on_soft=call) as scope:\n"
        "    for turn in range(3):\n"
        "        body = bytearray(6 * MIB)\n"
        "        assert rung.wait(60); rung.clear()\n"
        "        more = bytearray(100)\n"
        "        assert len(calls) == turn + 1\n"
        "        del body; body = bytearray(MIB)\n"  # below again
        "assert [c[:2] for c in calls] == [('load', 'bursar-on-soft')] * 3 and got == [50 * MIB] * 3\n"
        "while not told: time.sleep(0.01)\n"
        "assert told == [(ValueError, 'of the callback')]\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    os._exit(len(threading.enumerate()) != 1)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n"
        "rung.clear()\n"
        "with bursar.scope('load', soft='5 MiB', on_soft=call) as scope:\n"  # the thread is there again
        "    body = bytearray(6 * MIB)\n"
        "    assert rung.wait(60)\n",
        env={"PYTHONWARNINGS": "error"},
    )
    assert [e["kind"] for e in facts(ledger)["events"]] == ["soft"] * 4


def test_a_callback_that_never_returns(on: str, program: Program, facts: Facts, ledger: Path) -> None:
    program(
        on + "from bursar import _bursar\n"
        "overtime, tell = threading.Event(), _bursar.tell\n"
        "def telling(kind, *rest):\n"
        "    tell(kind, *rest); overtime.set()\n"
        "_bursar.tell = telling\n"
        "calls = []\n"
        "def endless(scope):\n"
        "    calls.append(1)\n"
        "    while True: time.sleep(0.05)\n"
        "for _ in range(2):\n"
        "    with bursar.scope('load', soft='5 MiB', on_soft=endless): bytearray(6 * MIB)\n"
        "assert overtime.wait(60) and calls == [1]\n"
    )
    events = [e for e in facts(ledger)["events"] if e["kind"] == "overtime"]
    assert [(e["scope"], e["text"]) for e in events] == [("load", "on_soft, endless, runs for more than 1 s")]


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"hard": 0}, "hard=0 is no size"),
        ({"hard": -5}, "hard=-5 is no size"),
        ({"soft": 1 << 70}, "is no size"),
        ({"hard": "much"}, "hard='much' is no size"),
        ({"hard": "0 MiB"}, "is no size"),
        ({"hard": True}, "hard takes bytes"),
        ({"soft": 1.5}, "soft takes bytes"),
        ({"hard": 10, "soft": 20}, "soft=20 is above hard=10"),
        ({"on_soft": None, "soft": None, "hard": b"5"}, "hard takes bytes"),
    ],
)
def test_limits_that_are_none(program: Program, limits: dict[str, object], says: str) -> None:
    program(
        "import bursar\n"
        f"try: bursar.scope('load', **{limits!r})\n"
        f"except (TypeError, ValueError) as error: assert {says!r} in str(error), error\n"
        "else: raise SystemExit(1)\n"
        "for wrong in {'on_soft': print}, {'soft': 5, 'on_soft': 5}:\n"
        "    try: bursar.scope('load', **wrong)\n"
        "    except ValueError as error: assert 'on_soft takes' in str(error)\n"
        "    else: raise SystemExit(1)\n"
    )


def test_no_books_no_budget(program: Program) -> None:
    done = program(HEAD + "print(exceeded('load', lambda: bytearray(50 * MIB), hard='10 MiB')[0])\n", says=True)
    assert done.stdout == "None\n"
    assert "RuntimeWarning: the budget of scope 'load' is not held" in done.stderr


def test_after_stop_and_start(on: str, program: Program) -> None:
    """What refuses goes out with the books, and comes again with the first budget."""
    program(
        on + "with bursar.scope('open', hard='5 MiB'):\n"
        "    bursar.stop()\n"
        "    bytearray(50 * MIB)\n"
        "bursar.start('exact', output='second.bursar')\n"
        "bytearray(50 * MIB)\n"
        "assert exceeded('load', lambda: bytearray(50 * MIB), hard='10 MiB')[0]\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    bytearray(50 * MIB); os._exit(0)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n"
        "with bursar.scope('forks', hard='10 MiB'):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"  # a child keeps no books, so no budget
        "        bytearray(50 * MIB); os._exit(0)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n",
        env={"PYTHONWARNINGS": "ignore"},
    )


def test_a_scope_that_ended_is_nobodys(program: Program, ledger: Path) -> None:
    """A context variable that is reset allocates in the midst of that: an answer then stayed in its cache."""
    program(
        HEAD + f"bursar.start('exact', output={str(ledger)!r})\n"
        "import contextvars\n"
        "other = contextvars.ContextVar('other'); other.set(1)\n"  # without another one it does not
        "for turn in range(40_000):\n"
        "    with bursar.scope('load', hard='10 MiB'): pass\n",
        env={"PYTHONMALLOC": "debug"},  # what is freed is no object any more
    )


def test_requests(on: str, program: Program) -> None:
    """One in five is absurd: it fails alone, through ASGI and WSGI, and the others' answers are what they were."""
    program(
        on + "from bursar import asgi, wsgi\n"
        "def answer(path): return bytes(bytearray(100 * MIB if path == '/absurd' else MIB))[:2]\n"
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await asyncio.sleep(0)\n"
        "    await send({'type': 'http.response.body', 'body': answer(scope['path'])})\n"
        "wrapped = asgi.ScopeMiddleware(app, hard='10 MiB')\n"
        "async def ask(path):\n"
        "    sent = []\n"
        "    async def send(message): sent.append(message.get('body'))\n"
        "    try: await wrapped({'type': 'http', 'method': 'GET', 'path': path}, None, send)\n"
        "    except bursar.BudgetExceeded as error: return error.scope\n"
        "    return sent[1]\n"
        "paths = ['/', '/', '/absurd', '/', '/'] * 20\n"
        "async def all(): return await asyncio.gather(*map(ask, paths))\n"
        "expected = ['GET (no route)' if path == '/absurd' else b'\\0\\0' for path in paths]\n"
        "assert asyncio.run(all()) == expected\n"
        "plain = wsgi.ScopeMiddleware(lambda environ, start: [answer(environ['PATH_INFO'])], hard='10 MiB')\n"
        "def get(path):\n"
        "    try: return plain({'REQUEST_METHOD': 'GET', 'PATH_INFO': path}, None)[0]\n"
        "    except bursar.BudgetExceeded as error: return 'GET (no route)'\n"
        "assert list(map(get, paths)) == expected\n"
        "for kind in asgi, wsgi:\n"
        "    try: kind.ScopeMiddleware(None, hard='much')\n"
        "    except ValueError as error: assert 'no size' in str(error)\n"
        "    else: raise SystemExit(1)\n"
    )


def test_arrays_that_are_not_counted_are_told(on: str, program: Program) -> None:
    pytest.importorskip("numpy")
    done = program(
        on + "import warnings\n"
        "warnings.simplefilter('always')\n"
        "def work(): pass\n"
        "with warnings.catch_warnings(record=True) as before: exceeded('load', work, hard='20 MiB')\n"
        "import numpy\n"
        "with warnings.catch_warnings(record=True) as after:\n"
        "    for _ in range(1000): exceeded('load', work, hard='20 MiB')\n"
        "bursar.stop()\n"
        "bursar.start(domains='python,numpy')\n"
        "with warnings.catch_warnings(record=True) as counted: exceeded('load', work, hard='20 MiB')\n"
        "print(json.dumps([len(before), [str(w.message) for w in after], len(counted)]))\n"
    )
    before, after, counted = printed(done)
    assert before == counted == 0
    assert len(after) == 1 and after[0].startswith("budgets do not count NumPy's arrays: ")


def test_soft_wakes_the_governor(on: str, program: Program) -> None:
    """It collects everything at the next rest, though nothing else would have it do so."""
    program(
        on + "import weakref\n"
        "class Node: pass\n"
        "governor = bursar.governor(idle=1)  # without being asked it collects after twenty times that\n"
        "def work():\n"
        "    node = Node(); node.me = node; nodes.append(weakref.ref(node))\n"
        "    kept = bytearray(12 * MIB)\n"
        "nodes = []\n"
        "before = governor.full_collections\n"
        "exceeded('load', work, soft='10 MiB')\n"
        "end = time.monotonic() + 18\n"
        "while governor.full_collections == before and time.monotonic() < end: time.sleep(0.005)\n"
        "assert governor.full_collections > before and nodes[0]() is None\n"
    )


def test_a_scope_within_itself(on: str, program: Program) -> None:
    """Each entry has its own budget, which what is within counts in: the first that is too small refuses."""
    done = program(
        on + "@bursar.scope('deep', hard='20 MiB')\n"
        "def deep(n):\n"
        "    mine = bytearray(MIB // 10)\n"
        "    return deep(n - 1) + 1 if n else 0\n"
        "assert deep(150) == 150\n"
        "try: deep(250)\n"
        "except bursar.BudgetExceeded as error: told = error\n"
        "assert deep(150) == 150\n"
        "links = 0\n"
        "cause = told\n"
        "while cause.__cause__ is not None: cause, links = cause.__cause__, links + 1\n"
        "print(json.dumps([told.scope, told.limit, links, type(cause).__name__]))\n"
    )
    assert printed(done) == ["deep", 20 * MIB, 1, "MemoryError"]


@pytest.mark.parametrize("follow", [False, True])
def test_a_fork_within_a_scope(follow: bool, program: Program, ledger: Path) -> None:
    """A child that keeps books keeps new ones: the entry is its parent's, and is left there like any."""
    program(
        HEAD + f"bursar.start('exact', output={str(ledger)!r}, follow_fork={follow})\n"
        "with bursar.scope('load', hard='20 MiB') as s:\n"
        "    kept = bytearray(15 * MIB)\n"
        "    pid = os.fork()\n"
        "    if not pid: more = bytearray(30 * MIB)\n"
        "    else: assert os.waitpid(pid, 0)[1] == 0\n"
        "if not pid:\n"
        f"    error, _ = exceeded('child', lambda: bytearray(30 * MIB), hard='20 MiB') if {follow} else (True, 0)\n"
        "    os._exit(0 if error else 1)\n"
        "assert 15 * MIB <= s.peak < 16 * MIB\n"
        "error, _ = exceeded('load', lambda: bytearray(30 * MIB), hard='20 MiB')\n"
        "assert error\n"
    )


def test_torch_with_threads_of_its_own(on: str, program: Program) -> None:
    pytest.importorskip("torch")
    program(
        on.replace("output=", "domains='all', output=") + "import torch\n"
        "torch.set_num_threads(4)\n"
        "def work(n):\n"
        "    x, w = torch.ones(n, n), torch.ones(n, n, requires_grad=True)\n"
        "    (w @ x).relu().sum().backward()\n"
        "    assert w.grad[0, 0] == n\n"
        "work(500)\n"
        "for turn in range(30):\n"
        "    error, _ = exceeded('absurd', lambda: work(1500), hard='20 MiB')  # 9 MB each\n"
        "    assert isinstance(error.__cause__, RuntimeError) and error.held <= 20 * MIB\n"
        "    error, _ = exceeded('honest', lambda: work(500), hard='100 MiB')\n"
        "    assert error is None\n"
    )


@pytest.mark.parametrize("mode", ["exact", "sample", "count"])
def test_children_that_are_followed(bursar: Run, mode: str, ledger: Path, tmp_path: Path) -> None:
    """A worker that is forked has books, so it has budgets; grandchildren too."""
    (tmp_path / "program.py").write_text(
        HEAD + "def work(depth):\n"
        "    error, _ = exceeded('absurd', lambda: bytearray(50 * MIB), hard='10 MiB')\n"
        "    with bursar.scope('honest', hard='10 MiB') as s: kept = bytearray(5 * MIB)\n"
        "    assert error and 0 <= s.live - 5 * MIB < 10_000, (depth, error, s.live)\n"
        "def fork(depth):\n"
        "    pid = os.fork()\n"
        "    if pid: return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "    try:\n"
        "        work(depth)\n"
        "        os._exit(fork(depth + 1) if depth < 2 else 0)\n"
        "    except BaseException:\n"
        "        sys.excepthook(*sys.exc_info())\n"
        "        os._exit(1)\n"
        "work(0)\n"
        "sys.exit(fork(1))\n"
    )
    done = bursar("run", "--follow-fork", "--mode", mode, "-o", ledger, "program.py")
    assert done.returncode == 0, done.stderr
    assert len(list(ledger.parent.glob(f"{ledger.name}.*"))) == 2
