"""What C code takes from the system: the malloc family, mappings, NumPy's data. Each figure is known to the byte."""

from pathlib import Path

import pytest
from books import Books, Keep, keep
from running import Run

__all__ = ["keep"]
pytestmark = pytest.mark.core

# The C library's functions, called with the GIL held, so that the line is known, and by their names, as C code does.
C = """import ctypes
c = ctypes.PyDLL(None, use_errno=True)
size_t, pointer = ctypes.c_size_t, ctypes.c_void_p
def declare(result, name, *parameters):
    function = getattr(c, name)
    function.restype, function.argtypes = result, parameters
    return function
malloc = declare(pointer, "malloc", size_t)
calloc = declare(pointer, "calloc", size_t, size_t)
realloc = declare(pointer, "realloc", pointer, size_t)
reallocarray = declare(pointer, "reallocarray", pointer, size_t, size_t)
free = declare(None, "free", pointer)
posix_memalign = declare(ctypes.c_int, "posix_memalign", ctypes.POINTER(pointer), size_t, size_t)
aligned_alloc = declare(pointer, "aligned_alloc", size_t, size_t)
memalign = declare(pointer, "memalign", size_t, size_t)
valloc = declare(pointer, "valloc", size_t)
pvalloc = declare(pointer, "pvalloc", size_t)
mmap = declare(pointer, "mmap", pointer, size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
munmap = declare(ctypes.c_int, "munmap", pointer, size_t)
mremap = declare(pointer, "mremap", pointer, size_t, size_t, ctypes.c_int)
sbrk = declare(pointer, "sbrk", ctypes.c_ssize_t)
FAILED = 2**64 - 1
def pages(n):
    p = mmap(None, n * 4096, 3, 0x22, -1, 0)
    assert p != FAILED
    return p
"""


def live(books: Books, mark: str, domain: str) -> tuple[int, int]:
    return books.sum(mark, "live_bytes", domain), books.sum(mark, "live_blocks", domain)


def test_each_of_the_family(keep: Keep) -> None:
    books = keep(
        C + "out = pointer()\n"
        "kept = [\n"
        "    malloc(1001),  # @malloc\n"
        "    calloc(7, 143),  # @calloc\n"
        "    realloc(None, 1003),  # @realloc\n"
        "    reallocarray(None, 17, 59),  # @reallocarray\n"
        "    aligned_alloc(64, 1024),  # @aligned_alloc\n"
        "    memalign(256, 1006),  # @memalign\n"
        "    valloc(1007),  # @valloc\n"
        "    pvalloc(5000),  # @pvalloc\n"
        "]\n"
        "assert posix_memalign(ctypes.byref(out), 4096, 1009) == 0  # @posix_memalign\n"
        "assert out.value % 4096 == 0 and all(kept)\n"
        "assert kept[4] % 64 == kept[5] % 256 == kept[6] % 4096 == kept[7] % 4096 == 0\n",
        "--domains", "all",
    )  # fmt: skip
    sizes = {
        "malloc": 1001, "calloc": 1001, "realloc": 1003, "reallocarray": 1003, "aligned_alloc": 1024, "memalign": 1006,
        "valloc": 1007, "pvalloc": 8192, "posix_memalign": 1009,
    }  # fmt: skip
    assert {name: live(books, name, "malloc") for name in sizes} == {name: (size, 1) for name, size in sizes.items()}


def test_realloc_moves_fails_and_ends(keep: Keep) -> None:
    books = keep(
        C + "def main():\n"
        "    p = malloc(100)  # @first\n"
        "    p = realloc(p, 100_000)  # @grown\n"
        "    assert not realloc(p, 1 << 62)  # @fails\n"
        "    q = malloc(500)  # @ended\n"
        "    assert not realloc(q, 0)\n"
        "    assert not reallocarray(p, 1 << 40, 1 << 40)  # @overflow\n"
        "    assert ctypes.get_errno() == 12\n"
        "    return p\n"
        "p = main()\n",
        "--domains", "all",
    )  # fmt: skip
    assert live(books, "first", "malloc") == live(books, "ended", "malloc") == (0, 0)
    assert books.sum("first", "allocated_bytes", "malloc") == 100
    assert books.sum("ended", "allocated_bytes", "malloc") == 500
    assert live(books, "grown", "malloc") == (100_000, 1)
    assert not books.sites("fails", "malloc") and not books.sites("overflow", "malloc")


