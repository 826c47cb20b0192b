"""What profile keeps of one call: for each line the bytes it added, the most that was live after it, how often it ran.

An event (a line begins, a frame starts or ends) closes the line before it: what live bytes grew by since the event
before is that line's.  So each byte is charged once, to the line that ran when it came.

The profiler's own memory must not show.  Four rules keep it out:
  - What is done between two readings of live bytes, in an event or around a call, is added to the thread's `own` bytes,
    which every figure has taken off.
  - A reading is stored in place, in an array made before: a Python integer that lived across one would be counted.
  - Events make no object that the garbage collector tracks (no iterator, tuple or closure): a collection in there
    would free the program's garbage on our account.
  - Work around a call may be collected in: what a collection frees there is the program's, and counted as such.
"""

from __future__ import annotations

import gc
import os
import sys
from array import array
from threading import RLock, get_ident
from types import CodeType

from ._bursar import live_bytes

# The cells of a thread: the reading of the event under way, the profiler's own bytes, the reading that began work
# around a call, the reading at the end of enter(), the reading before a collection.
NOW, OWN, MARK, ENTRY, COLLECTION = range(5)

# An integer above 256 is an object; an event's line or offset is one, and alive while the event's function runs.
# From 3.14 it comes from a free list and goes back there.
_SMALL = 256
_INTEGER = (28).__sizeof__() if sys.version_info < (3, 14) else 0


def size_of(number: int) -> int:
    """The bytes of an event's argument."""
    return _INTEGER if number > _SMALL else 0


