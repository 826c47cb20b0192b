"""Verdicts on real programs: each kind of leak is told in time and by its line, and what is none is not."""

import json
import random
import re
from pathlib import Path

import pytest
from programs import Program, printed, program
from running import Run

__all__ = ["program"]

HEAD = """\
import bursar, collections, functools, gc, json, socket, sqlite3, sys, threading
mode = sys.argv[1]
bursar.start(mode, output="test.bursar", domains="python,numpy,malloc")
kept, table, number = [], {}, 0
class Node: pass

def verdict(name="predict"):
    found = bursar.verdict(name)
    return {**found.__dict__, "sites": [site.__dict__ for site in found.sites], "text": str(found)}

def enter(function, calls, name="predict"):
    for _ in range(calls):
        with bursar.scope(name):
            function()
"""
MODES = ["exact", "sample", "count"]
BYTES = {
    "list": "kept.append('y' * 150 + str(number))",
    "dict": "table[number] = 'y' * 100 + str(number)",
    "cycle": "a, b = Node(), Node(); a.b, b.a = b, a; kept.append(a)",
    "lru_cache": "cached(number)",
    "sqlite": "kept.append(sqlite3.connect(':memory:'))",
}
DESCRIPTORS = {"file": "kept.append(open('/dev/null'))", "socket": "kept.append(socket.socket())"}
LEAK = """
def cached(number): return 'y' * 150 + str(number)
cached = functools.lru_cache(maxsize=None)(cached)
def predict():
    global number
    number += 1
    temporary = [str(i) for i in range(20)]
    {line}  # here
enter(predict, 1000)
at_1000 = verdict()
enter(predict, 330)
print(json.dumps([at_1000, verdict()]))
"""


def line_of(text: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if "# here" in line)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [*BYTES, *DESCRIPTORS])
def test_a_leak_of_each_kind_is_told_within_1000_calls_and_its_line_within_300_more(
    program: Program, tmp_path: Path, kind: str, mode: str
) -> None:
    text = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n" + HEAD
    text += LEAK.replace("{line}", (BYTES | DESCRIPTORS)[kind])
    at_1000, later = printed(program(text, mode))
    assert at_1000["leaks"] is True, at_1000["text"]
    assert 500 <= at_1000["alarm_calls"] <= 1000
    assert (later["leaks"], later["calls"]) == (True, 1330)
    if kind in DESCRIPTORS:
        assert later["descriptors_per_call"] == pytest.approx(1, abs=0.1)
    else:
        assert 100 < later["lower"] <= later["bytes_per_call"] <= later["upper"]
    first = later["sites"][0]
    if kind == "lru_cache":
        assert first["function"] == "cached"
    else:
        assert (first["file"], first["line"]) == (str(tmp_path / "program.py"), line_of(text))
    assert first["calls"] >= 250 and first["stack"][-1]["function"] == "<module>"


@pytest.mark.parametrize("mode", MODES)
def test_a_leak_of_c_code_is_told_by_the_line_that_called_it(bursar: Run, tmp_path: Path, mode: str) -> None:
    (tmp_path / "leaky.py").write_text(
        "import bursar, ctypes\nlibc = ctypes.CDLL(None)\nlibc.malloc.restype = ctypes.c_void_p\n"
        "def predict():\n    libc.malloc(200)\n"
        "for _ in range(1330):\n    with bursar.scope('predict'): predict()\n"
    )
    run = bursar("run", "--mode", mode, "--domains", "all", "-o", "c.bursar", "leaky.py")
    assert run.returncode == 0, run.stderr
    done = bursar("verdict", "c.bursar", "predict", "--format", "json")
    facts = json.loads(done.stdout)
    assert (done.returncode, done.stderr, facts["leaks"]) == (1, "", True)
    assert facts["bytes_per_call"] == pytest.approx(200, rel=0.1) and facts["alarm_calls"] <= 1000
    assert facts["sites"][0]["stack"][0]["line"] == 5 and facts["sites"][0]["domain"] == "malloc"


