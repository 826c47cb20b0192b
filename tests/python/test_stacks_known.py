"""Whose line is it: the stack of a block is what the interpreter itself says at the line that allocates.

Every program calls `_mark(size)` where something is to be allocated: it keeps a block of that size, and writes down the
frames that sys._getframe finds below itself. The site of the block must have the same frames.

The block has a line of its own, without a call: what a profile function is told of a call is an object too, made there,
and 3.14 keeps such a one (a built-in method) for later when it is dropped."""

import json
from typing import Any

import pytest
from books import Books, Keep, keep

__all__ = ["keep"]
pytestmark = pytest.mark.core

HEAD = """\
import sys, json, os
_kept, _seen, _one = [], [], b'x'
def _mark(size, _getframe=sys._getframe):
    frame, stack = _getframe(1), []
    block = _one * size
    _kept.append(block)
    while frame:
        stack.append([frame.f_code.co_name, frame.f_code.co_filename, frame.f_lineno])
        frame = frame.f_back
    _seen.append([size, stack])
    return size
def _leave():
    sys.stderr.flush()
    with open('seen.json', 'w', encoding='ascii') as out:
        json.dump(_seen, out)
"""


def scalar(text: str) -> str:
    """What reaches JSON of a text: lone surrogates cannot."""
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


