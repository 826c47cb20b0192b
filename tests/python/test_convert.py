"""bursar model convert: a pickle, joblib, npy, npz, torch or h5 file becomes what its own library loads from it, and no
code of it is run."""

import collections
import datetime
import decimal
import io
import json
import math
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bursar
import pytest
from converting import MIB, by_joblib, command_of, convert
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import LIMIT

np = pytest.importorskip("numpy")
PROTOCOLS = range(6)


FORMS: dict[str, Callable[[Any], bytes]] = {
    **{f"protocol {p}": lambda model, p=p: pickle.dumps(model, p) for p in PROTOCOLS},  # type: ignore[misc]
    "joblib": by_joblib,
    "zlib": lambda model: by_joblib(model, 3),
    "gzip": lambda model: by_joblib(model, ("gzip", 3)),
}


# --- plain things and arrays ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_plain_things(form: str, tmp_path: Path) -> None:
    shared = [0.1, 1e300, -0.0, math.inf, 5e-324]
    model = {
        "weights": np.arange(12.0).reshape(3, 4),
        "floats": shared,
        "again": shared,
        "tuple": (1, -(2**100), None, True, ()),
        "large": [2**63, -(2**63), 2**64 - 1, 256, 65536, -1, -(2**31), 10**300],
        "bytes": b"\0\xff'\\\n",
        "none": b"",
        "text": '\u00e9\ud800\U0001f600\n"\\\x7f',
        "set": {1, 2},
        "frozen": frozenset("ab"),
        "complex": 1 + 2j,
        "slice": slice(1, None, 2),
        "range": range(3),
        "type": float,
        "dtype": np.dtype("f4"),
        "scalar": np.float32(1.5),
        "text scalar": np.str_("ab"),
        "kind": np.int64,
        "ufunc": np.log1p,
        "array": bytearray(b"\xff\0"),
        "when": datetime.datetime(2024, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
        "exact": decimal.Decimal("1.10"),
        "ordered": collections.OrderedDict(b=1, a=2),
        "counter": collections.Counter("abca"),
        "default": collections.defaultdict(list, x=[1]),
        "deque": collections.deque([1, 2], 5),
        3: "three",
        None: 4,
    }
    read = convert(FORMS[form](model), tmp_path)
    assert list(read) == list(model)
    for name, value in model.items():
        if name != "weights":
            assert read[name] == value and type(read[name]) is type(value), name
    assert math.copysign(1, read["floats"][2]) == -1 and read["again"] is read["floats"]
    assert np.array_equal(read["weights"], model["weights"]) and read["weights"].flags.writeable
    with bursar.open(tmp_path / "out") as file:
        assert list(file) == ["weights"]


def record() -> Any:
    return np.dtype([("a", "<i4"), ("b", "<f8", (2,)), ("c", [("d", "S3"), ("e", ">u2")])], align=True)


def arrays() -> dict[str, Any]:
    return {
        "texts": np.array(["one", "three"]),
        "bytes": np.array([b"x", b"yz"]),
        "days": np.array(["2024-01-01"], "M8[D]"),
        "steps": np.array([3], "m8[25ms]"),
        "no unit": np.array([3], "m8"),
        "records": np.ones(3, record()),
        "objects": np.array([[1, "two"], [None, [3]]], object),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "fortran records": np.asfortranarray(np.zeros((2, 3), record())),
        "big": np.arange(4, dtype=">i2"),
        "fortran objects": np.asfortranarray(np.array([[1, "two", 3], [None, [3], 4]], object)),
        "long": np.arange(3, dtype="longdouble"),
        "empty": np.zeros((0, 4)),
        "number": np.array(5),
        "text": np.array("text"),
        "reversed": np.arange(10)[::-2].copy(),
        "bools": np.array([True, False]),
        "complex": np.array([1 + 2j], "c16"),
        "half": np.arange(3, dtype="f2"),
        "nan": np.array([0x7FF8DEAD00000001], "u8").view("f8"),
        "void": np.zeros(2, "V5"),
        "wide": np.ones(2, [(f"f{i}", "i1") for i in range(600)]),
    }


def assert_same(read: Any, value: Any, name: str = "") -> None:
    """But for the order of bytes, which is the machine's where safetensors has the type."""
    assert read.dtype.newbyteorder("=") == value.dtype.newbyteorder("=") and read.shape == value.shape, name
    assert str(read.tolist()) == str(value.tolist()), name
    if value.dtype.isnative and value.dtype.names is None and value.dtype != object:
        assert read.tobytes() == value.tobytes(), name
        assert read.flags.f_contiguous == value.flags.f_contiguous, name


@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_any_type(form: str, tmp_path: Path) -> None:
    model = list(arrays().values())
    read = convert(FORMS[form](model), tmp_path)
    for name, value, other in zip(arrays(), model, read, strict=True):
        assert_same(other, value, name)


@pytest.mark.parametrize("name", arrays())
def test_an_npy_file(name: str, tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, arrays()[name])
    file.seek(0)
    own = np.load(file, allow_pickle=True)
    assert_same(convert(file.getvalue(), tmp_path, "model.npy"), own)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_file(save: Any, tmp_path: Path) -> None:
    file = io.BytesIO()
    plain = {
        name: one for name, one in arrays().items() if name in ("fortran", "big", "empty", "number", "half", "nan")
    }
    save(file, **plain)
    read = convert(file.getvalue(), tmp_path, "model.npz")
    for name, value in plain.items():  # a container as bursar.save makes it: little-endian, in C's order
        assert read[name].dtype == value.dtype.newbyteorder("=") and read[name].shape == value.shape
        assert read[name].tobytes() == value.astype(value.dtype.newbyteorder("=")).tobytes()
    with bursar.open(tmp_path / "out") as model:
        assert set(model) == set(plain) and model._description is None
    save(file := io.BytesIO(), **arrays())
    read = convert(file.getvalue(), tmp_path, "model.npz")
    for name, value in arrays().items():
        assert_same(
            read[name],
            np.asfortranarray(value) if "fortran" in name else np.ascontiguousarray(value).reshape(value.shape),
        )


def test_arrays_by_name_are_a_plain_container(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    model = {"layer.weight": np.ones((3, 4), "f4"), "layer.bias": np.zeros(4)}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    bursar.convert(tmp_path / "model.pkl", tmp_path / "out", environment=False)
    bursar.save(model, tmp_path / "saved", environment=False)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "saved").read_bytes()
    assert set(library.load_file(tmp_path / "out")) == set(model)
    convert(pickle.dumps([*model.values(), {"deep": [np.ones(1)]}]), tmp_path)
    with bursar.open(tmp_path / "out") as file:
        assert set(file) == {"0", "1", "2.deep.0"}


ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters(codec="utf-8") | st.sampled_from("\udfff\\u\n"))
    | st.binary()
    | st.dates()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.builds(bytearray, st.binary())
)
KEYS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
    | st.tuples(st.integers())
)
THINGS = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(KEYS, inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner).map(lambda one: [one, (one, one)])
        | st.frozensets(KEYS)
        | st.sets(KEYS)
    ),
    max_leaves=30,
)


