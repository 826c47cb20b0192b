"""profile among threads, trace functions and other tools: nobody is disturbed, and nothing is left behind."""

import json

import pytest
from conftest import Run
from programs import Program, program
from tables import HEAD, MIB, SIZE, Row, read_tables, tables, version

__all__ = ["program", "version"]
pytestmark = pytest.mark.core


# ---- threads ----


def test_threads_have_tables_of_their_own(program: Program) -> None:
    done = program(
        HEAD + "streams = [io.StringIO() for _ in range(4)]\n"
        "barrier = threading.Barrier(4)\n"
        "def work(n):\n"
        "    barrier.wait()\n"
        "    for i in range(100 * n):\n"
        "        data = i\n"
        "    barrier.wait()\n"
        "    return n\n"
        "def run(n): bursar.profile(work, streams[n])(n)\n"
        "threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(json.dumps([stream.getvalue() for stream in streams]))\n"
    )
    printed = [read_tables(text) for text in json.loads(done.stdout)]
    assert [len(one) for one in printed] == [1] * 4
    for n, (table,) in enumerate(printed):
        assert table.rows["for i in range(100 * n):"].times == 100 * n + 1
        assert table.rows["barrier.wait()"].times == 1 or n
        assert ("data = i" in table.rows) == (n > 0)
        if n:
            assert table.rows["data = i"].times == 100 * n


def test_a_thread_that_is_not_profiled_is_not_recorded(program: Program) -> None:
    done = program(
        HEAD + "def plain(n):\n"
        "    for i in range(n):\n"
        "        data = i\n"
        "exact_plain = bursar.profile(plain)\n"
        "def outer():\n"
        "    thread = threading.Thread(target=plain, args=(50,))\n"
        "    thread.start(); thread.join()\n"
        "decorated = bursar.profile(outer)\n"
        "stop = threading.Event()\n"
        "def spin():\n"
        "    while not stop.is_set(): plain(10)\n"
        "thread = threading.Thread(target=spin); thread.start()\n"
        "exact_plain(1000)\n"
        "stop.set(); thread.join()\n"
        "decorated()\n"
    )
    assert tables(done)[0].rows["data = i"].times == 1000


def test_threads_with_calls_in_calls_leave_nothing(program: Program) -> None:
    """Recursion, generators that are abandoned and exceptions, in threads that are switched as often as can be."""
    program(
        HEAD + "sys.setswitchinterval(1e-5)\n"
        "quiet = bursar.profile(stream=io.StringIO())\n"
        "@quiet\n"
        "def steps(n):\n"
        "    for i in range(n): yield bytearray(i)\n"
        "@quiet\n"
        "def down(n):\n"
        "    if n: down(n - 1)\n"
        "    return list(steps(3))\n"
        "@quiet\n"
        "def fails():\n"
        "    try: raise KeyError\n"
        "    finally: down(2)\n"
        "def work():\n"
        "    for _ in range(15):\n"
        "        with bursar.track():\n"
        "            try: fails()\n"
        "            except KeyError: ended.append(1)\n"
        "        next(steps(3))\n"
        "ended = []\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "from bursar import _books, _monitoring, _recording\n"
        "assert len(ended) == 60\n"
        "assert _recording.threads == {} and _books._state.borrowers == 0\n"
        "assert _monitoring._watches.codes == {} and _monitoring._watches.tool == -1\n"
    )


# ---- nothing is left behind, nobody is disturbed ----


def test_a_programs_own_trace_function_works(program: Program) -> None:
    """It sees the same events as without profile, and stays; a debugger or a coverage tool is one."""
    done = program(
        HEAD + "def work(n):\n"
        "    a = helper(n)\n"
        "    for i in range(2):\n"
        "        a += i\n"
        "    return a\n"
        "def helper(n):\n"
        "    return n\n"
        "def traced(function):\n"
        "    events = []\n"
        "    def tracer(frame, event, arg):\n"
        "        if frame.f_code not in (work.__code__, helper.__code__): return None\n"
        "        events.append((frame.f_code.co_name, event, frame.f_lineno))\n"
        "        return tracer\n"
        "    sys.settrace(tracer)\n"
        "    function(1)\n"
        "    still = sys.gettrace() is tracer\n"
        "    sys.settrace(None)\n"
        "    return events, still\n"
        "stream = io.StringIO()\n"
        "print(json.dumps([traced(work), traced(bursar.profile(work, stream)), stream.getvalue()]))\n"
    )
    plain, profiled, text = json.loads(done.stdout)
    assert len(plain[0]) > 10
    assert profiled == plain == [plain[0], True]
    assert read_tables(text)[0].rows["a += i"].times == 2


