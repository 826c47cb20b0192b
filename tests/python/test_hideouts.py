"""Each handler of wipe_caches() is believed only because the same program without it leaves a copy: docs/hideouts.md.

Programs run under --wipe, so that what is freed is zeroed: what remains is what a handler is for."""

import importlib.util
import os
from pathlib import Path

import pytest
import residue
from running import Run

pytestmark = pytest.mark.core

BEGIN = f"""import os, sys
sys.path.insert(0, {str(residue.SCENARIOS)!r})
import ctypes, gc, waiting
from bursar import _bursar, _hideouts, wipe_caches
library = ctypes.CDLL(os.environ["RESIDUE_WAITING"])
masked = (waiting.folder / "masked.bin").read_bytes()
def text():
    return waiting.unmasked("masked.bin").decode()
"""

# By handler of the extension: the program, and what ends it with that handler left out, or with all.
NATIVE = {
    "FREE_LISTS": """
price = float((waiting.folder / "float.txt").read_text())
held = [price * 1.0 for _ in range(50)]
del price, held
""",
    "TYPE_CACHE": """
name = text()
getattr(int, name, None)
del name
""",
    "STACK": """
library.waiting_on_stack(masked, ctypes.c_size_t(32), ctypes.c_size_t(100_000))
library.waiting_on_stack(masked, ctypes.c_size_t(32), ctypes.c_size_t(20_000))
""",
    "ENDED_THREADS": """
import threading
def work():
    library.waiting_on_stack(masked, ctypes.c_size_t(32), ctypes.c_size_t(8_000))
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
del thread, threads
""",
    "STDIO": """
c = ctypes.CDLL(None)
data = waiting.unmasked("masked.bin") + bytearray(1)
c.puts((ctypes.c_char * 33).from_buffer(data))
c.fflush(None)
data[:] = bytes(33)
""",
}  # fmt: skip

# By what is left out of _hideouts.py.
PYTHON = {
    "_hideouts._forget_last_exception": """
try:
    raise ValueError(text())
except ValueError as error:
    sys.last_value = error
""",
    "_hideouts._flush": """
import logging, logging.handlers
log = logging.getLogger("work")
log.addHandler(logging.handlers.MemoryHandler(1000, target=logging.FileHandler(waiting.folder / "log")))
log.warning(text())
""",
    "_hideouts._shrink": """
import sqlite3
connection = sqlite3.connect(waiting.folder / "secret.db")
connection.execute("select length(password) from users").fetchall()
""",
    "_hideouts._clear": """
import fnmatch
fnmatch.fnmatch("nothing", text())
""",
    "urllib.parse.clear_cache": """
import urllib.parse
_hideouts._clear = lambda *_: None
urllib.parse.urlsplit("http://example.org/" + text())
""",
    "_bursar.wipe_stream": """
line = sys.stdin.readline()
del line
""",
    "re.purge": """
import re
re.search(text(), "nothing")
""",
    "linecache.clearcache": """
import linecache
linecache.getlines(str(waiting.folder / "secret.txt"))
""",
    "gc.collect": """
gc.disable()
cycle = [text()]
cycle.append(cycle)
del cycle
""",
}  # fmt: skip


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> residue.Tools:
    return residue.build(tmp_path_factory.mktemp("residue"))


class Leave:
    """Runs a program and looks at what it left."""

    def __init__(self, tools: residue.Tools, folder: Path, command: list[str], environment: dict[str, str]) -> None:
        self.tools, self.folder, self.command, self.environment = tools, folder, command, environment
        self.runs = 0

    def __call__(self, text: str) -> residue.Look:
        self.runs += 1
        folder = self.folder / str(self.runs)
        folder.mkdir()
        (folder / "program.py").write_text(text)
        return residue.run(self.tools, folder, str(folder / "program"), self.command, self.environment)


@pytest.fixture
def leaves(tools: residue.Tools, tmp_path: Path, command: str, python: str, environment: dict[str, str]) -> Leave:
    return Leave(tools, tmp_path, [command, "run", "--wipe", "--python", python], environment)


def red_without(leaves: Leave, without: str, all_of_them: str) -> None:
    found = leaves(without)
    assert not found.missed
    assert found.copies, "nothing was left without it, so the test proves nothing"
    found = leaves(all_of_them)
    assert not found.missed
    assert not found.copies, f"{found}\n{found.output}"


@pytest.mark.parametrize("handler", NATIVE)
def test_native(leaves: Leave, handler: str) -> None:
    program = BEGIN + NATIVE[handler] + "gc.collect()\nmask = _bursar.HIDEOUTS_ALL\n"
    if handler == "FREE_LISTS":
        program = program.replace("gc.collect()\n", "")  # which empties the list in other versions
    end = "_bursar.hideouts(mask)\nwaiting.ready()\n"
    red_without(leaves, f"{program}mask &= ~_bursar.HIDEOUTS_{handler}\n{end}", program + end)


