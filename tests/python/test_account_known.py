"""Programs whose memory is known beforehand: what the books say of them, to the byte.

The blocks are made by `ONE * n`: one allocation of n + 33 requested bytes, which is what sys.getsizeof says too."""

import json
from pathlib import Path
from typing import Any

import pytest
from books import ONE, Books, Keep, assert_balanced, keep
from running import Facts, Run

__all__ = ["keep"]
pytestmark = pytest.mark.core

HEADER = 33  # bytes of a bytes object beside its content
ALLOCATORS = ["default", "malloc", "pymalloc", "debug", "malloc_debug", "pymalloc_debug"]


def test_a_peak_of_known_size(keep: Keep) -> None:
    """A greater amount allocated in all, an early peak that is freed, a later one above it, something after it."""
    books = keep(
        "def early():\n"
        "    held = [None] * 100\n"
        "    for i in range(100):\n"
        "        held[i] = bytes(1_200_000)  # @early\n"
        "def later(kept):\n"
        "    held = [None] * 150\n"
        "    for i in range(150):\n"
        "        held[i] = bytes(1_000_007)  # @later\n"
        "def main():\n"
        "    early()\n"
        "    kept = [None] * 80\n"
        "    for i in range(80):\n"
        "        kept[i] = bytes(999_967)  # @kept\n"
        "    later(kept)\n"
        "    kept[0] = bytes(77_000_000)  # @after\n"
        "    return kept\n"
        "kept = main()\n"
    )
    early, kept = 100 * (1_200_000 + HEADER), 80 * 1_000_000
    later = 150 * (1_000_007 + HEADER)
    facts = books.facts
    assert kept + later <= facts["peak_bytes"] <= (kept + later) * 1.001
    # What was not asked for above is the interpreter's own start, and next to nothing since.
    own = sum(site["peak_bytes"] for site in facts["sites"] if site["phase"] == "main") - kept - later
    assert 0 <= own < 40_000
    for mark, at_peak, live, count, allocated in [
        ("early", 0, 0, 100, early), ("kept", kept, kept - 1_000_000, 80, kept), ("later", later, 0, 150, later),
        ("after", 0, 77_000_000 + HEADER, 1, 77_000_000 + HEADER),
    ]:  # fmt: skip
        # bytes(n) may make an argument tuple for the call, which is gone again.
        assert books.sum(mark, "peak_bytes") == at_peak, mark
        assert books.sum(mark, "live_bytes") == live, mark
        assert count <= books.sum(mark, "allocations") <= 2 * count + 1
        assert allocated <= books.sum(mark, "allocated_bytes") <= allocated + 100 * (count + 1)
    assert [site["live_blocks"] for site in books.sites("kept")] == [79]
    assert 0 < facts["peak_time_s"] < facts["run_s"]


@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_every_size_to_the_byte(keep: Keep, allocator: str) -> None:
    """All sizes around the classes of pymalloc, its limit and the page; under each allocator that Python has."""
    books = keep(
        ONE + "def main():\n"
        "    sizes = [*range(2, 1200), 4095, 4096, 4097, 65535, 65536, 100_000, 3_000_000]\n"
        "    kept = [None] * len(sizes)\n"
        "    at = 0\n"
        "    for n in sizes:\n"
        "        kept[at] = ONE * n  # @kept\n"
        "        at += 1\n"
        "    for at in range(0, len(sizes), 2):\n"
        "        kept[at] = None\n"
        "    return kept\n"
        "kept = main()\n",
        env={"PYTHONMALLOC": None if allocator == "default" else allocator},
    )
    sizes = [*range(2, 1200), 4095, 4096, 4097, 65535, 65536, 100_000, 3_000_000]
    assert books.sum("kept", "allocations") == len(sizes)
    assert books.sum("kept", "allocated_bytes") == sum(sizes) + HEADER * len(sizes)
    assert books.sum("kept", "peak_bytes") == sum(sizes) + HEADER * len(sizes)
    left = sizes[1::2]
    assert books.sum("kept", "live_bytes") == sum(left) + HEADER * len(left)
    assert books.sum("kept", "live_blocks") == len(left)
    assert books.sum("kept", "temporary_allocations") == 0


