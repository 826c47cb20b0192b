"""Resources left open at a scope's end: what is said of them, by event, warning or error.

Descriptors are noted by hooks on libc's calls, objects by audit hooks (pyext/open.c); both only from the first scope
with left_open on.  A name of a file is told to whoever reads the warning or the error, and never to the ledger.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from . import _bursar

_Place = tuple[str, int, str, int]  # file and line of the program; of the library that it led to
_Kept = tuple[str, Any, _Place]  # kind, weak reference or a connection's number, place
_Descriptor = tuple[str, int, _Place, "str | None"]  # kind, number, place, the C library that opened it
Anything = TypeVar("Anything")

_MANY = 10  # more than that are not counted in a text, nor listed
# Modules whose threads are kept for later work, and files of Python's whose descriptors are.
_POOLS = ("concurrent.futures.thread", "anyio._backends._asyncio")
_KEPT = ("multiprocessing/resource_tracker.py:", "multiprocessing/forkserver.py:")
_VERBS = {"thread": "started", "subprocess": "started"}
_python = tuple({os.path.dirname(os.__file__), os.path.dirname(os.path.realpath(os.__file__))})  # its library
_warned: dict[Any, Any] = {}  # warnings that were shown, as the warnings module keeps them by module


@dataclasses.dataclass(frozen=True)
class LeftOpen:
    """What a scope left open: of one kind, from one line.

    kind: 'file', 'socket', 'pipe', 'database connection', 'thread', 'memory map', 'subprocess' and so on.
    count: how many.  names: what is known of the first ones: a file's path, a thread's name, a subprocess's pid.
    file, line: the line of the program that opened it; '' and 0 where no Python code did.
    through: 'FILE:LINE' in Python's own library that this line led to; None: none.
    library: the C library that opened it; None: Python itself.
    pool: it is kept for later work by design, as an executor's thread is: only ever an event.
    """

    kind: str
    file: str
    line: int
    through: str | None = None
    library: str | None = None
    pool: bool = False
    count: int = 1
    names: tuple[str, ...] = ()

    def describe(self, named: bool) -> str:
        """In words; named: with what may say something of the data."""
        what = "worker of an executor" if self.pool and self.kind == "thread" else self.kind
        if named and self.names:
            names = [f"pid {name}" if self.kind == "subprocess" else repr(name) for name in self.names]
            what += " " + ", ".join(names) + (", …" if self.count > len(names) else "")
        if self.count > 1:
            what = f"{self.count if self.count <= _MANY else 'more than ' + str(_MANY)} × {what}"
        if self.kind == "subprocess":
            what += ", not waited for"
        place = f"{self.file}:{self.line}" if self.file else "an unknown line"
        by = f" by {self.library}" if self.library else ""
        through = f" (through {self.through})" if self.through else ""
        return f"{what}, {_VERBS.get(self.kind, 'opened')} at {place}{by}{through}"


class LeftOpenWarning(ResourceWarning):
    """A scope with left_open="warn" has ended, and left resources open that the line shown opened."""


class LeftOpenError(Exception):
    """A scope with left_open="error" has ended, and left resources open.

    scope: its name.  left: what it left, a tuple of objects with kind, count, names, file, line, through, library.
    """

    def __init__(self, scope: str, left: Iterable[LeftOpen]) -> None:
        self.scope = scope
        self.left = tuple(left)
        super().__init__(scope, self.left)

    def __str__(self) -> str:
        told = [each.describe(named=True) for each in self.left[:_MANY]]
        if len(self.left) > _MANY:
            told.append(f"and {len(self.left) - _MANY} more")
        return f"scope {self.scope!r} left open: {'; '.join(told)}"


def watch(name: str, action: str | None) -> None:
    """What scopes of that name do about resources left open, where they do not say: 'event', 'warn', 'error' or None.

    ValueError: there is no such action.
    """
    _bursar.open_default(name, action)


# --- the first scope --------------------------------------------------------------------------------------------------


def begin() -> None:
    """Put the hooks in; called by the extension, once."""
    import mmap

    _show_warnings()
    atexit.register(_bursar.open_finish)
    _bursar.open_start((os.path.dirname(__file__), *_python), mmap.mmap, begun)
    if sys.version_info < (3, 12):
        _watch_threads()


def _show_warnings() -> None:
    """Who asks for warnings shall see them: Python ignores ResourceWarning unless told otherwise, and so ours comes
    right before that rule of its own, which is the last one, behind all that users have said."""
    rules: Any = warnings.filters
    if rules and tuple(rules[-1][:4]) == ("ignore", None, ResourceWarning, None):
        rules.insert(len(rules) - 1, ("default", None, LeftOpenWarning, None, 0))
        warnings.filterwarnings("default", category=LeftOpenWarning, append=True)  # it is there: this tells the module


def _watch_threads() -> None:
    """Before 3.12 there is no event of a thread's start."""
    module: Any = threading
    start = module._start_new_thread

    def start_new_thread(function: Any, *rest: Any) -> Any:
        _bursar.open_began("thread", function)
        return start(function, *rest)

    module._start_new_thread = start_new_thread


