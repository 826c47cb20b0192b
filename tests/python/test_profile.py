"""profile: figures that are known beforehand, and all forms of functions."""

import json
import re

import pytest
from programs import ARENA_MAP, Program, program
from tables import FULL, HEAD, MIB, SIZE, TITLE, near, read_tables, tables, version

__all__ = ["program", "version"]
pytestmark = pytest.mark.core


# ---- figures ----


def test_lines_have_exact_increments(program: Program) -> None:
    done = program(
        HEAD + "@exact\n"
        "def work():\n"
        "    a = bytearray(10 * MIB)\n"
        "    b = bytearray(MIB)\n"
        "    c = 1\n"
        "    for i in range(3):\n"
        "        d = i\n"
        "    if c > 1:\n"
        "        never = 1\n"
        "    temporary = len(bytearray(5 * MIB))\n"
        "    del a\n"
        "    return b\n"
        "work(); work()\n"
    )
    _, table = tables(done)
    rows = table.rows
    assert table.texts[:3] == ["@exact", "def work():", "    a = bytearray(10 * MIB)"]
    assert rows["a = bytearray(10 * MIB)"][1:] == (10 * MIB + SIZE, 1)
    assert rows["b = bytearray(MIB)"][1:] == (MIB + SIZE, 1)
    assert rows["c = 1"][1:] == (0, 1)
    assert rows["for i in range(3):"][1:] == (0, 4)  # its iterator came and went
    assert rows["d = i"][1:] == (0, 3)
    assert rows["if c > 1:"][1:] == (0, 1)
    assert "never = 1" not in rows
    assert rows["temporary = len(bytearray(5 * MIB))"].times == 1
    assert 0 <= rows["temporary = len(bytearray(5 * MIB))"].increment <= 32  # the integer
    assert rows["del a"][1:] == (-10 * MIB - SIZE, 1)
    assert rows["return b"][1:] == (0, 1)
    first = rows["@exact"]
    assert first.increment == first.usage  # what was live before
    assert rows["a = bytearray(10 * MIB)"].usage == first.usage + 10 * MIB + SIZE
    assert sum(row.increment for row in rows.values()) == rows["return b"].usage


def test_lines_of_nested_functions_count(program: Program) -> None:
    done = program(
        HEAD + "@exact\n"
        "def work():\n"
        "    kept = []\n"
        "    def add(n):\n"
        "        if n: add(n - 1)\n"
        "        kept.append(bytearray(MIB))\n"
        "    add(3)\n"
        "    return kept\n"
        "work(); work()\n"
    )
    rows = tables(done)[1].rows
    assert rows["if n: add(n - 1)"].times == 4
    assert rows["kept.append(bytearray(MIB))"].times == 4
    assert 0 <= rows["kept.append(bytearray(MIB))"].increment - 4 * (MIB + SIZE) < 1000  # the list's room
    assert abs(rows["add(3)"].increment) < 1000


def test_recursion_prints_each_call(program: Program, version: tuple[int, ...]) -> None:
    done = program(
        HEAD + "@exact\n"
        "def down(n):\n"
        "    mine = bytearray(MIB)\n"
        "    if n:\n"
        "        down(n - 1)\n"
        "    del mine\n"
        "down(2); down(2)\n"
    )
    printed = tables(done)[3:]
    assert [table.rows["mine = bytearray(MIB)"][1:] for table in printed] == [
        (times * (MIB + SIZE), times) for times in (1, 2, 3)
    ]
    assert [table.rows["del mine"].increment for table in printed] == [-times * (MIB + SIZE) for times in (1, 2, 3)]
    assert near(version, printed[2].rows["down(n - 1)"].increment, 0)


def test_a_profiled_callee_costs_its_caller_nothing(program: Program, version: tuple[int, ...]) -> None:
    """The table that is printed in the caller's line, and all that goes with it, is not the caller's memory."""
    done = program(
        HEAD + "@exact\n"
        "def inner():\n"
        "    return bytearray(MIB)\n"
        "@exact\n"
        "def outer():\n"
        "    a = inner()\n"
        "    b = inner()\n"
        "    del a\n"
        "    return b\n"
        "outer(); outer()\n"
    )
    rows = tables(done)[5].rows
    for line in ("a = inner()", "b = inner()"):
        assert near(version, rows[line].increment, MIB + SIZE), line
    assert rows["del a"].increment == -MIB - SIZE