def sites_by_block(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The sites of `_one * size` in _mark."""
    return [site for site in facts["sites"] if site["domain"] == "python.obj" and site["stack"]
            and site["stack"][0]["function"] == "_mark" and site["stack"][0]["line"] == 5]  # fmt: skip


def check(books: Books, *, at_least: int, leave_out: "tuple[str, ...]" = ()) -> list[Any]:
    """Each block that was marked is live at a site with the stack that the interpreter saw. Returns what was seen."""
    seen = json.loads((books.path.parent / "seen.json").read_text())
    assert len(seen) >= at_least
    expected: dict[tuple[tuple[str, str, int], ...], list[int]] = {}
    for size, stack in seen:
        key = tuple((scalar(function), scalar(file), line) for function, file, line in stack)
        expected.setdefault(key, []).append(size)
    found: dict[tuple[tuple[str, str, int], ...], tuple[int, int]] = {}
    for site in sites_by_block(books.facts):
        key = tuple((frame["function"], frame["file"], frame["line"]) for frame in site["stack"][1:])
        blocks, total = found.get(key, (0, 0))
        # What was marked is kept. A tracer may make something else on that line, and drop it; after the end all counts.
        if site["phase"] == "exit":
            found[key] = blocks + site["allocations"], total + site["allocated_bytes"]
        elif site["live_blocks"]:
            found[key] = blocks + site["live_blocks"], total + site["live_bytes"]
    for key, sizes in expected.items():
        assert key in found, f"no site has the stack {key[:6]}; there are {[k[:3] for k in found]}"
        assert found[key] == (len(sizes), sum(sizes) + 33 * len(sizes)), key
    assert set(found) == set(expected)
    assert books.facts["unresolved_frames"] == 0
    return list(seen)


def stacks(keep: Keep, program: str, at_least: int, *options: str, **more: Any) -> list[Any]:
    text = HEAD + program + "\n_leave()\n"
    return check(keep(text, *options, **more), at_least=at_least)


PROGRAMS = {
    "functions": """
def a(): _mark(1000)
def b():
    a()
    a(); a()
def c(*args, **kwargs):
    return (
        b(),
        _mark(
            1001),
    )
for i in range(3):
    c(1, 2, three=3)
b()
""",
    "recursion": """
def down(n):
    if n == 0:
        return _mark(1010)
    if n % 2:
        return down(n - 1)
    down(
        n - 1)
    _mark(1020 + n)
for n in range(12): down(n)
""",
    "generators": """
def numbers(n):
    for i in range(n):
        _mark(1100 + i)
        yield i
    _mark(1150)
def outer(n):
    yield from numbers(n)
    _mark(1160)
    x = yield 7
    _mark(1161)
def consume(generator):
    return [value for value in generator]
sum(numbers(3)); list(numbers(3)); consume(outer(2))
g = outer(1); next(g)
def elsewhere(g): return next(g, None), next(g, None), next(g, None)
elsewhere(g)
h = numbers(5)
for _ in h: pass
sorted((_mark(1170 + i) for i in range(3)), key=lambda x: -x)
k = numbers(9); next(k)
try: k.throw(ValueError(3))
except ValueError: _mark(1180)
def closing():
    try: yield 1
    finally: _mark(1190)
c = closing(); next(c); c.close()
d = closing(); next(d); del d
""",
    "coroutines": """
import asyncio
async def leaf(n):
    _mark(1200 + n)
    await asyncio.sleep(0)
    _mark(1210 + n)
    return n
async def tree(n):
    await leaf(n)
    _mark(1220)
    return await asyncio.gather(leaf(n + 1), leaf(n + 2))
class Context:
    async def __aenter__(self): _mark(1230)
    async def __aexit__(self, *why):
        await asyncio.sleep(0)
        _mark(1231)
async def values(n):
    for i in range(n):
        await asyncio.sleep(0)
        _mark(1240 + i)
        yield i
async def main():
    await tree(0)
    async with Context():
        _mark(1250)
    async for i in values(3):
        _mark(1260 + i)
    await asyncio.gather(*[asyncio.create_task(tree(i)) for i in range(4)])
    return [i async for i in values(2)]
asyncio.run(main())
""",
    "comprehensions": """
def all_kinds(n):
    [_mark(1300 + i) for i in range(n)]
    {_mark(1310 + i) for i in range(n)}
    {i: _mark(1320 + i) for i in range(n)}
    list(_mark(1330 + i) for i in range(n))
    [[_mark(1340 + i * j) for i in range(n)] for j in range(n)]
    return [
        j
        for i in range(n)
        if _mark(1350 + i)
        for j in [_mark(1360 + i)]
    ]
all_kinds(3)
[_mark(1390 + i) for i in range(2)]
""",
    "classes": """
class Meta(type):
    def __new__(meta, name, bases, space):
        _mark(1400)
        return super().__new__(meta, name, bases, space)
    def __call__(cls, *args):
        _mark(1401)
        return super().__call__(*args)
class Body(metaclass=Meta):
    _mark(1410)
    kept = [_mark(1420 + i) for i in range(2)]
    class Inner:
        _mark(1430)
        def method(self): _mark(1431)
    def __init__(self, n=0):
        _mark(1440)
    def __len__(self): return _mark(1450) and 3
    @property
    def p(self): return _mark(1451)
    @staticmethod
    def s(): _mark(1452)
    @classmethod
    def c(cls): _mark(1453)
    def __getattr__(self, name): return _mark(1454)
    def __iter__(self): return iter([_mark(1455)])
    def __eq__(self, other): return bool(_mark(1456))
    def __hash__(self): return _mark(1457)
    def __enter__(self): _mark(1458)
    def __exit__(self, *why): _mark(1459)
class Plain:
    def __init__(self): _mark(1460)
class Slots:
    __slots__ = ('a',)
    def __init__(self, a): self.a = _mark(a)
b = Body(3)
for i in range(20): Plain(); Slots(1470)
len(b), b.p, b.s(), b.c(), b.nothing, list(b), b == 3, {b: 1}
with b: _mark(1480)
Body.Inner().method()
""",
    "from_c": """
import functools, bisect, itertools, re, operator
def key(x):
    _mark(1500 + x)
    return -x
sorted([1, 2, 3], key=key); [3, 1].sort(key=key); max([1, 2], key=lambda x: _mark(1510 + x))
functools.reduce(lambda a, b: _mark(1520) and a + b, range(4))
list(map(key, range(2))); list(filter(key, range(2))); list(itertools.starmap(key, [(1,)]))
re.sub('a', lambda m: str(_mark(1530)), 'banana')
sorted([2, 1, 3], key=functools.cmp_to_key(lambda a, b: _mark(1540) and a - b))
functools.partial(key, 3)()
@functools.lru_cache(None)
def cached(n): return _mark(1550 + n)
cached(1); cached(1); cached(2)
@functools.wraps(key)
def decorated(*args): return key(*args)
decorated(4)
class Descriptor:
    def __get__(self, owner, kind): return lambda: _mark(1560)
class Owner: attribute = Descriptor()
Owner().attribute()
dict.fromkeys((_mark(1570 + i) for i in range(2)))
'{}'.format(type('F', (), {'__format__': lambda self, spec: str(_mark(1580))})())
any(_mark(1585) < 0 for _ in range(2))
""",
    "exceptions": """
import traceback
def fails(n):
    _mark(1600)
    if n: fails(n - 1)
    else: raise ValueError(_mark(1601))
try: fails(3)
except ValueError as error:
    _mark(1602)
    traceback.format_exc()
finally:
    _mark(1603)
try:
    try: fails(1)
    finally: _mark(1604)
except ValueError: pass
def suppressed():
    try: fails(0)
    except ValueError:
        return _mark(1605)
    finally:
        _mark(1606)
suppressed()
class E(Exception):
    def __str__(self): return str(_mark(1607))
str(E())
""",
    "lambdas_closures_defaults": """
def maker(n):
    k = n
    def inner(m=_mark(1650)):
        return _mark(1651 + k)
    return inner, lambda: _mark(1661 + k)
for f in maker(1): f()
(lambda: (lambda: _mark(1670))())()
def deco(f):
    _mark(1671)
    def wrapped(*a): return _mark(1672) and f(*a)
    return wrapped
@deco
@deco
def target(a): _mark(1673)
target(
    _mark(1674))
""",
    "finalizers": """
import weakref, gc
class Dies:
    def __del__(self): _mark(1700)
def drop():
    d = Dies()
    del d
    Dies()
drop()
class Node: pass
def gone(reference): _mark(1701)
n = Node(); r = weakref.ref(n, gone); del n
weakref.finalize(f := Node(), lambda: _mark(1702)); del f
def cycle():
    a = Dies(); a.me = a; del a
    gc.collect()
cycle()
""",
    "signals": """
import signal, time
def handler(number, frame): _mark(1750)
signal.signal(signal.SIGUSR1, handler)
def send():
    os.kill(os.getpid(), signal.SIGUSR1)
    return 1
for i in range(3): send()
""",
    "threads": """
import threading
def work(n):
    for i in range(20): step(n)
def step(n): _mark(1800 + n)
ts = [threading.Thread(target=work, args=(i,)) for i in range(4)]
for t in ts: t.start()
for i in range(20): step(9)
for t in ts: t.join()
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(3) as pool: list(pool.map(step, range(10, 30)))
""",
    "ping_pong_of_threads": """
import threading
a, b = threading.Semaphore(1), threading.Semaphore(0)
def deep(n, mine, other, size):
    if n: return deep(n - 1, mine, other, size)
    for i in range(200):
        mine.acquire()
        _mark(size + i % 3)
        other.release()
ts = [threading.Thread(target=deep, args=(5, a, b, 1850)), threading.Thread(target=deep, args=(9, b, a, 1860))]
for t in ts: t.start()
for t in ts: t.join()
""",
    "settrace": """
import threading
lines = []
def tracer(frame, event, arg):
    lines.append((event, frame.f_lineno))
    return tracer
def traced(n):
    x = [i for i in range(n)]
    _mark(1900)
    def g():
        yield _mark(1901)
    list(g())
    return sorted(x, key=lambda i: _mark(1902) and -i)
sys.settrace(tracer)
traced(3)
sys.settrace(None)
traced(2)
sys.setprofile(lambda frame, event, arg: lines.append(event))
traced(3)
sys.setprofile(None)
traced(1)
def marking(frame, event, arg):
    if frame.f_code is traced.__code__ and event == 'line': _mark(1910)
    return marking
sys.settrace(marking); traced(2); sys.settrace(None)
assert len(lines) > 30
""",
    "monitoring": """
m = getattr(sys, 'monitoring', None)
calls = []
def called(code, offset): calls.append(code.co_name); return None
def lined(code, line): calls.append(line); return None
def traced(n):
    for i in range(n):
        _mark(1950 + i)
    return [_mark(1960) for _ in range(n)]
traced(2)
if m:
    m.use_tool_id(3, 'test')
    m.register_callback(3, m.events.PY_START, called)
    m.register_callback(3, m.events.LINE, lined)
    m.set_events(3, m.events.PY_START | m.events.LINE)
    traced(3)
    m.set_events(3, 0)
    traced(2)
    assert 'traced' in calls
""",
    "ctypes": """
import ctypes
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
def compare(a, b):
    _mark(2000)
    return a[0] - b[0]
values = (ctypes.c_int * 5)(5, 1, 4, 2, 3)
libc = ctypes.CDLL(None)
def sort(): libc.qsort(values, len(values), ctypes.sizeof(ctypes.c_int), compare)
sort(); sort()
assert list(values) == [1, 2, 3, 4, 5]
""",
    "exec_and_eval": """
exec('_mark(2050)')
eval('_mark(2051)')
exec('def made(n):\\n\\n    _mark(2052)\\nmade(1)')
made(2)
cell = compile('x = 1\\n_mark(2053)\\nfor i in range(2):\\n    _mark(2054)', '<ipython-input-7>', 'exec')
exec(cell); exec(cell, {'_mark': _mark})
exec(compile('lambda: _mark(2055)', '', 'eval')); eval(compile('(lambda: _mark(2055))()', '', 'eval'))
import types
t = types.ModuleType('t'); t._mark = _mark
exec(compile('def f(): return _mark(2056)\\nf()', '/no/such/file.py', 'exec'), t.__dict__)
t.f()
def same(a, b): return f'{a}{b}' + str(_mark(2057))
for i in range(3): exec(compile(chr(10) * i + 'same(1, 2)', '<string>', 'exec'))
big = compile(chr(10) * 100000 + '_mark(2058)', '<big>', 'exec'); exec(big)
""",
    "a_long_function": """
lines = ['def long(n):', '    x = 0'] + [f'    x += n; x -= {i}' for i in range(3000)] + ['    _mark(2100)'] + \
    [f'    x = [n] * {i % 5}' for i in range(3000)] + ['    _mark(2101)', '    return x']
exec(compile(chr(10).join(lines), '<long>', 'exec'))
long(3); long(4)
""",
    "jumps_within_a_line": """
def f(n):
    if n: _mark(2150); _mark(2151); x = [_mark(2152)]; return _mark(2153)
    return _mark(2154) if n else _mark(2155)
for i in range(3000): f(i % 2)
while True:
    try: f(1); break
    finally: f(0)
match (1, 2):
    case (a, b) if _mark(2160): f(a)
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_stack_is_the_interpreters(keep: Keep, name: str) -> None:
    stacks(keep, PROGRAMS[name], 3)


@pytest.mark.parametrize("name", ["classes", "generators", "threads", "coroutines"])
@pytest.mark.parametrize("allocator", ["malloc", "debug"])
def test_other_allocators_change_no_stack(keep: Keep, name: str, allocator: str) -> None:
    stacks(keep, PROGRAMS[name], 3, env={"PYTHONMALLOC": allocator})


def test_ten_thousand_frames(keep: Keep) -> None:
    """Nothing is allocated on the way down: each site has all its frames in the report."""
    seen = stacks(
        keep,
        """
import itertools, threading
def down(left):
    for _ in left:
        return down(left)
    return _mark(3000)
def main():
    sys.setrecursionlimit(30000)
    # Until 3.10 each frame is a block of its own, and so a site.
    for n in 10, 9990 if sys.version_info > (3, 11) else 990, 10: down(itertools.repeat(None, n))
threading.stack_size(512 << 20)
t = threading.Thread(target=main); t.start(); t.join()
""",
        3,
    )
    assert max(len(stack) for _, stack in seen) > 990


def test_code_that_dies_and_addresses_that_come_back(keep: Keep, facts: Any, ledger: Any) -> None:
    """20,000 sources, compiled, run and dropped: each name right, though each address is used again."""
    books = keep(
        HEAD + """
def run(i):
    space = {'_mark': _mark, '_one': _one, 'k': 900 + i % 50}
    source = f'def f{i % 400}():\\n' + chr(10) * (i % 7) + f'    return _one * k\\nf{i % 400}()'
    exec(compile(source, f'<source {i % 30}>', 'exec'), space)
for i in range(20000): run(i)
_leave()
"""
    )  # fmt: skip
    expected: dict[tuple[str, str, int], list[int]] = {}
    for i in range(20000):
        entry = expected.setdefault((f"f{i % 400}", f"<source {i % 30}>", 2 + i % 7), [0, 0])
        entry[0] += 1
        entry[1] += 933 + i % 50
    found: dict[tuple[str, str, int], list[int]] = {}
    for site in books.facts["sites"]:
        frame = site["stack"][0] if site["stack"] else {"file": ""}
        if site["domain"] != "python.obj":
            continue
        # Line 1 is where a call begins: whatever the interpreter does between two instructions may be there.
        if str(frame["file"]).startswith("<source") and frame["function"] != "<module>" and frame["line"] > 1:
            entry = found.setdefault((frame["function"], frame["file"], frame["line"]), [0, 0])
            entry[0] += site["allocations"]
            entry[1] += site["allocated_bytes"]
            assert [outer["function"] for outer in site["stack"][1:]] == ["<module>", "run", "<module>"]
    assert found == expected
    assert ledger.stat().st_size <= 16 << 20


NAMES = ["<script>alert(1)</script>", "\x1b[31mred\x1b[0m", "two\nlines", "tab\there", "x" * 5000, "\udcff\ud800 alone",
         "Ünïcödé 漢字 🐍", "\u202eleft", "a\x00b", "</script>", '"quoted"', "%s%n", "=1+1"]  # fmt: skip


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_hostile_names(keep: Keep, bursar: Any, ledger: Any, number: int) -> None:
    """A name is only text: what is printed has no control characters, and the JSON says what the name was."""
    name = NAMES[number]
    program = f"""
name = {ascii(name)}
def target(): _mark(3100)
try:
    target.__code__ = target.__code__.replace(co_name=name, co_filename=name + '.py')
except ValueError as error:
    print(error); _seen.append([0, [[name, name + '.py', 0]]])
target()
"""
    books = keep(HEAD + program + "\n_leave()\n")
    seen = json.loads((books.path.parent / "seen.json").read_text())
    frames = [site["stack"][1] for site in sites_by_block(books.facts)]
    assert len(frames) == 1
    function, file, line = next(stack[0] for size, stack in seen if size == 3100)
    assert function == name
    if len(name) <= 1000:
        assert scalar(frames[0]["function"]).replace("\ufffd", "") == scalar(function).replace("\ufffd", "")
        assert scalar(frames[0]["file"]).replace("\ufffd", "") == scalar(file).replace("\ufffd", "")
    else:
        assert len(frames[0]["function"]) >= 1000 and function.startswith(frames[0]["function"][:1000])
    assert frames[0]["line"] == line
    for view in "table", "tree", "lines", "flame", "leaks", "temporary":
        done = bursar("report", ledger, "--view", view)
        assert done.returncode == 0, done.stderr
        assert not [c for c in done.stdout if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 or c == "\u202e"]
    page = bursar("report", ledger, "--format", "html").stdout
    if "<script>" in name:
        assert name not in page


def test_a_del_at_exit(keep: Keep) -> None:
    """What runs after __main__ is finished still has a stack, below the phase `exit`."""
    books = keep(
        HEAD + """
import atexit
class Last:
    def __del__(self): _mark(3200)
atexit.register(_leave)
atexit.register(lambda: _mark(3201))
@atexit.register
def drop():
    global last
    del last
last = Last()
"""
    )
    check(books, at_least=2)
    assert {site["phase"] for site in sites_by_block(books.facts)} == {"exit"}