# --- what has begun ---------------------------------------------------------------------------------------------------


def begun(kind: str, thing: Any, place: _Place) -> _Kept | None:
    """What is kept of a thing that was opened in a watching scope; it is not kept alive."""
    if kind == "subprocess":
        thing = _popen()
    elif kind == "thread":
        thing = getattr(thing, "__self__", None)
        if not isinstance(thing, threading.Thread) or _home(thing).startswith("bursar."):
            return None  # nobody can ask for its end, or it is ours
    elif kind == "database connection":
        number = _bursar.open_connection_met(thing, sys.modules["sqlite3"].Connection)
        return (kind, number, place) if number else None
    return None if thing is None else (kind, weakref.ref(thing), place)


def _popen() -> Any:
    """The subprocess.Popen that is about to execute something: its event does not name it."""
    frame = sys._getframe(1)
    for _ in range(4):
        if frame is None or frame.f_code.co_name == "_execute_child":
            break
        frame = frame.f_back  # type: ignore[assignment]
    return None if frame is None else frame.f_locals.get("self")


def _thing(reference: Any) -> Any:
    return _bursar.open_connection(reference) if isinstance(reference, int) else reference()


def _name_if_open(kind: str, thing: Any) -> str | None:
    """What to call it; None: it is closed."""
    if kind == "thread":
        return str(thing.name) if thing.is_alive() else None
    if kind == "subprocess":
        return str(thing.pid) if thing.returncode is None else None
    if kind == "memory map":
        return None if thing.closed else ""
    try:
        thing.total_changes  # noqa: B018 (asks whether it is closed, and is allowed from any thread)
    except Exception:
        return None
    return ""


def _home(thread: Any) -> str:
    """The module whose code it runs."""
    if type(thread) is threading.Thread:
        return str(getattr(getattr(thread, "_target", None), "__module__", ""))
    return type(thread).__module__


# --- what is left -----------------------------------------------------------------------------------------------------


def _through(place: _Place) -> str | None:
    if place[2:] == place[:2]:
        return None
    name = next((place[2][len(folder) + 1 :] for folder in _python if place[2].startswith(folder + "/")), place[2])
    return f"{name}:{place[3]}"


def _named(kind: str, descriptor: int) -> str:
    if kind in ("file", "directory", "device", "shared memory"):
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/self/fd/{descriptor}")
    return ""


def _left(descriptors: list[_Descriptor], objects: list[_Kept]) -> Iterator[tuple[LeftOpen, str]]:
    """Each with its name, '' where it has none."""
    for kind, reference, place in objects:
        thing = _thing(reference)
        name = None if thing is None else _name_if_open(kind, thing)
        if name is not None:
            pool = kind == "thread" and _home(thing) in _POOLS
            yield LeftOpen(kind, place[0], place[1], _through(place), pool=pool), name
        if isinstance(reference, int):
            _bursar.open_connection_done(reference)
        del thing
    for kind, descriptor, place, library in descriptors:
        if library is None or "sqlite3" not in library:  # its files are told as connections
            through = _through(place)
            pool = through is not None and through.startswith(_KEPT)
            yield LeftOpen(kind, place[0], place[1], through, library, pool), _named(kind, descriptor)


