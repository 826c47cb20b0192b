"""Line events from 3.12 on: sys.monitoring, local to the code of functions that are being recorded.

A tool id is taken when the first recording begins and given back when the last one ends.  Events are on for a code
object while any thread records it; in other threads they are looked at and ignored.  An exception that ends a frame
has no local event: the recording notices at the next event, or when the call ends.
"""

from __future__ import annotations

import os
import sys
from threading import RLock, get_ident
from types import CodeType
from typing import Any

from ._bursar import live_bytes
from ._recording import MARK, NOW, OWN, Code, Recording, Target, pop, push, size_of, threads

_monitoring: Any = getattr(sys, "monitoring", None)  # not before 3.12, where nobody calls what is here
_IDS = (4, 3, 2, 5, 1, 0)  # those that have no name first


def _on_start(code: CodeType, offset: int) -> None:
    thread = threads.get(get_ident())
    if thread is not None:
        cells = thread.cells
        cells[NOW] = live_bytes()
        if cells[NOW] < 0:
            thread.closed()
            return
        thread.start(code, code.co_firstlineno, True, size_of(offset))
        cells[OWN] = live_bytes() - cells[NOW] + cells[OWN]


def _on_resume(code: CodeType, offset: int) -> None:
    thread = threads.get(get_ident())
    if thread is not None:
        cells = thread.cells
        cells[NOW] = live_bytes()
        if cells[NOW] < 0:
            thread.closed()
            return
        thread.start(code, _line_at(code, offset), False, size_of(offset))
        cells[OWN] = live_bytes() - cells[NOW] + cells[OWN]


def _on_line(code: CodeType, line: int) -> None:
    thread = threads.get(get_ident())
    if thread is not None:
        cells = thread.cells
        cells[NOW] = live_bytes()
        if cells[NOW] < 0:
            thread.closed()
            return
        thread.line(code, line, size_of(line))
        cells[OWN] = live_bytes() - cells[NOW] + cells[OWN]


def _on_end(code: CodeType, offset: int, value: object) -> None:
    thread = threads.get(get_ident())
    if thread is not None:
        cells = thread.cells
        cells[NOW] = live_bytes()
        if cells[NOW] < 0:
            thread.closed()
            return
        thread.end(code, size_of(offset))
        cells[OWN] = live_bytes() - cells[NOW] + cells[OWN]


def _line_at(code: CodeType, offset: int) -> int:
    watch = _watches.codes.get(id(code))
    return code.co_firstlineno if watch is None else watch.line_at[offset // 2]


class _Watches:
    """Which code has its events on, and for how many recordings."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.tool = -1
        self.events = 0
        self.codes: dict[int, Code] = {}
        self.counts: dict[int, int] = {}

    def add(self, target: Target) -> None:
        with self.lock:
            if self.tool < 0:
                self.tool = self._take()
            for key, known in target.codes.items():
                self.counts[key] = self.counts.get(key, 0) + 1
                if key not in self.codes:
                    self.codes[key] = known
                    _monitoring.set_local_events(self.tool, known.code, self.events)

    def remove(self, target: Target) -> None:
        with self.lock:
            for key, known in target.codes.items():
                self.counts[key] -= 1
                if self.counts[key] == 0:
                    del self.counts[key], self.codes[key]
                    _monitoring.set_local_events(self.tool, known.code, 0)
            if not self.codes:
                self._give_back()

    def _take(self) -> int:
        for tool in _IDS:
            if _monitoring.get_tool(tool) is None:
                break
        else:
            raise RuntimeError("profile() needs a tool id of sys.monitoring and all are taken: stop one of its users")
        _monitoring.use_tool_id(tool, "bursar.profile")
        self.events = 0
        for name, function in _CALLBACKS:
            event = getattr(_monitoring.events, name)
            self.events |= event
            _monitoring.register_callback(tool, event, function)
        return tool

    def _give_back(self) -> None:
        for name, _ in _CALLBACKS:
            _monitoring.register_callback(self.tool, getattr(_monitoring.events, name), None)
        _monitoring.free_tool_id(self.tool)
        self.tool = -1

    def forked(self) -> None:
        self.lock = RLock()


_CALLBACKS = (
    ("PY_START", _on_start),
    ("PY_RESUME", _on_resume),
    ("LINE", _on_line),
    ("PY_YIELD", _on_end),
    ("PY_RETURN", _on_end),
)
_watches = _Watches()
os.register_at_fork(after_in_child=_watches.forked)


def watch(target: Target) -> None:
    """Turn line events on for a recording that begins.  RuntimeError: there is no tool id left."""
    _watches.add(target)


def unwatch(target: Target) -> None:
    """Turn them off when it has ended."""
    _watches.remove(target)


def enter(recording: Recording) -> None:
    """The recorded function runs in this thread from now on."""
    thread = push(recording)
    thread.cells[OWN] = live_bytes() - thread.cells[MARK] + thread.cells[OWN]
    thread.working = False


def leave(ended: bool) -> None:
    """It has returned or raised (ended), or waits at a yield."""
    pop()
