"""`bursar imports`: what imports cost, whether modules were used, and that the program is what it is without."""

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import Run

pytestmark = pytest.mark.core
MIB = 1 << 20

Rows = dict[str, dict[str, Any]]
Imports = Callable[..., Rows]


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / (name.replace("__in__", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))


@pytest.fixture
def imports(bursar: Run, tmp_path: Path) -> Imports:
    """The rows of a program, by module."""

    def run(*arguments: str) -> Rows:
        done = bursar("imports", "--format", "json", "-o", "out.json", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        facts = json.loads((tmp_path / "out.json").read_text())
        assert facts["schema"] == 1
        rows: Rows = {row["module"]: row for row in facts["imports"]}
        assert len(rows) == len(facts["imports"])
        return rows

    return run


# --- what they cost ---------------------------------------------------------------------------------------------------


def test_bytes_are_a_modules_own_and_with_its_imports(imports: Imports, tmp_path: Path) -> None:
    write(
        tmp_path,
        first="",  # pays for the listing of folders
        outer="import inner, inner\nkept = bytearray(3 << 20)\ngone = bytearray(50 << 20)\ndel gone\n",
        inner="kept = bytearray(5 << 20)\n",
        main="import first, outer\nimport inner\nkept = bytearray(20 << 20)\n",
    )
    rows = imports("main.py")
    assert set(rows) == {"first", "outer", "inner"}
    slack = 32768
    assert 5 * MIB < rows["inner"]["own_bytes"] < 5 * MIB + slack
    assert rows["inner"]["own_bytes"] == rows["inner"]["total_bytes"]
    assert 3 * MIB < rows["outer"]["own_bytes"] < 3 * MIB + slack
    assert rows["outer"]["total_bytes"] == rows["outer"]["own_bytes"] + rows["inner"]["own_bytes"]


def test_a_failed_import_is_no_row_and_its_bytes_are_its_importers(imports: Imports, tmp_path: Path) -> None:
    write(
        tmp_path,
        first="",
        good="kept = bytearray(1 << 20)\n",
        keeper="kept = []\n",
        bad="import good, keeper\nkeeper.kept.append(bytearray(2 << 20))\nimport there_is_none\n",
        main="import first, outer\n",
        outer="try: import bad\nexcept ImportError: pass\n",
    )
    rows = imports("main.py")
    assert set(rows) == {"first", "outer", "good", "keeper"}
    assert 2 * MIB < rows["outer"]["own_bytes"] < 2 * MIB + 65536
    assert MIB < rows["good"]["own_bytes"] < MIB + 32768
    assert rows["outer"]["total_bytes"] > 3 * MIB


def test_seconds_are_total_and_own(imports: Imports, tmp_path: Path) -> None:
    wait = "import time\nuntil = time.monotonic() + {}\nwhile time.monotonic() < until: pass\n"
    write(tmp_path, outer="import inner\n" + wait.format(0.1), inner=wait.format(0.2), main="import outer\n")
    rows = imports("main.py")
    assert rows["inner"]["seconds"] >= 0.2
    assert rows["outer"]["seconds"] >= 0.3
    assert 0.1 <= rows["outer"]["own_seconds"] <= rows["outer"]["seconds"] - 0.2


def test_what_the_interpreter_imports_itself_is_left_out(imports: Imports, tmp_path: Path) -> None:
    """site's, runpy's for -m, and what prints a traceback."""
    write(tmp_path, package__in__help="x = 1\n", package____init__="")
    (tmp_path / "package").mkdir(exist_ok=True)
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "__main__.py").write_text("from . import help\nprint(help.x)\n")
    rows = imports("-m", "package")
    assert set(rows) == {"package", "package.help"}


def test_the_interpreters_cost_of_following_is_in_no_figure(imports: Imports, tmp_path: Path) -> None:
    write(tmp_path, first="", main="import first, many\n", many="".join(f"import m{n}\n" for n in range(300)))
    write(tmp_path, **{f"m{n}": "" for n in range(300)})
    rows = imports("main.py")
    own = rows["many"]["own_bytes"]
    assert own < 300 * 400, own  # what is kept of each of the 300 would be more than that


