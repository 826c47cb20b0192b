"""Streams of rows that others hand over: a database's cursor, an iterable. How large a row is, is known when it is
there; so no more are asked for at once than fit if each were a thousand times as large as any before."""

from __future__ import annotations

import base64
import contextlib
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ._stream_memory import Chunk, Context, Reader

HEADROOM = 1000
MOST = 10_000  # rows that are asked for at once
PARTS = 8  # of the budget; one of them for rows as Python's objects
DRIVERS = ("sqlite3", "psycopg", "psycopg2")  # those that are known, beside what DB-API says of all
_numbers = itertools.count(1)


class _Rows:
    """Gathers rows until they are a batch."""

    def __init__(self, context: Context, first: int, place: dict[str, Any]) -> None:
        self._context = context
        self.room = context.memory.budget // PARTS
        self.largest = self.held = 0
        self.row = first
        self.names: list[str] | None = None
        self._rows: list[Any] = []
        self._types: dict[str, Any] = dict(context.types)
        if "schema" in place:
            import pyarrow as pa

            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(place["schema"])))
            self._types.update((field.name, field.type) for field in schema)

    def fit(self) -> int:
        """How many more may be asked for, of a batch that is not full."""
        if not self.largest:
            return 1
        left = (self.room - self.held) // (HEADROOM * self.largest)
        if self._context.rows:
            left = min(left, self._context.rows - len(self._rows))
        return max(min(left, MOST), 1)

    def add(self, rows: list[Any]) -> None:
        for row in rows:
            size = 64 + 8 * len(row) + sum(map(sys.getsizeof, row))
            if size > self.room:
                number = self.row + len(self._rows)
                raise self._context.too_large(f"row {number}", size, PARTS * size + 1)
            self.largest = max(self.largest, size)
            self.held += size
        self._rows += rows
        self._context.memory.gathered = self.held
        self._context.memory.look()

    @property
    def is_full(self) -> bool:
        rows = self._context.rows
        return bool(self._rows) and (self.held >= self.room // 2 or bool(rows and len(self._rows) >= rows))

    def chunk(self) -> Chunk:
        """What has been gathered, as an Arrow batch."""
        import pyarrow as pa

        assert self.names is not None
        pool, columns, rows = self._context.memory.pool, {}, len(self._rows)
        wanted = self._context.choose(self.names)
        for number, name in enumerate(self.names):
            if name not in wanted:
                continue
            values = [row[number] for row in self._rows]
            kind = self._types.get(name)
            kind = pa.type_for_alias(kind) if isinstance(kind, str) else kind
            try:
                columns[name] = pa.array(values, kind, memory_pool=pool)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise ValueError(self._explain(name, values, kind, error)) from error
            if not pa.types.is_null(columns[name].type):
                self._types[name] = columns[name].type
        schema = pa.schema([pa.field(name, self._types[name]) for name in columns if name in self._types])
        place = {"schema": base64.b64encode(schema.serialize()).decode()}
        made = Chunk(pa.RecordBatch.from_pydict({name: columns[name] for name in wanted}), self.row, rows, place)
        self.row += rows
        self._context.memory.look()
        self._rows, self.held, self._context.memory.gathered = [], 0, 0
        return made

    def _explain(self, name: str, values: list[Any], kind: Any, error: Exception) -> str:
        import pyarrow as pa

        for number, value in enumerate(values):
            try:
                pa.array([value], kind)
            except Exception as one:
                told = str(one).partition("\n")[0]
                hint = f": give types={{{name!r}: 'string'}}, or another" if kind is not None else ""
                return (f"{self._context.name}, row {self.row + number}, column {name!r}: {told}"
                        + (f"; the rows before have {kind}{hint}" if kind is not None else ""))  # fmt: skip
        return f"{self._context.name}, rows from {self.row} on, column {name!r}: {error}"


class _Query(Reader):
    """Of a DB-API connection, which stays the caller's."""

    def __init__(self, source: tuple[Any, ...], context: Context) -> None:
        connection, query, *parameters = source
        self._context, self._connection = context, connection
        roots = [kind.__module__.partition(".")[0] for kind in type(connection).__mro__]  # it may be of a derived class
        self._driver = next((root for root in roots if root in DRIVERS), roots[0])
        self._errors = _errors(self._driver)
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            if self._driver.startswith("psycopg"):
                # A cursor of the server's: the driver's own would fetch all rows at once. It lives in a transaction.
                if connection.autocommit and self._driver == "psycopg":
                    stack.enter_context(connection.transaction())
                self._cursor = connection.cursor(name=f"bursar_stream_{next(_numbers)}")
            else:
                self._cursor = connection.cursor()
            stack.callback(self._close_cursor)
            self._cursor.execute(query, *parameters)
            self._closing = stack.pop_all()

    def _close_cursor(self) -> None:
        with contextlib.suppress(*self._errors):  # a connection that is lost has closed it
            self._cursor.close()

    def close(self) -> None:
        with contextlib.suppress(*self._errors):
            self._closing.close()

    def chunks(self, row: int, place: dict[str, Any]) -> Iterator[Chunk]:
        rows = _Rows(self._context, row, place)
        self._skip(row)
        while True:
            more = self._gather(rows)
            if rows.is_full or rows.held and not more:
                yield rows.chunk()
            elif not more:
                return

    def _gather(self, rows: _Rows) -> bool:
        """Some rows more. False: there are none."""
        if self._driver != "sqlite3":
            found = self._guarded(lambda: self._cursor.fetchmany(rows.fit()), rows.row)
            self._name(rows)
            rows.add(found)
            return bool(found)
        # SQLite makes one row after the other, and refuses a value that is longer than this before it makes a copy.
        with self._limited(rows.room):
            while not rows.is_full:
                row = self._guarded(self._cursor.fetchone, rows.row)
                if row is None:
                    return False
                self._name(rows)
                rows.add([row])
        return True

    def _name(self, rows: _Rows) -> None:
        if rows.names is None and self._cursor.description:
            rows.names = _distinct(column[0] for column in self._cursor.description)

    @contextlib.contextmanager
    def _limited(self, size: int) -> Iterator[None]:
        if not hasattr(self._connection, "setlimit"):  # before Python 3.11
            yield
            return
        import sqlite3

        limit = getattr(sqlite3, "SQLITE_LIMIT_LENGTH")  # noqa: B009 (mypy looks at Python 3.10)
        before = self._connection.setlimit(limit, min(size, self._connection.getlimit(limit)))
        try:
            yield
        finally:
            self._connection.setlimit(limit, before)

    def _skip(self, count: int) -> None:
        if count and self._driver.startswith("psycopg"):
            self._guarded(lambda: self._cursor.scroll(count), 0)
            return
        for number in range(count):
            if self._guarded(self._cursor.fetchone, number) is None:
                name = self._context.name
                raise OSError(f"{name} has {number} rows now, and the position to go on from is row {count}")

    def _guarded(self, step: Callable[[], Any], at: int) -> Any:
        try:
            return step()
        except self._errors as error:
            told = str(error).strip().partition("\n")[0]
            if "too big" in told:
                most = self._context.memory.budget // PARTS
                raise self._context.too_large(f"a value behind row {at}", most) from error
            raise ConnectionError(f"{self._context.name}: the database failed behind row {at}: {told}") from error


class _Items(Reader):
    """Of an iterable: whole batches, of any kind, or rows."""

    def __init__(self, source: Iterable[Any], context: Context) -> None:
        self._source, self._context = source, context

    def chunks(self, row: int, place: dict[str, Any]) -> Iterator[Chunk]:
        rows = _Rows(self._context, 0, place)
        start = 0
        for item in self._source:
            whole = _whole(item)
            if whole is None:
                names, values = _row(item)
                if rows.names is not None and names != rows.names:
                    told = f"it has {names}, and those before {rows.names}"
                    raise ValueError(f"{self._context.name}, row {start}: {told}")
                rows.names = names
                start += 1
                if start <= row:
                    continue
                rows.row = max(rows.row, row)
                rows.add([values])
                if rows.is_full:
                    yield rows.chunk()
                continue
            if rows.held:
                yield rows.chunk()
            del item
            for part in self._parts(whole, start, row):
                yield part
                del part
            start += _length(whole)
            del whole
        if rows.held:
            yield rows.chunk()
        if start < row:
            raise OSError(f"{self._context.name} has {start} rows now, and the position to go on from is row {row}")

    def _parts(self, whole: Any, start: int, row: int) -> Iterator[Chunk]:
        """Its rows, as many at once as fit: what is there already is the caller's, what is made of it is not."""
        context, length = self._context, _length(whole)
        at = max(row - start, 0)
        if hasattr(whole, "schema"):
            if at < length:
                whole = whole.select(context.choose(whole.schema.names))
                yield Chunk(whole, start, length, {})
            return
        frame = hasattr(whole, "iloc")
        if frame:
            size = int(whole.memory_usage(deep=True).sum())
            whole = whole[context.choose(whole.columns)]
        elif isinstance(whole, dict):
            whole = {name: whole[name] for name in context.choose(whole)}
            size = sum(array.nbytes for array in whole.values())
        else:
            size = whole.nbytes
        if context.where is not None and not frame:
            raise ValueError(f"{context.name} has arrays: rows are not filtered there")
        step = max(1, min(context.rows or length, int(context.target * length / max(size, 1))))
        while at < length:
            end = min(at + step, length)
            if frame:
                import pyarrow as pa

                part: Any = pa.RecordBatch.from_pandas(whole.iloc[at:end], preserve_index=False, nthreads=1)
            elif isinstance(whole, dict):
                part = {name: array[at:end] for name, array in whole.items()}
            else:
                part = whole[at:end]
            yield Chunk(part, start + at, end - at, {})
            del part
            at = end


def _whole(item: Any) -> Any:
    """An item that has rows, as an Arrow batch, a frame, an array or arrays by name; None: it is a row."""
    if hasattr(item, "schema") and hasattr(item, "num_rows") or hasattr(item, "iloc") and hasattr(item, "columns"):
        return item
    if hasattr(item, "detach") and hasattr(item, "numpy"):
        item = item.detach().numpy()
    if hasattr(item, "__array_interface__") and item.ndim:
        return item
    if isinstance(item, dict) and item and all(getattr(value, "ndim", 0) != 0 for value in item.values()):
        lengths = {len(value) for value in item.values()}
        if len(lengths) > 1:
            raise ValueError(f"arrays of one batch have different lengths: {sorted(lengths)}")
        return item
    return None


def _length(whole: Any) -> int:
    if hasattr(whole, "num_rows"):
        return int(whole.num_rows)
    return len(next(iter(whole.values())) if isinstance(whole, dict) else whole)


def _row(item: Any) -> tuple[list[str], tuple[Any, ...]]:
    if isinstance(item, dict):
        return [str(name) for name in item], tuple(item.values())
    if isinstance(item, (tuple, list)):
        return [str(name) for name in getattr(item, "_fields", range(len(item)))], tuple(item)
    return ["0"], (item,)


def _distinct(names: Iterable[str]) -> list[str]:
    """Of a query's columns, two of which may be called alike."""
    found: list[str] = []
    for name in names:
        number, one = 1, name
        while one in found:
            number += 1
            one = f"{name}_{number}"
        found.append(one)
    return found


def _errors(driver: str) -> tuple[type[BaseException], ...]:
    module = sys.modules.get(driver)
    error = getattr(module, "Error", None)
    return (error,) if isinstance(error, type) and issubclass(error, BaseException) else (Exception,)


def open_query(source: Any, context: Context) -> Reader:
    return _Query(source, context)


def open_items(source: Any, context: Context) -> Reader:
    return _Items(source, context)