def shape_of(what: Any) -> Any:
    """What it is, with types: 1, 1.0 and True are equal."""
    if isinstance(what, (list, tuple)):
        return type(what), [shape_of(one) for one in what]
    if isinstance(what, dict):
        return dict, [(shape_of(key), shape_of(value)) for key, value in what.items()]
    return type(what), what if not isinstance(what, float) else repr(what)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(THINGS, st.sampled_from(sorted(PROTOCOLS)))
def test_anything_nested(tmp_path: Path, thing: Any, protocol: int) -> None:
    content = pickle.dumps(thing, protocol)
    assert shape_of(convert(content, tmp_path)) == shape_of(pickle.loads(content))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["u1", "<i2", ">f4", "f8", ">c8", "?", "U3", "S2", "M8[us]", ">u8"]),
    shape=st.lists(st.integers(0, 5), max_size=4),
    fortran=st.booleans(),
    form=st.sampled_from(sorted(FORMS)),
    named=st.booleans(),
)
def test_any_array(kind: str, shape: list[int], fortran: bool, form: str, named: bool, tmp_path: Path) -> None:
    raw = np.random.default_rng(1).integers(0, 2, math.prod(shape) * np.dtype(kind).itemsize, "u1")
    array = raw.view(kind).reshape(shape) if raw.size else np.zeros(shape, kind)
    array = np.asfortranarray(array) if fortran else array
    read = convert(FORMS[form]({"a": array} if named else [array]), tmp_path)
    read = read["a"] if named else read[0]
    assert read.shape == array.shape and read.tolist() == array.tolist()
    assert read.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    """By 2.7: texts are bytes, and so is an array's content; whole numbers that end with L; classes of the old kind."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(L2L\ntcnumpy\ndtype\n(S'f4'\nI0\nI1\n"
        b"tR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00@'\ntb"
    )
    assert convert(b"(dp0\nS'w'\np1\n" + array + b"s.", tmp_path)["w"].tolist() == [1, 2]
    raw = b"\x80\x02}U\x01aU\x02\xe9'sU\x01bc__builtin__\nxrange\nK\x01K\x03K\x01\x87Rs"
    raw += b"U\x01cc__builtin__\nset\n]K\x01a\x85Rs."
    assert convert(raw, tmp_path) == {"a": "\u00e9'", "b": range(1, 3), "c": {1}}
    assert convert(b"(S'a\\'\\x41\\n'\nV\\u0041\\U0001f600\\x\nI01\nL-5L\nF1.5\nt.", tmp_path) == (
        "a'A\n",
        "A\U0001f600\\x",
        True,
        -5,
        1.5,
    )


# --- models ---------------------------------------------------------------------------------------------------------


def estimators() -> dict[str, Any]:
    pytest.importorskip("sklearn")
    from sklearn import cluster, decomposition, ensemble, gaussian_process, linear_model, neighbors, neural_network, svm
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

    scaled = ColumnTransformer([("scale", StandardScaler(), [0, 1]), ("hot", OneHotEncoder(), [4])])
    return {
        "forest": ensemble.RandomForestClassifier(5),
        "boosted": ensemble.GradientBoostingClassifier(n_estimators=4),
        "histograms": ensemble.HistGradientBoostingClassifier(max_iter=4),
        "svm": svm.SVC(),
        "pipeline": make_pipeline(StandardScaler(), FunctionTransformer(np.tanh), linear_model.LogisticRegression()),
        "columns": make_pipeline(scaled, linear_model.RidgeClassifier()),
        "sgd": linear_model.SGDClassifier(),
        "neighbours": neighbors.KNeighborsClassifier(algorithm="kd_tree"),
        "means": cluster.KMeans(3, n_init=1),
        "net": neural_network.MLPClassifier((5,), max_iter=300),
        "process": gaussian_process.GaussianProcessClassifier(),
        "reduced": make_pipeline(decomposition.PCA(2), linear_model.RidgeClassifierCV()),
    }


@pytest.mark.parametrize("form", ["protocol 2", "protocol 4", "protocol 5", "joblib", "zlib"])
@pytest.mark.filterwarnings("ignore")
def test_estimators(form: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=(100, 4)), rng.integers(0, 3, 100)])
    y = (x[:, 0] > 0).astype(int)
    for name, model in estimators().items():
        model.fit(x, y)
        read = convert(FORMS[form](model), tmp_path)
        assert type(read) is type(model) and np.array_equal(read.predict(x), model.predict(x)), name


def frames() -> dict[str, Any]:
    pd: Any = pytest.importorskip("pandas")
    days = pd.date_range("2024-01-01", periods=3)
    return {
        "mixed": pd.DataFrame({"a": [1.0, 2, 3], "b": [1, 2, 3], "c": ["x", None, "z"], "d": [3.0, 4, 5], "e": True}),
        "numbers": pd.DataFrame(np.arange(12).reshape(3, 4)), "turned": pd.DataFrame(np.arange(6.0).reshape(2, 3)).T,
        "labels": pd.DataFrame({"q": [1, 2]}, index=["u", "v"]), "none": pd.DataFrame(),
        "times": pd.DataFrame({"t": days, "u": days[::-1], "d": pd.to_timedelta([1, 2, 3], "s")}),
        "kinds": pd.DataFrame(
            {"c": pd.Categorical(["a", "b", "a"]), "i": pd.array([1, None, 3], dtype="Int64"),
             "f": pd.array([1.5, None, 3], dtype="Float64"), "b": pd.array([True, None, False], dtype="boolean"),
             "s": pd.array(["a", None, "\u00e9"], dtype=pd.StringDtype("python"))}
        ),
        "objects": pd.DataFrame({"o": [1, "x", None], "p": [[1], (2,), {}]}, dtype=object),
        "series": pd.Series([1, 2, 3], name="s"), "named": pd.Series([1.5, 2], index=["a", "b"]),
        "texts": pd.Series(["x", ""]),
        "levels": pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", None])),
        "by day": pd.Series([1.0, 2], index=pd.DatetimeIndex(["2024-01-01", "2024-03-01"])),
        "index": pd.Index([3, 1, 2], name="z"), "part": pd.DataFrame({"a": [1.0, 2, 3], "b": [4.0, 5, 6]})[["b"]],
    }  # fmt: skip


@pytest.mark.parametrize("form", ["protocol 4", "protocol 5", "joblib", "zlib"])
def test_frames(form: str, tmp_path: Path) -> None:
    for name, value in frames().items():
        testing = sys.modules["pandas"].testing
        kind = {"DataFrame": "frame", "Series": "series"}.get(type(value).__name__, "index")
        read = convert(FORMS[form]({"it": [value]}), tmp_path)["it"][0]
        getattr(testing, f"assert_{kind}_equal")(read, value, obj=name)


def test_frames_that_are_refused(tmp_path: Path) -> None:
    pd: Any = pytest.importorskip("pandas")
    zoned = pd.Series(pd.date_range("2024-01-01", periods=2, tz="UTC"))
    periods = pd.Series([1], index=pd.period_range("2024", periods=1))
    daily = pd.Series([1.0], index=pd.date_range("2024", periods=1))
    for value, name in ((zoned, "DatetimeTZDtype"), (periods, r"Period\w+"), (daily, "Day")):
        (tmp_path / "model.pkl").write_bytes(pickle.dumps(value, 4))
        with pytest.raises(bursar.Refused, match=rf"byte \d+: pandas\.[\w.]*{name} is on no list"):
            bursar.convert(tmp_path / "model.pkl", tmp_path / "out")


def torch_things() -> dict[str, Any]:
    torch: Any = pytest.importorskip("torch")
    base = torch.arange(12.0).reshape(3, 4)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.ones(5, 3)).sum().backward()
    optimiser.step()
    return {
        "states": net.state_dict(),
        "module": net,
        "checkpoint": {
            "model": net.state_dict(),
            "optimiser": optimiser.state_dict(),
            "epoch": 3,
            "type": torch.bfloat16,
            "device": torch.device("cpu"),
            "size": torch.Size([1, 2]),
        },
        "views": {"all": base, "rows": base[1:], "same": base, "turned": base.t()},
        "kinds": {
            "turned": base.clone().t(),
            "columns": base.clone()[:, 1:3],
            "repeated": torch.ones(1).expand(5),
            "parameter": torch.nn.Parameter(base.clone()),
            "half": base.half(),
            "brain": base.bfloat16(),
            "unsigned": torch.ones(3, dtype=torch.uint16),
            "eight": base.to(torch.float8_e4m3fn),
            "bools": base > 3,
            "empty": torch.zeros(0, 3),
            "number": torch.tensor(5),
            "complex": base.to(torch.complex64),
        },
        "tensor": base,
    }


def assert_alike(read: Any, value: Any, name: str) -> None:
    torch = sys.modules["torch"]
    if isinstance(value, torch.nn.Module):
        assert type(read) is type(value)
        assert_alike(read.state_dict(), value.state_dict(), name)
    elif isinstance(value, torch.Tensor):
        assert type(read) is type(value) and read.dtype == value.dtype and read.requires_grad == value.requires_grad, (
            name
        )
        assert read.shape == value.shape and read.tolist() == value.tolist(), name
    elif isinstance(value, dict):
        assert type(read) is type(value) and list(read) == list(value), name
        for key, one in value.items():
            assert_alike(read[key], one, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        assert len(read) == len(value)
        for i, one in enumerate(value):
            assert_alike(read[i], one, f"{name}.{i}")
    else:
        assert read == value, name


def test_torch_checkpoints(tmp_path: Path) -> None:
    things, torch = torch_things(), sys.modules["torch"]
    for name, value in things.items():
        torch.save(value, file := io.BytesIO())
        read = convert(file.getvalue(), tmp_path, "model.pt")
        assert_alike(read, value, name)
        if name == "states":
            with bursar.open(tmp_path / "out") as model:
                assert set(model) == set(value)
        if name == "views":
            read["all"][1, 0] = 99
            assert read["rows"][0, 0] == read["same"][1, 0] == read["turned"][0, 1] == 99
    torch.save(things["views"]["all"][:1], file := io.BytesIO())  # of a larger storage
    assert convert(file.getvalue(), tmp_path).shape == (1, 4)
    with bursar.open(tmp_path / "out") as model:
        assert model.info("array").nbytes == 16


@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_hdf5(kind: str, command: str, tmp_path: Path) -> None:
    h5py: Any = pytest.importorskip("h5py")
    arrays = {
        "layers/dense/vars/0": np.arange(6.0).reshape(2, 3),
        "layers/dense/vars/1": np.ones(3, "f2"),
        "number": np.array(3),
        "big": np.arange(3, dtype=">f4"),
        "rows": np.arange(600_000).reshape(300, 2000),
        "empty": np.zeros((0, 3)),
    }
    with h5py.File(tmp_path / "model.h5", "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=(7, 100) if name == "rows" else None)
        file["soft"] = h5py.SoftLink("/number")
        file["hard"] = file["number"]
        file.attrs["model_config"] = '{"layers": 1}'
    if kind == "keras":
        with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.write(tmp_path / "model.h5", "model.weights.h5")
            zipped.writestr("config.json", '{"layers": 1}')
    done = command_of(command, tmp_path / f"model.{kind}", "--format", "json")
    assert done.stderr == "" and json.loads(done.stdout)["tensors"] == len(arrays)
    with bursar.open(tmp_path / "model.safetensors") as model:
        assert set(model) - {"hard", "number"} == set(arrays) - {"number"} and len(model) == len(arrays)
        assert model.metadata == {"keras.config": '{"layers": 1}'}
        assert all(np.array_equal(model[name], arrays[name]) for name in set(arrays) - {"number"})
    with h5py.File(tmp_path / "out.h5", "w") as file:
        file["there"] = h5py.ExternalLink("model.h5", "/number")
    with pytest.raises(ValueError, match=r"out\.h5: there is in another file, model\.h5"):
        bursar.convert(tmp_path / "out.h5", tmp_path / "none")
    with h5py.File(tmp_path / "out.h5", "w") as file:
        file["inner/text"] = "text"
    with pytest.raises(ValueError, match=r"out\.h5: inner/text: an array of objects"):
        bursar.convert(tmp_path / "out.h5", tmp_path / "none")
    (tmp_path / "out.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    done = command_of(command, tmp_path / "out.h5", "-o", tmp_path / "none")
    assert done.returncode == 1 and done.stderr.startswith("bursar: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_nothing_is_imported(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression

    (tmp_path / "model.pkl").write_bytes(pickle.dumps(LogisticRegression().fit([[0.0], [1.0]], [0, 1])))
    code = (
        "import bursar, sys; done = bursar.convert('model.pkl', 'out')\n"
        "print(done.format, done.described, 'numpy' in sys.modules, 'pickle' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert (done.stdout, done.stderr) == ("pickle True False False\n", "")


# --- what it costs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [*FORMS, "npz", "packed npz", "torch"])
def test_memory_does_not_grow_with_arrays(form: str, command: str, tmp_path: Path) -> None:
    array = np.arange(5 * MIB)  # 40 MiB
    path = tmp_path / "model"
    if form in FORMS:
        if form == "protocol 0":
            array = np.full(3 * MIB, 0x4142434445464748)
        path.write_bytes(FORMS[form]([array, 1]))
    elif form == "torch":
        pytest.importorskip("torch").save([sys.modules["torch"].from_numpy(array), 1], path)
    else:
        (np.savez if form == "npz" else np.savez_compressed)(tmp_path / "model.npz", array=array)
        path = tmp_path / "model.npz"
    done = command_of(command, path, "-o", tmp_path / "out", memory=(24 if form == "protocol 0" else 32) * MIB)
    assert done.returncode == 0, done.stderr
    read = bursar.load(tmp_path / "out")
    read = read["array"] if "npz" in form else read[0]
    assert np.array_equal(read, array)
