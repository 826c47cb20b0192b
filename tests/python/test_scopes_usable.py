"""Scopes in modes sample and count: each block at the bytes that its allocator gave for it, to the byte, whatever its
size, whoever frees it, and wherever it comes from."""

import sys
from pathlib import Path

import pytest
from programs import Program, printed, program
from test_native_start import BINDINGS, build

__all__ = ["program"]
pytestmark = pytest.mark.core

MODES = pytest.mark.parametrize("mode", ["sample", "count"])

HEAD = """import bursar, ctypes, gc, json, operator, random, sys, threading
gc.disable()
mode = sys.argv[1]
one = b"x"
usable = ctypes.CDLL(None).malloc_usable_size
usable.argtypes, usable.restype = [ctypes.c_void_p], ctypes.c_size_t

def weight(block):
    # pymalloc has classes of 16 bytes up to 512, the rest is malloc's.
    asked = sys.getsizeof(block)
    return -(-asked // 16) * 16 if asked <= 512 else usable(id(block))
"""

# Blocks of any size in any nesting of scopes, ended in any order, a third of them in another thread.  What the loops
# need is made beforehand, or in a first turn, so that what a scope holds is these blocks alone.
ANY_SIZE = (
    HEAD
    + """
SIZES = [2, 15, 31, 32, 33, 447, 448, 479, 480, 600, 1000, 5000, 140000]

def fill(blocks, places, makers):
    for at in places:
        blocks[at] = makers[at]()

def take(blocks, places):
    for at in places:
        blocks[at] = None

class Maker:
    __slots__ = "n",
    def __init__(self, n): self.n = n
    def __call__(self): return object() if self.n is None else one * self.n

def turn(seed, check):
    dice = random.Random(seed)
    count = 3000
    makers = [Maker(dice.choice([None, None, *SIZES])) for _ in range(count)]
    order = list(range(count)); dice.shuffle(order)
    parts = [order[i::4] for i in range(4)]
    again = parts[1][:100] + parts[2][:100]
    blocks = [None] * count
    outer, inner, deepest = bursar.scope("outer"), bursar.scope("inner"), bursar.scope("deepest")
    with outer:
        fill(blocks, parts[0], makers)
        with inner:
            fill(blocks, parts[1], makers)
            with deepest:
                fill(blocks, parts[2], makers)
        take(blocks, again)
        fill(blocks, again, makers)  # the outer one's, now
    fill(blocks, parts[3], makers)  # nobody's
    weights = [weight(block) for block in blocks]  # glibc may give a little more than it gave another
    parts = [parts[0] + again, parts[1][100:], parts[2][100:]]
    def compare():
        held = [sum(weights[at] for at in part if blocks[at] is not None) for part in parts]
        want = [sum(held), held[1] + held[2], held[2]]
        got = [scope.retained for scope in (outer, inner, deepest)]
        if check: assert got == want, (seed, got, want)
        return want
    total = compare()[0]
    dice.shuffle(order)
    for i in range(0, count, 300):
        some = order[i:i + 300]
        if i % 900:
            take(blocks, some)
        else:
            thread = threading.Thread(target=take, args=(blocks, some)); thread.start(); thread.join()
        compare()
    assert compare() == [0, 0, 0]
    return total

bursar.start(mode, output="test.bursar")
turn(1, False)
print(json.dumps([turn(seed, True) for seed in range(5)]))
"""
)


@MODES
def test_blocks_of_any_size_to_the_byte(program: Program, mode: str) -> None:
    assert all(total > 10_000_000 for total in printed(program(ANY_SIZE, mode)))


@MODES
def test_a_block_that_grows_is_its_grower_s(program: Program, mode: str) -> None:
    done = program(
        HEAD + "def work():\n"
        "    with bursar.scope('maker') as maker: buffer = bytearray(400)\n"
        "    with bursar.scope('grower') as grower: buffer.extend(many)\n"
        "    held = maker.retained, grower.retained, usable(ctypes.addressof(ctypes.c_char.from_buffer(buffer)))\n"
        "    del buffer\n"
        "    return *held, maker.retained, grower.retained\n"
        "many = bytes(100000)\n"
        "bursar.start(mode, output='test.bursar')\n"
        "work()\n"
        "print(json.dumps(work()))\n",
        mode,
    )
    made, grown, asked, made_after, grown_after = printed(done)
    assert made == 64 and grown == asked > 100000  # the object itself
    assert (made_after, grown_after) == (0, 0)


