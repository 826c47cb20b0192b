"""unload(): takes a module out of the process, where that gives memory back; else says what keeps it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from ._holders import Back, Held, examine, forget_caches, measure, type_name

_NEEDED = frozenset(sys.builtin_module_names) | {  # the interpreter's own, by name
    "__main__", "abc", "codecs", "encodings", "io", "os", "posixpath", "site", "stat", "genericpath", "importlib",
    "zipimport", "_collections_abc", "threading", "warnings", "bursar", "types", "typing", "linecache", "traceback",
}  # fmt: skip
_SHOWN = 20


class CannotUnload(ImportError):
    """A module that cannot go: the reason, in one line."""


class Unloaded:
    """What became of unload(). `unloaded`: has it gone? `name`, and `modules`: all that went, or would have; `held_by`:
    who holds it, if it stays; `bytes`: what came back (None: not known), by `source`."""

    def __init__(self, name: str, modules: list[str], held: list[Held], back: Back) -> None:
        self.name = name
        self.modules = modules
        self.held_by = [f"{one.what}: {by}" for one in held for by in one.by]
        self.unloaded = not held
        self.bytes = back.bytes
        self.source = back.source

    def __str__(self) -> str:
        many = f" and {len(self.modules) - 1} modules in it" if len(self.modules) > 1 else ""
        if self.unloaded:
            return f"{self.name}{many} unloaded: {Back(self.bytes, self.source)}"
        lines = [f"{self.name}{many} is held, and stays:", *(f"  {one}" for one in self.held_by[:_SHOWN])]
        if len(self.held_by) > _SHOWN:
            lines.append(f"  and {len(self.held_by) - _SHOWN} more")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Unloaded {self.name}, {'gone' if self.unloaded else 'held'}, bytes={self.bytes}>"


def unload(name: str) -> Unloaded:
    """Unload a module, with all that is in it if it is a package, and say what came back.

    Where anything else holds it, nothing is done, and the result's held_by says what: other modules' names, instances
    of its classes, what it has registered elsewhere, local variables. Drop those, and call it again. A name that the
    caller's module has it under is one of these: `del name` first. What it imported stays loaded.

    ValueError: no such module is loaded. CannotUnload (an ImportError): it cannot be loaded twice, or the interpreter
    needs it, or code of it is running: extension modules, and packages that have any (numpy, pandas, torch), give
    nothing back, since what their libraries keep stays, and most cannot be imported again. bursar.isolated() has such
    work done elsewhere. Source of the bytes: the books, malloc or resident memory, as `source` says.
    """
    if not isinstance(name, str):
        raise TypeError(f"unload() takes a module's name, not {type(name).__name__}")
    if name not in sys.modules:
        raise ValueError(f"no module {name!r} is loaded")
    names = [name, *(one for one in list(sys.modules) if one.startswith(name + "."))]
    found = [sys.modules[one] for one in names]
    _refuse(name, dict(zip(names, found, strict=True)))
    found.clear()
    forget_caches()
    gc.collect()  # other garbage is no part of it
    held = _held(names)
    if held:
        return Unloaded(name, names, held, Back(0, "the books"))
    return Unloaded(name, names, [], measure(lambda: _take_out(names)))


# --- what cannot go ---------------------------------------------------------------------------------------------------


def _refuse(name: str, modules: dict[str, Any]) -> None:
    for one, module in modules.items():
        if one.partition(".")[0] in _NEEDED or one in _NEEDED:
            raise CannotUnload(f"{one} cannot be unloaded: the interpreter needs it, or bursar does")
        if not isinstance(module, ModuleType):
            raise CannotUnload(f"{one} cannot be unloaded: what sys.modules has is a {type_name(module)}, no module")
        if _is_extension(module):
            what = name if one == name else f"{name}, which has {one}, an extension module,"
            why = "its library stays in the process and gives nothing back, and few can be loaded twice"
            raise CannotUnload(f"{what} cannot be unloaded: {why}; bursar.isolated() runs work in a process of its own")
    running = _running({id(vars(module)) for module in modules.values()})
    if running:
        raise CannotUnload(f"{name} cannot be unloaded: {running} is running")


def _is_extension(module: ModuleType) -> bool:
    """By its loader; a module without one, or frozen, is taken for what its file is."""
    spec = vars(module).get("__spec__")
    loader = getattr(spec, "loader", None)
    kind = loader if isinstance(loader, type) else type(loader)
    if kind.__name__ in ("ExtensionFileLoader", "BuiltinImporter"):
        return True
    file = vars(module).get("__file__")
    return isinstance(file, str) and file.endswith((".so", ".pyd"))


def _running(dicts: set[int]) -> str | None:
    for frame in list(sys._current_frames().values()):
        at: Any = frame
        while at is not None:
            if id(at.f_globals) in dicts:
                return f"{at.f_code.co_name}, line {at.f_lineno},"
            at = at.f_back
    return None


# --- who holds it -----------------------------------------------------------------------------------------------------


def _parents(names: list[str]) -> Iterator[tuple[ModuleType, str]]:
    """The packages' attributes that importing set: (package, attribute)."""
    for name in names:
        package, _, last = name.rpartition(".")
        parent = sys.modules.get(package)
        if isinstance(parent, ModuleType) and vars(parent).get(last) is sys.modules[name]:
            yield parent, last


def _count_parents(names: list[str], dicts: dict[int, str], known: dict[int, int]) -> Iterator[int]:
    """References of packages that stay; those of a package that goes too are counted among its own."""
    for parent, last in _parents(names):
        values = vars(parent)
        if id(values) not in dicts:
            known[id(values[last])] += 1
            if sum(one is values[last] for one in list(values.values())) == 1:
                yield id(values)


def _held(names: list[str]) -> list[Held]:
    kept = [sys.modules[name] for name in names]
    dicts = {id(vars(module)): name for module, name in zip(kept, names, strict=True)}
    known = {id(module): sum(one is module for one in list(sys.modules.values())) for module in kept}
    explained = {id(sys.modules)}
    explained.update(_count_parents(names, dicts, known))
    outside = {id(vars(module)) for module in list(sys.modules.values()) if isinstance(module, ModuleType)}
    outside -= set(dicts)
    outside.add(id(sys.modules))
    goes = set(names)
    inside = {id(module) for module in kept}

    def is_outside(one: Any) -> bool:
        if isinstance(one, ModuleType):
            return id(one) not in inside
        if isinstance(one, type):
            return type.__getattribute__(one, "__module__") not in goes
        return id(one) in outside

    def describe(one: Any) -> str:
        if isinstance(one, ModuleType):
            return f"module {one.__name__}"
        if isinstance(one, type):
            return f"class {one.__module__}.{one.__qualname__}"
        if isinstance(one, FunctionType):
            return f"function {one.__module__}.{one.__qualname__}"
        return f"dict of module {dicts[id(one)]}" if id(one) in dicts else f"a {type_name(one)}"

    return examine(kept, is_outside, known, lambda one: id(one) in dicts, describe, explained).held


def _take_out(names: list[str]) -> None:
    for parent, last in list(_parents(names)):
        delattr(parent, last)
    for name in names:
        sys.modules.pop(name, None)
    gc.collect()