@pytest.mark.parametrize("library", ["None", "'libc.so.6'"])
@pytest.mark.parametrize("way", ["run", "start"])
def test_what_ctypes_calls_by_name_is_seen(
    bursar: Run, python: str, execute: Run, tmp_path: Path, way: str, library: str
) -> None:
    """Through the program and through the C library itself, whose malloc stands before no hook."""
    start = "bursar.start('sample', output='c.bursar', domains='all')\n" if way == "start" else ""
    (tmp_path / "leaky.py").write_text(
        f"import bursar\n{start}import ctypes\nlibc = ctypes.CDLL({library})\nlibc.malloc.restype = ctypes.c_void_p\n"
        "libc.free.argtypes = [ctypes.c_void_p]\n"
        "def predict():\n    libc.free(libc.malloc(500))\n    libc.malloc(200)\n"
        "for _ in range(1330):\n    with bursar.scope('predict'): predict()\n"
    )
    run = (
        bursar("run", "--domains", "all", "-o", "c.bursar", "leaky.py") if way == "run" else execute(python, "leaky.py")
    )
    assert run.returncode == 0, run.stderr
    facts = json.loads(bursar("verdict", "c.bursar", "predict", "--format", "json").stdout)
    assert facts["leaks"] is True and facts["bytes_per_call"] == pytest.approx(200, rel=0.1)
    line = next(
        n
        for n, text in enumerate((tmp_path / "leaky.py").read_text().splitlines(), 1)
        if text == "    libc.malloc(200)"
    )
    assert facts["sites"][0]["stack"][0]["line"] == line


CLEAN = """
import random
random.seed(int(sys.argv[2]))
def blob(size): return bytes(int(random.lognormvariate(0, 0.5) * size) + 40)
def nothing():
    return lambda i: [str(k) for k in range(20)]
def cache():
    full, held = random.choice([10, 128, 290]), {}
    return lambda i: held.setdefault(i % full, b"") or held.update({i % full: blob(1000)})
def bounded():
    cached = functools.lru_cache(maxsize=random.choice([8, 32, 128]))(lambda key: blob(1000))
    return lambda i: cached(random.randrange(random.choice([200, 1000])))
def load_changes():
    size, held = random.choice([32, 128]), collections.OrderedDict()
    def call(i):
        held[i] = blob(5000 if i > 1000 else 500)
        if len(held) > size: held.popitem(last=False)
    return call
def garbage():
    def call(i):
        a, b = Node(), Node()
        a.b, b.a, a.x = b, a, bytes(200)
    return call
def fragments():
    pool = [None] * 200
    def call(i):
        for _ in range(10): pool[random.randrange(200)] = bytes(random.choice([30, 400, 600, 3000]))
    return call
def flushed():
    every, held = random.randrange(10, 240), []
    def call(i):
        held.append(bytes(300))
        if len(held) >= every: held.clear()
    return call
def results():
    last = collections.deque(maxlen=16)
    return lambda i: last.append([bytes(100) for _ in range(random.randrange(50))])
kinds = [nothing, cache, bounded, load_changes, garbage, fragments, flushed, results]
calls = {f"{kind.__name__} {n}": kind() for n in range(int(sys.argv[3])) for kind in kinds}
def turn(names):
    for i in range(2000):
        for name in names:
            with bursar.scope(name):
                calls[name](i)
names, threads = list(calls), int(sys.argv[4])
workers = [threading.Thread(target=turn, args=(names[k::threads],)) for k in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
print(json.dumps({name: verdict(name)["leaks"] for name in calls}))
"""


def alarms(bursar: Run) -> list[str]:
    report = bursar("report", "test.bursar", "--view", "events", "--format", "json")
    events = json.loads(report.stdout)["events"]
    return [f"{event['scope']} {event['text']}" for event in events if event["kind"] == "verdict"]


def clean(program: Program, bursar: Run, mode: str, seed: int, each: int, threads: int) -> list[str]:
    done = printed(program(HEAD + CLEAN, mode, seed, each, threads))
    assert all(done[f"nothing {n}"] is False for n in range(each))
    return [f"{name} leaks" for name in done if done[name]] + alarms(bursar)