def test_temporaries(keep: Keep) -> None:
    books = keep(
        ONE + "from itertools import repeat\n"
        "def main(n):\n"
        "    for _ in repeat(None, 5000):\n"
        "        ONE * n  # @gone\n"
        "    kept = [None] * 100\n"
        "    for at in range(100):\n"
        "        kept[at] = ONE * n  # @kept\n"
        "    a = b = None\n"
        "    for _ in repeat(None, 3000):\n"
        "        a = ONE * n  # @overlapping\n"
        "main(2000)\n"
        "main(20)\n"
    )
    assert books.sum("gone", "allocations") == books.sum("gone", "temporary_allocations") == 10000
    assert books.sum("gone", "live_bytes") == 0
    assert books.sum("kept", "allocations") == 200
    assert books.sum("kept", "temporary_allocations") <= 2  # the last, where nothing is allocated after it
    assert books.sum("overlapping", "allocations") == 6000
    assert books.sum("overlapping", "temporary_allocations") <= 2


@pytest.mark.parametrize(("within", "temporary"), [(1, False), (2, False), (3, True), (4, True), (1024, True)])
def test_temporary_within(keep: Keep, within: int, temporary: bool) -> None:
    """Each block ends when two more have been allocated: before the third."""
    books = keep(
        ONE + "from itertools import repeat\n"
        "def main(n):\n"
        "    a = b = c = None\n"
        "    for _ in repeat(None, 4000):\n"
        "        a, b = b, ONE * n  # @block\n"
        "main(500)\n",
        "--temporary-within",
        str(within),
    )
    assert books.facts["temporary_within"] == within
    assert books.sum("block", "allocations") == 4000
    counted = books.sum("block", "temporary_allocations")
    assert (3998 <= counted <= 4000) if temporary else counted <= 2


def test_leaks(keep: Keep, bursar: Run, ledger: Path) -> None:
    """Allocated since __main__ began and live when it finished, before atexit."""
    books = keep(
        ONE + "import atexit\n"
        "kept = []\n"
        "def leave():\n"
        "    kept.append(ONE * 300_000)  # @exit\n"
        "    kept[0] = None\n"
        "atexit.register(leave)\n"
        "def main(n):\n"
        "    kept.append(ONE * n)  # @leak\n"
        "    gone = ONE * n  # @gone\n"
        "    temporary = [ONE * n]  # @returned\n"
        "    return temporary\n"
        "main(500_000)\n"
    )
    assert books.sum("leak", "live_bytes") == 500_000 + HEADER  # freed by atexit, live at the end
    assert all(site["leak"] and site["phase"] == "main" for site in books.sites("leak"))
    assert books.sum("gone", "live_bytes") == books.sum("returned", "live_bytes") == 0
    assert not any(site["leak"] for site in [*books.sites("gone"), *books.sites("returned"), *books.sites("exit")])
    assert [site["phase"] for site in books.sites("exit") if site["allocated_bytes"] > 300_000] == ["exit"]
    done = bursar("report", ledger, "--view", "leaks", "--format", "json")
    leaks = json.loads(done.stdout)["sites"]
    assert leaks[0]["live_bytes"] >= 500_000 + HEADER
    assert not [site for site in leaks if not site["leak"]]


def test_a_list_that_grows(keep: Keep) -> None:
    """realloc: the old block ends, the new one is the line's that asked for it."""
    books = keep(
        "import json, sys\n"
        "def main():\n"
        "    items, moves, size = [], 0, sys.getsizeof([])\n"
        "    for _ in range(5000):\n"
        "        items.append(None)  # @first\n"
        "        moves += sys.getsizeof(items) != size\n"
        "        size = sys.getsizeof(items)\n"
        "    half, first = size - sys.getsizeof([]), moves\n"
        "    for _ in range(5000):\n"
        "        items.append(None)  # @second\n"
        "        moves += sys.getsizeof(items) != size\n"
        "        size = sys.getsizeof(items)\n"
        "    print(json.dumps([half, first, size - sys.getsizeof([]), moves - first]))\n"
        "    return items\n"
        "items = main()\n"
    )
    half, first, size, second = json.loads(books.done.stdout)
    assert first > 10 and second > 2 and size > half
    assert books.sum("first", "allocations", "python.mem") == first
    assert books.sum("first", "live_bytes", "python.mem") == 0
    assert books.sum("second", "allocations", "python.mem") == second
    assert books.sum("second", "live_bytes", "python.mem") == size
    assert books.sum("second", "live_blocks", "python.mem") == 1