class Code:
    """A code object and the line of each of its instructions."""

    __slots__ = ("code", "line_at", "raw")

    def __init__(self, code: CodeType) -> None:
        self.code = code
        self.raw = code.co_code
        self.line_at = array("l", [code.co_firstlineno]) * (len(self.raw) // 2 + 1)
        for start, end, line in code.co_lines():
            if line is not None:
                for unit in range(start // 2, end // 2):
                    self.line_at[unit] = line


class Target:
    """A decorated function: its code, and the code of all that is defined in it."""

    __slots__ = ("code", "filename", "first", "size", "codes")

    def __init__(self, code: CodeType) -> None:
        self.code = code
        self.filename = code.co_filename
        self.codes: dict[int, Code] = {}
        waiting = [code]
        while waiting:
            one = waiting.pop()
            self.codes[id(one)] = Code(one)
            waiting.extend(constant for constant in one.co_consts if isinstance(constant, CodeType))
        lines = [line for known in self.codes.values() for line in known.line_at]
        self.first = min(lines)
        self.size = max(lines) - self.first + 1


class Recording:
    """The figures of one call, by line (index 0 is target.first)."""

    __slots__ = (
        "target", "grown", "most", "times", "at", "base", "begun", "held", "frames", "codes", "depths", "previous"
    )  # fmt: skip

    def __init__(self, target: Target) -> None:
        self.target = target
        self.grown = array("q", bytes(8 * target.size))
        self.most = array("q", bytes(8 * target.size))
        self.times = array("q", bytes(8 * target.size))
        self.at = -1  # the line that runs; -1: none of ours
        self.base = 0  # live bytes at the last event
        self.begun = False
        self.held = 0  # own bytes that go when the call's frame goes
        self.frames: list[int] = []  # the line of each caller that is recorded too, outermost first; -1: not recorded
        self.codes: list[CodeType] = []  # whose frame runs at each level
        self.depths: list[int] = []  # of the recordings below this one in the thread, when this one was entered
        self.previous: object = None  # the trace function that tracing found

    def start(self, code: CodeType, line: int, value: int, counts: bool) -> None:
        """A frame starts, or goes on after a yield."""
        if self.at >= 0:
            self.grown[self.at] += value - self.base
        self.frames.append(self.at)
        self.codes.append(code)
        self.at = line - self.target.first
        if counts:
            self.times[self.at] += 1
        if self.begun:
            self.base = value
        else:
            self.begun = True
            self.base = 0  # the first line's increment is all that was there, as memory_profiler has it

    def line(self, code: CodeType, line: int, value: int) -> None:
        """A line begins."""
        self._resume(code, value)
        self._charge(value)
        self.at = line - self.target.first
        self.times[self.at] += 1

    def end(self, code: CodeType, value: int) -> None:
        """A frame ends, or yields."""
        self._resume(code, value)
        self._charge(value)
        if self.frames:
            self.at = self.frames.pop()
            self.codes.pop()
        else:
            self.at = -1

    def unwind(self, depth: int, value: int) -> None:
        """Frames above depth are gone: an exception ended them."""
        if len(self.frames) > depth:
            self._charge(value)
        while len(self.frames) > depth:
            self.at = self.frames.pop()
            self.codes.pop()

    def pause(self) -> None:
        """The books are closed: what happens until the next line is nobody's."""
        self.at = -1

    def _charge(self, value: int) -> None:
        at = self.at
        if at >= 0:
            self.grown[at] += value - self.base
            if value > self.most[at]:
                self.most[at] = value
        self.base = value

    def _resume(self, code: CodeType, value: int) -> None:
        """An event of code: drop the frames above it, which an exception ended unseen."""
        codes = self.codes
        depth = len(codes)
        while depth and codes[depth - 1] is not code:
            depth -= 1
        if depth == 0:  # an exception was thrown into a frame that waited at a yield: it starts again unseen
            self.frames.append(self.at)
            codes.append(code)
            return
        self.unwind(depth, value)


class Thread:
    """The recordings that run in a thread, outermost first."""

    __slots__ = ("cells", "working", "recordings", "tracers", "frames", "locals", "wholes", "sizes")

    def __init__(self) -> None:
        self.cells = array("q", (0, 0, 0, 0, 0))
        self.working = False  # between open_own() and the end of that work
        self.recordings: list[Recording] = []
        # For tracing alone: the trace functions found; of each recorded frame its id, its dictionary of variables,
        # and the size of that when the frame started and now.
        self.tracers: list[object] = []
        self.frames: list[int] = []
        self.locals: list[dict[str, object] | None] = []
        self.wholes: list[int] = []
        self.sizes: list[int] = []

    def covers(self, code: CodeType) -> bool:
        recordings = self.recordings
        which = len(recordings)
        while which:
            which -= 1
            if id(code) in recordings[which].target.codes:
                return True
        return False

    def start(self, code: CodeType, line: int, counts: bool, extra: int) -> None:
        recordings = self.recordings
        which = len(recordings)
        while which:
            which -= 1
            if id(code) in recordings[which].target.codes:
                recordings[which].start(code, line, self.value(extra), counts)

    def line(self, code: CodeType, line: int, extra: int) -> None:
        recordings = self.recordings
        which = len(recordings)
        while which:
            which -= 1
            if id(code) in recordings[which].target.codes:
                recordings[which].line(code, line, self.value(extra))

    def end(self, code: CodeType, extra: int) -> None:
        recordings = self.recordings
        which = len(recordings)
        while which:
            which -= 1
            if id(code) in recordings[which].target.codes:
                recordings[which].end(code, self.value(extra))

    def value(self, extra: int) -> int:
        """Live bytes at the event, without the profiler's."""
        return self.cells[NOW] - self.cells[OWN] - extra

    def closed(self) -> None:
        """The books are closed."""
        which = len(self.recordings)
        while which:
            which -= 1
            self.recordings[which].pause()


threads: dict[int, Thread] = {}
"""The threads in which recordings run now, by threading.get_ident()."""


def open_own() -> None:
    """Work of the profiler around a call begins: matters where this thread is recorded already."""
    thread = threads.get(get_ident())
    if thread is not None:
        thread.working = True
        thread.cells[MARK] = live_bytes()


def close_own() -> None:
    """That work is done."""
    thread = threads.get(get_ident())
    if thread is not None:
        thread.cells[OWN] = live_bytes() - thread.cells[MARK] + thread.cells[OWN]
        thread.working = False


def _collected(phase: str, info: dict[str, int]) -> None:
    """A collection begins or has ended: what it freed during the profiler's work is not the profiler's."""
    thread = threads.get(get_ident())
    if thread is not None and thread.working:
        cells = thread.cells
        if phase == "start":
            cells[COLLECTION] = live_bytes()
        else:
            cells[MARK] = live_bytes() - cells[COLLECTION] + cells[MARK]


class _Collections:
    """Hears of collections while there are recordings."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.recordings = 0

    def begin(self) -> None:
        with self.lock:
            if self.recordings == 0:
                gc.callbacks.append(_collected)
            self.recordings += 1

    def end(self) -> None:
        with self.lock:
            self.recordings -= 1
            if self.recordings == 0 and _collected in gc.callbacks:
                gc.callbacks.remove(_collected)

    def forked(self) -> None:
        self.lock = RLock()


collections = _Collections()
os.register_at_fork(after_in_child=collections.forked)


def push(recording: Recording) -> Thread:
    """The recording runs in this thread from now on."""
    ident = get_ident()
    thread = threads.get(ident)
    if thread is None:
        thread = threads[ident] = Thread()
        thread.cells[MARK] = live_bytes()
    recording.depths = [len(outer.frames) for outer in thread.recordings]
    thread.recordings.append(recording)
    return thread


def pop() -> None:
    """The innermost recording of this thread runs no more, for now or for good."""
    ident = get_ident()
    thread = threads[ident]
    recording = thread.recordings.pop()
    if thread.cells[MARK] >= 0:
        value = thread.cells[MARK] - thread.cells[OWN]
        recording.unwind(0, value)
        for outer, depth in zip(thread.recordings, recording.depths, strict=True):
            outer.unwind(depth, value)
    recording.at = -1
    if not thread.recordings:
        del threads[ident]