@MODES
def test_numpy_and_malloc_with_and_without_the_gil(program: Program, mode: str, tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    driver = build(tmp_path / "driver.so", BINDINGS["now"])
    done = program(
        HEAD + "import numpy\n"
        "bursar.start(mode, output='test.bursar', domains='all')\n"
        "found = []\n"
        "for load in ctypes.PyDLL, ctypes.CDLL:\n"  # the second releases the GIL
        "    driver = load(sys.argv[2])\n"
        "    for name in 'made_here', 'mapped_here':\n"
        "        getattr(driver, name).restype, getattr(driver, name).argtypes = ctypes.c_void_p, [ctypes.c_size_t]\n"
        "    driver.ended_here.argtypes = [ctypes.c_void_p]\n"
        "    def work():\n"
        "        with bursar.scope('malloc') as s: p = driver.made_here(3000000)\n"
        "        with bursar.scope('mmap') as m: q = driver.mapped_here(5000000)\n"
        "        with bursar.scope('numpy') as a: array = numpy.empty(7000000, numpy.uint8)\n"
        "        held = [s.retained - usable(p), m.retained - -(-5000000 // 4096) * 4096, a.retained // 1000000]\n"
        "        thread = threading.Thread(target=driver.ended_here, args=(p,)); thread.start(); thread.join()\n"
        "        del array\n"
        "        return held + [s.retained, a.retained, s.peak // 1000000, m.peak // 1000000, a.peak // 1000000]\n"
        "    work()\n"
        "    found.append(work())\n"
        "print(json.dumps(found))\n",
        mode,
        driver,
    )
    for malloc, mmap, numpy, malloc_after, numpy_after, *peaks in printed(done):
        # What is asked for beside it: the objects of the results.
        assert 0 <= malloc < 200 and 0 <= mmap < 200 and numpy == 7
        assert 0 <= malloc_after < 200 and 0 <= numpy_after < 200
        assert peaks == [3, 5, 7]


@MODES
def test_nothing_is_charged_twice_where_scopes_begin_and_books_begin_again(program: Program, mode: str) -> None:
    """Slots of closed books mean nothing: what they were charged for ends without a trace in others."""
    done = program(
        HEAD + "bursar.start(mode, output='first.bursar')\n"
        "with bursar.scope('first') as first: old = [one * n for n in range(5000)]\n"
        "bursar.stop()\n"
        "between = one * 5000\n"
        "bursar.start(mode, output='second.bursar')\n"
        "with bursar.scope('second') as second: new = [one * n for n in range(1000)]\n"
        "held = second.retained\n"
        "del old, between\n"
        "after = second.retained\n"
        "del new\n"
        "print(json.dumps([first.retained, held > 1000 * 500, held == after, second.retained]))\n",
        mode,
    )
    assert printed(done) == [None, True, True, 0]


# Through the functions themselves: nothing tells there whether a block is a pool's.
RESIZED = (
    HEAD
    + """
SIZES = [100, 90, 50, 16, 15, 400, 390, 513, 600, 100, 5, 100000], [5000, 100, 400], [24, 20, 512, 500, 140000, 30]
functions = []
for family in "PyObject_", "PyMem_", "PyMem_Raw":
    realloc, free = getattr(ctypes.pythonapi, family + "Realloc"), getattr(ctypes.pythonapi, family + "Free")
    realloc.argtypes, realloc.restype = [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_void_p
    free.argtypes = [ctypes.c_void_p]
    functions.append((family != "PyMem_Raw", realloc, free))

def turn(pool, realloc, free, sizes):
    p, held = None, 0
    for size in sizes:
        scope = bursar.scope("one")
        with scope:
            p = realloc(p, size)
        # What is malloc's once stays so; a pool's block stays where it is if it shrinks by less than a quarter.
        pool = pool and size <= 512
        held = usable(p) if not pool else held if held * 3 < size * 4 <= held * 4 else -(-size // 16) * 16
        yield scope.retained - held
    free(p)
    yield scope.retained

bursar.start(mode, output="test.bursar")
for _ in range(2):  # free lists are warm in the second turn
    found = [set(turn(*which, sizes)) for which in functions for sizes in SIZES]
print(json.dumps([list(beside) for beside in found]))
"""
)


@MODES
def test_reallocs_between_pools_and_malloc(program: Program, mode: str) -> None:
    """A large block that shrinks to a small one stays malloc's, and no pool's head is before it."""
    # Beside the block there is what the call gives: the number that is its address.
    beside = {32, 0} if sys.version_info >= (3, 14) else {32}  # where integers have a free list
    found = printed(program(RESIZED, mode))
    assert len(found) == 9 and all(set(each) <= beside for each in found), found


# pymalloc's arenas begin with one realloc of their table at 16, 32, 64 of them.
NO_TABLES = (
    HEAD
    + """
bursar.start(mode, output="test.bursar")
with bursar.scope("first"):  # from here on our hooks are where they stay
    pass
driver = ctypes.PyDLL(sys.argv[2])
driver.install()
no_tables = ctypes.c_bool.in_dll(driver, "no_tables")
COUNT = 1_600_000

def fill(last):
    for _ in range(COUNT):
        last = (last,)
    return last

for turn in range(2):
    no_tables.value = True
    with bursar.scope("load") as s:
        kept = fill(None)
    no_tables.value = False
    usable(id(kept) - 16) == 56 or sys.exit("it had its tables")
    full = s.live
    while kept:  # one by one, not by recursion
        kept = kept[0]
    print(full / COUNT, s.live)
"""
)


@MODES
def test_where_pymalloc_has_no_table_of_arenas(program: Program, mode: str, tmp_path: Path) -> None:
    """Then small blocks are malloc's, though an arena could be had, and are charged as such."""
    driver = build(tmp_path / "no_tables.so", [], "no_tables.c")
    for line in program(NO_TABLES, mode, driver).stdout.splitlines():
        each, left = map(float, line.split())
        assert 48 <= each <= 56 and 0 <= left <= 2000 * 64  # a free list of tuples
