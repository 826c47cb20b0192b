"""Models into safetensors files, in no more memory than they have.

The header is written in C (src/model/safetensors.c), and so is the file that is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ._bursar import Saving, safetensors_header
from ._choice import Choice, LeftOut, array_names, prune
from ._environment import LEFT_OUT, record
from ._model import DESCRIPTION, Spec, dtype_name, nbytes_of

if TYPE_CHECKING:
    import numpy as np

    from ._model import Path

PIECE = 4 << 20  # bytes of an array that are copied at once, where they cannot be written as they lie
RESERVED = 1 << 16  # bytes for a header that is written last
HASHES, HASH = "bursar.sha256.tensors", "bursar.sha256"  # in the metadata: src/model/hashes.h says of what
DIGITS = 64


class Saved(NamedTuple):
    """What save() wrote: the file's bytes, its tensors, and what was left out of the model: where, how many bytes."""

    bytes: int
    tensors: int
    left_out: tuple[LeftOut, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.tensors} tensors, {self.bytes} bytes"]
        lines += [f"left out: {one.name}, {one.bytes} bytes" for one in self.left_out]
        return "\n".join(lines)


def is_torch(value: Any) -> bool:
    return "torch" in sys.modules and isinstance(value, sys.modules["torch"].Tensor)


def _spec_of(name: str, value: Any) -> tuple[str, str, tuple[int, ...]]:
    if not hasattr(value, "dtype"):
        import numpy as np

        value = np.asarray(value)
    return name, dtype_name(value.dtype), tuple(value.shape)


