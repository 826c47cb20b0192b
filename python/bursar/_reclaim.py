"""reclaim(): give back now what can be given back, and say what came of it (docs/giving_back.md)."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from typing import Any

from . import _bursar, _hideouts
from ._rss import resident

_LEAST = 1 << 20  # bytes that are worth a trim
_SITES = 10  # of those that pin arenas


class Pin:
    """A line of the program whose live blocks keep arenas of Python's that are mostly free.

    stack: (function, file, line), innermost first.  arenas: how many.  bytes: of its blocks in them.  free_bytes: what
    is free in those arenas; sites that share an arena count it each.
    """

    __slots__ = ("arenas", "bytes", "free_bytes", "stack")

    def __init__(self, stack: list[tuple[str, str, int]], arenas: int, held: int, free: int) -> None:
        self.stack, self.arenas, self.bytes, self.free_bytes = stack, arenas, held, free

    def __repr__(self) -> str:
        function, file, line = self.stack[0] if self.stack else ("?", "?", 0)
        return f"<Pin {file}:{line} {function} arenas={self.arenas} free_bytes={self.free_bytes}>"


class Reclaimed:
    """What a reclaim() did.  Bytes and seconds; None where one is not known or was not done.

    rss_bytes: by how much resident memory fell; 0 where it grew meanwhile.  booked_bytes: by how much the books' live
        bytes fell; None without books.
    objects: that the collection found unreachable.
    collect_seconds, caches_seconds, trim_seconds: what each part took.
    foretold_bytes, foretold_seconds: what the trim was to give back and to take, as worked out before it.
    not_done: part, and why not.
    arenas, pinned_arenas, pinned_free_bytes: Python's arenas; those that are mostly free and cannot go back, and what
        is free in them.  pinned: the lines whose blocks hold them, a list of Pin.  All None but in mode exact.
    """

    def __init__(self) -> None:
        self.rss_bytes = 0
        self.booked_bytes: int | None = None
        self.objects: int | None = None
        self.collect_seconds: float | None = None
        self.caches_seconds: float | None = None
        self.trim_seconds: float | None = None
        self.foretold_bytes: int | None = None
        self.foretold_seconds: float | None = None
        self.not_done: dict[str, str] = {}
        self.arenas: int | None = None
        self.pinned_arenas: int | None = None
        self.pinned_free_bytes: int | None = None
        self.pinned: list[Pin] | None = None

    def __repr__(self) -> str:
        return f"<Reclaimed rss_bytes={self.rss_bytes} not_done={self.not_done}>"

    def __str__(self) -> str:
        lines = [f"{self.rss_bytes} bytes of resident memory came back"]
        for part, seconds in (
            ("full collection", self.collect_seconds), ("caches", self.caches_seconds),
            ("malloc_trim", self.trim_seconds),
        ):  # fmt: skip
            lines += [] if seconds is None else [f"  {part}: {seconds:.3f} s"]
        lines += [f"  {part}: {why}" for part, why in self.not_done.items()]
        if self.pinned_arenas:
            lines.append(
                f"  {self.pinned_free_bytes} bytes are free in {self.pinned_arenas} of {self.arenas} arenas, held by"
            )
            for pin in self.pinned or []:
                function, file, line = pin.stack[0] if pin.stack else ("?", "?", 0)
                lines.append(f"    {file}:{line} {function}: {pin.bytes} bytes in {pin.arenas} arenas")
        return "\n".join(lines)


def _empty_caches() -> None:
    """Of the standard library and of libraries that know how: the next call fills them again."""
    if "linecache" in sys.modules:
        sys.modules["linecache"].clearcache()
    if "re" in sys.modules:
        sys.modules["re"].purge()
    functools, sqlite3 = sys.modules.get("functools"), sys.modules.get("sqlite3")
    cached: Any = type(functools.lru_cache(len)) if functools else ()
    for each in gc.get_objects():
        if type(each) is cached:
            _hideouts._clear(each)
        elif sqlite3 and issubclass(type(each), sqlite3.Connection):
            _hideouts._shrink(each)
    with contextlib.suppress(AttributeError):  # 3.13 and later; the compiled code that the next calls would have used
        sys._clear_internal_caches()  # type: ignore[attr-defined]
    _hideouts._empty_libraries()


def _trim(done: Reclaimed, waits: bool) -> None:
    known = _bursar.returnable()
    if known is None:
        done.not_done["malloc_trim"] = "what it would give back is not known: this malloc is not the C library's"
        return
    done.foretold_bytes, done.foretold_seconds = known
    if done.foretold_bytes < _LEAST:
        done.not_done["malloc_trim"] = f"it would give back {done.foretold_bytes} bytes: not worth its cost"
    elif waits:
        done.not_done["malloc_trim"] = "a scope has begun meanwhile"
    else:
        done.trim_seconds = _bursar.trim(done.foretold_bytes)


def reclaim(caches: bool = False) -> Reclaimed:
    """Collect all garbage, give malloc's free pages back, and say what came of it.

    caches: also empty the caches of the standard library (re, linecache, and all that functools.lru_cache makes there),
        sqlite3's pages, and the buffers of MKL, HDF5 and Arrow.  They are filled again by the next call.

    While a scope is open, in whichever thread, nothing is done and `not_done` says so: both hold everybody up.  The
    governor does it in the next rest.  A trim is done where at least 1 MiB would come back.
    What comes back is an event in the ledger.

    RuntimeError: not in the main interpreter.  Source: /proc/self/statm, the books, malloc's and pymalloc's own memory.
    """
    done = Reclaimed()
    scopes = _bursar.open_scopes()
    if scopes:
        why = f"{scopes} {'scope is' if scopes == 1 else 'scopes are'} open: call it when none is"
        done.not_done = dict.fromkeys(("collection", *(("caches",) if caches else ()), "malloc_trim"), why)
        return done
    before, booked = resident(os.getpid(), "rss"), _bursar.live_bytes()
    if caches:
        began = time.perf_counter()
        _empty_caches()
        done.caches_seconds = time.perf_counter() - began
    began = time.perf_counter()
    done.objects = gc.collect()
    done.collect_seconds = time.perf_counter() - began
    _trim(done, bool(_bursar.open_scopes()))
    done.rss_bytes = max(before - resident(os.getpid(), "rss"), 0)
    if booked >= 0:
        done.booked_bytes = booked - _bursar.live_bytes()
    _bursar.tell("reclaimed", None, done.rss_bytes, _words(done))
    found = _bursar.pins(_SITES)
    if found:
        done.arenas, done.pinned_arenas, _, done.pinned_free_bytes, sites = found
        done.pinned = [Pin(*site) for site in sites]
    return done


def _words(done: Reclaimed) -> str:
    parts = [f"reclaim(): a full collection of {done.collect_seconds:.3f} s"]
    if done.caches_seconds is not None:
        parts.append(f"caches {done.caches_seconds:.3f} s")
    if done.trim_seconds is not None:
        parts.append(f"malloc_trim {done.trim_seconds:.3f} s")
    return ", ".join(parts)
