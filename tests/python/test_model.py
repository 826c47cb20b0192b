"""safetensors files: ours and the safetensors library's are the same thing, what the format forbids is refused, and a
file that is being saved is there whole or as it was."""

import errno
import json
import os
import signal
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bursar
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import Program, printed, program
from running import Run

__all__ = ["program"]
np = pytest.importorskip("numpy")


def file_of(header: "dict[str, Any] | bytes | str", data: bytes = b"", pad: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text + pad)) + text + pad + data


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def opened(path: Path, content: bytes) -> bursar.Model:
    path.write_bytes(content)
    return bursar.open(path)


LIBRARY = ("bool", "u1", "i1", "<u2", "<i2", "<f2", "<u4", "<i4", "<f4", "<c8", "<f8", "<i8", "<u8")
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=0, max_size=20).filter(lambda n: n != "__metadata__")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    shape, dtype = draw(shapes), np.dtype(draw(st.sampled_from(LIBRARY)))
    content = draw(st.binary(min_size=(size := int(np.prod(shape)) * dtype.itemsize), max_size=size))
    if dtype.kind == "b":
        content = bytes(byte & 1 for byte in content)
    return np.frombuffer(content, dtype).reshape(shape)


often = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# --- what is read, and what is refused ------------------------------------------------------------------------------


def test_a_file_by_hand(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"made": "by hand", "\u00e9": "\ud83d\ude00"},
        "b": entry("U8", [3], 4, 7), "a": entry("F32", [], 0, 4), "none": entry("I64", [0, 5], 7, 7),
        "deep \n \"name\"": entry("BOOL", [1, 1, 2], 7, 9),
    }  # fmt: skip
    with opened(tmp_path / "m", file_of(header, struct.pack("<f", 2.5) + bytes([1, 2, 3, 1, 0]), b"   ")) as model:
        assert list(model) == ["a", "b", "none", 'deep \n "name"']
        assert len(model) == 4 and "a" in model and "c" not in model and 3 not in model
        assert model.metadata == {"made": "by hand", "\u00e9": "\U0001f600"}
        assert model["a"].shape == () and model["a"] == 2.5
        assert model["b"].tolist() == [1, 2, 3] and not model["b"].flags.writeable
        assert model["none"].shape == (0, 5)
        assert model['deep \n "name"'].tolist() == [[[True, False]]]
        assert model.info("b") == ("U8", (3,), 3)
        assert bytes(model.raw("b")) == b"\1\2\3"
        with pytest.raises(KeyError):
            model["c"]
        kept = model["b"]
    assert kept.tolist() == [1, 2, 3]  # it keeps the file mapped