def test_another_code_is_its_callers_line(program: Program) -> None:
    done = program(
        HEAD + "def helper():\n"
        "    kept = bytearray(1048576)\n"
        "    gone = bytearray(7340032)\n"
        "    return kept\n"
        "@exact\n"
        "def work():\n"
        "    a = helper()\n"
        "    return a\n"
        "for _ in range(4): work()  # 3.14 keeps 128 bytes for each function at its second call\n"
    )
    table = tables(done)[3]
    assert table.rows["a = helper()"].increment == MIB + SIZE
    assert len(table.rows) == 3  # the helper's lines are not there


def test_memory_from_before_the_call_is_known_when_freed(program: Program) -> None:
    """The books open where the function is decorated, not at its first call."""
    done = program(
        HEAD + "@exact\n"
        "def work(box):\n"
        "    box['big'] = None\n"
        "    return 1\n"
        "box = {'big': bytearray(3 * MIB)}\n"
        "work(box)\n"
    )
    assert tables(done)[0].rows["box['big'] = None"].increment == -3 * MIB - SIZE


def test_garbage_that_is_collected_while_a_table_is_printed_is_the_callers(program: Program) -> None:
    """The collector runs in the profiler's own work, too, most of all there where calls are nested."""
    done = program(
        HEAD + "gc.enable(); gc.set_threshold(20)\n"
        "out = io.StringIO()\n"
        "@bursar.profile(stream=out)\n"
        "def inner():\n"
        "    cycle = [bytearray(50000)]\n"
        "    cycle.append(cycle)\n"
        "@exact\n"
        "def outer():\n"
        "    for i in range(500):\n"
        "        inner()\n"
        "    gc.collect()\n"
        "inner(); gc.collect()\n"
        "before = gc.get_stats()[0]['collections']\n"
        "outer()\n"
        "assert gc.get_stats()[0]['collections'] > before + 5\n"
        "assert gc.callbacks == []\n"
    )
    rows = tables(done)[0].rows
    grown = sum(row.increment for line, row in rows.items() if line != "@exact")
    assert min(abs(grown), abs(grown - ARENA_MAP)) < 50000


# ---- forms ----


def test_the_text_of_a_table(program: Program) -> None:
    done = program(
        "import bursar\n"
        "\n"
        "@bursar.profile\n"
        "def work():\n"
        "    a = [0] * (4 * 1024 * 1024)\n"
        "\n"
        "    for b in 1, 2, 3:\n"
        "        c = b\n"
        "    return a\n"
        "work()"  # no newline at the end
    )
    known = re.sub(r"\d+\.\d", lambda found: "0" if float(found[0]) < 32 else "S", done.stdout)
    filename = known.partition("\n")[0].removeprefix("Filename: ")
    assert filename.endswith("/program.py")
    table = f"""\
Filename: {filename}

Line #    Mem usage    Increment  Occurrences   Line Contents
=============================================================
     3        0 MiB        0 MiB           1   @bursar.profile
     4                                         def work():
     5       S MiB       S MiB           1       a = [0] * (4 * 1024 * 1024)
     6                                         
     7       S MiB        0 MiB           4       for b in 1, 2, 3:
     8       S MiB        0 MiB           3           c = b
     9       S MiB        0 MiB           1       return a


"""  # noqa: W291, W293
    assert re.sub(r" +(?=[0S] MiB)", " ", known) == re.sub(r" +(?=[0S] MiB)", " ", table)
    assert "  32.0 MiB     32.0 MiB           1       a = [0]" in done.stdout


def test_call_forms(program: Program) -> None:
    done = program(
        HEAD + "from bursar import profile\n"
        "def work(n):\n"
        "    'What it does.'\n"
        "    return n + 1\n"
        "def printed(decorated):\n"
        "    out = io.StringIO()\n"
        "    with contextlib.redirect_stdout(out): assert decorated(1) == 2\n"
        "    return out.getvalue()\n"
        "stream = io.StringIO()\n"
        "streamed = [profile(work, stream), profile(stream=stream)(work), profile(work, stream, 4, 'psutil')]\n"
        "assert [printed(one) for one in streamed] == [''] * 3\n"
        "plain = [profile(work), profile()(work), profile(precision=3)(work), profile(func=work, backend=None)]\n"
        "assert plain[0].__name__ == 'work' and plain[0].__doc__ == 'What it does.'\n"
        "assert plain[0].__wrapped__ is work\n"
        "print(json.dumps([stream.getvalue(), *map(printed, plain)]))\n"
    )
    stream, *plain = json.loads(done.stdout)
    assert [len(read_tables(text)) for text in (stream, *plain)] == [3, 1, 1, 1, 1]
    digits = [{len(number) for number in re.findall(r"\.(\d+) MiB", text)} for text in (stream, *plain)]
    assert digits == [{1, 4}, {1}, {1}, {3}, {1}]


