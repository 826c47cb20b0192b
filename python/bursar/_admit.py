"""admit(): is there room for one more request?  What requests like it took before says so (docs/budgets.md)."""

from __future__ import annotations

import collections
import math
import os
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

from . import _bursar

_LOOK_S = 0.01  # as often as what is resident is looked at


class NoRoom(RuntimeError):
    """There is no room for one more request.

    `scope`: its name; `estimate`: bytes that it would take; `room`: bytes that there are for it, or fewer than none;
    `retry_after`: whole seconds after which it is worth a try: what such requests last on average, at least 1.
    """

    def __init__(self, scope: str, estimate: int, room: int, retry_after: int) -> None:
        super().__init__(f"no room for {scope!r}: it takes about {estimate} bytes, and there are {max(room, 0)}")
        self.scope = scope
        self.estimate = estimate
        self.room = room
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.scope, self.estimate, self.room, self.retry_after)


class _Gate:
    """Who was admitted and has not left, with what each will take; whoever waits is let in one after another."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """At the start, and in a forked child: its parent's requests are not there."""
        self.changed = threading.Condition(threading.Lock())
        self._inside: dict[_bursar.Scope, int] = {}
        self._waiting: collections.deque[object] = collections.deque()

    def _still_to_come(self, name: str | None) -> int:
        """What those inside will take beside what they hold."""
        mine = (entry for entry in self._inside if name is None or entry.name == name)
        return sum(max(self._inside[entry] - (entry.live or 0), 0) for entry in mine)

    def _room(self, name: str) -> int | None:
        """None: there is no limit."""
        rooms = []
        for who, limit in ((None, _bursar.limit_of(None, "")), (name, _bursar.limit_of(name, "sum"))):
            held = _bursar.budget_held(who) if limit else None
            if held is not None:
                rooms.append(limit - held - self._still_to_come(who))
        return min(rooms, default=None)

    def take(self, entry: _bursar.Scope, estimate: int | None, turn: object = None) -> NoRoom | None:
        """Let it in, or say why not.  Whoever has a turn comes after all that had one before."""
        name = entry.name
        with self.changed:
            calls, usual, seconds = _bursar.scope_history(name) or (0, 0, 0.0)
            takes = usual if estimate is None else estimate
            room = self._room(name)
            first = not self._waiting or self._waiting[0] is turn
            # What has always fitted is let in where it is alone: waiting would not make more room.
            alone = estimate is None and not self._inside
            if first and (room is None or alone or takes < room):
                self._inside[entry] = takes
                return None
            return NoRoom(name, takes, 0 if room is None else room, max(math.ceil(seconds), 1))

    def give(self, entry: _bursar.Scope) -> None:
        with self.changed:
            if self._inside.pop(entry, None) is not None and self._waiting:
                self.changed.notify_all()

    def line_up(self) -> object:
        turn = object()
        with self.changed:
            self._waiting.append(turn)
        return turn

    def leave_line(self, turn: object) -> None:
        with self.changed:
            self._waiting.remove(turn)
            self.changed.notify_all()


gate = _Gate()

# What the middlewares answer, with status 503.
REFUSAL = b"There is no memory for one more request: try again later.\n"


def refusal_headers(no: NoRoom) -> list[tuple[str, str]]:
    length = str(len(REFUSAL))
    return [("content-type", "text/plain"), ("content-length", length), ("retry-after", str(no.retry_after))]


def shed(no: NoRoom) -> None:
    """It is turned away: an event says so."""
    _bursar.tell("shed", no.scope, no.estimate, f"no room: {max(no.room, 0)} bytes")


