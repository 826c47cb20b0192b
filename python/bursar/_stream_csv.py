"""Streams of CSV: blocks of whole lines, each parsed by pyarrow in memory that is known before."""

from __future__ import annotations

import base64
import csv
import io
import os
import re
from collections.abc import Iterator
from typing import Any

from ._stream_memory import Chunk, Context, Reader, text_of

BLOCK = 1 << 20
FIRST = 1 << 18  # bytes that types are inferred from
# What parsing takes, at most. Of each byte: the block, the parser's copy, a text column's reservation, the text itself,
# here and in the batch before. Of each value: its place for the parser, and 8.2 bytes in either batch. All that by 4/3:
# a quarter of the budget is for what the batch before was made to. The parser begins with room for some rows.
BYTE, VALUE = 7, 28
PARSER, PARSER_COLUMN = 140_000, 2048


class _Csv(Reader):
    def __init__(self, path: str, context: Context) -> None:
        self._context = context
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._most = context.memory.budget // (BYTE + VALUE // 8)  # what a block may grow to for one long line
            self._read_header()
            kept = PARSER + PARSER_COLUMN * len(self.names)
            self._room = context.memory.budget - kept
            if 2 * kept > context.memory.budget:
                raise context.too_large(f"parsing {len(self.names)} columns", kept, 2 * kept)
            self._most = max(self._room // (BYTE + VALUE // 8), 1)
        except BaseException:
            os.close(self._fd)
            raise
        self._schema: Any = None

    def close(self) -> None:
        os.close(self._fd)

    def _read(self, at: int, size: int) -> bytearray:
        """Bytes of the file; fewer at its end."""
        block = bytearray(size)
        done = 0
        with memoryview(block) as view:
            while done < size:
                got = os.preadv(self._fd, [view[done:]], at + done)
                if not got:
                    break
                done += got
        del block[done:]
        return block

    def _read_header(self) -> None:
        size = min(1 << 16, self._most)
        while True:
            head = self._read(0, size)
            end = _last_line_end(head, first=True)
            if end or len(head) < size:
                break
            if size == self._most:
                raise self._too_long(1, 0)
            size = min(size * 4, self._most)
        line = bytes(head[: end or len(head)])
        if not line.strip():
            raise ValueError(f"{self._context.name} is empty: a CSV file begins with a line of column names")
        self._start = len(line)
        try:
            rows = csv.reader(io.StringIO(line.decode("utf-8-sig"), newline=""), delimiter=self._context.delimiter)
            self.names = next(rows)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{self._context.name}, line 1: {error}") from error
        self._header_lines = line.count(b"\n") or 1
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"{self._context.name}, line 1: two columns are called {twice[0]!r}")
        self.chosen = self._context.choose(self.names)

    def _too_long(self, line: int, at: int) -> MemoryError:
        what = f"line {line} (from byte {at} on), longer than {text_of(self._most)},"
        return self._context.too_large(what, self._most)

    def _block(self, at: int, size: int, line: int) -> bytearray:
        """Whole lines from there on, as many as may be parsed at once; empty at the end."""
        while True:
            block = self._read(at, size)
            if len(block) < size:  # the end: its last line may have no end
                end = len(block)
            else:
                end = _last_line_end(block)
                if not end:
                    if size >= self._most:
                        raise self._too_long(line, at)
                    size = min(size * 4, self._most)
                    continue
            room = self._room
            while end:
                values = (block.count(b"\n", 0, end) + 1) * len(self.names)
                need = BYTE * end + VALUE * values
                if need <= room:
                    break
                fewer = _last_line_end(block, upto=int(end * 0.8 * room / need))
                if not fewer:
                    fewer = _last_line_end(block, first=True)
                    if fewer >= end:
                        raise self._context.too_large(f"line {line} (from byte {at} on), parsed,", need,
                                                      self._context.memory.budget - room + need)  # fmt: skip
                end = fewer
            del block[end:]
            return block

    def _parse(self, block: bytearray, types: dict[str, Any], line: int) -> Any:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        quoted = b'"' in block
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(pa.py_buffer(block)),
                arrow_csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=self.names),
                arrow_csv.ParseOptions(delimiter=self._context.delimiter, newlines_in_values=quoted),
                arrow_csv.ConvertOptions(column_types=types, include_columns=self.chosen),
                memory_pool=self._context.memory.pool,
            )
        except pa.ArrowInvalid as error:
            raise ValueError(self._explain(block, line, str(error))) from error
        memory = self._context.memory
        memory.gathered = len(block)
        memory.look()
        memory.gathered = 0
        return table

    def _explain(self, block: bytearray, line: int, told: str) -> str:
        """What is wrong, and in which line: looked for only now."""
        before = line
        name = self._context.name
        value, column, kind = _of_conversion(told)
        try:
            reader = csv.reader(io.TextIOWrapper(io.BytesIO(block), "utf-8", newline=""),
                                delimiter=self._context.delimiter)  # fmt: skip
            for row in reader:
                place = f"{name}, line {before}"
                before = line + reader.line_num
                if row and len(row) != len(self.names):
                    return f"{place}: {len(row)} values, where line 1 has {len(self.names)} columns"
                if column is not None and column < len(row) and row[column].strip() == value.strip():
                    which = self.names[column]
                    return (
                        f"{place}: {value[:80]!r} in column {which!r} is no {kind}, which the first rows have: "
                        f"give types={{{which!r}: 'string'}}, or another"
                    )
        except UnicodeDecodeError:
            return f"{name}, lines {before} and following: it is no UTF-8"
        except csv.Error as error:
            told = str(error)
        return f"{name}, from line {line} on: {told}"

    def _infer(self) -> None:
        """The types of the first lines are the types of all: those that are given aside."""
        import pyarrow as pa

        given = {name: kind for name, kind in self._context.types.items() if name in self.names}
        kinds = {name: pa.type_for_alias(kind) if isinstance(kind, str) else kind for name, kind in given.items()}
        missing = [name for name in self.chosen if name not in kinds]
        block = self._block(self._start, min(FIRST, self._most), self._header_lines + 1) if missing else bytearray()
        found = self._parse(block, kinds, self._header_lines + 1).schema if block else None
        fields = []
        for name in self.chosen:
            kind = kinds.get(name) or (found.field(name).type if found else pa.null())
            fields.append(pa.field(name, pa.string() if pa.types.is_null(kind) else kind))
        self._schema = pa.schema(fields)

    def chunks(self, row: int, place: dict[str, Any]) -> Iterator[Chunk]:
        import pyarrow as pa

        at, line = place.get("byte", self._start), place.get("line", self._header_lines + 1)
        done = place.get("first", 0)
        if "schema" in place:
            self._schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(place["schema"])))
        else:
            self._infer()
        self._context.types.update((field.name, field.type) for field in self._schema)  # the next file has the same
        types = {field.name: field.type for field in self._schema}
        schema = base64.b64encode(self._schema.serialize()).decode()
        size = min(BLOCK, max(self._room // 12, 1), self._most)
        if at > os.fstat(self._fd).st_size:
            raise OSError(f"{self._context.name} has become shorter: the position to go on from is byte {at}")
        while block := self._block(at, size, line):
            table = self._parse(block, types, line)
            here = {"byte": at, "line": line, "first": done, "schema": schema}
            at += len(block)
            line += block.count(b"\n")
            del block
            rows = table.num_rows
            if done + rows > row and rows:
                yield Chunk(table, done, rows, here)
            done += rows
            del table


def _of_conversion(told: str) -> tuple[str, int | None, str]:
    """The value, the column's number and the type, of pyarrow's message."""
    form = r"In CSV column #(\d+): .*?CSV conversion error to ([^:]+(?:\[[^]]*\])?): invalid value '(.*)'"
    found = re.search(form, told, re.S)
    return (found[3], int(found[1]), found[2]) if found else ("", None, "")


def _last_line_end(block: bytearray, upto: int | None = None, first: bool = False) -> int:
    """Behind the last line end (or the first) that is in no quotes, before `upto`; 0: there is none."""
    upto = len(block) if upto is None else upto
    if first:
        at = block.find(b"\n", 0, upto)
        while at >= 0 and block.count(b'"', 0, at) % 2:
            at = block.find(b"\n", at + 1, upto)
        return at + 1
    at = block.rfind(b"\n", 0, upto)
    if at < 0:
        return 0
    quotes = block.count(b'"', 0, at)
    while at >= 0 and quotes % 2:
        before = block.rfind(b"\n", 0, at)
        quotes -= block.count(b'"', max(before, 0), at)
        at = before
    return at + 1


def open_csv(path: str, context: Context) -> Reader:
    return _Csv(path, context)