@pytest.mark.parametrize("backend", ["psutil", "psutil_pss", "psutil_uss", "posix", "tracemalloc"])
def test_backends_are_accepted(program: Program, backend: str) -> None:
    done = program(
        HEAD + "@bursar.profile(backend=sys.argv[1])\n"
        "def work(): pass\n"
        "work()\n"
        "import tracemalloc\n"
        "assert not tracemalloc.is_tracing()\n",
        backend,
    )
    assert len(tables(done)) == 1


def test_an_unknown_backend(program: Program) -> None:
    done = program(HEAD + "try: bursar.profile(backend='other')\nexcept ValueError as error: print(error)\n")
    assert done.stdout == "profile() has no backend 'other': leave it out, the source is always bursar's books\n"


def test_methods(program: Program) -> None:
    done = program(
        HEAD + "class Model:\n"
        "    @bursar.profile\n"
        "    def fit(self, n): return self, n\n"
        "    @bursar.profile\n"
        "    @staticmethod\n"
        "    def load(n): return n\n"
        "    @staticmethod\n"
        "    @bursar.profile\n"
        "    def save(n): return n\n"
        "    @bursar.profile()\n"
        "    @classmethod\n"
        "    def make(cls, n): return cls, n\n"
        "    @property\n"
        "    @bursar.profile\n"
        "    def size(self): return 5\n"
        "    def plain(self, n): return self, n\n"
        "m = Model()\n"
        "assert m.fit(1) == (m, 1) and m.load(2) == Model.load(2) == 2 and m.save(3) == 3\n"
        "assert m.make(4) == Model.make(4) == (Model, 4) and m.size == 5\n"
        "assert bursar.profile(m.plain)(6) == (m, 6)\n"
    )
    assert [list(table.rows)[-1] for table in tables(done)] == [
        "def fit(self, n): return self, n", *["def load(n): return n"] * 2, "def save(n): return n",
        *["def make(cls, n): return cls, n"] * 2, "def size(self): return 5", "def plain(self, n): return self, n",
    ]  # fmt: skip


@pytest.mark.parametrize("thing", ["len", "functools.partial(len)", "int"])
def test_what_has_no_python_code_runs_without_a_table(program: Program, thing: str) -> None:
    done = program(
        HEAD + f"thing = {thing}\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    print(bursar.profile(thing)('1'), len(caught), caught[0].filename)\n"
        "    assert 'no Python code' in str(caught[0].message)\n"
    )
    assert re.fullmatch(r"1 1 .*program\.py\n", done.stdout)


def test_each_row_is_one_write(program: Program) -> None:
    """Streams that look at rows, as memory_profiler's LogFile does, get one a time."""
    done = program(
        HEAD + "class Stream:\n"
        "    writes = []\n"
        "    def write(self, text): self.writes.append(text)\n"
        "@bursar.profile(stream=Stream())\n"
        "def work():\n"
        "    a = 1\n"
        "work()\n"
        "print(json.dumps(Stream.writes))\n"
    )
    filename, title, rule, *rows, end = json.loads(done.stdout)
    assert filename.startswith("Filename: ") and filename.endswith("program.py\n\n")
    assert (title, rule, end) == (TITLE + "\n", "=" * len(TITLE) + "\n", "\n\n")
    assert [row[47:] for row in rows] == ["@bursar.profile(stream=Stream())\n", "def work():\n", "    a = 1\n"]


def test_code_without_a_file(program: Program) -> None:
    done = program(
        HEAD + "space = {'exact': exact, 'MIB': MIB}\n"
        "exec('@exact\\ndef work():\\n    a = bytearray(MIB)\\n    return a\\n', space)\n"
        "space['work'](); space['work']()\n"
    )
    lines = [line for line in done.stdout.split("\n") if "MiB" in line]
    assert "Filename: <string>" in done.stdout
    figures = [FULL.fullmatch(line) for line in lines[3:]]
    assert [(int(row[1]), row[5]) for row in figures if row] == [(1, ""), (3, ""), (4, "")]
    assert figures[1] and round(float(figures[1][3]) * MIB) == MIB + SIZE