class _Tries:
    """To let an entry in, now and then while it waits: an iterator of the seconds to wait until the next."""

    def __init__(self, entry: _bursar.Scope, estimate: int | None, wait: float) -> None:
        self.no = gate.take(entry, estimate)
        self._left = self._run(entry, estimate, time.monotonic() + wait if self.no and wait > 0 else 0)

    def __enter__(self) -> Iterator[float]:
        return self._left

    def __exit__(self, *error: Any) -> None:
        self._left.close()  # whoever does not wait any more leaves the line

    def _run(self, entry: _bursar.Scope, estimate: int | None, end: float) -> Generator[float, None, None]:
        if not end:
            return
        turn = gate.line_up()
        try:
            while (no := gate.take(entry, estimate, turn)) is not None and (left := end - time.monotonic()) > 0:
                yield min(left, _LOOK_S)
            self.no = no
        finally:
            gate.leave_line(turn)


def admitted_here(entry: _bursar.Scope, estimate: int | None, wait: float) -> NoRoom | None:
    """Let it in, or say why there is no room after waiting for it so many seconds."""
    tries = _Tries(entry, estimate, wait)
    with tries as left:
        for seconds in left:
            with gate.changed:
                gate.changed.wait(seconds)
    return tries.no


async def admitted(entry: _bursar.Scope, estimate: int | None, wait: float) -> NoRoom | None:
    """The same for tasks of asyncio."""
    tries = _Tries(entry, estimate, wait)
    with tries as left:
        for seconds in left:
            from asyncio import sleep

            await sleep(seconds)
    return tries.no


def seconds_of(wait: float | None, argument: str) -> float:
    """Checks a time to wait; ValueError, TypeError."""
    if wait is None:
        return 0.0
    if not isinstance(wait, (int, float)) or isinstance(wait, bool):
        raise TypeError(f"{argument} takes seconds, not {type(wait).__name__!r}")
    if not 0 <= wait < 3600:
        raise ValueError(f"{argument}={wait!r} is no time to wait: from 0 to 3600 seconds")
    return float(wait)


class Admission:
    """What admit() answers: true where the request is let in.

    As a context manager it is an entry of the scope, which it returns: ``with bursar.admit("predict") as s: ...``; it
    raises NoRoom where the request was not let in.  Its room is kept for it until the block ends, or until release().

    no_room: the NoRoom that says why, or None.
    """

    def __init__(self, entry: _bursar.Scope, no: NoRoom | None) -> None:
        self._entry = entry
        self.no_room = no

    def __bool__(self) -> bool:
        return self.no_room is None

    def __repr__(self) -> str:
        return f"<Admission {self._entry.name!r}: {self.no_room or 'let in'}>"

    def __enter__(self) -> _bursar.Scope:
        if self.no_room is not None:
            raise self.no_room
        try:
            return self._entry.__enter__()
        except BaseException:
            self.release()
            raise

    def __exit__(self, *error: Any) -> None:
        try:
            self._entry.__exit__(*error)
        finally:
            self.release()

    def release(self) -> None:
        """The request does not need its room any more.  A second call does nothing."""
        gate.give(self._entry)

    __del__ = release


def admit(
    name: str, estimate: int | str | None = None, *, wait: float = 0, hard: int | str | None = None
) -> Admission:
    """Ask whether there is room for one more entry of the scope, within what the process and its name may hold.

    name: of the scope.
    estimate: bytes that it will take, or a size as "300 MiB".  None: what 95 % of its calls so far did not pass at
        their peak; one that is the first, or that would be alone, is let in.
    wait: seconds to wait for room, at the most; 0: the answer is given at once.  Who waits longest is let in first.
    hard: the budget of the entry, as bursar.scope() has it.

    There is room where the estimate is less than the limit (`bursar run --budget`, start(budget=), a policy's) less
    what is held, less what those that were let in before will still take.  Without a limit, or without books, there
    always is.  A request that is turned away is an event, `shed`.  Any thread; tasks of asyncio are not to wait in it:
    the middleware of bursar.asgi does that for them.

    ValueError, TypeError: an estimate or a time that makes no sense.
    """
    size = None if estimate is None else _bursar.size_of(estimate, "estimate")
    entry = _bursar.Scope(name, hard=hard)
    no = admitted_here(entry, size, seconds_of(wait, "wait"))
    if no is not None:
        shed(no)
    return Admission(entry, no)


os.register_at_fork(after_in_child=gate.begin_anew)
