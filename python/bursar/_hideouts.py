"""wipe_caches(), wipe_environ(), wipe_argv(): the places where copies stay that nobody asked for (docs/hideouts.md).

What the interpreter and the C library keep is pyext/hideouts.c's.  Here is what Python's own modules keep.  Emptied is
what changes no result: a cache that is filled again by the next call, a buffer's part that was read or written already.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterable
from typing import Any

from . import _bursar


def wipe_caches() -> None:
    """Empty what keeps copies of data after its last use, as far as no program can notice.

    The standard library's caches (re, linecache, urllib, typing and all others that functools.lru_cache makes),
    sys.last_value and its kin, buffers of files where they were read or written (sys.stdout, stderr and logging's
    handlers are flushed), sqlite3's page and statement caches, NumPy's small blocks, MKL's, HDF5's and Arrow's buffers;
    garbage in cycles is collected; and what the end of a wiping scope empties: free lists, the unused parts of stacks,
    the cache of types.

    What becomes free is zeroed where that was asked for (``bursar run --wipe``, ``start(wipe=True)``, a wiping scope).
    It takes milliseconds, in large programs as long as ``gc.collect()``.  A program's own caches are its own, functions
    behind ``functools.lru_cache`` among them: call their ``cache_clear()``.

    RuntimeError: called in another interpreter than the main one.
    """
    if "linecache" in sys.modules:
        sys.modules["linecache"].clearcache()
    if "re" in sys.modules:
        sys.modules["re"].purge()
    if "urllib.parse" in sys.modules:  # 3.10 has a cache of its own
        sys.modules["urllib.parse"].clear_cache()
    _forget_last_exception()
    _flush()
    gc.collect()
    _empty(gc.get_objects())
    _fill_numpy()
    _empty_libraries()
    gc.collect()
    _bursar.hideouts()


def wipe_environ(name: str) -> None:
    """Take a variable out of the environment, and zero its value wherever it stands.

    That is the block that the program was started with (which /proc/PID/environ shows), the C library's copy of what
    was set last, and os.environ.  Values that were set before the last one were freed to nobody, and are not found.

    KeyError: there is no such variable.
    """
    key = os.fsencode(name)
    if _bursar.wipe_environment(key) == 0 and name not in os.environ:
        raise KeyError(name)
    os.environ.pop(name, None)
    # What os.environ was made of, at the start.
    getattr(sys.modules.get("posix"), "environ", {}).pop(key, None)


def wipe_argv(number: int) -> None:
    """Zero one of sys.argv's arguments wherever it stands, and leave an empty one in its place.

    That is the block that the program was started with (which /proc/PID/cmdline shows), Python's configuration,
    sys.argv and sys.orig_argv.  Another process may have read it before: a secret does not belong there.

    IndexError: there is no such argument.  RuntimeError: sys.argv is no more what the program was started with, so that
    nobody knows which argument that was.
    """
    if not 0 < number < len(sys.argv):
        raise IndexError(f"sys.argv[{number}] is no argument of this program")
    count, every = len(sys.argv), len(sys.orig_argv)
    if sys.argv[1:] != sys.orig_argv[every - count + 1 :] or not _bursar.wipe_argument(number, count, every):
        raise RuntimeError("sys.argv is no more what the program was started with")
    sys.argv[number] = sys.orig_argv[every - count + number] = ""


def _forget_last_exception() -> None:
    for name in ("last_exc", "last_value", "last_traceback", "last_type"):
        if hasattr(sys, name):
            delattr(sys, name)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or none
            stream.flush()
    logging = sys.modules.get("logging")
    for reference in list(getattr(logging, "_handlerList", ())):
        handler = reference()
        if handler is not None:
            with contextlib.suppress(Exception):
                handler.flush()


def _empty(objects: Iterable[Any]) -> None:
    io, functools, sqlite3 = sys.modules["io"], sys.modules.get("functools"), sys.modules.get("sqlite3")
    buffered = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
    cached = type(functools.lru_cache(len)) if functools else ()
    connection = sqlite3.Connection if sqlite3 else ()
    for each in objects:
        kind = type(each)  # not isinstance(), which asks the object
        if kind is cached:
            _clear(each)
        elif kind is io.TextIOWrapper:
            _bursar.wipe_stream(each, -1, _goes_back(each))
        elif kind in buffered:
            _bursar.wipe_stream(each, each.__sizeof__() - kind.__basicsize__, _goes_back(each))
        elif connection and issubclass(kind, connection):
            _shrink(each)


def _clear(cache: Any) -> None:
    if str(getattr(cache, "__module__", "")).partition(".")[0] in sys.stdlib_module_names:
        cache.cache_clear()


def _goes_back(stream: Any) -> bool:
    """Whether it can be asked for what it gave already."""
    try:
        return not stream.closed and bool(stream.seekable())
    except ValueError:  # its other half was detached
        return False


def _shrink(connection: Any) -> None:
    with contextlib.suppress(Exception):  # another thread's, or closed
        for each in gc.get_referents(connection):  # its statements; not in 3.10
            if hasattr(each, "cache_clear"):
                each.cache_clear()
        connection.execute("PRAGMA shrink_memory").close()


def _fill_numpy() -> None:
    """NumPy keeps up to seven blocks of each size below 1024 bytes for the next array."""
    numpy = sys.modules.get("numpy")
    if not hasattr(numpy, "empty"):
        return
    for size in range(1, 1024):
        for block in [numpy.empty(size, "u1") for _ in range(7)]:  # type: ignore[union-attr]
            block.fill(0)


def _empty_libraries() -> None:
    for library in ("libtorch_cpu.so", "libmkl_core.so"):
        _bursar.empty_library(library, "mkl_serv_free_buffers")  # into which matrices were packed
    with contextlib.suppress(Exception):
        if "h5py" in sys.modules:
            with sys.modules["h5py"]._objects.phil:  # the lock under which h5py uses the library
                _bursar.empty_library("libhdf5", "H5garbage_collect")
        if "pyarrow" in sys.modules:
            sys.modules["pyarrow"].default_memory_pool().release_unused()
