"""Who holds an object: what refers to it, by names; and whether anything does but what it holds itself."""

from __future__ import annotations

import atexit
import functools
import gc
import inspect
import os
import re
import sys
import typing
from collections.abc import Callable, Iterable
from types import (
    AsyncGeneratorType,
    CellType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
)
from typing import Any, NamedTuple

from . import _bursar

MOST = 6  # holders that are named
_DEPTH = 3  # containers in containers
_HERE = os.path.dirname(__file__) + os.sep
_GENERATORS = {
    inspect.CO_GENERATOR: "generator",
    inspect.CO_COROUTINE: "coroutine",
    inspect.CO_ASYNC_GENERATOR: "async_generator",
}
_RUN = (GeneratorType, CoroutineType, AsyncGeneratorType)
_LINKS = (CellType, MethodType, functools.partial, staticmethod, classmethod)  # what holds for others
_VISIBLE = 1 << 16  # bytes: less may be the measurement's own
_PATH_MOST = 20000  # objects that are looked at for a path

# --- what refers to it, by name ---------------------------------------------------------------------------------------


def type_name(thing: object) -> str:
    kind = type(thing)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def shown(name: object, secrets: Iterable[int]) -> str:
    """A key, unless it is the secret itself or more than a name."""
    if type(name) is str and name.isidentifier() and len(name) <= 40 and id(name) not in secrets:
        return repr(name)
    return f"a key of type {type(name).__name__}"


def holders_of(owner: object, ours: set[int], secrets: Iterable[int] = (), depth: int = 0) -> list[str]:
    """What the garbage collector knows to refer to it, but for `ours`, which are ids."""
    found: list[str] = []
    referrers = _bursar.holders(owner)
    ours.add(id(referrers))
    for one in referrers:
        if id(one) in ours or (isinstance(one, FrameType) and one.f_code.co_filename.startswith(_HERE)):
            continue
        if type(one) is tuple and len(one) == 2 and type(one[1]) is set:
            continue  # our own
        text = describe(one, owner, ours, secrets, depth)
        if text:
            found.append(text)
        if len(found) == MOST:
            break
    ours.discard(id(referrers))
    return found


def describe(one: Any, owner: object, ours: set[int], secrets: Iterable[int] = (), depth: int = 0) -> str:
    """What `one` is, where in it `owner` is, and what holds it in turn."""
    if isinstance(one, ModuleType):
        return f"module {one.__name__}"
    if isinstance(one, FrameType):
        flags = one.f_code.co_flags
        kinds = [
            name for flag, name in _GENERATORS.items() if flags & flag
        ]  # in 3.10 they have frames that are objects
        return f"{kinds[0] if kinds else 'frame of'} {one.f_code.co_name}"
    kind = type(one)
    if kind is FunctionType or kind in _RUN:
        text = f"{kind.__name__} {one.__qualname__}"
        return text if depth or kind is not FunctionType else text + _further(one, ours, secrets, depth)
    if kind is dict:
        place = "as a key"
        for key, value in one.items():  # no closure: its cell would be a holder
            if value is owner:
                place = f"key {shown(key, secrets)}"
                break
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", None) is one:
                return f"dict of module {module.__name__}, {place}"
        instance = _instance_of(one)
        if instance is not None:
            return describe_attribute(instance, owner, ours, secrets, depth)
        text = f"dict, {place}"
    elif kind is list and _is_atexits(one, owner):
        return "atexit's functions"
    elif kind in (list, tuple):
        text = kind.__name__
        for index, value in enumerate(one):
            if value is owner:
                text += f"[{index}]"
                break
    else:
        return describe_attribute(one, owner, ours, secrets, depth)
    if depth < _DEPTH and kind in (dict, list, tuple, set, frozenset):
        text += _further(one, ours, secrets, depth)
    return text


def _is_atexits(one: list[Any], entry: object) -> bool:
    """Whether a list is the one that atexit keeps, from 3.14 on: what it was just given is in there."""
    if sys.version_info >= (3, 14) and type(entry) is tuple and len(entry) == 3 and type(entry[1]) is tuple:
        _give_atexit_a_function()
        return any(type(each) is tuple and each and each[0] is _nothing for each in one)
    return False


@functools.cache
def _give_atexit_a_function() -> None:
    atexit.register(_nothing)


def _nothing() -> None:
    """What the list of atexit is known by."""