# --- whether they were used -------------------------------------------------------------------------------------------


def used(rows: Rows, *names: str) -> dict[str, bool | None]:
    return {name: rows[name]["used"] for name in names or rows}


def test_a_module_is_used_where_an_attribute_is_read_or_code_of_it_runs(imports: Imports, tmp_path: Path) -> None:
    write(
        tmp_path,
        read="VALUE = 1\n",
        read_by_name="VALUE = 1\n",
        called="def f(): return 1\n",
        method="class C:\n    def m(self): return 1\n",
        registered="import registry\n@registry.add\ndef f(): return 1\n",
        registry="found = []\ndef add(f): found.append(f); return f\n",
        in_a_thread="def f(): return 1\n",
        never="VALUE = 1\ndef f(): return 1\nVALUE2 = f()\n",
        taken="def f(): return 1\n",
        constant="VALUE = 1\n",
        main="""
            import read, read_by_name, called, method, registered, registry, never, in_a_thread, _thread, _sha1
            from called import f
            from method import C
            from taken import f as g
            from constant import VALUE
            from in_a_thread import f as h
            read.VALUE
            getattr(read_by_name, "VALUE")
            f()
            C().m()
            for one in registry.found: one()
            lock = _thread.allocate_lock()
            lock.acquire()
            def run():
                h()
                lock.release()
            _thread.start_new_thread(run, ())
            lock.acquire()
        """,
    )
    rows = imports("main.py")
    yes = ("read", "read_by_name", "called", "method", "registered", "registry", "in_a_thread")
    assert used(rows, *yes) == dict.fromkeys(yes, True)
    assert used(rows, "never", "taken") == {"never": False, "taken": False}
    # The value was taken, and nobody hears of what is done with it; of an extension not even of calls.
    assert used(rows, "constant", "_sha1") == {"constant": None, "_sha1": None}


def test_a_read_is_seen_however_warm_the_code_is_that_reads(imports: Imports, tmp_path: Path) -> None:
    """Python 3.11 and later read a module's attributes by a shortcut once code is warm."""
    write(
        tmp_path,
        cold="VALUE = 1\n",
        never="VALUE = 1\n",
        main="""
            import cold, never
            def f(late, never_true):
                if never_true: return never.VALUE
                if late: return cold.VALUE
            for n in range(10000): f(False, False)
            for n in range(10000): f(n == 9999, False)
        """,
    )
    assert used(imports("main.py")) == {"cold": True, "never": False}


def test_use_is_counted_after_the_import_and_by_each_module_itself(imports: Imports, tmp_path: Path) -> None:
    write(
        tmp_path,
        lib="import helper\ndef f(): return 1\nf()\n",
        helper="def g(): return 1\n",
        main="import lib\nlib.f()\n",
        itself="import sys\nVALUE = 1\nsys.modules[__name__].VALUE\ndef f(): return 1\nf()\n",
        other="import itself\n",
        whole="VALUE = 1\ndef f(): pass\n",
    )
    assert used(imports("main.py")) == {"lib": True, "helper": False}
    assert used(imports("other.py")) == {"itself": False}
    assert used(imports("-c", "import whole; vars(whole)")) == {"whole": None}


def test_a_package_is_used_where_a_module_in_it_is(imports: Imports, tmp_path: Path) -> None:
    for name, text in {"__init__": "", "part": "def f(): return 1\n", "rest": "def f(): return 1\n"}.items():
        (tmp_path / "pack").mkdir(exist_ok=True)
        (tmp_path / "pack" / f"{name}.py").write_text(text)
    write(tmp_path, main="import pack.part, pack.rest\nfrom pack import rest\npack.part.f()\n")
    assert used(imports("main.py")) == {"pack": True, "pack.part": True, "pack.rest": False}
    write(tmp_path, main="import pack.part, pack.rest\nfrom pack import rest\n")
    assert used(imports("main.py")) == {"pack": False, "pack.part": False, "pack.rest": False}


# --- the program is what it is without --------------------------------------------------------------------------------

