"""Models in safetensors files: opened without reading them, read in pieces.

The header is read in C (src/model/safetensors.c)."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import mmap
import os
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ._bursar import DTYPES, Container, SecretBytes, Unsealed

if TYPE_CHECKING:
    import numpy as np
    import torch
    from typing_extensions import Self

    Path = str | os.PathLike[str]
    Identity = Path | SecretBytes | Iterable[Path | SecretBytes]

# By NumPy's names; what only ml_dtypes has is the same there, but for these.
NUMPY = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "F16": "float16", "I32": "int32",
    "U32": "uint32", "F32": "float32", "C64": "complex64", "F64": "float64", "I64": "int64", "U64": "uint64",
}  # fmt: skip
ML_DTYPES = {
    "BF16": "bfloat16", "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
TORCH = {**NUMPY, **ML_DTYPES}
DESCRIPTION = "bursar.model"  # in the metadata: what the model is besides its arrays
READ_AT_ONCE = 1000  # tensors
SEALED = b"age-encryption.org"


class Spec(NamedTuple):
    """A tensor before its bytes: its name, its type (of NumPy, or as safetensors calls it) and its shape."""

    name: str
    dtype: Any
    shape: tuple[int, ...]


class TensorInfo(NamedTuple):
    """What a file says of a tensor: `dtype` as safetensors calls it, its shape, and its size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@functools.cache
def numpy_dtype(name: str) -> np.dtype[Any]:
    """NumPy's type for one of safetensors. Raises TypeError where there is none."""
    import numpy as np

    if name in NUMPY:
        return np.dtype(NUMPY[name]).newbyteorder("<") if name not in ("BOOL", "U8", "I8") else np.dtype(NUMPY[name])
    if name not in ML_DTYPES:
        raise TypeError(f"NumPy has no {name}: read its bytes with raw()")
    try:
        import ml_dtypes  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise TypeError(f"NumPy itself has no {name}: install ml_dtypes, or read its bytes with raw()") from None
    kind: np.dtype[Any] = np.dtype(getattr(ml_dtypes, ML_DTYPES[name]))
    return kind


@functools.lru_cache(maxsize=256)
def dtype_name(dtype: Any) -> str:
    """As safetensors calls a type that NumPy, torch or safetensors names."""
    name = dtype if isinstance(dtype, str) else str(dtype).removeprefix("torch.") if "torch" in sys.modules else ""
    if name in DTYPES:
        return name
    for ours, theirs in TORCH.items():
        if name == theirs:
            return ours
    import numpy as np

    known = np.dtype(dtype)
    for ours, theirs in TORCH.items():
        if known.newbyteorder("=").name == theirs:
            return ours
    if known.hasobject:
        raise TypeError("an array of objects holds references, not numbers: convert it, or leave it out")
    raise TypeError(f"safetensors has no type for {known}")


def nbytes_of(dtype: str, shape: tuple[int, ...]) -> int:
    """Of a tensor of safetensors' type."""
    return math.prod(shape) * DTYPES[dtype] // 8


# --- opening --------------------------------------------------------------------------------------------------------