@pytest.mark.parametrize("handler", PYTHON)
def test_python(leaves: Leave, handler: str) -> None:
    if handler == "_hideouts._shrink" and importlib.util.find_spec("sqlite3") is None:
        pytest.skip("this Python has no sqlite3")
    module = handler.rpartition(".")[0]
    # What is imported here is what the programs would import, but for its work.
    without = f"import {module}\n" if module not in ("_hideouts", "_bursar") else ""
    without += f"{handler} = lambda *_: None\n"
    end = "wipe_caches()\nwaiting.ready()\n"
    red_without(leaves, BEGIN + PYTHON[handler] + without + end, BEGIN + PYTHON[handler] + end)


def test_numpy(leaves: Leave) -> None:
    """Under --wipe its blocks are zeroed on their way to its cache, so the cache is looked at without."""
    pytest.importorskip("numpy")
    leaves.command.remove("--wipe")
    program = BEGIN + (
        "import numpy\n"
        "data = numpy.frombuffer(waiting.unmasked('masked.bin'), 'u1')\n"
        "copy = data.copy()\n"
        "data[:] = 0\n"
        "del data, copy\n"
    )
    end = "_bursar.hideouts()\nwaiting.ready()\n"
    red_without(leaves, program + end, program + "_hideouts._fill_numpy()\n" + end)


def test_data_stack(execute: Run, python: str) -> None:
    """What it keeps are addresses: of an object that is gone, in frames that are gone."""
    program = """
import ctypes, sys
from bursar import _bursar
class Thing: pass
def words(address):  # in all private memory without a name, beside what counts them
    found = 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            fields = line.split()
            if fields[1] == "rw-p" and len(fields) == 5:
                start, end = (int(word, 16) for word in fields[0].split("-"))
                if end - start <= 1 << 24:
                    memory.seek(start)
                    data = memory.read(end - start)
                    # 3.14 marks in the lowest bits whether a frame owns it.
                    for mark in range(4):
                        found += data.count(ctypes.c_size_t(~address & (1 << 64) - 1 | mark))
    return found
def deep(depth, thing):
    return deep(depth - 1, thing) if depth else ~id(thing) & (1 << 64) - 1
hidden = deep(60, Thing())
without = words(hidden)
_bursar.hideouts(_bursar.HIDEOUTS_DATA_STACK)
print(without, words(hidden))
"""
    if version(execute, python) < (3, 11):
        pytest.skip("its frames are blocks of memory")
    done = execute(python, "-c", program)
    assert done.returncode == 0, done.stderr
    without, within = map(int, done.stdout.split())
    assert without >= 60
    assert within < without - 40


def version(execute: Run, python: str) -> tuple[int, ...]:
    done = execute(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    return tuple(map(int, done.stdout.split(".")))


ARGUMENT = """import os, sys
import bursar
masked = bytes.fromhex(sys.argv[1])
secret = bytearray(x ^ 0x6B for x in masked)
wrong = sys.argv[2].encode() != secret
with bursar.scope("argument", wipe=True):  # what sys.argv had goes in here
    if sys.argv[3] == "wipe":
        bursar.wipe_argv(2)
    shown = open("/proc/self/cmdline", "rb").read().split(bytes(1))
    gone = [sys.argv[2], sys.orig_argv[-2], shown[-3].decode()] == ["", "", ""]
    del shown
print(wrong, gone, bursar.residue(secret).copies)
"""


def test_an_argument(execute: Run, command: str, python: str, tmp_path: Path) -> None:
    secret = os.urandom(16).hex()
    masked = bytes(x ^ 0x6B for x in secret.encode()).hex()
    (tmp_path / "work.py").write_text(ARGUMENT)
    run = [command, "run", "--wipe", "work.py", masked, secret]
    assert execute(*run, "wipe").stdout == "False True 0\n"
    wrong, gone, copies = execute(*run, "leave").stdout.split()
    assert (wrong, gone) == ("False", "False") and int(copies) >= 4


def test_no_such_argument(execute: Run, python: str, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(
        "import bursar, sys\n"
        "for number in (0, 2, -1):\n"
        "    try: bursar.wipe_argv(number)\n"
        "    except IndexError as error: print(error)\n"
        "sys.argv.insert(1, 'more')\n"
        "try: bursar.wipe_argv(1)\n"
        "except RuntimeError as error: print(error)\n"
    )
    assert execute(python, "work.py", "one").stdout.splitlines() == [
        *(f"sys.argv[{number}] is no argument of this program" for number in (0, 2, -1)),
        "sys.argv is no more what the program was started with",
    ]