PROGRAMS = {
    "argv": "import sys\nprint(sys.argv, __name__, sys.path[0] != '', __file__)\n",
    "status": "import sys\nsys.exit(3)\n",
    "message": "import sys\nsys.exit('sorry')\n",
    "raises": "def f(): import there_is_none\nf()\n",
    "in_a_module": "import broken\n",
    "in_a_call": "import importlib\nimportlib.import_module('broken')\n",
    "syntax": "import wrong\n",
    "no_such": "import importlib\nimportlib.import_module('json.there_is_none')\n",
    "relative": "from . import x\n",
    "spec": "import helper\nprint(helper.__spec__, type(helper.__loader__), type(helper), vars(helper).keys())\n",
    "finders": "import sys\nprint(sys.meta_path, sys.path_hooks, sys.getprofile(), sys.gettrace())\n",
    "modules": "import sys\nprint([name for name in sys.modules if not name.startswith('bursar')])\n",
    "environment": "import os\nprint(sorted(name for name in os.environ if 'BURSAR_R' in name), os.getcwd())\n",
    "traced": """
import sys
def trace(frame, event, arg):
    print(event, frame.f_code.co_name)
    return trace
sys.settrace(trace)
import helper
sys.settrace(None)
sys.setprofile(lambda frame, event, arg: print(event, frame.f_code.co_name))
import broken
""",
    "monitored": """
import sys
monitoring = getattr(sys, "monitoring", None)
if monitoring:
    monitoring.use_tool_id(0, "mine")
    monitoring.register_callback(0, monitoring.events.PY_START, lambda code, at: print(code.co_name))
    monitoring.set_events(0, monitoring.events.PY_START)
import helper
""",
    "deep": "def f(n): return n and f(n - 1)\ntry:\n    f(5000)\nexcept RecursionError: print('deep')\nprint(f(900))\n",
    "at_exit": "import atexit\natexit.register(print, 'last')\nprint('first')\n",
    "fork": """
import os
if os.fork() == 0:
    import helper
    print("child", flush=True)
else:
    os.wait()
    print("parent")
""",
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_does_what_it_does_without(execute: Run, bursar: Run, python: str, tmp_path: Path, name: str) -> None:
    write(
        tmp_path,
        helper="import sys\nx = 1\n",
        broken="def f(): return 1 // 0\nf()\n",
        wrong="def\n",
        program=PROGRAMS[name],
    )
    execute(python, "program.py")  # what is compiled the first time is there the second
    plain = execute(python, "program.py", "a", "--b")
    ours = bursar("imports", "-o", "out.txt", "program.py", "a", "--b")
    assert (ours.returncode, ours.stderr) == (plain.returncode, plain.stderr)
    said, expected = (re.sub("0x[0-9a-f]+", "0x", done.stdout) for done in (ours, plain))
    assert said == expected
    assert "modules" in (tmp_path / "out.txt").read_text().splitlines()[-1]
    assert not list((tmp_path / "ledgers").glob("*"))


def test_a_program_that_closes_its_books_has_no_bytes(imports: Imports, tmp_path: Path) -> None:
    write(tmp_path, first="", second="")
    rows = imports("-c", "import first, bursar; bursar.stop(); import second")
    assert {(row["own_bytes"], row["total_bytes"]) for row in rows.values()} == {(None, None)}
    assert rows["second"]["used"] is False


def test_an_interrupt_while_an_import_is_noted_is_the_programs(execute: Run, python: str) -> None:
    """What a signal's handler raises there goes on to the program; that the stack is full is no matter of its."""
    code = """
import sys
from bursar import _bursar
raises = {}
def begin(name): return name if not raises.get("begin") else fail(raises.pop("begin"))
def end(*_): return None if not raises.get("end") else fail(raises.pop("end"))
def load(name, value): return value if not raises.get("load") else fail(raises.pop("load"))
def fail(error): raise error
_bursar.imports_follow(begin, end, load, {}, None)
for raises in (
    {}, {"begin": KeyboardInterrupt}, {"end": KeyboardInterrupt}, {"begin": RecursionError}, {"end": MemoryError},
    {"load": ImportError}, {"load": ImportError, "end": RecursionError},
    {"load": ImportError, "end": KeyboardInterrupt},
):
    try: print(_bursar.imports_load("x", 5))
    except BaseException as error: print(type(error).__name__)
"""
    done = execute(python, "-c", code)
    assert done.stdout.split() == [
        "5", "KeyboardInterrupt", "KeyboardInterrupt", "5", "5", "ImportError", "ImportError", "KeyboardInterrupt",
    ]  # fmt: skip


def test_a_signal_ends_it_as_it_does_without(execute: Run, bursar: Run, python: str) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    assert bursar("imports", "-c", code).returncode == execute(python, "-c", code).returncode == -15


# --- what is printed --------------------------------------------------------------------------------------------------


def test_the_table_follows_the_programs_output_largest_first(bursar: Run, tmp_path: Path) -> None:
    write(tmp_path, small="", large="kept = bytearray(5 << 20)\n", first="")
    done = bursar("imports", "-c", "import first, small, large; print('mine')")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr, lines[0]) == (0, "", "mine")
    assert lines[1].split() == ["own", "total", "seconds", "used", "module"]
    assert re.fullmatch(r" +5\.0 MiB +5\.0 MiB +\d\.\d{3}  no    large", lines[2])
    assert {line.split()[-1] for line in lines[3:5]} == {"first", "small"}
    assert re.fullmatch(r"3 modules, 5\.\d MiB; never used after their import: 3, 5\.\d MiB", lines[5])
    assert len(lines) == 6


