"""A model over data larger than memory: batches in, predictions out as they are made."""

from __future__ import annotations

import abc
import io
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ._bursar import Saving, size_of
from ._stream import stream

if TYPE_CHECKING:
    import numpy as np

HEADER = 256  # of a .npy file, written last: it says how many rows there are
STREAM = 0.625  # of the budget: what the stream has; the rest is the matrix that is made of a batch, and predictions


def score(
    model: Any,
    source: Any,
    sink: str | os.PathLike[str] | Callable[[Any], object],
    *,
    budget: int | str = "200 MiB",
    method: str = "predict",
    columns: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    as_: str = "numpy",
    **options: Any,
) -> int:
    """Run a model over a stream, and write what it predicts as it goes. Returns the number of rows.

    model: what has the method, or can be called.  source, budget, options: as of `bursar.stream`; the memory that the
        model itself takes for a batch is not in the budget: rows= keeps batches small.
    sink: a path that ends in .npy, .csv, .parquet, .arrow or .feather: the file is there whole when score() has
        returned, or as it was before; or a function, which is called with each batch of predictions.
    columns: those that the model is given, in its order; of tables as NumPy or torch they become a matrix.
    keep: columns of the source that are written beside the predictions (not to .npy).

    Raises what `bursar.stream` does, what the model does, ValueError where predictions do not fit the sink."""
    keep = list(keep)
    run = _method(model, method)
    write, path = None, None
    if not callable(sink):
        path = os.fspath(sink)
        write = WRITERS.get(os.path.splitext(path)[1].lower())
        if write is None:
            raise ValueError(f"{path}: predictions go to files that end in {', '.join(WRITERS)}, or to a function")
        if keep and write is _Npy:
            raise ValueError(f"{path}: a .npy file has one array: write to a table where columns are kept")
    elif keep:
        raise ValueError("keep= goes with a table: a function that is the sink gets the predictions alone")
    wanted = None if columns is None else list(dict.fromkeys([*columns, *keep]))
    done = 0
    with stream(source, max(int(size_of(budget, "budget") * STREAM), 1), columns=wanted, as_=as_, **options) as batches:
        if write is None:
            assert callable(sink)
            for batch in batches:
                sink(run(_input(batch, columns, keep)))
            return batches.rows
        assert path is not None
        with Saving(path) as saving:
            writer = write(path, saving)
            try:
                for batch in batches:
                    found = run(_input(batch, columns, keep))
                    if len(found) != _rows(batch):
                        raise ValueError(f"the model made {len(found)} predictions of {_rows(batch)} rows")
                    writer.write({name: _get(batch, name) for name in keep}, found)
                    done += len(found)
                    del batch, found
                writer.end()
                saving.commit()
            finally:
                writer.leave()
    return done


def _method(model: Any, name: str) -> Callable[[Any], Any]:
    found = getattr(model, name, None)
    if found is None and name == "predict" and callable(model):
        found = model
    if not callable(found):
        raise TypeError(f"a {type(model).__name__} has no {name}(): give method=, or a function")
    return found  # type: ignore[no-any-return]


def _rows(batch: Any) -> int:
    if isinstance(batch, dict):
        return len(next(iter(batch.values())))
    return int(batch.num_rows) if hasattr(batch, "num_rows") else len(batch)


def _get(batch: Any, name: str) -> Any:
    return batch.column(name) if hasattr(batch, "num_rows") else batch[name]


def _input(batch: Any, columns: Sequence[str] | None, keep: Sequence[str]) -> Any:
    """What the model is given: without the columns that are only kept."""
    if isinstance(batch, dict):
        arrays = [batch[name] for name in (columns or [name for name in batch if name not in keep])]
        if len(arrays) == 1 and arrays[0].ndim > 1:
            return arrays[0]
        if hasattr(arrays[0], "detach"):
            import torch

            return torch.column_stack(arrays)
        import numpy as np

        for name, array in batch.items():
            if array.dtype.hasobject and name not in keep:
                raise TypeError(f"column {name!r} has no numbers: choose others with columns=, or give as_='pandas'")
        return np.column_stack(arrays)
    if not keep:
        return batch
    if hasattr(batch, "num_rows"):
        return batch.select([name for name in (columns or batch.schema.names) if columns or name not in keep])
    return batch[list(columns)] if columns else batch.drop(columns=keep)


# --- sinks ----------------------------------------------------------------------------------------------------------


def _array(found: Any) -> np.ndarray[Any, Any]:
    import numpy as np

    array: np.ndarray[Any, Any] = np.asarray(found.detach().cpu() if hasattr(found, "detach") else found)
    return array


