"""pandas' frames, series and indexes as data: their arrays, by the kinds of arrays that pandas has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Visit = Callable[[Any, str], Any]  # a part, and its name
Build = Callable[[Any], Any]

KIND = "$"


def _labels(index: Any) -> list[Any]:
    return index.tolist() if index.nlevels == 1 else [tuple(one) for one in index]


def _fill_array(node: dict[str, Any], array: Any, visit: Visit, name: str) -> bool:
    """An extension array; False: none that is known."""
    import pandas as pd

    if isinstance(array, pd.Categorical):
        node.update({KIND: "categorical", "ordered": bool(array.ordered)})
        node["codes"] = visit(array.codes, f"{name}.codes")
        node["categories"] = visit(array.categories, f"{name}.categories")
    elif isinstance(array, pd.arrays.StringArray) or isinstance(array.dtype, pd.StringDtype):
        texts = [None if missing else text for text, missing in zip(array.tolist(), array.isna().tolist(), strict=True)]
        node.update({KIND: "texts", "dtype": _text_dtype(array.dtype), "texts": texts})
    elif isinstance(array, (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)):
        node.update({KIND: "masked", "of": type(array).__name__})
        node["values"] = visit(array._data, f"{name}.values")
        node["mask"] = visit(array._mask, f"{name}.mask")
    elif isinstance(array, (pd.arrays.DatetimeArray, pd.arrays.TimedeltaArray)):
        tz = getattr(array, "tz", None)
        node.update({KIND: "times", "of": type(array).__name__, "unit": array.unit})
        node["tz"] = None if tz is None else str(tz)
        node["values"] = visit(array.asi8, f"{name}.values")
    else:
        return False
    return True


def _text_dtype(dtype: Any) -> list[Any]:
    """Storage, and whether what is missing is NaN."""
    return [dtype.storage, getattr(dtype, "na_value", None) is not None and str(dtype.na_value) == "nan"]


def _values(what: Any, visit: Visit, name: str) -> Any:
    """The node of a column, or of an index's labels."""
    import numpy as np

    array = what.array
    if not isinstance(array, np.ndarray) and type(array).__name__ not in ("NumpyExtensionArray", "PandasArray"):
        node: dict[str, Any] = {}
        if _fill_array(node, array, visit, name):
            return node
    return visit(what.to_numpy(copy=False), name)


def fill(node: dict[str, Any], what: Any, visit: Visit) -> bool:
    """Fills the node of something of pandas; False: it is nothing that is known."""
    import pandas as pd

    if isinstance(what, pd.DataFrame):
        node[KIND] = "frame"
        node["index"] = visit(what.index, "index")
        node["columns"] = visit(what.columns, "columns")
        labels = enumerate(_labels(what.columns))
        names = [str(label) if isinstance(label, (str, int)) else f"column {i}" for i, label in labels]
        node["data"] = [_values(what.iloc[:, i], visit, name) for i, name in enumerate(names)]
    elif isinstance(what, pd.Series):
        node[KIND] = "series"
        node["index"] = visit(what.index, "index")
        node["name"] = visit(what.name, "name")
        node["data"] = _values(what, visit, "values")
    elif isinstance(what, pd.MultiIndex):
        node[KIND] = "multi index"
        node["levels"] = [visit(level, f"level {i}") for i, level in enumerate(what.levels)]
        node["codes"] = [visit(codes, f"codes {i}") for i, codes in enumerate(what.codes)]
        node["names"] = [visit(name, "name") for name in what.names]
    elif isinstance(what, pd.RangeIndex):
        node.update({KIND: "range index", "bounds": [what.start, what.stop, what.step]})
        node["name"] = visit(what.name, "name")
    elif isinstance(what, pd.Index) and not isinstance(what, (pd.IntervalIndex, pd.PeriodIndex)):
        node[KIND] = "index"
        node["name"] = visit(what.name, "name")
        node["freq"] = getattr(what, "freqstr", None)
        node["data"] = _values(what, visit, "labels")
    elif isinstance(what, pd.CategoricalDtype) or not isinstance(what, pd.api.extensions.ExtensionArray):
        return False
    else:
        return _fill_array(node, what, visit, "values")
    return True


def _column(data: Any) -> Any:
    """Texts among objects stay objects."""
    import pandas as pd

    return pd.arrays.NumpyExtensionArray(data) if data.dtype == object else data


def make(kind: str, node: dict[str, Any], build: Build) -> Any:
    """What a node of this kind stands for."""
    import pandas as pd

    if kind == "frame":
        columns = build(node["columns"])
        data = {i: _column(build(one)) for i, one in enumerate(node["data"])}
        frame = pd.DataFrame(data, index=build(node["index"]), copy=False)
        frame.columns = columns.take(node["kept"]) if "kept" in node else columns
        return frame
    if kind == "series":
        data = build(node["data"])
        return pd.Series(data, build(node["index"]), data.dtype, build(node["name"]), copy=False)
    if kind == "multi index":
        levels, codes = ([build(one) for one in node[name]] for name in ("levels", "codes"))
        return pd.MultiIndex(levels, codes, names=[build(one) for one in node["names"]])
    if kind == "range index":
        return pd.RangeIndex(*node["bounds"], name=build(node["name"]))
    if kind == "index":
        data = build(node["data"])
        index = pd.Index(data, data.dtype, name=build(node["name"]))
        if node["freq"]:
            index.freq = node["freq"]
        return index
    if kind == "categorical":
        dtype = pd.CategoricalDtype(build(node["categories"]), node["ordered"])
        return pd.Categorical.from_codes(build(node["codes"]), dtype=dtype)
    if kind == "texts":
        storage, as_nan = node["dtype"]
        try:
            dtype = pd.StringDtype(storage, na_value=float("nan")) if as_nan else pd.StringDtype(storage)
        except TypeError:  # before pandas 2.3 there is no na_value
            dtype = pd.StringDtype(storage)
        return pd.array(node["texts"], dtype=dtype)
    if kind == "masked":
        of = {"IntegerArray": pd.arrays.IntegerArray, "FloatingArray": pd.arrays.FloatingArray}
        return of.get(node["of"], pd.arrays.BooleanArray)(build(node["values"]), build(node["mask"]))
    unit, values = node["unit"], build(node["values"])
    if node["of"] == "TimedeltaArray":
        return pd.array(values.view(f"m8[{unit}]"))
    times = pd.Series(values.view(f"M8[{unit}]"))
    if node["tz"] is not None:
        times = times.dt.tz_localize("UTC").dt.tz_convert(node["tz"])
    return times.array

