"""The ways to keep a model that bench/models.py compares: each saves arrays, or loads them from the file that it saved.

Libraries are imported where they are used: a way's process has its own alone.
"""
from __future__ import annotations

import json
import mmap
import os
import pickle
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]
CHUNK = 64 << 10  # of age's format


# --- the model ------------------------------------------------------------------------------------------------------
# A folder has its bytes in 'raw', and what they are in 'shape.json'; a folder beside it a tiny one of the same kind.


def names_of(count: int) -> list[str]:
    return [f"layers.{number:05}.weight" for number in range(count)]


def tiny(folder: Path) -> Path:
    return folder.parent / "tiny" / folder.name


def make(folder: Path, count: int, length: int, dtype: str) -> None:
    """Weights: normal numbers. bfloat16 is what the upper halves of float32 are, rounded; NumPy has them as uint16."""
    rng = np.random.default_rng(7)
    with (folder / "raw").open("wb", buffering=0) as file:
        for _ in range(count):
            array = rng.standard_normal(length, "f4") * np.float32(0.02)
            if dtype == "uint16":
                array = ((array.view("u4") + 0x8000) >> 16).astype("u2")
            file.write(memoryview(array))
    (folder / "shape.json").write_text(json.dumps([count, length, dtype]))


def shape_of(folder: Path) -> tuple[int, int, str]:
    """How many arrays of how many numbers of which type."""
    count, length, dtype = json.loads((folder / "shape.json").read_text())
    return count, length, dtype


def arrays_of(folder: Path) -> Arrays:
    count, length, dtype = shape_of(folder)
    with (folder / "raw").open("rb") as file:
        return {name: np.fromfile(file, dtype, length) for name in names_of(count)}


