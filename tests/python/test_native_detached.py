"""Threads that released the GIL: what C code allocates then is charged to the line that called it."""

import json
from pathlib import Path

import pytest
from books import Books, Keep, assert_balanced, keep
from running import Run
from test_native import C

__all__ = ["keep"]
pytestmark = pytest.mark.core

# The same functions, called by a ctypes that lets the GIL go meanwhile.
DETACHED = C + (
    "loose = ctypes.CDLL(None)\n"
    "def declare_loose(result, name, *parameters):\n"
    "    function = loose[name]\n"
    "    function.restype, function.argtypes = result, parameters\n"
    "    return function\n"
    "loose_malloc = declare_loose(pointer, 'malloc', size_t)\n"
    "loose_free = declare_loose(None, 'free', pointer)\n"
    "loose_mmap = declare_loose(pointer, 'mmap', pointer, size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,"
    " ctypes.c_long)\n"
    "loose_munmap = declare_loose(ctypes.c_int, 'munmap', pointer, size_t)\n"
)
NATIVE = ("--domains", "malloc,mmap")


def test_the_line_is_known(keep: Keep) -> None:
    books = keep(
        DETACHED + "def inner(n):\n"
        "    return loose_malloc(n)  # @inner\n"
        "def outer():\n"
        "    return inner(5000)  # @outer\n"
        "class It:\n"
        "    def __iter__(self):\n"
        "        yield loose_malloc(70)  # @generator\n"
        "kept = [outer() for _ in range(3)] + list(It())\n"
        "both = [f(1000) for f in (malloc, loose_malloc, malloc, loose_malloc)]  # @both\n"
        "free(both[1]); loose_free(both[0])\n"
        "page = loose_mmap(None, 8192, 3, 0x22, -1, 0)  # @mapped\n"
        "gone = loose_mmap(None, 4096, 3, 0x22, -1, 0)  # @unmapped\n"
        "loose_munmap(gone, 4096)\n",
        *NATIVE,
    )
    assert [(s["live_bytes"], s["live_blocks"]) for s in books.sites("inner", "malloc")] == [(15000, 3)]
    stack = books.sites("inner", "malloc")[0]["stack"]
    assert [frame["function"] for frame in stack[:2]] == ["inner", "outer"]
    assert books.sum("generator", "live_bytes", "malloc") == 70
    # Under the GIL and without it: one line, one site.
    mixed = [s for s in books.sites("both", "malloc") if s["allocated_bytes"] >= 1000]
    assert [(s["allocations"], s["live_blocks"], s["live_bytes"]) for s in mixed] == [(4, 2, 2000)]
    assert books.sum("mapped", "live_bytes", "mmap") == 8192
    assert (books.sum("unmapped", "allocated_bytes", "mmap"), books.sum("unmapped", "live_bytes", "mmap")) == (4096, 0)


def test_threads_at_once(keep: Keep) -> None:
    """More of them than stacks are remembered; each at a line of its own depth, and all at one time without the GIL."""
    books = keep(
        DETACHED + "import threading\n"
        "def down(n, then):\n"
        "    return down(n - 1, then) if n else then()\n"
        "barrier, kept = threading.Barrier(300), []\n"
        "def work(number):\n"
        "    barrier.wait()\n"
        "    for size in range(1000, 1100):\n"
        "        kept.append(down(number % 7, lambda: loose_malloc(size)))  # @work\n"
        "threading.stack_size(256 * 1024)\n"
        "threads = [threading.Thread(target=work, args=(n,)) for n in range(300)]\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join()\n",
        *NATIVE,
    )
    by_depth = [0] * 7
    for site in books.facts["sites"]:
        frames = [frame["function"] for frame in site["stack"]]
        if site["domain"] == "malloc" and frames[:1] == ["<lambda>"]:
            assert frames[frames.count("down") + 1] == "work"
            by_depth[frames.count("down") - 1] += site["live_bytes"]
    more = [got - len(range(n, 300, 7)) * sum(range(1000, 1100)) for n, got in enumerate(by_depth)]
    # An arena of Python's made on that line, beyond 256 MiB of addresses from others, adds a block to its map.
    assert sorted(more) in ([0] * 7, [0] * 6 + [2048]), more


