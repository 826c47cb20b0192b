"""isolated(): work in a process of its own, whose memory comes back whole; large arrays come back without a copy.

The child is multiprocessing's, by spawn or forkserver. The job goes to it, and its result comes back, through a pair of
sockets, pickled (protocol 5); each buffer of LARGE bytes or more goes beside that as the descriptor of a file in
memory, which the other side maps. In the child NumPy makes large arrays in such files to begin with (pyext/shared.c):
these are handed back as they are. What is large and was not made so is copied once, into a file; what is small is
copied in the pickle. No descriptor stays open once a file is mapped, and the memory goes when the last array in it
does.
"""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import io
import os
import pickle
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

from . import _bursar

LARGE = 1 << 20
METHODS = ("spawn", "forkserver")
_AT_ONCE = 64  # descriptors in one message; the kernel takes 253
_HEAD = struct.Struct("<QQ")  # bytes of the pickle, number of files

_P = ParamSpec("_P")
_R = TypeVar("_R")


class IsolatedError(RuntimeError):
    """The child ended without a result, or what it has cannot be read. `signal`, `status`: how it ended, if it did."""

    signal: int | None = None
    status: int | None = None


class ChildTraceback(Exception):
    """The cause of an exception that was raised in the child: the traceback there, as text."""

    def __str__(self) -> str:
        return "\n" + "".join(map(str, self.args)).rstrip()


class Buffer(NamedTuple):
    """A large buffer of a result: its bytes, and whether the child made it in shared memory (else: copied once)."""

    bytes: int
    made_there: bool


@dataclasses.dataclass(frozen=True)
class Result(Generic[_R]):
    """What a call gave, and how it came: `shared` are the large arrays that were handed over as they are, `copied`
    those that were copied into shared memory first, `pickled_bytes` all else, which was copied through the pickle."""

    value: _R
    shared: list[int]  # bytes of each
    copied: list[int]
    pickled_bytes: int

    def __str__(self) -> str:
        return (
            f"{len(self.shared)} arrays, {sum(self.shared)} bytes, made in shared memory and handed over; "
            f"{len(self.copied)}, {sum(self.copied)} bytes, copied into it; {self.pickled_bytes} bytes pickled"
        )


class Isolated(Generic[_P, _R]):
    """A function that runs in a process of its own: see isolated()."""

    def __init__(self, function: Callable[_P, _R], method: str) -> None:
        self.function = function
        self.method = method
        functools.update_wrapper(self, function)

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return self.run(*args, **kwargs).value

    def run(self, *args: _P.args, **kwargs: _P.kwargs) -> Result[_R]:
        """The same as a call, and says how the result came."""
        job, files = _pack_job(self, args, kwargs)
        try:
            return _run(self, job, files)
        finally:
            _close(files)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        bound: Any = self
        return self if instance is None else functools.partial(bound, instance)

    def __repr__(self) -> str:
        return f"<isolated {_name(self.function)}, by {self.method}>"

    def __reduce__(self) -> Any:
        return _restored, (_function(self), self.method)


def isolated(function: Callable[_P, _R], *, method: str = "spawn") -> Isolated[_P, _R]:
    """Run a function in a process of its own, each call in a new one: all memory that it takes comes back with its end.

    bursar.isolated(f)(x) gives f(x); so does a call of a function that has @bursar.isolated above it.
    bursar.isolated(f).run(x) says besides how the result came. Arrays of 1 MiB and more come in shared memory: those
    that NumPy made in the child are handed over without a copy, others are copied into it once; all else is pickled.
    Large arrays in arguments go to the child in shared memory too, copied once; what it writes to them stays there.

    method: 'spawn' (a new Python each time), or 'forkserver' (a fork of a process that has no threads; faster from the
    second call on). Never a fork of this process. The child ends with this process, and with KeyboardInterrupt. In it
    SIGINT is ignored. Functions of __main__ need what spawn needs: `if __name__ == "__main__":` around what begins.

    TypeError, before anything starts: what cannot be sent (a lambda, a local function, an open file), by name; or the
    result cannot be sent back. IsolatedError: the child died, by which signal. What the function raises is raised here,
    with the child's traceback as its cause.
    """
    if not callable(function):
        raise TypeError(f"isolated() takes a function, not {type(function).__name__}")
    if method not in METHODS:
        raise ValueError(f"no method {method!r}: use one of {', '.join(METHODS)}")
    return Isolated(function, method)


# --- what is sent -----------------------------------------------------------------------------------------------------


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


class _Named:
    """Pickles as a look-up of a name in a module."""

    def __init__(self, module: str, name: str) -> None:
        self.at = (module, name)

    def __call__(self) -> Any:
        module, name = self.at
        found: Any = sys.modules.get(module) or __import__(module, fromlist=["_"])
        for part in name.split("."):
            found = getattr(found, part)
        return found


def _restored(function: Any, method: str) -> Isolated[Any, Any]:
    found = function() if isinstance(function, _Named) else function
    return found if isinstance(found, Isolated) else Isolated(found, method)


