"""The arrays inside an object: where each is kept, what it is called, and how another is put in its place.

Looked into: attributes (of `__dict__` and of slots), dicts, lists, deques and tuples, arrays of objects, blocks of
pandas. What is an object of C code, without attributes that can be set, is asked for the arrays that it refers to,
which are named and left.  Nothing of the object's own code is called.
"""

from __future__ import annotations

import collections
import gc
import operator
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class Place(Protocol):
    """Where something is kept; the reference there counts as one."""

    def get(self) -> Any: ...
    def set(self, value: Any) -> None: ...


class _Item:
    """In a dict, list, deque or array of objects, whatever its class makes of an assignment."""

    def __init__(self, holder: Any, key: Any) -> None:
        self.holder = holder
        self.key = key
        kinds = (dict, list, collections.deque)
        self.kind = next((kind for kind in kinds if isinstance(holder, kind)), type(holder))

    def get(self) -> Any:
        return self.kind.__getitem__(self.holder, self.key)

    def set(self, value: Any) -> None:
        self.kind.__setitem__(self.holder, self.key, value)


class _Slot:
    """A slot, or an attribute of a C class that can be set."""

    def __init__(self, holder: Any, slot: Any) -> None:
        self.holder = holder
        self.slot = slot

    def get(self) -> Any:
        return self.slot.__get__(self.holder)

    def set(self, value: Any) -> None:
        self.slot.__set__(self.holder, value)


class Held:
    """Something inside the object: an array, or what cannot be changed but by putting another in its place.

    object: it.  name: where it was first found.  places: all of them.  inside: references to it that are known
    otherwise.
    """

    __slots__ = ("inside", "name", "object", "places")

    def __init__(self, what: Any, name: str) -> None:
        self.object = what
        self.name = name
        self.places: list[Place] = []
        self.inside = 0

    def references(self) -> int:
        return sys.getrefcount(self.object)

    def others(self) -> bool:
        """Whether anybody holds it whom the walk has not met."""
        return self.references() - _ALONE - len(self.places) - self.inside > 0

    def put(self, value: Any) -> None:
        for place in self.places:
            place.set(value)


_ALONE = Held(object(), "").references()


class _Part:
    """In something that has to be made anew for it: a tuple, or an array of pandas' around one of NumPy's."""

    def __init__(self, whole: Held, get: Callable[[Any], Any], remake: Callable[[Any, Any], Any]) -> None:
        self.whole = whole
        self.of = get
        self.remake = remake

    def get(self) -> Any:
        return self.of(self.whole.object)

    def set(self, value: Any) -> None:
        self.whole.object = self.remake(self.whole.object, value)
        self.whole.put(self.whole.object)


def part_of_others(place: Place) -> bool:
    """Whether what the place is in is held by others, who would keep the old one."""
    while isinstance(place, _Part):
        if place.whole.others():
            return True
        if not place.whole.places:
            return False
        place = place.whole.places[0]
    return False


# --- the walk ---------------------------------------------------------------------------------------------------------

_ATOMS: tuple[type, ...] = (
    str, bytes, bytearray, int, float, complex, type(None), type(Ellipsis), range, slice, type, types.ModuleType,
    types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.CodeType, types.FrameType,
    types.GeneratorType, weakref.ref, property, staticmethod, classmethod,
)  # fmt: skip


class Found:
    """What walk() met.

    arrays, tensors: by identity.  opaque: what objects of C code hold, by identity: (it, name, why).  left: (name,
    bytes, why) of what is no array.
    """

    def __init__(self) -> None:
        self.arrays: dict[int, Held] = {}
        self.tensors: dict[int, Held] = {}
        self.opaque: dict[int, tuple[Any, str, str]] = {}
        self.left: list[tuple[str, int, str]] = []
        self.wholes: dict[int, Held] = {}
        self.seen: dict[int, tuple[Any, str]] = {}  # kept, so that its identity stays its own


def _shown(path: str) -> str:
    """Of what lies very deep, the ends of its path: all paths of a long chain would be as long as its square."""
    return path if len(path) <= 400 else f"{path[:200]}...{path[-150:]}"


def attribute(path: str, name: str) -> str:
    return f"{_shown(path)}.{name}" if path else name


def item(path: str, key: Any) -> str:
    text = repr(key) if type(key) in (str, int) else f"<{type(key).__name__}>"
    return f"{_shown(path)}[{text if len(text) <= 80 else text[:77] + '...'}]"


def _remake_tuple(index: int) -> Callable[[Any, Any], Any]:
    def remake(old: Any, value: Any) -> Any:
        return tuple.__new__(type(old), (*old[:index], value, *old[index + 1 :]))

    return remake


def _remake_backed(old: Any, value: Any) -> Any:
    new = old._from_backing_data(value)
    new.__dict__.update(old.__dict__)
    return new


def _slots(kind: type) -> Iterator[tuple[str, Any]]:
    for base in kind.__mro__:
        for name, slot in vars(base).items() if "__slots__" in vars(base) else ():
            if isinstance(slot, types.MemberDescriptorType):
                yield name, slot


def _is_from(what: Any, package: str) -> bool:
    return type(what).__module__.partition(".")[0] == package