def same(found: Any, folder: Path) -> None:
    """All of them are there, and of the first, one in the middle and the last each byte."""
    count, length, dtype = shape_of(folder)
    raw, names = np.memmap(folder / "raw", "u1", "r").reshape(count, -1), names_of(count)
    if len(found) != count:
        raise SystemExit(f"{len(found)} arrays came, not {count}")
    for at in sorted({0, count // 2, count - 1}):
        if not np.array_equal(np.asarray(found[names[at]]).reshape(-1).view("u1"), raw[at]):
            raise SystemExit(f"'{names[at]}' came back as something else")


# --- saved ----------------------------------------------------------------------------------------------------------


def raw_write(arrays: Arrays, path: str) -> None:
    with open(path, "wb", buffering=0) as file:
        for array in arrays.values():
            file.write(memoryview(array))


def raw_write_fsync(arrays: Arrays, path: str) -> None:
    with open(path, "wb", buffering=0) as file:
        for array in arrays.values():
            file.write(memoryview(array))
        os.fsync(file.fileno())


def pickle_save(arrays: Arrays, path: str) -> None:
    with open(path, "wb") as file:
        pickle.dump(arrays, file, protocol=5)


def out_of_band_save(arrays: Arrays, path: str) -> None:
    """The pickle, then its buffers, with their sizes in front."""
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(arrays, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    with open(path, "wb", buffering=1 << 16) as file:
        np.array([len(text), len(views), *(view.nbytes for view in views)], "<u8").tofile(file)
        file.write(text)
        for view in views:
            file.write(view)


def joblib_save(arrays: Arrays, path: str) -> None:
    import joblib

    joblib.dump(arrays, path)


def h5py_save(arrays: Arrays, path: str) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)


def npz_save(arrays: Arrays, path: str) -> None:
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def torch_save(arrays: Arrays, path: str) -> None:
    import torch

    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)


def safetensors_save(arrays: Arrays, path: str) -> None:
    from safetensors.numpy import save_file

    save_file(arrays, path)


def bursar_save(arrays: Arrays, path: str) -> None:
    import bursar

    bursar.save(arrays, path)


def bursar_save_iterator(arrays: Arrays, path: str) -> None:
    import bursar

    bursar.save(((bursar.Spec(name, one.dtype, one.shape), [one]) for name, one in arrays.items()), path)


def bursar_save_bfloat16(arrays: Arrays, path: str) -> None:
    import bursar

    bursar.save(((bursar.Spec(name, "BF16", one.shape), [memoryview(one)]) for name, one in arrays.items()), path)


SAVE: dict[str, Callable[[Arrays, str], None]] = {
    "raw": raw_write,
    "raw and fsync": raw_write_fsync,
    "pickle 5": pickle_save,
    "pickle out-of-band": out_of_band_save,
    "joblib": joblib_save,
    "h5py": h5py_save,
    "npz": npz_save,
    "torch.save": torch_save,
    "safetensors": safetensors_save,
    "bursar": bursar_save,
    "bursar, from an iterator": bursar_save_iterator,
    "bursar, bfloat16": bursar_save_bfloat16,
}


# --- loaded, copied -------------------------------------------------------------------------------------------------


def raw_read(path: str) -> Any:
    """All of it into one piece of new memory, of small pages: what large ones cost differs by the minute."""
    with open(path, "rb", buffering=0) as file:
        return file.read()


def raw_read_each(path: str) -> Any:
    """Each array by a read of its own into memory of its own."""
    count, length, dtype = shape_of(Path(path).parent)
    arrays = {}
    with open(path, "rb", buffering=0) as file:
        for name in names_of(count):
            array = np.empty(length, dtype)
            file.readinto(memoryview(array).cast("B"))
            arrays[name] = array
    return arrays


def pickle_load(path: str) -> Any:
    with open(path, "rb") as file:
        return pickle.load(file)


def out_of_band_parts(file: Any) -> tuple[Any, list[int]]:
    length, count = np.fromfile(file, "<u8", 2).tolist()
    sizes = np.fromfile(file, "<u8", count).tolist()
    return file.read(length), sizes


def out_of_band_load(path: str) -> Any:
    with open(path, "rb", buffering=1 << 16) as file:
        text, sizes = out_of_band_parts(file)
        buffers = []
        for size in sizes:
            buffer = np.empty(size, "u1")
            file.readinto(memoryview(buffer))
            buffers.append(buffer)
    return pickle.loads(text, buffers=buffers)


def joblib_load(path: str) -> Any:
    import joblib

    return joblib.load(path)


def h5py_load(path: str) -> Any:
    import h5py

    arrays = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, one: arrays.__setitem__(name, one[()]) if isinstance(one, h5py.Dataset) else None)
    return arrays


def npz_load(path: str) -> Any:
    with np.load(path) as file:
        return dict(file)


def torch_load(path: str) -> Any:
    import torch

    return torch.load(path, weights_only=True)


def safetensors_load(path: str) -> Any:
    from safetensors.numpy import load_file

    return load_file(path)


def bursar_load(path: str) -> Any:
    import bursar

    return bursar.load(path)


COPIED: dict[str, Callable[[str], Any]] = {
    "raw": raw_read,
    "raw, array by array": raw_read_each,
    "pickle 5": pickle_load,
    "pickle out-of-band": out_of_band_load,
    "joblib": joblib_load,
    "h5py": h5py_load,
    "npz": npz_load,
    "torch.save": torch_load,
    "safetensors": safetensors_load,
    "bursar": bursar_load,
}


# --- loaded, mapped -------------------------------------------------------------------------------------------------


def out_of_band_map(path: str) -> Any:
    with open(path, "rb", buffering=1 << 16) as file:
        text, sizes = out_of_band_parts(file)
        at, view, buffers = file.tell(), memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), []
        for size in sizes:
            buffers.append(view[at : at + size])
            at += size
    return pickle.loads(text, buffers=buffers)


def joblib_map(path: str) -> Any:
    import joblib

    return joblib.load(path, mmap_mode="r")


def torch_map(path: str) -> Any:
    import torch

    return torch.load(path, weights_only=True, mmap=True)


def safetensors_map(path: str) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


def bursar_map(path: str) -> Any:
    import bursar

    with bursar.open(path) as model:
        return {name: model[name] for name in model}


