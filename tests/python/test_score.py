"""A model over a stream: each row's prediction, in order, in a file that is there whole or not at all."""

import os
from pathlib import Path
from typing import Any

import bursar
import pytest

np = pytest.importorskip("numpy")
pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: make test installs it for Python 3.11 and later")
parquet = pytest.importorskip("pyarrow.parquet")
arrow_csv = pytest.importorskip("pyarrow.csv")

MIB = 1 << 20
ROWS = 5000


class Doubler:
    """Models whose input can be seen in their output."""

    def predict(self, rows: Any) -> Any:
        return np.asarray(rows) @ np.array([2.0, 1.0])

    def predict_proba(self, rows: Any) -> Any:
        first = np.asarray(rows)[:, 0]
        return np.column_stack([first, -first])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("score") / "a.parquet"
    names = [f"row {number}" for number in range(ROWS)]
    parquet.write_table(pa.table({"a": np.arange(ROWS), "b": np.arange(ROWS) / 4, "name": names}), path)
    return path


WANTED = np.arange(ROWS) * 2 + np.arange(ROWS) / 4


@pytest.mark.parametrize("as_", ["numpy", "pandas", "torch"])
def test_to_a_npy_file(source: Path, tmp_path: Path, as_: str) -> None:
    pytest.importorskip(as_)
    out = tmp_path / "out.npy"
    count = bursar.score(Doubler(), source, out, budget=8 * MIB, columns=["a", "b"], as_=as_, rows=700)
    assert count == ROWS
    np.testing.assert_array_equal(np.load(out), WANTED)


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "out.arrow", "out.feather"])
def test_to_a_table_with_what_is_kept(source: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    assert bursar.score(Doubler(), source, out, budget="8 MiB", keep=["name"], rows=700) == ROWS
    found = {"csv": arrow_csv.read_csv, "parquet": parquet.read_table}.get(out.suffix[1:], _read_ipc)(out)
    assert found.schema.names == ["name", "prediction"]
    assert found["name"].to_pylist() == [f"row {number}" for number in range(ROWS)]
    np.testing.assert_array_equal(found["prediction"].to_numpy(), WANTED)
    bursar.score(Doubler(), source, out, budget="8 MiB", method="predict_proba", columns=["a", "b"])
    found = {"csv": arrow_csv.read_csv, "parquet": parquet.read_table}.get(out.suffix[1:], _read_ipc)(out)
    assert found.schema.names == ["prediction_0", "prediction_1"]


def _read_ipc(path: Path) -> Any:
    with pa.ipc.open_file(path) as file:
        return file.read_all()


def test_a_function_for_a_model_and_one_for_a_sink() -> None:
    seen: list[Any] = []
    count = bursar.score(lambda rows: rows.sum(axis=1), np.arange(12.0).reshape(6, 2), seen.append, rows=4)
    assert count == 6 and [len(each) for each in seen] == [4, 2]
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(12).reshape(6, 2).sum(axis=1))


def test_scikit_learn(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LinearRegression

    frame = parquet.read_table(source, columns=["a", "b"]).to_pandas()
    model = LinearRegression().fit(frame, WANTED)
    bursar.score(model, source, tmp_path / "out.npy", as_="pandas", columns=["a", "b"], rows=999)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), WANTED, atol=1e-6)


def test_the_file_is_whole_or_as_it_was(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    out.write_text("before")
    calls = []

    def fails(rows: Any) -> Any:
        calls.append(len(rows))
        assert out.read_text() == "before"
        if len(calls) > 2:
            raise ZeroDivisionError
        return rows[:, 0]

    with pytest.raises(ZeroDivisionError):
        bursar.score(fails, source, out, columns=["a", "b"], rows=1000)
    assert out.read_text() == "before" and os.listdir(tmp_path) == ["out.parquet"]


def test_what_does_not_fit_together(source: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="column 'name' has no numbers"):
        bursar.score(Doubler(), source, tmp_path / "o.npy")
    with pytest.raises(TypeError, match="has no transform"):
        bursar.score(Doubler(), source, tmp_path / "o.npy", method="transform")
    with pytest.raises(ValueError, match=r"files that end in \.npy"):
        bursar.score(Doubler(), source, tmp_path / "o.txt")
    with pytest.raises(ValueError, match="has one array"):
        bursar.score(Doubler(), source, tmp_path / "o.npy", keep=["name"])
    with pytest.raises(ValueError, match="predictions alone"):
        bursar.score(Doubler(), source, print, keep=["name"])
    with pytest.raises(ValueError, match="the model made 1 predictions of 4 rows"):
        bursar.score(lambda rows: [1], np.zeros((4, 2)), tmp_path / "o.npy")
    with pytest.raises(ValueError, match="write a table"):
        bursar.score(lambda rows: ["x"] * len(rows), np.zeros((4, 2)), tmp_path / "o.npy")
    kinds = iter(["f4", "f8"])
    with pytest.raises(ValueError, match="predictions were float32"):
        bursar.score(lambda rows: rows[:, 0].astype(next(kinds)), np.zeros((4, 2)), tmp_path / "o.npy", rows=2)
    kinds = iter(["f4", "U3"])
    with pytest.raises(ValueError, match="no longer what the first ones were"):
        bursar.score(lambda rows: rows[:, 0].astype(next(kinds)), np.zeros((4, 2)), tmp_path / "o.csv", rows=2)
    assert not os.listdir(tmp_path)


def test_nothing_to_score(tmp_path: Path) -> None:
    assert bursar.score(lambda rows: rows[:, 0], np.zeros((0, 2)), tmp_path / "o.npy") == 0
    assert np.load(tmp_path / "o.npy").shape == (0,)
    with pytest.raises(ValueError, match="no row was predicted"):
        bursar.score(lambda rows: rows[:, 0], np.zeros((0, 2)), tmp_path / "o.csv")
