"""The account by request, in C: who is charged, in threads, tasks and generators, under the GIL and without it."""

import subprocess
import sys

import pytest
from books import Keep, keep
from test_native_detached import DETACHED

__all__ = ["keep"]
pytestmark = pytest.mark.core

# one * n is one allocation of n + 33 bytes.
HEAD = """\
import asyncio, gc, os, sys, threading
from bursar._bursar import Scope
one = b"x"
def near(n): return range(n - 200, n + 201)  # the figures themselves are objects
def quiet(f):  # twice: what is made once (caches, code) is not counted
    f(); f()
"""


def test_nesting_and_what_outlives_it(keep: Keep) -> None:
    keep(
        HEAD + "def work():\n"
        "    kept = [None] * 4\n"
        "    with Scope('outer') as outer:\n"
        "        before = outer.live\n"
        "        kept[0] = one * 1000\n"
        "        assert outer.live - before in near(1033), outer.live\n"
        "        with Scope('inner') as inner:\n"
        "            start, around = inner.live, outer.live\n"
        "            kept[1] = one * 2000\n"
        "            kept[2] = one * 100_000\n"
        "            kept[2] = None\n"
        "            assert inner.live - start in near(2033) and outer.live - around in near(2033)\n"
        "            assert inner.peak >= 102_066 and inner.retained is None\n"
        "        assert 2033 <= inner.retained < 2400 and inner.live == inner.retained\n"
        "        kept[0] = None\n"
        "        assert inner.retained >= 2033\n"
        "        held = outer.live\n"
        "        kept[1] = None\n"
        "        assert inner.retained < 400 and held - outer.live in near(2033)\n"
        "        kept[3] = one * 5000\n"
        "    assert 5033 <= outer.retained < 6000 and outer.allocated > 108_000 and outer.allocations >= 4\n"
        "    kept[3] = None\n"
        "    assert outer.retained < 1000 and outer.seconds > 0\n"
        "quiet(work)\n"
        "assert not any(isinstance(o, Scope) for o in gc.get_objects())\n"
    )


def test_blocks_of_every_size(keep: Keep) -> None:
    keep(
        HEAD + "import ctypes\n"
        "c = ctypes.PyDLL(None)\n"
        "c.PyMem_Malloc.restype = c.PyMem_Realloc.restype = ctypes.c_void_p\n"
        "c.PyMem_Malloc.argtypes, c.PyMem_Free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]\n"
        "c.PyMem_Realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]\n"
        "sizes = [1, 8, 15, 16, 17, 32, 511, 512, 513, 5000, 1 << 20]\n"
        "def work():\n"
        "    blocks = [0] * len(sizes)\n"
        "    with Scope('sizes') as scope:\n"
        "        for i, size in enumerate(sizes):\n"
        "            live = scope.live\n"
        "            blocks[i] = c.PyMem_Malloc(size)\n"
        "            assert scope.live - live - size in range(0, 65), (size, scope.live - live)\n"
        "        for i, size in enumerate(sizes):\n"
        "            live = scope.live\n"
        "            blocks[i] = c.PyMem_Realloc(blocks[i], size + 40)\n"
        "            assert scope.live - live - 40 in range(-64, 65)\n"
        "    held = scope.retained\n"
        "    for block in blocks: c.PyMem_Free(block)\n"
        "    assert held - scope.retained == sum(sizes) + 40 * len(sizes), (held, scope.retained)\n"
        "quiet(work)\n"
    )


def test_each_task_is_in_its_own(keep: Keep) -> None:
    keep(
        HEAD + "async def task(n):\n"
        "    with Scope('task') as scope:\n"
        "        kept = []\n"
        "        for _ in range(5):\n"
        "            kept.append(one * (n * 10_000))\n"
        "            await asyncio.sleep(0)\n"
        "        held = 5 * (n * 10_000 + 33)\n"
        "        assert held <= scope.live < held + 5000, (n, scope.live, held)\n"
        "        del kept\n"
        "        return scope\n"
        "async def main():\n"
        "    with Scope('all') as around:\n"
        "        scopes = await asyncio.gather(*(task(n) for n in range(1, 40)))\n"
        "    assert around.peak > sum(scope.peak for scope in scopes) * 0.9\n"
        "    assert around.allocated > sum(scope.allocated for scope in scopes)\n"
        "asyncio.run(main())\n"
    )