def _function(isolated: Isolated[Any, Any]) -> Any:
    """What stands for the function: its name, where that leads to it or to what decorates it; else itself."""
    function: Any = isolated.function
    if not isinstance(function, type(_name)):
        return function
    module, name = function.__module__, function.__qualname__
    if "<lambda>" in name or "<locals>" in name:
        raise TypeError(f"{name} cannot be sent to another process: define it by `def` at the top of a module")
    main = sys.modules.get("__main__")
    if module == "__main__" and getattr(main, "__spec__", None) is None and not _file_of(main):
        raise TypeError(f"{name} cannot be sent to another process: __main__ is no file there; put it into a module")
    try:
        found = _Named(module, name)()
    except (ImportError, AttributeError, KeyError):
        found = None
    if found is not function and getattr(found, "function", None) is not function:
        raise TypeError(f"{name} cannot be sent to another process: {module}.{name} is something else there")
    return _Named(module, name)


def _file_of(main: Any) -> bool:
    file = getattr(main, "__file__", None)
    return isinstance(file, str) and os.path.exists(file)


def _pack(what: Any, hand_over: bool) -> tuple[bytes, list[tuple[int, int, int, bool]]]:
    """The pickle, and of each large buffer: descriptor (the caller's to close), offset, size of the file, made there.

    hand_over: files that arrays lie in go as they are, unless most of one is not asked for."""
    files: list[tuple[int, int, int, bool]] = []

    def take(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        with raw:
            if raw.nbytes < LARGE:
                return True
            found = _bursar.shared_find(raw) if hand_over else None
            if found and found[2] <= 2 * raw.nbytes:
                files.append((os.dup(found[0]), found[1], found[2], True))
            else:
                files.append((_copy(raw), 0, raw.nbytes, False))
            sizes.append(raw.nbytes)
        return False

    sizes: list[int] = []
    out = io.BytesIO()
    try:
        pickle.Pickler(out, protocol=5, buffer_callback=take).dump(what)
    except BaseException:
        _close(files)
        raise
    return out.getvalue() + b"".join(struct.pack("<Q", one) for one in sizes), files


def _copy(raw: memoryview) -> int:
    fd = os.memfd_create("bursar-array", os.MFD_CLOEXEC)
    try:
        at = 0
        while at < raw.nbytes:
            at += os.write(fd, raw[at : at + (1 << 30)])
    except BaseException:
        os.close(fd)
        raise
    return fd


def _close(files: list[tuple[int, int, int, bool]]) -> None:
    for fd, *_ in files:
        os.close(fd)
    files.clear()


def _pack_job(isolated: Isolated[Any, Any], args: Any, kwargs: Any) -> tuple[bytes, list[tuple[int, int, int, bool]]]:
    function = _function(isolated)
    numpy = "numpy" in sys.modules
    try:
        return _pack((function, args, kwargs, numpy), False)
    except Exception as error:
        parts = [(f"argument {n + 1}", one) for n, one in enumerate(args)]
        parts += [(f"argument {key}", one) for key, one in kwargs.items()]
        for what, one in [(_name(isolated.function), function), *parts]:
            try:
                pickle.dumps(one, protocol=5, buffer_callback=lambda _: False)
            except Exception as reason:
                kind = "" if one is function else f" ({type(one).__name__})"
                raise TypeError(f"{what}{kind} cannot be sent to another process: {reason}") from error
        raise


# --- how it is sent ---------------------------------------------------------------------------------------------------


def _send(to: socket.socket, data: bytes, files: list[tuple[int, int, int, bool]]) -> None:
    to.sendall(_HEAD.pack(len(data), len(files)))
    to.sendall(data)
    for at in range(0, len(files), _AT_ONCE):
        some = files[at : at + _AT_ONCE]
        told = b"".join(struct.pack("<QQQ", offset, size, made) for _, offset, size, made in some)
        socket.send_fds(to, [told[:1]], [fd for fd, *_ in some])
        to.sendall(told[1:])


def _receive(source: socket.socket, wait: Callable[[], bool]) -> tuple[memoryview, list[Any], list[Buffer]]:
    """The pickle, its buffers, and what they are. EOFError: the other side has gone. wait: False, it has."""
    length, count = _HEAD.unpack(_exactly(source, _HEAD.size, wait))
    data = _exactly(source, length, wait)
    sizes = [struct.unpack("<Q", data[length - 8 * (count - i) :][:8])[0] for i in range(count)]
    buffers: list[Any] = []
    found: list[Buffer] = []
    while len(buffers) < count:
        some = min(_AT_ONCE, count - len(buffers))
        if not wait():
            raise EOFError
        first, fds, _, _ = socket.recv_fds(source, 1, some)
        try:
            told = first + bytes(_exactly(source, 24 * some - 1, wait))
            if len(fds) != some:
                raise OSError("this process may have no more files open (ulimit -n): its result has too many arrays")
            for i, fd in enumerate(fds):
                offset, size, made = struct.unpack_from("<QQQ", told, 24 * i)
                mapped: Any = _bursar.Shared(fd, size)
                view = memoryview(mapped)[offset : offset + sizes[len(buffers)]]
                found.append(Buffer(view.nbytes, bool(made)))
                buffers.append(view)
        finally:
            for fd in fds:
                os.close(fd)
    return data[: length - 8 * count], buffers, found


def _exactly(source: socket.socket, size: int, wait: Callable[[], bool]) -> memoryview:
    data = memoryview(bytearray(size))
    at = 0
    while at < size:
        if not wait():
            raise EOFError
        n = source.recv_into(data[at:])
        if n == 0:
            raise EOFError
        at += n
    return data


# --- the parent -------------------------------------------------------------------------------------------------------


def _run(isolated: Isolated[Any, Any], job: bytes, files: list[tuple[int, int, int, bool]]) -> Result[Any]:
    import multiprocessing

    context: Any = multiprocessing.get_context(isolated.method)
    name = _name(isolated.function)
    ours, theirs = socket.socketpair()
    process = context.Process(target=_child, args=(theirs,), name=name)
    pidfd = -1
    try:
        with theirs:
            process.start()
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:  # an old kernel, or a sandbox
            pidfd = os.dup(process.sentinel)

        def wait() -> bool:
            """Is there something to read? False: the child has ended, and has left nothing."""
            poll = select.poll()
            poll.register(ours, select.POLLIN)
            poll.register(pidfd, select.POLLIN)
            return any(fd == ours.fileno() for fd, _ in poll.poll())

        try:
            _send(ours, job, files)
            data, buffers, found = _receive(ours, wait)
        except (EOFError, ConnectionError):
            process.join()
            raise _ended(name, process.exitcode) from None
        kind, value = _load(name, data, buffers)
        process.join()
    finally:
        if process.pid is not None and process.is_alive():
            process.kill()
            process.join()
        if process.pid is not None:
            process.close()
        ours.close()
        if pidfd >= 0:
            os.close(pidfd)
    if kind == "raised":
        error, text = value
        raise error from ChildTraceback(text)
    if kind == "refused":
        raise TypeError(value)
    shared = [one.bytes for one in found if one.made_there]
    return Result(value, shared, [one.bytes for one in found if not one.made_there], len(data))


def _load(name: str, data: memoryview, buffers: list[Any]) -> tuple[str, Any]:
    try:
        kind, value = pickle.loads(data, buffers=buffers)
    except Exception as error:
        raise IsolatedError(f"the result of {name} cannot be read here: {type(error).__name__}: {error}") from error
    return kind, value


def _ended(name: str, status: int | None) -> IsolatedError:
    if status is None:
        return IsolatedError(f"the child that ran {name} has ended without a result")
    if status < 0:
        try:
            word = signal.Signals(-status).name
        except ValueError:
            word = f"signal {-status}"
        hint = ": the kernel does that where memory runs out" if -status == signal.SIGKILL else ""
        error = IsolatedError(f"the child that ran {name} was ended by {word}{hint}")
        error.signal = -status
    else:
        hint = ' (a script needs `if __name__ == "__main__":` around what begins)' if status == 1 else ""
        error = IsolatedError(f"the child that ran {name} ended with status {status} and no result{hint}")
        error.status = status
    return error


# --- the child --------------------------------------------------------------------------------------------------------


def _child(theirs: socket.socket) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    data, buffers, _ = _receive(theirs, lambda: True)
    _end_with(theirs)
    result: Any
    try:
        function, args, kwargs, numpy = pickle.loads(data, buffers=buffers)
        del data, buffers
        if isinstance(function, _Named):
            function = function()
        if isinstance(function, Isolated):
            function = function.function
        if numpy:
            __import__("numpy")
        _bursar.shared_arrays()
        result = ("value", function(*args, **kwargs))
    except BaseException as error:
        result = ("raised", (error, "".join(traceback.format_exception(error))))
    try:
        packed, files = _pack(result, True)
        if result[0] == "raised":
            pickle.loads(packed)  # what cannot be made again there must not be sent
    except Exception as error:
        if result[0] == "raised":
            text = "".join(result[1][1])
            again = IsolatedError(f"{type(result[1][0]).__name__}: {result[1][0]}")
            packed, files = _pack(("raised", (again, text)), True)
        else:
            kind = type(result[1]).__name__
            packed, files = _pack(("refused", f"the result ({kind}) cannot be sent back: {error}"), True)
    _end_with(theirs, False)  # the parent's reading is an event of it too
    _send(theirs, packed, files)
    theirs.close()


def _end_with(theirs: socket.socket, on: bool = True) -> None:
    """Nothing more comes, so what happens to it is its end, and the parent's: the kernel's signal of that is SIGKILL.
    No thread has to wait for it, and what forks in here forks a process without one."""
    flags = fcntl.fcntl(theirs, fcntl.F_GETFL)
    if on:
        fcntl.fcntl(theirs, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(theirs, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(theirs, fcntl.F_SETFL, flags | os.O_ASYNC if on else flags & ~os.O_ASYNC)
    if on and select.select([theirs], [], [], 0)[0]:  # it has ended by now
        os.kill(os.getpid(), signal.SIGKILL)