def _pieces(array: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """Its elements in C's order, each piece of at most PIECE bytes where it has to be copied."""
    import numpy as np

    if array.flags.c_contiguous and array.dtype.byteorder in "=|<":
        yield array
    elif array.nbytes <= PIECE or not array.ndim:
        yield np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    elif array.nbytes // len(array) > PIECE:
        for row in array:
            yield from _pieces(row)
    else:
        step = PIECE // (array.nbytes // len(array)) or 1
        for at in range(0, len(array), step):
            yield np.ascontiguousarray(array[at : at + step], array.dtype.newbyteorder("<"))


def _lies_as_it_is_written(array: np.ndarray[Any, Any]) -> bool:
    return array.dtype.kind in "biufc" and array.dtype.isnative and array.flags.c_contiguous


def _bytes_of(value: Any) -> Iterator[memoryview]:
    """Of an array, a tensor or a buffer."""
    import numpy as np

    if is_torch(value):
        torch = sys.modules["torch"]
        flat = value.detach().to("cpu").contiguous().reshape(-1)
        yield memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")
        return
    if isinstance(value, (bytes, bytearray, memoryview)):
        yield memoryview(value).cast("B")
        return
    for piece in _pieces(np.asarray(value)):
        if piece.size:
            whole: Any = piece.reshape(-1).view("u1")
            yield memoryview(whole)


class _Writer:
    """The file's bytes, and the hashes of its tensors where they are wanted."""

    def __init__(self, saving: Saving, hashes: bool) -> None:
        self.saving = saving
        self.hashes: list[str] | None = [] if hashes else None

    def tensor(self, name: str, dtype: str, size: int, chunks: Iterable[Any]) -> None:
        written = 0
        hashed = hashlib.sha256() if self.hashes is not None else None
        for chunk in chunks:
            if hasattr(chunk, "dtype") and dtype_name(chunk.dtype) != dtype:
                raise ValueError(f"{name!r} is of {dtype}, and a chunk of {dtype_name(chunk.dtype)} came")
            for piece in _bytes_of(chunk):
                written += piece.nbytes
                if written > size:
                    raise ValueError(f"{name!r} has {size} bytes, and more came")
                self.saving.write(piece)
                if hashed:
                    hashed.update(piece)
        if written < size:
            raise ValueError(f"{name!r} has {size} bytes, and {written} came")
        if self.hashes is not None and hashed:
            self.hashes.append(hashed.hexdigest())

    def array(self, name: str, dtype: str, size: int, value: Any) -> None:
        """The same of one that is whole."""
        np = sys.modules.get("numpy")
        if self.hashes is None and np and type(value) is np.ndarray and _lies_as_it_is_written(value):
            self.saving.write(value)
        else:
            self.tensor(name, dtype, size, [value])

    def texts(self, texts: dict[str, str]) -> dict[str, str]:
        """The metadata, with the hashes as far as they are known."""
        if self.hashes is None:
            return texts
        return {**texts, HASH: "0" * DIGITS, HASHES: "".join(self.hashes)}


def _hashed(header: bytes) -> bytes:
    """A header with the hash of itself."""
    blank = b'"%s":"%s"' % (HASH.encode(), b"0" * DIGITS)
    at = header.index(blank) + len(blank) - 1
    return header[: at - DIGITS] + hashlib.sha256(header).hexdigest().encode() + header[at:]


def _save_stream(
    source: Iterable[tuple[Spec, Iterable[Any]]], path: Any, texts: dict[str, str], choice: Choice, hashes: bool
) -> Saved:
    """The header is known at the end: room for it is left, and where that is not enough all is written once more."""
    specs: list[tuple[str, str, tuple[int, ...]]] = []
    left = []
    with Saving(path) as saving:
        writer = _Writer(saving, hashes)
        saving.write(b" " * RESERVED)
        for spec, chunks in source:
            name, dtype, shape = spec[0], dtype_name(spec[1]), tuple(spec[2])
            if choice.wants(name):
                specs.append((name, dtype, shape))
                writer.tensor(name, dtype, nbytes_of(dtype, shape), chunks)
            else:
                left.append(LeftOut(name, nbytes_of(dtype, shape)))
        header, places = safetensors_header(specs, writer.texts(texts), True, RESERVED)
        header = _hashed(header) if hashes else header
        saved = Saved(len(header) + (places[-1][2] if places else 0), len(specs), tuple(left))
        if len(header) == RESERVED:
            saving.overwrite(header)
            return saved
        with Saving(path) as again:
            again.write(header)
            at = RESERVED
            while piece := os.pread(saving.fileno(), PIECE, at):
                again.write(piece)
                at += len(piece)
        saving.abandon()
    return saved


def _save_arrays(arrays: dict[str, Any], path: Any, texts: dict[str, str], hashes: bool) -> Saved:
    specs = [_spec_of(name, value) for name, value in arrays.items()]
    dtypes = {name: dtype for name, dtype, _ in specs}
    blank = {**texts, HASH: "0" * DIGITS, HASHES: "0" * DIGITS * len(specs)} if hashes else texts
    header, places = safetensors_header(specs, blank, False, 0)
    size = len(header) + sum(end - start for _, start, end in places)
    with Saving(path) as saving:
        writer = _Writer(saving, hashes)
        saving.expect(size)
        saving.write(header)
        for name, start, end in places:
            writer.array(name, dtypes[name], end - start, arrays[name])
        if hashes:
            saving.overwrite(_hashed(safetensors_header(specs, writer.texts(texts), False, 0)[0]))
    return Saved(size, len(specs))


def _are_arrays(source: Any) -> bool:
    np = sys.modules.get("numpy")
    return (
        np is not None
        and type(source) is dict
        and all(type(name) is str for name in source)
        and all(isinstance(one, np.ndarray) and _has_type(one.dtype) for one in source.values())
    )


def _has_type(dtype: Any) -> bool:
    try:
        return bool(dtype_name(dtype))
    except TypeError:
        return False


def _size_of(arrays: Mapping[str, Any]) -> Any:
    return lambda name: int(arrays[name].nbytes)


def save(
    source: Any, path: Path, *, metadata: Mapping[str, str] | None = None, allow: Iterable[Any] = (),
    include: Iterable[str] | str | None = None, exclude: Iterable[str] | str = (), for_inference: bool = False,
    hashes: bool = False, environment: bool = True,
) -> Saved:  # fmt: skip
    """Writes a model to a safetensors file, in no more memory than it has; returns what was written, and left out.

    source: arrays by name; or a model: an estimator or pipeline of scikit-learn, a frame of pandas, a module or state
    dict of torch, and lists, dicts and other plain things around arrays: the arrays become tensors, named by where they
    are, and the rest a description that is data; or an iterator of (Spec, chunks), for more than memory holds: each
    tensor's chunks, arrays or buffers, follow each other to its size.
    metadata: texts by name. allow: classes and functions, or their full names, that a model may have besides those that
    are known to be harmless.
    include, exclude: names of arrays, as patterns of a shell ("encoder.*"; a name stands for all below it, too), that
    alone are kept, or are left out. for_inference: leaves out what serves training alone: the state of optimizers, what
    estimators keep of their training data and course, caches.
    hashes: SHA-256 of each tensor and of the file go with it, for Model.verify() and `bursar model verify`.
    environment: when the file was made and with which versions goes with it; SOURCE_DATE_EPOCH sets the time.
    The file takes the place of an older one when all of it is on the disk: who has that one open keeps it, and an
    error, or the end of the process, leaves it as it was. Raises bursar.Refused (a TypeError) for what is on no list,
    ValueError for chunks that do not fit, OSError where it cannot be written."""
    texts = dict(metadata or {})
    reserved = next((name for name in texts if name.startswith("bursar.")), None)
    if reserved is not None:
        raise ValueError(f"metadata may not have {reserved!r}: names that begin with bursar. are bursar's own")
    choice = Choice(include, exclude)
    if isinstance(source, Iterator):
        if environment:
            texts.update(record((), ""))
        return _save_stream(source, path, texts, choice, hashes)
    arrays, left, description = source, [], ""
    if not _are_arrays(source):
        from ._describe import describe

        described = describe(source, allow, for_inference)
        arrays, left, tree = described.arrays, described.left, described.tree
        if choice:
            tree, more = prune(tree, choice, None, _size_of(arrays))
            needed = array_names(tree)
            arrays = {name: array for name, array in arrays.items() if name in needed}
            left += more
        description = json.dumps({"version": 1, "model": tree}, separators=(",", ":"))
        texts[DESCRIPTION] = description
    elif choice:
        left = [LeftOut(name, array.nbytes) for name, array in arrays.items() if not choice.wants(name)]
        arrays = {name: array for name, array in arrays.items() if choice.wants(name)}
    if environment:
        texts.update(record(arrays.values(), description))
    if left:
        texts[LEFT_OUT] = ", ".join(one.name for one in left)
    return _save_arrays(arrays, path, texts, hashes)._replace(left_out=tuple(left))
