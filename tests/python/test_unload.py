"""unload(): what goes, what comes back, who holds what stays, and what is refused."""

import sys
from pathlib import Path

import pytest
from programs import Program, program

__all__ = ["program"]
pytestmark = pytest.mark.core

HEAD = """
import bursar, sys, threading
sys.path.insert(0, ".")

def attempt(name):
    try: print(bursar.unload(name))
    except (ImportError, ValueError, TypeError) as error: print(type(error).__name__, error)
"""

PART = "from pack import b\nDATA = bytearray(5 << 20)\n"
BIG = """
import logging
from typing import Dict, List, Optional
log = logging.getLogger(__name__)
DATA = bytearray(20 << 20)
class Class:
    __slots__ = ("a", "__weakref__")
    def method(self): return super().__init__()
class Derived(Class):
    one: Optional[Class] = None
    def __init__(self): self.callback = lambda: self
def function(x: List[Class] = [], **more: Dict[str, Derived]) -> Optional[Class]: return DATA
def generate(): yield DATA
def unload_me():
    import bursar
    return bursar.unload("big")
def wait(ready, stop):
    ready.set()
    stop.wait()
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path) -> None:
    (tmp_path / "big.py").write_text(BIG)
    package = tmp_path / "pack"
    package.mkdir()
    for name, text in {
        "__init__": "from . import a\n",
        "a": "from pack import b\nDATA = bytearray(5 << 20)\n",
        "b": BIG,
    }.items():
        (package / f"{name}.py").write_text(text)
    (tmp_path / "user.py").write_text("import pack.b\nfrom pack.b import function as mine\n")


def test_a_module_goes_and_its_bytes_come_back_and_it_can_be_imported_again(program: Program) -> None:
    done = program(
        HEAD
        + """
for _ in range(3):
    import big
    big.Derived()
    del big
    result = bursar.unload("big")
    print(result.unloaded, result.modules, result.held_by, 20 << 20 <= result.bytes < 21 << 20, "big" in sys.modules)
print(str(result).startswith("big unloaded: 2"))
""",
    )
    assert done.stdout.splitlines() == ["True ['big'] [] True False"] * 3 + ["True"]


def test_a_package_goes_with_all_that_is_in_it(program: Program) -> None:
    done = program(
        HEAD
        + """
import pack
del pack
result = bursar.unload("pack")
print(result.unloaded, sorted(result.modules), 25 << 20 <= result.bytes < 26 << 20)
import pack.b
part = pack.b
del part, pack
result = bursar.unload("pack.b")
print(result.unloaded, *result.held_by, sep="; ")
"""
    )
    assert done.stdout.splitlines() == [
        "True ['pack', 'pack.a', 'pack.b'] True",
        "False; module pack.b: dict of module pack.a, key 'b'",
    ]


def test_a_module_in_a_package_goes_alone(program: Program) -> None:
    done = program(
        HEAD
        + """
import pack.b
del pack.a.b
result = bursar.unload("pack.b")
print(result.unloaded, hasattr(pack, "b"), result.bytes >> 20)
from pack import b
print(len(b.DATA) >> 20)
"""
    )
    assert done.stdout.splitlines() == ["True False 20", "20"]


HOLDERS = {
    "a name": ("kept = big", "module big: dict of module __main__, key 'kept'"),
    "a function": ("kept = big.function", "function big.function: dict of module __main__, key 'kept'"),
    "a class": ("kept = big.Class", "class big.Class: dict of module __main__, key 'kept'"),
    "an instance": (
        "kept = [big.Derived()]",
        "class big.Derived: an instance, big.Derived, in list[0] in dict of module __main__, key 'kept'",
    ),
    "a subclass": ("class Mine(big.Class): pass", "class big.Class: "),
    "a bound method": ("kept = big.Class().method", "function big.Class.method: attribute"),
    "a generator": ("kept = big.generate()", "generator generate"),
    "a handler": (
        "import logging\nclass Handler(logging.Handler):\n    f = big.function\nhandler = Handler()\n"
        "logging.root.addHandler(handler)",
        "function big.function: ",
    ),
    "copyreg": (
        "import copyreg\ncopyreg.pickle(big.Class, big.function)",
        "in dict of module copyreg, key 'dispatch_table'",
    ),
    "atexit": (
        "import atexit\natexit.register(big.generate)",
        "function big.generate: tuple[0] in atexit's functions"
        if sys.version_info >= (3, 14)  # where these are in a list
        else "function big.generate: 1 reference that Python cannot see: C code's, such as atexit's or an extension's",
    ),
    "codecs": ("import codecs\ncodecs.register(big.function)", "function big.function: "),
    "a caller's variable": (
        "def f(local):\n    global result\n    result = bursar.unload('big')\nf(big.Class)",
        "class big.Class: local 'local' of f, line 12 of program.py",
    ),
    "an attribute of its own data": (
        "import json\njson.hook = big.Derived().callback",
        "function Derived.__init__.<locals>.<lambda> in dict of module json, key 'hook'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HOLDERS)
def test_what_is_held_stays_whole_and_its_holder_is_named(program: Program, what: str) -> None:
    hold, named = HOLDERS[what]
    done = program(
        HEAD + f"import big\nresult = None\n{hold}\nmodule = sys.modules['big']\ndel module, big\n"
        "result = result or bursar.unload('big')\n"
        "print(result.unloaded, result.bytes, sys.modules['big'].function() is sys.modules['big'].DATA)\n"
        "print(*result.held_by, sep='\\n')\n"
    )
    first, *held = done.stdout.splitlines()
    assert first == "False 0 True"
    assert any(named in line for line in held), held


def test_a_module_whose_code_runs_is_refused(program: Program) -> None:
    done = program(
        HEAD
        + """