def test_threads(keep: Keep) -> None:
    """A thread starts outside; a context carried over is inside, and outside again once the scope has ended."""
    keep(
        HEAD + "import concurrent.futures, contextvars\n"
        "pool = concurrent.futures.ThreadPoolExecutor(1)\n"
        "pool.submit(list).result()\n"
        "def make(n): return one * n\n"
        "with Scope('a') as a:\n"
        "    live = a.live\n"
        "    other = pool.submit(make, 50_000).result()\n"
        "    assert a.live - live < 20_000\n"
        "    context = contextvars.copy_context()\n"
        "    mine = pool.submit(context.run, make, 50_000).result()\n"
        "    assert 50_033 <= a.live - live < 70_000\n"
        "held = a.retained\n"
        "late = pool.submit(context.run, make, 50_000).result()\n"
        "assert a.retained - held < 5000\n"
        "def turns(n):\n"
        "    for _ in range(50):\n"
        "        with Scope(f'thread {n}') as scope:\n"
        "            kept = [one * 1000 for _ in range(n)]\n"
        "            assert n * 1033 <= scope.live < n * 1033 + 9000, scope.live\n"
        "threads = [threading.Thread(target=turns, args=(n,)) for n in (1, 10, 100)]\n"
        "sys.setswitchinterval(1e-5)\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join()\n"
    )


def test_without_the_gil(keep: Keep) -> None:
    keep(
        HEAD + DETACHED + "def work():\n"
        "    with Scope('native') as scope:\n"
        "        live = scope.live\n"
        "        p = loose_malloc(70_000)\n"
        "        q = malloc(30_000)\n"
        "        m = loose_mmap(None, 8192, 3, 0x22, -1, 0)\n"
        "        assert scope.live - live in range(108_192, 109_000), scope.live - live\n"
        "        munmap(m, 4096)\n"
        "        assert scope.live - live in range(104_096, 105_000)\n"
        "    held = scope.retained\n"
        "    free(p); loose_free(q); munmap(m + 4096, 4096)\n"
        "    assert held - scope.retained in range(104_096, 105_000), held - scope.retained\n"
        "quiet(work)\n",
        "--domains", "all",
    )  # fmt: skip


def test_wrong_uses(keep: Keep) -> None:
    books = keep(
        HEAD + "import contextvars\n"
        "def says(f):\n"
        "    try: f()\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
        "scope = Scope('it')\n"
        "says(lambda: scope.__exit__(None, None, None))\n"
        "scope.__enter__()\n"
        "says(scope.__enter__)\n"
        "thread = threading.Thread(target=lambda: says(lambda: scope.__exit__(None, None, None)))\n"
        "thread.start(); thread.join()\n"
        "scope.__exit__(None, None, None)\n"
        "says(lambda: scope.__exit__(None, None, None))\n"
        "says(lambda: Scope(''))\n"
        "def never():\n"
        "    with Scope('generator'): yield\n"
        "g = never(); next(g); del g\n"
        "inner = contextvars.copy_context().run(lambda: Scope('lost').__enter__())\n"
        "del inner; gc.collect()\n"
        "if os.fork() == 0:\n"
        "    with Scope('child') as child: pass\n"
        "    assert child.live is None and child.peak is None\n"
        "    os._exit(0)\n"
        "assert os.wait()[1] == 0\n"
        "with Scope('forked') as forked:\n"
        "    if os.fork() == 0:\n"
        "        try:\n"
        "            forked.__exit__(None, None, None)\n"
        "            assert forked.live is None\n"
        "        except BaseException: os._exit(1)\n"
        "        os._exit(0)\n"
        "    assert os.wait()[1] == 0\n"
    )
    assert books.done.stdout.splitlines() == [
        "RuntimeError scope 'it' was not entered: use it in a with statement",
        "RuntimeError scope 'it' was entered before: make a new one for each entry",
        "RuntimeError scope 'it' was entered in another thread or task: leave it there",
        "RuntimeError scope 'it' has ended already",
        "ValueError a scope needs a name",
    ]


def test_without_books() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + "with Scope('x') as s:\n    assert s.live is None\nassert s.retained is None\n"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
