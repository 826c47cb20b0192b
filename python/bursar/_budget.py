"""What budgets say: the exception of a hard one, and the thread that calls those who want to hear of a soft one.

The limits are kept, and blocks refused, by the extension (src/policy/budget.c, pyext/refusing.c).
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from . import _bursar
from ._threads import until_gone

PATIENCE_S = 1.0  # a call of on_soft that runs longer is an event


class BudgetExceeded(MemoryError):
    """A scope was refused memory that its hard limit did not allow, and what that led to left it.

    `scope`: its name; `limit`, `held`, `asked`: bytes, the latter two when it was refused last; asked is 0 where it was
    small blocks that had taken it too far above. `whose` limit: the "entry"'s own, that of all of its "name", or the
    "process"'s; `held` is theirs. The cause is the exception that was made into this one.
    """

    def __init__(self, scope: str, limit: int, held: int, asked: int, whose: str = "entry") -> None:
        if whose == "process":
            wanted = f"asked for {asked} more" if asked else "has the most of it, in small blocks"
            text = f"the process may hold {limit} bytes: it held {held}, and scope {scope!r} {wanted}"
        else:
            wanted = f"and asked for {asked} more" if asked else "in small blocks"
            who = f"scope {scope!r}" if whose == "entry" else f"all of scope {scope!r}"
            text = f"{who} may hold {limit} bytes: it held {held} {wanted}"
        super().__init__(text)
        self.scope = scope
        self.limit = limit
        self.held = held
        self.asked = asked
        self.whose = whose

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.scope, self.limit, self.held, self.asked, self.whose)


# --- soft limits ------------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_listener: threading.Thread | None = None
_stopping = False


def watch() -> None:
    """See to it that the thread runs which calls on_soft."""
    global _listener, _stopping
    with _lock:
        if _listener is None or not _listener.is_alive():
            _stopping = False
            _listener = threading.Thread(target=_listen, args=(_bursar.soft_bell(),), name="bursar-soft", daemon=True)
            _listener.start()
            _bursar.soft_listens(True)


def _listen(bell: int) -> None:
    while True:
        os.read(bell, 8)
        if _stopping:
            return
        while (scope := _bursar.soft_told()) is not None:
            _call(scope)


def _call(scope: _bursar.Scope) -> None:
    """Calls on_soft on a thread that is in no scope, and waits for it however long that takes."""
    callback = scope.on_soft
    if callback is None:
        return

    def call() -> None:
        try:
            callback(scope)
        except BaseException as error:
            sys.unraisablehook(_Unraisable(error, callback))

    thread = threading.Thread(target=call, name="bursar-on-soft", daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    if thread.is_alive():
        name = getattr(callback, "__qualname__", type(callback).__name__)
        _bursar.tell("overtime", scope.name, 0, f"on_soft, {name}, runs for more than {PATIENCE_S:g} s")
        thread.join()


class _Unraisable:
    """What sys.unraisablehook takes: its own type cannot be made."""

    def __init__(self, error: BaseException, callback: Any) -> None:
        self.exc_type = type(error)
        self.exc_value: BaseException | None = error
        self.exc_traceback = error.__traceback__
        self.err_msg: str | None = "Exception ignored in on_soft"
        self.object = callback


def _rest() -> None:
    """Before a fork: a process that forks is to have no thread of ours.  3.12 and on warn of that, 3.13 after it has
    called who asked to be called; so the next that is told begins again."""
    global _stopping
    if _listener is not None and _listener.is_alive():
        _stopping = True
        _bursar.soft_listens(False)
        os.write(_bursar.soft_bell(), (1).to_bytes(8, sys.byteorder))
        _listener.join(PATIENCE_S)
        if not _listener.is_alive():
            until_gone(_listener.native_id or 0)


def _begin_anew() -> None:
    global _listener, _lock
    _lock = threading.Lock()
    _listener = None
    _bursar.soft_listens(False)


os.register_at_fork(before=_rest, after_in_child=_begin_anew)
