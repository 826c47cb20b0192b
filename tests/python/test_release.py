"""release(): who else holds an object, and how many bytes come back once nobody does."""

import sys

import pytest
from programs import Program, program

__all__ = ["program"]
pytestmark = pytest.mark.core

HEAD = """
import bursar, gc, sys, threading, types
sys.path.insert(0, ".")
MIB = 1 << 20

class Holder:
    def __init__(self, x=None): self.x = x

class Slots:
    __slots__ = ("y",)

class Node:
    pass

def show(released):
    for line in str(released).splitlines(): print(line)

"""


HOLDERS = {
    "a module's name": ("import json\njson.kept = data", "dict of module json, key 'kept'", "del json.kept"),
    "a list": ("kept = [0, data]", "list[1] in dict of module __main__, key 'kept'", "del kept"),
    "a dict in a list": (
        "kept = [{'key': data}]", "dict, key 'key' in list[0] in dict of module __main__, key 'kept'", "del kept",
    ),
    "an attribute": (
        "kept = Holder(data)", "attribute 'x' of __main__.Holder in dict of module __main__, key 'kept'", "del kept",
    ),
    "an attribute of an attribute": (
        "kept = Holder(Holder(data))",
        "attribute 'x' of __main__.Holder in attribute 'x' of __main__.Holder in dict of module __main__, key 'kept'",
        "del kept",
    ),
    "a slot": (
        "kept = Slots()\nkept.y = data", "attribute 'y' of __main__.Slots in dict of module __main__, key 'kept'",
        "del kept",
    ),
    "a tuple": ("kept = (data,)", "tuple[0]", "del kept"),
    "a default": ("def kept(x=data): pass", "tuple[0] in function kept", "del kept"),
    "a generator": (
        "def f(x):\n    yield\nkept = f(data)\nnext(kept)", "generator f", "del kept",
    ),
    "a closure": ("def f(x): return lambda: x\nkept = f(data)", "cell", "del kept"),
    "another thread's variable": (
        "def run(mine):\n    ready.set()\n    stop.wait()\nready, stop = threading.Event(), threading.Event()\n"
        "thread = threading.Thread(target=run, args=(data,))\nthread.start()\nready.wait()",
        "local 'mine' of run, line 22 of program.py",
        "stop.set()\nthread.join()\ndel thread",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HOLDERS)
def test_each_kind_of_holder_is_named_and_counts(program: Program, what: str) -> None:
    hold, named, let_go = HOLDERS[what]
    done = program(
        HEAD + "data = bytearray(8 * MIB)\nreleased = bursar.release(data)\n" + hold + "\ndel data\n"
        "print(released.gone, released.bytes)\nprint(*released.holders, sep='\\n')\n" + let_go + "\n"
        "print(released.gone, 8 * MIB <= released.bytes < 8 * MIB + 65536, released.holders)\n"
    )
    first, *holders, last = done.stdout.splitlines()
    assert first == "False None"
    assert any(line.startswith(named) for line in holders), holders
    assert last == "True True []"


def test_what_c_alone_holds_is_counted(program: Program) -> None:
    done = program(
        HEAD + "import ctypes\ndef f(): pass\nreleased = bursar.release(f)\n"
        "ctypes.pythonapi.Py_IncRef(ctypes.py_object(f))\ndel f\n"
        "print(*released.holders)\nprint(released.gone)\n"
    )
    assert done.stdout == "1 reference that Python cannot see: C code's, such as atexit's or an extension's\nFalse\n"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="atexit keeps functions where Python cannot see them")
def test_what_atexit_holds_is_its(program: Program) -> None:
    done = program(
        HEAD
        + """
import atexit
def f(*given, **named): pass
data = [1]
lists = [(f, (), None)]  # looks like atexit's
released, argument = bursar.release(f), bursar.release(data)
atexit.register(f, data)
del f, data
print(*sorted(released.holders), sep="; ")
print(*argument.holders, sep="; ")
atexit._clear()
print(*released.holders, argument.gone)
"""
    )
    assert done.stdout.splitlines() == [
        "tuple[0] in atexit's functions; tuple[0] in list[0] in dict of module __main__, key 'lists'",
        "tuple[0] in tuple[1] in atexit's functions",
        "tuple[0] in list[0] in dict of module __main__, key 'lists' True",
    ]


def test_a_cycle_is_shown_and_ended_when_asked(program: Program) -> None:
    done = program(
        HEAD
        + """
gc.disable()
node = Node()
node.data = bytearray(8 * MIB)
node.children = [Node()]
node.children[0].parent = node
garbage = Node()
garbage.itself, garbage.data = garbage, bytearray(20 * MIB)
released = bursar.release(node)
print(released.cycle)
del node, garbage
show(released)
print(released.gone, released.bytes, released.holders)
print(8 * MIB <= released.collect() < 9 * MIB, released.gone)  # the other garbage is in no figure
"""
    )
    way = "__main__.Node.children[0].parent (itself)"
    assert done.stdout.splitlines() == [
        way,
        "__main__.Node: still held",
        f"  by itself: {way}; collect() ends that",
        "False None []",
        "True True",
    ]


def test_a_cycle_that_somebody_holds_is_not_collected(program: Program) -> None:
    done = program(
        HEAD
        + """
node, child = Node(), Node()
node.child, child.parent = child, node
released = bursar.release(node)
del node
show(released)
print(released.collect(), released.gone, child.parent.child is child)
del child
print(released.collect(), released.gone)
"""
    )
    assert done.stdout.splitlines() == [
        "__main__.Node: still held",
        "  by dict of module __main__, key 'child' (through __main__.Node)",
        "  by itself: __main__.Node.child.parent (itself)",
        "None False True",
        "None True",
    ]


def test_bytes_by_the_books(program: Program, tmp_path: object) -> None:
    done = program(
        HEAD + "bursar.start('exact', domains='all')\ndata = [bytes(1000) for _ in range(10)]\n"
        "released = bursar.release(data)\ndel data\nprint(released.bytes, released.source)\n"
    )
    bytes_, source = done.stdout.split(maxsplit=1)
    assert 10 * 1033 <= int(bytes_) < 10 * 1033 + 1000  # their headers, and the list
    assert source == "the books\n"


def test_too_few_bytes_to_see_are_not_known(program: Program) -> None:
    done = program(
        HEAD + "data = [1]\nreleased = bursar.release(data)\ndel data\nprint(released.bytes)\nshow(released)\n"
    )
    assert done.stdout.splitlines() == [
        "None",
        "list: gone; how many bytes came back is not known: too few to see without books (bursar.start)",
    ]


def test_asking_holds_nothing_and_changes_nothing(program: Program) -> None:
    done = program(
        HEAD
        + """
holder = Holder(bytearray(1))
holder.more = {"a": [1]}
released = bursar.release(holder.x)
for _ in range(3): str(released), released.holders, released.gone, released.cycle
print(vars(holder) == {"x": bytearray(1), "more": {"a": [1]}}, sys.getrefcount(holder) - sys.getrefcount(Holder()))
del holder
print(released.gone)
"""
    )
    assert done.stdout.splitlines()[0].startswith("True")
    assert done.stdout.splitlines()[1] == "True"
