"""Data larger than memory, in batches that stay within a budget."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._bursar import size_of
from ._scopes import wrap
from ._stream_convert import KINDS, Converter, where_of
from ._stream_memory import Buffers, Context, Memory, Reader

if TYPE_CHECKING:
    from typing_extensions import Self

# By the ends of their names.
FORMATS = {
    ".npy": "arrays.open_npy", ".npz": "arrays.open_npz", ".h5": "arrays.open_hdf5", ".hdf5": "arrays.open_hdf5",
    ".csv": "csv.open_csv", ".tsv": "csv.open_csv", ".parquet": "parquet.open_parquet", ".pq": "parquet.open_parquet",
    ".arrow": "arrow.open_arrow", ".arrows": "arrow.open_arrow", ".feather": "arrow.open_arrow",
    ".ipc": "arrow.open_arrow",
}  # fmt: skip
BATCH = 2 << 20  # bytes of a batch, unless rows= asks for more: what processors' caches hold goes fastest
PARTS = 4  # of the budget, one of which a batch may have


class Stream(Iterator[Any]):
    """Batches, one after the other. See `bursar.stream`.

    position: where the batch that was had last ends, as data that JSON can hold; `bursar.stream(..., start=position)`
        goes on behind it.
    rows: of the source, that were read so far, those that a filter left out included.
    held_bytes: what is charged to the stream now: buffers, what is read, batches as long as anybody has them.
    peak_bytes: the most that was. Batches that the caller keeps are in it. (Of the 257th stream of a process on, what
        was for a moment between batches only where it was more than an earlier one's.)"""

    def __init__(
        self, items: list[tuple[str, Any, str]], start: Any, options: dict[str, Any], memory: Memory, progress: bool
    ) -> None:
        self.position: dict[str, Any] = _position(start, items)
        self.rows = 0
        self._memory = memory
        self._steps = wrap(_steps, "stream")(items, self.position, options, memory, progress)

    @property
    def budget(self) -> int:
        """Bytes."""
        return self._memory.budget

    @property
    def held_bytes(self) -> int:
        return self._memory.look()

    @property
    def peak_bytes(self) -> int:
        return self._memory.peak

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        while True:
            rows, batch, self.position = next(self._steps)
            self.rows += rows
            if batch is not None:
                return batch

    def close(self) -> None:
        """Closes what the stream opened. So does its end, an error, and its being dropped."""
        self._steps.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<bursar.Stream: {self.rows} rows, {self.held_bytes} of {self.budget} bytes held>"


def _steps(
    items: list[tuple[str, Any, str]], start: dict[str, Any], options: dict[str, Any], memory: Memory, progress: bool
) -> Iterator[tuple[int, Any, dict[str, Any]]]:
    """All batches, each with the rows that it was made of and the position behind it. It refers to no Stream, so that
    one that is dropped ends at once."""
    buffers = Buffers(memory, options.pop("reuse"))
    bar = _bar() if progress else None
    columns: tuple[str, list[str]] | None = None
    try:
        for number in range(start["file"], len(items)):
            name, item, kind = items[number]
            context = Context(name=name, memory=memory, buffers=buffers, **options)
            if kind == "csv.open_csv" and name.endswith(".tsv"):
                context = context._replace(delimiter="\t")
            first: dict[str, Any] = start if number == start["file"] else {"row": 0, "place": {}}
            with contextlib.closing(_opened(kind, item, context)) as reader:
                if reader.total is not None and first["row"] > reader.total:
                    raise OSError(
                        f"{name} has {reader.total} rows now, and the position to go on from is row {first['row']}"
                    )
                if bar is not None and reader.total is not None:
                    bar.total = (bar.total or 0) + reader.total
                converter = Converter(context)
                for chunk in reader.chunks(first["row"], first["place"]):
                    columns = _same_columns(columns, name, chunk.data)
                    data, row, place = chunk.data, chunk.row, chunk.place
                    del chunk
                    if row < first["row"]:  # the chunk that the position lies in
                        data, row = _behind(data, first["row"] - row), first["row"]
                    for rows, batch in converter.batches(data, row):
                        row += rows
                        if bar is not None:
                            bar.update(rows)
                        if _length(batch) == 0:
                            batch = None
                        yield rows, batch, {"file": number, "name": name, "row": row, "place": place}
                        del batch
                    del data
    finally:
        if bar is not None:
            bar.close()


def _opened(kind: str, item: Any, context: Context) -> Reader:
    module, _, function = kind.partition(".")
    reader: Reader = getattr(import_module("._stream_" + module, __package__), function)(item, context)
    return reader


def _length(batch: Any) -> int:
    if isinstance(batch, dict):
        return min((len(each) for each in batch.values()), default=0)
    return int(batch.num_rows) if hasattr(batch, "num_rows") else len(batch)


def _behind(data: Any, rows: int) -> Any:
    """Without its first rows."""
    if isinstance(data, dict):
        return {name: array[rows:] for name, array in data.items()}
    return data.slice(rows) if hasattr(data, "schema") else data[rows:]


def _same_columns(before: tuple[str, list[str]] | None, name: str, data: Any) -> tuple[str, list[str]] | None:
    names = list(data) if isinstance(data, dict) else list(data.schema.names) if hasattr(data, "schema") else []
    if before is not None and before[1] != names:
        raise ValueError(f"{name} has the columns {names}, and {before[0]} before it {before[1]}: choose with columns=")
    return before or (name, names)


def _bar() -> Any:
    """tqdm's, where it is installed."""
    try:
        from tqdm.auto import tqdm  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    return tqdm(unit="rows", unit_scale=True)


def _position(start: Any, items: list[tuple[str, Any, str]]) -> dict[str, Any]:
    if start is None:
        return {"file": 0, "name": items[0][0], "row": 0, "place": {}}
    try:
        number, name, row, place = start["file"], start["name"], start["row"], start["place"]
        fits = isinstance(row, int) and row >= 0 and isinstance(place, dict) and 0 <= number < len(items)
    except (TypeError, KeyError):
        fits = False
    if not fits:
        raise ValueError(f"start={start!r} is no position in this source: give what a stream of it has as its position")
    if items[number][0] != name:
        raise ValueError(f"the position to go on from is in {name}, where the source has {items[number][0]} now")
    return {"file": number, "name": name, "row": row, "place": place}


def _items(source: Any) -> list[tuple[str, Any, str]]:
    """The parts of a source: their names, and who opens them."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        if not isinstance(path, str):
            raise TypeError(f"{path!r} is bytes: give the path as text")
        if not os.path.isdir(path):
            return [(path, path, _format(path))]
        names = sorted(name for name in os.listdir(path) if not name.startswith((".", "_")))
        if not names:
            raise ValueError(f"{path} has no files to stream")
        paths = [os.path.join(path, name) for name in names]
        return [(each, each, _format(each)) for each in paths]
    if isinstance(source, (list, tuple)) and source and all(isinstance(each, (str, os.PathLike)) for each in source):
        return [item for each in source for item in _items(each)]
    if isinstance(source, tuple) and len(source) in (2, 3) and hasattr(source[0], "cursor"):
        if not isinstance(source[1], str):
            raise TypeError("a query is text: give (connection, query) or (connection, query, parameters)")
        text = " ".join(source[1].split())
        return [(f"query {text if len(text) <= 60 else text[:57] + '...'!r}", source, "rows.open_query")]
    whole = any(hasattr(source, name) for name in ("schema", "iloc", "__array_interface__"))
    if whole and not hasattr(source, "read_next_batch"):  # a table or an array, not a reader of many
        source = [source]
    if not isinstance(source, Iterable) or isinstance(source, (bytes, bytearray, Mapping)):
        kind = type(source).__name__
        raise TypeError(f"a {kind} is no source: give a path, a list of paths, (connection, query) or an iterable")
    return [(f"the {type(source).__name__}", source, "rows.open_items")]


def _format(path: str) -> str:
    found = FORMATS.get(os.path.splitext(path)[1].lower())
    if found is None:
        os.stat(path)  # what is not there is told as such
        raise ValueError(f"{path}: its name does not say what it is; files to stream end in {', '.join(FORMATS)}")
    return found


def stream(
    source: Any,
    budget: int | str = "200 MiB",
    *,
    columns: Sequence[str] | None = None,
    where: Sequence[Any] | None = None,
    as_: str = "numpy",
    rows: int | None = None,
    reuse: bool = False,
    start: Any = None,
    progress: bool = False,
    types: Mapping[str, Any] | None = None,
    delimiter: str = ",",
) -> Stream:
    """Read data in batches: what the stream holds never passes the budget, whatever comes.

    source: a file (npy, npz, CSV, Parquet, Arrow, Feather, HDF5), a folder or list of such, (connection, query) or
        (connection, query, parameters) of a DB-API driver, or an iterable of batches or rows.
    budget: bytes, or text such as '200 MiB': buffers, what is read, the batch that is made, and the one that the caller
        still has. Batches before that one are the caller's.
    columns: their names, in the order that they are wanted in.  where: (column, operator, value), all of a list, or any
        of a list of lists, as pyarrow's filters: rows to read; row groups of Parquet that cannot have such are left.
    as_: 'numpy' (an array for npy, else a dict of arrays), 'pandas', 'arrow' (RecordBatch) or 'torch'.
    rows: a batch has no more than that; otherwise 1 or 2 MiB, where the budget has room.
    reuse: for numpy and torch: one batch's memory for all, so the batch before is overwritten.
    start: the position of an earlier stream of the same source.
    progress: a bar, where tqdm is installed.  types: of columns of CSV, SQL and rows, by name, where the first rows
        mislead.  delimiter: of CSV.

    MemoryError: a row, page or chunk that the budget has no room for, before it is read, with its place.  ValueError:
    what is no such file, ragged rows, unknown columns.  OSError: a file that was cut, a connection that was lost
    (ConnectionError)."""
    size = size_of(budget, "budget")
    if as_ not in KINDS:
        raise ValueError(f"as_={as_!r}: there are {', '.join(KINDS)}")
    if reuse and as_ not in ("numpy", "torch"):
        raise ValueError(f"reuse= is for numpy and torch: a batch of {as_} cannot be overwritten")
    if rows is not None and (not isinstance(rows, int) or rows < 1):
        raise ValueError(f"rows={rows!r} is no number of rows")
    if isinstance(columns, str):
        raise TypeError(f"columns={columns!r} is text: give a list of names")
    if columns is not None and len(set(columns)) != len(columns):
        raise ValueError("columns= has a name twice")
    items = _items(source)
    share = max(size // PARTS, 1)
    options = {
        "share": share, "target": share if rows is not None else min(share, BATCH), "rows": rows,
        "columns": None if columns is None else list(columns), "where": where_of(where), "as_": as_, "reuse": reuse,
        "types": dict(types or {}), "delimiter": delimiter,
    }  # fmt: skip
    return Stream(items, start, options, Memory(size), progress)