def test_a_trace_function_set_in_the_function_stays(program: Program) -> None:
    done = program(
        HEAD + "seen = []\n"
        "def tracer(frame, event, arg):\n"
        "    seen.append(frame.f_code.co_name)\n"
        "@bursar.profile\n"
        "def work():\n"
        "    sys.settrace(tracer)\n"
        "    helper()\n"
        "    return 1\n"
        "def helper(): pass\n"
        "work()\n"
        "assert sys.gettrace() is tracer\n"
        "sys.settrace(None)\n"
        "assert 'helper' in seen\n"
    )
    assert tables(done)[0].rows["helper()"].times == 1


def test_nothing_traces_afterwards(program: Program, version: tuple[int, ...]) -> None:
    done = program(
        HEAD + "@bursar.profile\n"
        "def work():\n"
        "    during.append(sys.gettrace())\n"
        "    if sys.version_info >= (3, 12):\n"
        "        during.append([sys.monitoring.get_tool(i) for i in range(6)].count('bursar.profile'))\n"
        "    threading.Thread(target=lambda: None).start()\n"
        "    yield 1\n"
        "    yield 2\n"
        "during = []\n"
        "list(work())\n"
        "abandoned = work(); next(abandoned); del abandoned\n"
        "assert sys.gettrace() is None and sys.getprofile() is None and threading._trace_hook is None\n"
        "if sys.version_info >= (3, 12):\n"
        "    assert during == [None, 1, None, 1], during\n"
        "    assert [sys.monitoring.get_tool(i) for i in range(6)] == [None] * 6\n"
        "    sys.monitoring.use_tool_id(4, 'test')\n"
        "    assert sys.monitoring.get_local_events(4, work.__wrapped__.__code__) == 0\n"
        "from bursar import _recording\n"
        "assert _recording.threads == {}\n"
        "print('done')\n"
    )
    assert done.stdout.endswith("done\n")


def test_other_tools_of_sys_monitoring(program: Program, version: tuple[int, ...]) -> None:
    if version < (3, 12):
        pytest.skip("sys.monitoring is of 3.12")
    done = program(
        HEAD + "lines = []\n"
        "def work():\n"
        "    a = 1\n"
        "    return a\n"
        "m = sys.monitoring\n"
        "for tool in range(6): m.use_tool_id(tool, f'other {tool}')\n"
        "m.register_callback(4, m.events.LINE, lambda code, line: lines.append(line))\n"
        "m.set_local_events(4, work.__code__, m.events.LINE)\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    assert bursar.profile(work)() == 1\n"
        "assert [str(one.message) for one in caught] == [\n"
        "    'profile() needs a tool id of sys.monitoring and all are taken: stop one of its users']\n"
        "assert len(lines) == 2\n"
        "m.free_tool_id(3)\n"
        "bursar.profile(work)(); work()\n"
        "assert len(lines) == 6 and m.get_tool(3) is None and m.get_tool(4) == 'other 4', lines\n"
    )
    assert len(tables(done)) == 1


def test_books_that_close_and_open_again(program: Program) -> None:
    done = program(
        HEAD + "from bursar._bursar import live_bytes\n"
        "@exact\n"
        "def work(stop):\n"
        "    a = bytearray(MIB)\n"
        "    if stop: bursar.stop()\n"
        "    b = bytearray(2 * MIB)\n"
        "    return b\n"
        "assert live_bytes() >= 0  # from the decoration on\n"
        "work(False); work(True)\n"
        "assert live_bytes() == -1\n"
        "work(False)\n"
    )
    whole, cut, again = (table.rows for table in tables(done))
    assert whole["b = bytearray(2 * MIB)"].increment == again["b = bytearray(2 * MIB)"].increment == 2 * MIB + SIZE
    assert cut["a = bytearray(MIB)"].increment == MIB + SIZE
    assert cut.get("b = bytearray(2 * MIB)", Row(0, 0, 0)).increment == 0


def test_books_that_cannot_be_opened(program: Program) -> None:
    done = program(
        "import bursar, warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    @bursar.profile\n"
        "    def work(): return 5\n"
        "    print(work(), len(caught), str(caught[0].message).startswith('profile() has no books to look at: '))\n",
        env={"BURSAR_DIR": "/proc/nowhere"},
    )
    assert done.stdout == "5 2 True\n"


def test_without_stdout(program: Program) -> None:
    program(HEAD + "@bursar.profile\ndef work(): return 5\nsys.stdout = None\nassert work() == 5\n")


def test_under_run(bursar: Run, tmp_path: object, ledger: object) -> None:
    script = f"{tmp_path}/script.py"
    with open(script, "w") as file:
        file.write(HEAD + "@exact\ndef work():\n    a = bytearray(MIB)\n    return a\nwork(); work()\n")
    done = bursar("run", "-o", str(ledger), script)
    assert done.returncode == 0, done.stderr
    assert tables(done)[1].rows["a = bytearray(MIB)"].increment == MIB + SIZE
