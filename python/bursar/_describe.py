"""A whole model as data: its arrays by name, and what it is besides as a tree for JSON.

The tree names classes; who builds a model of it makes objects of those alone that are on a list (Rules), and refuses
the rest by name. Nothing in it is code. The tree keeps what an object says of itself for pickle (`__reduce_ex__`)."""

from __future__ import annotations

import base64
import collections
import copyreg
import math
import operator
import re
import sys
import types
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

from ._choice import KIND, LeftOut, is_training, join, training_attributes, weigh

Fetch = Callable[[str], Any]  # the array of that name

# Classes that may be made of a file of others: what they do with arguments and state is known to be harmless.
_NAMED = {
    "builtins.complex", "builtins.bytearray", "builtins.range", "builtins.slice", "collections.Counter",
    "collections.OrderedDict", "collections.defaultdict", "collections.deque", "datetime.date", "datetime.datetime",
    "datetime.time", "datetime.timedelta", "datetime.timezone", "decimal.Decimal", "fractions.Fraction", "uuid.UUID",
    "numpy.random._pickle.__bit_generator_ctor", "numpy.random._pickle.__generator_ctor",
    "numpy.random._pickle.__randomstate_ctor", "numpy.random.bit_generator.SeedSequence",
    "numpy.random._mt19937.MT19937", "numpy.random._pcg64.PCG64", "numpy.random._pcg64.PCG64DXSM",
    "numpy.random._philox.Philox", "numpy.random._sfc64.SFC64",
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
    "scipy._lib.array_api_compat.numpy._aliases.asarray", "scipy.interpolate._bsplines.BSpline",
    "scipy.interpolate._bsplines._BSpline",  # what one has inside, since SciPy 1.18
    "sklearn.tree._tree.Tree", "sklearn.utils._bunch.Bunch",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neighbors._kd_tree.newObj", "sklearn.neighbors._ball_tree.newObj",
    "sklearn.metrics._dist_metrics.newObj",
    "torch.device", "torch.Size",
}  # fmt: skip
_PATTERNS = (
    r"scipy\.sparse\._\w+\.(bsr|coo|csc|csr|dia|dok|lil)_(matrix|array)",
    r"sklearn\._loss\.(_loss\.Cy\w+|loss\.\w+|link\.\w+)",
    r"sklearn\.metrics\._dist_metrics\.\w+Distance(32|64)?",
    r"sklearn\.neighbors\._(kd|ball)_tree\.(KDTree|BallTree)(32|64)?",
    r"sklearn\.gaussian_process\.kernels\.\w+",
    r"sklearn\.linear_model\._sgd_fast\.\w+",
    r"sklearn\.metrics\._(classification|ranking|regression|scorer)\.\w+",
    r"sklearn\.model_selection\._split\.\w+",
    r"sklearn\.neural_network\._stochastic_optimizers\.(Adam|SGD)Optimizer",
)
# And any subclass of these, in modules of the same library.
_FAMILIES = (("sklearn.", "sklearn.base", "BaseEstimator"), ("torch.nn.modules.", "torch.nn", "Module"))


class Refused(TypeError):
    """What is on no list: its name, and where in the model it is.

    refused: of a file that is converted, all names that are on no list, with their positions."""

    refused: tuple[tuple[int, str], ...] = ()


def name_of(what: Any) -> str:
    return f"{what.__module__}.{what.__qualname__}"


def find(name: str) -> Any:
    """The class or function of a name that is allowed."""
    module, _, rest = name.rpartition(".")
    while module:
        try:
            return operator.attrgetter(rest)(import_module(module))
        except ImportError:
            module, _, last = module.rpartition(".")
            rest = f"{last}.{rest}"
    raise Refused(f"there is no {name} here")


