"""Models out of files: all of what was saved, or the parts that are wanted, into the memory that is wanted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from ._bursar import size_of
from ._choice import Choice, array_names, prune, training_attributes
from ._model import TORCH, Model, numpy_dtype

if TYPE_CHECKING:
    from ._bursar import SecretBytes
    from ._model import Identity, Path

    Memory = Literal["ordinary", "frozen", "vault"]

PIECE = 4 << 20  # bytes that are read at once on their way to frozen memory
TORCH_MARK = "\0torch"


def load(
    path: Path, names: Iterable[str] | None = None, *, include: Iterable[str] | str | None = None,
    exclude: Iterable[str] | str = (), for_inference: bool = False, budget: int | str | None = None,
    memory: Memory = "ordinary", allow: Iterable[Any] = (), identity: Identity | None = None,
    passphrase: SecretBytes | None = None, threads: int = 4,
) -> Any:  # fmt: skip
    """What was saved: a model, in no more memory than it has; or arrays by name, all or those of these names.

    include, exclude: names of arrays, as patterns of a shell ("encoder.*"; a name stands for all below it, too), that
    alone are loaded, or are not. for_inference: nothing of it that serves training alone (see save()).
    budget: bytes, or a size such as "200 MiB"; what takes more is a MemoryError before anything is read.
    memory: "ordinary"; "frozen": read-only memory, sealed, that workers share (see freeze()); "vault": each array a
    SecretArray.
    allow: classes and functions, or their full names, that may be in it besides those of scikit-learn, pandas, torch,
    NumPy and the standard library that are known to be harmless. identity, passphrase, threads: as in bursar.open; a
    sealed file is decrypted straight into the arrays. Raises ValueError for what is no safetensors file, or was written
    to meanwhile, KeyError for a
    name, bursar.Refused (a TypeError) for what may not be in a model: its name, and where it is."""
    if memory not in ("ordinary", "frozen", "vault"):
        raise ValueError(f'memory is "ordinary", "frozen" or "vault", not {memory!r}')
    choice = Choice(include, exclude)
    with Model(path, identity, passphrase, threads) as model:
        description = None if names is not None else model._description
        tree, wanted = None, [name for name in (model if names is None else names) if choice.wants(name)]
        if description is not None:
            if memory == "vault":
                raise ValueError(f"{model.path} is a whole model: the vault takes arrays by name (names=)")
            tree = _tree(model, description)
            if choice or for_inference:
                training = _training if for_inference else None
                tree, _ = prune(tree, choice, training, lambda name: model.info(name).nbytes)
            wanted = sorted(array_names(tree)) if budget is not None or memory == "frozen" or choice else wanted
        if budget is not None:
            _check(model, wanted, size_of(budget, "budget"))
        if description is None:
            loaded: Any = _arrays(model, wanted, memory)
        else:
            with _fetcher(model, wanted, memory) as fetch:
                loaded = _build(model, tree, fetch, allow)
        model._container.unchanged()
        return loaded


def _check(model: Model, wanted: list[str], budget: int) -> None:
    needs = model.load_bytes(wanted)
    if needs > budget:
        raise MemoryError(
            f"{model.path} takes {needs} bytes to load, and the budget is {budget}: load less of it (include=), or "
            "open() it and read parts"
        )


def _training(name: str) -> frozenset[str]:
    """Of a class that the file names: it is looked up only where it may be built."""
    from ._describe import Rules, find

    found = find(name) if Rules().allow(name) else None
    return training_attributes(found) if isinstance(found, type) else frozenset()


# --- arrays by name ---------------------------------------------------------------------------------------------------


def _arrays(model: Model, names: list[str], memory: Memory) -> dict[str, Any]:
    if memory == "vault":
        return {name: _secret(model, name) for name in names}
    if memory == "frozen":
        with _Frozen(model, names) as fetch:
            return {name: fetch(name) for name in names}
    return model.read_all(names)


def _secret(model: Model, name: str) -> Any:
    from ._secret import secret_array

    info = model.info(name)
    secret = secret_array(info.shape, numpy_dtype(info.dtype))
    with secret.open(write=True) as array:
        model.read(name, out=array)
        del array
    return secret


class _Ordinary:
    def __init__(self, model: Model) -> None:
        self.model = model

    def __enter__(self) -> Callable[[str], Any]:
        return self.fetch

    def __exit__(self, *error: object) -> None:
        pass

    def fetch(self, name: str) -> Any:
        if name.startswith(TORCH_MARK):
            return self.model._tensor(name[len(TORCH_MARK) :])
        return self.model.read(name)


class _Frozen:
    """Into one memory file, which is sealed when all of it is there."""

    def __init__(self, model: Model, names: Iterable[str]) -> None:
        from ._sealed import Piece, make

        self.model = model
        self.piece = Piece
        self.done: dict[str, Piece] = {}
        self.buffer = bytearray(min(PIECE, max((model.info(name).nbytes for name in names), default=0)))
        self.store = make(sum((model.info(name).nbytes + 63) // 64 * 64 for name in set(names)))

    def __enter__(self) -> Callable[[str], Any]:
        return self.fetch

    def __exit__(self, *error: object) -> None:
        self.store.close()
        self.store.pieces = tuple(self.done.values())

    def fetch(self, name: str) -> Any:
        import numpy as np

        as_tensor = name.startswith(TORCH_MARK)
        name = name.removeprefix(TORCH_MARK)
        dtype, shape, size = self.model.info(name)
        piece = self.done.get(name) or self._put(name, size)
        if not as_tensor:
            memory: Any = self.store if size else b""
            array: Any = np.ndarray(shape, numpy_dtype(dtype), memory, max(piece.offset, 0))
            array.flags.writeable = False
            return array
        import torch

        from ._sealed import storage_over, teach_torch

        teach_torch()
        kind = getattr(torch, TORCH[dtype])
        if not size:
            return torch.empty(shape, dtype=kind)
        return torch.empty(0, dtype=kind).set_(storage_over(self.store, piece.offset, size)).reshape(shape)

    def _put(self, name: str, size: int) -> Any:
        import hashlib

        hashed, offset = hashlib.sha256(), -1
        for at in range(0, size, PIECE):
            part = memoryview(self.buffer)[: min(PIECE, size - at)]
            self.model._container.read(name, at, part, self.model._threads)
            hashed.update(part)
            if at:
                self.store.more(part)
            else:
                offset = self.store.put(part, name)
        piece = self.piece(offset, size, hashed.hexdigest(), name)
        if size:
            self.done[name] = piece
        return piece


def _fetcher(model: Model, wanted: list[str], memory: Memory) -> _Ordinary | _Frozen:
    return _Frozen(model, wanted) if memory == "frozen" else _Ordinary(model)


# --- whole models -----------------------------------------------------------------------------------------------------


def _tree(model: Model, description: str) -> Any:
    try:
        tree = json.loads(description)
        if isinstance(tree, dict) and tree["version"] != 1:
            raise ValueError(f"{model.path} was saved by a newer bursar")
        return tree["model"]
    except (KeyError, TypeError, RecursionError, json.JSONDecodeError) as error:
        raise ValueError(f"{model.path}: its description is none: {error!r}") from None


def _build(model: Model, tree: Any, fetch: Callable[[str], Any], allow: Iterable[Any]) -> Any:
    from ._describe import build

    try:
        return build(tree, fetch, allow)
    except (KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"{model.path}: its description is none: {error!r}") from None
