"""Streams of Arrow's own files: IPC files (Feather) and IPC streams. A message says how large its body is before it; of
a compressed one the buffers' first bytes say how large they become."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from ._stream_memory import Chunk, Context, Reader

MAGIC = b"ARROW1\0\0"
HEADER_MOST = 64 << 20
SCHEMA, DICTIONARY, BATCH = 1, 2, 3
TIMES = 3  # the batch that is read, and two of before or what they are made to


class _Message(NamedTuple):
    at: int
    end: int
    kind: int
    rows: int
    stored: int  # bytes of its body
    whole: int  # of what it becomes, where that is compressed; else 0


def _place(data: bytes, table: int, number: int) -> int:
    """Of a field in a table of FlatBuffers; 0: it has none."""
    entries = table - struct.unpack_from("<i", data, table)[0]
    at = 4 + 2 * number
    if at + 2 > struct.unpack_from("<H", data, entries)[0]:
        return 0
    found = struct.unpack_from("<H", data, entries + at)[0]
    return table + found if found else 0


def _follow(data: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", data, at)[0])


def _messages(fd: int, at: int, name: str) -> Iterator[_Message]:
    """All of them, by their headers. Raises ValueError for what is none, OSError for a file that is cut."""
    size = os.fstat(fd).st_size
    number = 0
    while at < size:
        head = os.pread(fd, 8, at)
        length, start = 0, at + 8
        if len(head) == 8 and head[:4] == b"\xff\xff\xff\xff":
            length = struct.unpack("<i", head[4:])[0]
        elif len(head) >= 4:  # before Arrow 0.15 there was no mark
            length, start = struct.unpack("<i", head[:4])[0], at + 4
        if not length:
            return
        if not 0 < length <= HEADER_MOST or start + length > size:
            raise OSError(f"{name} is cut, or damaged: message {number}, at byte {at}, has no header")
        data = os.pread(fd, length, start)
        try:
            message = _message(fd, data, at, start + length)
        except (struct.error, IndexError, OverflowError):
            raise ValueError(f"{name}: message {number}, at byte {at}, cannot be read") from None
        if message.stored < 0 or message.end > size:
            raise OSError(f"{name} is cut: message {number}, at byte {at}, ends behind the file's end")
        yield message
        at = message.end
        number += 1


def _message(fd: int, data: bytes, at: int, body: int) -> _Message:
    root = _follow(data, 0)
    kind = data[_place(data, root, 1)]
    place = _place(data, root, 3)
    stored = struct.unpack_from("<q", data, place)[0] if place else 0
    rows = whole = 0
    if kind in (DICTIONARY, BATCH):
        batch = _follow(data, _place(data, root, 2))
        if kind == DICTIONARY:
            batch = _follow(data, _place(data, batch, 1))
        place = _place(data, batch, 0)
        rows = struct.unpack_from("<q", data, place)[0] if place else 0
        if _place(data, batch, 3):
            vector = _follow(data, _place(data, batch, 2))
            for number in range(struct.unpack_from("<I", data, vector)[0]):
                offset, length = struct.unpack_from("<qq", data, vector + 4 + 16 * number)
                if length:
                    becomes = struct.unpack("<q", os.pread(fd, 8, body + offset))[0]
                    whole += length if becomes < 0 else becomes
    return _Message(at, body + stored, kind, rows, stored, whole)


class _File:
    """What pyarrow reads from, into memory of the stream's pool: its own files take theirs from the process's."""

    closed = False
    mode = "rb"

    def __init__(self, fd: int, pool: Any) -> None:
        self._fd, self._pool = fd, pool
        self.at = 0

    def read_buffer(self, size: int) -> Any:
        import pyarrow as pa

        size = max(min(size, os.fstat(self._fd).st_size - self.at), 0)
        buffer = pa.allocate_buffer(size, memory_pool=self._pool)
        done = 0
        with memoryview(buffer).cast("B") as view:
            while done < size:
                got = os.preadv(self._fd, [view[done:]], self.at + done)
                if not got:
                    raise OSError(f"it ends at byte {self.at + done}, and had more a moment ago")
                done += got
        self.at += size
        return buffer

    def read(self, size: int = -1) -> bytes:
        data = os.pread(self._fd, size, self.at)
        self.at += len(data)
        return data

    def tell(self) -> int:
        return self.at

    def close(self) -> None:
        """Nothing: the descriptor is the reader's."""


class _Arrow(Reader):
    def __init__(self, path: str, context: Context) -> None:
        import pyarrow as pa

        self._context = context
        with contextlib.ExitStack() as stack:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, self._fd)
            self._file = _File(self._fd, context.memory.pool)
            self._start = len(MAGIC) if os.pread(self._fd, len(MAGIC), 0)[:6] == MAGIC[:6] else 0
            options = pa.ipc.IpcReadOptions(use_threads=False)
            try:
                first = next(_messages(self._fd, self._start, context.name), None)
                if first is None or first.kind != SCHEMA:
                    raise ValueError(f"{context.name} is neither an Arrow file nor an Arrow stream")
                self._file.at = self._start
                schema = pa.ipc.open_stream(pa.PythonFile(self._file, "r"), options=options).schema
                names = context.choose(schema.names)
                options.included_fields = sorted(schema.get_field_index(name) for name in names)
                self._file.at = self._start
                file = pa.PythonFile(self._file, "r")
                self._reader = pa.ipc.open_stream(file, options=options, memory_pool=context.memory.pool)
                stack.callback(self._reader.close)
            except pa.ArrowInvalid as error:
                raise ValueError(f"{context.name} is neither an Arrow file nor an Arrow stream: {error}") from error
            self._names = names
            self._closing = stack.pop_all()

    def close(self) -> None:
        self._closing.close()

    def chunks(self, row: int, place: dict[str, Any]) -> Iterator[Chunk]:
        import pyarrow as pa

        context, budget = self._context, self._context.memory.budget
        start = number = kept = 0
        for message in _messages(self._fd, self._start, context.name):
            if message.kind == DICTIONARY:
                kept += message.stored + 2 * message.whole
                if kept > budget // 2:
                    raise context.too_large(f"its dictionaries, up to byte {message.end},", kept, 2 * kept)
            if message.kind != BATCH:
                continue
            if start + message.rows <= row and not kept:
                self._file.at = message.end  # a batch that is not wanted is not read
            else:
                need = message.stored + TIMES * message.whole if message.whole else TIMES * message.stored
                if need > budget - kept:
                    raise context.too_large(f"record batch {number}, of {message.rows} rows, with what is made of it,",
                                            need, need + kept)  # fmt: skip
                try:
                    batch = self._reader.read_next_batch()
                except (pa.ArrowException, OSError, StopIteration) as error:
                    raise OSError(f"{context.name}, record batch {number} at byte {message.at}: {error}") from error
                if start + message.rows > row and message.rows:
                    yield Chunk(batch.select(self._names), start, message.rows, {})
                del batch
            start += message.rows
            number += 1


def open_arrow(path: str, context: Context) -> Reader:
    return _Arrow(path, context)