class Model(Mapping[str, "np.ndarray[Any, Any]"]):
    """A safetensors file, open: names, types and shapes are known, tensors are read as they are asked for.

    `model[name]` is an array over the mapped file, of the tensor's shape, which cannot be written to and costs nothing
    until it is read; it keeps the file mapped. Where the file shrinks meanwhile, reading it faults (SIGBUS): copy with
    `read()` what others may cut. Of a sealed file (age) it is decrypted into memory, when it is asked for and no more
    than that. Raises ValueError for what is no safetensors file, or was changed, with the place in it.
    metadata: the user's texts; record: what bursar says of how the file was made ("made", "versions")."""

    def __init__(
        self, path: Path, identity: Identity | None = None, passphrase: SecretBytes | None = None, threads: int = 4
    ) -> None:
        self.path = os.fspath(path)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._end = weakref.finalize(self, os.close, self._fd)
        self._threads = threads
        unsealed: Unsealed | None = None
        if identity is not None or passphrase is not None:
            unsealed = _unsealed(self._fd, self.path, identity, passphrase)
        elif os.pread(self._fd, len(SEALED), 0) == SEALED:
            raise ValueError(f"{self.path} is sealed: give identity= or passphrase=")
        self._container = Container(self._fd, self.path, unsealed)
        self._shared: mmap.mmap | None = None
        told = self._container.metadata
        self._description = told.pop(DESCRIPTION, None)
        self.record = {name[7:]: told.pop(name) for name in list(told) if name.startswith("bursar.")}
        self.metadata: dict[str, str] = told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file. Arrays over it go on, and keep it mapped."""
        self._end()
        self._fd = -1
        self._shared = None

    def __iter__(self) -> Iterator[str]:
        return iter(self._container.names())

    def __len__(self) -> int:
        return len(self._container)

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and bool(self._container[name])
        except KeyError:
            return False

    def __repr__(self) -> str:
        return f"<bursar.Model {self.path!r}: {len(self)} tensors, {self._container.data_bytes} bytes>"

    def info(self, name: str) -> TensorInfo:
        """What the file says of a tensor. Raises KeyError."""
        dtype, shape, start, end = self._container[name]
        return TensorInfo(dtype, shape, end - start)

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        import numpy as np

        dtype, shape, start, end = self._container[name]
        place = self._container.place(name)
        if place is None or start == end:
            array = self.read(name)
            array.flags.writeable = False
            return array
        over: np.ndarray[Any, Any] = np.ndarray(shape, numpy_dtype(dtype), self._map(), place)
        return over

    def verify(self) -> None:
        """Compares each tensor and the header with the SHA-256 that the file has of them (save with hashes=True).
        Raises ValueError with what was changed, or where the file has none."""
        self._container.verify(self._threads)

    def load_bytes(self, names: Iterable[str] | None = None) -> int:
        """What load() takes at its peak, of these tensors or all, in bytes; at most."""
        whole = self._container.load_bytes(self._threads)
        if names is None:
            return whole
        return whole - self._container.data_bytes + sum(self.info(name).nbytes for name in names)

    def raw(self, name: str) -> memoryview:
        """A tensor's bytes, of any type."""
        _, _, start, end = self._container[name]
        place = self._container.place(name)
        if place is not None and start < end:
            return memoryview(self._map())[place : place + end - start]
        content = bytearray(end - start)
        self._container.read(name, 0, content, self._threads)
        return memoryview(content).toreadonly()

    def read(self, name: str, *, rows: slice | None = None, out: Any = None) -> np.ndarray[Any, Any]:
        """A copy of a tensor, or of some of its rows (its first axis, a step of 1), without a mapping.

        out: an array of that type and shape, or a writable buffer of as many bytes, to be read into: memory of the
        caller's choice, `secret_array(...).open(write=True)` for instance. Raises KeyError, and OSError where the file
        ends before it."""
        import numpy as np

        dtype, shape, begin, end = self._container[name]
        start, size = 0, end - begin
        if rows is not None:
            start, shape = self._rows(name, rows)
            size = nbytes_of(dtype, shape)
        array: Any = np.empty(shape, numpy_dtype(dtype)) if out is None else out
        flat: Any = array.reshape(-1).view("u1") if isinstance(array, np.ndarray) else array
        view = memoryview(flat).cast("B")
        if view.nbytes != size:
            raise ValueError(f"{name!r} has {size} bytes, and there is room for {view.nbytes}")
        self._container.read(name, start, view, self._threads)
        if isinstance(array, np.ndarray):
            return array
        return np.frombuffer(array, numpy_dtype(dtype)).reshape(shape)

    def read_all(self, names: Iterable[str] | None = None) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of these tensors, or of all; small ones that lie one behind the other are read at once."""
        import numpy as np

        arrays: dict[str, np.ndarray[Any, Any]] = {}
        every = iter(self if names is None else names)
        while some := list(itertools.islice(every, READ_AT_ONCE)):
            buffers: list[Any] = []
            for name in some:
                dtype, shape, _, _ = self._container[name]
                arrays[name] = array = np.empty(shape, numpy_dtype(dtype))
                buffers.append(array if dtype in NUMPY else array.reshape(-1).view("u1"))
            self._container.read_all(some, buffers, self._threads)
        return arrays

    def torch(self, name: str) -> torch.Tensor:
        """A tensor of torch's over a private mapping: what is written to it is the process's alone."""
        import torch

        dtype, shape, start, end = self._container[name]
        if dtype not in TORCH:
            raise TypeError(f"torch has no {dtype}: read its bytes with raw()")
        place = self._container.place(name)
        if place is None or start == end:
            whole: torch.Tensor = self._tensor(name)
            return whole
        kind = getattr(torch, TORCH[dtype])
        page = place // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        private = mmap.mmap(
            self._fd, place - page + end - start, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE,
            offset=page,
        )  # fmt: skip
        return torch.frombuffer(private, dtype=kind, count=math.prod(shape), offset=place - page).reshape(shape)

    def _tensor(self, name: str) -> Any:
        """A copy."""
        import torch

        dtype, shape, _, _ = self._container[name]
        if dtype not in TORCH:
            raise TypeError(f"torch has no {dtype}: read its bytes with raw()")
        tensor = torch.empty(math.prod(shape), dtype=getattr(torch, TORCH[dtype]))
        into: Any = tensor.view(torch.uint8).numpy()
        self._container.read(name, 0, into, self._threads)
        return tensor.reshape(shape)

    def _map(self) -> mmap.mmap:
        if self._shared is None:
            self._shared = mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ)
        return self._shared

    def _rows(self, name: str, rows: slice) -> tuple[int, tuple[int, ...]]:
        """Where they begin, and their shape."""
        dtype, shape, _, _ = self._container[name]
        if not shape:
            raise ValueError(f"{name!r} is a single number: it has no rows")
        first, last, step = rows.indices(shape[0])
        if step != 1:
            raise ValueError("rows are read in one piece: a step of 1")
        found = (max(last - first, 0), *shape[1:])
        if math.prod(shape[1:]) * DTYPES[dtype] % 8:
            raise ValueError(f"rows of {name!r} are no whole bytes")
        return nbytes_of(dtype, (first, *shape[1:])), found


def _unsealed(fd: int, path: str, identity: Identity | None, passphrase: SecretBytes | None) -> Unsealed:
    """Secrets are seen by C alone, and go no further than the vault."""
    from ._secret import SecretBytes as Secret

    given: list[Any] = [identity] if isinstance(identity, (str, os.PathLike, SecretBytes)) else list(identity or ())
    with contextlib.ExitStack() as stack:
        texts: list[Any] = []
        for one in given:
            secret = one if isinstance(one, SecretBytes) else Secret.from_file(one)
            texts.append(stack.enter_context(secret.open()))
        word = None if passphrase is None else stack.enter_context(passphrase.open())
        return Unsealed(fd, path, texts, word)


def open_model(
    path: Path, identity: Identity | None = None, passphrase: SecretBytes | None = None, threads: int = 4
) -> Model:
    """Opens a safetensors file without reading its tensors (bursar.open).

    identity: of a sealed file, a file of secret keys (bursar model keygen), or a SecretBytes with its text, or several;
    passphrase: a SecretBytes, where it was sealed with one. threads: that decrypt, at most.

    >>> with bursar.open("model.safetensors") as model:
    ...     weights = model["layer.weight"]            # over the mapped file
    ...     first = model.read("layer.weight", rows=slice(0, 100))  # a copy of its first hundred rows
    """
    return Model(path, identity, passphrase, threads)


