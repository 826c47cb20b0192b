"""What a stream holds, and what it may: its budget, its pool of Arrow memory, and arrays that are used again."""

from __future__ import annotations

import abc
import ctypes
import math
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    Where = list[list[tuple[str, str, Any]]]

_FRESH = 256  # pools before one is used again
_SEEN = 8 << 20


def text_of(size: float) -> str:
    """A size to be read, rounded up."""
    for unit, one in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= one:
            return f"{math.ceil(size * 10 / one) / 10:.1f} {unit}"
    return f"{math.ceil(size)} bytes"


# A pool must outlive whatever was allocated from it, and arrays of Arrow's do not keep theirs: freeing one whose pool
# is gone is a crash. So pools are never freed; there are few, and each is used by one stream at a time.
_pools: list[Any] = []
_idle: list[Any] = []


def _take_pool() -> Any:
    import pyarrow as pa

    if len(_pools) >= _FRESH:
        for pool in sorted(_idle, key=lambda pool: int(pool.max_memory())):
            if not pool.bytes_allocated():
                _idle.remove(pool)
                return pool
    if not _pools:
        # The C library maps large pieces one by one, each cleared anew, until it has seen one of that size freed.
        pa.allocate_buffer(_SEEN, memory_pool=pa.system_memory_pool())
    pool = pa.proxy_memory_pool(pa.system_memory_pool())
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(pool))  # beyond the end of the interpreter too
    _pools.append(pool)
    return pool


def release() -> None:
    """Give freed memory back to the system. The C library keeps freed pieces for the next ones of their size, up to
    32 MiB each: a limit of the system's counts those as the process's."""
    if _trim is not None:
        _trim(0)


_trim = getattr(ctypes.pythonapi, "malloc_trim", None)  # glibc's


class Memory:
    """The budget of one stream, and what is charged to it: its pool's bytes, and arrays as long as they live."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._pool: Any = None
        self.gathered = 0  # bytes of rows as Python's objects, of a block of text
        self.kept = 0  # bytes of a reader's own, as it works them out: they are not in the pool
        self._arrays = self._mark = self._peak = 0

    @property
    def pool(self) -> Any:
        """Arrow's system pool, behind counters of this stream's own."""
        if self._pool is None:
            self._pool = _take_pool()
            self._mark = self._pool.max_memory()  # of an earlier stream, where it is used again
            weakref.finalize(self, _idle.append, self._pool).atexit = False
        return self._pool

    def hold(self, owner: Any, size: int) -> None:
        """Charge bytes for as long as their owner lives."""
        self._arrays += size
        weakref.finalize(owner, self._drop, size).atexit = False
        self.look()

    def _drop(self, size: int) -> None:
        self._arrays -= size

    def look(self) -> int:
        """What is held now; remembered where it is the most so far."""
        beside = self.gathered + self.kept
        held = self._arrays + beside
        if self._pool is not None:
            held += self._pool.bytes_allocated()
            if self._pool.max_memory() > self._mark:  # since the last look
                self._mark = self._pool.max_memory()
                self._peak = max(self._peak, self._mark + beside)
        self._peak = max(self._peak, held)
        return held

    @property
    def peak(self) -> int:
        """The most that was held: by arrays when one was made, by the pool at any time."""
        self.look()
        return self._peak


class _Owner(bytearray):
    """The memory of an array. Whether anybody still looks at it, a bytearray knows exactly: then it cannot shrink."""

    __slots__ = ("__weakref__",)

    def is_free(self) -> bool:
        try:
            self.append(self.pop())
        except BufferError:
            return False
        return True


class Buffers:
    """Arrays for batches, in memory that is used again once nobody looks at the batch that had it; with `reuse`, even
    if somebody does."""

    def __init__(self, memory: Memory, reuse: bool) -> None:
        self.reuse = reuse
        self._memory = memory
        self._owners: dict[Any, list[_Owner]] = {}

    def array(self, key: Any, shape: tuple[int, ...], dtype: Any, order: Any = "C") -> np.ndarray[Any, Any]:
        """An array whose content is not known. Those of one key take turns."""
        import numpy as np

        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        owners = self._owners.setdefault(key, [])
        owner = next((each for each in owners if len(each) > size and (self.reuse or each.is_free())), None)
        if owner is None:
            if self.reuse:
                owners.clear()
            else:  # those that are too small, and those that the caller keeps
                owners[:] = [each for each in owners[-1:] if len(each) > size]
            owner = _Owner(size + 1)
            self._memory.hold(owner, len(owner))
            owners.append(owner)
        flat = np.frombuffer(owner, np.uint8, size).view(dtype) if size else np.empty(math.prod(shape), dtype)
        array: np.ndarray[Any, Any] = flat.reshape(shape, order=order)
        return array


class Context(NamedTuple):
    """What the readers of a stream's files share."""

    name: str  # of the file or the source, for messages
    memory: Memory
    buffers: Buffers
    share: int  # bytes that a batch may have, before it is what the caller wants
    target: int  # and those that it should have, where rows are small
    rows: int | None  # that a batch may have
    columns: list[str] | None
    where: Where | None
    as_: str
    types: dict[str, Any]
    delimiter: str

    @property
    def needed(self) -> list[str] | None:
        """Columns to read: those that are wanted, and those that rows are chosen by."""
        if self.columns is None or self.where is None:
            return self.columns
        asked = (name for all_of in self.where for name, _, _ in all_of)
        return list(dict.fromkeys([*self.columns, *asked]))

    def choose(self, names: Iterable[str]) -> list[str]:
        """The columns to read, of those that there are, in the order that they were asked for. Raises ValueError."""
        known = list(names)
        wanted = self.needed
        for all_of in self.where or ():
            for name, _, _ in all_of:
                if name not in known:
                    raise ValueError(f"{self.name} has no column {name!r} for where=: it has {_listed(known)}")
        if wanted is None:
            return known
        for name in wanted:
            if name not in known:
                raise ValueError(f"{self.name} has no column {name!r}: it has {_listed(known)}")
        return wanted

    def too_large(self, what: str, size: float, budget: float | None = None) -> MemoryError:
        """The error for what does not fit, before it is read."""
        needs = f"; a budget of {text_of(budget)} would do" if budget else ""
        has = text_of(self.memory.budget)
        told = f"takes {text_of(size)}, which the budget of {has} has no room for{needs}"
        return MemoryError(f"{self.name}: {what} {told}")


class Chunk(NamedTuple):
    """What a reader reads at once: an Arrow batch, an array, or arrays by name."""

    data: Any
    row: int  # its first one, in the file
    rows: int
    place: dict[str, Any]  # where a reader begins that is to read this chunk first


class Reader(abc.ABC):
    """Of one file or source."""

    total: int | None = None  # rows, where that is known

    @abc.abstractmethod
    def chunks(self, row: int, place: dict[str, Any]) -> Iterable[Chunk]:
        """From the one that has this row on; `place` is what an earlier chunk had, or empty."""

    def close(self) -> None:  # noqa: B027 (some have nothing open)
        """Everything that was opened here."""


Opener = Callable[[Any, Context], Reader]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") if names else "none"