@pytest.mark.parametrize(("mode", "threads"), [("exact", 1), ("sample", 1), ("sample", 4), ("count", 1)])
def test_clean_scopes_raise_no_alarm(program: Program, bursar: Run, mode: str, threads: int) -> None:
    assert clean(program, bursar, mode, seed=threads, each=3, threads=threads) == []


@pytest.mark.check
def test_at_most_four_false_alarms_in_a_thousand_clean_scopes(program: Program, bursar: Run, tmp_path: Path) -> None:
    rng, said = random.Random(3), []
    for n in range(10):
        said += clean(program, bursar, MODES[n % 3], seed=rng.randrange(10**6), each=13, threads=1 + n % 2 * 3)
        (tmp_path / "test.bursar").unlink()
    assert len(said) <= 4, said


@pytest.mark.parametrize("mode", MODES)
def test_garbage_is_no_leak(program: Program, bursar: Run, mode: str) -> None:
    done = program(
        HEAD + "gc.set_threshold(10**6)\n"
        "def predict():\n    a, b = Node(), Node()\n    a.b, b.a, a.x = b, a, bytes(200)\n"
        "enter(predict, 1500)\nprint(json.dumps(verdict()))\n",
        mode,
    )
    found = printed(done)
    assert (found["leaks"], found["cycles"]) == (False, True)
    assert "uncollected cycles" in found["text"] and alarms(bursar) == []


def test_a_leak_of_garbage_that_nobody_may_collect_says_so(program: Program) -> None:
    """Whoever switched the collector off wants no collection."""
    done = program(
        HEAD + "gc.disable()\n"
        "def predict():\n    a, b = Node(), Node()\n    a.b, b.a, a.x = b, a, bytes(200)\n"
        "enter(predict, 1500)\nprint(json.dumps([verdict(), gc.get_stats()[2]['collections']]))\n",
        "exact",
    )
    found, collections = printed(done)
    assert (found["leaks"], found["unchecked"], collections) == (True, True, 0)


def test_an_alarm_is_withdrawn_when_growth_stops(program: Program, bursar: Run) -> None:
    done = program(
        HEAD + "enter(lambda: kept.append(bytes(200)), 900)\nbefore = verdict()\n"
        "enter(lambda: None, 2000)\nprint(json.dumps([before, verdict()]))\n",
        "sample",
    )
    before, after = printed(done)
    assert (before["leaks"], after["leaks"]) == (True, False)
    first, where, last = alarms(bursar)
    assert re.fullmatch(r"predict leaks \d+ bytes a call", first) and last == "predict leaks no more"
    assert re.fullmatch(r"predict <lambda> \(.*:\d+\): \d+ bytes of \d+ calls survive", where)


def test_a_collection_waits_until_no_scope_is_open(program: Program) -> None:
    done = program(
        HEAD + "gc.set_threshold(10**6)\nfull = lambda: gc.get_stats()[2]['collections']\n"
        "at_first = full()\n"
        "with bursar.scope('around'):\n"
        "    enter(lambda: kept.append(bytes(200)), 900)\n"
        "    within, during = verdict(), full()\n"
        "print(json.dumps([within['leaks'], during - at_first, verdict(), full() - at_first]))\n",
        "exact",
    )
    within, during, later, collections = printed(done)
    assert (within, during) == (None, 0)
    assert (later["leaks"], later["unchecked"], collections) == (True, False, 1)


def test_where_a_scope_is_always_open_an_alarm_says_that_garbage_is_possible(program: Program) -> None:
    done = program(
        HEAD + "with bursar.scope('around'):\n    enter(lambda: kept.append(bytes(200)), 1000)\n"
        "    print(json.dumps(verdict()))\n",
        "exact",
    )
    found = printed(done)
    assert (found["leaks"], found["unchecked"]) == (True, True)
    assert "unless it is garbage" in found["text"]


CYCLE = "def predict():\n    a, b = Node(), Node()\n    a.b, b.a, a.x = b, a, bytes(200)\n"