def test_a_bytearray_that_grows_and_shrinks(keep: Keep) -> None:
    books = keep(
        "import json, sys\n"
        "def main():\n"
        "    grown = bytearray()\n"
        "    for _ in range(300):\n"
        "        grown += PIECE  # @grow\n"
        "    size = sys.getsizeof(grown)\n"
        "    del grown[1000:]  # @shrink\n"
        "    print(json.dumps([size, sys.getsizeof(grown), sys.getsizeof(bytearray())]))\n"
        "    return grown\n"
        "PIECE = b'y' * 10_000\n"
        "grown = main()\n"
    )
    size, shrunk, empty = json.loads(books.done.stdout)
    assert size > 3_000_000 > 2000 > shrunk
    domains = "python.obj", "python.mem"  # its bytes are obj's until 3.12, mem's since
    assert [books.sum("grow", "peak_bytes", domain) for domain in domains].count(size - empty) == 1
    assert [books.sum("grow", "live_bytes", domain) for domain in domains] == [0, 0]
    assert sorted(books.sum("shrink", "live_bytes", domain) for domain in domains) == [0, shrunk - empty]
    assert sorted(books.sum("shrink", "live_blocks", domain) for domain in domains) == [0, 1]


def test_threads_and_a_peak_of_all(keep: Keep) -> None:
    """Each thread has a line of its own, holds most at its own time, and all hold something when the whole is at its
    greatest."""
    threads = 5
    functions = "".join(
        f"def work{n}():\n"
        f"    alone = [None] * 10\n"
        f"    for i in range(10):\n"
        f"        alone[i] = ONE * {100_000 * (n + 1)}  # @alone{n}\n"
        "    del alone\n"
        "    turn.wait()\n"
        f"    held = [None] * 30\n"
        f"    for i in range(30):\n"
        f"        held[i] = ONE * {200_000 + n}  # @held{n}\n"
        "    turn.wait()\n"
        "    turn.wait()\n"
        for n in range(threads)
    )
    books = keep(
        ONE + f"import threading\nturn = threading.Barrier({threads})\n" + functions
        + f"threads = [threading.Thread(target=globals()[f'work{{n}}']) for n in range({threads})]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
    )
    held = [30 * (200_000 + n + HEADER) for n in range(threads)]
    assert sum(held) <= books.facts["peak_bytes"] <= sum(held) * 1.03
    for n in range(threads):
        assert books.sum(f"held{n}", "peak_bytes") == held[n]
        assert books.sum(f"alone{n}", "peak_bytes") == 0
        assert books.sum(f"alone{n}", "allocated_bytes") == 10 * (100_000 * (n + 1) + HEADER)
        assert books.sum(f"held{n}", "live_bytes") == 0
        (site,) = books.sites(f"held{n}")
        assert [frame["function"] for frame in site["stack"]][:2] == [f"work{n}", "run"]
        assert site["stack"][-1]["function"] == "_bootstrap"


def test_blocks_of_more_than_4_gib(keep: Keep) -> None:
    """Around the size that no longer fits 32 bits, and beyond. calloc'ed, never touched."""
    sizes = [2**32 - 2, 2**32 - 1, 2**32, 2**32 + 1, 5 << 30]
    books = keep(
        "def main():\n"
        + "".join(f"    a = bytes({size - HEADER})  # @s{n}\n    a = None\n" for n, size in enumerate(sizes))
        + f"    return bytes({sizes[-1]})  # @kept\n"
        "kept = main()\n"
    )
    for n, size in enumerate(sizes):
        assert books.sum(f"s{n}", "live_bytes") == 0
        assert size <= books.sum(f"s{n}", "allocated_bytes") <= size + 200
    assert books.sum("kept", "live_bytes") == books.sum("kept", "peak_bytes") == sizes[-1] + HEADER
    assert sizes[-1] <= books.facts["peak_bytes"] < sizes[-1] * 1.001


