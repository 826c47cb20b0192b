"""Sealed memory with arrays in it: what is where, and how another process gets it.

A worker that multiprocessing starts by `spawn` or `forkserver` gets a frozen array as it gets any object, by a pickle
of multiprocessing's own; in place of the data that has the memory file's descriptor (multiprocessing.reduction.DupFd),
so that the worker maps the same pages.  A path below /proc/PID/fd would do as well, but not from a process that is
undumpable.  pickle and copy know nothing of it: they make ordinary copies, which are what they were asked for.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import warnings
import weakref
from typing import Any, NamedTuple

from . import _bursar


def _library(name: str) -> Any:
    """Who has arrays has it; a worker that is handed some, by now."""
    return importlib.import_module(name)


class Piece(NamedTuple):
    """What was one block of memory before: one array, or what several share."""

    offset: int
    bytes: int
    sha256: str
    name: str


class Store(_bursar.Sealed):
    """One memory file.  pieces: by offset, once it is sealed.  address: of its first byte."""

    pieces: tuple[Piece, ...]
    address: int

    def digest(self, offset: int, size: int) -> str:
        with self.all() as everything, everything[offset : offset + size] as part:
            return hashlib.sha256(part).hexdigest()

    def all(self) -> memoryview:
        whole: Any = self  # a buffer, for which there is no type before 3.12
        return memoryview(whole)

    def piece_at(self, address: int) -> Piece:
        """The piece that has the byte at this address, which is an array's first."""
        offset = address - self.address
        return next(piece for piece in self.pieces if piece.offset <= offset < piece.offset + piece.bytes)

    def copy_of(self, piece: Piece) -> Any:
        """Its bytes, as a writable array."""
        numpy = _library("numpy")
        return numpy.ndarray((piece.bytes,), numpy.uint8, self, max(piece.offset, 0)).copy()


def make(size: int) -> Store:
    return _known(Store(size))


def _known(store: Store) -> Store:
    numpy = _library("numpy")
    store.pieces = ()
    store.address = numpy.frombuffer(store, numpy.uint8).__array_interface__["data"][0]
    _stores[_file(store.fileno())] = store
    _teach_multiprocessing()
    return store


def _file(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def store_of(address: int) -> Store | None:
    """The sealed memory that has this address."""
    for store in list(_stores.values()):
        if 0 <= address - store.address < len(store.all()):
            return store
    return None


def root_of(array: Any) -> Any:
    """What an array's memory belongs to in the end: itself, another array, or what is none."""
    numpy = _library("numpy")
    while isinstance(array, numpy.ndarray) and array.base is not None:
        array = array.base
    return array


# --- to another process -----------------------------------------------------------------------------------------------


def _attach(handle: Any, pieces: tuple[Piece, ...]) -> Store:
    fd = handle.detach()
    try:
        store = _stores.get(_file(fd))  # one that is mapped here already
        if store is None:
            store = _known(Store(fd=fd))
            store.pieces = pieces
            for piece in pieces:
                store.name(piece.offset, piece.bytes, piece.name)
    finally:
        os.close(fd)
    return store


def _array_at(store: Store, offset: int, shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...]) -> Any:
    return _library("numpy").ndarray(shape, dtype, store, offset, strides)


def _reduce_store(store: Store) -> tuple[Any, ...]:
    from multiprocessing.reduction import DupFd

    return _attach, (DupFd(store.fileno()), store.pieces)


def _can_send(store: Any) -> bool:
    if not isinstance(store, Store):
        return False
    try:
        store.fileno()
    except ValueError:  # closed by the program: then a copy is sent, as of any array
        return False
    return True


def _reduce_array(array: Any) -> Any:
    store = root_of(array)
    if not _can_send(store):
        return array.__reduce_ex__(4)
    offset = array.__array_interface__["data"][0] - store.address
    return _array_at, (store, offset, array.shape, array.dtype, array.strides)


def _teach_multiprocessing() -> None:
    from multiprocessing.reduction import ForkingPickler

    numpy = _library("numpy")
    global _taught
    if not _taught:
        _taught = True
        ForkingPickler.register(Store, _reduce_store)
        ForkingPickler.register(numpy.ndarray, _reduce_array)


def _tensor_at(
    kind: Any, store: Store, offset: int, size: int, dtype: Any, layout: tuple[Any, ...], requires_grad: bool
) -> Any:
    torch = _library("torch")
    tensor = torch.empty(0, dtype=dtype).set_(storage_over(store, offset, size), *layout)
    return kind(tensor, requires_grad) if kind is torch.nn.Parameter else tensor.requires_grad_(requires_grad)


def storage_over(store: Store, offset: int, size: int) -> Any:
    """A storage of torch's over some of it."""
    numpy, torch = _library("numpy"), _library("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch knows no memory that cannot be written to: we do
        return torch.from_numpy(numpy.ndarray((size,), numpy.uint8, store, offset)).untyped_storage()


def teach_torch() -> None:
    """Lets multiprocessing send frozen tensors; torch would copy them, into memory that can be written to."""
    from multiprocessing.reduction import ForkingPickler

    torch = _library("torch")
    for kind in (torch.Tensor, torch.nn.Parameter):
        usual = ForkingPickler._extra_reducers[kind]  # type: ignore[attr-defined]
        if not hasattr(usual, "bursar"):

            def reduce(tensor: Any, usual: Any = usual) -> Any:
                here = tensor.device.type == "cpu" and tensor.layout == torch.strided
                storage = tensor.untyped_storage() if here else None
                store = store_of(storage.data_ptr()) if storage is not None else None
                if storage is None or not _can_send(store):
                    return usual(tensor)
                assert store is not None
                layout = (tensor.storage_offset(), tuple(tensor.size()), tensor.stride())
                at = storage.data_ptr() - store.address
                return _tensor_at, (
                    type(tensor), store, at, storage.nbytes(), tensor.dtype, layout, tensor.requires_grad
                )  # fmt: skip

            reduce.bursar = True  # type: ignore[attr-defined]
            ForkingPickler.register(kind, reduce)


_stores: weakref.WeakValueDictionary[tuple[int, int], Store] = weakref.WeakValueDictionary()  # by their file
_taught = False