class Rules:
    """What may be built: the lists above, and the names that the user adds."""

    def __init__(self, more: Iterable[Any] = ()) -> None:
        self.more = {one if isinstance(one, str) else name_of(one) for one in more}

    def allow(self, name: str) -> bool:
        if name in _NAMED or name in self.more or any(re.fullmatch(pattern, name) for pattern in _PATTERNS):
            return True
        for prefix, module, base in _FAMILIES:
            if name.startswith(prefix) and re.fullmatch(r"[\w.]+", name):
                found = find(name)
                return isinstance(found, type) and issubclass(found, getattr(import_module(module), base))
        return False

    def refuse(self, name: str, path: str, why: str = "is on no list of what a model may have") -> Refused:
        return Refused(f"{path or 'the model'}: {name} {why}: allow=[{name!r}] adds it, if you trust it")


# --- to data ----------------------------------------------------------------------------------------------------------


class _Array(NamedTuple):
    node: dict[str, Any]
    array: Any
    path: str


class Description:
    """What describe() made. tree: for JSON; arrays: by name, of NumPy or torch; left: what only training needs."""

    def __init__(self, rules: Rules, for_inference: bool) -> None:
        self.tree: Any = None
        self.arrays: dict[str, Any] = {}
        self.left: list[LeftOut] = []
        self._for_inference = for_inference
        self._rules = rules
        self._seen: dict[int, tuple[dict[str, Any], Any]] = {}  # nodes, and what they stand for, which so stays
        self._ids = 0
        self._found: list[_Array] = []

    # Each visit returns a node; of what can be met again, a dict that may get an id later.

    def visit(self, what: Any, path: str) -> Any:
        if what is None or what is True or what is False or type(what) in (str, int):
            return what
        if type(what) is float:
            return what if math.isfinite(what) else {KIND: "float", "value": repr(what)}
        met = self._seen.get(id(what))
        if met:
            if "id" not in met[0]:
                met[0]["id"] = self._ids
                self._ids += 1
            return {KIND: "again", "id": met[0]["id"]}
        node: dict[str, Any] = {}
        self._seen[id(what)] = (node, what)
        self._fill(node, what, path)
        return node

    def _fill(self, node: dict[str, Any], what: Any, path: str) -> None:
        kind = type(what)
        np = sys.modules.get("numpy")
        torch = sys.modules.get("torch")
        if kind in (list, tuple, set, frozenset):
            node[KIND] = kind.__name__
            node["items"] = [self.visit(one, join(path, i)) for i, one in enumerate(what)]
        elif kind is dict:
            node[KIND] = "dict"
            node["items"] = self._pairs(what.items(), path)
        elif kind is bytes:
            node.update({KIND: "bytes", "base64": base64.b64encode(what).decode()})
        elif kind is slice:
            node.update({KIND: "slice", "items": [self.visit(one, path) for one in (what.start, what.stop, what.step)]})
        elif np and isinstance(what, np.ndarray):
            self._fill_array(node, what, path)
        elif np and isinstance(what, np.generic):
            content = base64.b64encode(what.tobytes()).decode()
            node.update({KIND: "scalar", "dtype": _dtype_text(what.dtype), "base64": content})
        elif np and isinstance(what, np.dtype):
            node.update({KIND: "dtype", "dtype": _dtype_text(what)})
        elif np and isinstance(what, np.ufunc):
            node.update({KIND: "ufunc", "name": what.__name__})
        elif np and isinstance(what, type) and issubclass(what, np.generic):
            node.update({KIND: "numpy type", "name": what.__name__})
        elif kind is type and what.__module__ == "builtins":
            node.update({KIND: "type", "name": what.__name__})
        elif torch and isinstance(what, torch.Tensor):
            node.update({KIND: "tensor", "parameter": isinstance(what, torch.nn.Parameter), "grad": what.requires_grad})
            self._found.append(_Array(node, what, path))
        elif torch and isinstance(what, torch.dtype):
            node.update({KIND: "torch dtype", "name": str(what).removeprefix("torch.")})
        elif kind.__module__.partition(".")[0] == "pandas" and self._fill_pandas(node, what, path):
            pass
        else:
            self._fill_object(node, what, path)

    def _fill_array(self, node: dict[str, Any], what: np.ndarray[Any, Any], path: str) -> None:
        import numpy as np

        if what.dtype.hasobject:
            if what.dtype != object:
                raise Refused(f"{path or 'the model'}: an array of {what.dtype} has references in it")
            node.update({KIND: "objects", "shape": list(what.shape)})
            node["items"] = [self.visit(one, join(path, i)) for i, one in enumerate(what.ravel().tolist())]
            return
        node[KIND] = "array"
        self._found.append(_Array(node, np.asarray(what), path))

    def _fill_pandas(self, node: dict[str, Any], what: Any, path: str) -> bool:
        from ._describe_pandas import fill

        return fill(node, what, lambda one, name: self.visit(one, join(path, name)))

    def _fill_object(self, node: dict[str, Any], what: Any, path: str) -> None:
        if isinstance(what, (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
            name = name_of(what)
            if not self._rules.allow(name):
                raise self._rules.refuse(name, path)
            node.update({KIND: "name", "name": name})
            return
        try:
            reduced = what.__reduce_ex__(4)
        except TypeError as error:
            raise Refused(f"{path or 'the model'}: {name_of(type(what))} cannot be kept: {error}") from None
        if isinstance(reduced, str):
            raise self._rules.refuse(f"{type(what).__module__}.{reduced}", path)
        made, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        node[KIND] = "object"
        if made is copyreg.__newobj__:  # type: ignore[attr-defined]
            made, arguments = arguments[0], arguments[1:]
            node["new"] = True
        name = name_of(made)
        if not self._rules.allow(name):
            raise self._rules.refuse(name, path)
        node["of"] = name
        if arguments:
            node["arguments"] = [self.visit(one, path) for one in arguments]
        if self._for_inference and type(state) is dict:
            state = self._without_training(type(what), state, path)
        if state is not None:
            node["state"] = self.visit(state, path)
        if items is not None:
            node["items"] = [self.visit(one, join(path, i)) for i, one in enumerate(items)]
        if pairs is not None:
            node["pairs"] = self._pairs(pairs, path)

    def _pairs(self, pairs: Iterable[tuple[Any, Any]], path: str) -> list[list[Any]]:
        visited = []
        for key, value in pairs:
            name = join(path, key)
            if self._for_inference and is_training(key, value if type(value) is dict else ()):
                self.left.append(LeftOut(name, weigh(value)))
            else:
                visited.append([self.visit(key, path), self.visit(value, name)])
        return visited

    def _without_training(self, made_of: type, state: dict[str, Any], path: str) -> dict[str, Any]:
        names = training_attributes(made_of).intersection(state)
        self.left += [LeftOut(join(path, name), weigh(state[name])) for name in sorted(names)]
        kept = {name: value for name, value in state.items() if name not in names}
        return kept if names else state

    # --- arrays: their names, and which share memory

    def name_arrays(self) -> None:
        import numpy as np

        owners: dict[int, list[_Array]] = collections.defaultdict(list)
        for found in self._found:
            owners[_owner(found.array)].append(found)
        for group in owners.values():
            if len(group) > 1 and self._share(group):
                continue
            for node, array, path in group:
                node["name"] = self._keep(_plain(node, array) if isinstance(array, np.ndarray) else array, path)

    def _keep(self, array: Any, path: str) -> str:
        name, number = path or "array", 2
        while name in self.arrays or name == "__metadata__":
            name, number = f"{path or 'array'}#{number}", number + 1
        self.arrays[name] = array
        return name

    def _share(self, group: list[_Array]) -> bool:
        """Views of one memory are kept once, where that takes no more room than each for itself."""
        import numpy as np

        if not all(isinstance(found.array, np.ndarray) for found in group):
            return self._share_tensors(group)
        low = min(_span(found.array)[0] for found in group)
        high = max(_span(found.array)[1] for found in group)
        if high - low > sum(found.array.nbytes for found in group):
            return False
        root = group[0].array
        while isinstance(root.base, np.ndarray):
            root = root.base
        start = _span(root)[0]
        wholes = (one.array for one in group if _span(one.array) == (low, high) and one.array.flags.c_contiguous)
        whole = next(wholes, None)
        if whole is None:
            if not root.flags.c_contiguous or not start <= low <= high <= _span(root)[1]:
                return False
            whole = root.reshape(-1).view("u1")[low - start : high - start]
        plain: dict[str, Any] = {}
        name = self._keep(_plain(plain, whole), group[0].path)
        for node, array, _ in group:
            node.update(name=name, offset=_span(array)[0] - low + _first(array), strides=list(array.strides))
            node.update(shape=list(array.shape), dtype=_dtype_text(array.dtype), view=True)
        return True

    def _share_tensors(self, group: list[_Array]) -> bool:
        first = group[0].array
        alike = all(
            one.array.dtype == first.dtype and one.array.stride() == first.stride()
            and one.array.storage_offset() == first.storage_offset() and one.array.shape == first.shape
            for one in group
        )  # fmt: skip
        if alike:
            name = self._keep(first, group[0].path)
            for node, _, _ in group:
                node["name"] = name
            return True
        storage = first.untyped_storage()
        if storage.nbytes() > sum(one.array.nbytes for one in group):
            return False
        torch = sys.modules["torch"]
        name = self._keep(torch.empty(0, dtype=torch.uint8).set_(storage), group[0].path)
        for node, tensor, _ in group:
            node.update(name=name, offset=tensor.storage_offset(), strides=list(tensor.stride()), view=True)
            node.update(shape=list(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))
        return True


def _owner(array: Any) -> int:
    """Whose memory it is: arrays and tensors of one memory have one owner."""
    np = sys.modules["numpy"]
    if not isinstance(array, np.ndarray):
        return int(array.untyped_storage().data_ptr()) or id(array)
    while isinstance(array.base, np.ndarray):
        array = array.base
    return id(array)


def _span(array: Any) -> tuple[int, int]:
    import numpy as np

    of: Any = getattr(np.lib, "array_utils", np)
    bounds: tuple[int, int] = of.byte_bounds(array)
    return bounds


def _first(array: Any) -> int:
    """Where its first element is, behind its lowest: strides may be negative."""
    start: int = array.__array_interface__["data"][0]
    return start - _span(array)[0]


def _dtype_text(dtype: Any) -> Any:
    """As numpy.dtype() takes it: a text, or for records lists of (name, type, shape) with offsets."""
    if dtype.names is None:
        if dtype.subdtype is None:
            return dtype.str if dtype.kind != "V" or dtype.type.__module__ == "numpy" else dtype.name
        base, shape = dtype.subdtype
        return {"base": _dtype_text(base), "shape": list(shape)}
    fields = [dtype.fields[name] for name in dtype.names]
    return {
        "names": list(dtype.names), "formats": [_dtype_text(one[0]) for one in fields],
        "offsets": [one[1] for one in fields], "itemsize": dtype.itemsize,
    }  # fmt: skip


def _dtype_of(text: Any) -> Any:
    import numpy as np

    if isinstance(text, str):
        if text in ("bfloat16",) or text.startswith("float8_"):
            return np.dtype(getattr(import_module("ml_dtypes"), text))
        found = np.dtype(text)
    elif "base" in text:
        found = np.dtype((_dtype_of(text["base"]), tuple(text["shape"])))
    else:
        formats = [_dtype_of(one) for one in text["formats"]]
        record: Any = {**text, "formats": formats}
        found = np.dtype(record)
    if found.hasobject:
        raise Refused("a type with references in it")
    return found


_TENSORS = {"b1", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "c8", "f8", "i8", "u8"}


def _plain(node: dict[str, Any], array: Any) -> Any:
    """As a tensor of a file: of a type that has no tensors, the bytes; the node says what it was."""
    import numpy as np

    if array.flags.f_contiguous and not array.flags.c_contiguous:
        node["fortran"] = True
        array = array.T
    if array.dtype.kind in "V" and array.dtype.names is None and array.dtype.type.__module__ != "numpy":
        return array  # of ml_dtypes
    if array.dtype.str[1:] in _TENSORS and array.dtype.byteorder != ">":
        return array
    node["dtype"] = _dtype_text(array.dtype)
    node["shape"] = list(array.shape)
    return np.ascontiguousarray(array).reshape(-1).view("u1")


def describe(model: Any, allow: Iterable[Any] = (), for_inference: bool = False) -> Description:
    """A model as data; for_inference: without what only training needs. Raises Refused for what is on no list."""
    description = Description(Rules(allow), for_inference)
    description.tree = description.visit(model, "")
    description.name_arrays()
    return description


# --- from data --------------------------------------------------------------------------------------------------------


class _Builder:
    def __init__(self, fetch: Fetch, rules: Rules) -> None:
        self.fetch = fetch
        self.rules = rules
        self.made: dict[int, Any] = {}
        self.bases: dict[str, Any] = {}

    def build(self, node: Any, path: str = "") -> Any:
        if not isinstance(node, dict):
            return node
        kind = node.get(KIND)
        if kind == "again":
            try:
                return self.made[node["id"]]
            except KeyError:
                raise ValueError(f"{path}: the description refers to what is not there") from None
        maker = getattr(self, f"_{str(kind).replace(' ', '_')}", None)
        if maker is None or not re.fullmatch(r"[a-z ]+", str(kind)):
            raise ValueError(f"{path or 'the model'}: {kind!r} is no part of a description")
        made = maker(node, path)
        self._remember(node, made)
        return made

    def _remember(self, node: dict[str, Any], made: Any) -> None:
        if "id" in node:
            self.made[node["id"]] = made

    def _items(self, node: dict[str, Any], path: str) -> list[Any]:
        return [self.build(one, join(path, i)) for i, one in enumerate(node["items"])]

    def _list(self, node: dict[str, Any], path: str) -> list[Any]:
        made: list[Any] = []
        self._remember(node, made)
        made += self._items(node, path)
        return made

    def _tuple(self, node: dict[str, Any], path: str) -> tuple[Any, ...]:
        return tuple(self._items(node, path))

    def _set(self, node: dict[str, Any], path: str) -> set[Any]:
        return set(self._items(node, path))

    def _frozenset(self, node: dict[str, Any], path: str) -> frozenset[Any]:
        return frozenset(self._items(node, path))

    def _dict(self, node: dict[str, Any], path: str) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        self._remember(node, made)
        for key, value in node["items"]:
            built = self.build(key, path)  # before the value, which may have it again
            made[built] = self.build(value, join(path, key))
        return made

    def _float(self, node: dict[str, Any], path: str) -> float:
        return float(node["value"])

    def _bytes(self, node: dict[str, Any], path: str) -> bytes:
        return base64.b64decode(node["base64"])

    def _slice(self, node: dict[str, Any], path: str) -> slice:
        return slice(*self._items(node, path))

    # --- NumPy

    def _dtype(self, node: dict[str, Any], path: str) -> Any:
        return _dtype_of(node["dtype"])

    def _scalar(self, node: dict[str, Any], path: str) -> Any:
        import numpy as np

        return np.frombuffer(base64.b64decode(node["base64"]), _dtype_of(node["dtype"]), 1)[0]

    def _ufunc(self, node: dict[str, Any], path: str) -> Any:
        import numpy as np

        found = getattr(np, node["name"], None)
        if not isinstance(found, np.ufunc):
            raise Refused(f"{path}: NumPy has no ufunc {node['name']}")
        return found

    def _numpy_type(self, node: dict[str, Any], path: str) -> Any:
        import numpy as np

        found = getattr(np, node["name"], None)
        if not (isinstance(found, type) and issubclass(found, np.generic)):
            raise Refused(f"{path}: NumPy has no type {node['name']}")
        return found

    def _type(self, node: dict[str, Any], path: str) -> type:
        found = getattr(sys.modules["builtins"], node["name"], None)
        if found not in (bool, bytes, complex, dict, float, frozenset, int, list, object, set, str, tuple, type(None)):
            raise Refused(f"{path}: the type {node['name']} is on no list")
        return found  # type: ignore[no-any-return]

    def _objects(self, node: dict[str, Any], path: str) -> Any:
        import numpy as np

        made = np.empty(math.prod(node["shape"]), object)
        if len(node["items"]) != len(made):
            raise ValueError(f"{path}: an array of {len(made)} objects has {len(node['items'])}")
        whole = made.reshape(node["shape"])
        self._remember(node, whole)
        for i, one in enumerate(self._items(node, path)):
            made[i] = one
        return whole

    def _array(self, node: dict[str, Any], path: str) -> Any:
        import numpy as np

        if node.get("view"):
            base = self._base(node["name"])
            strides = tuple(node["strides"])
            return np.ndarray(tuple(node["shape"]), _dtype_of(node["dtype"]), base, node["offset"], strides)
        array = self.fetch(node["name"])
        if "dtype" in node:
            array = array.view(_dtype_of(node["dtype"])).reshape(node["shape"])
        return array.T if node.get("fortran") else array

    def _base(self, name: str) -> Any:
        """One memory for all views of it."""
        if name not in self.bases:
            self.bases[name] = self.fetch(name).reshape(-1).view("u1")
        return self.bases[name]

    # --- torch

    def _torch_dtype(self, node: dict[str, Any], path: str) -> Any:
        import torch

        found = getattr(torch, node["name"], None)
        if not isinstance(found, torch.dtype):
            raise Refused(f"{path}: torch has no type {node['name']}")
        return found

    def _tensor(self, node: dict[str, Any], path: str) -> Any:
        import torch

        key = f"torch {node['name']}"
        if key not in self.bases:
            self.bases[key] = self.fetch(f"\0torch{node['name']}")
        tensor = self.bases[key]
        if node.get("view"):
            dtype = self._torch_dtype({"name": node["dtype"]}, path)
            tensor = tensor.view(torch.uint8).reshape(-1).view(dtype)
            tensor = tensor.as_strided(tuple(node["shape"]), tuple(node["strides"]), node["offset"])
        if node["parameter"]:
            return torch.nn.Parameter(tensor, requires_grad=node["grad"])
        return tensor.requires_grad_(node["grad"]) if node["grad"] else tensor

    # --- objects

    def _name(self, node: dict[str, Any], path: str) -> Any:
        if not self.rules.allow(node["name"]):
            raise self.rules.refuse(node["name"], path)
        return find(node["name"])

    def _object(self, node: dict[str, Any], path: str) -> Any:
        made_of = self._name({"name": node["of"]}, path)
        arguments = [self.build(one, path) for one in node.get("arguments", ())]
        made = made_of.__new__(made_of, *arguments) if node.get("new") else made_of(*arguments)
        self._remember(node, made)
        for one in node.get("items", ()):
            made.append(self.build(one, path))
        for key, value in node.get("pairs", ()):
            built = self.build(key, path)
            made[built] = self.build(value, join(path, key))
        if "state" in node:
            self._set_state(made, self.build(node["state"], path))
        return made

    @staticmethod
    def _set_state(made: Any, state: Any) -> None:
        setter = getattr(made, "__setstate__", None)
        if setter is not None:
            setter(state)
            return
        slots = None
        if isinstance(state, tuple) and len(state) == 2:
            state, slots = state
        for name, value in (state or {}).items():
            made.__dict__[sys.intern(name)] = value
        for name, value in (slots or {}).items():
            setattr(made, name, value)


def _pandas_maker(kind: str) -> Callable[[_Builder, dict[str, Any], str], Any]:
    def make(builder: _Builder, node: dict[str, Any], path: str) -> Any:
        from ._describe_pandas import make as make_it

        return make_it(kind, node, partial(_build_part, builder, path))

    return make


def _build_part(builder: _Builder, path: str, node: Any) -> Any:
    return builder.build(node, path)


for _kind in ("frame", "series", "index", "range index", "multi index", "categorical", "masked", "times", "texts"):
    setattr(_Builder, f"_{_kind.replace(' ', '_')}", _pandas_maker(_kind))


def build(tree: Any, fetch: Fetch, allow: Iterable[Any] = ()) -> Any:
    """The model of a description. fetch(name): the array of that name; fetch("\\0torch" + name): as a tensor.
    Raises Refused for what is on no list, ValueError for what is no description."""
    return _Builder(fetch, Rules(allow)).build(tree)