def test_python_s_own_blocks_are_counted_once(keep: Keep) -> None:
    """A block above pymalloc's limit comes from malloc, and an arena from mmap: neither is seen twice."""
    books = keep(
        "large = bytes(10_000_000)  # @large\nsmall = [(i,) for i in range(300_000)]  # @small\n", "--domains", "all"
    )
    assert live(books, "large", "python.obj") == (10_000_033, 1)
    assert not books.sites("large", "malloc") and not books.sites("large", "mmap")
    assert not books.sites("small", "malloc") and not books.sites("small", "mmap")


def test_a_mapping_ends_in_pieces(keep: Keep) -> None:
    books = keep(
        C + "kept = pages(100)  # @kept\n"
        "gone = pages(50)  # @gone\n"
        "assert munmap(gone, 50 * 4096) == 0\n"
        "front = pages(10)  # @front\n"
        "assert munmap(front, 4 * 4096) == 0\n"
        "hole = pages(10)  # @hole\n"
        "assert munmap(hole + 3 * 4096, 2 * 4096) == 0\n"
        "parts = pages(9)  # @parts\n"
        "for i in 4, 0, 8, 2, 1, 3, 5, 7, 6:\n"
        "    assert munmap(parts + i * 4096, 4096) == 0\n"
        "small = pages(5)  # @small\n"
        "big = mremap(small, 5 * 4096, 500 * 4096, 1)  # @big\n"
        "assert big != FAILED\n"
        "assert mremap(big, 500 * 4096, 1 << 60, 1) == FAILED  # @fails\n"
        "space = mmap(None, 1 << 32, 0, 0x4022, -1, 0)  # @space\n",
        "--domains", "all",
    )  # fmt: skip

    def pages(mark: str) -> tuple[int, int]:
        bytes_, blocks = live(books, mark, "mmap")
        return bytes_ // 4096, blocks

    # All but the first are made in pages(); the marks are of its callers.
    def by_caller(mark: str) -> tuple[int, int]:
        line = next(n for n, text in enumerate(books.text.splitlines(), 1) if text.endswith(f"# @{mark}"))
        sites = [
            site for site in books.facts["sites"]
            if site["domain"] == "mmap" and len(site["stack"]) > 1 and site["stack"][1]["line"] == line
        ]  # fmt: skip
        return sum(site["live_bytes"] for site in sites) // 4096, sum(site["live_blocks"] for site in sites)

    assert by_caller("kept") == (100, 1)
    assert by_caller("gone") == (0, 0)
    assert by_caller("front") == (6, 1)
    assert by_caller("hole") == (8, 1)
    assert by_caller("parts") == (0, 0)
    assert by_caller("small") == (0, 0)
    assert pages("big") == (500, 1)
    assert not books.sites("fails", "mmap") and not books.sites("space", "mmap")


def test_from_a_thread_without_the_gil(keep: Keep) -> None:
    books = keep(
        C + "import threading\n"
        "free_c = ctypes.CDLL(None)\n"
        "free_c.malloc.restype, free_c.malloc.argtypes = pointer, [size_t]\n"
        "free_c.free.argtypes = [pointer]\n"
        "kept = []\n"
        "def work():\n"
        "    for i in range(1000):\n"
        "        kept.append(free_c.malloc(10_000))\n"
        "        free_c.free(free_c.malloc(777))\n"
        "threads = [threading.Thread(target=work) for i in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "for p in kept[:1000]: free(p)\n"
        "print(len(kept))\n",
        "--domains", "all", peak_error=1_000_000,
    )  # fmt: skip
    sites = [site for site in books.facts["sites"] if site["domain"] == "malloc"]
    assert 30_000_000 <= sum(site["live_bytes"] for site in sites) < 30_200_000
    assert sum(site["allocations"] for site in sites) >= 8000


def test_children_find_no_trace(bursar: Run, tmp_path: Path) -> None:
    text = (
        "import os, subprocess, sys\n"
        "print(os.environ.get('LD_PRELOAD'))\n"
        "code = 'import os; print(os.environ.get(\"LD_PRELOAD\"), \"bursar\" in open(\"/proc/self/maps\").read())'\n"
        "print(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout, end='')\n"
    )
    path = tmp_path / "program.py"
    path.write_text(text)
    done = bursar("run", "--domains", "all", path)
    assert done.stdout == "None\nNone False\n", done.stderr
    library = "libSegFault-that-is-not-there.so"
    done = bursar("run", "--domains", "all", path, env={"LD_PRELOAD": library})
    assert done.stdout.splitlines()[0] == library


@pytest.mark.parametrize("word", ["mallok", "", "python,,numpy"])
def test_no_such_domain(bursar: Run, word: str) -> None:
    done = bursar("run", "--domains", word, "-c", "0")
    assert done.returncode == 2
    assert done.stderr.startswith("bursar: run: no domain ")