# ---- generators and coroutines ----


def test_a_generator_is_charged_for_its_own_steps(program: Program) -> None:
    done = program(
        HEAD + "@exact\n"
        "def steps(n):\n"
        "    for i in range(n):\n"
        "        mine = bytearray(MIB)\n"
        "        got = yield i\n"
        "    return 'end'\n"
        "def drive():\n"
        "    kept, it = [], steps(3)\n"
        "    while True:\n"
        "        try: kept.append((next(it), bytearray(5 * MIB)))\n"
        "        except StopIteration as stop: return [i for i, _ in kept], stop.value\n"
        "drive()\n"
        "print(drive(), file=sys.stdout)\n"
    )
    assert "([0, 1, 2], 'end')" in done.stdout
    first, second = tables(done)
    rows = second.rows
    assert rows["mine = bytearray(MIB)"][1:] == (MIB + SIZE, 3)
    assert rows["got = yield i"][1:] == (0, 3)
    assert rows["return 'end'"].times == 1
    assert rows["return 'end'"].usage > 15 * MIB  # what is live is what is live


def test_generators_send_throw_and_close(program: Program) -> None:
    done = program(
        HEAD + "import inspect\n"
        "log = []\n"
        "@bursar.profile\n"
        "def steps():\n"
        "    while True:\n"
        "        try:\n"
        "            log.append((yield len(log)))\n"
        "        except KeyError as error:\n"
        "            log.append(error.args)\n"
        "        except GeneratorExit:\n"
        "            log.append('closed')\n"
        "            raise\n"
        "assert inspect.isgeneratorfunction(steps)\n"
        "it = steps()\n"
        "assert [next(it), it.send('a'), it.throw(KeyError('b')), next(it)] == [0, 1, 2, 3]\n"
        "it.close()\n"
        "assert log == ['a', ('b',), None, 'closed'], log\n"
        "other = steps()\n"
        "next(other)\n"
        "try: other.throw(ValueError)\n"
        "except ValueError: print('raised')\n"
        "unstarted = steps(); unstarted.close(); del unstarted\n"
        "abandoned = steps(); next(abandoned); del abandoned\n"
    )
    assert len(tables(done)) == 3  # closed, ended by an exception, abandoned
    rows = tables(done)[0].rows
    assert rows["log.append((yield len(log)))"].times >= 4  # 3.11 begins the line again after a throw
    assert rows["log.append(error.args)"].times == 1
    assert "raised" in done.stdout


def test_generators_that_run_in_turn(program: Program) -> None:
    done = program(
        HEAD + "@exact\n"
        "def steps(size):\n"
        "    kept = []\n"
        "    for i in range(3):\n"
        "        data = bytearray(size * MIB)\n"
        "        yield i\n"
        "for _ in (1, 2):\n"
        "    for pair in zip(steps(1), steps(2), strict=True): pass\n"
    )
    assert sorted(table.rows["data = bytearray(size * MIB)"].increment for table in tables(done)[2:]) == [
        MIB + SIZE, 2 * MIB + SIZE,
    ]  # fmt: skip


def test_coroutines_that_run_in_turn(program: Program) -> None:
    done = program(
        HEAD + "import inspect\n"
        "@exact\n"
        "async def work(n):\n"
        "    mine = bytearray(n * MIB)\n"
        "    await asyncio.sleep(0)\n"
        "    more = bytearray(10 * n * MIB)\n"
        "    await asyncio.sleep(0)\n"
        "    return n\n"
        "assert inspect.iscoroutinefunction(work)\n"
        "async def main(): return await asyncio.gather(work(1), work(2))\n"
        "asyncio.run(main())\n"
        "assert asyncio.run(main()) == [1, 2]\n"
    )
    for n, table in enumerate(tables(done)[2:], 1):
        rows = table.rows
        assert rows["mine = bytearray(n * MIB)"][1:] == (n * MIB + SIZE, 1)
        assert rows["more = bytearray(10 * n * MIB)"][1:] == (10 * n * MIB + SIZE, 1)
        assert abs(rows["await asyncio.sleep(0)"].increment) < 4000  # not the other's


