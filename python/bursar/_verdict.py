"""verdict() and assert_no_leak(): does a scope leak, how many bytes a call, and where.

What is watched, and when that is a leak, is the account's business (src/account/verdict.c, src/ledger/leaks.c); the
figures are read from the ledger, as `bursar verdict` does.
"""

from __future__ import annotations

import dataclasses
import gc
import inspect
import itertools
import json
from collections.abc import Callable
from typing import Any

from . import _books, _bursar

_WARMUP = 500
_MORE = 4  # times the calls that were asked for, while it is undecided
_WHERE = 400  # calls after an alarm, until it is known where

_numbers = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class LeakSite:
    """What survives of what one stack allocated in the calls that were looked at."""

    file: str | None  # of the innermost frame of Python's
    line: int | None
    function: str | None
    bytes: int
    blocks: int
    calls: int  # different calls that they are from
    oldest_s: float  # since the first of these calls ended
    domain: str
    stack: list[dict[str, Any]]  # innermost first: function, file, line, native

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.file else "(unknown)"
        within = f" in {self.function}" if self.function else ""
        return f"{where}{within}: {self.bytes} bytes in {self.blocks} blocks of {self.calls} calls"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a scope leaks.  str() of it is a line that says so."""

    scope: str
    calls: int  # entries that have ended
    bytes_per_call: float | None  # over the later half of them; None: too few
    lower: float | None  # its bound, which holds however often one looks; None: there is none yet
    upper: float | None
    leaks: bool | None  # None: undecided
    cycles: bool  # what grew were uncollected cycles
    descriptors_per_call: float | None  # the process's
    threads_per_call: float | None
    threshold: int  # bytes a call
    unchecked: bool  # garbage was not ruled out: no collection was possible while no scope was open
    alarm_calls: int | None  # when it was known
    sites: list[LeakSite]  # the likeliest first
    says: str

    def __str__(self) -> str:
        return self.says


class Undecided(AssertionError):
    """assert_no_leak() could not tell: what the function keeps goes up and down too much for so few calls."""


def verdict(scope: str) -> Verdict:
    """Say whether a scope leaks, by all its calls so far.

    scope: its name.

    Undecided (leaks is None) before 500 calls, and while what it holds might as well be chance.  A leak is growth of at
    least 64 bytes a call that goes on (configure()), or of descriptors or threads, one in 64 calls.

    KeyError: there is no scope of that name.  RuntimeError: the books are closed, or were never opened.
    Source: the exact account of scopes, in each mode; docs/verdict.md.
    """
    if not _books.is_open():
        raise RuntimeError("the books are closed: call bursar.start() first")
    path = _bursar.status()["path"]
    text = _bursar.verdict_of(path or "", scope)
    if text is None:
        raise KeyError(f"there is no scope {scope!r} in the books")
    facts = json.loads(text)
    return Verdict(**{**facts, "sites": [_site(site) for site in facts["sites"]]})


def _site(facts: dict[str, Any]) -> LeakSite:
    frame: dict[str, Any] = next((f for f in facts["stack"] if f["file"] and not f["native"]), {})
    return LeakSite(file=frame.get("file"), line=frame.get("line"), function=frame.get("function"), **facts)


def configure(threshold: int = 64, warmup: int = _WARMUP) -> None:
    """Set what a leak is: so many bytes a call, and how many calls (500 at least) before one is looked for.

    For all scopes, those that have begun too.  ValueError: a number is out of its range.
    """
    if not 1 <= threshold < 2**31:
        raise ValueError(f"threshold={threshold} is no number of bytes a call: 1 at least")
    if not _WARMUP <= warmup < 2**31:
        raise ValueError(f"warmup={warmup} is too few calls to judge by: {_WARMUP} at least")
    _bursar.verdict_set(threshold, warmup, True)


def assert_no_leak(
    function: Callable[[], object], calls: int = 1000, threshold: int = 64, *, name: str | None = None
) -> Verdict:
    """Call a function many times and raise AssertionError if it leaks, naming the line.

    function: called without arguments; what it returns is dropped.
    calls: how often, 500 at least; up to four times as often while it is undecided.
    threshold: bytes a call that are a leak.
    name: of the scope, for the ledger; None: the function's.

    Returns the verdict.  Where no books are open it opens exact ones of Python's, NumPy's and malloc's blocks.

    AssertionError: it leaks; with the sites.  Undecided (an AssertionError too): it cannot be told even so.
    ValueError, TypeError: arguments that make no sense.
    """
    if calls < _WARMUP:
        raise ValueError(f"calls={calls} are too few to judge by: {_WARMUP} at least")
    if not 1 <= threshold < 2**31:
        raise ValueError(f"threshold={threshold} is no number of bytes a call: 1 at least")
    if inspect.iscoroutinefunction(function):
        raise TypeError("assert_no_leak() calls plain functions: wrap it in one that runs it")
    scope = f"{name or getattr(function, '__qualname__', type(function).__name__)} #{next(_numbers)}"
    collects = gc.isenabled()
    _books.borrow_any("python,numpy,malloc")
    before = _bursar.verdict_set(threshold, _WARMUP, False)
    gc.enable()  # a collection is how garbage is told from a leak
    try:
        found = _run(function, scope, calls)
    finally:
        if not collects:
            gc.disable()
        _bursar.verdict_set(*before, False)
        _books.give_back(0)
    if found.leaks:
        where = "".join(f"\n  {site}" for site in found.sites)
        raise AssertionError(f"{found}{where}")
    if found.leaks is None:
        raise Undecided(f"{found}: give more calls, or a greater threshold")
    return found


def _run(function: Callable[[], object], scope: str, calls: int) -> Verdict:
    _call(function, scope, calls)
    found = verdict(scope)
    while found.leaks is None and found.calls < _MORE * calls:
        _call(function, scope, max(calls // 4, 100))
        found = verdict(scope)
    if found.leaks and not found.sites:
        _call(function, scope, _WHERE)
        found = verdict(scope)
    return found


def _call(function: Callable[[], object], scope: str, calls: int) -> None:
    for _ in range(calls):
        with _bursar.Scope(scope):
            function()
