"""profile: a function's memory line by line, in the form of memory_profiler's decorator of that name."""

from __future__ import annotations

import contextlib
import functools
import inspect
import linecache
import sys
import types
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, Protocol, TypeVar, overload

from . import _books, _bursar
from ._recording import Recording, Target, close_own, collections, open_own

if sys.version_info >= (3, 12):
    from ._monitoring import enter, leave, unwatch, watch
else:
    from ._settrace import enter, leave, unwatch, watch

_BACKENDS = (None, "psutil", "psutil_pss", "psutil_uss", "posix", "tracemalloc")
_MIB = 1048576
_ITERABLE_COROUTINE = 0x100  # CO_ITERABLE_COROUTINE, set by types.coroutine

Function = TypeVar("Function")


class Stream(Protocol):
    """Where tables go: one call of write for each row."""

    def write(self, text: str, /) -> object: ...


@overload
def profile(
    func: None = None, stream: Stream | None = None, precision: int = 1, backend: str | None = "psutil"
) -> Callable[[Function], Function]: ...
@overload
def profile(
    func: Function, stream: Stream | None = None, precision: int = 1, backend: str | None = "psutil"
) -> Function: ...
def profile(
    func: Any = None, stream: Stream | None = None, precision: int = 1, backend: str | None = "psutil"
) -> Any:
    """Print a function's memory line by line after each call: ``@profile`` or ``@profile(stream=..., precision=...)``.

    func: a function, method, static or class method, coroutine function, generator or asynchronous generator.
    stream: where the table goes; None: sys.stdout, as it is then.
    precision: digits after the point.
    backend: memory_profiler's names are accepted; the source is always the books.

    The columns are memory_profiler's.  'Mem usage': live bytes of Python's three allocator domains after the line, in
    MiB (the most, where it ran more than once).  'Increment': what live bytes grew by while the line ran, callees
    included, summed over its runs; the first line's is what was live before.  'Occurrences': how often it ran.  Lines
    of functions that are defined in the function count too.  The profiler's own memory is in none of the figures;
    other threads' is.  A generator or coroutine is charged for what it does between its starts and its yields, and
    prints at its end.  Where an exception ends the call, the table is printed all the same.

    Opens the books, if they are closed, where the function is decorated: memory that is allocated before that is not
    known.  Source: line events of the decorated code (sys.monitoring; before 3.12 a trace function while it runs) and
    the exact account.

    ValueError: no such backend.  Where the books cannot be opened, or func has no Python code, it warns and func runs
    without a table.
    """
    if backend not in _BACKENDS:
        raise ValueError(f"profile() has no backend {backend!r}: leave it out, the source is always bursar's books")
    if func is None:
        return functools.partial(profile, stream=stream, precision=precision, backend=backend)
    if isinstance(func, (staticmethod, classmethod)):
        return type(func)(profile(func.__func__, stream, precision, backend))
    code = getattr(func, "__code__", None)
    if not isinstance(code, types.CodeType):
        warnings.warn(f"profile() finds no Python code in {func!r}: it runs without a table", stacklevel=2)
        return func
    _open_books(2)
    return _wrap(func, _Plan(Target(code), stream, precision))


class _Plan:
    """A decorated function: what is recorded, and where and how it is printed."""

    __slots__ = ("target", "stream", "precision")

    def __init__(self, target: Target, stream: Stream | None, precision: int) -> None:
        self.target = target
        self.stream = stream
        self.precision = precision


# A recording is kept in a list of one, so that it is freed where its memory is taken off: a variable of the wrapper's
# would hold it until the wrapper's frame goes.
_Holder = list[Recording]


def _open_books(depth: int) -> bool:
    """Open books that stay open, where they are closed.  False, with a warning: it cannot be done."""
    if _bursar.live_bytes() < 0:
        try:
            _books.keep_open()
        except (RuntimeError, ValueError) as error:
            warnings.warn(f"profile() has no books to look at: {error}", RuntimeWarning, stacklevel=depth + 1)
            return False
    return True


def _begin(plan: _Plan, holder: _Holder) -> bool:
    """Make a recording.  False, with a warning: there is none, and the function runs as it is."""
    open_own()
    if not _open_books(3):
        close_own()
        return False
    try:
        watch(plan.target)
    except RuntimeError as error:
        warnings.warn(str(error), RuntimeWarning, stacklevel=3)
        close_own()
        return False
    _books.borrow()
    collections.begin()
    holder.append(Recording(plan.target))
    close_own()
    return True


def _resume(holder: _Holder) -> None:
    """The recorded function runs from now on."""
    open_own()
    enter(holder[0])


def _finish(plan: _Plan, holder: _Holder) -> None:
    """The recorded function's end has been left: print."""
    open_own()
    try:
        unwatch(plan.target)
        _books.give_back(0)
        collections.end()
        _print(holder[0], sys.stdout if plan.stream is None else plan.stream, plan.precision)
    finally:
        holder.clear()
        close_own()