def test_size_zero_and_failures(keep: Keep) -> None:
    """A block of no bytes is a block; what fails is none, and a failed realloc leaves the block as it was."""
    books = keep(
        "import ctypes\n"
        "api = ctypes.pythonapi\n"
        "for name in 'PyMem_RawMalloc', 'PyMem_RawRealloc':\n"
        "    getattr(api, name).restype = ctypes.c_void_p\n"
        "    getattr(api, name).argtypes = [ctypes.c_size_t]\n"
        "api.PyMem_RawRealloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]\n"
        "api.PyMem_RawFree.argtypes = [ctypes.c_void_p]\n"
        "def main():\n"
        "    for i in range(50):\n"
        "        api.PyMem_RawMalloc(0)  # @zero\n"
        "    p = api.PyMem_RawMalloc(1000)  # @kept\n"
        "    assert not api.PyMem_RawRealloc(p, 1 << 62)  # @fails\n"
        "    assert not api.PyMem_RawMalloc(1 << 62)  # @none\n"
        "    q = api.PyMem_RawMalloc(2000)  # @gone\n"
        "    api.PyMem_RawFree(q)\n"
        "    return p\n"
        "p = main()\n"
    )
    assert books.sum("zero", "live_blocks", "python.raw") == 50
    assert books.sum("zero", "live_bytes", "python.raw") == 0
    assert books.sum("kept", "live_bytes", "python.raw") == 1000
    assert books.sum("fails", "allocations", "python.raw") == books.sum("none", "allocations", "python.raw") == 0
    assert books.sum("gone", "allocated_bytes", "python.raw") == 2000
    assert books.sum("gone", "live_bytes", "python.raw") == 0


@pytest.mark.parametrize("frames", [1, 25])
def test_tracemalloc_on_top(keep: Keep, frames: int) -> None:
    """A program that traces itself: both see the same blocks, and the books go on after it stops."""
    books = keep(
        ONE + "import tracemalloc\n"
        "def main():\n"
        f"    tracemalloc.start({frames})\n"
        "    kept = [None] * 200\n"
        "    for i in range(100):\n"
        "        kept[i] = ONE * 10_000  # @traced\n"
        "    taken = tracemalloc.take_snapshot().statistics('lineno')\n"
        "    print(max(line.size for line in taken))\n"
        "    del taken\n"
        "    for i in range(50):\n"
        "        kept[i] = None\n"
        "    tracemalloc.stop()\n"
        "    for i in range(100, 200):\n"
        "        kept[i] = ONE * 10_000  # @since\n"
        "    for i in range(75, 150):\n"
        "        kept[i] = None\n"
        "    return kept\n"
        "kept = main()\n"
    )
    assert int(books.done.stdout) == 100 * 10_033
    assert books.sum("traced", "allocations") == books.sum("since", "allocations") == 100
    assert books.sum("traced", "live_bytes") == 25 * 10_033
    assert books.sum("since", "live_bytes") == 50 * 10_033


def started(execute: Run, facts: Facts, python: str, tmp_path: Path, text: str, *ledgers: str) -> list[Books]:
    """Runs a program that starts its books itself, and reads the ledgers that it made."""
    path = tmp_path / "program.py"
    path.write_text(text)
    done = execute(python, path)
    assert done.returncode == 0, done.stderr
    return [Books(text, path, done, facts(tmp_path / name)) for name in ledgers]


START = (
    "from bursar import _bursar\n"
    "def start(name):\n"
    "    _bursar.start(_bursar.create(name, False))\n"
)  # fmt: skip


def test_books_that_begin_and_end_in_the_middle(execute: Run, facts: Facts, python: str, tmp_path: Path) -> None:
    """What was there before is nobody's; what ends after the stop stays; the second books begin at nothing."""
    first, second = started(
        execute, facts, python, tmp_path,
        START + ONE + "def main():\n"
        "    early = ONE * 100_000  # @early\n"
        "    start('first')\n"
        "    kept = [None] * 20\n"
        "    for i in range(20):\n"
        "        kept[i] = ONE * 50_000  # @first\n"
        "    early = None\n"
        "    kept[0] = None\n"
        "    _bursar.stop()\n"
        "    kept[1] = None\n"
        "    unseen = ONE * 70_000  # @unseen\n"
        "    start('second')\n"
        "    kept[2] = unseen = None\n"
        "    for i in range(3):\n"
        "        kept[i] = ONE * 30_000  # @second\n"
        "    _bursar.stop()\n"
        "    return kept\n"
        "kept = main()\n",
        "first", "second",
    )  # fmt: skip
    for books in first, second:
        assert_balanced(books.facts)
        assert books.facts["state"] == "stopped"
        assert books.facts["live_bytes"] >= 0
        for mark in "early", "unseen":
            assert not books.sites(mark)
    assert first.sum("first", "live_bytes") == 19 * 50_033
    assert first.sum("first", "peak_bytes") == 20 * 50_033
    assert not first.sites("second") and not second.sites("first")
    assert second.sum("second", "live_bytes") == 3 * 30_033
    assert second.facts["peak_bytes"] < 200_000


