"""Whole models, saved and loaded: they predict what they predicted, arrays that were shared are shared, and nothing is
built but what is on a list."""

import collections
import datetime
import decimal
import json
import math
from pathlib import Path
from typing import Any

import bursar
import pytest

np = pytest.importorskip("numpy")


def again(model: Any, folder: Path, **options: Any) -> Any:
    bursar.save(model, folder / "model", **options)
    return bursar.load(folder / "model", **options)


# --- plain things --------------------------------------------------------------------------------------------------


def test_plain_things(tmp_path: Path) -> None:
    weights = np.arange(12.0).reshape(3, 4)
    model = {
        "weights": weights, "layers": [weights[:2], {"bias": weights[1], 3: "three"}],
        "tuple": (1, -(2**100), None, True),
        "floats": [0.1, 1e300, -0.0, math.inf, -math.inf], "bytes": b"\0\xff", "text": "\u00e9\ud800", "set": {1, 2},
        "frozen": frozenset("ab"), "complex": 1 + 2j, "slice": slice(1, None, 2), "range": range(3), "type": float,
        "dtype": np.dtype("f4"), "scalar": np.float32(1.5), "kind": np.int64, "ufunc": np.log1p,
        "when": datetime.datetime(2024, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), "exact": decimal.Decimal("1.10"),
        "ordered": collections.OrderedDict(b=1, a=2), "counter": collections.Counter("abca"),
        "default": collections.defaultdict(list, x=[1]), "deque": collections.deque([1, 2], 5),
    }  # fmt: skip
    read = again(model, tmp_path)
    for name, value in model.items():
        if name not in ("weights", "layers"):
            assert read[name] == value and type(read[name]) is type(value), name
    assert math.copysign(1, read["floats"][2]) == -1
    assert np.array_equal(read["weights"], weights) and read["weights"].flags.writeable
    assert np.array_equal(read["layers"][1]["bias"], weights[1]) and read["layers"][1][3] == "three"
    read["weights"][1, 1] = 99  # one memory, as before
    assert read["layers"][0][1, 1] == 99 and read["layers"][1]["bias"][1] == 99
    with bursar.open(tmp_path / "model") as file:
        assert list(file) == ["weights"] and file.metadata == {}


def test_arrays_of_any_type(tmp_path: Path) -> None:
    record = np.dtype([("a", "<i4"), ("b", "<f8", (2,)), ("c", "S3")], align=True)
    model = [
        np.array(["one", "three"]), np.array([b"x", b"yz"]), np.array(["2024-01-01"], "M8[D]"), np.array([3], "m8[ms]"),
        np.zeros(3, record), np.array([1, "two", None, [3]], object), np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(4, dtype=">i2"), np.arange(3, dtype="f16") if hasattr(np, "float128") else np.arange(3.0),
        np.zeros((0, 4)), np.array(5), np.array("text"), np.arange(10)[::-2],
    ]  # fmt: skip
    for value, read in zip(model, again(model, tmp_path), strict=True):
        assert read.dtype == value.dtype and read.shape == value.shape
        assert str(read.tolist()) == str(value.tolist())
        assert read.flags.f_contiguous or not value.flags.f_contiguous


def test_what_is_shared(tmp_path: Path) -> None:
    base = np.arange(1_000_000.0)
    small = base[10:20]  # of a large one, which is not in the model: kept alone
    one, two = base[:600_000], base[400_000:]
    loop: list[Any] = [1]
    loop.append(loop)
    pair = [base, loop]
    read = again({"one": one, "two": two, "loop": loop, "pairs": [pair, pair]}, tmp_path)
    read["one"][500_000] = -1
    assert read["two"][100_000] == -1
    assert read["loop"][1] is read["loop"] and read["pairs"][0] is read["pairs"][1]
    assert (tmp_path / "model").stat().st_size < 8_100_000
    bursar.save({"small": small, "none": None}, tmp_path / "small")
    assert (tmp_path / "small").stat().st_size < 2000


def test_keys_that_values_have_again(tmp_path: Path) -> None:
    key = (1, b"x")
    model = {key: {key: [key]}, "ordered": collections.OrderedDict({(2,): {key: 1}})}
    read = again(model, tmp_path)
    assert read == model and next(iter(read)) is next(iter(read[key]))


# --- what is refused ------------------------------------------------------------------------------------------------


class Mine:
    def __init__(self) -> None:
        self.weights = np.arange(3)
        self.ended = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mine) and np.array_equal(self.weights, other.weights)

    __hash__ = None  # type: ignore[assignment]


