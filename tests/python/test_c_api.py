"""include/bursar.h: allocators of the program's own, and scopes, told by C code that knows of bursar."""

import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from books import Keep, keep

__all__ = ["keep"]
pytestmark = pytest.mark.core

HERE = Path(__file__).parent
HEAD = """\
import ctypes
driver, loose = ctypes.PyDLL({driver!r}), ctypes.CDLL({driver!r})
size_t, pointer, handle = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_uint64
for library in driver, loose:
    for name, result, *parameters in (
        ("pool_alloc", pointer, size_t), ("pool_free", None, pointer), ("arena_make", pointer, size_t),
        ("begin", handle, ctypes.c_char_p), ("end", None, handle), ("in_a_thread", pointer),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, parameters
c = ctypes.PyDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = pointer, [size_t], [pointer]
"""


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler to build the driver with: install gcc")
    out = tmp_path_factory.mktemp("driver") / "api_driver.so"
    subprocess.run(
        [*compiler.split(), "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-D_GNU_SOURCE",
         "-I", HERE.parents[1] / "include", "-o", out, HERE / "api_driver.c"], check=True,
    )  # fmt: skip
    return HEAD.format(driver=str(out))


def scopes(facts: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    return {s["name"]: (s["calls"], s["allocated_bytes"], s["retained_bytes"]) for s in facts.get("scopes", [])}


def test_a_pool_is_counted_by_its_blocks(keep: Keep, driver: str) -> None:
    books = keep(
        driver + "assert driver.setup() == 1\n"
        "def make():\n"
        "    kept = [driver.pool_alloc(100) for _ in range(50)]  # @pool\n"
        "    for p in kept[:20]: driver.pool_free(p)\n"
        "    return kept\n"
        "kept = make()\n"
        "loose_kept = loose.pool_alloc(1000)  # @loose\n"
        "arena = driver.arena_make(1 << 20)  # @arena\n",
        "--domains", "malloc,mmap",
    )  # fmt: skip
    pool = [s for s in books.sites("pool", "malloc") if s["allocations"] >= 50]
    assert [(s["allocations"] - 1, s["live_blocks"], s["live_bytes"]) for s in pool] == [(50, 30, 3000)]
    assert books.sum("loose", "live_bytes", "malloc") == 1000
    assert books.sum("arena", "live_bytes", "mmap") == 0


def test_scopes(keep: Keep, driver: str) -> None:
    keep(
        driver + "from bursar._bursar import Scope\n"
        "assert driver.setup() == 1\n"
        "with Scope('python') as python:\n"
        "    live = python.live\n"
        "    outer = driver.begin(b'c')\n"
        "    p = c.malloc(60_000)\n"
        "    inner = loose.begin(b'c, loose')\n"
        "    q = c.malloc(10_000)\n"
        "    with Scope('python again') as again:\n"
        "        r = c.malloc(5000)\n"
        "        assert again.live in range(5000, 7000), again.live\n"
        "    driver.end(outer)  # and what is inside it\n"
        "    driver.end(inner); driver.end(0); driver.end(12345)\n"
        "    assert python.live - live in range(75_000, 80_000), python.live - live\n"
        "    s = c.malloc(1000)\n"
        "held = python.retained\n"
        "for block in p, q, r, s: c.free(block)\n"
        "assert held - python.retained in range(76_000, 78_000), held - python.retained\n"
        "p = driver.in_a_thread()\n"
        "c.free(p)\n",
        "--domains", "all",
    )  # fmt: skip


def test_the_header_comes_with_the_package(python: str) -> None:
    done = subprocess.run([python, "-c", "import bursar; print(bursar.get_include())"], capture_output=True, text=True)
    assert (Path(done.stdout.strip()) / "bursar.h").read_text() == (HERE.parents[1] / "include/bursar.h").read_text()


def test_without_bursar(python: str, driver: str) -> None:
    program = driver + (
        "assert driver.setup() == 0\np = driver.pool_alloc(10); driver.pool_free(p)\n"
        "assert driver.begin(b'x') == 0\ndriver.end(0)\n"
    )
    done = subprocess.run([python, "-S", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_before_and_after_the_books(python: str, driver: str, tmp_path: Path) -> None:
    program = driver + (
        "import bursar\nfrom bursar import _bursar\n"
        "assert driver.setup() == 1\n"
        "p = driver.pool_alloc(100); assert driver.begin(b'early') == 0\n"
        f"bursar.start('exact', output={str(tmp_path / 'x.bursar')!r}, domains='all')\n"
        "scope = driver.begin(b'it'); q = driver.pool_alloc(100)\n"
        "bursar.stop()\n"
        "driver.end(scope); driver.pool_free(p); driver.pool_free(q); assert driver.begin(b'late') == 0\n"
    )
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert struct.calcsize("P") == 8