def describe_attribute(one: Any, owner: object, ours: set[int], secrets: Iterable[int], depth: int) -> str:
    """The same of an object that is no container."""
    text = type_name(one)
    name = _attribute(one, owner)
    if name is not None:
        text = f"attribute {shown(name, secrets)} of {text}"
    elif type(one) is owner:
        text = f"an instance, {text},"
    elif not isinstance(one, _LINKS):
        return text
    return (text + _further(one, ours, secrets, depth)).rstrip(",") if depth < _DEPTH else text.rstrip(",")


def _further(one: object, ours: set[int], secrets: Iterable[int], depth: int) -> str:
    outer = holders_of(one, ours, secrets, depth + 1)
    return f" in {outer[0]}" if outer else ""


def _values(one: Any) -> Any:
    """An instance's __dict__, with no code of its class run; None where it has none."""
    if isinstance(one, (type, ModuleType, FunctionType)):
        return None
    try:
        return object.__getattribute__(one, "__dict__")
    except AttributeError:
        return None


def _instance_of(values: dict[str, Any]) -> Any:
    for holder in _bursar.holders(values):  # this list has gone when the others are asked for
        if _values(holder) is values:
            return holder
    return None


def _attribute(one: Any, owner: object) -> str | None:
    """The attribute of an instance that is the owner, with no code of its class run."""
    values = _values(one)
    if type(values) is dict:
        for name, value in values.items():
            if value is owner:
                return name if type(name) is str else None
    for base in type(one).__mro__:
        for name, member in list(base.__dict__.items()):
            if type(member) is _MEMBER:
                try:
                    value = member.__get__(one)
                except AttributeError:
                    continue
                if value is owner:
                    return name
    return None


class _Slotted:
    __slots__ = ("member",)


_MEMBER: Any = type(_Slotted.__dict__["member"])

# --- whether anything else refers to it -------------------------------------------------------------------------------


class Held(NamedTuple):
    """Something that is held from outside: what it is, and by whom."""

    what: str
    by: list[str]


class Examined(NamedTuple):
    """held: none, nothing holds it but its own cycles; cycle: one of those, as a path."""

    held: list[Held]
    in_cycle: bool


_EXTRA = next(map(sys.getrefcount, [object()]))  # references that the counting has itself: a list's and its own
_SKIPPED = (CodeType, FrameType, str, bytes, int, float)


def examine(
    kept: list[Any],
    is_outside: Callable[[Any], bool],
    known: dict[int, int],
    leads_back: Callable[[Any], bool],
    name: Callable[[Any], str],
    explained: Iterable[int] = (),
) -> Examined:
    """Who holds what is in `kept`, but for that list.

    All that can be reached from there is looked at, up to what is_outside: as the garbage collector does, references
    from among these are taken from each one's count, and `known` ones (by ids); what then has some left is held from
    outside, and matters where it leads back: by a way among these to what leads_back is true of. `explained` are
    holders that are in `known`, by ids.
    """
    objects, index = _reach(kept, is_outside)
    referents: list[list[int]] = []
    counts = [count - _EXTRA for count in map(sys.getrefcount, objects)]
    for one in objects:
        inner = [index[id(target)] for target in gc.get_referents(one) if id(target) in index]
        referents.append(inner)
        for at in inner:
            counts[at] -= 1
    for root in range(len(kept)):
        counts[index[id(kept[root])]] -= 1
    for at, number in known.items():
        if at in index:
            counts[index[at]] -= number
    matter = _leading({at for at, one in enumerate(objects) if leads_back(one)}, referents)
    held = [at for at in sorted(matter) if counts[at] > 0]
    roots = {index[id(one)] for one in kept}
    in_cycle = any(at in roots for at in (target for start in matter for target in referents[start]))
    del one
    ours = set(index)
    ours.update((id(objects), id(kept), id(index), id(referents), id(counts)))
    ours.update(explained)
    return Examined([_held(objects, at, counts[at], ours, name) for at in held[:MOST]], in_cycle)


def _reach(kept: list[Any], is_outside: Callable[[Any], bool]) -> tuple[list[Any], dict[int, int]]:
    objects: list[Any] = []
    index: dict[int, int] = {}
    for one in kept:
        if id(one) not in index:
            index[id(one)] = len(objects)
            objects.append(one)
    at = 0
    while at < len(objects):
        for one in gc.get_referents(objects[at]):
            if id(one) not in index and gc.is_tracked(one) and not isinstance(one, _SKIPPED) and not is_outside(one):
                index[id(one)] = len(objects)
                objects.append(one)
        at += 1
    return objects, index


