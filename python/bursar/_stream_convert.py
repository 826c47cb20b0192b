"""What a stream reads, made into what the caller wants: filtered, in rows that fit, for NumPy, pandas, Arrow, torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ._stream_memory import Context

if TYPE_CHECKING:
    import numpy as np

OBJECT = 88  # of a Python string besides its characters, with the reference to it
KINDS = ("numpy", "pandas", "arrow", "torch")
OPERATORS = {
    "=": "equal", "==": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal", ">": "greater",
    ">=": "greater_equal", "in": "is_in", "not in": "is_in",
}  # fmt: skip


def where_of(where: Any) -> list[list[tuple[str, str, Any]]] | None:
    """Conditions as pyarrow and pandas have them: all of a list, or any of a list of lists. Raises ValueError."""
    if where is None:
        return None
    groups = [list(where)] if where and isinstance(where[0], tuple) else [list(each) for each in where]
    for group in groups:
        for each in group:
            if not (isinstance(each, tuple) and len(each) == 3 and isinstance(each[0], str) and each[1] in OPERATORS):
                known = ", ".join(OPERATORS)
                raise ValueError(f"where= has {each!r}: give (column, operator, value), with one of {known}")
    if not groups or not all(groups):
        raise ValueError("where= has no condition: give (column, operator, value)")
    return groups


def _mask(batch: Any, where: list[list[tuple[str, str, Any]]], pool: Any) -> Any:
    """Which rows are chosen; null: not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    either = None
    for group in where:
        both = None
        for name, operator, value in group:
            column = batch.column(name)
            if operator in ("in", "not in"):
                options = pc.SetLookupOptions(pa.array(list(value), column.type))
                one = pc.call_function("is_in", [column], options, pool)
                if operator == "not in":
                    one = pc.call_function("invert", [one], None, pool)
            else:
                one = pc.call_function(OPERATORS[operator], [column, pa.scalar(value)], None, pool)
            both = one if both is None else pc.call_function("and", [both, one], None, pool)
        either = both if either is None else pc.call_function("or", [either, both], None, pool)
    return either


