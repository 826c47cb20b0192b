"""scope(): figures that are known beforehand, wherever the scope goes: tasks, generators, threads, forks."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from programs import Program, printed
from programs import program as any_program
from running import Facts

__all__ = ["any_program"]
pytestmark = pytest.mark.core

# `one * n` makes one block of n + 33 bytes, and no constant of the compiler's.  Where figures are exact they are of the
# second of two runs, so that free lists and caches are warm.
HEAD = """\
import asyncio, bursar, contextvars, gc, json, os, sys, threading
gc.disable()
one = b"x"

def figures(s):
    return [s.live, s.peak, s.allocated, s.allocations, s.retained]
"""
ON = HEAD + "bursar.start('exact', output='test.bursar')\n"


@pytest.fixture(params=["exact", "sample", "count"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def program(any_program: Program, mode: str) -> Program:
    """All of these programs are to have the same figures in each mode."""

    def run(text: str, *arguments: object, **options: Any) -> Any:
        return any_program(text.replace("start('exact'", f"start('{mode}'"), *arguments, **options)

    return run


def size_of(mode: str, bytes_asked_for: int) -> int:
    """What a block is charged: in exact books what was asked for, in others what glibc's malloc gives for that."""
    return bytes_asked_for if mode == "exact" else (bytes_asked_for + 23) // 16 * 16 - 8