class _Steps:
    """A generator, coroutine or awaitable whose steps are recorded; awaitable, and iterable for `yield from`."""

    __slots__ = ("_inner", "_holder", "_last")

    def __init__(self, inner: Any, holder: _Holder, last: tuple[type[BaseException], ...] = ()) -> None:
        self._inner = inner
        self._holder = holder
        self._last = last  # exceptions that end a step and not the function

    def __await__(self) -> _Steps:
        return self

    def __iter__(self) -> _Steps:
        return self

    def __next__(self) -> Any:
        return self._step(self._inner.send, None)

    def send(self, value: Any) -> Any:
        return self._step(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._inner.throw, *error)

    def close(self) -> None:
        self._step(self._inner.close)

    def _step(self, step: Callable[..., Any], *arguments: Any) -> Any:
        if not self._holder:
            return step(*arguments)
        _resume(self._holder)
        ended = True
        try:
            result = step(*arguments)
            ended = False
            return result
        except self._last:
            ended = False
            raise
        finally:
            open_own()
            leave(ended)
            close_own()


def _wrap(func: Callable[..., Any], plan: _Plan) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(func):
        return _wrap_asynchronous_generator(func, plan)
    if inspect.iscoroutinefunction(func):
        return _wrap_coroutine(func, plan)
    if inspect.isgeneratorfunction(func):
        wrapped = _wrap_generator(func, plan)
        return types.coroutine(wrapped) if func.__code__.co_flags & _ITERABLE_COROUTINE else wrapped

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        holder: _Holder = []
        if not _begin(plan, holder):
            return func(*args, **kwargs)
        _resume(holder)
        try:
            return func(*args, **kwargs)
        finally:
            open_own()
            leave(True)
            close_own()
            _finish(plan, holder)

    return wrapper


def _wrap_coroutine(
    func: Callable[..., Coroutine[Any, Any, Any]], plan: _Plan
) -> Callable[..., Coroutine[Any, Any, Any]]:
    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        holder: _Holder = []
        if not _begin(plan, holder):
            return await func(*args, **kwargs)
        try:
            return await _Steps(func(*args, **kwargs), holder)
        finally:
            _finish(plan, holder)

    return wrapper


def _wrap_generator(
    func: Callable[..., Generator[Any, Any, Any]], plan: _Plan
) -> Callable[..., Generator[Any, Any, Any]]:
    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        holder: _Holder = []
        if not _begin(plan, holder):
            return (yield from func(*args, **kwargs))
        try:
            return (yield from _Steps(func(*args, **kwargs), holder))
        finally:
            _finish(plan, holder)

    return wrapper


def _wrap_asynchronous_generator(
    func: Callable[..., AsyncGenerator[Any, Any]], plan: _Plan
) -> Callable[..., AsyncGenerator[Any, Any]]:
    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        holder: _Holder = []
        begun = _begin(plan, holder)
        source = func(*args, **kwargs)
        try:
            item = await _Steps(source.__anext__(), holder, (StopIteration,))
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    await _Steps(source.aclose(), holder)
                    raise
                except BaseException as error:
                    item = await _Steps(source.athrow(error), holder, (StopIteration,))
                else:
                    item = await _Steps(source.asend(sent), holder, (StopIteration,))
        except StopAsyncIteration:
            return
        finally:
            if begun:
                _finish(plan, holder)

    return wrapper


def _print(recording: Recording, stream: Stream | None, precision: int) -> None:
    """Write the table, a row at a time; nothing where no line ran, or the program has no stdout."""
    target = recording.target
    if stream is None or not any(recording.times):
        return
    rows = range(target.first, target.first + target.size)
    texts: list[str] = []
    with contextlib.suppress(Exception):  # no file, another one by now, a Python that shuts down: the figures stand
        source, first = inspect.getsourcelines(target.code)
        rows = range(first, first + len(source))
        texts = linecache.getlines(target.filename)

    def size(number: int) -> str:
        return f"{round(number / _MIB, precision) + 0.0:{precision + 4}.{precision}f} MiB"  # + 0.0: no minus zero

    title = _row("Line #", "Mem usage", "Increment", "Occurrences", "Line Contents")
    stream.write(f"Filename: {target.filename}\n\n")
    stream.write(title + "\n")
    stream.write("=" * len(title) + "\n")
    for line in rows:
        text = texts[line - 1] if 0 < line <= len(texts) else "\n"
        at = line - target.first
        if 0 <= at < target.size and recording.times[at]:
            times = recording.times[at]
            stream.write(_row(line, size(recording.most[at]), size(recording.grown[at]), times, text))
        else:
            stream.write(_row(line, "", "", "", text))
    stream.write("\n\n")


def _row(line: object, usage: str, increment: str, occurrences: object, text: str) -> str:
    return f"{line!s:>6} {usage:>12} {increment:>12}  {occurrences!s:>10}   {text}"