def bursar_map_torch(path: str) -> Any:
    import bursar

    with bursar.open(path) as model:
        return {name: model.torch(name) for name in model}


MAPPED: dict[str, Callable[[str], Any]] = {
    "raw": raw_read,
    "pickle out-of-band": out_of_band_map,
    "joblib": joblib_map,
    "torch.save": torch_map,
    "safetensors, torch": safetensors_map,
    "bursar": bursar_map,
    "bursar, torch": bursar_map_torch,
}


# --- the first tensor -----------------------------------------------------------------------------------------------


def first_raw(path: str) -> Any:
    _, length, dtype = shape_of(Path(path).parent)

    def read() -> Any:
        descriptor = os.open(path, os.O_RDONLY)
        array = np.empty(length, dtype)
        os.preadv(descriptor, [memoryview(array).cast("B")], 0)
        os.close(descriptor)
        return array

    return read


def first_safetensors(path: str) -> Any:
    from safetensors import safe_open

    def read() -> Any:
        with safe_open(path, "np") as file:
            return file.get_tensor(names_of(1)[0])

    return read


def first_bursar(path: str, **how: Any) -> Any:
    import bursar

    def read() -> Any:
        with bursar.open(path, **how) as model:
            return model.read(names_of(1)[0])

    return read


def first_sealed(path: str) -> Any:
    return first_bursar(path, identity=str(Path(path).parent / "identity"))


FIRST: dict[str, Callable[[str], Any]] = {
    "raw": first_raw,
    "safetensors": first_safetensors,
    "bursar": first_bursar,
    "bursar, packed": first_bursar,
    "bursar, sealed": first_sealed,
}


# --- packed ---------------------------------------------------------------------------------------------------------
# From a file of arrays to one of packed arrays, and from that to arrays in memory; beside it, the codec alone.