@pytest.mark.parametrize(("kind", "leaks"), [(CYCLE, False), ("def predict(): kept.append(bytes(200))\n", True)])
def test_what_no_collection_has_said_one_says_at_the_next_rest(
    program: Program, bursar: Run, kind: str, leaks: bool
) -> None:
    done = program(
        HEAD + "gc.set_threshold(10**6)\n" + kind + "with bursar.scope('around'):\n    enter(predict, 1000)\n"
        "    busy = verdict()\nenter(predict, 1)\nprint(json.dumps([busy, verdict()]))\n",
        "sample",
    )
    busy, rested = printed(done)
    assert (busy["leaks"], busy["unchecked"]) == (True, True)
    assert (rested["leaks"], rested["unchecked"], rested["cycles"]) == (leaks, False, not leaks)
    last = (
        "leaks, and it is no garbage: a collection left it" if leaks else "leaks no more: a collection freed what grew"
    )
    assert f"predict {last}" in alarms(bursar)


@pytest.mark.parametrize(("kind", "leaks"), [(CYCLE, False), ("def predict(): kept.append(bytes(200))\n", True)])
def test_a_collection_of_the_programs_own_will_do(program: Program, kind: str, leaks: bool) -> None:
    """Where a scope is always open, and the collector runs by itself."""
    done = program(
        HEAD + "gc.set_threshold(10**6)\n" + kind + "with bursar.scope('around'):\n    enter(predict, 700)\n"
        "    before = verdict()\n    gc.collect()\n    enter(predict, 200)\n"
        "    print(json.dumps([before, verdict()]))\n",
        "sample",
    )
    before, after = printed(done)
    assert before["leaks"] is None and "it grows by" in before["text"]
    assert (after["leaks"], after["unchecked"], after["cycles"]) == (leaks, False, not leaks)


GARBAGE = """
import random
sys.setswitchinterval(0.0005)
def one():
    with bursar.scope("predict"):
        nodes = []
        if random.random() < 0.2:
            for _ in range(random.randrange(100, 2000)):
                a, b = Node(), Node(); a.b, b.a, a.x = b, a, bytes(random.randrange(50, 300)); nodes.append(a)
        lists = [[[k] for k in range(50)] for _ in range(20)]
        if leaks: kept.append('y' * 150 + str(len(kept)))  # here
def some(): any(one() for _ in range(1330 // 8))
workers = [threading.Thread(target=some) for _ in range(8)]
leaks = sys.argv[2] == "leak"
for worker in workers: worker.start()
for worker in workers: worker.join()
print(json.dumps(verdict()))
"""


@pytest.mark.parametrize("kind", ["leak", "none"])
@pytest.mark.parametrize("mode", MODES)
def test_a_leak_is_found_among_garbage_of_threads(program: Program, mode: str, kind: str) -> None:
    """What young collections leave of the calls that run then is thousands of times the leak, for hundreds of calls."""
    found = printed(program(HEAD + GARBAGE, mode, kind))
    if kind == "none":
        assert found["leaks"] is not True, found["text"]
        return
    assert found["leaks"] is True and found["alarm_calls"] <= 1000, found["text"]
    assert found["sites"][0]["stack"][0]["line"] == line_of(HEAD + GARBAGE)
    assert 150 < found["bytes_per_call"] < 260 and found["lower"] > 64


@pytest.mark.parametrize("mode", ["sample", "count"])
def test_scopes_that_leak_together_each_have_their_lines(program: Program, mode: str) -> None:
    """Where a scope is always open besides, so that no collection takes garbage away before that."""
    text = (
        HEAD
        + "gc.set_threshold(20000)\ndef cycles():\n    for _ in range(20): a, b = Node(), Node(); a.b, b.a = b, a\n"
        "def one(): cycles(); kept.append('y' * 150 + str(len(kept)))\n"
        "def two(): cycles(); kept.append(bytes(200))\n"
        "def three(): cycles(); kept.append([len(kept)] * 20)\n"
        "with bursar.scope('around'):\n    for _ in range(1700):\n"
        "        for function in one, two, three: enter(function, 1, function.__name__)\n"
        "    print(json.dumps([verdict(name) for name in ('one', 'two', 'three')]))\n"
    )
    lines = text.splitlines()
    for found, name in zip(printed(program(text, mode)), ("one", "two", "three"), strict=True):
        assert found["leaks"] is True and found["alarm_calls"] <= 1000, found["text"]
        line = next(n for n, line in enumerate(lines, 1) if line.startswith(f"def {name}("))
        assert found["sites"][0]["stack"][0]["line"] == line, found["sites"][:2]
        assert found["sites"][0]["calls"] >= 290


