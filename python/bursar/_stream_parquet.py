"""Streams of Parquet: how many rows are read at once is worked out from the headers of their pages, before they are
read.

A row group may be as large as the file: it is read page by page. What a window of rows can take is known from the
file's metadata, and for values of varying length from the sizes of the pages that it lies in, or from the longest value
of the column's dictionary; where that is coarse, from the lengths of the values in large pages."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ._stream_convert import has_object_strings
from ._stream_memory import Chunk, Context, Reader, release

if TYPE_CHECKING:
    import numpy as np

BUFFER = 1 << 16  # of a column's stream
LARGE = 4 << 20  # of a page: what allocators keep of such when they are freed is worth giving back
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
DICTIONARY = (2, 8)  # encodings of a page: PLAIN_DICTIONARY, RLE_DICTIONARY
PREFIXED = 7  # DELTA_BYTE_ARRAY: a value repeats the beginning of the one before
AT_ONCE = 1 << 16  # windows that are looked at together
GROWTH = 3  # times more, while a column is read: its memory grows by doubling, into another place
OBJECTS, TEXT, NUMBERS = 5, 2, 1  # what a window is made to, in times of its own bytes, at most
UNKNOWN = 4  # times the average, of lists: how long each is, no header says


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _thrift(data: bytes, at: int, deep: int = 0) -> tuple[dict[int, Any], int]:
    """A struct in Thrift's compact protocol: integers and structs by their field's number, the rest skipped. Raises
    IndexError where it ends too early, ValueError where it is none."""
    fields: dict[int, Any] = {}
    number = 0
    while head := data[at]:
        at += 1
        kind = head & 15
        if head >> 4:
            number += head >> 4
        else:
            value, at = _varint(data, at)
            number = value >> 1 ^ -(value & 1)
        if kind in (4, 5, 6, 8):  # integers and bytes, which nearly all are
            value = data[at]
            at += 1
            if value > 127:
                value, at = _varint(data, at - 1)
            if kind == 8:
                at += value
            else:
                fields[number] = value >> 1 ^ -(value & 1)
        elif kind == 12 and deep < 8:
            fields[number], at = _thrift(data, at, deep + 1)
        elif kind == 3:
            at += 1
        elif kind == 7:
            at += 8
        elif kind not in (1, 2):  # true and false have no more bytes
            raise ValueError(f"the header of a page has a field of type {kind}")
    return fields, at + 1


class _Page(NamedTuple):
    at: int  # where what it stores begins, behind its header
    stored: int
    size: int  # uncompressed
    rows: int
    values: int
    encoding: int
    levels: int  # bytes before the values that are not compressed; -1: a page of the first version
    packed: bool


class _Pages:
    """The pages of one column in one row group, and what windows of rows take that are read of them."""

    def __init__(self, column: int, name: str, width: int | None, repeated: bool, chunk: Any) -> None:
        self.column, self.name, self.width, self.repeated = column, name, width, repeated
        self.total, self.codec = chunk.total_uncompressed_size, chunk.compression
        self.dictionary = self.entries = self.stored = 0
        self.longest = width or 0
        self.pages: list[_Page] = []
        self.measured: dict[int, list[int]] = {}  # of pages that were looked into: see _windows()
        self.known = True  # which rows a page has

    def walk(self, fd: int, chunk: Any) -> None:
        """Reads the headers. Raises OSError, ValueError."""
        at = chunk.data_page_offset
        if chunk.dictionary_page_offset:
            at = min(at, chunk.dictionary_page_offset)
        end = at + chunk.total_compressed_size
        values = 0
        while at < end and values < chunk.num_values:
            header, size = self._header(fd, at, end)
            stored, whole = header[3], header[2]
            if stored < 0 or whole < 0 or at + size + stored > end:
                raise ValueError(f"a page at byte {at} goes beyond its column")
            if header[1] == 2:
                self.dictionary, self.entries, self.stored = whole, header[7][1], stored
                if self.width is None:
                    self.longest = max(whole - 4 * self.entries, 0)
            elif header[1] in (0, 3):
                second = header[1] == 3  # since the second version pages begin with a row, and say how many they have
                about = header[8] if second else header[5]
                self.known = self.known and (second or not self.repeated)
                rows, encoding, levels = (about[3], about[4], about.get(5, 0) + about.get(6, 0)) if second else (
                    about[1], about[2], -1)  # fmt: skip
                packed = about.get(7, True)
                self.pages.append(_Page(at + size, stored, whole, rows, about[1], encoding, levels, packed))
                values += about[1]
            at += size + stored

    def _header(self, fd: int, at: int, end: int) -> tuple[dict[int, Any], int]:
        size = 512
        while True:
            data = os.pread(fd, min(size, end - at), at)
            try:
                return _thrift(data, 0)
            except IndexError:
                if len(data) < size or size > 1 << 24:
                    raise ValueError(f"the header of a page at byte {at} is cut") from None
            size *= 8

    @property
    def largest(self) -> int:
        return max((page.size for page in self.pages), default=0)

    @property
    def kept(self) -> int:
        """What reading it keeps besides rows: a page as it is stored and as it is, and the dictionary."""
        stored = max((page.stored for page in self.pages), default=0)
        return max(self.stored + self.dictionary + self.words, self.words + self.largest + stored)

    @property
    def words(self) -> int:
        """Of that, the dictionary as it is kept."""
        return self.dictionary + (16 * self.entries if self.width is None else 0)

    @property
    def reserved(self) -> int:
        """What is reserved for values before they are read: as much as a plain page has."""
        if self.width is not None:
            return 0
        return max((page.size for page in self.pages if page.encoding not in DICTIONARY), default=0)

    def look_into(self, fd: int, over: int, most: int, pool: Any) -> None:
        """The lengths of values in pages that are larger than `over`, and can be had in this room."""
        for number, page in enumerate(self.pages):
            need = page.size + page.stored + 24 * page.values
            if page.encoding == 0 and over < page.size and need <= most:
                windows = self._look_into(fd, page, pool)
                if page.size >= LARGE:
                    release()
                if windows is not None:
                    self.measured[number] = windows

    def _look_into(self, fd: int, page: _Page, pool: Any) -> list[int] | None:
        import pyarrow as pa

        data: Any = memoryview(os.pread(fd, page.stored, page.at))[max(page.levels, 0) :]
        try:
            if page.packed and self.codec != "UNCOMPRESSED":
                codec = pa.Codec({"LZ4": "lz4_raw"}.get(self.codec, self.codec.lower()))
                data = codec.decompress(data, page.size - max(page.levels, 0), memory_pool=pool)
            return _windows(memoryview(data))
        except (pa.ArrowException, OSError, ValueError, struct.error):
            return None  # then a window takes as much as the page has

    def prepare(self, step: int) -> None:
        """For cost() of windows of so many rows."""
        import numpy as np

        rows = np.array([page.rows for page in self.pages], np.int64)
        values = np.array([page.values for page in self.pages], np.int64)
        most = np.array([page.size for page in self.pages], np.int64)
        kinds = np.array([page.encoding for page in self.pages], np.int64)
        for number, sums in self.measured.items():
            most[number] = sums[min((step - 1).bit_length(), len(sums) - 1)]
        coded = np.isin(kinds, DICTIONARY)
        each = np.where(coded, self.longest, np.where(kinds == PREFIXED, most, 0))
        if self.repeated:
            whole = np.where(each > 0, each * values, most) + 8 * values
            each, most = np.zeros_like(each), whole
            if self.known:
                most = np.minimum(whole, step * UNKNOWN * whole // np.maximum(rows, 1))
        self.bounds = np.concatenate([[0], np.cumsum(rows)])
        self.plain = np.concatenate([[0], np.cumsum(np.where(each > 0, 0, most))])
        self.by_row = np.concatenate([[0], np.cumsum(each * rows)])

    def cost(self, first: np.ndarray[Any, Any], end: np.ndarray[Any, Any], rows: int) -> np.ndarray[Any, Any]:
        """What windows of rows, of a row group of so many, can take at most."""
        import numpy as np

        count = end - first
        if self.width is not None and not self.repeated:
            fixed: np.ndarray[Any, Any] = count * self.width
            return fixed
        if not self.known:
            whole = float(self.plain[-1])
            most: np.ndarray[Any, Any] = np.minimum(count * (whole / rows) * UNKNOWN, whole) + 8 * count
            return most
        low = np.searchsorted(self.bounds, first, "right") - 1
        high = np.searchsorted(self.bounds, end, "left")
        until, before = np.interp(end, self.bounds, self.by_row), np.interp(first, self.bounds, self.by_row)
        found: np.ndarray[Any, Any] = until - before + self.plain[high] - self.plain[low] + 8 * count
        return found


def _windows(data: memoryview) -> list[int]:
    """The most bytes of 1, 2, 4... values in a row, to the whole, of a plain page of byte arrays. Raises struct.error
    where one is cut. The levels that a page of the first version begins with have their length before them, as a value
    has: that they are counted as one does no harm."""
    import numpy as np

    unpack = struct.Struct("<I").unpack_from

    def lengths() -> Iterator[int]:
        at, end = 0, len(data)
        while at < end:
            size = unpack(data, at)[0]
            at += 4 + size
            yield size

    sums = np.fromiter(lengths(), np.int64)
    np.cumsum(sums, out=sums)
    found, count = [], 1
    while count < len(sums):
        found.append(max(int(sums[count - 1]), int((sums[count:] - sums[:-count]).max())))
        count *= 2
    return [*found, int(sums[-1]) if len(sums) else 0]


class _Parquet(Reader):
    def __init__(self, path: str, context: Context) -> None:
        import pyarrow as pa

        self._context, self._path, self._buffer = context, path, BUFFER
        self._release = False
        self._typical = 0.0  # bytes of a window
        self._before = 0  # bytes of the last batch of the row group before, and what it was made to
        with contextlib.ExitStack() as stack:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, self._fd)
            self._pool = context.memory.pool
            try:
                self._reader = self._opened(None)
            except (pa.ArrowException, OSError) as error:
                raise ValueError(f"{context.name} cannot be read as Parquet: {error}") from error
            stack.callback(lambda: self._reader.close())
            self._closing = stack.pop_all()
        self._metadata = self._reader.metadata
        schema = self._reader.schema_arrow
        self.total = self._metadata.num_rows
        self._names = context.choose(schema.names)
        leaves, self._leaf, self._simple = 0, [], {}
        for field in schema:
            count = _leaves(field.type)
            if field.name in self._names:
                self._leaf += [(leaf, field.name) for leaf in range(leaves, leaves + count)]
                if count == 1:
                    self._simple[field.name] = leaves
            leaves += count
        # The metadata is known, and with it how many streams there will be.
        self._buffer = min(BUFFER, max(context.memory.budget // (16 * max(len(self._leaf), 1)) // 4096, 1) * 4096)
        if self._buffer < BUFFER:
            self._reader.close()
            self._reader = self._opened(None)
        self._groups = [self._metadata.row_group(group).num_rows for group in range(self._metadata.num_row_groups)]

    def close(self) -> None:
        self._closing.close()

    def _opened(self, dictionaries: list[str] | None) -> Any:
        from pyarrow import _parquet

        reader = _parquet.ParquetReader(memory_pool=self._pool)  # ParquetFile has no way to say whose memory it takes
        reader.open(self._path, buffer_size=self._buffer, pre_buffer=False, read_dictionary=dictionaries)
        return reader

    def _width(self, leaf: int) -> int | None:
        about = self._metadata.schema.column(leaf)
        more = 4 if about.max_definition_level else 1  # levels, and a bit whether it is null
        if str(about.logical_type.type) == "DECIMAL":
            return 32 + more
        if about.physical_type == "FIXED_LEN_BYTE_ARRAY":
            return int(about.length) + more
        width = WIDTHS.get(about.physical_type)
        return None if width is None else width + more

    def _plan(self, group: int) -> int:
        """How many rows of a row group are read at once. Raises MemoryError where one cannot be."""
        context, about = self._context, self._metadata.row_group(group)
        columns = []
        for leaf, name in self._leaf:
            chunk = about.column(leaf)
            repeated = self._metadata.schema.column(leaf).max_repetition_level > 0
            pages = _Pages(leaf, name, self._width(leaf), repeated, chunk)
            try:
                pages.walk(self._fd, chunk)
            except (ValueError, KeyError, TypeError, OSError) as error:
                raise ValueError(f"{context.name}, row group {group}, column {name!r}: {error}") from error
            columns.append(pages)
        kept = sum(pages.kept + self._buffer for pages in columns)
        reserved = max(pages.reserved for pages in columns) if columns else 0
        room = context.memory.budget - kept - reserved
        if room <= 0:
            worst = max(columns, key=lambda pages: pages.kept)
            raise context.too_large(
                f"row group {group}: a page of each column, the largest in column {worst.name!r} with "
                f"{max(worst.largest, worst.dictionary)} bytes,", kept + reserved, 2 * (kept + reserved),
            )  # fmt: skip
        step = self._fit(group, columns, room)
        # pyarrow takes pages from the process's pool, whatever one it is given.
        context.memory.kept = kept - sum(pages.words for pages in columns)
        self._release = max((pages.largest for pages in columns), default=0) >= LARGE
        return step

    def _times(self, columns: list[_Pages]) -> int:
        if self._context.as_ == "arrow":
            return 1 if self._context.where is not None else 0
        if all(pages.width is not None for pages in columns):
            return NUMBERS
        return TEXT if self._context.as_ == "pandas" and not has_object_strings() else OBJECTS

    def _fit(self, group: int, columns: list[_Pages], room: int) -> int:
        context, rows = self._context, self._groups[group]
        average: float = sum(pages.total / rows if pages.width is None else pages.width for pages in columns)
        step: int = max(1, min(context.rows or rows, rows, int(context.target / max(average, 1))))
        looked = shrunk = False
        while True:
            need, worst = self._need(rows, step, columns, room)
            large = self._typical > 2 * context.target and step > 1 and not shrunk
            if need <= room and not large:
                return step
            if not looked and any(pages.width is None for pages in columns):
                looked = True  # what is known from the headers alone is coarse
                for pages in columns:
                    if pages.width is None and not pages.repeated:
                        self._look(group, pages, room // 64)
            elif need <= room:
                shrunk, step = True, max(1, int(step * context.target / self._typical))
            elif step > 1:
                step = int(max(1, min(step // 2, step * room // need)))
            else:
                beside = context.memory.budget - room
                whole, _ = self._need(rows, 1, columns, 1 << 62, 1 << 62)
                raise context.too_large(f"row group {group}, row {worst} of it: with the pages that it is in,",
                                        beside + need, beside + 2 * whole)  # fmt: skip

    def _need(
        self, rows: int, step: int, columns: list[_Pages], room: int, share: int | None = None
    ) -> tuple[int, int]:
        """What the largest window takes, and its row; or one that is too large already."""
        import numpy as np

        need, worst, times = 0, 0, self._times(columns)
        every = 0.0
        share = share or self._context.share
        for pages in columns:
            pages.prepare(step)
        for start in range(0, rows, step * AT_ONCE):
            first = np.arange(start, min(rows, start + step * AT_ONCE), step)
            end = np.minimum(first + step, rows)
            cost = np.zeros(len(first))
            single = np.zeros(len(first))
            for pages in columns:
                one = pages.cost(first, end, rows)
                cost += one
                np.maximum(single, one, out=single)
            # With what it is made to; and as much again, or more, is what the caller has.
            made = cost + np.minimum(times * cost, share)
            total = made + GROWTH * single + np.maximum(made, self._before)
            every += float(cost.sum())
            at = int(total.argmax())
            if total[at] > need:
                need, worst = int(total[at]), int(first[at])
            if need > room:
                break
        self._typical = every * step / rows
        return need, worst

    def _look(self, group: int, pages: _Pages, over: int) -> None:
        """How long values really are: the longest of the dictionary, and those in large pages."""
        import pyarrow.compute as pc

        context = self._context
        most = context.memory.budget - self._before
        if pages.longest and 8 * pages.dictionary < most:
            context.memory.kept = pages.kept
            reader = self._opened([self._metadata.schema.column(pages.column).path])
            try:
                one = {"row_groups": [group], "column_indices": [pages.column], "use_threads": False}
                for batch in reader.iter_batches(1, **one):
                    values = getattr(batch.column(0), "dictionary", None)
                    if values is not None and len(values):
                        pages.longest = max(pc.max(pc.binary_length(values)).as_py(), 1)
                    break
                context.memory.look()
            finally:
                reader.close()
                context.memory.kept = 0
        pages.look_into(self._fd, over, most, self._pool)
        context.memory.look()

    def chunks(self, row: int, place: dict[str, Any]) -> Iterator[Chunk]:
        import pyarrow as pa

        start, context = 0, self._context
        indices = [leaf for leaf, _ in self._leaf]
        for group, rows in enumerate(self._groups):
            if start + rows > row and rows and self._may_match(group):
                step = self._plan(group)
                at = start
                try:
                    options = {"row_groups": [group], "column_indices": indices, "use_threads": False}
                    for batch in self._reader.iter_batches(step, **options):
                        count = batch.num_rows
                        context.memory.look()
                        if self._release:
                            pa.default_memory_pool().release_unused()
                            release()
                        self._before = batch.nbytes + (context.target if context.as_ != "arrow" else 0)
                        if at + count > row:
                            yield Chunk(batch.select(self._names), at, count, {})
                        at += count
                        del batch
                except (pa.ArrowException, OSError) as error:
                    raise OSError(f"{self._context.name}, row group {group}, row {at}: {error}") from error
                if at < start + rows:
                    raise OSError(f"{self._context.name}, row group {group}: it ends after {at - start} rows of {rows}")
                context.memory.kept = 0
            start += rows

    def _may_match(self, group: int) -> bool:
        """Whether a row of it can be chosen, by the file's statistics."""
        if self._context.where is None:
            return True
        about = self._metadata.row_group(group)

        def may(name: str, operator: str, value: Any) -> bool:
            if name not in self._simple:
                return True
            known = about.column(self._simple[name]).statistics
            if known is None or not known.has_min_max:
                return True
            least, most = known.min, known.max
            try:
                if operator in ("in", "=", "=="):
                    values = value if operator == "in" else [value]
                    return any(least <= each <= most for each in values)
                return not (
                    (operator == "<" and least >= value) or (operator == "<=" and least > value)
                    or (operator == ">" and most <= value) or (operator == ">=" and most < value)
                )  # fmt: skip
            except TypeError:
                return True

        return any(all(may(*each) for each in all_of) for all_of in self._context.where)


def _leaves(kind: Any) -> int:
    """How many columns of Parquet a type of Arrow's has."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return _leaves(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return 1
    return sum(_leaves(kind.field(number).type) for number in range(kind.num_fields)) if kind.num_fields else 1


def open_parquet(path: str, context: Context) -> Reader:
    return _Parquet(path, context)