def test_books_opened_a_hundred_times(execute: Run, facts: Facts, python: str, tmp_path: Path) -> None:
    """Every time the same figures; nothing of earlier books is left over."""
    names = [f"ledger{n}" for n in range(100)]
    every = started(
        execute, facts, python, tmp_path,
        START + ONE + "kept = [None] * 10\n"
        "def fill(name):\n"
        "    start(name)\n"
        "    for i in range(10):\n"
        "        kept[i] = ONE * 5000  # @fill\n"
        "    for i in range(5):\n"
        "        kept[i] = None\n"
        "    _bursar.stop()\n"
        "for n in range(100):\n"
        "    fill(f'ledger{n}')\n",
        *names[::9],
    )  # fmt: skip
    for books in every:
        assert books.sum("fill", "live_bytes") == 5 * 5033
        assert books.sum("fill", "allocations") == 10


def test_subinterpreters_that_share_the_gil(keep: Keep) -> None:
    books = keep(
        ONE + "try: import _interpreters as sub\n"
        "except ImportError: import _xxsubinterpreters as sub\n"
        "import sys\n"
        "TEXT = '''\n"
        "ONE = b'x'\n"
        "def inner():\n"
        "    return ONE * 4_000_000\n"
        "kept = inner()\n"
        "gone = ONE * 3_000_000\n"
        "del gone\n"
        "'''\n"
        "create = sub.create\n"
        "one, two = [create('legacy') if sys.version_info >= (3, 13) else create(isolated=False) for _ in range(2)]\n"
        "sub.run_string(one, TEXT)\n"
        "sub.run_string(two, TEXT)\n"
        "sub.destroy(one)\n"
        "def after():\n"
        "    return ONE * 1_000_000  # @after\n"
        "kept = after()\n"
        "sub.run_string(two, 'del kept')\n"
    )
    inner = [site for site in books.facts["sites"] if site["stack"] and site["stack"][0]["function"] == "inner"]
    assert sum(site["allocated_bytes"] for site in inner) == 2 * 4_000_033
    assert sum(site["live_bytes"] for site in inner) == 0
    # At the peak both held theirs, beside the second one's 3 MB and what two interpreters need for themselves.
    assert sum(site["peak_bytes"] for site in inner) == 2 * 4_000_033
    assert sum(site["peak_bytes"] for site in books.facts["sites"]) == books.facts["peak_bytes"]
    assert sum(3_000_033 <= site["peak_bytes"] < 3_010_000 for site in books.facts["sites"]) == 1
    assert books.sum("after", "live_bytes") == 1_000_033
    assert books.facts["live_bytes"] < 4_000_000


def test_subinterpreters_with_gils_of_their_own(keep: Keep, execute: Run, python: str) -> None:
    """They run beside the main interpreter: counted without stacks, to the byte."""
    done = execute(python, "-c", "import sys; print(sys.version_info[:2] >= (3, 12))")
    if done.stdout.strip() != "True":
        pytest.skip("GILs of their own came with Python 3.12")
    books = keep(
        ONE + "import sys, threading\n"
        "try: import _interpreters as sub\n"
        "except ImportError: import _xxsubinterpreters as sub\n"
        "TEXT = '''\n"
        "ONE = b\"x\"\n"
        "kept = [ONE * (1000 + i) for i in range(3000)]\n"
        "for _ in range(30000):\n"
        "    ONE * 700\n"
        "kept.append(ONE * 20_000_000)\n"
        "del kept\n"
        "kept = ONE * 3_000_000\n"
        "'''\n"
        "how = {'isolated': True} if sys.version_info < (3, 13) else {}\n"
        "ids = [sub.create(**how) for _ in range(3)]\n"
        "threads = [threading.Thread(target=sub.run_string, args=(one, TEXT)) for one in ids]\n"
        "for thread in threads: thread.start()\n"
        "def beside():\n"
        "    for i in range(30000):\n"
        "        ONE * 900  # @beside\n"
        "beside()\n"
        "for thread in threads: thread.join()\n"
        "def after():\n"
        "    return ONE * 1_000_000  # @after\n"
        "kept = after()\n",
        balanced=False,
    )
    facts = books.facts
    assert books.sum("beside", "allocations") == 30000
    assert books.sum("beside", "live_bytes") == 0
    assert books.sum("after", "live_bytes") == 1_000_033
    # The subinterpreters end with the process, after the books: their 3 MB are live, and what their modules hold.
    assert 10_000_000 <= facts["live_bytes"] < 24_000_000
    assert facts["outside_allocations"] > 3 * 33_000
    assert facts["live_bytes"] == sum(site["live_bytes"] for site in facts["sites"])
    assert facts["allocations"] == sum(site["allocations"] for site in facts["sites"])
    assert 20_000_000 < facts["peak_bytes"] + facts["peak_error_bytes"] < 130_000_000


