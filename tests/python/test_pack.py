"""bursar model pack and unpack: nothing is lost, each block is read alone, and what was damaged is an error."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import bursar
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import LIMIT

np = pytest.importorskip("numpy")
BLOCK = 131072  # elements of a float


def run(command: str, *words: "str | Path") -> "subprocess.CompletedProcess[str]":
    return subprocess.run([command, "model", *words], capture_output=True, text=True, timeout=LIMIT, check=False)


def packed(command: str, model: "dict[str, Any]", folder: Path, **more: Any) -> Path:
    """The packed file; unpacking it gives the plain one back, byte for byte."""
    bursar.save(model, folder / "plain", **more)
    assert run(command, "pack", folder / "plain", "-o", folder / "packed").stderr == ""
    assert run(command, "unpack", folder / "packed", "-o", folder / "again").stderr == ""
    assert (folder / "again").read_bytes() == (folder / "plain").read_bytes()
    return folder / "packed"


def kinds() -> dict[str, Any]:
    """Weights as models have them, and what they have beside."""
    rng = np.random.default_rng(5)
    return {
        "f4": (rng.normal(size=(700, 600)) * 0.02).astype("f4"), "f2": rng.normal(size=300_001).astype("f2"),
        "f8": rng.normal(size=(3, BLOCK)), "c8": (rng.normal(size=5000) + 1j).astype("c8"),
        "counts": np.arange(200_000), "few": rng.integers(0, 9, 300_000).astype("i4"), "zeros": np.zeros((300, 300)),
        "noise": rng.integers(0, 256, 300_000).astype("u1"), "true": np.ones(10_000, bool), "small": np.arange(7.0),
        "number": np.array(2, "f4"), "none": np.zeros((0, 3)),
    }  # fmt: skip


def test_all_kinds(command: str, tmp_path: Path) -> None:
    model = kinds()
    path = packed(command, model, tmp_path, metadata={"made": "here"})
    facts = json.loads(run(command, "inspect", path, "--format", "json").stdout)
    ratio = {one["name"]: one["stored_bytes"] / max(one["bytes"], 1) for one in facts["tensors"]}
    assert ratio["f4"] < 0.835 and ratio["f2"] < 0.9 and ratio["f8"] < 0.95  # little more than the exponents' entropy
    assert ratio["zeros"] < 0.01 and ratio["counts"] < 0.5 and ratio["few"] < 0.4
    assert ratio["noise"] == ratio["small"] == 1
    with bursar.open(path) as read:
        assert read.metadata == {"made": "here"} and set(read) == set(model)
        for name, array in model.items():
            assert np.array_equal(read[name], array) and read[name].dtype == np.asarray(array).dtype
            assert not read[name].flags.writeable
    for threads in (1, 5):
        loaded = bursar.load(path, threads=threads)
        assert all(loaded[name].tobytes() == np.asarray(array).tobytes() for name, array in model.items())


def test_it_is_a_safetensors_file(command: str, tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors")
    model = kinds()
    path = packed(command, model, tmp_path, metadata={"made": "here"}, environment=False)
    with library.safe_open(path, "numpy") as file:
        assert set(file.keys()) == {*model, "bursar.pack.header"}
        assert file.metadata() == {"made": "here", "bursar.pack": "1"}
        assert file.get_tensor("f4").dtype == np.uint8
        assert np.array_equal(file.get_tensor("small"), model["small"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["u1", "i2", "f2", "f4", "f8", "c8", "i8", "bool"]),
    count=st.integers(0, 3 * BLOCK) | st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1, 4095, 4096]),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 1e30]), data=st.data(),
)  # fmt: skip
def test_any_array(kind: str, count: int, spread: float, data: st.DataObject, command: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    if data.draw(st.booleans()):
        array = np.frombuffer(rng.bytes(count * np.dtype(kind).itemsize), kind)  # any bits: NaN payloads, infinities
        array = array & 1 == 1 if kind == "bool" else array
    else:
        with np.errstate(all="ignore"):
            array = (rng.normal(size=count) * spread).astype(kind)
    path = packed(command, {"a": array, "b": np.arange(3)}, tmp_path)
    first = data.draw(st.integers(0, count))
    last = data.draw(st.integers(first, count))
    with bursar.open(path) as read:
        assert read["a"].tobytes() == array.tobytes()
        assert read.read("a", rows=slice(first, last)).tobytes() == array[first:last].tobytes()


def test_sealed_and_packed(command: str, tmp_path: Path) -> None:
    model = kinds()
    path = packed(command, model, tmp_path)
    run(command, "keygen", "-o", tmp_path / "key")
    recipient = (tmp_path / "key").read_text().split("public key: ")[1].split()[0]
    assert run(command, "seal", "--to", recipient, "-o", tmp_path / "sealed", path).returncode == 0
    with bursar.open(tmp_path / "sealed", identity=tmp_path / "key") as read:
        assert all(np.array_equal(read[name], array) for name, array in model.items())
        assert np.array_equal(read.read("f4", rows=slice(300, 400)), model["f4"][300:400])


def test_what_was_damaged(command: str, tmp_path: Path) -> None:
    """An error, or, where noise was changed, other noise: never a crash, and nothing of another tensor."""
    model = {"f4": kinds()["f4"], "counts": np.arange(100_000), "small": np.arange(7.0)}
    content = packed(command, model, tmp_path).read_bytes()
    rng = np.random.default_rng(9)
    errors = 0
    header = int.from_bytes(content[:8], "little") + 8
    places = [*rng.integers(8, len(content), 150), *range(header, header + 60), *range(header + 300, header + 400)]
    path = tmp_path / "damaged"
    for place in map(int, places):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            read = bursar.load(path)
        except ValueError as error:
            errors += 1
            assert str(error).count("\n") == 0
            continue
        assert sum(not np.array_equal(read[name], model[name]) for name in model if name in read) <= 1
    assert errors > 50
    for length in (100, header, header + 200, len(content) - 10_000):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError):
            bursar.load(path)


def test_wrong_use(command: str, tmp_path: Path) -> None:
    path = packed(command, {"a": np.zeros(10_000)}, tmp_path)
    (tmp_path / "text").write_text("no model")
    for words, status, said in (
        (["pack", path, "-o", tmp_path / "x"], 1, "is packed already"),
        (["unpack", tmp_path / "plain", "-o", tmp_path / "x"], 1, "is not packed"),
        (["pack", tmp_path / "plain"], 2, "-o OUT"),
        (["pack", tmp_path / "text", "-o", tmp_path / "x"], 1, "no safetensors file"),
        (["pack", tmp_path / "missing", "-o", tmp_path / "x"], 1, "No such file"),
        (["unpack", path, "-o", tmp_path / "x", "--threads", "0"], 2, "takes a number"),
    ):
        done = run(command, *words)
        assert done.returncode == status and said in done.stderr and done.stderr.count("\n") == 1
    assert "x" not in os.listdir(tmp_path)
    assert run(command, "pack", tmp_path / "plain", "-o", tmp_path / "plain").returncode == 0  # in its own place
    assert bursar.load(tmp_path / "plain")["a"].sum() == 0


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.numpy").save_file
    save_file({"a": np.zeros(3)}, tmp_path / "m", {"bursar.pack": "2"})
    with pytest.raises(ValueError, match="packed by a newer bursar"):
        bursar.open(tmp_path / "m")
    save_file({"a": np.zeros(3)}, tmp_path / "m", {"bursar.pack": "1"})
    with pytest.raises(ValueError, match="the plain header is missing"):
        bursar.open(tmp_path / "m")