def by_name(facts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {scope["name"]: scope for scope in facts["scopes"]}


def test_known_blocks(program: Program, mode: str, facts: Facts, tmp_path: Path) -> None:
    small, large = size_of(mode, 1033), size_of(mode, 70033)
    done = program(
        ON + "def work():\n"
        "    with bursar.scope('work') as s:\n"
        "        early = one * 70000\n"
        "        del early\n"
        "        kept = one * 1000\n"
        "        inside = s.live, s.peak, s.allocated, s.allocations\n"
        "        none = s.retained\n"
        "    return s, kept, inside, none\n"
        "work()\n"
        "s, kept, inside, none = work()\n"
        "ended = figures(s)\n"
        "del kept\n"
        "print(json.dumps([s.name, inside, none, ended, figures(s), 0 < s.seconds < 100]))\n"
    )
    name, inside, none, ended, after, lasted = printed(done)
    assert (name, none, lasted) == ("work", None, True)
    assert inside[0] == small  # what is read of it is the next block
    assert inside[1] == large and small + large <= inside[2] < small + large + 200
    assert small <= ended[0] == ended[4] < small + 300 and ended[1] == large
    assert small + large <= ended[2] < small + large + 400  # the figures that were read inside are blocks, too
    assert after[0] == after[4] == ended[0] - small
    assert after[1:4] == ended[1:4]
    read = by_name(facts(tmp_path / "test.bursar"))["work"]
    assert (read["calls"], read["open"]) == (2, 0)
    assert read["live_bytes"] == read["retained_bytes"] < 1000
    assert read["peak_max_bytes"] >= read["peak_last_bytes"] == large
    assert 0.955 < read["peak_p50_bytes"] / large <= 1


def test_a_block_without_a_figure_read_in_it_is_exact(program: Program, mode: str) -> None:
    done = program(
        ON + "def work():\n"
        "    with bursar.scope('exact') as s:\n"
        "        kept = one * 1000\n"
        "    return s, kept\n"
        "work()\n"
        "s, kept = work()\n"
        "print(json.dumps(figures(s)))\n"
    )
    size = size_of(mode, 1033)
    assert printed(done) == [size, size, size, 1, size]


def test_nested_scopes(program: Program, facts: Facts, tmp_path: Path) -> None:
    """What is in the inner one is in the outer one, but for a scope of its own name: that is counted once by name."""
    done = program(
        ON + "def nest(depth):\n"
        "    with bursar.scope('nest') as s:\n"
        "        kept.append(one * 100000)\n"
        "        if depth: nest(depth - 1)\n"
        "    entries.append(s)\n"
        "kept, entries = [], []\n"
        "nest(4)\n"
        "with bursar.scope('outer') as outer:\n"
        "    a = one * 200000\n"
        "    with bursar.scope('inner') as inner:\n"
        "        b = one * 300000\n"
        "    c = one * 400000\n"
        "print(json.dumps([[s.live // 100000 for s in entries], outer.live // 100000, inner.live // 100000]))\n"
        "del b; kept.clear()\n"
        "print(json.dumps([[s.retained // 100000 for s in entries], outer.retained // 100000, inner.retained]))\n"
    )
    before, after = map(json.loads, done.stdout.splitlines())
    assert before == [[1, 2, 3, 4, 5], 9, 3]
    assert after == [[0] * 5, 6, 0]
    read = by_name(facts(tmp_path / "test.bursar"))
    assert read["nest"]["calls"] == 5
    assert read["nest"]["allocated_bytes"] // 100000 == 5  # and not 15
    assert read["nest"]["peak_max_bytes"] // 100000 == 5
    assert read["outer"]["live_bytes"] // 100000 == 6
    assert read["outer"]["allocated_bytes"] // 100000 == 9
    assert read["inner"]["allocated_bytes"] // 100000 == 3


def test_a_scope_without_books_has_no_figures(program: Program) -> None:
    done = program(
        HEAD + "with bursar.scope('early') as s:\n"
        "    bursar.start('exact', output='test.bursar')\n"
        "    kept = one * 100000\n"
        "    with bursar.scope('within') as within:\n"
        "        more = one * 200000\n"
        "    bursar.stop()\n"
        "    closed = figures(within)\n"
        "    with bursar.scope('late') as late: pass\n"
        "bursar.start('exact', output='other.bursar')\n"
        "print(json.dumps([figures(s), s.seconds, within.live, figures(late), repr(late)]))\n"
    )
    early, seconds, within, late, shown = printed(done)
    assert early == late == [None] * 5
    assert seconds is within is None
    assert shown == "<scope 'late': no figures>"


def test_where_sizes_are_not_known_scopes_have_no_figures(
    python: str, execute: Run, environment: dict[str, str], bursar: Any, facts: Facts, tmp_path: Path
) -> None:
    """Mode sample goes on under CPython's debug hooks, whose blocks malloc cannot be asked about."""
    text = (
        HEAD + "bursar.start('sample', output='test.bursar')\n"
        "with bursar.scope('s', events=True) as s: kept = one * 10_000_000\n"
        "print(json.dumps([*figures(s), s.seconds]))\n"
    )
    done = execute(python, "-c", text, env=environment | {"PYTHONMALLOC": "debug"})
    assert printed(done) == [None] * 6
    read = facts(tmp_path / "test.bursar")
    assert read["scopes"] == read["events"] == [] and read["notes"] == []
    shown = bursar("report", tmp_path / "test.bursar", "--view", "scopes").stdout
    assert "none was entered, or the sizes of blocks were not known" in shown


def test_errors_are_one_line(program: Program) -> None:
    done = program(
        ON + "def said(function, *args):\n"
        "    try: function(*args)\n"
        "    except (RuntimeError, TypeError, ValueError) as error: print(type(error).__name__, error)\n"
        "    else: print('nothing')\n"
        "leave = lambda s: s.__exit__(None, None, None)\n"
        "s = bursar.scope('s')\n"
        "said(leave, s)\n"
        "with s: said(s.__enter__)\n"
        "said(leave, s)\n"
        "said(s.__enter__)\n"
        "with bursar.scope('mine') as mine:\n"
        "    thread = threading.Thread(target=said, args=(leave, mine)); thread.start(); thread.join()\n"
        "said(bursar.scope, '')\n"
        "said(bursar.scope, 3)\n"
        "said(bursar.scope('x'), 3)\n"
        "said(mine.note, 3)\n"
        "print(mine.live)\n"
    )
    assert done.stdout.splitlines() == [
        "RuntimeError scope 's' was not entered: use it in a with statement",
        "RuntimeError scope 's' was entered before: make a new one for each entry",
        "RuntimeError scope 's' has ended already",
        "RuntimeError scope 's' was entered before: make a new one for each entry",
        "RuntimeError scope 'mine' was entered in another thread or task: leave it there",
        "ValueError a scope needs a name",
        done.stdout.splitlines()[6],
        "TypeError scope 'x' decorates functions, not 'int' objects",
        "TypeError note() takes a string",
        done.stdout.splitlines()[-1],
    ]
    assert done.stdout.splitlines()[6].startswith("TypeError scope() argument 1 must be str, not int")


def test_exceptions_pass_and_end_the_scope(program: Program) -> None:
    done = program(
        ON + "@bursar.scope('f')\n"
        "def fails(error): raise error\n"
        "error = KeyError('k')\n"
        "try: fails(error)\n"
        "except KeyError as caught: print(caught is error)\n"
        "with bursar.scope('after') as s: kept = one * 1000\n"
        "print(s.live)\n"
    )
    assert done.stdout.splitlines()[0] == "True"


def test_hundreds_of_tasks_each_in_its_own_scope(
    program: Program, mode: str, facts: Facts, tmp_path: Path
) -> None:
    done = program(
        ON + "async def task(i):\n"
        "    with bursar.scope(f'kind {i % 3}') as s:\n"
        "        a = one * (100000 + i)\n"
        "        await asyncio.sleep(0)\n"
        "        b = one * (200000 + i)\n"
        "        await asyncio.sleep(0)\n"
        "        del a\n"
        "        await asyncio.sleep(0)\n"
        "    return s, b\n"
        "async def main():\n"
        "    with bursar.scope('all') as s:\n"
        "        return s, await asyncio.gather(*(task(i) for i in range(300)))\n"
        "whole, results = asyncio.run(main())\n"
        "off = [s.retained - (200033 + i) for i, (s, b) in enumerate(results)]\n"
        "peaks = [s.peak - (300066 + 2 * i) for i, (s, b) in enumerate(results)]\n"
        "print(json.dumps([min(off), max(off), min(peaks), max(peaks),\n"
        "                  whole.live // 1000000, whole.peak // 1000000]))\n"
    )
    least, most, lowest, highest, live, peak = printed(done)
    more = 0 if mode == "exact" else 4096 * 2
    assert 0 <= least <= most < 5000 + more  # the loop's handles and futures, whoever's turn it is
    assert 0 <= lowest <= highest < 10000 + more
    pages = 0 if mode == "exact" else 2  # MB: what malloc maps are whole pages, and one more for its head
    assert 60 <= live <= 60 + pages and 80 <= peak <= 90 + pages
    read = by_name(facts(tmp_path / "test.bursar"))
    assert [read[f"kind {i}"]["calls"] for i in range(3)] == [100] * 3
    assert 90 <= sum(read[f"kind {i}"]["allocated_bytes"] for i in range(3)) // 1000000 <= 90 + pages


def test_decorated_coroutines(program: Program, facts: Facts, tmp_path: Path) -> None:
    done = program(
        ON + "import inspect\n"
            "@bursar.scope('fetch', events=True)\n"
        "async def fetch(n):\n"
        "    'Doc.'\n"
        "    kept = one * n\n"
        "    await asyncio.sleep(0)\n"
        "    return kept\n"
        "async def main(): return await asyncio.gather(fetch(100000), fetch(200000))\n"
        "kept = asyncio.run(main())\n"
        "print(inspect.iscoroutinefunction(fetch), fetch.__name__, fetch.__doc__)\n"
        "c = fetch(1000); c.send(None)\n"
        "del c\n"  # never finished
        "elsewhere = contextvars.copy_context(); c = fetch(1000); elsewhere.run(c.send, None)\n"
        "del c, elsewhere; gc.collect()\n"  # in another context than its own
        "with bursar.scope('after') as s: more = one * 900000\n"
        "never = fetch(1000); never.close()\n"
    )
    assert done.stdout == "True fetch Doc.\n"
    read = facts(tmp_path / "test.bursar")
    fetch = by_name(read)["fetch"]
    assert (fetch["calls"], fetch["open"], fetch["live_bytes"] // 100000) == (4, 0, 3)
    assert [event["bytes"] // 100000 for event in read["events"] if event["kind"] == "ended"] == [1, 2, 0, 0]
    assert by_name(read)["after"]["live_bytes"] // 100000 == 9


def test_generators_leave_their_scope_while_they_wait(program: Program, facts: Facts, tmp_path: Path) -> None:
    done = program(
        ON + "@bursar.scope('rows')\n"
        "def rows(n):\n"
        "    total = 0\n"
        "    with bursar.scope('inner'):\n"
        "        while n:\n"
        "            try: n = yield one * n\n"
        "            except KeyError: n = yield one * 300000\n"
        "    return 'end'\n"
        "def all():\n"
        "    said = yield from rows(100000)\n"
        "    print(said)\n"
        "with bursar.scope('caller') as caller:\n"
        "    g = all()\n"
        "    got = [next(g)]; mine = one * 10000000\n"
        "    got.append(g.send(200000)); mine2 = one * 20000000\n"
        "    got.append(g.throw(KeyError('k')))\n"
        "    try: g.send(0)\n"
        "    except StopIteration: pass\n"
        "    left = rows(400000); got.append(next(left))\n"
        "print(json.dumps([caller.live // 100000]))\n"
        "del left, got[1:]\n"
        "with bursar.scope('outside') as outside: more = one * 500000\n"
        "print(json.dumps([caller.live // 100000, outside.live // 100000]))\n"
        "closed = rows(1); next(closed); closed.close(); rows(1)\n"
    )
    assert done.stdout.splitlines() == ["end", "[310]", "[301, 5]"]
    read = by_name(facts(tmp_path / "test.bursar"))
    assert (read["rows"]["calls"], read["rows"]["open"], read["rows"]["live_bytes"] // 100000) == (3, 0, 1)
    assert read["rows"]["allocated_bytes"] // 100000 == 10
    assert read["inner"]["allocated_bytes"] // 100000 == 10  # after each yield it is in there again
    assert read["inner"]["calls"] == 3


def test_asynchronous_generators(program: Program, facts: Facts, tmp_path: Path) -> None:
    done = program(
        ON + "@bursar.scope('pages')\n"
        "async def pages(n):\n"
        "    try:\n"
        "        while True:\n"
        "            await asyncio.sleep(0)\n"
        "            try: n = (yield one * n) or n\n"
        "            except KeyError: yield one * 300000\n"
        "    finally:\n"
        "        await asyncio.sleep(0); print('closed')\n"
        "async def main():\n"
        "    with bursar.scope('caller') as caller:\n"
        "        g = pages(100000); got = []\n"
        "        got.append(await g.__anext__()); mine = one * 10000000\n"
        "        got.append(await g.asend(200000)); mine2 = one * 20000000\n"
        "        got.append(await g.athrow(KeyError('k')))\n"
        "        await g.aclose()\n"
        "        async for page in pages(400000): break\n"
        "        got.append(page)\n"
        "        for _ in range(9): await asyncio.sleep(0)\n"  # the loop closes the one that was left
        "        print(caller.live // 100000)\n"
        "    del caller\n"
        "    return got\n"
        "got = asyncio.run(main())\n"
        "with bursar.scope('outside') as outside: more = one * 500000\n"
        "print(outside.live // 100000)\n"
    )
    assert sorted(done.stdout.split()) == ["310", "5", "closed", "closed"]
    read = by_name(facts(tmp_path / "test.bursar"))
    assert (read["pages"]["calls"], read["pages"]["open"]) == (2, 0)
    assert read["pages"]["live_bytes"] // 100000 == 10
    assert read["caller"]["live_bytes"] // 100000 in (10, 310)


def test_decorated_methods(program: Program, facts: Facts, tmp_path: Path) -> None:
    program(
        ON + "class A:\n"
        "    @bursar.scope('method')\n"
        "    def method(self, n): return one * n\n"
        "    @bursar.scope('static')\n"
        "    @staticmethod\n"
        "    def static(n): return one * n\n"
        "    @bursar.scope('class')\n"
        "    @classmethod\n"
        "    def classmethod(cls, n): return one * n\n"
        "kept = A().method(100000), A.static(200000), A().static(200000), A.classmethod(300000)\n"
    )
    read = by_name(facts(tmp_path / "test.bursar"))
    assert [read[name]["live_bytes"] // 100000 for name in ("method", "static", "class")] == [1, 4, 3]
    assert [read[name]["calls"] for name in ("method", "static", "class")] == [1, 2, 1]


def test_threads_have_scopes_of_their_own_unless_they_are_carried(program: Program) -> None:
    done = program(
        ON + "from concurrent.futures import ThreadPoolExecutor\n"
        "def make(n): return one * n\n"
        "async def main():\n"
        "    with bursar.scope('task') as s:\n"
        "        loop = asyncio.get_running_loop()\n"
        "        kept = [await asyncio.to_thread(make, 100000), await loop.run_in_executor(None, make, 1000000),\n"
        "                await loop.run_in_executor(None, bursar.carry(make), 200000)]\n"
        "    return s.retained // 100000, kept\n"
        "first, kept = asyncio.run(main())\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    with bursar.scope('pool') as s:\n"
        "        plain = pool.submit(make, 1000000).result()\n"
        "        carried = list(pool.map(bursar.carry(make), [100000] * 20))\n"
        "    second = s.retained // 100000\n"
        "    def work(n):\n"
        "        with bursar.scope('thread') as s: kept = one * n\n"
        "        return s.retained // 100000, kept\n"
        "    own = [n for n, kept in pool.map(work, [i * 100000 for i in range(8)])]\n"
        "print(json.dumps([first, second, own, bursar.carry(make).__name__]))\n"
    )
    assert printed(done) == [3, 20, list(range(8)), "make"]


def test_a_task_that_outlives_its_scope_is_charged_to_the_one_around(program: Program) -> None:
    done = program(
        ON + "async def later():\n"
        "    await asyncio.sleep(0); await asyncio.sleep(0)\n"
        "    kept.append(one * 500000)\n"
        "kept = []\n"
        "async def main():\n"
        "    with bursar.scope('outer') as outer:\n"
        "        with bursar.scope('inner') as inner:\n"
        "            task = asyncio.ensure_future(later())\n"
        "        await task\n"
        "    return inner.retained // 100000, outer.retained // 100000\n"
        "print(json.dumps(asyncio.run(main())))\n"
    )
    assert printed(done) == [0, 5]


def test_a_forked_child_leaves_quietly_and_knows_nothing(program: Program, facts: Facts, tmp_path: Path) -> None:
    done = program(
        ON + "with bursar.scope('s') as s:\n"
        "    kept = one * 100000\n"
        "    read, write = os.pipe()\n"
        "    pid = os.fork()\n"
        "    if not pid: more = one * 900000\n"
        "if not pid:\n"
        "    with bursar.scope('child') as t: much = one * 100000\n"
        "    os.write(write, json.dumps([figures(s), figures(t)]).encode()); os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "print(os.read(read, 10000).decode())\n"
    )
    inherited, own = printed(done)
    assert own == [None] * 5
    assert inherited[0] in (None, 0) or inherited == [None] * 5
    read = by_name(facts(tmp_path / "test.bursar"))
    assert list(read) == ["s"] and read["s"]["live_bytes"] // 100000 == 1


def test_ten_thousand_names_are_folded_and_counted(program: Program, facts: Facts, tmp_path: Path) -> None:
    program(
        ON + "kept = []\n"
        "for i in range(10000):\n"
        "    with bursar.scope(f'name {i}'): kept.append(one * 1000)\n"
    )
    read = facts(tmp_path / "test.bursar")
    names = by_name(read)
    assert 1000 < len(names) < 10000
    assert read["folded_scopes"] == 10000 - (len(names) - 1)
    assert sum(scope["calls"] for scope in names.values()) == 10000
    assert sum(scope["live_bytes"] for scope in names.values()) >= 10000 * 1033
    assert names["(other scopes)"]["calls"] == read["folded_scopes"]


def test_more_retained_entries_than_slots(program: Program, mode: str, facts: Facts, tmp_path: Path) -> None:
    program(
        ON + "kept = []\n"
        "for i in range(60000):\n"
        "    with bursar.scope('leak' if i % 3 else 'other'): kept.append(one * 1000)\n"
        "del kept[:30000]\n"
    )
    read = facts(tmp_path / "test.bursar")
    names = by_name(read)
    assert read["folded_scopes"] > 10000 and read["notes"] == []
    assert [names[name]["calls"] for name in ("leak", "other")] == [40000, 20000]
    size = size_of(mode, 1033)
    for name, count in (("leak", 20000), ("other", 10000)):
        assert 0 <= names[name]["live_bytes"] - count * size < 200 * size  # and the list's own growth
        assert names[name]["retained_bytes"] == names[name]["live_bytes"]
        assert names[name]["allocated_bytes"] >= 2 * count * size


def test_a_program_that_goes_on_is_read_without_a_complaint(
    python: str, environment: dict[str, str], facts: Facts, tmp_path: Path
) -> None:
    text = (
        ON + "def f(depth):\n"
        "    with bursar.scope(f'name {depth}', events=True) as s:\n"
        "        kept = [one * 1000 for _ in range(20)]\n"
        "        s.note('text ' * depth)\n"
        "        if depth: f(depth - 1)\n"
        "print('here', flush=True)\n"
        "while True: f(6)\n"
    )
    running = subprocess.Popen(
        [python, "-c", text], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with running:
        try:
            assert running.stdout and running.stdout.readline() == "here\n"
            lost = 0
            for _ in range(20):
                read = facts(tmp_path / "test.bursar")
                assert read["state"] == "running" and read["notes"] == []
                times = [event["time_s"] for event in read["events"]]
                assert times == sorted(times)
                assert all(scope["live_bytes"] < 10**6 and scope["open"] < 3 for scope in read["scopes"])
                lost = read["lost_events"]
        finally:
            running.kill()
    read = facts(tmp_path / "test.bursar")
    assert read["state"] == "killed" and read["notes"] == []
    assert {scope["name"] for scope in read["scopes"]} == {f"name {i}" for i in range(7)}
    assert lost > 0 and len(read["events"]) > 1000


def test_notes_and_events(program: Program, facts: Facts, tmp_path: Path) -> None:
    program(
        ON + "with bursar.scope('load', events=True) as s:\n"
        "    a = one * 100000\n"
        "    s.note('half')\n"
        "    b = one * 200000\n"
        "    del a\n"
        "with bursar.scope('quiet') as s: s.note('\\x1b[2J\\u00e9')\n"
    )
    events = facts(tmp_path / "test.bursar")["events"]
    assert [(e["kind"], e["scope"], e["bytes"] // 100000, e["text"]) for e in events] == [
        ("began", "load", 0, None),
        ("note", "load", 1, "half"),
        ("ended", "load", 3, None),
        ("note", "quiet", 0, "\x1b[2J\u00e9"),
    ]
    assert [e["time_s"] for e in events] == sorted(e["time_s"] for e in events)


def test_what_is_told_of_a_scope_and_of_the_process(program: Program, facts: Facts, tmp_path: Path) -> None:
    program(
        ON + "from bursar import _bursar\n"
        "assert _bursar.tell('reclaimed', None, 5 << 20, '')\n"  # before any scope has a name
        "with bursar.scope('load'): pass\n"
        "_bursar.tell('left open', 'load', 0, 'a file')\n"
        "for wrong in [('nothing', None), ('soft', 3)]:\n"
        "    try: _bursar.tell(*wrong, 0, '')\n"
        "    except ValueError: pass\n"
        "    else: raise SystemExit(1)\n"
        "bursar.stop()\n"
        "assert not _bursar.tell('soft', 'load', 0, '')\n"
    )
    events = facts(tmp_path / "test.bursar")["events"]
    assert [(e["kind"], e["scope"], e["bytes"], e["text"]) for e in events] == [
        ("reclaimed", "(process)", 5 << 20, None),
        ("left open", "load", 0, "a file"),
    ]


def test_the_views_of_a_program(program: Program, mode: str, bursar: Any, facts: Facts, tmp_path: Path) -> None:
    program(
        ON + "with bursar.scope('GET /\\x1b[31m', events=True) as s:\n"
        "    kept = one * 1000000\n"
        "    s.note('done')\n"
    )
    done = bursar("report", tmp_path / "test.bursar", "--view", "scopes")
    assert "GET /\\x1b[31m" in done.stdout and "\x1b" not in done.stdout
    assert ("977 KiB" if mode == "exact" else "980 KiB") in done.stdout  # malloc has whole pages for it
    done = bursar("report", tmp_path / "test.bursar", "--view", "events")
    assert [line.split()[1] for line in done.stdout.splitlines()[-3:]] == ["began", "note", "ended"]
    done = bursar("report", tmp_path / "test.bursar", "--view", "scopes", "--at", "peak")
    assert done.returncode == 2 and "leave --at out" in done.stderr
    assert "scopes (by request" in bursar("report", "--help").stdout
    unit = "requested" if mode == "exact" else "usable"
    assert f"in {unit} bytes\n" in bursar("report", tmp_path / "test.bursar", "--view", "scopes").stdout
    assert facts(tmp_path / "test.bursar")["scopes_unit"] == unit


def test_a_running_program_is_read(under_way: Any, facts: Facts, program: Program, tmp_path: Path) -> None:
    """Its open entries are told, and last until now."""
    program(
        ON + "import subprocess\n"
        "with bursar.scope('open'):\n"
        "    kept = one * 5000000\n"
        "    command = os.path.join(os.path.dirname(sys.executable), 'bursar')\n"
        "    done = subprocess.run([command, 'report', 'test.bursar', '--format', 'json'], capture_output=True)\n"
        "    scope = json.loads(done.stdout)['scopes'][0]\n"
        "    assert scope['name'] == 'open' and scope['open'] == 1 and scope['calls'] == 0, scope\n"
        "    assert scope['live_bytes'] // 1000000 == 5 and scope['retained_bytes'] == 0, scope\n"
        "    assert scope['peak_last_bytes'] is scope['peak_p50_bytes'] is None, scope\n"
        "    assert scope['peak_max_bytes'] >= 5000033 and 0 < scope['seconds'] < 100, scope\n"
    )


def test_a_subinterpreter_counts_nothing_and_fails_nothing(program: Program) -> None:
    done = program(
        ON + "try: import _interpreters as interpreters\n"
        "except ImportError: import _xxsubinterpreters as interpreters\n"
        "code = '''\n"
        "import bursar\n"
        "@bursar.scope('g')\n"
        "def g(): yield 1\n"
        "with bursar.scope('sub') as s: kept = bytes(100000)\n"
        "assert s.live is None and list(g()) == [1]\n"
        "'''\n"
        "with bursar.scope('main') as s:\n"
        "    sub = interpreters.create()\n"
        "    failed = interpreters.run_string(sub, code)\n"
        "    assert not failed, failed\n"
        "    interpreters.destroy(sub)\n"
        "print('fine')\n"
    )
    assert done.stdout == "fine\n"


def test_greenlets_have_scopes_of_their_own(program: Program) -> None:
    pytest.importorskip("greenlet")
    done = program(
        ON + "from greenlet import greenlet, getcurrent\n"
        "kept = []\n"
        "def work(n):\n"
        "    with bursar.scope('green') as s:\n"
        "        for _ in range(4):\n"
        "            kept.append(one * n); getcurrent().parent.switch()\n"
        "    return s.live // 100000\n"
        "all = [greenlet(work) for _ in range(5)]\n"
        "with bursar.scope('main') as s:\n"
        "    for _ in range(4):\n"
        "        for i, g in enumerate(all): g.switch((i + 1) * 100000) if not g else g.switch()\n"
        "    mine = one * 100000\n"
        "print(json.dumps([[g.switch() for g in all], s.live // 100000]))\n"
    )
    assert printed(done)[0] == [4, 8, 12, 16, 20]
