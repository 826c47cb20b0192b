"""freeze() of what pandas and scikit-learn make: it computes what it did, and nothing of it is silently left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import bursar
import pytest

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
pytest.importorskip("sklearn")

from sklearn.cluster import KMeans  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: E402
from sklearn.naive_bayes import GaussianNB  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.svm import SVC  # noqa: E402


def table() -> Any:
    days = pd.date_range("2020", periods=5)
    return pd.DataFrame(
        {
            "a": np.arange(5.0), "b": np.arange(5), "c": np.arange(5), "kind": pd.Categorical(list("abcab")),
            "day": days,
            "zoned": days.tz_localize("UTC"), "maybe": pd.array([1, 2, None, 3, 4], dtype="Int64"), "s": list("xyzxy"),
        },
        index=np.array([3, 1, 4, 5, 9]),
    )  # fmt: skip


def test_a_table() -> None:
    frame, want = table(), table()
    report = bursar.freeze(frame)
    pd.testing.assert_frame_equal(frame, want)
    assert report.frozen_bytes == 40 + 80 + 5 + 40 + 40 + (40 + 5) + 40  # a, b and c, kind, day, zoned, maybe, index
    writes: list[Callable[[], Any]] = [
        lambda: frame["a"].values.__setitem__(0, 1.0),
        lambda: frame["maybe"].array._data.__setitem__(0, 1),
        lambda: frame["kind"].cat.codes.values.__setitem__(0, 1),
        lambda: frame.iloc.__setitem__((0, 0), 7.0),
        lambda: frame.iloc.__setitem__((0, 1), 7),
    ]
    for write in writes:
        with pytest.raises(ValueError, match="read-only"):
            write()
    pd.testing.assert_frame_equal(frame, want)
    assert frame.loc[4, "a"] == 2 and frame.groupby("kind", observed=True)["a"].sum()["a"] == 3
    assert report.verify() == report.frozen_bytes == bursar.thaw(frame)
    frame.iloc[0, 0] = 7.0
    assert frame["a"].tolist() == [7, 1, 2, 3, 4]


def test_a_series_in_a_dict() -> None:
    holder = {"s": pd.Series(np.arange(4.0))}
    assert [one.name for one in bursar.freeze(holder).frozen] == ["['s'].blocks[0]"]
    assert holder["s"].sum() == 6


MODELS: list[Callable[[], Any]] = [
    lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    lambda: Ridge(),
    lambda: RandomForestClassifier(4, random_state=0),
    lambda: GradientBoostingRegressor(n_estimators=3),
    lambda: HistGradientBoostingClassifier(max_iter=3),
    lambda: KNeighborsClassifier(algorithm="brute"),
    lambda: KNeighborsClassifier(algorithm="kd_tree"),
    lambda: SVC(),
    lambda: PCA(2),
    lambda: GaussianNB(),
    lambda: MLPClassifier((8,), solver="lbfgs", max_iter=5000),
    lambda: KMeans(3, n_init=1, random_state=0),
]


@pytest.mark.parametrize("make", MODELS)
def test_a_fitted_model_predicts_what_it_did(make: Callable[[], Any]) -> None:
    data = np.random.default_rng(0).normal(size=(200, 5))
    model = make()
    model.fit(data.copy(), (data[:, 0] > 0).astype(int))
    call = getattr(model, "predict", None) or model.transform
    want = call(data)
    report = bursar.freeze(model)
    assert np.array_equal(call(data), want)
    assert report.frozen and report.verify() == report.frozen_bytes
    bursar.thaw(model)
    assert np.array_equal(call(data), want)


def test_names_and_what_trees_keep() -> None:
    data = np.random.default_rng(0).normal(size=(200, 5))
    target = (data[:, 0] > 0).astype(int)
    line = make_pipeline(StandardScaler(), LogisticRegression()).fit(data, target)
    names = [name for one in bursar.freeze(line).frozen for name in (one.name, *one.also)]
    assert {"steps[0][1].mean_", "steps[1][1].coef_", "steps[1][1].intercept_"} <= set(names)
    forest = make_pipeline(RandomForestClassifier(3, random_state=0)).fit(data, target)
    report = bursar.freeze(forest)
    trees = [one.tree_ for one in forest[0].estimators_]
    left = {one.name: (one.bytes, one.reason) for one in report.left}
    for number, tree in enumerate(trees):
        bytes_, reason = left[f"steps[0][1].estimators_[{number}].tree_.values"]
        assert bytes_ == tree.value.nbytes and "scikit-learn" in reason
        assert left[f"steps[0][1].estimators_[{number}].tree_.nodes"][0] == 64 * tree.node_count
    assert report.left_bytes == sum(bytes_ for bytes_, _ in left.values())
    neighbours = KNeighborsClassifier(algorithm="kd_tree").fit(data.copy(), target)
    assert {"_tree.idx_array", "_tree.node_data"} <= {one.name for one in bursar.freeze(neighbours).left}


def test_sparse_and_text() -> None:
    words = TfidfVectorizer()
    matrix = words.fit_transform(["a word here", "another word there"])
    want = matrix.toarray()
    report = bursar.freeze({"words": words, "matrix": matrix})
    names = [one.name for one in report.frozen]
    assert {f"['matrix'].{part}" for part in ("data", "indices", "indptr")} <= set(names)
    assert any(name.endswith("idf_") for name in names), json.dumps(names)
    assert np.array_equal(matrix.toarray(), want) and (matrix @ matrix.T).shape == (2, 2)
    assert np.array_equal(words.transform(["a word here", "another word there"]).toarray(), want)
    with pytest.raises(ValueError, match="read-only"):
        matrix.data[0] = 1