def test_json_is_one_line_after_the_programs_output(bursar: Run, tmp_path: Path) -> None:
    write(tmp_path, first="")
    done = bursar("imports", "--format", "json", "-c", "import first; print('mine')")
    mine, line = done.stdout.splitlines()
    assert mine == "mine"
    row = json.loads(line)["imports"][0]
    assert set(row) == {"module", "own_bytes", "total_bytes", "seconds", "own_seconds", "used"}


def test_a_name_is_escaped(bursar: Run) -> None:
    code = "import sys, importlib; open('a\\x1b[2J.py', 'w').close(); importlib.import_module('a\\x1b[2J')"
    done = bursar("imports", "-c", code)
    assert "\x1b" not in done.stdout
    assert "a\\x1b[2J" in done.stdout


def test_what_the_program_puts_in_place_of_stdout_is_left_alone(bursar: Run, tmp_path: Path) -> None:
    done = bursar("imports", "-c", "import os; os.close(1); os.open('mine.txt', os.O_CREAT | os.O_WRONLY)")
    assert (tmp_path / "mine.txt").read_text() == ""
    assert done.stderr.startswith("bursar: ")
    assert "name a file by -o" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "imports: nothing to run: bursar imports SCRIPT.py (see bursar imports --help)"),
        (["--"], 2, "imports: nothing to run: bursar imports SCRIPT.py (see bursar imports --help)"),
        (["--format", "xml", "x.py"], 2, "imports: no format 'xml': "),
        (["there_is_none.py"], 2, "can't open file 'there_is_none.py': [Errno 2] No such file or directory"),
        (["-o", "nowhere/out", "-c", "1"], 1, "nowhere/out"),
        (["--python", "there-is-none", "-c", "1"], 1, "no such Python: there-is-none"),
    ],
)
def test_wrong_use(complains: Callable[..., str], arguments: list[str], status: int, said: str) -> None:
    assert said.split(":")[0] in complains(status, "imports", *arguments)


def test_a_ledger_is_not_replaced(bursar: Run, complains: Callable[..., str], ledger: Path) -> None:
    assert bursar("run", "-o", ledger, "-c", "1").returncode == 0
    kept = ledger.read_bytes()
    complains(1, "imports", "-o", ledger, "-c", "1")
    assert ledger.read_bytes() == kept


def test_the_file_is_where_it_was_asked_for_wherever_the_program_goes(bursar: Run, tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("old")
    assert bursar("imports", "-o", "out.txt", "-c", "import os; os.chdir('/')").returncode == 0
    assert "0 modules" in (tmp_path / "out.txt").read_text()
