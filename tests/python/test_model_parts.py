"""Parts of models, what a file says of itself, and whether it is as it was saved."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import bursar
import pytest
from bursar._choice import _TRAINING

np = pytest.importorskip("numpy")


def run(command: str, *arguments: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([command, "model", *map(str, arguments)], capture_output=True, text=True, timeout=60)


def layers() -> "dict[str, Any]":
    rng = np.random.default_rng(1)
    names = ("encoder.0.weight", "encoder.0.bias", "encoder.1.weight", "decoder.weight", "decoder.bias")
    return {name: rng.normal(size=(50, 20)).astype("f4") for name in names}


# --- which arrays ----------------------------------------------------------------------------------------------------


def test_arrays_by_name(tmp_path: Path) -> None:
    model = layers()
    saved = bursar.save(model, tmp_path / "m", exclude="encoder.1")
    assert saved.tensors == 4 and saved.left_out == (("encoder.1.weight", 4000),)
    assert str(saved).splitlines()[1] == "left out: encoder.1.weight, 4000 bytes"
    assert saved.bytes == (tmp_path / "m").stat().st_size
    bursar.save(model, tmp_path / "m")
    assert set(bursar.load(tmp_path / "m", include="encoder")) == {name for name in model if name.startswith("enc")}
    assert set(bursar.load(tmp_path / "m", include=["*.weight"], exclude=["encoder.0*"])) == {
        "encoder.1.weight", "decoder.weight",
    }  # fmt: skip
    assert bursar.load(tmp_path / "m", include=[]) == {}

    def stream() -> Any:
        for name, array in model.items():
            yield bursar.Spec(name, array.dtype, array.shape), [array]

    saved = bursar.save(stream(), tmp_path / "s", include="*.bias", hashes=True)
    assert saved.left_out[0] == ("encoder.0.weight", 4000) and saved.bytes == (tmp_path / "s").stat().st_size
    assert set(bursar.load(tmp_path / "s")) == {"encoder.0.bias", "decoder.bias"}


def test_parts_of_a_model(tmp_path: Path) -> None:
    shared = np.arange(6.0)
    model = {
        "a": {"w": shared, "name": "first"}, "b": {"w": shared, "deep": {"x": np.ones(3)}}, "list": [np.ones(2)] * 2,
        "texts": ["kept"],
    }  # fmt: skip
    bursar.save(model, tmp_path / "m")
    read = bursar.load(tmp_path / "m", exclude="a.w")
    assert read["a"] == {"name": "first"} and read["b"]["w"].tolist() == shared.tolist()
    read = bursar.load(tmp_path / "m", include=["b.deep"])
    assert read == {"a": {"name": "first"}, "b": {"deep": read["b"]["deep"]}, "texts": ["kept"]}
    assert bursar.load(tmp_path / "m", exclude=["texts", "list"]).keys() == {"a", "b"}
    with pytest.raises(ValueError, match=r"list\.0: an element is kept or left out with all of its list"):
        bursar.load(tmp_path / "m", exclude="list.0")
    bursar.save(model, tmp_path / "m", exclude=["a.w", "b.w", "list"])
    with bursar.open(tmp_path / "m") as file:
        assert list(file) == ["b.deep.x"] and file.record["left_out"] == "a.w, b.w, list"
    assert bursar.load(tmp_path / "m")["b"]["deep"]["x"].tolist() == [1, 1, 1]


def test_columns_of_a_frame(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1], "text": ["x", "y"], "kind": pd.Categorical(["p", "q"])})
    bursar.save(frame, tmp_path / "m")
    assert bursar.load(tmp_path / "m", include=["a", "text"]).equals(frame[["a", "text"]])
    assert bursar.load(tmp_path / "m", exclude=["text", "kind"]).equals(frame[["a", "b"]])
    saved = bursar.save({"x": frame}, tmp_path / "m", exclude="x.b")
    assert saved.left_out == (("x.b", 16),)
    assert bursar.load(tmp_path / "m")["x"].equals(frame.drop(columns="b"))


# --- for inference ---------------------------------------------------------------------------------------------------


def trained() -> "list[Any]":
    pytest.importorskip("sklearn")
    from sklearn import cluster, covariance, decomposition, ensemble, linear_model, model_selection, semi_supervised
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.neural_network import MLPClassifier
    from sklearn.tree import DecisionTreeClassifier

    forest = ensemble.RandomForestClassifier
    return [
        MLPClassifier((5,), max_iter=20), MLPClassifier((5,), early_stopping=True), forest(10, oob_score=True),
        ensemble.RandomForestRegressor(10, oob_score=True),
        ensemble.GradientBoostingClassifier(subsample=0.5),
        ensemble.HistGradientBoostingClassifier(max_iter=5, early_stopping=True),
        ensemble.BaggingClassifier(DecisionTreeClassifier(), 10, oob_score=True),
        ensemble.AdaBoostClassifier(n_estimators=3),
        model_selection.GridSearchCV(linear_model.LogisticRegression(), {"C": [0.1, 1]}, cv=2),
        cluster.KMeans(3, n_init=2), cluster.MiniBatchKMeans(3, n_init=2), cluster.MeanShift(),
        cluster.AffinityPropagation(damping=0.9, max_iter=1000), cluster.Birch(n_clusters=3),
        linear_model.LassoCV(cv=2), linear_model.LogisticRegressionCV(cv=2), linear_model.LassoLarsCV(cv=2),
        linear_model.SGDClassifier(average=True), linear_model.HuberRegressor(),
        linear_model.RANSACRegressor(random_state=1), semi_supervised.LabelSpreading(),
        decomposition.DictionaryLearning(2, max_iter=5), decomposition.SparsePCA(2, max_iter=5),
        GaussianProcessRegressor(), covariance.EllipticEnvelope(random_state=1),
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_what_only_training_needs_is_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(120, 4))
    y = (x[:, 1] + x[:, 2] > 0.3).astype(int)
    told = set()
    allow = ["numpy.ma.core._mareconstruct", "numpy.ma.core.MaskedArray", "sklearn.cluster._birch._CFNode"]
    allow.append("sklearn.cluster._birch._CFSubcluster")
    for estimator in trained():
        estimator.fit(x, y)
        bursar.save(estimator, tmp_path / "whole", allow=allow)
        saved = bursar.save(estimator, tmp_path / "slim", for_inference=True)
        assert saved.left_out, estimator
        assert (tmp_path / "slim").stat().st_size < (tmp_path / "whole").stat().st_size
        for read in (bursar.load(tmp_path / "slim"), bursar.load(tmp_path / "whole", for_inference=True, allow=allow)):
            for one in saved.left_out:
                name = one.name.rpartition(".")[2]
                told.add(name)
                assert "." in one.name or name not in vars(read)
            for method in ("predict", "predict_proba", "transform", "decision_function", "score_samples"):
                if hasattr(estimator, method):
                    found, expected = getattr(read, method)(x), getattr(estimator, method)(x)
                    assert np.allclose(found, expected, rtol=1e-12, atol=0), (estimator, method)  # sums of BLAS
    of_older_versions = {"cv_values_", "stop_words_"}
    assert {name for names in _TRAINING.values() for name in names} - told <= of_older_versions


def test_a_checkpoint_without_its_optimizer(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(30, 20)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(2, 30)).sum().backward()
    optimizer.step()
    checkpoint = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    saved = bursar.save(checkpoint, tmp_path / "m", for_inference=True)
    assert [one.name for one in saved.left_out] == ["optimizer"] and saved.left_out[0].bytes > 2 * 4 * 620
    read = bursar.load(tmp_path / "m")
    assert read.keys() == {"model", "epoch"} and torch.equal(read["model"]["weight"], module.weight)
    bursar.save(checkpoint, tmp_path / "m")
    assert bursar.load(tmp_path / "m", for_inference=True).keys() == {"model", "epoch"}


def test_names_of_a_module_are_those_of_its_state_dict(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    bursar.save(module, tmp_path / "m")
    with bursar.open(tmp_path / "m") as file:
        assert set(file) == set(module.state_dict())


# --- what a file says of itself --------------------------------------------------------------------------------------


def test_how_it_was_made(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    bursar.save(layers(), tmp_path / "m", metadata={"by": "me"})
    versions = f"bursar {bursar.__version__}, Python {sys.version.split()[0]}, numpy {np.__version__}"
    with bursar.open(tmp_path / "m") as file:
        assert file.metadata == {"by": "me"}
        assert file.record == {"made": "1970-01-02T00:00:00Z", "versions": versions}
    shown = run(command, "inspect", tmp_path / "m").stdout
    assert f"made        1970-01-02T00:00:00Z\nwith        {versions}\n" in shown and "metadata    by: me\n" in shown
    content = (tmp_path / "m").read_bytes()
    bursar.save(layers(), tmp_path / "m", metadata={"by": "me"})
    assert (tmp_path / "m").read_bytes() == content  # the same each time
    bursar.save(layers(), tmp_path / "m", environment=False)
    assert b"bursar" not in (tmp_path / "m").read_bytes()
    with pytest.raises(ValueError, match="bursar.made"):
        bursar.save(layers(), tmp_path / "m", metadata={"bursar.made": "up"})


def test_hashes(command: str, tmp_path: Path) -> None:
    model = {**layers(), "nothing": np.zeros((0, 3)), "one": np.array(3.0)}
    path = tmp_path / "m"
    bursar.save(model, path, hashes=True)
    facts = json.loads(run(command, "inspect", path, "--hashes", "--format", "json").stdout)
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    for tensor in facts["tensors"]:
        assert tensor["sha256"] == hashlib.sha256(np.asarray(model[tensor["name"]]).tobytes()).hexdigest()
    digits = facts["metadata"]["bursar.sha256.tensors"]
    assert digits == "".join(one["sha256"] for one in facts["tensors"])
    assert facts["sha256"] in run(command, "inspect", path, "--hashes").stdout
    with bursar.open(path) as file:
        file.verify()
    done = run(command, "verify", path, "--threads", 3)
    assert done.returncode == 0 and done.stdout == "7 tensors and the header are as they were saved (SHA-256)\n"
    assert run(command, "verify", path, "--sha256", facts["sha256"].upper()).returncode == 0
    other = run(command, "verify", path, "--sha256", "0" * 64)
    assert other.returncode == 1 and facts["sha256"] in other.stderr
    assert run(command, "verify", path, "--sha256", "12").returncode == 2


@pytest.mark.parametrize("packed", [False, True])
def test_each_byte_is_in_a_hash(command: str, tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "m"
    bursar.save({"a": np.arange(9, dtype="u1"), "b": np.arange(3000.0)}, path, hashes=True, metadata={"x": "y"})
    if packed:
        assert run(command, "pack", path, "-o", path).returncode == 0
        assert run(command, "verify", path).returncode == 0
    content = path.read_bytes()
    step = 97 if packed else 41
    for at in range(0, len(content), step):
        changed = bytearray(content)
        changed[at] ^= 1
        (tmp_path / "changed").write_bytes(changed)
        done = run(command, "verify", tmp_path / "changed")
        if not packed:
            assert done.returncode == 1 and "changed" in done.stderr, at
        elif done.returncode == 0:  # padding: what is unpacked is the same
            assert run(command, "unpack", tmp_path / "changed", "-o", tmp_path / "plain").returncode == 0
            assert run(command, "verify", tmp_path / "plain").returncode == 0
    (tmp_path / "changed").write_bytes(content.replace(b'"y"', b'"z"'))
    if not packed:
        assert "names, shapes and metadata" in run(command, "verify", tmp_path / "changed").stderr
        changed = bytearray(content)
        changed[-1] ^= 1  # of the one that lies last
        (tmp_path / "changed").write_bytes(changed)
        assert "a is not as it was saved" in run(command, "verify", tmp_path / "changed").stderr


def test_a_stream_is_hashed_too(command: str, tmp_path: Path) -> None:
    def source(count: int) -> Any:
        for i in range(count):
            array = np.full((100,), i, "f4")
            yield bursar.Spec(f"layer.{i}", "float32", (100,)), [array[:30], array[30:]]

    for count in (1, 0, 2000):  # the last with a header longer than what was kept free for it
        bursar.save(source(count), tmp_path / "m", hashes=True)
        assert run(command, "verify", tmp_path / "m").returncode == 0
    none = tmp_path / "none"
    bursar.save(source(1), none)
    done = run(command, "verify", none)
    assert done.returncode == 1 and "has no hashes" in done.stderr
    with bursar.open(none) as file, pytest.raises(ValueError, match="has no hashes"):
        file.verify()


def test_a_sealed_file_is_inspected_and_verified(command: str, tmp_path: Path) -> None:
    bursar.save(layers(), tmp_path / "m", hashes=True)
    run(command, "keygen", "-o", tmp_path / "key")
    recipient = next(line for line in (tmp_path / "key").read_text().splitlines() if "public key" in line).split()[-1]
    assert run(command, "seal", "--to", recipient, "-o", tmp_path / "s", tmp_path / "m").returncode == 0
    shown = run(command, "inspect", tmp_path / "s", "--identity", tmp_path / "key")
    assert "encoder.0.weight" in shown.stdout, shown.stderr
    assert run(command, "verify", tmp_path / "s", "--identity", tmp_path / "key").returncode == 0
    assert "is sealed: give --identity FILE" in run(command, "inspect", tmp_path / "s").stderr
    (tmp_path / "words").write_text("correct horse\n")
    done = run(command, "seal", "--passphrase-file", tmp_path / "words", "-o", tmp_path / "p", tmp_path / "m")
    assert done.returncode == 0
    shown = run(command, "inspect", tmp_path / "p", "--passphrase-file", tmp_path / "words", "--format", "json")
    assert json.loads(shown.stdout)["sealed"] is True


@pytest.mark.parametrize("verb", ["pack", "unpack", "seal"])
def test_a_source_that_is_written_to_meanwhile(command: str, tmp_path: Path, verb: str) -> None:
    """The output stays as it was."""
    source, out = tmp_path / "m", tmp_path / "out"
    bursar.save({"a": np.random.default_rng(0).normal(size=4_000_000)}, source)
    if verb == "unpack":
        assert run(command, "pack", source, "-o", source).returncode == 0
    out.write_text("as it was")
    words = [command, "model", verb, str(source), "-o", str(out)]
    if verb == "seal":
        run(command, "keygen", "-o", tmp_path / "key")
        words += ["--to", (tmp_path / "key").read_text().split("public key: ")[1].split()[0]]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            with source.open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"x")
        assert process.stderr is not None
        told = process.stderr.read()
    assert process.returncode == 1 and "was written to while it was read" in told, told
    assert out.read_text() == "as it was"


# --- budgets ---------------------------------------------------------------------------------------------------------


def test_what_cannot_fit_is_not_begun(command: str, tmp_path: Path) -> None:
    bursar.save(layers(), tmp_path / "m")
    needs = 5 * 4000 + 5 * 500  # and what an array and its name have besides
    assert len(bursar.load(tmp_path / "m", budget=needs)) == 5
    for budget in (needs - 1, "19 KiB"):
        with pytest.raises(MemoryError, match=f"takes {needs} bytes to load, and the budget is"):
            bursar.load(tmp_path / "m", budget=budget)
    assert len(bursar.load(tmp_path / "m", include="encoder", budget="14.5 kB")) == 3
    assert len(bursar.load(tmp_path / "m", ["decoder.bias"], budget=6500)) == 1
    with pytest.raises(ValueError, match="budget='lots' is no size"):
        bursar.load(tmp_path / "m", budget="lots")
    assert json.loads(run(command, "inspect", tmp_path / "m", "--format", "json").stdout)["load_bytes"] == needs


LOAD = """
import json, resource, subprocess, sys
import bursar, numpy
{warm}
with open("/proc/self/status") as f:
    before = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")
