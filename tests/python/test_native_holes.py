"""The known holes of interposers, one by one: forks, signals, threads that end, libraries that come and go."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from books import Books, Keep, keep
from running import Run

__all__ = ["keep"]
pytestmark = pytest.mark.core

HERE = Path(__file__).parent
STORM = 2_000_000  # bytes: what four threads may hold and drop between two looks at the peak


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler to build the driver with: install gcc")
    out = tmp_path_factory.mktemp("driver") / "native_driver.so"
    subprocess.run(
        [*compiler.split(), "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-shared", "-fPIC", "-pthread",
         "-D_GNU_SOURCE", "-o", out, HERE / "native_driver.c"], check=True,
    )  # fmt: skip
    return out


def head(driver: Path) -> str:
    return f"import ctypes, os, signal, subprocess, sys, threading, time\ndriver = ctypes.CDLL({str(driver)!r})\n"


def domain(books: Books, name: str, figure: str) -> int:
    return sum(site[figure] for site in books.facts["sites"] if site["domain"] == name)


def test_a_storm_of_threads_leaves_nothing(keep: Keep, driver: Path) -> None:
    books = keep(
        head(driver) + "held = ctypes.PyDLL(None)\n"
        "for i in range(5):\n"
        "    assert driver.storm_begin() == 0\n"
        "    junk = [bytes(i) for i in range(40_000)]\n"
        "    driver.storm_end()\n",
        "--domains", "all", peak_error=STORM,
    )  # fmt: skip
    assert domain(books, "malloc", "allocations") > 10_000
    assert domain(books, "mmap", "allocations") > 1_000
    assert domain(books, "malloc", "live_bytes") < 1_000_000  # the C library's own: files, a thread's name
    # A thread's stack is the C library's mapping, which no hook sees; ctypes' own library may keep a few pages.
    assert domain(books, "mmap", "live_bytes") <= 4 * 4096


def test_forks_while_others_allocate(keep: Keep, driver: Path) -> None:
    """The child finds no lock held by a thread that it has not got."""
    books = keep(
        head(driver) + "import warnings\n"
        "warnings.simplefilter('ignore')\n"
        "assert driver.storm_begin() == 0\n"
        "c = ctypes.PyDLL(None)\n"
        "c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]\n"
        "c.free.argtypes = [ctypes.c_void_p]\n"
        "for i in range(200):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        for size in range(1, 3000, 100):\n"
        "            c.free(c.malloc(size))\n"
        "        os._exit(7)\n"
        "    deadline = time.monotonic() + 60\n"
        "    while (done := os.waitpid(pid, os.WNOHANG))[0] == 0:\n"
        "        assert time.monotonic() < deadline, f'child {i} hangs'\n"
        "    assert os.waitstatus_to_exitcode(done[1]) == 7\n"
        "driver.storm_end()\n",
        "--domains", "all", peak_error=STORM,
    )  # fmt: skip
    assert domain(books, "malloc", "allocations") > 1_000


@pytest.mark.parametrize("domains", ["all", "python", "malloc,mmap"])
def test_a_handler_that_maps_memory(keep: Keep, driver: Path, domains: str) -> None:
    books = keep(
        head(driver) + "driver.handler_begin()\n"
        "end = time.monotonic() + 2\n"
        "kept = []\n"
        "while time.monotonic() < end:\n"
        "    kept = [bytes(i) for i in range(2_000)]\n"
        "    exec(f'def f{len(kept)}(): return [str(i) for i in range(100)]\\nf{len(kept)}()')\n"
        "    buffer = bytearray(1 << 20)\n"
        "print(driver.handler_end())\n",
        "--domains", domains, peak_error=100_000,  # of the event that a handler interrupts
    )  # fmt: skip
    assert int(books.done.stdout) > 100
    if domains == "all":
        assert domain(books, "mmap", "allocations") > 50
        assert domain(books, "mmap", "live_bytes") <= 4 * 4096


def test_a_thread_s_last_breath(keep: Keep, driver: Path) -> None:
    books = keep(head(driver) + "print(driver.last_breaths(200))\n", "--domains", "all")
    assert int(books.done.stdout) == 600
    assert domain(books, "malloc", "live_bytes") >= 600 * 4096


def test_a_library_that_comes_and_goes(keep: Keep, driver: Path, tmp_path: Path) -> None:
    """What it made outlives it, and is on the line that asked for it."""
    books = keep(
        head(driver) + "import _ctypes\n"
        "held = []\n"
        "for i in range(20):\n"
        f"    library = ctypes.PyDLL({str(driver)!r}, handle=_ctypes.dlopen({str(driver)!r}, 2))\n"
        "    library.made_here.restype, library.made_here.argtypes = ctypes.c_void_p, [ctypes.c_size_t]\n"
        "    held.append(library.made_here(12_345))  # @made\n"
        "    _ctypes.dlclose(library._handle)\n",
        "--domains", "all",
    )  # fmt: skip
    assert books.sum("made", "live_bytes", "malloc") == 20 * 12_345
    assert books.sum("made", "live_blocks", "malloc") == 20


def test_children_by_spawn_and_vfork(keep: Keep) -> None:
    books = keep(
        "import os, subprocess, sys\n"
        "for i in range(20):\n"
        "    assert subprocess.run(['true']).returncode == 0\n"
        "    pid = os.posix_spawn('/bin/true', ['true'], os.environ)\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        "    assert subprocess.run('exit 3', shell=True).returncode == 3\n"
        "print('done')\n",
        "--domains", "all",
    )  # fmt: skip
    assert books.done.stdout == "done\n"


@pytest.mark.parametrize("setting", ["debug", "malloc", "malloc_debug"])
def test_over_other_allocators(keep: Keep, driver: Path, setting: str) -> None:
    books = keep(
        head(driver) + "kept = bytes(100_000)  # @kept\nprint(len(kept))\n",
        "--domains", "all", env={"PYTHONMALLOC": setting},
    )  # fmt: skip
    assert books.sum("kept", "live_bytes") == 100_033
    assert not books.sites("kept", "malloc") and not books.sites("kept", "python.raw")


CPP = r"""
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>
struct alignas(256) Wide { char x[300]; };
extern "C" int throws() {
  try { std::vector<char> v; v.resize((size_t)1 << 62); } catch (const std::bad_alloc &) { return 1; } catch (...) {}
  return 0;
}
extern "C" int refused() { volatile size_t most = SIZE_MAX / 4; return new (std::nothrow) char[most] == nullptr; }
extern "C" void comes_and_goes() { delete[] new char[1000]; delete new int(5); delete new Wide; }
extern "C" void *kept() { return new char[12345]; }
extern "C" void *kept_wide() { return new Wide; }
"""


def test_a_cpp_program(keep: Keep, tmp_path: Path) -> None:
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not compiler:
        pytest.skip("no C++ compiler to build the program with: install g++")
    (tmp_path / "cpp.cc").write_text(CPP)
    library = tmp_path / "cpp.so"
    flags = ["-std=c++17", "-O0", "-fno-builtin", "-shared", "-fPIC"]
    subprocess.run([*compiler.split(), *flags, "-o", library, tmp_path / "cpp.cc"], check=True)
    books = keep(
        f"import ctypes\nd = ctypes.PyDLL({str(library)!r})\n"
        "d.kept.restype = d.kept_wide.restype = ctypes.c_void_p\n"
        "assert d.throws() == 1 and d.refused() == 1  # @throws\n"
        "d.comes_and_goes()  # @comes\n"
        "p = d.kept()  # @kept\n"
        "q = d.kept_wide()  # @wide\n",
        "--domains", "malloc,mmap",
    )  # fmt: skip
    assert books.sum("kept", "live_bytes", "malloc") == 12345
    assert books.sum("wide", "live_bytes", "malloc") == 512  # whole alignments
    assert books.sum("comes", "allocated_bytes", "malloc") == 1000 + 4 + 512
    assert books.sum("comes", "live_bytes", "malloc") == 0
    assert books.sum("throws", "live_bytes", "malloc") < 1000  # the unwinder's own few words


@pytest.mark.parametrize("other", ["jemalloc", "mimalloc"])
def test_another_malloc_is_not_counted_twice(keep: Keep, driver: Path, other: str) -> None:
    """Its blocks are counted, what it maps to cut them from is not."""
    found = [*Path("/usr/lib").glob(f"*/lib{other}.so*"), *Path("/usr/lib").glob(f"lib{other}.so*")]
    if not found:
        pytest.skip(f"no {other}: install lib{other}2 or the like")
    books = keep(
        head(driver) + "driver.made_here.restype = ctypes.c_void_p\n"
        "driver.made_here.argtypes = [ctypes.c_size_t]\n"
        f"assert {other!r} in open('/proc/self/maps').read() and {other!r} in os.environ['LD_PRELOAD']\n"
        "held = ctypes.PyDLL(driver._name)\n"
        "held.made_here.restype, held.made_here.argtypes = ctypes.c_void_p, [ctypes.c_size_t]\n"
        "kept = [held.made_here(10_000_000) for _ in range(3)]  # @kept\n",
        "--domains", "malloc,mmap", env={**os.environ, "LD_PRELOAD": str(found[0])},
    )  # fmt: skip
    assert books.sum("kept", "live_bytes", "malloc") == 30_000_000
    assert domain(books, "mmap", "live_bytes") < 8 << 20  # arenas of Python's


def test_threads_without_the_gil_answer_nobody(
    command: str, environment: dict[str, str], bursar: Run, driver: Path, tmp_path: Path
) -> None:
    """A look into memory is for who holds the GIL: others would read arenas that go, and hold up all the rest."""
    text = head(driver) + "driver.storm_begin(); print('here', flush=True); input(); driver.storm_end()\n"
    (tmp_path / "storm.py").write_text(text)
    with subprocess.Popen(
        [command, "run", "--domains", "malloc,mmap", tmp_path / "storm.py"], env=environment, cwd=tmp_path,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as program:  # fmt: skip
        assert program.stdout and program.stdout.readline() == "here\n"
        call = Path(f"/proc/{program.pid}/syscall")  # the main thread's last for now: read() from 0
        while call.read_text().split()[1:2] != ["0x0"]:
            pass
        for _ in range(5):
            done = bursar("balance", str(program.pid), "--format", "json")
            assert done.returncode == 0, done.stderr
            assert any("is idle" in note for note in json.loads(done.stdout)["notes"]), done.stdout
        program.communicate("\n", timeout=60)
    assert program.returncode == 0