def test_calls_that_keep_many_blocks_are_not_held_up(program: Program) -> None:
    """After the alarm stacks are kept of 49,152 blocks at most: here 150,000 live."""
    text = HEAD + "def predict():\n    kept.append([str(i) for i in range(1000, 1500)])  # here\n"
    text += "enter(predict, 500)\nbegan = time.monotonic()\nenter(predict, 130)\nusual = time.monotonic() - began\n"
    text += "began = time.monotonic()\nenter(predict, 300)\n"
    text += "print(json.dumps([verdict(), (time.monotonic() - began) / 300 * 130 / usual]))\n"
    found, slower = printed(program("import time\n" + text, "sample"))
    assert found["leaks"] is True and slower < 30
    assert found["sites"][0]["stack"][0]["line"] == line_of("import time\n" + text)


@pytest.mark.core
def test_too_few_calls_are_undecided(program: Program) -> None:
    done = program(
        HEAD + "enter(lambda: kept.append(bytes(200)), 10)\nfew = verdict()\n"
        "enter(lambda: kept.append(bytes(200)), 300)\nmore = verdict()\n"
        "try: bursar.verdict('nothing')\nexcept KeyError as error: unknown = str(error)\n"
        "bursar.stop()\ntry: bursar.verdict('predict')\nexcept RuntimeError as error: closed = str(error)\n"
        "print(json.dumps([few, more, unknown, closed]))\n",
        "exact",
    )
    few, more, unknown, closed = printed(done)
    assert (few["leaks"], few["bytes_per_call"], few["calls"]) == (None, None, 10)
    assert (more["leaks"], more["bytes_per_call"], more["calls"]) == (None, None, 310)
    assert "310 calls, of 500" in more["text"]
    assert "there is no scope 'nothing'" in unknown and "call bursar.start() first" in closed


def test_threads_that_stay_are_a_leak(program: Program) -> None:
    done = program(
        HEAD + "stop = threading.Event()\nthreading.stack_size(65536)\n"
        "def predict():\n    global number\n    number += 1\n"
        "    if number % 8 == 0: thread = threading.Thread(target=stop.wait); thread.start(); kept.append(thread)\n"
        "enter(predict, 1000)\nfound = verdict()\nstop.set()\n"
        "for thread in kept: thread.join()\nprint(json.dumps(found))\n",
        "sample",
    )
    found = printed(done)
    assert found["leaks"] is True and "threads a call" in found["text"]
    assert found["threads_per_call"] == pytest.approx(1 / 8, rel=0.2)


# --- assert_no_leak ---------------------------------------------------------------------------------------------------

ASSERT = """\
import bursar, json
kept = []
def good(): return [str(i) for i in range(100)]
def bad():
    kept.append(bytes(100))
"""


@pytest.mark.core
def test_assert_no_leak_opens_books_and_names_the_line(program: Program) -> None:
    done = program(
        ASSERT + "found = bursar.assert_no_leak(good)\n"
        "try: bursar.assert_no_leak(bad, name='orders')\nexcept AssertionError as error: said = str(error)\n"
        "above = bursar.assert_no_leak(bad, threshold=1000).leaks\n"
        "print(json.dumps([found.leaks, said, above, bursar._bursar.status()['mode']]))\n"
    )
    clean, said, above, mode = printed(done)
    assert (clean, above, mode) == (False, False, "off")
    assert re.match(r"orders #2 leaks 1\d\d bytes a call \(at least \d+, at most \d+\), first at program.py:5\n", said)
    assert "program.py:5 in bad: " in said.splitlines()[1]


def test_assert_no_leak_raises_undecided(program: Program) -> None:
    """A cache whose entries are of any size is no leak, and may be one, for all that so few calls can tell."""
    done = program(
        "import bursar, random\nrandom.seed(1)\nheld = [None] * 100\n"
        "def noisy(): held[random.randrange(100)] = bytes(int(random.paretovariate(1.1) * 10000))\n"
        "try: bursar.assert_no_leak(noisy, calls=500)\n"
        "except bursar.Undecided as error: print(isinstance(error, AssertionError), error)\n"
    )
    assert done.stdout.startswith("True noisy #1 is undecided: ")


