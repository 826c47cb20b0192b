"""Native frames among Python's: the order is known, as are the functions, and lines where debug information is."""

from __future__ import annotations

import ctypes.util
import http.server
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from books import Books, Keep, assert_balanced, line_of
from running import Facts, Run

pytestmark = [
    pytest.mark.core,
    pytest.mark.skipif(
        platform.machine() != "x86_64" or tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 35),
        reason="native stacks are known on x86-64 with glibc 2.35 or later",
    ),
]

HERE = Path(__file__).parent
C = (HERE / "stacks_driver.c").read_text()
Build = Callable[..., Path]
Frame = tuple[str, str]  # "C" or "py", and the function


def compiler(*names: str) -> list[str]:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if not found:
        pytest.skip("no compiler to build the driver with: install gcc and g++")
    return [found]


@pytest.fixture
def keep(bursar: Run, facts: Facts, ledger: Path, tmp_path: Path) -> Keep:
    """As in books.py, where the reader may have something to say: libffi has names for few of its functions."""

    def run(text: str, *options: str, **more: Any) -> Books:
        path = tmp_path / "program.py"
        path.write_text(text)
        done = bursar("run", "-f", "-o", ledger, *options, path, **more)
        assert done.returncode == 0, done.stderr
        read = facts(ledger)
        assert read["complete"] and read["state"] == "ended", read["notes"]
        assert_balanced(read)
        return Books(text, path, done, read)

    return run


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A shared library of one of the drivers, built with more options."""

    def make(*options: str, source: str = "stacks_driver.c", name: str = "driver.so") -> Path:
        command = compiler("g++", "c++") if source.endswith(".cpp") else compiler(os.environ.get("CC") or "cc", "gcc")
        out = tmp_path_factory.mktemp("driver") / name
        subprocess.run(
            [*command, "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-shared", "-fPIC", "-D_GNU_SOURCE",
             "-Wl,--build-id", *(options or ("-O2", "-g", "-fomit-frame-pointer")), "-o", out, HERE / source],
            check=True,
        )  # fmt: skip
        return out

    return make


@pytest.fixture(scope="session")
def driver(build: Build) -> Path:
    return build()


def head(driver: Path) -> str:
    return (
        "import ctypes, sys, threading\n"
        f"driver = ctypes.PyDLL({str(driver)!r})\n"
        "def function(name, *types):\n"
        "    made = getattr(driver, name)\n"
        "    made.restype, made.argtypes = ctypes.c_void_p, types\n"
        "    return made\n"
        "size, number = ctypes.c_size_t, ctypes.c_int\n"
        "chain, recurse = function('chain', size), function('recurse', size, number)\n"
        "on_the_stack, around_inlined = function('on_the_stack', size, size), function('around_inlined', size)\n"
        "in_a_handler, from_malloc = function('in_a_handler'), function('from_malloc', size)\n"
        "through = function('through', ctypes.py_object)\n"
    )


def of_size(books: Books, size: int, domain: str = "python.mem") -> list[dict[str, Any]]:
    return [
        site for site in books.facts["sites"]
        if site["domain"] == domain and site["allocated_bytes"] == size * site["allocations"] and site["allocations"]
    ]  # fmt: skip


def one_of_size(books: Books, size: int, domain: str = "python.mem") -> list[dict[str, Any]]:
    found = of_size(books, size, domain)
    if len(found) > 1:  # an interpreter may allocate so much somewhere itself
        found = [site for site in found if any("driver" in (frame["file"] or "") for frame in site["stack"])]
    assert len(found) == 1, [site["stack"] for site in found]
    return found[0]["stack"]


def known(books: Books, stack: list[dict[str, Any]], source: str = "stacks_driver.c") -> list[Frame]:
    """The frames of the program and of the driver; between them stand the interpreter's and ctypes'."""
    kinds = {str(books.path): "py", str(HERE / source): "C"}
    frames = [(kinds[frame["file"]], frame["function"]) for frame in stack if frame["file"] in kinds]
    assert all(frame["native"] == (kinds.get(frame["file"]) != "py") for frame in stack if frame["file"] in kinds)
    return frames


def c_lines(stack: list[dict[str, Any]]) -> dict[str, int]:
    return {f["function"]: f["line"] for f in stack if f["file"] == str(HERE / "stacks_driver.c")}


def c_line(mark: str) -> int:
    return next(n for n, line in enumerate(C.splitlines(), 1) if line.endswith(f"/* @{mark} */"))


def test_a_chain_of_c_below_python(keep: Keep, driver: Path) -> None:
    books = keep(head(driver) + "def caller():\n    return chain(1234)  # @here\nkept = caller()\n", "--native")
    stack = one_of_size(books, 1234)
    assert known(books, stack) == [
        ("C", "innermost"), ("C", "middle"), ("C", "chain"), ("py", "caller"), ("py", "<module>")
    ]  # fmt: skip
    # Nothing stands above the function that allocates, and the loop itself is no frame.
    assert stack[0]["function"] == "innermost"
    assert not [frame for frame in stack if frame["function"].startswith("_PyEval_EvalFrame")]
    assert c_lines(stack) == {name: c_line(name) for name in ("innermost", "middle", "chain")}
    caller = next(frame for frame in stack if frame["function"] == "caller")
    assert caller["line"] == line_of(books.text, "here")


@pytest.mark.parametrize(
    "options", [("-O0", "-g"), ("-O2", "-g", "-fno-omit-frame-pointer"), ("-O3", "-g", "-fomit-frame-pointer")]
)
def test_however_it_is_compiled(keep: Keep, build: Build, options: tuple[str, ...]) -> None:
    books = keep(
        head(build(*options)) + "kept = [chain(1234), recurse(2345, 50)]\n"
        "kept += [on_the_stack(3456, room) for room in (16, 100, 5000, 16)]\n", "--native",
    )  # fmt: skip
    module = [("py", "<module>")]
    assert known(books, one_of_size(books, 1234)) == [("C", "innermost"), ("C", "middle"), ("C", "chain"), *module]
    deep = known(books, one_of_size(books, 2345))
    assert deep[0] == ("C", "innermost") and deep[-1:] == module
    if "-O3" not in options:
        assert deep == [("C", "innermost"), *[("C", "recurse")] * 51, *module]
    comprehension = [("py", "<listcomp>")] if sys.version_info < (3, 12) else []
    expected = [("C", "innermost"), ("C", "on_the_stack"), *comprehension, *module]
    assert known(books, one_of_size(books, 3456)) == expected
    assert of_size(books, 3456)[0]["allocations"] == 4


def test_functions_that_were_inlined(keep: Keep, driver: Path) -> None:
    books = keep(head(driver) + "kept = around_inlined(1234)\n", "--native")
    stack = one_of_size(books, 1234)
    names = ["inlined_inner", "inlined_outer", "around_inlined"]
    assert known(books, stack) == [*(("C", name) for name in names), ("py", "<module>")]
    assert c_lines(stack) == {name: c_line(name) for name in names}


def test_c_calls_python_calls_c(keep: Keep, driver: Path) -> None:
    """Each Python function stands where it was called: the order cannot be had from either stack alone."""
    books = keep(
        head(driver) + "kept = []\n"
        "def first():\n"
        "    through(second)\n"
        "def second():\n"
        "    helper()\n"
        "def helper():\n"
        "    through(third)\n"
        "def third():\n"
        "    kept.append(chain(1234))\n"
        "    kept.append(bytes(5000))  # @bytes\n"
        "first()\n",
        "--native",
    )  # fmt: skip
    rest = [
        ("py", "third"), ("C", "call_python"), ("C", "through"), ("py", "helper"), ("py", "second"),
        ("C", "call_python"), ("C", "through"), ("py", "first"), ("py", "<module>"),
    ]  # fmt: skip
    stack = one_of_size(books, 1234)
    assert known(books, stack) == [("C", "innermost"), ("C", "middle"), ("C", "chain"), *rest]
    sites = [
        site for site in of_size(books, 5033, "python.obj")
        if any(frame["line"] == line_of(books.text, "bytes") for frame in site["stack"])
    ]  # fmt: skip
    assert len(sites) == 1
    assert known(books, sites[0]["stack"]) == rest


def test_one_line_that_calls_straight_and_through_c(keep: Keep, driver: Path) -> None:
    """The same frames of Python at the same lines, and the same C in between: where it stands differs."""
    books = keep(
        head(driver) + "kept = []\n"
        "class Through:\n"
        "    def __init__(self, to): self.to = to\n"
        "    def __call__(self): pass\n"
        "def a(f): return f()\n"
        "def b(f): return f()\n"
        "def c():\n"
        "    kept.append(chain(1234))\n"
        "import functools\n"
        "for i in range(20):\n"
        "    a(lambda: b(c))\n"
        "    a(functools.partial(through, lambda: b(c)))\n"
        "    a(lambda: b(functools.partial(through, c)))\n",
        "--native",
    )  # fmt: skip
    tops = [("C", "innermost"), ("C", "middle"), ("C", "chain"), ("py", "c")]
    called = [("C", "call_python"), ("C", "through")]
    b, a, anonymous, module = ("py", "b"), ("py", "a"), ("py", "<lambda>"), ("py", "<module>")
    found = {tuple(known(books, site["stack"])): site["allocations"] for site in of_size(books, 1234)}
    assert found == {
        (*tops, b, anonymous, a, module): 20,
        (*tops, b, anonymous, *called, a, module): 20,
        (*tops, *called, b, anonymous, a, module): 20,
    }


def test_recursion_generators_coroutines_and_threads(keep: Keep, driver: Path) -> None:
    books = keep(
        head(driver) + "import asyncio\n"
        "kept = []\n"
        "def deep(n):\n"
        "    return chain(1001) if n == 0 else deep(n - 1)\n"
        "def generator():\n"
        "    yield chain(1002)\n"
        "    through(inside)\n"
        "    yield 0\n"
        "def inside():\n"
        "    kept.append(chain(1003))\n"
        "def delegates():\n"
        "    yield from generator()\n"
        "async def leaf():\n"
        "    await asyncio.sleep(0)\n"
        "    kept.append(chain(1004))\n"
        "async def outer():\n"
        "    await leaf()\n"
        "def in_a_thread():\n"
        "    kept.append(chain(1005))\n"
        "kept.append(deep(100))\n"
        "kept += list(delegates())\n"
        "asyncio.run(outer())\n"
        "for i in range(3):\n"
        "    thread = threading.Thread(target=in_a_thread)\n"
        "    thread.start()\n"
        "    thread.join()\n",
        "--native",
    )  # fmt: skip
    tops, module = [("C", "innermost"), ("C", "middle"), ("C", "chain")], ("py", "<module>")
    assert known(books, one_of_size(books, 1001)) == [*tops, *[("py", "deep")] * 101, module]
    assert known(books, one_of_size(books, 1002)) == [*tops, ("py", "generator"), ("py", "delegates"), module]
    called = [("C", "call_python"), ("C", "through")]
    assert known(books, one_of_size(books, 1003)) == [
        *tops, ("py", "inside"), *called, ("py", "generator"), ("py", "delegates"), module
    ]  # fmt: skip
    assert known(books, one_of_size(books, 1004)) == [*tops, ("py", "leaf"), ("py", "outer"), module]
    assert known(books, one_of_size(books, 1005)) == [*tops, ("py", "in_a_thread")]
    assert of_size(books, 1005)[0]["allocations"] == 3


def test_in_a_signal_handler(keep: Keep, driver: Path) -> None:
    text = "def caller():\n    return [in_a_handler() for i in range(3)]\nkept = caller()\n"
    books = keep(head(driver) + text, "--native")
    frames = [frame for frame in known(books, one_of_size(books, 4321)) if frame[1] != "<listcomp>"]
    assert frames == [
        ("C", "innermost"), ("C", "handler"), ("C", "interrupted"), ("C", "in_a_handler"), ("py", "caller"),
        ("py", "<module>"),
    ]  # fmt: skip


def test_blocks_from_malloc(keep: Keep, driver: Path) -> None:
    books = keep(head(driver) + "kept = from_malloc(123457)\n", "--native", "--domains", "all")
    stack = one_of_size(books, 123457, "malloc")
    assert stack[0]["function"] == "from_malloc" and stack[0]["line"] == c_line("from_malloc")
    assert known(books, stack) == [("C", "from_malloc"), ("py", "<module>")]


def test_c_plus_plus_names_are_readable(keep: Keep, build: Build) -> None:
    library = build("-O2", "-g", source="stacks_driver.cpp", name="shop.so")
    books = keep(
        f"import ctypes\nshop = ctypes.PyDLL({str(library)!r})\nshop.stock(ctypes.c_size_t(100_003))\n",
        "--native", "--domains", "all",
    )  # fmt: skip
    stack = one_of_size(books, 800_024, "malloc")
    names = [frame["function"] for frame in stack if frame["file"] == str(HERE / "stacks_driver.cpp")]
    shelf = "shop::Shelf<double>"
    assert names == [f"{shelf}::put(unsigned long)", f"shop::fill({shelf}&, unsigned long)", "stock"]
    assert stack[0]["function"] == "operator new(unsigned long)"


# --- what is known of modules that tell less ---


def of_module(stack: list[dict[str, Any]], library: Path) -> Iterator[dict[str, Any]]:
    return (frame for frame in stack if frame["file"] == str(library))


def test_functions_without_a_name_are_told_by_their_address(keep: Keep, build: Build) -> None:
    library = build("-O2", "-s", "-fomit-frame-pointer", name="stripped.so")
    books = keep(head(library) + "kept = chain(1234)\n", "--native")
    frames = list(of_module(one_of_size(books, 1234), library))
    assert [frame["function"].partition("+")[0] for frame in frames] == ["stripped.so", "stripped.so", "chain"]
    assert all(frame["line"] is None and frame["native"] for frame in frames)
    assert frames[0]["function"] != frames[1]["function"]
    assert books.facts["unresolved_frames"] >= 2
    assert any("native frames have no name" in note for note in books.facts["notes"])


def test_a_library_that_was_replaced_has_no_names(
    keep: Keep, build: Build, facts: Facts, ledger: Path, tmp_path: Path
) -> None:
    library = tmp_path / "driver.so"
    shutil.copy(build(), library)
    books = keep(head(library) + "kept = chain(1234)\n", "--native")
    assert known(books, one_of_size(books, 1234))[0] == ("C", "innermost")
    library.unlink()
    shutil.copy(build("-O1", "-g"), library)
    later = Books(books.text, books.path, books.done, facts(ledger))
    assert [note for note in later.facts["notes"] if "driver.so is another build" in note]
    frames = list(of_module(one_of_size(later, 1234), library))
    assert [frame["function"].partition("+")[0] for frame in frames] == ["driver.so"] * 3
    library.unlink()
    gone = facts(ledger)
    assert [note for note in gone["notes"] if "driver.so cannot be read" in note]


def test_separate_debug_information(keep: Keep, build: Build, tmp_path: Path) -> None:
    if not shutil.which("objcopy"):
        pytest.skip("no objcopy to split the library with: install binutils")
    library = tmp_path / "driver.so"
    shutil.copy(build(), library)
    apart = tmp_path / ".debug" / "driver.so.debug"
    apart.parent.mkdir()
    subprocess.run(["objcopy", "--only-keep-debug", library, apart], check=True)
    subprocess.run(["objcopy", "--strip-all", f"--add-gnu-debuglink={apart}", library], check=True)
    books = keep(head(library) + "kept = around_inlined(1234)\n", "--native")
    assert c_lines(one_of_size(books, 1234)) == {
        name: c_line(name) for name in ("inlined_inner", "inlined_outer", "around_inlined")
    }


# --- what moves under it ---


def test_another_library_where_one_was(keep: Keep, build: Build) -> None:
    """Unloaded, and another loaded at the same address: neither frame sizes nor names are those of the first."""
    first = build("-O2", "-g", "-fomit-frame-pointer", name="first.so")
    second = build("-O0", "-g", name="second.so")
    books = keep(
        "import ctypes, _ctypes\n"
        "kept, places = [], set()\n"
        "def load(path, size):\n"
        "    driver = ctypes.PyDLL(path)\n"
        "    places.add(ctypes.cast(driver.chain, ctypes.c_void_p).value >> 16)\n"
        "    driver.chain.restype, driver.chain.argtypes = ctypes.c_void_p, [ctypes.c_size_t]\n"
        "    for i in range(10):\n"
        "        kept.append(driver.chain(size))\n"
        "    handle = driver._handle\n"
        "    del driver\n"
        "    _ctypes.dlclose(handle)\n"
        "for i in range(10):\n"
        f"    load({str(first)!r}, 1234)\n"
        f"    load({str(second)!r}, 2345)\n"
        "assert len(places) < 3, places\n",
        "--native",
    )  # fmt: skip
    expected = [("C", "innermost"), ("C", "middle"), ("C", "chain"), ("py", "load"), ("py", "<module>")]
    for size in 1234, 2345:
        assert known(books, one_of_size(books, size)) == expected
        assert of_size(books, size)[0]["allocations"] == 100


def test_without_native_there_are_none(keep: Keep, driver: Path) -> None:
    books = keep(head(driver) + "kept = chain(1234)\n")
    assert [frame["function"] for frame in one_of_size(books, 1234)] == ["<module>"]
    assert not [frame for site in books.facts["sites"] for frame in site["stack"] if frame["native"]]


def test_from_within_a_program(execute: Run, python: str, driver: Path, facts: Facts, tmp_path: Path) -> None:
    start = "import bursar\nbursar.start('exact', output='here.bursar', native=True)\n"
    program = head(driver) + start + "kept = chain(1234)\nbursar.stop()\n"
    path = tmp_path / "program.py"
    path.write_text(program)
    done = execute(python, path)
    assert done.returncode == 0, done.stderr
    books = Books(program, path, done, facts(tmp_path / "here.bursar"))
    assert known(books, one_of_size(books, 1234)) == [
        ("C", "innermost"), ("C", "middle"), ("C", "chain"), ("py", "<module>")
    ]  # fmt: skip


def test_greenlets(keep: Keep, driver: Path) -> None:
    """Each has a native stack of its own, a part of which lies in a copy while another runs."""
    pytest.importorskip("greenlet")
    books = keep(
        head(driver) + "from greenlet import greenlet, getcurrent\n"
        "kept, main = [], getcurrent()\n"
        "def work(n):\n"
        "    through(lambda: rest(n))\n"
        "def rest(n):\n"
        "    for i in range(20):\n"
        "        kept.append(chain(2345))\n"
        "        through(main.switch)\n"
        "all = [greenlet(work) for n in range(10)]\n"
        "for turn in range(20):\n"
        "    for one in all:\n"
        "        one.switch(*[0][turn:])\n"
        "        kept.append(chain(1001))\n",
        "--native",
    )  # fmt: skip
    tops = [("C", "innermost"), ("C", "middle"), ("C", "chain")]
    assert known(books, one_of_size(books, 1001)) == [*tops, ("py", "<module>")]
    between = [("py", "<lambda>"), ("C", "call_python"), ("C", "through")]
    assert known(books, one_of_size(books, 2345)) == [*tops, ("py", "rest"), *between, ("py", "work")]
    assert [of_size(books, size)[0]["allocations"] for size in (1001, 2345)] == [200, 200]


def test_debuginfod_is_asked(
    keep: Keep, build: Build, bursar: Run, facts: Facts, ledger: Path, tmp_path: Path
) -> None:
    """A server has what was stripped; without it, or where it is not there, names are what the library itself has."""
    if not ctypes.util.find_library("debuginfod"):
        pytest.skip("no client of debuginfod: install libdebuginfod1")
    driver = build("-O1", "-g")
    told = subprocess.run(["readelf", "-n", driver], check=True, capture_output=True, text=True).stdout
    folder = tmp_path / "served" / "buildid" / told.partition("Build ID: ")[2].split()[0]
    folder.mkdir(parents=True)
    subprocess.run(["objcopy", "--only-keep-debug", driver, folder / "debuginfo"], check=True)
    subprocess.run(["strip", driver], check=True)

    class Server(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "served"))

        def log_message(self, *words: Any) -> None:
            pass

    def names(env: dict[str, str | None]) -> list[str]:
        env["DEBUGINFOD_CACHE_PATH"] = str(tmp_path / "cache")
        done = bursar("report", ledger, "--format", "json", env=env)
        sites = [site for site in json.loads(done.stdout)["sites"] if site["allocated_bytes"] == 1234]
        return [frame["function"] for frame in sites[0]["stack"][:3]]

    keep(head(driver) + "kept = chain(1234)\n", "--native")
    assert "innermost" not in names({"DEBUGINFOD_URLS": None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asked = {"DEBUGINFOD_URLS": f"http://127.0.0.1:{server.server_port}", "no_proxy": "127.0.0.1"}
        assert names(asked) == ["innermost", "middle", "chain"]
        server.shutdown()