GOOD = entry("U8", [2], 0, 2)
REFUSED = {
    "nothing": b"",
    "seven bytes": b"\0" * 7,
    "no header": struct.pack("<Q", 0),
    "a header longer than the file": struct.pack("<Q", 9) + b"{}",
    "a header of more than may be": struct.pack("<Q", 100_000_001) + b"{}",
    "the largest length": b"\xff" * 8 + b"{}",
    "a blank first": file_of(" {}"),
    "a list": file_of("[]"),
    "no end": file_of("{"),
    "two objects": file_of("{}{}"),
    "zeros behind it": file_of("{}", pad=b"\0"),
    "a comma too much": file_of('{"a":{"dtype":"U8","shape":[2,],"data_offsets":[0,2]}}', b"ab"),
    "broken UTF-8": file_of(b'{"\xff":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', b"ab"),
    "overlong UTF-8": file_of(b'{"\xc0\x80":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', b"ab"),
    "a lone surrogate": file_of(r'{"\ud800":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', b"ab"),
    "a control character": file_of('{"a\n":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', b"ab"),
    "no escape": file_of(r'{"\x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', b"ab"),
    "the same name twice": file_of(f'{{"a":{json.dumps(GOOD)},"a":{json.dumps(entry("U8", [0], 2, 2))}}}', b"ab"),
    "the same name in other letters": file_of(
        f'{{"a":{json.dumps(GOOD)},"\\u0061":{json.dumps(entry("U8", [0], 2, 2))}}}', b"ab"
    ),
    "metadata twice": file_of('{"__metadata__":{},"__metadata__":{}}'),
    "metadata of numbers": file_of('{"__metadata__":{"a":1}}'),
    "a name of metadata twice": file_of('{"__metadata__":{"a":"1","a":"2"}}'),
    "a type that is none": file_of({"a": entry("U9", [2], 0, 2)}, b"ab"),
    "a field more": file_of({"a": {**GOOD, "more": 1}}, b"ab"),
    "a field twice": file_of('{"a":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}', b"ab"),
    "no shape": file_of({"a": {"dtype": "U8", "data_offsets": [0, 2]}}, b"ab"),
    "no type": file_of({"a": {"shape": [2], "data_offsets": [0, 2]}}, b"ab"),
    "no offsets": file_of({"a": {"dtype": "U8", "shape": [2]}}, b"ab"),
    "one offset": file_of({"a": {**GOOD, "data_offsets": [0]}}, b"ab"),
    "three offsets": file_of({"a": {**GOOD, "data_offsets": [0, 2, 2]}}, b"ab"),
    "a negative offset": file_of({"a": {**GOOD, "data_offsets": [-2, 0]}}, b"ab"),
    "offsets the wrong way": file_of({"a": {**GOOD, "data_offsets": [2, 0]}}, b"ab"),
    "a fraction": file_of({"a": {**GOOD, "shape": [2.0]}}, b"ab"),
    "an exponent": file_of('{"a":{"dtype":"U8","shape":[2e0],"data_offsets":[0,2]}}', b"ab"),
    "a leading zero": file_of('{"a":{"dtype":"U8","shape":[02],"data_offsets":[0,2]}}', b"ab"),
    "bytes that are not of its shape": file_of({"a": entry("U8", [3], 0, 2)}, b"ab"),
    "a shape beyond 64 bits": file_of({"a": entry("U8", [1 << 32, 1 << 32], 0, 2)}, b"ab"),
    "a shape that wraps around": file_of({"a": entry("U8", [(1 << 63) + 1, 2], 0, 2)}, b"ab"),
    "a number of many digits": file_of('{"a":{"dtype":"U8","shape":[%s],"data_offsets":[0,2]}}' % ("9" * 40), b"ab"),
    "half a byte": file_of({"a": entry("F4", [3], 0, 2)}, b"ab"),
    "a hole": file_of({"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 2, 3)}, b"abc"),
    "a hole at the beginning": file_of({"a": entry("U8", [1], 1, 2)}, b"ab"),
    "an overlap": file_of({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"abc"),
    "the same bytes twice": file_of({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 0, 2)}, b"ab"),
    "bytes at the end": file_of({"a": GOOD}, b"abc"),
    "bytes without a tensor": file_of("{}", b"a"),
    "cut off": file_of({"a": GOOD}, b"a"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(ValueError, match="m.safetensors is no safetensors file: ") as refused:
        opened(path, REFUSED[what])
    assert "\n" not in str(refused.value)


@often
@given(model=st.dictionaries(st.text('ab\\"\u00e9', max_size=3), arrays(), max_size=3), data=st.data())
def test_what_we_accept_the_library_accepts(model: dict[str, Any], data: st.DataObject, tmp_path: Path) -> None:
    """A header with some bytes changed, added and taken out: what both read is the same; we refuse more."""
    library = pytest.importorskip("safetensors")
    pytest.importorskip("safetensors.numpy")
    content = bytearray(library.numpy.save(model))
    length = struct.unpack("<Q", content[:8])[0]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(8, 8 + length))
        content[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2) | st.sampled_from(
            [b"1", b"0", b",", b"]", b"}", b'"', b"\\u0061", b" ", b"{", b":", b"e", b"-"]
        ))  # fmt: skip
    if data.draw(st.booleans()):
        content[:8] = struct.pack("<Q", length + len(content) - 8 - length - sum(a.nbytes for a in model.values()))
    path = tmp_path / "m"
    path.write_bytes(content)
    try:
        ours = bursar.open(path)
    except ValueError:
        return
    theirs = dict(library.deserialize(bytes(content)))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        info = ours.info(name)
        assert (info.dtype, list(info.shape)) == (tensor["dtype"], tensor["shape"])
        assert bytes(ours.raw(name)) == bytes(tensor["data"])


def test_a_good_file_is_none_of_those(tmp_path: Path) -> None:
    assert list(opened(tmp_path / "m", file_of({"a": GOOD}, b"ab"))) == ["a"]
    assert list(opened(tmp_path / "m", file_of("{}", pad=b" \n\t\r "))) == []
    wide = {"a": entry("F4", [4], 0, 2), "b": entry("F6_E2M3", [4], 2, 5)}
    assert opened(tmp_path / "m", file_of(wide, b"abcde")).info("b") == ("F6_E2M3", (4,), 3)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        bursar.open(tmp_path / "none")
    with pytest.raises(ValueError, match="is no file"):
        bursar.open("/dev/null")


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = tmp_path / "m"
    bursar.save({"a": np.arange(100_000)}, path)
    model = bursar.open(path)
    os.truncate(path, 5000)
    with pytest.raises(ValueError, match="has become shorter: it ends at 5000 bytes"):
        model.read("a")


# --- there and back, with the library --------------------------------------------------------------------------------


def same(left: Any, right: Any) -> bool:
    """Bit for bit: NaN payloads too."""
    return bool(left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes())


models = st.dictionaries(names, arrays(), max_size=6)
metadata = st.dictionaries(texts, texts, max_size=4)


@often
@given(model=models, about=metadata)
def test_the_library_reads_what_we_write(model: dict[str, Any], about: dict[str, str], tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors")
    from safetensors.numpy import load_file

    path = tmp_path / "ours"
    bursar.save(model, path, metadata=about, environment=False)
    read = load_file(path)
    assert read.keys() == model.keys() and all(same(read[name], model[name]) for name in model)
    with library.safe_open(path, "numpy") as file:
        assert (file.metadata() or {}) == about
    again = bursar.load(path)
    assert again.keys() == model.keys() and all(same(again[name], model[name]) for name in model)


@often
@given(model=models, about=metadata)
def test_we_read_what_the_library_writes(model: dict[str, Any], about: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from safetensors.numpy import save_file

    path = tmp_path / "theirs"
    save_file(model, path, about or None)
    with bursar.open(path) as read:
        assert read.keys() == model.keys() and read.metadata == about
        assert all(same(read[name], model[name]) and same(read.read(name), model[name]) for name in model)
    if len(about) < 2:  # which the library writes in any order
        bursar.save(model, tmp_path / "ours", metadata=about, environment=False)
        assert (tmp_path / "ours").read_bytes() == path.read_bytes()


@often
@given(model=models)
def test_a_stream_of_them(model: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from safetensors.numpy import load_file

    def source() -> Any:
        for name, array in model.items():
            content = array.tobytes()
            yield bursar.Spec(name, array.dtype, array.shape), [content[i : i + 7] for i in range(0, len(content), 7)]

    bursar.save(source(), tmp_path / "m")
    read = load_file(tmp_path / "m")
    assert read.keys() == model.keys() and all(same(read[name], model[name]) for name in model)


def test_types_that_numpy_has_not(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kinds = ("bfloat16", "float8_e5m2", "float8_e4m3fn", "float8_e8m0fnu")
    model = {kind: np.arange(1, 7).astype(getattr(ml_dtypes, kind)).reshape(2, 3) for kind in kinds}
    bursar.save(model, tmp_path / "m")
    with bursar.open(tmp_path / "m") as read:
        assert [read.info(kind).dtype for kind in kinds] == ["BF16", "F8_E5M2", "F8_E4M3", "F8_E8M0"]
        assert all(same(read[kind], model[kind]) and same(read.read(kind), model[kind]) for kind in kinds)


def test_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    model = {
        "a": torch.arange(10, dtype=torch.bfloat16).reshape(2, 5), "b": torch.randn(3, 4).t(), "c": torch.tensor(True),
        "d": torch.zeros(0, 3), "e": torch.arange(4).to(torch.float8_e4m3fn),
    }  # fmt: skip
    bursar.save(model, tmp_path / "m")
    theirs = library.load_file(tmp_path / "m")
    with bursar.open(tmp_path / "m") as read:
        for name, tensor in model.items():
            ours = read.torch(name)
            assert ours.dtype == tensor.dtype == theirs[name].dtype
            assert torch.equal(ours.view(torch.uint8), tensor.contiguous().view(torch.uint8))
        read.torch("a").zero_()  # its own
        assert torch.equal(read.torch("a"), model["a"])


# --- reading in pieces ----------------------------------------------------------------------------------------------


def test_rows_and_places(tmp_path: Path) -> None:
    array = np.arange(60, dtype="i4").reshape(10, 2, 3)
    bursar.save({"a": array, "one": np.array(3, "f4")}, tmp_path / "m")
    with bursar.open(tmp_path / "m") as model:
        assert same(model.read("a", rows=slice(2, 5)), array[2:5])
        assert same(model.read("a", rows=slice(-3, None)), array[-3:])
        assert model.read("a", rows=slice(5, 2)).shape == (0, 2, 3)
        into = np.zeros((4, 2, 3), "i4")
        assert model.read("a", rows=slice(0, 4), out=into) is into and same(into, array[:4])
        buffer = bytearray(240)
        assert model.read("a", out=buffer).shape == (10, 2, 3) and bytes(buffer) == array.tobytes()
        secret = bursar.secret_array((10, 2, 3), "i4")
        with secret.open(write=True) as view:
            model.read("a", out=view)
            view = None
        with secret.open() as view:
            assert view.tolist() == array.tolist()
            view = None
        secret.close()
        for bad, words in (({"rows": slice(0, 4, 2)}, "a step of 1"), ({"out": bytearray(3)}, "has 240 bytes")):
            with pytest.raises(ValueError, match=words):
                model.read("a", **bad)
        with pytest.raises(ValueError, match="no rows"):
            model.read("one", rows=slice(0, 1))


def test_arrays_of_any_form(tmp_path: Path) -> None:
    big = np.arange(3_000_000, dtype=">f8").reshape(3, 1000, 1000)
    model = {
        "big-endian": big, "fortran": np.asfortranarray(big[0]), "steps": big[:, ::3, ::-1], "one": np.array(2.0),
        "wide": np.arange(2_000_000, dtype=">i8").reshape(1, -1),
    }  # fmt: skip
    bursar.save(model, tmp_path / "m")
    read = bursar.load(tmp_path / "m", ["big-endian", "fortran", "steps", "one", "wide"])
    for name, value in model.items():
        assert np.array_equal(read[name], value) and read[name].dtype == np.asarray(value).dtype.newbyteorder("<")


# --- saving ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "m"
    bursar.save({"old": np.zeros(3)}, path)
    before = path.read_bytes()
    spec = bursar.Spec("a", "float32", (4,))
    for source, error, words in (
        ({"a": np.array([object()])}, bursar.Refused, "builtins.object is on no list"),
        ({"a": print}, bursar.Refused, "builtins.print is on no list"),
        ({"__metadata__": np.zeros(3)}, ValueError, "__metadata__"),
        ({"\ud800": np.zeros(3)}, UnicodeEncodeError, "surrogates"),
        (iter([(spec, [b"123"])]), ValueError, "'a' has 16 bytes, and 3 came"),
        (iter([(spec, [b"1" * 16, b"2"])]), ValueError, "'a' has 16 bytes, and more came"),
        (iter([(spec, [np.zeros(2)])]), ValueError, "'a' is of F32, and a chunk of F64 came"),
        (iter([(spec, [b"1" * 16]), (spec, [b"1" * 16])]), ValueError, 'two tensors are called "a"'),
    ):
        with pytest.raises(error, match=words):
            bursar.save(source, path)
        assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m"]


def test_many_in_a_stream(tmp_path: Path) -> None:
    """More than the room that is left for their header."""
    specs = [(bursar.Spec(f"layer.{i}.weight", "U8", (3,)), [bytes([i % 256] * 3)]) for i in range(3000)]
    bursar.save(iter(specs), tmp_path / "m")
    with bursar.open(tmp_path / "m") as model:
        assert len(model) == 3000 and model["layer.2999.weight"].tolist() == [2999 % 256] * 3


def test_who_has_the_old_one_keeps_it(tmp_path: Path) -> None:
    path, link = tmp_path / "m", tmp_path / "link"
    bursar.save({"a": np.arange(1000)}, path)
    path.chmod(0o640)
    link.symlink_to("m")
    model = bursar.open(path)
    old = model["a"]
    bursar.save({"a": np.zeros(10)}, link)
    assert old.tolist() == list(range(1000))
    assert link.is_symlink() and bursar.load(path)["a"].tolist() == [0.0] * 10
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link", "m"]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"cannot write {tmp_path}/none/m: No such file or directory"):
        bursar.save({}, tmp_path / "none" / "m")
    with pytest.raises(OSError, match="Is a directory"):
        bursar.save({}, tmp_path)
    with pytest.raises(OSError, match="what is there is no file"):
        bursar.save({}, "/dev/null")


def test_a_full_disk(program: Program, tmp_path: Path) -> None:
    """As a limit on a file's size is: an error in the middle, and nothing has changed."""
    done = program(
        "import json, resource, signal, sys, bursar, numpy as np\n"
        "path = sys.argv[1]\n"
        "bursar.save({'a': np.arange(10)}, path)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "said = []\n"
        "for source in ({'a': np.zeros(100_000)}, iter([(bursar.Spec('a', 'f8', (100_000,)), [np.zeros(100_000)])])):\n"
        "    try: bursar.save(source, path)\n"
        "    except OSError as error: said.append(str(error))\n"
        "print(json.dumps([said, bursar.load(path)['a'].tolist()]))\n",
        tmp_path / "m",
    )
    said, old = printed(done)
    assert said == [f"cannot write {tmp_path}/m: {os.strerror(errno.EFBIG)}"] * 2
    assert old == list(range(10))
    assert "m" in os.listdir(tmp_path) and not [name for name in os.listdir(tmp_path) if name.startswith(".m.")]


def test_killed_at_any_moment(python: str, tmp_path: Path, under_way: Callable[..., Any]) -> None:
    """The old file or the new one, never half."""
    path = tmp_path / "m"
    bursar.save({"a": np.full(300_000, 1.0)}, path)
    import subprocess
    import sys as system

    code = (
        "import sys, bursar, numpy as np\n"
        "n = 2.0\n"
        "while True:\n"
        "    bursar.save({'a': np.full(300_000, n)}, sys.argv[1]); n += 1\n"
        "    print(n, flush=True)\n"
    )
    for tries in range(12):
        process = subprocess.Popen([system.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout
        for _ in range(1 + tries % 4):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        read = bursar.load(path)["a"]
        assert (read == read[0]).all() and read[0] >= 1


# --- the command ----------------------------------------------------------------------------------------------------


def test_inspect(bursar: Run, tmp_path: Path) -> None:
    content = {"__metadata__": {"made": "by \u001b[31mhand"}, "a.weight": entry("BF16", [2, 3], 0, 12)}
    (tmp_path / "m").write_bytes(file_of(content, bytes(12)))
    text = bursar("model", "inspect", tmp_path / "m").stdout
    assert "12 B  BF16         a.weight  [2, 3]" in text and "1 tensors, 6 numbers, 12 B" in text
    assert "\x1b" not in text and "made: by " in text
    facts = json.loads(bursar("model", "inspect", tmp_path / "m", "--format", "json").stdout)
    assert facts["tensors"] == [
        {
            "name": "a.weight", "dtype": "BF16", "bytes": 12, "packed": False, "stored_bytes": 12,
            "offset": facts["header_bytes"] + 8, "shape": [2, 3],
        }
    ]  # fmt: skip
    assert facts["bytes"] == 12 and facts["load_bytes"] == 512 and facts["metadata"] == {"made": "by \u001b[31mhand"}
    for words, status in (
        (["model"], 2), (["model", "inspct", "x"], 2), (["model", "inspect"], 2),
        (["model", "inspect", tmp_path / "x"], 1),
    ):  # fmt: skip
        done = bursar(*words)
        assert done.returncode == status and done.stderr.count("\n") == 1
    assert "inspect" in bursar("model", "--help").stdout
