"""governor(): the collector held back while work is done, memory given back while nobody waits (docs/giving_back.md).

A scope is work.  Collections of all objects, and malloc_trim(), hold everybody up for as long as they take; so both
wait for a rest, when no scope is open.  When that is, C knows (pyext/governor.c): it hears each collection by
gc.callbacks, and the thread that waits there takes the GIL only where there is something to do.
"""

from __future__ import annotations

import _thread
import atexit
import gc
import os
import signal
import sys
from typing import Any

from . import _bursar
from ._rss import resident
from ._threads import until_gone

_NEVER = 2**31 - 1  # collections of the generation before, until the oldest is collected
_IMMORTAL = 2000  # objects, at the most
_one: Governor | None = None


def collector() -> str:
    """How this CPython collects by itself: "generations", or "incremental", as 3.14.0 to 3.14.4 do."""
    return "incremental" if (3, 14) <= sys.version_info[:3] < (3, 14, 5) else "generations"


def _seconds(value: float, what: str) -> int:
    if not 0 < value < 3600:
        raise ValueError(f"{what} takes seconds, more than 0, not {value!r}")
    return int(value * 1e9)


def _machine_limit() -> int:
    """The process's budget, the limit of its control group, or all of the machine's memory: the least of them."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (_bursar.limit_of(None, ""), _bursar.balance()["cgroup_limit_bytes"], whole)
    return min(limit for limit in limits if limit)


def _frozen_by_others() -> bool:
    """Whether the program called gc.freeze(): since 3.12 some hundred immortal objects are found there anyway, and a
    program has thousands that are not."""
    return gc.get_freeze_count() > (_IMMORTAL if sys.version_info >= (3, 12) else 0)


class Governor:
    """What governor() returns: how it went so far, and stop(), which the end of a with block calls too.

    longest_pause, longest_pause_in_scope: seconds of the longest collection, of any generation; None: none yet.
    full_collections, full_in_scope: of the oldest generation.  The second are those that somebody called gc.collect()
        for, and those where memory won.
    partial_collections: of what has come since a full one, while the rest is frozen.
    memory_won: how often the limit was near enough to collect at once.
    trims, returned_bytes, trim_seconds: of memory given back.  met_seconds: of trims during which a scope began, which
        they may have held up as long at the most.
    frozen: whether what survived the last full collection is frozen now.  on: whether it governs.
    collector: "generations" or "incremental".  limit: bytes.
    """

    def __init__(self) -> None:
        self.collector = collector()
        self.memory_won = self.trims = self.returned_bytes = 0
        self.trim_seconds = 0.0
        self.limit = 0
        self.on = False
        self._pause = 0.01
        self._freeze: bool | None = None
        self._threshold: tuple[int, int, int] | None = None  # the user's, where ours is in its place
        self._last: dict[str, Any] = {}
        self._ended: _thread.LockType | None = None  # held while the thread runs
        self._task = 0  # its native id

    def __enter__(self) -> Governor:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Governor {'on' if self.on else 'off'}: {self.full_collections} full collections, {self.trims} trims>"

    def _figures(self) -> dict[str, Any]:
        return _bursar.governor_figures(False) if self.on else self._last

    @property
    def longest_pause(self) -> float | None:
        facts = self._figures()
        return facts["longest_ns"] / 1e9 if facts["collections"] else None

    @property
    def longest_pause_in_scope(self) -> float | None:
        facts = self._figures()
        return facts["longest_inside_ns"] / 1e9 if facts["collections"] else None

    @property
    def full_collections(self) -> int:
        return int(self._figures()["wholes"])

    @property
    def full_in_scope(self) -> int:
        return int(self._figures()["wholes_inside"])

    @property
    def partial_collections(self) -> int:
        return int(self._figures()["parts"])

    @property
    def met_seconds(self) -> float:
        return float(self._figures()["met_ns"] / 1e9)

    @property
    def frozen(self) -> bool:
        return bool(self._figures()["frozen"])

    def stop(self) -> None:
        """Put everything back as it was: thresholds, callbacks, what was frozen.  A second call does nothing."""
        global _one
        if not self.on:
            return
        self._pause_thread()
        self._restore()
        if _one is self:
            _one = None

    # --- on and off -------------------------------------------------------------------------------------------------

    def _set(self, limit: int, pause: float, idle: float, freeze: bool | None, trim: bool) -> None:
        paused = self._pause_thread()
        self.limit, self._pause, self._freeze = limit, pause, freeze
        idle_ns, pause_ns = _seconds(idle, "idle"), _seconds(pause, "pause")
        _bursar.governor_set(idle_ns, pause_ns, limit, trim, gc.isenabled(), self._revive)
        self._settings = (idle_ns, pause_ns, trim)
        if not self.on:
            _bursar.governor_figures(True)
            self.on = True
        self._may_freeze = freeze is not False and (paused or not _frozen_by_others())
        self._adopt()
        if gc.isenabled():
            if _bursar.open_scopes():
                _bursar.governor_ask()
            elif not paused:
                self._whole()
        self._revive()

    def _restore(self) -> None:
        self._last = _bursar.governor_figures(False)
        self.on = False
        while _bursar.governor_heard in gc.callbacks:
            gc.callbacks.remove(_bursar.governor_heard)
        if self._last["frozen"]:
            gc.unfreeze()
        _bursar.governor_ours(False, False)
        self._last["frozen"] = False
        now = gc.get_threshold()
        if self._threshold is not None and now == self._ours():
            gc.set_threshold(*self._threshold)
        self._threshold = None

    def _ours(self) -> tuple[int, int, int]:
        assert self._threshold
        return (_bursar.governor_threshold()[1], self._threshold[1], _NEVER)

    def _adopt(self) -> None:
        """Take what the user has set meanwhile for what to go back to, and see to it that each collection is heard."""
        if _bursar.governor_heard not in gc.callbacks:
            gc.callbacks.append(_bursar.governor_heard)
        idle, pause, trim = self._settings
        _bursar.governor_set(idle, pause, self.limit, trim, gc.isenabled(), self._revive)
        now = gc.get_threshold()
        if self.collector == "incremental":  # there the third says nothing, and the second how fast
            self._threshold = None
        elif self._threshold is None or now != self._ours():
            self._threshold = now
            _bursar.governor_threshold(now[0])
            gc.set_threshold(now[0], now[1], _NEVER)

    # --- the thread -------------------------------------------------------------------------------------------------

    def _revive(self) -> None:
        """Begin to wait; C asks for it at the first collection after a fork."""
        if self._ended is not None:
            return
        self._ended = _thread.allocate_lock()
        self._ended.acquire()
        _bursar.governor_ready(True)
        _thread.start_new_thread(self._run, (self._ended,))

    def _pause_thread(self) -> bool:
        ended, self._ended = self._ended, None
        if ended is None:
            return False
        _bursar.governor_stop()
        ended.acquire()
        _bursar.governor_ready(False)
        return True

    def _run(self, ended: _thread.LockType) -> None:
        self._task = _thread.get_native_id()
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while True:
                why = _bursar.governor_wait()
                if why == _bursar.GOVERNOR_STOPPED:
                    return
                self._adopt()
                if why == _bursar.GOVERNOR_TRIM:
                    self._tell_trim()
                elif why != _bursar.GOVERNOR_TICK and gc.isenabled():
                    self._collect(why)
        finally:
            ended.release()

    def _collect(self, why: int) -> None:
        if why == _bursar.GOVERNOR_LIMIT:
            before = resident(os.getpid(), "rss")
            scopes = _bursar.open_scopes()
            seconds = self._whole()
            _bursar.governor_won()
            self.memory_won += 1
            back = before - resident(os.getpid(), "rss")
            text = f"memory wins: {before} of {self.limit} bytes resident, a full collection of {seconds:.3f} s"
            _bursar.tell("reclaimed", None, max(back, 0), f"{text} in {scopes} scopes")
        elif _bursar.open_scopes():
            return  # one has begun while the GIL was another's
        elif why == _bursar.GOVERNOR_WHOLE:
            self._whole()
        else:
            _bursar.governor_ours(True, True)
            gc.collect()
            gc.freeze()
            _bursar.governor_ours(False, True)

    def _whole(self) -> float:
        """Collect everything, what we froze too; and freeze what is left, where the next one would take too long."""
        if _bursar.governor_figures(False)["frozen"]:
            gc.unfreeze()
        _bursar.governor_ours(True, False)
        gc.collect()
        seconds = float(_bursar.governor_figures(False)["whole_ns"] / 1e9)
        frozen = self._may_freeze and (self._freeze is True or seconds > self._pause)
        if frozen:
            gc.freeze()
        _bursar.governor_ours(False, frozen)
        return seconds

    def _tell_trim(self) -> None:
        facts = _bursar.governor_figures(False)
        self.trims += 1
        self.returned_bytes += facts["returned"]
        self.trim_seconds += facts["trim_ns"] / 1e9
        text = f"malloc_trim: {facts['returnable']} bytes foretold, {facts['trim_ns'] / 1e9:.3f} s, no scope open"
        _bursar.tell("reclaimed", None, facts["returned"], text)

    def hand_over(self) -> None:
        """What is frozen from here on stays so: prefork() has frozen for the workers, who share the pages."""
        _bursar.governor_ours(False, False)
        self._may_freeze = False


def _before_fork() -> None:
    if _one is not None and _one._pause_thread():  # it begins again with the next collection, in parent and child
        until_gone(_one._task)


def _at_exit() -> None:
    if _one is not None:
        _one.stop()


_registered = False


def governor(
    limit: int | str | None = None,
    *,
    pause: float = 0.01,
    idle: float = 0.05,
    freeze: bool | None = None,
    trim: bool = True,
) -> Governor:
    """Hold the collector back while a scope is open, and give memory back while none is; until stop().

    limit: bytes or a text such as "2 GiB".  Where resident memory comes within a sixteenth of it and there is something
        to collect, memory wins: one full collection at once, and one event in the ledger.  None: the process's
        budget, the limit of its control group or the machine's memory, whichever is least.
    pause: seconds that a younger collection may take; where one takes longer, the youngest generation is made smaller.
    idle: seconds without a scope that are a rest.  What takes long (a full collection, a trim) waits for a rest of four
        times as long as it will take.
    freeze: whether what survives a full collection is put out of the collector's sight (gc.freeze()), so that the next
        one goes through what is new alone.  None: where a full collection takes longer than `pause`.  Never where the
        program has frozen objects itself.  While they are frozen gc.get_objects() and gc.get_referrers() do not see
        them; gc.collect() does.
    trim: whether malloc's free pages are given back in rests.

    A program that enters no scopes has no rests that are known: full collections come as it grows, memory is not given
    back.  gc.disable() is respected: nothing is collected then.  Thresholds that are set meanwhile are what stop() puts
    back.  Called again, it changes the settings.  A forked child has a governor of its own.

    ValueError, TypeError: a setting that makes no sense.  RuntimeError: not in the main interpreter.
    """
    global _one, _registered
    size = _machine_limit() if limit is None else _bursar.size_of(limit, "limit")
    _seconds(pause, "pause"), _seconds(idle, "idle")
    one = _one or Governor()
    one._set(size, pause, idle, freeze, trim)
    _one = one
    if not _registered:
        os.register_at_fork(before=_before_fork)
        atexit.register(_at_exit)
        _registered = True
    return one