def _is_backed(what: Any) -> bool:
    """An array of pandas' that is one of NumPy's and a dtype: dates, categories, strings."""
    return hasattr(type(what), "_from_backing_data") and _is_from(what, "pandas")


def _blocks(what: Any) -> Any:
    """The manager of a DataFrame's or Series' blocks."""
    manager = vars(what).get("_mgr") if hasattr(what, "__dict__") else None
    return manager if _is_from(manager, "pandas") and hasattr(manager, "blocks") else None


def _children(held: Held | None, what: Any, path: str) -> Iterator[tuple[Place, str]]:
    """The places in it, each with the name of what is there."""
    if isinstance(what, dict):
        for key in list(what):
            yield _Item(what, key), item(path, key)
    elif isinstance(what, (list, collections.deque)):
        for index in range(len(what)):
            yield _Item(what, index), item(path, index)
    elif held is not None and isinstance(what, tuple):
        for index in range(len(what)):
            yield _Part(held, operator.itemgetter(index), _remake_tuple(index)), item(path, index)
    elif held is not None:
        yield _Part(held, operator.attrgetter("_ndarray"), _remake_backed), path
        return
    if (manager := _blocks(what)) is not None:
        for index, block in enumerate(manager.blocks):
            yield _Slot(block, type(block).values), attribute(path, f"blocks[{index}]")
        for index in range(len(manager.axes)):
            yield _Item(manager.axes, index), attribute(path, f"axes[{index}]")
        return
    attributes = getattr(what, "__dict__", None)
    if isinstance(attributes, dict):
        torch = sys.modules.get("torch")
        module = torch is not None and isinstance(what, torch.nn.Module)
        for key in list(attributes):
            if module and key in ("_parameters", "_buffers", "_modules"):  # torch's own names
                for name in list(attributes[key]):
                    yield _Item(attributes[key], name), attribute(path, name)
            else:
                yield _Item(attributes, key), attribute(path, key)
    for name, slot in _slots(type(what)):
        yield _Slot(what, slot), attribute(path, name)


def _is_tree(what: Any) -> bool:
    return type(what).__name__ == "Tree" and _is_from(what, "sklearn")


def _leave_opaque(found: Found, what: Any, path: str, depth: int = 2) -> None:
    """What C code of an object holds, which no place leads to: named as far as the garbage collector knows it."""
    if _is_tree(what):
        state = what.__getstate__()
        why = "a tree of scikit-learn keeps its nodes in memory of its own"
        found.left += [(attribute(path, name), state[name].nbytes, why) for name in ("nodes", "values")]
        return
    if _is_from(what, "sklearn") and hasattr(what, "get_arrays"):  # its data are named where the estimator has them
        why = "a tree of neighbours of scikit-learn's keeps its nodes in memory of its own"
        names = ("idx_array", "node_data", "node_bounds")
        nodes = zip(names, what.get_arrays()[1:], strict=False)
        found.left += [(attribute(path, name), array.nbytes, why) for name, array in nodes]
        return
    numpy = sys.modules["numpy"]
    for child in gc.get_referents(what):
        if id(child) in found.arrays or id(child) in found.wholes or id(child) in found.seen:
            continue
        if isinstance(child, numpy.ndarray) and child.nbytes:
            why = f"an object of C code ({type(what).__name__}) holds it, which cannot be given another"
            found.opaque[id(child)] = (child, path, why)
        elif depth and isinstance(child, (dict, list, tuple)):
            _leave_opaque(found, child, path, depth - 1)


def _meet(found: Found, place: Place | None, what: Any, path: str) -> Iterator[tuple[Place, str]]:
    """Notes it; what is in it."""
    numpy, torch = sys.modules["numpy"], sys.modules.get("torch")
    if isinstance(what, _ATOMS):
        return iter(())
    tensor = torch is not None and isinstance(what, torch.Tensor)
    kept = found.tensors if tensor else found.arrays if isinstance(what, numpy.ndarray) else found.wholes
    if kept is not found.wholes or isinstance(what, tuple) or _is_backed(what):
        first = id(what) not in kept
        held = kept.setdefault(id(what), Held(what, path))
        if place is not None:
            held.places.append(place)
        if not first:
            return iter(())
        if kept is found.arrays and what.dtype.hasobject and what.dtype.fields is None:
            return ((_Item(what, at), f"{path}[{', '.join(map(str, at))}]") for at in numpy.ndindex(what.shape))
        return _children(held, what, path) if kept is found.wholes else iter(())
    if id(what) in found.seen:
        return iter(())
    found.seen[id(what)] = (what, path)
    return _children(None, what, path)


def walk(what: Any) -> Found:
    """Everything inside, each once, in order, however deep."""
    found = Found()
    under_way = [_meet(found, None, what, "")]
    while under_way:
        for place, path in under_way[-1]:
            try:
                child = place.get()
            except (AttributeError, KeyError, IndexError):  # a slot that is empty, or what has just gone
                continue
            under_way.append(_meet(found, place, child, path))
            break
        else:
            under_way.pop()
    for thing, path in found.seen.values():
        if not isinstance(thing, (dict, list, collections.deque)) and _blocks(thing) is None:
            _leave_opaque(found, thing, path)
    return found