def test_a_peak_without_the_gil(keep: Keep) -> None:
    """It comes and goes in C alone, where nobody who holds the GIL looks."""
    books = keep(
        DETACHED + "import threading\n"
        "malloc(1000)\n"
        "def work():\n"
        "    p = loose_malloc(50 << 20)  # @high\n"
        "    q = loose_malloc(30 << 20)  # @higher\n"
        "    loose_free(p)\n"
        "    loose_free(q)\n"
        "    r = loose_malloc(40 << 20)  # @later\n"
        "    loose_free(r)\n"
        "t = threading.Thread(target=work)\n"
        "t.start(); t.join()\n",
        *NATIVE,
    )
    assert books.sum("high", "peak_bytes", "malloc") == 50 << 20
    assert books.sum("higher", "peak_bytes", "malloc") == 30 << 20
    assert books.sum("later", "peak_bytes", "malloc") == 0
    assert 80 << 20 <= books.facts["peak_bytes"] < 84 << 20  # and what Python holds
    assert books.facts["peak_error_bytes"] < books.facts["peak_bytes"] / 1000


def test_what_was_held_when(keep: Keep, bursar: Run, ledger: Path) -> None:
    books = keep(
        DETACHED + "import time\n"
        "begun = time.monotonic()\n"
        "def rest():\n"
        "    time.sleep(0.2)\n"
        "    for n in range(300): free(malloc(8))\n"
        "steps = []\n"
        "for step in range(4):\n"
        "    steps.append(loose_malloc(1 << 20))  # @step\n"
        "    rest()\n"
        "for p in steps: loose_free(p)\n"
        "rest()\n",
        *NATIVE,
    )
    seen = set()
    for k in range(100):
        at = f"{books.facts['run_s'] * k / 100:.3f}"
        then = json.loads(bursar("report", ledger, "--at", at, "--format", "json").stdout)
        seen.add(Books(books.text, books.path, books.done, then).sum("step", "live_bytes", "malloc") >> 20)
    assert seen == {0, 1, 2, 3, 4}


def test_no_python_at_all(keep: Keep) -> None:
    """A thread that C started and Python never saw: no stack, and known to be none."""
    books = keep(
        DETACHED + "thread, start = ctypes.c_ulong(), ctypes.cast(c.malloc, pointer)\n"
        "create = declare(ctypes.c_int, 'pthread_create', pointer, pointer, pointer, pointer)\n"
        "join = declare_loose(ctypes.c_int, 'pthread_join', ctypes.c_ulong, pointer)\n"
        "for _ in range(3):\n"
        "    create(ctypes.byref(thread), None, start, 70_000)\n"
        "    join(thread, None)\n",
        *NATIVE,
    )
    none = [s for s in books.facts["sites"] if s["domain"] == "malloc" and s["live_bytes"] >= 210_000]
    assert len(none) == 1 and not [frame for frame in none[0]["stack"] if frame["file"]]


def test_many_stacks_are_folded(keep: Keep) -> None:
    """60,000 stacks of which one holds much: the ledger folds the light ones, while another thread goes on."""
    books = keep(
        DETACHED + "import threading\n"
        "exec('def f(n, i):\\n    if not n: return loose_malloc(100)\\n' + ''.join(\n"
        "    f'    if i % 40 == {k}: return f(n - 1, i // 40)\\n' for k in range(40)))\n"
        "heavy = loose_malloc(20 << 20)  # @heavy\n"
        "def work(first):\n"
        "    for i in range(60_000):\n"
        "        kept[first + i] = f(4, i)\n"
        "kept = [0] * 120_000\n"
        "threads = [threading.Thread(target=work, args=(60_000 * n,)) for n in range(2)]\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join()\n"
        "for p in kept[::2]: (loose_free if p % 64 else free)(p)\n",
        *NATIVE,
    )
    assert books.facts["folded_sites"] > 0
    assert books.sum("heavy", "live_bytes", "malloc") == 20 << 20
    held = sum(s["live_bytes"] for s in books.facts["sites"] if s["domain"] == "malloc"
               and [f for f in s["stack"] if f["function"] == "work"])  # fmt: skip
    assert 60_000 * 100 <= held < 60_000 * 100 + 400_000  # and what Python takes from malloc on those lines
    assert_balanced(books.facts)


def test_the_interpreter_ends_meanwhile(keep: Keep) -> None:
    """Daemon threads go on in C while the states that their stacks hang on are freed."""
    for _ in range(5):
        books = keep(
            DETACHED + "import threading, time\n"
            "qsort = loose.qsort\n"
            "def storm():\n"
            "    while True: loose_free(loose_malloc(2000))\n"
            "for _ in range(8): threading.Thread(target=storm, daemon=True).start()\n"
            "time.sleep(0.05)\n",
            *NATIVE, balanced=False,
        )  # fmt: skip
        assert books.facts["allocations"] > 100