class _Npy:
    """Rows behind a header that is written when their number is known."""

    def __init__(self, path: str, saving: Saving) -> None:
        self._path, self._saving = path, saving
        self._dtype: Any = None
        self._shape: tuple[int, ...] = ()
        self._rows = 0

    def write(self, kept: dict[str, Any], found: Any) -> None:
        array = _array(found)
        if self._dtype is None:
            if array.dtype.kind in "OUS":
                raise ValueError(f"{self._path}: a .npy file has numbers, predictions are {array.dtype}: write a table")
            self._dtype, self._shape = array.dtype, array.shape[1:]
            self._saving.write(bytes(HEADER))
        if array.dtype != self._dtype or array.shape[1:] != self._shape:
            raise ValueError(
                f"{self._path}: predictions were {self._dtype} {self._shape} a row, and from row {self._rows} on are "
                f"{array.dtype} {array.shape[1:]}"
            )
        if array.nbytes:
            flat: Any = array.reshape(-1).view("u1")
            self._saving.write(flat)
        self._rows += len(array)

    def end(self) -> None:
        import numpy as np

        dtype = np.dtype("f8") if self._dtype is None else self._dtype
        fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False,
                  "shape": (self._rows, *self._shape)}  # fmt: skip
        text = repr(fields).encode("latin-1")
        header = b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + text.ljust(HEADER - 11) + b"\n"
        if len(header) != HEADER:
            raise ValueError(f"{self._path}: predictions of the type {dtype} have no place in a .npy header")
        if self._dtype is None:
            self._saving.write(header)
        else:
            self._saving.overwrite(header)

    def leave(self) -> None:
        """Nothing is open here."""


class _Raw(io.RawIOBase):
    """A file that is being saved, for those who write to files. Once it is left, they write to nowhere: they do so in
    the end, even of what is given up."""

    def __init__(self, saving: Saving) -> None:
        self._saving: Saving | None = saving
        self._at = 0

    def leave(self) -> None:
        self._saving = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if size and self._saving is not None:
            self._saving.write(data)
        self._at += size
        return size

    def tell(self) -> int:
        return self._at


class _Table(abc.ABC):
    """Arrow's writers, which begin when the first batch says what columns there are."""

    def __init__(self, path: str, saving: Saving) -> None:
        self._path = path
        self._file = _Raw(saving)
        self._writer: Any = None
        self._schema: Any = None

    @abc.abstractmethod
    def _begin(self) -> Any:
        """The writer, once the schema is known."""

    def write(self, kept: dict[str, Any], found: Any) -> None:
        import pyarrow as pa

        columns = {name: _arrow(array) for name, array in kept.items()}
        for name, array in _predicted(found):
            if name in columns:
                raise ValueError(f"{self._path}: a kept column is called {name!r}, as predictions are")
            columns[name] = _arrow(array)
        batch = pa.RecordBatch.from_pydict(columns)
        if self._writer is None:
            self._schema = batch.schema
            self._writer = self._begin()
        if not batch.schema.equals(self._schema):
            was, now = str(self._schema).replace("\n", ", "), str(batch.schema).replace("\n", ", ")
            raise ValueError(f"{self._path}: predictions are no longer what the first ones were ({was}) but {now}")
        self._writer.write_batch(batch)

    def end(self) -> None:
        if self._writer is None:
            raise ValueError(f"{self._path}: no row was predicted, so there are no columns to write")
        self._writer.close()

    def leave(self) -> None:
        self._file.leave()
        if self._writer is not None:
            self._writer.close()


class _Csv(_Table):
    def _begin(self) -> Any:
        from pyarrow import csv

        return csv.CSVWriter(self._file, self._schema)


class _Parquet(_Table):
    def _begin(self) -> Any:
        from pyarrow import parquet

        return parquet.ParquetWriter(self._file, self._schema)


class _Arrow(_Table):
    def _begin(self) -> Any:
        import pyarrow as pa

        return pa.ipc.new_file(self._file, self._schema)


WRITERS: dict[str, type[_Npy] | type[_Table]] = {
    ".npy": _Npy, ".csv": _Csv, ".parquet": _Parquet, ".arrow": _Arrow, ".feather": _Arrow,
}  # fmt: skip


def _predicted(found: Any) -> list[tuple[str, Any]]:
    """Predictions as columns: one, or one for each number of a row, or as they are called."""
    if isinstance(found, dict):
        return list(found.items())
    if hasattr(found, "schema"):
        return [(name, found.column(name)) for name in found.schema.names]
    if hasattr(found, "iloc") and hasattr(found, "columns"):
        return [(str(name), found[name]) for name in found.columns]
    array = _array(found)
    if array.ndim == 1:
        return [("prediction", array)]
    if array.ndim != 2:
        raise ValueError(f"predictions of {array.ndim} dimensions are no table: write them to a .npy file")
    return [(f"prediction_{number}", array[:, number]) for number in range(array.shape[1])]


def _arrow(column: Any) -> Any:
    import pyarrow as pa

    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.array(column if hasattr(column, "iloc") else _array(column))