def _leading(targets: set[int], referents: list[list[int]]) -> set[int]:
    """Those from which there is a way to one of the targets."""
    referrers: list[list[int]] = [[] for _ in referents]
    for at, inner in enumerate(referents):
        for target in inner:
            referrers[target].append(at)
    waiting = list(targets)
    found = set(targets)
    while waiting:
        for at in referrers[waiting.pop()]:
            if at not in found:
                found.add(at)
                waiting.append(at)
    return found


def _held(objects: list[Any], at: int, count: int, ours: set[int], name: Callable[[Any], str]) -> Held:
    by = [
        f"local {shown(local, ())} of {function}, line {line} of {os.path.basename(file)}"
        for local, function, file, line in _bursar.holders_locals(objects[at])
        if not file.startswith(_HERE)
    ]
    by += holders_of(objects[at], ours)
    if not by:
        by.append(
            f"{count} reference{'s' * (count > 1)} that Python cannot see: C code's, such as atexit's or an extension's"
        )
    return Held(name(objects[at]), by[:MOST])


def path_back(kept: list[Any]) -> str | None:
    """A cycle that its first object is in, as a path of attributes, keys and indexes."""
    came: dict[int, tuple[Any, Any]] = {}
    waiting = [kept[0]]
    while waiting and len(came) < _PATH_MOST:
        following = []
        for one in waiting:
            for target in gc.get_referents(one):
                if target is kept[0]:
                    steps = [(one, target)]
                    while steps[0][0] is not kept[0]:
                        steps.insert(0, (came[id(steps[0][0])][0], steps[0][0]))
                    way = "".join(_step(*step) for step in steps)
                    return type_name(kept[0]) + re.sub(r"\.__dict__\['(\w+)'\]", r".\1", way) + " (itself)"
                if id(target) not in came and gc.is_tracked(target) and not isinstance(target, (type, ModuleType)):
                    came[id(target)] = (one, target)
                    following.append(target)
        waiting = following
    return None


def _step(one: Any, target: Any) -> str:
    kind = type(one)
    if kind is dict:
        for key, value in one.items():
            if value is target:
                return f"[{shown(key, ())}]" if shown(key, ())[0] in "'\"" else f"[{key!r:.40}]"
    if kind in (list, tuple):
        for index, value in enumerate(one):
            if value is target:
                return f"[{index}]"
    name = _attribute(one, target)
    if name is not None:
        return f".{name}"
    if _values(one) is target:
        return ".__dict__"
    return f" > {type_name(target)}"


def forget_caches() -> None:
    """Empties typing's caches, which hold classes that annotations were written with."""
    for clear in list(getattr(typing, "_cleanups", ())):
        clear()


# --- what came back ---------------------------------------------------------------------------------------------------


class Back(NamedTuple):
    """Bytes that came back, None: not known; and by what that is known."""

    bytes: int | None
    source: str

    def __str__(self) -> str:
        if self.bytes is None:
            return "how many bytes came back is not known: too few to see without books (bursar.start)"
        return f"{self.bytes} bytes came back, by {self.source}"


def measure(act: Callable[[], object]) -> Back:
    """What came back while something was done: the greatest of what is known, since each leaves something out.

    The books know what was allocated since they were opened, in their domains; malloc what it was given back, whether
    or not it keeps it for later; resident memory shows what went back to the system, in pages. Other threads' work
    meanwhile is in all of them.
    """
    _figures()  # the first time it takes memory itself
    before = _figures()
    act()
    after = _figures()
    live, malloc, resident = (then - now for then, now in zip(before, after, strict=True))
    seen = max(malloc, resident)
    if before[0] >= 0 and after[0] >= 0 and live > 0 and (live >= seen or seen < _VISIBLE):
        return Back(live, "the books" + (", an estimate" if _bursar.status()["mode"] == "sample" else ""))
    if seen >= _VISIBLE:
        return Back(malloc, "malloc") if malloc >= resident else Back(resident, "resident memory")
    return Back(None, "")


def _figures() -> tuple[int, int, int]:
    return _bursar.live_bytes(), _bursar.malloc_bytes(), _resident()


def _resident() -> int:
    with open("/proc/self/smaps_rollup", "rb") as file:  # to the page, where statm is late
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(b"Rss:"))