def test_classes_of_the_users_own(tmp_path: Path) -> None:
    with pytest.raises(bursar.Refused, match=r"^inner\.0: \S*Mine is on no list .* allow=\['\S*Mine'\]"):
        bursar.save({"inner": [Mine()]}, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert again({"inner": [Mine()]}, tmp_path, allow=[Mine])["inner"] == [Mine()]
    with pytest.raises(bursar.Refused, match="Mine is on no list"):
        bursar.load(tmp_path / "model")
    name = f"{Mine.__module__}.Mine"
    assert bursar.load(tmp_path / "model", allow=[name])["inner"] == [Mine()]


@pytest.mark.parametrize("what", [lambda x: x, print, Path("x"), iter([]), json, Mine().__eq__])
def test_what_cannot_be_in_a_model(what: Any, tmp_path: Path) -> None:
    with pytest.raises(bursar.Refused, match="^what: "):
        bursar.save({"what": what}, tmp_path / "model")


EVIL = [
    {"$": "object", "of": "os.system", "arguments": ["touch {path}"]},
    {"$": "object", "of": "builtins.eval", "arguments": ["open('{path}', 'w')"]},
    {"$": "object", "of": "subprocess.Popen", "arguments": [{"$": "list", "items": ["touch", "{path}"]}]},
    {"$": "object", "of": "builtins.getattr", "arguments": [1, "real"]},
    {"$": "object", "of": "sklearn.base.clone", "arguments": [1]},
    {"$": "object", "of": "sklearn.utils.os.system", "arguments": ["touch {path}"]},
    {"$": "object", "of": "sklearn.base.BaseEstimator.__class__.mro", "arguments": []},
    {"$": "object", "of": "torch.nn.modules.module.warnings.warn", "arguments": ["x"]},
    {"$": "object", "of": "scipy.sparse._csr.csr_matrix.__init__.__globals__", "arguments": []},
    {"$": "name", "name": "os.system"},
    {"$": "type", "name": "eval"},
    {"$": "type", "name": "memoryview"},
    {"$": "ufunc", "name": "load"},
    {"$": "numpy type", "name": "memmap"},
    {"$": "dtype", "dtype": "O"},
    {"$": "scalar", "dtype": "|O", "base64": "AAAAAAAAAAA="},
    {"$": "array", "name": "a", "dtype": "|O", "shape": [3]},
    {"$": "array", "name": "a", "view": True, "dtype": "<f8", "shape": [1000], "strides": [8], "offset": 0},
    {"$": "array", "name": "a", "view": True, "dtype": "<f8", "shape": [2], "strides": [8], "offset": -8},
    {"$": "array", "name": "a", "view": True, "dtype": "<f8", "shape": [3], "strides": [-8], "offset": 8},
    {"$": "array", "name": "missing"},
    {"$": "again", "id": 7},
    {"$": "build", "items": []},
    {"$": "__init__", "items": []},
    {"$": "nothing"},
    {"$": "list"},
    {"$": "dict", "items": [[{"$": "list", "items": []}, 1]]},
    {"$": "objects", "shape": [5], "items": [1]},
    {"no": "kind"},
]  # fmt: skip


@pytest.mark.parametrize("node", EVIL, ids=[str(one.get("of", one.get("$"))) + str(i) for i, one in enumerate(EVIL)])
def test_a_description_runs_nothing(node: dict[str, Any], tmp_path: Path) -> None:
    from bursar import _bursar

    trace = tmp_path / "ran"
    text = json.dumps({"version": 1, "model": node}).replace("{path}", str(trace))
    header, _ = _bursar.safetensors_header([("a", "F64", (3,))], {"bursar.model": text}, True, 0)
    (tmp_path / "evil").write_bytes(header + bytes(24))
    with pytest.raises((TypeError, ValueError)):
        made = bursar.load(tmp_path / "evil")
        assert made is None, made
    assert not trace.exists()


def test_a_description_that_is_none(tmp_path: Path) -> None:
    for text in ("", "{", "[]", "1", '{"version": 2, "model": 1}', '{"version": 1}', "[" * 100_000):
        from bursar import _bursar

        header, _ = _bursar.safetensors_header([], {"bursar.model": text}, True, 0)
        (tmp_path / "m").write_bytes(header)
        with pytest.raises(ValueError):
            bursar.load(tmp_path / "m")


# --- scikit-learn --------------------------------------------------------------------------------------------------


def estimators() -> "list[Any]":
    pytest.importorskip("sklearn")
    from sklearn.cluster import KMeans
    from sklearn.compose import ColumnTransformer
    from sklearn.decomposition import PCA
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        HistGradientBoostingClassifier,
        IsolationForest,
        RandomForestClassifier,
        VotingClassifier,
    )
    from sklearn.gaussian_process import GaussianProcessClassifier
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, SplineTransformer, StandardScaler
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    columns = ColumnTransformer([("a", OneHotEncoder(), [0]), ("b", StandardScaler(), [1, 2, 3])])
    return [
        LogisticRegression(), RandomForestClassifier(10, random_state=1), GradientBoostingClassifier(n_estimators=5),
        HistGradientBoostingClassifier(max_iter=5), IsolationForest(n_estimators=5), DecisionTreeClassifier(),
        KNeighborsClassifier(), SVC(probability=True), GaussianNB(), SGDClassifier(loss="log_loss"),
        KMeans(3, n_init=2),
        MLPClassifier((5,), max_iter=20), GaussianProcessClassifier(),
        make_pipeline(StandardScaler(), PCA(2), LogisticRegression()), make_pipeline(columns, LogisticRegression()),
        make_pipeline(FunctionTransformer(np.log1p), SplineTransformer(), LogisticRegression()),
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=2),
        VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft"),
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_estimators(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    x = np.abs(rng.normal(size=(120, 4)))
    x[:, 0] = rng.integers(0, 3, 120)
    y = (x[:, 1] + x[:, 2] > 1.5).astype(int)
    for estimator in estimators():
        estimator.fit(x, y)
        read = again(estimator, tmp_path)
        assert type(read) is type(estimator)
        for method in ("predict", "predict_proba", "transform", "decision_function"):
            if hasattr(estimator, method):
                assert np.array_equal(getattr(read, method)(x), getattr(estimator, method)(x)), (estimator, method)
        assert str(read.get_params()) == str(estimator.get_params())


def test_texts_and_sparse_matrices(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ["the quick brown fox", "jumps over the lazy dog", "the end"]
    vectors = TfidfVectorizer().fit(texts)
    read, matrix = again([vectors, vectors.transform(texts)], tmp_path)
    assert (read.transform(texts) != matrix).nnz == 0 and read.vocabulary_ == vectors.vocabulary_


# --- pandas --------------------------------------------------------------------------------------------------------


def test_frames(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({
        "i": np.arange(5), "f": [1.5, np.nan, 3, 4, 5], "b": [True, False] * 2 + [True], "t": list("abcde"),
        "o": [1, "two", None, [3], {"four": 5}], "c": pd.Categorical(["x", "y", "x", None, "y"], ordered=True),
        "s": pd.array(["x", None, "z", "", "w"], dtype="string"), "n": pd.array([1, None, 3, 4, 5], dtype="Int64"),
        "m": pd.array([True, None, False, True, True], dtype="boolean"), "d": pd.date_range("2024-01-01", periods=5),
        "z": pd.date_range("2024-01-01", periods=5, tz="Europe/Berlin"),
        "l": pd.to_timedelta([1, 2, 3, 4, 5], unit="h"),
        7: np.arange(5, dtype="f4"),
    })  # fmt: skip
    for one in (
        frame, frame.set_index("t"), frame.set_index(["t", "i"]), frame.set_index("d"), frame[["i", "f"]].T,
        frame.iloc[::2], frame[[]], frame.iloc[:0], frame.rename_axis(columns="name"),
    ):  # fmt: skip
        pd.testing.assert_frame_equal(again(one, tmp_path), one, check_freq=False)
    for series in (frame["f"], frame["c"], frame["z"], frame["s"].rename(None), pd.Series([], dtype="f8")):
        pd.testing.assert_series_equal(again(series, tmp_path), series)
    read = again({"frame": frame, "rows": 5}, tmp_path)
    pd.testing.assert_frame_equal(read["frame"], frame)
    with bursar.open(tmp_path / "model") as file:
        assert {"frame.i", "frame.f", "frame.c.codes", "frame.n.mask"} <= set(file)


# --- torch ---------------------------------------------------------------------------------------------------------


def test_modules_and_state_dicts(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    tied = torch.nn.Linear(8, 8, bias=False)
    net = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), tied, torch.nn.Dropout(0.1),
        torch.nn.LayerNorm(8),
        torch.nn.Linear(8, 8, bias=False), torch.nn.MultiheadAttention(8, 2),
    )  # fmt: skip
    net[6].weight = tied.weight
    net.eval()
    read = again(net, tmp_path)
    x = torch.randn(5, 4)
    assert torch.equal(read[:7](x), net[:7](x)) and read[6].weight is read[3].weight and not read.training
    assert all(torch.equal(a, b) for a, b in zip(read.state_dict().values(), net.state_dict().values(), strict=True))
    state = again(net.state_dict(), tmp_path)
    assert list(state) == list(net.state_dict())
    net.load_state_dict(state)
    assert state["3.weight"].data_ptr() == state["6.weight"].data_ptr()
    half = {"h": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3), "views": [x[:, 1], x.t()], "x": x}
    read = again(half, tmp_path)
    assert torch.equal(read["h"], half["h"]) and torch.equal(read["views"][1], x.t())
    read["x"][2, 1] = 50
    assert read["views"][0][2] == 50 and read["views"][1][1, 2] == 50
