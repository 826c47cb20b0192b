"""A model's file made of what people have, with no code run: in C (src/model/convert.c), but for HDF5, by h5py.

`bursar model convert` hands HDF5 over to this module: python -m bursar._convert FILE OUT FORMAT RECORD."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _bursar
from ._describe import Refused, name_of
from ._model import Spec, dtype_name, nbytes_of
from ._save import PIECE, save

if TYPE_CHECKING:
    import numpy as np

    AnyPath = str | os.PathLike[str]

CONFIG = "keras.config"  # in the metadata: what Keras says of the layers
WEIGHTS = "model.weights.h5"  # in a .keras file
TEXT_MOST = 32 << 20  # bytes of that
MUCH = 4 << 30  # bytes; as for what is unpacked in C
DEEPEST = 100  # groups in groups


class Converted(NamedTuple):
    """What became of a file: what it was ('pickle', 'joblib', 'npy', 'npz', 'torch', 'hdf5', 'keras'), how many tensors
    there are and their bytes, and whether there is more than arrays by name."""

    format: str
    tensors: int
    nbytes: int
    described: bool


def convert(path: AnyPath, out: AnyPath, *, allow: Iterable[Any] = (), environment: bool = True) -> Converted:
    """Makes a safetensors file, for bursar.load and bursar.open, of a pickle, a file of joblib's, npy, npz, a
    checkpoint of torch's, h5 or Keras's, and runs no code of it.

    allow: classes and functions, or their full names, that may be in it besides those that bursar.load knows to be
    harmless; bursar.load wants them too. environment: when and by what it was made goes with it. The file that is read
    is never changed; `out` is there whole, or as it was. Raises bursar.Refused (a TypeError) for names that are on no
    list: its `refused` has them, with their positions; ValueError for what cannot be read, with the place in it."""
    names = [one if isinstance(one, str) else name_of(one) for one in allow]
    error, kind, is_hdf5, tensors, nbytes, described, refused, _ = _bursar.convert(path, out, names, environment)
    if is_hdf5:
        return _convert_hdf5(os.fspath(path), out, environment)
    if refused:
        failure = Refused(error)
        failure.refused = tuple(refused)
        raise failure
    if error is not None:
        raise ValueError(error)
    return Converted(kind or "", tensors, nbytes, described)


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def _datasets(h5py: Any, group: Any, path: str, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """What a group holds, in it alone: links out of the file are not followed, and nothing is met twice."""
    if depth > DEEPEST:
        raise ValueError(f"{path}: {prefix}: groups lie in groups more than {DEEPEST} deep")
    for name in group:
        link = group.get(name, getlink=True)
        where = f"{prefix}{name}"
        if isinstance(link, h5py.ExternalLink):
            raise ValueError(f"{path}: {where} is in another file, {link.filename}: copy it into this one")
        if isinstance(link, h5py.SoftLink):
            continue  # it has a place of its own
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _datasets(h5py, item, path, f"{where}/", depth + 1)
        elif isinstance(item, h5py.Dataset):
            yield where, item


def _check(name: str, data: Any, path: str) -> str:
    """Its type, as safetensors calls it."""
    if data.external or data.is_virtual:
        raise ValueError(f"{path}: {name} has its numbers in another file: copy them into this one")
    if data.shape is None:
        raise ValueError(f"{path}: {name} has no numbers")
    try:
        return dtype_name(data.dtype)
    except TypeError as error:
        raise ValueError(f"{path}: {name}: {error}") from None


def _chunks(data: Any) -> Iterator[np.ndarray[Any, Any]]:
    """By rows, as many as make a piece, or as lie in one chunk of the file."""
    if not data.shape or not data.size:
        if data.size:
            yield data[()]
        return
    row = data.dtype.itemsize * (data.size // data.shape[0])
    step = max(PIECE // row, data.chunks[0] if data.chunks else 1, 1)
    for at in range(0, data.shape[0], step):
        yield data[at : at + step]


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) and len(value) <= TEXT_MOST else None


def _convert_group(
    h5py: Any, file: Any, path: str, out: Any, kind: str, config: str | None, environment: bool
) -> Converted:
    found: list[tuple[str, str, Any]] = []
    met: set[Any] = set()
    for name, data in _datasets(h5py, file, path):
        place = h5py.h5o.get_info(data.id).addr
        if place in met:
            continue  # one that has two names is kept by its first
        met.add(place)
        found.append((name, _check(name, data, path), data))
    config = config or _text(file.attrs.get("model_config"))
    metadata = {} if config is None else {CONFIG: config}
    specs = ((Spec(name, dtype, data.shape), _chunks(data)) for name, dtype, data in found)
    save(specs, out, metadata=metadata, environment=environment)
    return Converted(kind, len(found), sum(nbytes_of(dtype, data.shape) for _, dtype, data in found), False)


def _convert_hdf5(path: str, out: Any, environment: bool) -> Converted:
    try:
        import h5py  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        raise ValueError(f"{path} is HDF5, which h5py reads: {sys.executable} -m pip install h5py") from None
    if os.path.exists(out) and os.path.samefile(path, out):
        raise ValueError(f"{path} would be written over: name another file")
    try:
        if not zipfile.is_zipfile(path):
            with h5py.File(path, "r") as file:
                return _convert_group(h5py, file, path, out, "hdf5", None, environment)
        with zipfile.ZipFile(path) as zipped, tempfile.TemporaryFile(dir=Path(out).absolute().parent) as plain:
            # That names are there once, and that members lie over nothing, C has seen to.
            info = zipped.getinfo(WEIGHTS)
            if info.file_size > MUCH and info.file_size > 100 * info.compress_size:
                raise ValueError(f"{path}: {WEIGHTS} is more than a hundred times as much as it is packed into")
            with zipped.open(WEIGHTS) as packed:
                shutil.copyfileobj(packed, plain, PIECE)
            config = None
            if "config.json" in zipped.namelist():
                with zipped.open("config.json") as text:
                    config = _text(text.read(TEXT_MOST))
            plain.seek(0)
            with h5py.File(plain, "r") as file:
                return _convert_group(h5py, file, path, out, "keras", config, environment)
    except (OSError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def _print(path: str, out: str, kind: str, environment: str) -> int:
    """For the command: the same facts, and one line of complaint."""
    try:
        done = convert(path, out, environment=bool(environment))
    except (ValueError, OSError) as error:
        line = str(error).replace("\n", " ")
        sys.stderr.write(f"bursar: {line}\n")
        return 1
    if kind == "json":
        facts = {"schema": 1, "converted": True, "input": path, "output": out, "format": done.format}
        more = {"tensors": done.tensors, "bytes": done.nbytes, "described": done.described}
        sys.stdout.write(json.dumps(facts | more | {"refused_count": 0, "refused": []}) + "\n")
    else:
        sys.stdout.write(f"{out}: {done.tensors} tensors, {done.nbytes} B, from {done.format}\n")
    return 0


if __name__ == "__main__":
    sys.exit(_print(*sys.argv[1:5]))