def test_coroutines_that_fail_or_are_cancelled(program: Program) -> None:
    done = program(
        HEAD + "@bursar.profile\n"
        "async def fails():\n"
        "    await asyncio.sleep(0)\n"
        "    raise KeyError('mine')\n"
        "@bursar.profile\n"
        "async def waits():\n"
        "    try: await asyncio.Event().wait()\n"
        "    finally: cleaned.append(1)\n"
        "cleaned = []\n"
        "async def main():\n"
        "    try: await fails()\n"
        "    except KeyError as error: assert error.args == ('mine',)\n"
        "    task = asyncio.ensure_future(waits())\n"
        "    await asyncio.sleep(0)\n"
        "    task.cancel()\n"
        "    try: await task\n"
        "    except asyncio.CancelledError: cleaned.append(2)\n"
        "asyncio.run(main())\n"
        "assert cleaned == [1, 2]\n"
    )
    fails, waits = tables(done)
    assert fails.rows["raise KeyError('mine')"].times == 1
    assert waits.rows["finally: cleaned.append(1)"].times == 1


def test_asynchronous_generators(program: Program) -> None:
    done = program(
        HEAD + "import inspect\n"
        "log = []\n"
        "@exact\n"
        "async def steps(n):\n"
        "    for i in range(n):\n"
        "        mine = bytearray(MIB)\n"
        "        await asyncio.sleep(0)\n"
        "        try: log.append((yield i))\n"
        "        except KeyError: log.append('key')\n"
        "assert inspect.isasyncgenfunction(steps)\n"
        "async def main():\n"
        "    log.clear()\n"
        "    assert [i async for i in steps(3)] == [0, 1, 2]\n"
        "    it = steps(5)\n"
        "    assert [await it.__anext__(), await it.asend('a'), await it.athrow(KeyError())] == [0, 1, 2]\n"
        "    await it.aclose()\n"
        "    try: await it.__anext__()\n"
        "    except StopAsyncIteration: log.append('end')\n"
        "    assert log == [None, None, None, 'a', 'key', 'end'], log\n"
        "asyncio.run(main()); asyncio.run(main())\n"
    )
    whole, closed = tables(done)[2:]
    assert whole.rows["mine = bytearray(MIB)"][1:] == (MIB + SIZE, 3)
    assert closed.rows["mine = bytearray(MIB)"][1:] == (MIB + SIZE, 3)
    assert closed.rows["except KeyError: log.append('key')"].times >= 1


def test_generator_based_coroutines(program: Program) -> None:
    done = program(
        HEAD + "import types\n"
        "@bursar.profile\n"
        "@types.coroutine\n"
        "def pause():\n"
        "    yield\n"
        "    return 3\n"
        "async def main(): return await pause()\n"
        "assert asyncio.run(main()) == 3\n"
    )
    assert tables(done)[0].rows["return 3"].times == 1


# ---- exceptions ----


def test_an_exception_passes_and_the_table_is_printed(program: Program) -> None:
    done = program(
        HEAD + "@exact\n"
        "def fails():\n"
        "    a = bytearray(MIB)\n"
        "    def deep(n):\n"
        "        b = bytearray(MIB)\n"
        "        return deep(n - 1) if n else 1 / 0\n"
        "    try: deep(2)\n"
        "    except ZeroDivisionError: pass\n"
        "    c = bytearray(2 * MIB)\n"
        "    raise KeyError('mine')\n"
        "for _ in (1, 2):\n"
        "    try: fails()\n"
        "    except KeyError as error: assert error.args == ('mine',)\n"
        "assert sys.gettrace() is None\n"
    )
    rows = tables(done)[1].rows
    assert rows["a = bytearray(MIB)"][1:] == (MIB + SIZE, 1)
    assert rows["b = bytearray(MIB)"][1:] == (3 * (MIB + SIZE), 3)
    assert rows["c = bytearray(2 * MIB)"][1:] == (2 * MIB + SIZE, 1)
    assert rows["raise KeyError('mine')"].times == 1
    gone = sum(rows[line].increment for line in ("try: deep(2)", "except ZeroDivisionError: pass"))
    gone += rows["return deep(n - 1) if n else 1 / 0"].increment
    assert abs(gone + 3 * (MIB + SIZE)) < 4000  # the traceback kept them until the handler's end