FORKS = (
    ONE + "import os, sys\n"
    "def main():\n"
    "    kept = [ONE * 100_000 for _ in range(20)]  # @before\n"
    "    pid = os.fork()\n"
    "    if not pid:\n"
    "        more = [None] * 50\n"
    "        for i in range(50):\n"
    "            more[i] = ONE * 200_000  # @child\n"
    "        kept.clear()\n"
    "        print(os.getpid(), flush=True)\n"
    "        sys.exit(0)\n"
    "    os.waitpid(pid, 0)\n"
    "    return kept, ONE * 300_000  # @parent\n"
    "kept = main()\n"
)


def check_parent(books: Books) -> None:
    assert not books.sites("child")
    assert sum(site["live_bytes"] for site in books.sites("before")) == 20 * 100_033
    assert books.sum("parent", "live_bytes") >= 300_033
    assert books.facts["peak_bytes"] < 4_000_000


def test_a_forked_child_leaves_no_trace(keep: Keep, ledger: Path) -> None:
    books = keep(FORKS)
    check_parent(books)
    assert list(ledger.parent.glob(ledger.name + "*")) == [ledger]
    assert "bursar" not in books.done.stdout


def test_a_child_that_is_followed(keep: Keep, ledger: Path, facts: Facts) -> None:
    books = keep(FORKS, "--follow-fork")
    check_parent(books)
    child = Path(f"{ledger}.{int(books.done.stdout)}")
    assert sorted(ledger.parent.glob(ledger.name + "*")) == [ledger, child]
    own = Books(books.text, books.path, books.done, facts(child))
    assert_balanced(own.facts)
    assert own.facts["pid"] == int(books.done.stdout)
    assert own.sum("child", "allocated_bytes") == own.sum("child", "peak_bytes") == 50 * 200_033
    assert not own.sites("before")  # allocated before its books began
    assert own.facts["live_bytes"] < 12_000_000


@pytest.mark.parametrize("follow", [False, True])
def test_exec(bursar: Run, facts: Facts, ledger: Path, tmp_path: Path, follow: bool) -> None:
    """The program is replaced by another: its books end there, and those of the other Python are its own."""
    second = tmp_path / "second.py"
    second.write_text(
        "import os\nkept = b'x' * int('7000000')\nprint('BURSAR_RUN' not in os.environ, os.getpid())\n"
    )
    first = tmp_path / "first.py"
    first.write_text(
        "import os, sys\nkept = b'x' * int('5000000')\n"
        f"os.execv(sys.executable, [sys.executable, {str(second)!r}])\n"
    )
    done = bursar("run", *(["--follow-fork"] if follow else []), "-o", ledger, first)
    assert done.returncode == 0, done.stderr
    gone, pid = done.stdout.split()
    read = facts(ledger)
    assert read["complete"] is False
    assert 5_000_033 <= read["live_bytes"] < 6_000_000
    ledgers = sorted(path.name for path in ledger.parent.glob(ledger.name + "*"))
    if follow:
        assert ledgers == [ledger.name, f"{ledger.name}.{pid}"]
        own = facts(Path(f"{ledger}.{pid}"))
        assert 7_000_033 <= own["live_bytes"] < 8_000_000
        assert own["complete"] is True
    else:
        assert ledgers == [ledger.name]
        assert gone == "True"


def all_phases(facts: dict[str, Any]) -> set[str]:
    return {site["phase"] for site in facts["sites"]}


def test_phases(keep: Keep) -> None:
    """Start-up, __main__, exit: and nothing unknown in a program that has but Python threads."""
    books = keep("import atexit, json\natexit.register(lambda: json.dumps([1] * 1000))\njson.dumps({})\n")
    assert all_phases(books.facts) >= {"startup", "main", "exit"}
    assert not books.facts["unresolved_frames"]