def _gathered(left: Iterator[tuple[LeftOpen, str]]) -> list[LeftOpen]:
    names: dict[LeftOpen, list[str]] = {}
    for each, name in left:
        names.setdefault(each, []).append(name)
    return [
        dataclasses.replace(each, count=len(known), names=tuple(name for name in known if name)[:3])
        for each, known in names.items()
    ]


def ended(
    scope: _bursar.Scope,
    action: str,
    descriptors: list[_Descriptor],
    objects: list[_Kept] | None,
    error: BaseException | None,
) -> None:
    """A watching scope has ended, and these were not seen to be closed; error: the exception that it is left by."""
    left = _gathered(_left(descriptors, objects or []))
    for each in left:
        _bursar.tell("left open", scope.name, 0, each.describe(named=False))
    wrong = [each for each in left if not each.pool]
    if not wrong or action == "event":
        return
    if action == "error":
        fault = LeftOpenError(scope.name, wrong)
        if error is None:
            raise fault
        if hasattr(error, "add_note"):  # 3.11
            error.add_note(str(fault))
        return
    if len(_warned) > 1000:
        _warned.clear()
    for each in wrong:
        text = f"scope {scope.name!r} left open: {each.describe(named=True)}"
        warnings.warn_explicit(text, LeftOpenWarning, each.file or "<unknown>", each.line, registry=_warned)


# --- what is meant to stay --------------------------------------------------------------------------------------------


def _descriptors_of(what: Any) -> list[int]:
    """Those that it stands for; none where it is closed.  TypeError: it stands for nothing that is opened."""
    if isinstance(what, int) and not isinstance(what, bool):
        return [what]
    parts: list[Any] = [what]
    if hasattr(what, "communicate"):
        parts = [what.stdin, what.stdout, what.stderr]
    elif hasattr(what, "get_extra_info"):  # asyncio's streams and transports
        parts = [what.get_extra_info("socket")]
    elif not hasattr(what, "fileno"):
        names = (("threading", "Thread"), ("mmap", "mmap"), ("sqlite3", "Connection"))
        kinds = tuple(getattr(sys.modules[module], name) for module, name in names if module in sys.modules)
        if not isinstance(what, kinds):
            raise TypeError(f"a {type(what).__name__!r} is nothing that stays open: hand on what has a fileno()")
        return []
    found: list[int] = []
    for part in parts:
        with contextlib.suppress(ValueError, OSError, AttributeError):
            found.append(int(part.fileno()))
    return found


def keep(scope: _bursar.Scope, what: Anything) -> Anything:
    """Scope.keep(): from here on it is the business of the scope around, where that watches, else nobody's."""
    descriptors = _descriptors_of(what)
    outer = _bursar.open_scope(scope)
    objects = _bursar.open_objects(scope)
    if objects is None:
        return what
    for descriptor in descriptors:
        _bursar.open_hand(descriptor, scope, outer)
    for kept in list(objects):
        if _thing(kept[1]) is what:
            objects.remove(kept)
            theirs = _bursar.open_objects(outer) if outer is not None else None
            if theirs is not None:
                theirs.append(kept)
            elif isinstance(kept[1], int):
                _bursar.open_connection_done(kept[1])
    return what


def keep_open(what: Anything) -> Anything:
    """Say that what was opened here is meant to stay open, as a pool's connection is: no scope tells of it.

    what: a descriptor's number, anything with fileno(), a stream of asyncio's, a thread, a subprocess, a memory map, an
        sqlite3 connection.
    Returned as it is, so that ``self.connection = bursar.keep_open(connect())`` reads well.  Where no scope watches, or
    the thing was opened elsewhere, nothing happens.  See also scope.keep(), which hands it to the scope around.

    TypeError: it is none of these.
    """
    _descriptors_of(what)
    scope = _bursar.open_scope(None)
    while scope is not None:
        keep(scope, what)
        scope = _bursar.open_scope(scope)
    return what