import big
try: big.unload_me()
except bursar.CannotUnload as error: print(error)
ready, stop = threading.Event(), threading.Event()
thread = threading.Thread(target=big.wait, args=(ready, stop))
thread.start()
ready.wait()
del big
attempt("big")
stop.set()
thread.join()
del thread
print(bursar.unload("big").unloaded)
"""
    )
    assert done.stdout.splitlines() == [
        "big cannot be unloaded: unload_me, line 16, is running",
        "CannotUnload big cannot be unloaded: wait, line 19, is running",
        "True",
    ]


def test_what_the_interpreter_needs_and_extensions_are_refused(program: Program) -> None:
    done = program(
        HEAD
        + """
import math, _json, json, decimal, os, importlib.util
for name in ("sys", "builtins", "__main__", "os", "importlib", "bursar", "_decimal", "there_is_none"): attempt(name)
attempt(5)
sys.modules["odd"] = 5
attempt("odd")
"""
    )
    lines = done.stdout.splitlines()
    for line, name in zip(lines, ("sys", "builtins", "__main__", "os", "importlib", "bursar"), strict=False):
        assert line == f"CannotUnload {name} cannot be unloaded: the interpreter needs it, or bursar does"
    assert lines[6].startswith("CannotUnload _decimal cannot be unloaded: its library stays in the process")
    assert lines[7] == "ValueError no module 'there_is_none' is loaded"
    assert lines[8] == "TypeError unload() takes a module's name, not int"
    assert lines[9] == "CannotUnload odd cannot be unloaded: what sys.modules has is a int, no module"


@pytest.mark.parametrize("name", ["numpy", "pandas", "sklearn", "torch"])
def test_libraries_with_extensions_are_refused_and_go_on(program: Program, name: str) -> None:
    pytest.importorskip(name)
    done = program(
        HEAD + f"import {name}\ndef loaded(): return sum(one.startswith('{name}') for one in sys.modules)\n"
        f"before = loaded()\nattempt('{name}')\n"
        f"print(loaded() == before, sys.modules['{name}'] is {name})\n",
        says=True,
    )
    first, second = done.stdout.splitlines()
    assert first.startswith(f"CannotUnload {name}, which has {name}.")
    assert "an extension module, cannot be unloaded: its library stays in the process" in first
    assert second == "True True"


@pytest.mark.parametrize("name", ["json", "xml.dom.minidom", "email.message", "decimal", "unittest", "http.client"])
def test_modules_of_the_library_go_and_can_be_imported_again(program: Program, name: str) -> None:
    done = program(
        HEAD + f"__import__('{name}')\nresult = bursar.unload('{name}')\nprint(result)\nprint(result.unloaded)\n"
        f"first = sys.modules.get('{name}')\n__import__('{name}')\nprint(sys.modules['{name}'] is not first)\n"
    )
    assert done.stdout.splitlines()[-2:] == ["True", "True"], done.stdout