model = bursar.load(sys.argv[1])
with open("/proc/self/status") as f:
    peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
print((peak - before) * 1024)
"""


@pytest.mark.parametrize("kind", ["plain", "packed", "whole", "many"])
def test_a_load_takes_no_more_than_is_said(command: str, tmp_path: Path, kind: str) -> None:
    """The peak of the resident set, in a process of its own."""
    path = tmp_path / "m"
    rng = np.random.default_rng(0)
    arrays = {f"layer.{i}": rng.normal(size=(1000, 1000)).astype("f4") for i in range(8)}
    model: Any = arrays
    if kind == "many":
        model = {f"a.layer.{i}": arrays["layer.0"][i % 1000, :200] for i in range(40_000)}
    if kind == "whole":
        model = {"weights": arrays, "table": [{"name": f"n{i}", "at": [i, 2 * i], "on": True} for i in range(30000)]}
    bursar.save(model, path)
    if kind == "packed":
        run(command, "pack", path, "-o", path)
    said = json.loads(run(command, "inspect", path, "--format", "json").stdout)["load_bytes"]
    bursar.save({"a": np.ones(3000), "b": [{"x": 1}]}, tmp_path / "small")
    run(command, "pack", tmp_path / "small", "-o", tmp_path / "small.packed")
    warm = f"bursar.load({str(tmp_path / 'small')!r}); bursar.load({str(tmp_path / 'small.packed')!r})"
    env = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD.format(warm=warm), path], capture_output=True, text=True, env=env, timeout=60
    )
    peak = int(done.stdout)
    assert 32e6 < peak <= said + (1 << 20), done.stderr
    assert said < 1.9 * peak  # no idle word either


# --- whose memory ----------------------------------------------------------------------------------------------------


def test_into_frozen_memory(tmp_path: Path) -> None:
    model = {**layers(), "nothing": np.zeros((0, 2)), "big": np.arange(3_000_000, dtype="f8")}
    bursar.save(model, tmp_path / "m")
    read = bursar.load(tmp_path / "m", memory="frozen")
    assert read.keys() == model.keys() and all(np.array_equal(read[name], model[name]) for name in model)
    with pytest.raises(ValueError, match="read-only"):
        read["big"][0] = 1
    with pytest.raises(ValueError):
        read["big"].flags.writeable = True
    assert bursar.verify(read) == sum(array.nbytes for array in model.values())
    bursar.thaw(read)
    read["big"][0] = 1


def test_a_whole_model_in_frozen_memory(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression

    x = np.random.default_rng(0).normal(size=(90, 5))
    estimator = LogisticRegression().fit(x, x[:, 0] > 0)
    bursar.save(estimator, tmp_path / "m")
    read = bursar.load(tmp_path / "m", memory="frozen")
    assert np.array_equal(read.predict_proba(x), estimator.predict_proba(x))
    with pytest.raises(ValueError, match="read-only"):
        read.coef_[0, 0] = 1
    assert bursar.verify(read) >= read.coef_.nbytes


def test_a_module_in_frozen_memory(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(30, 20)
    bursar.save(module, tmp_path / "m")
    read = bursar.load(tmp_path / "m", memory="frozen")
    assert torch.equal(read(torch.ones(2, 30)), module(torch.ones(2, 30)))
    assert bursar.verify(read) == 4 * 620


def test_into_the_vault(tmp_path: Path) -> None:
    model = layers()
    bursar.save(model, tmp_path / "m")
    read = bursar.load(tmp_path / "m", include="decoder.*", memory="vault")
    assert read.keys() == {"decoder.weight", "decoder.bias"}
    with read["decoder.bias"].open() as array:
        assert np.array_equal(array, model["decoder.bias"])
        del array
    bursar.save({"a": [1]}, tmp_path / "m")
    with pytest.raises(ValueError, match="the vault takes arrays by name"):
        bursar.load(tmp_path / "m", memory="vault")
    with pytest.raises(ValueError, match="memory is"):
        bursar.load(tmp_path / "m", memory="mine")  # type: ignore[arg-type]


def test_many_small_tensors(tmp_path: Path) -> None:
    """Read together: each is what it was, in any order, also where none lies beside the next, or the file ends."""
    rng = np.random.default_rng(0)
    kinds = ["u1", "f4", "f8", "i2", "bool"]
    model = {
        f"t{i}": (rng.integers(0, 2, int(rng.integers(0, 700))) * 3).astype(kinds[i % 5]) for i in range(3000)
    }  # fmt: skip
    model["large"] = rng.normal(size=200_000)
    bursar.save(model, tmp_path / "m")
    read = bursar.load(tmp_path / "m")
    assert all(np.array_equal(read[name], model[name]) and read[name].dtype == model[name].dtype for name in model)
    some = list(model)[::-3]
    read = bursar.load(tmp_path / "m", some)
    assert list(read) == some and all(np.array_equal(read[name], model[name]) for name in some)
    with bursar.open(tmp_path / "m") as file:
        os.truncate(tmp_path / "m", (tmp_path / "m").stat().st_size - 2_000_000)
        with pytest.raises(ValueError, match="has become shorter"):
            file.read_all()
