"""Line events before 3.12: a trace function, in the thread and while the recorded function runs.

Frames of other code get the trace function that was there before, or none; recorded frames get ours, which passes
each event on.  What the program sets itself while it is recorded stays.

3.10 copies a traced frame's variables into a dictionary before each event and keeps it as long as the frame.  That is
the profiler's cost and taken off: the dictionary's growth is known from its size, which can be believed because it is
made too large for the interpreter's pool of small ones at first.  3.11 makes a frame object for each traced frame,
which lives as long as the frame; what a generator's holds between its steps is in the figures.
"""

from __future__ import annotations

import sys
from threading import get_ident
from types import CodeType, FrameType
from typing import Any, cast

from ._bursar import live_bytes
from ._recording import ENTRY, MARK, NOW, OWN, Recording, Target, Thread, pop, push, threads

_PAD = tuple(f"bursar {number}" for number in range(24))
_COPIES = sys.version_info < (3, 11)
_OPTIMIZED = 0x1  # CO_OPTIMIZED: variables are in slots, f_locals is a copy
_SUSPENDS = 0x20 | 0x80 | 0x200  # generators, coroutines, asynchronous generators


def watch(target: Target) -> None:
    """Nothing to be done: enter() turns the events on."""


def unwatch(target: Target) -> None:
    """Nothing to be done."""


def enter(recording: Recording) -> None:
    """The recorded function runs in this thread from now on."""
    thread = push(recording)
    found = sys.gettrace()
    recording.previous = found
    thread.tracers.append(thread.tracers[-1] if found is _on_call else found)
    cells = thread.cells
    sys.settrace(_on_call)
    cells[OWN] = live_bytes() - cells[MARK] + cells[OWN]
    thread.working = False
    cells[ENTRY] = live_bytes()


def leave(ended: bool) -> None:
    """It has returned or raised (ended), or waits at a yield."""
    thread = threads[get_ident()]
    recording = thread.recordings[-1]
    if sys.gettrace() is _on_call:
        sys.settrace(cast(Any, recording.previous))
    thread.tracers.pop()
    if ended:
        thread.cells[OWN] -= recording.held
    if len(thread.recordings) == 1:
        thread.frames.clear()
        thread.locals.clear()
        thread.sizes.clear()
        thread.wholes.clear()
    pop()


def _on_call(frame: FrameType, event: str, arg: object) -> Any:
    """The trace function: called when a frame of this thread starts or goes on."""
    thread = threads.get(get_ident())
    if thread is None:
        return None
    found: Any = thread.tracers[-1]
    code = frame.f_code
    if not thread.covers(code):
        return found(frame, event, arg) if found is not None else None
    cells = thread.cells
    cells[NOW] = live_bytes()
    if cells[NOW] < 0:
        thread.closed()
        return found(frame, event, arg) if found is not None else None
    recording = thread.recordings[-1]
    if not recording.begun:  # what calling a traced function costs: its frame object, the dictionary
        recording.held = cells[NOW] - cells[ENTRY]
        cells[OWN] += recording.held
    _enlarge(thread, frame)
    thread.start(code, frame.f_lineno, _begins(code, frame.f_lasti), 0)
    local = found(frame, event, arg) if found is not None else None
    observer = _observe if local is None else _both(local)
    cells[OWN] = live_bytes() - cells[NOW] + cells[OWN]
    return observer


def _observe(frame: FrameType, event: str, arg: object) -> Any:
    """The trace function of a recorded frame."""
    _record(frame, event, arg, None)
    return _observe


def _both(local: Any) -> Any:
    """The trace function of a recorded frame that another trace function wants to see too."""

    def both(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal local
        local = _record(frame, event, arg, local)
        return both

    return both


def _record(frame: FrameType, event: str, arg: object, local: Any) -> Any:
    thread = threads.get(get_ident())
    if thread is None:
        return None if local is None else local(frame, event, arg)
    cells = thread.cells
    cells[NOW] = live_bytes()
    if cells[NOW] < 0:
        thread.closed()
        return None if local is None else local(frame, event, arg)
    known = _resume(thread, frame)
    if known:
        _follow(thread)
    gone = 0
    if event == "line":
        thread.line(frame.f_code, frame.f_lineno, 0)
    elif event == "return":
        thread.end(frame.f_code, 0)
        if known:
            gone = _forget(thread, frame.f_code)
    if local is not None:
        local = local(frame, event, arg)
    cells[OWN] = live_bytes() - cells[NOW] + cells[OWN]
    if gone:
        cells[OWN] -= gone
    return local


def _begins(code: CodeType, instruction: int) -> bool:
    """Whether a frame starts, and does not go on after a yield."""
    if not code.co_flags & _SUSPENDS or instruction < 0:
        return True
    # 3.11: RESUME 0 starts, other arguments are for going on.  3.10: the last instruction was a yield.
    return sys.version_info >= (3, 11) and code.co_code[instruction + 1] == 0


def _enlarge(thread: Thread, frame: FrameType) -> None:
    """Remember a frame that starts, with its dictionary of variables, made so large that its size can be believed.

    The dictionary is looked at where the interpreter keeps it up to date alone: it would hold on to old values.
    """
    variables: dict[str, object] | None = None
    whole = 0
    if _COPIES and frame.f_code.co_flags & _OPTIMIZED:
        variables = frame.f_locals
        whole = variables.__sizeof__()
        which = len(_PAD)
        while which:
            which -= 1
            variables[_PAD[which]] = None
        while which < len(_PAD):
            del variables[_PAD[which]]
            which += 1
    thread.frames.append(id(frame))
    thread.locals.append(variables)
    thread.wholes.append(whole)
    thread.sizes.append(whole if variables is None else variables.__sizeof__())


def _resume(thread: Thread, frame: FrameType) -> bool:
    """An event of frame: forget the frames above it.  False: its start was not seen."""
    depth = len(thread.frames)
    while depth and thread.frames[depth - 1] != id(frame):
        depth -= 1
    if depth == 0:
        return False
    while len(thread.frames) > depth:
        thread.frames.pop()
        thread.locals.pop()
        thread.wholes.pop()
        thread.sizes.pop()
    return True


def _follow(thread: Thread) -> None:
    """What the innermost frame's dictionary has grown by since the last event is the profiler's."""
    variables = thread.locals[-1]
    if variables is not None:
        size = variables.__sizeof__()
        thread.cells[OWN] += size - thread.sizes[-1]
        thread.sizes[-1] = size


def _forget(thread: Thread, code: CodeType) -> int:
    """The innermost frame ends or waits: what of the profiler's goes with it."""
    thread.frames.pop()
    thread.locals.pop()
    whole = thread.wholes.pop()
    size = thread.sizes.pop()
    return 0 if code.co_flags & _SUSPENDS else size - whole