@pytest.mark.core
@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("assert_no_leak(good, calls=499)", "ValueError: calls=499 are too few"),
        ("assert_no_leak(good, threshold=0)", "ValueError: threshold=0 is no number of bytes"),
        ("assert_no_leak(coroutine)", "TypeError: assert_no_leak() calls plain functions"),
        ("_verdict.configure(threshold=-1)", "ValueError: threshold=-1"),
        ("_verdict.configure(warmup=10)", "ValueError: warmup=10 is too few calls"),
    ],
)
def test_wrong_use_is_an_error_of_one_line(program: Program, call: str, error: str) -> None:
    done = program(
        ASSERT + "import bursar._verdict\nasync def coroutine(): pass\n"
        f"try: bursar.{call}\nexcept Exception as error: print(f'{{type(error).__name__}}: {{error}}')\n"
    )
    assert done.stdout.startswith(error) and done.stdout.count("\n") == 1


def test_the_threshold_can_be_set(program: Program) -> None:
    done = program(
        HEAD + "import bursar._verdict\nbursar._verdict.configure(threshold=1000)\n"
        "enter(lambda: kept.append(bytes(200)), 1000)\nfirst = verdict()\n"
        "bursar._verdict.configure()\nenter(lambda: kept.append(bytes(200)), 1000)\n"
        "print(json.dumps([first, verdict()]))\n",
        "exact",
    )
    first, then = printed(done)
    assert (first["leaks"], first["threshold"]) == (False, 1000)
    assert (then["leaks"], then["threshold"]) == (True, 64)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_says_it_of_all_scopes_and_of_one(program: Program, bursar: Run) -> None:
    program(
        HEAD + "enter(lambda: None, 1000, 'good')\nenter(lambda: kept.append(bytes(200)), 1000, 'bad')\n"
        "enter(lambda: None, 3, 'seldom')\n",
        "exact",
    )
    done = bursar("verdict", "test.bursar")
    assert (done.returncode, done.stderr) == (1, "")
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in lines] == ["bad", "seldom", "good"]
    facts = json.loads(bursar("verdict", "test.bursar", "--format", "json").stdout)
    assert facts["schema"] == 1 and [v["leaks"] for v in facts["verdicts"]] == [True, None, False]
    done = bursar("verdict", "test.bursar", "good", "--format=json")
    facts = json.loads(done.stdout)
    names = {"schema", "scope", "calls", "bytes_per_call", "lower", "upper", "leaks", "sites"}
    assert done.returncode == 0 and names <= set(facts) and facts["scope"] == "good"
    assert bursar("verdict", "test.bursar", "seldom").returncode == 0


@pytest.mark.core
@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "give a process or a ledger"),
        (["a", "b", "c"], 2, "give a process or a ledger"),
        (["a", "--format", "xml"], 2, "format"),
        (["missing.bursar"], 1, "missing.bursar"),
    ],
)
def test_the_command_refuses_wrong_use(bursar: Run, arguments: list[str], status: int, says: str) -> None:
    done = bursar("verdict", *arguments)
    assert done.returncode == status and says in done.stderr and done.stderr.count("\n") == 1


def test_a_damaged_ledger_costs_facts_alone(program: Program, bursar: Run, tmp_path: Path) -> None:
    program(HEAD + "enter(lambda: kept.append(bytes(200)), 1400)\n", "exact")
    whole = (tmp_path / "test.bursar").read_bytes()
    rng = random.Random(1)
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 30, 3000])):
            damaged[rng.randrange(65536, len(damaged))] = rng.randrange(256)
        (tmp_path / "damaged.bursar").write_bytes(
            damaged[: rng.choice([len(damaged), rng.randrange(65536, len(damaged))])]
        )
        done = bursar("verdict", "damaged.bursar", "--format", "json")
        assert done.returncode in (0, 1)
        assert not done.stdout or json.loads(done.stdout)["schema"] == 1
