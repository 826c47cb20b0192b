"""scope(): who is charged for memory, by request, task, function or model.

The entries, their figures and the context variable that says which one the running code is in are the extension's
(pyext/scope.c).  Here is what wraps functions in them, so that a `with` runs no Python code of bursar's.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, TypeVar

from . import _bursar

_ITERABLE_COROUTINE = 0x100  # CO_ITERABLE_COROUTINE, set by types.coroutine

Function = TypeVar("Function", bound=Callable[..., Any])

_current: contextvars.ContextVar[Any] | None = None  # the extension's, once it was found


class scope(_bursar.Scope):  # noqa: N801 (a class, so that a with statement costs no call of ours)
    """Charge what is allocated to a name: ``with bursar.scope("load") as s: ...``, or ``@bursar.scope("load")``.

    name: any text; entries of one name are summed up, so it says what is done ("GET /items/{id}"), not to whom.
    events: also note when each entry began and ended, for `bursar report --view events`.
    wipe: every block that is allocated in the scope, or freed in it, is zeroed before it is freed, and where it moves:
        Python's, malloc's and NumPy's; blocks that outlive the scope too.  Nothing else in the process is.
    prove: with wipe, a list of secrets, to which the scope may still add: when it ends, the process is scanned for them
        (bursar.residue()); the proof is an event, or ResidueError says where copies are and who holds them.

    left_open: files, sockets, threads, subprocesses, memory maps and database connections that were opened in the scope
        and are open still when it ends are named with the line that opened them: 'event', an event in the ledger;
        'warn', a LeftOpenWarning too; 'error', LeftOpenError from the end of the scope, unless it is left by an
        exception, which then has a note.  None: nothing is watched.  s.keep(x): x is meant to stay open
        (docs/left_open.md).
    hard: bytes that an entry may hold, with those within it, or a size as "500 MiB".  What would take it above that is
        refused (see docs/budgets.md for what can be), and the scope's exit makes BudgetExceeded of the MemoryError that
        this led to.
    soft: bytes from which on it is an event, and on_soft is called with the scope, on a thread of bursar's, one call at
        a time; again once it was a sixteenth below.  What on_soft raises goes to sys.unraisablehook.

    Figures of an entry, while it is open and after: s.live, s.peak, s.allocated and s.retained in bytes of the
    domains that the books keep (requested bytes in mode exact, usable ones in others), s.allocations in blocks,
    s.seconds.  They count the blocks allocated by the code
    in the scope, whoever frees them, and those of scopes within it; s.retained is what outlived the entry, and is None
    until that has ended.  s.note("text") notes an event.  All are None where the books are closed, which a scope never
    opens, and in mode sample where the sizes of blocks are not known (debug hooks).

    A scope is where its code is: tasks and threads have their own.  asyncio tasks and asyncio.to_thread take theirs
    from whoever made them; for executors see carry().  Scopes nest; an entry within one of its own name is not counted
    twice.

    As a decorator it makes an entry for each call, of functions, coroutine functions, generators and asynchronous
    generators; while a generator is suspended, its caller is not in its scope.

    RuntimeError: entered twice (each entry needs a scope of its own), left without being entered, or left in another
    thread or task.  ValueError: no name, no such action; limits that are none, or contradict each other.
    BudgetExceeded: see hard.  RuntimeWarning: a budget where no books are kept, which is not held then.
    Source: the account, exact in each mode.
    """

    __slots__ = ()

    def __call__(self, function: Function) -> Function:
        """Make each call of the function an entry of its own."""
        options = {"events": self.events, "wipe": self.wipe, "prove": self.prove, "left_open": self.left_open}
        limits = {"hard": self.hard, "soft": self.soft, "on_soft": self.on_soft}
        wrapped: Function = wrap(function, self.name, **options, **limits)
        return wrapped

    def __repr__(self) -> str:
        if self.allocations is None:
            return f"<scope {self.name!r}: no figures>"
        return f"<scope {self.name!r}: live {self.live}, peak {self.peak}, allocated {self.allocated} bytes>"


def carry(function: Function) -> Function:
    """Take the scope along to another thread: ``executor.submit(bursar.carry(function), ...)``.

    The function that is returned runs in a copy of the context that carry() was called in, with all its context
    variables, as asyncio.to_thread does; a ThreadPoolExecutor and loop.run_in_executor do not.  Any number of calls may
    run at once.  What still runs when its scope has ended is charged to the scope around that.
    """
    context = contextvars.copy_context()

    @functools.wraps(function)
    def carried(*args: Any, **kwargs: Any) -> Any:
        return context.copy().run(function, *args, **kwargs)

    return carried  # type: ignore[return-value]


# --- what wraps a function --------------------------------------------------------------------------------------------


def wrap(function: Any, name: str, **options: Any) -> Any:
    """A function like it, each call of which is an entry of the scope."""
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(wrap(function.__func__, name, **options))
    if not callable(function):
        raise TypeError(f"scope {name!r} decorates functions, not {type(function).__name__!r} objects")
    if inspect.isasyncgenfunction(function):
        return _wrap_asynchronous_generator(function, name, options)
    if inspect.iscoroutinefunction(function):
        return _wrap_coroutine(function, name, options)
    if inspect.isgeneratorfunction(function):
        wrapped = _wrap_generator(function, name, options)
        code = getattr(function, "__code__", None)
        return types.coroutine(wrapped) if code and code.co_flags & _ITERABLE_COROUTINE else wrapped
    new = _bursar.Scope

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with new(name, **options):
            return function(*args, **kwargs)

    return wrapper


class entered:  # noqa: N801 (it is used as a function)
    """An entry for a with statement that may be left by a generator's end.

    Where that is collected in another context than its own, the entry ends when it is freed.
    """

    __slots__ = ("_entry",)

    def __init__(self, entry: _bursar.Scope) -> None:
        self._entry = entry

    def __enter__(self) -> _bursar.Scope:
        return self._entry.__enter__()

    def __exit__(self, *error: Any) -> None:
        with contextlib.suppress(RuntimeError):
            self._entry.__exit__(*error)


def _wrap_coroutine(
    function: Callable[..., Coroutine[Any, Any, Any]], name: str, options: dict[str, Any]
) -> Callable[..., Coroutine[Any, Any, Any]]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with entered(_bursar.Scope(name, **options)):
            return await function(*args, **kwargs)

    return wrapper


class Steps:
    """A generator in a scope: its steps are inside, and who waits between them is where it was."""

    __slots__ = ("_inner", "_entry", "_inside")

    def __init__(self, inner: Any, entry: _bursar.Scope) -> None:
        self._inner = inner
        self._entry = entry
        self._inside: Any = None  # the scope that the generator entered itself and is suspended in

    def suspend(self) -> None:
        """What follows is not in the scope, nor in one that was entered within it."""
        here = _where()
        self._inside = None if here is self._entry else here
        self._entry._suspend()

    def resume(self) -> None:
        """What follows is where it was at the last suspend()."""
        self._entry._resume()
        if self._inside is not None and _current is not None:
            _current.set(self._inside)
            contextvars.Context().run(bool)  # another context tells the hooks to look at the variable again

    def __iter__(self) -> Steps:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        self.resume()
        item = self._inner.send(value)
        self.suspend()
        return item

    def throw(self, *error: Any) -> Any:
        self.resume()
        item = self._inner.throw(*error)
        self.suspend()
        return item

    def close(self) -> None:
        self.resume()
        self._inner.close()


def _where() -> Any:
    """The scope that the running code is in.  Called in one: the variable is known, or found among the context's."""
    global _current
    if _current is None:
        _current = next((variable for variable in contextvars.copy_context() if variable.name == "bursar_scope"), None)
    return None if _current is None else _current.get(None)


def _wrap_generator(
    function: Callable[..., Generator[Any, Any, Any]], name: str, options: dict[str, Any]
) -> Callable[..., Generator[Any, Any, Any]]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with entered(_bursar.Scope(name, **options)) as entry:
            return (yield from Steps(function(*args, **kwargs), entry))

    return wrapper


def _wrap_asynchronous_generator(
    function: Callable[..., AsyncGenerator[Any, Any]], name: str, options: dict[str, Any]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with entered(_bursar.Scope(name, **options)) as entry, contextlib.suppress(StopAsyncIteration):
            source = function(*args, **kwargs)
            steps = Steps(source, entry)
            item = await source.__anext__()
            while True:
                steps.suspend()
                try:
                    sent = yield item
                except GeneratorExit:
                    steps.resume()
                    await source.aclose()
                    raise
                except BaseException as error:
                    steps.resume()
                    item = await source.athrow(error)
                else:
                    steps.resume()
                    item = await source.asend(sent)

    return wrapper