def zipnn_codec(dtype: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    import zipnn

    codec = zipnn.ZipNN(input_format="byte", bytearray_dtype=dtype, threads=1)
    return lambda array: codec.compress(bytearray(array)), codec.decompress


def blosc2_codec(codec: str, level: int) -> Any:
    def make(dtype: str) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        import blosc2

        blosc2.set_nthreads(1)
        size = 2 if dtype == "bfloat16" else 4
        how = {"typesize": size, "clevel": level, "filter": blosc2.Filter.SHUFFLE, "codec": blosc2.Codec[codec]}
        return lambda array: blosc2.compress(array, **how), blosc2.decompress

    return make


CODECS: dict[str, Any] = {
    "zipnn": zipnn_codec,
    "blosc2, zstd 1": blosc2_codec("ZSTD", 1),
    "blosc2, lz4": blosc2_codec("LZ4", 5),
}


class Codec:
    """Arrays of raw bytes through a library's codec, one after the other, as one would write and read them."""

    def __init__(self, way: str, dtype: str) -> None:
        self.pack_one, self.unpack_one = CODECS[way](dtype)
        self.alone_s = 0.0

    def timed(self, act: Callable[[Any], Any], what: Any) -> Any:
        start = time.process_time()
        made = act(what)
        self.alone_s += time.process_time() - start
        return made

    def pack(self, folder: Path, target: str) -> None:
        sizes = []
        count, length, dtype = shape_of(folder)
        array = np.empty(length, dtype)
        with (folder / "raw").open("rb", buffering=0) as file, open(target, "wb", buffering=0) as out:
            for _ in range(count):
                file.readinto(memoryview(array).cast("B"))
                packed = self.timed(self.pack_one, memoryview(array).cast("B"))
                sizes.append(len(packed))
                out.write(packed)
        Path(f"{target}.sizes").write_text(json.dumps(sizes))

    def unpack(self, folder: Path, source: str, keep: bool = True) -> Any:
        """Where none is kept, malloc has memory for the next one."""
        _, _, dtype = shape_of(folder)
        arrays = []
        with open(source, "rb", buffering=0) as file:
            for size in json.loads(Path(f"{source}.sizes").read_text()):
                array = np.frombuffer(self.timed(self.unpack_one, file.read(size)), dtype)
                if keep:
                    arrays.append(array)
        return dict(zip(names_of(len(arrays)), arrays, strict=True))


def bursar_load_one_thread(path: str, **how: Any) -> Any:
    import bursar

    return bursar.load(path, threads=1, **how)


def bursar_read_each(path: str, into: Any, **how: Any) -> None:
    """Each tensor into the same memory."""
    import bursar

    with bursar.open(path, threads=1, **how) as model:
        for name in model:
            model.read(name, out=into)


# --- sealed ---------------------------------------------------------------------------------------------------------


def pyrage_seal(source: str, target: str, folder: Path) -> None:
    import pyrage

    public = pyrage.x25519.Recipient.from_str((folder / "recipient").read_text().strip())
    pyrage.encrypt_file(source, target, [public])


def pyrage_open(source: str, target: str, folder: Path) -> None:
    import pyrage

    secret = re.search("AGE-SECRET-KEY-[A-Z0-9]+", (folder / "identity").read_text())
    pyrage.decrypt_file(source, target, [pyrage.x25519.Identity.from_str(secret[0] if secret else "")])


def fernet(folder: Path) -> Any:
    from cryptography.fernet import Fernet

    return Fernet((folder / "fernet").read_text())


def fernet_seal(source: str, target: str, folder: Path) -> None:
    Path(target).write_bytes(fernet(folder).encrypt(Path(source).read_bytes()))


def fernet_open(source: str, target: str, folder: Path) -> None:
    Path(target).write_bytes(fernet(folder).decrypt(Path(source).read_bytes()))


SEALERS = {"pyrage": (pyrage_seal, pyrage_open), "Fernet": (fernet_seal, fernet_open)}


def limit(opening: bool, size: int) -> float:
    """ChaCha20-Poly1305 of OpenSSL over chunks of 64 KiB in memory, without a file: CPU seconds for so many bytes."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    cipher, nonce, plain = ChaCha20Poly1305(bytes(32)), bytes(12), bytes(CHUNK)
    sealed = cipher.encrypt(nonce, plain, None)
    start = time.process_time()
    for _ in range(size // CHUNK):
        if opening:
            cipher.decrypt(nonce, sealed, None)
        else:
            cipher.encrypt(nonce, plain, None)
    return time.process_time() - start


# --- a forest -------------------------------------------------------------------------------------------------------


def skops_save(model: Any, path: str) -> None:
    import skops.io

    skops.io.dump(model, path)


def skops_save_small(model: Any, path: str) -> None:
    import skops.io

    skops.io.dump(model, path, compression=zipfile.ZIP_DEFLATED)


def skops_load(path: str) -> Any:
    import skops.io

    return skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))


def joblib_save_small(model: Any, path: str) -> None:
    import joblib

    joblib.dump(model, path, compress=3)


FOREST_SAVE: dict[str, Callable[[Any, str], None]] = {
    "pickle 5": pickle_save,
    "joblib": joblib_save,
    "joblib, compress=3": joblib_save_small,
    "skops": skops_save,
    "skops, deflated": skops_save_small,
    "bursar": bursar_save,
}
FOREST_LOAD: dict[str, Callable[[str], Any]] = {
    "raw": raw_read,
    "pickle 5": pickle_load,
    "joblib": joblib_load,
    "joblib, compress=3": joblib_load,
    "skops": skops_load,
    "skops, deflated": skops_load,
    "bursar": bursar_load,
    "bursar, packed": bursar_load_one_thread,
}


def forest(samples: int, trees: int) -> Any:
    """Of noisy labels, so that the trees grow."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(7)
    x = rng.normal(size=(samples, 12)).astype("f4")
    y = (x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(size=samples) > 0).astype(int)
    return RandomForestClassifier(trees, random_state=7, n_jobs=1).fit(x, y)


def answers(model: Any) -> Any:
    return model.predict_proba(np.random.default_rng(8).normal(size=(50, 12)).astype("f4"))