class Converter:
    """Makes batches for the caller, each in its share of the budget."""

    def __init__(self, context: Context) -> None:
        self._context, self._as = context, context.as_
        self._objects = self._as == "numpy" or (self._as == "pandas" and has_object_strings())

    def batches(self, data: Any, row: int) -> Iterator[tuple[int, Any]]:
        """Batches with the number of rows of the source that each has; None where no row of those is wanted."""
        if not hasattr(data, "schema"):
            yield from self._of_arrays(data)
            return
        if hasattr(data, "to_batches"):  # a table
            for part in data.to_batches():
                yield from self._of_arrow(part, row)
                row += part.num_rows
        else:
            yield from self._of_arrow(data, row)

    # --- arrays -----------------------------------------------------------------------------------------------------

    def _of_arrays(self, data: Any) -> Iterator[tuple[int, Any]]:
        named = isinstance(data, dict)
        rows = len(next(iter(data.values()))) if named else len(data)
        if self._as == "numpy":
            yield rows, data
        elif self._as == "torch":
            yield rows, {name: _tensor(name, each) for name, each in data.items()} if named else _tensor("", data)
        elif self._as == "pandas":
            import pandas as pd

            if named or data.dtype.names:
                parts = (part for name, each in _fields(data) for part in _columns(name, each))
                frame = pd.DataFrame(dict(parts), copy=True)
            else:
                frame = pd.DataFrame(_flat(data), copy=True)
            self._context.memory.hold(frame, int(frame.memory_usage().sum()))
            yield rows, frame
        else:
            import pyarrow as pa

            pool = self._context.memory.pool
            columns = {}
            for name, each in _fields(data):
                for called, column in _columns(name, each):
                    columns[called] = pa.array(column, memory_pool=pool)
            yield rows, pa.RecordBatch.from_pydict(columns)

    # --- Arrow ------------------------------------------------------------------------------------------------------

    def _of_arrow(self, batch: Any, row: int) -> Iterator[tuple[int, Any]]:
        for part in self._pieces(batch, row):
            yield part.num_rows, self._convert(self._filtered(part))

    def _filtered(self, batch: Any) -> Any:
        context = self._context
        if context.where is None:
            return batch
        import pyarrow.compute as pc

        mask = _mask(batch, context.where, context.memory.pool)
        chosen = pc.call_function("filter", [batch, mask], None, context.memory.pool)
        return chosen.select(context.columns) if context.columns is not None else chosen

    def _pieces(self, batch: Any, row: int) -> Iterator[Any]:
        """Cut in halves until each fits."""
        most = self._context.rows
        if batch.num_rows > 1 and (most and batch.num_rows > most or self._cost(batch) > self._context.target):
            half = batch.num_rows // 2 if not most or batch.num_rows <= most else most
            yield from self._pieces(batch.slice(0, half), row)
            yield from self._pieces(batch.slice(half), row + half)
            return
        cost = self._cost(batch)
        if cost > self._context.share:
            raise self._context.too_large(f"row {row}, as {self._as},", cost, 4 * cost + 4)
        yield batch

    def _cost(self, batch: Any) -> int:
        """What making it takes, at most."""
        if self._as == "arrow":
            return int(batch.nbytes) if self._context.where is not None else 0
        cost = 0
        for column in batch.columns:
            if _is_number(column.type):
                cost += 8 * len(column)
            elif self._objects or not _is_text(column.type):
                cost += (OBJECT + _extra(column.type)) * len(column) + 4 * column.nbytes
            else:
                cost += 2 * int(column.nbytes)
        return cost

    def _convert(self, batch: Any) -> Any:
        if self._as == "arrow":
            return batch
        memory = self._context.memory
        if self._as == "pandas":
            frame = batch.to_pandas(memory_pool=memory.pool, use_threads=False)
            memory.hold(frame, int(frame.memory_usage(index=False, deep=self._objects).sum()))
            return frame
        made = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            array = _to_numpy(column)
            if not array.dtype.hasobject and (self._context.buffers.reuse or self._as == "torch"):
                place = self._context.buffers.array(name, array.shape, array.dtype)
                place[...] = array
                array = place
            elif array.flags.owndata:
                memory.hold(array, self._cost(batch.select([name])) if array.dtype.hasobject else array.nbytes)
            made[name] = array
        if self._as == "torch":
            return {name: _tensor(name, array) for name, array in made.items()}
        return made


def _to_numpy(column: Any) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = column.to_numpy(zero_copy_only=False)
    return array


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_primitive(kind) or pa.types.is_boolean(kind))


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _extra(kind: Any) -> int:
    """Of an object besides a string's: lists are arrays, structs are dicts."""
    return 256 * (1 + kind.num_fields) if kind.num_fields else 0


def has_object_strings() -> bool:
    """Whether pandas makes Python strings of text, as it did before version 3."""
    import pandas as pd

    return bool(pd.Series(["text"]).dtype == object)


def _tensor(name: str, array: np.ndarray[Any, Any]) -> Any:
    import torch

    try:
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        return torch.from_numpy(array)
    except TypeError:
        which = f"column {name!r} has" if name else "it has"
        raise TypeError(f"torch has no tensors of {array.dtype}, which {which}: choose others with columns=") from None


def _fields(data: Any) -> Iterator[tuple[str, Any]]:
    """Arrays by name; of one array alone, its fields."""
    if isinstance(data, dict):
        yield from data.items()
    elif data.dtype.names:
        for name in data.dtype.names:
            yield name, data[name]
    else:
        yield "", data


def _flat(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.ndim > 2:
        raise ValueError(f"an array of {array.ndim} dimensions is no table: take it as 'numpy' or 'torch'")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _columns(name: str, array: np.ndarray[Any, Any]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    array = _flat(array)
    if array.ndim == 1:
        yield name or "0", array
        return
    for number in range(array.shape[1]):
        yield f"{name}.{number}" if name else str(number), array[:, number]
