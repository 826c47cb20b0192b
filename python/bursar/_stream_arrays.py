"""Streams of arrays: npy, npz, HDF5. Rows are read straight into the batch's memory, which the reader knows the size of
before."""

from __future__ import annotations

import abc
import ast
import contextlib
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ._stream_memory import Chunk, Context, Reader

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MAGIC = b"\x93NUMPY"
HEADER_MOST = 1 << 16
BATCH = 1 << 20  # bytes, unless rows= asks for more: two such are in the processor's cache


class _Part(abc.ABC):
    """One array of a file."""

    def __init__(self, what: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.what = what
        self.dtype = dtype
        if dtype.hasobject:
            raise ValueError(f"{what} has objects, which only a pickle's code could make: save it with numbers or text")
        if not shape:
            raise ValueError(f"{what} is a single number: it has no rows")
        self.length, self.row_shape = shape[0], tuple(shape[1:])
        self.row_bytes = math.prod(self.row_shape) * dtype.itemsize

    order = "C"

    @abc.abstractmethod
    def read(self, first: int, into: Array) -> None:
        """Rows from the first on, as many as there is room for. Raises OSError where they are not there."""

    def close(self) -> None:  # noqa: B027 (some have nothing of their own)
        """What this part alone has open."""


def _read_npy_header(what: str, head: bytes) -> tuple[int, tuple[int, ...], bool, np.dtype[Any]]:
    """Where the data begins, shape, whether in Fortran order, type. Raises ValueError."""
    import numpy as np

    try:
        wide = head[6] >= 2
        size = struct.unpack_from("<I" if wide else "<H", head, 8)[0]
        start = 12 if wide else 10
        if head[:6] != MAGIC or size > HEADER_MOST or len(head) < start + size:
            raise ValueError
        fields = ast.literal_eval(head[start : start + size].decode("utf-8" if head[6] >= 3 else "latin-1"))
        shape = fields["shape"]
        if not isinstance(shape, tuple) or not all(isinstance(each, int) and each >= 0 for each in shape):
            raise ValueError
        dtype = np.lib.format.descr_to_dtype(fields["descr"])
        return start + size, shape, bool(fields["fortran_order"]), dtype
    except (ValueError, TypeError, KeyError, IndexError, SyntaxError, struct.error, RecursionError, MemoryError):
        raise ValueError(f"{what} is no .npy array: its header cannot be read") from None


class _Raw(_Part):
    """An array whose bytes lie in the file as they are."""

    def __init__(self, what: str, fd: int, start: int, end: int | None = None) -> None:
        head = os.pread(fd, HEADER_MOST + 12, start)
        self._start, shape, fortran, dtype = _read_npy_header(what, head)
        self._start += start
        super().__init__(what, shape, dtype)
        self.order = "F" if fortran and len(shape) > 1 else "C"
        self._fd = fd
        there = (os.fstat(fd).st_size if end is None else end) - self._start
        if there < self.length * self.row_bytes:
            raise OSError(f"{what} is cut: it has {there} bytes of data in place of {self.length * self.row_bytes}")

    def read(self, first: int, into: Array) -> None:
        if self.order == "C":
            self._fill(into, self._start + first * self.row_bytes, first)
            return
        # The first axis is the fastest: a piece of each column after the other. The batch lies in memory likewise.
        columns = into.reshape(len(into), -1, order="F")
        size = self.dtype.itemsize
        for column in range(columns.shape[1]):
            self._fill(columns[:, column], self._start + (column * self.length + first) * size, first)

    def _fill(self, into: Array, at: int, row: int) -> None:

        view = _bytes_of(into)
        done = 0
        while done < len(view):
            got = os.preadv(self._fd, [view[done:]], at + done)
            if not got:
                raise OSError(f"{self.what} ends at byte {at + done}, while rows from {row} on were read: it was cut")
            done += got


def _bytes_of(array: Array) -> memoryview:
    flat: Any = array.reshape(-1).view("u1") if array.nbytes else b""
    return memoryview(flat)


class _Inflated(_Part):
    """A compressed member of an npz: read forward."""

    def __init__(self, what: str, archive: zipfile.ZipFile, member: str, piece: int) -> None:
        self._archive, self._member, self._piece = archive, member, piece
        self._file, head = self._begin()
        start, shape, fortran, dtype = _read_npy_header(what, head)
        super().__init__(what, shape, dtype)
        if fortran and len(shape) > 1:
            self._file.close()
            raise ValueError(f"{what} is in Fortran order and compressed: its rows lie apart; save it in C order")
        self._start, self._row = start, -1

    def _begin(self) -> tuple[Any, bytes]:
        file = self._archive.open(self._member)
        head = file.read(12)
        more = struct.unpack_from("<I" if head[6:7] >= b"\x02" else "<H", head.ljust(12), 8)[0]
        return file, head + file.read(min(more, HEADER_MOST))

    def read(self, first: int, into: Array) -> None:

        try:
            if first != self._row:
                self._file.close()
                self._file = self._archive.open(self._member)
                left = self._start + first * self.row_bytes
                while left:
                    left -= self._more(min(left, self._piece))
            view = _bytes_of(into)
            done = 0
            while done < len(view):
                data = self._file.read(min(self._piece, len(view) - done))
                if not data:
                    raise EOFError("it ends too early")
                view[done : done + len(data)] = data
                done += len(data)
        except (zipfile.BadZipFile, EOFError, zlib.error, OSError) as error:
            raise OSError(f"{self.what}, rows from {first} on: {error}") from error
        self._row = first + len(into)

    def _more(self, size: int) -> int:
        if not (data := self._file.read(size)):
            raise EOFError("it ends too early")
        return len(data)

    def close(self) -> None:
        self._file.close()


class _Dataset(_Part):
    """Of HDF5."""

    def __init__(self, what: str, dataset: Any) -> None:
        self.dataset = dataset
        if dataset.dtype.hasobject:
            raise ValueError(
                f"{what} has values of varying length, whose size is not known before they are read: "
                "choose others with columns="
            )
        super().__init__(what, dataset.shape or (), dataset.dtype)
        self.chunk_rows = dataset.chunks[0] if dataset.chunks else 1
        self.chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize if dataset.chunks else 0
        # One row of chunks: what is decompressed anew for each batch, unless it is kept.
        pairs = zip(dataset.shape[1:], dataset.chunks[1:], strict=True) if dataset.chunks else ()
        self.across = self.chunk_bytes * math.prod(math.ceil(size / step) for size, step in pairs)

    def read(self, first: int, into: Array) -> None:
        if not into.size:
            return
        import numpy as np

        try:
            self.dataset.read_direct(into, np.s_[first : first + len(into)])
        except (OSError, RuntimeError) as error:
            raise OSError(f"{self.what}, rows {first} to {first + len(into) - 1}: {error}") from error


class _Arrays(Reader):
    """Arrays of one length, read side by side."""

    def __init__(
        self, context: Context, parts: dict[str, Any], closing: contextlib.ExitStack, held: int, alone: bool
    ) -> None:
        self._context, self._parts, self._closing, self._alone = context, parts, closing, alone
        lengths = {name: part.length for name, part in parts.items()}
        if len(set(lengths.values())) != 1:
            told = ", ".join(f"{name} {length}" for name, length in lengths.items()) or "there are none"
            raise ValueError(f"{context.name} has no arrays of one length ({told}): choose with columns=")
        self.total = next(iter(lengths.values()))
        row = sum(part.row_bytes for part in parts.values())
        # Another batch may be in the caller's hands, and what they are made to takes room, too.
        times = 4 if context.as_ in ("pandas", "arrow") else 1 if context.buffers.reuse else 2
        share = (context.memory.budget - held) // times - 64 * len(parts)
        if row > share:
            raise context.too_large("row 0 (as each)", row, held + times * (row + 64 * len(parts)))
        step = max(min(share, context.target if context.rows else BATCH) // row, 1) if row else self.total or 1
        self._step = min(context.rows or step, step)

    def chunks(self, row: int, place: dict[str, Any]) -> Iterator[Chunk]:
        assert self.total is not None
        # To whole chunks of HDF5, where a batch has some: else each is decompressed for two batches.
        unit = max((part.chunk_rows for part in self._parts.values() if isinstance(part, _Dataset)), default=1)
        while row < self.total:
            count = min(self._step, self.total - row)
            if 1 < unit <= count:
                count = min((row + count) // unit * unit, self.total) - row
            data = {}
            for name, part in self._parts.items():
                data[name] = self._context.buffers.array(name, (count, *part.row_shape), part.dtype, part.order)
                part.read(row, data[name])
            yield Chunk(next(iter(data.values())) if self._alone else data, row, count, {})
            del data
            row += count

    def close(self) -> None:
        self._closing.close()


def open_npy(path: str, context: Context) -> Reader:
    if context.columns is not None or context.where is not None:
        raise ValueError(f"{context.name} is one array: it has no columns to choose, and no rows to filter")
    with contextlib.ExitStack() as stack:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        part = _Raw(context.name, fd, 0)
        reader = _Arrays(context, {"": part}, stack, 0, alone=True)
        reader._closing = stack.pop_all()
    return reader


def open_npz(path: str, context: Context) -> Reader:
    if context.where is not None:
        raise ValueError(f"{context.name} has arrays: rows are not filtered there")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(path, "rb"))
        try:
            archive = stack.enter_context(zipfile.ZipFile(file))
        except zipfile.BadZipFile as error:
            raise ValueError(f"{context.name} is no .npz archive: {error}") from error
        parts: dict[str, _Part] = {}
        piece = min(1 << 16, context.memory.budget // 16)
        for name in context.choose(each.removesuffix(".npy") for each in archive.namelist()):
            what = f"{context.name}, array {name!r}"
            found = archive.getinfo(name + ".npy" if name + ".npy" in archive.NameToInfo else name)
            if found.compress_type == zipfile.ZIP_STORED and not found.flag_bits & 1:
                local = os.pread(file.fileno(), 30, found.header_offset)
                if len(local) < 30 or local[:4] != b"PK\x03\x04":
                    raise ValueError(f"{what}: the archive is damaged")
                start = found.header_offset + 30 + sum(struct.unpack_from("<HH", local, 26))
                parts[name] = _Raw(what, file.fileno(), start, start + found.file_size)
            else:
                parts[name] = _Inflated(what, archive, found.filename, piece)
                stack.callback(parts[name].close)
        reader = _Arrays(context, parts, stack, 2 * piece, alone=False)
        reader._closing = stack.pop_all()
    return reader


def open_hdf5(path: str, context: Context) -> Reader:
    import h5py  # type: ignore[import-not-found, import-untyped, unused-ignore]

    if context.where is not None:
        raise ValueError(f"{context.name} has arrays: rows are not filtered there")

    def datasets(file: Any) -> list[str]:
        found: list[str] = []
        file.visititems(lambda name, each: found.append(name) if isinstance(each, h5py.Dataset) else None)
        return context.choose(found)

    def opened(cache: int) -> Any:
        try:
            return h5py.File(path, "r", rdcc_nbytes=cache)
        except OSError as error:
            if not os.path.exists(path):
                raise
            raise ValueError(f"{context.name} cannot be read as HDF5: {error}") from error

    with contextlib.ExitStack() as stack:
        # What a chunk is decompressed into is kept by the library, for each dataset: so that is counted, too.
        with opened(0) as file:
            names = datasets(file)
            across = [_Dataset(f"{context.name}, dataset {name!r}", file[name]) for name in names]
            kept = max((part.across for part in across), default=0)
            room = context.memory.budget // 2
            cache = kept if len(names) * kept <= room else 0
            for part in across:
                if 2 * part.chunk_bytes > room:
                    raise context.too_large(f"a chunk of {part.what.partition(', ')[2]}", part.chunk_bytes,
                                            4 * part.chunk_bytes)  # fmt: skip
            most = max((part.chunk_bytes for part in across), default=0)
        file = stack.enter_context(opened(cache))
        parts = {name: _Dataset(f"{context.name}, dataset {name!r}", file[name]) for name in names}
        held = max(cache * len(names), 2 * most)
        reader = _Arrays(context, parts, stack, held, alone=False)
        reader._closing = stack.pop_all()
    return reader
