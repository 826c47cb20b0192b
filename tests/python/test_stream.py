"""Streams: every row of the source, in order, whatever the budget; never more than that; and on from anywhere."""

import contextlib
import gc
import json
import os
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bursar
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

np = pytest.importorskip("numpy")
pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: make test installs it for Python 3.11 and later")
parquet = pytest.importorskip("pyarrow.parquet")
arrow_csv = pytest.importorskip("pyarrow.csv")

often = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MIB = 1 << 20


def table(rows: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    words = ["", "a", "zwölf", 'with "quotes", and\nlines', "x" * 40]
    return pa.table({
        "n": np.arange(rows), "x": rng.normal(size=rows), "s": [words[i % 5] + str(i % 90) for i in range(rows)],
        "b": rng.integers(0, 2, rows).astype(bool),
    })  # fmt: skip


def write_hdf5(path: Path, whole: Any) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["n"] = whole["n"].to_numpy()
        file.create_dataset("group/x", data=whole["x"].to_numpy(), chunks=(100,), compression="gzip")


def write_ipc(path: Path, whole: Any, opened: Callable[..., Any], **options: Any) -> None:
    with opened(path, whole.schema, options=pa.ipc.IpcWriteOptions(**options)) as file:
        file.write_table(whole, max_chunksize=77)


def arrays_of(whole: Any) -> dict[str, Any]:
    return {"n": whole["n"].to_numpy(), "x": whole["x"].to_numpy().reshape(-1, 1)}


PAGES: dict[str, Any] = {"data_page_size": 300, "write_batch_size": 50}
WRITERS: dict[str, Callable[[Path, Any], Any]] = {
    "a.npy": lambda path, whole: np.save(path, np.column_stack([whole["n"].to_numpy(), whole["x"].to_numpy()])),
    "fortran.npy": lambda path, whole: np.save(
        path, np.asfortranarray(np.column_stack([whole["n"].to_numpy(), whole["x"].to_numpy()]))
    ),
    "big.npy": lambda path, whole: np.save(path, whole["x"].to_numpy().astype(">f8")),
    "a.npz": lambda path, whole: np.savez(path, **arrays_of(whole)),
    "packed.npz": lambda path, whole: np.savez_compressed(path, **arrays_of(whole)),
    "a.csv": lambda path, whole: arrow_csv.write_csv(whole, path),
    "a.parquet": lambda path, whole: parquet.write_table(whole, path, row_group_size=150, data_page_size=200),
    "plain.parquet": lambda path, whole: parquet.write_table(
        whole, path, use_dictionary=False, data_page_version="2.0", compression="zstd", **PAGES
    ),
    "prefixed.parquet": lambda path, whole: parquet.write_table(
        whole, path, use_dictionary=False, column_encoding={"s": "DELTA_BYTE_ARRAY"}, **PAGES
    ),
    "a.arrow": lambda path, whole: write_ipc(path, whole, pa.ipc.new_file),
    "a.arrows": lambda path, whole: write_ipc(path, whole, pa.ipc.new_stream),
    "packed.feather": lambda path, whole: write_ipc(path, whole, pa.ipc.new_file, compression="zstd"),
    "a.h5": write_hdf5,
}


def expected(name: str, whole: Any) -> "dict[str, Any]":
    columns = {key: whole[key].to_numpy() for key in whole.schema.names}
    if name.endswith(".npy"):
        return {"": columns["x"] if name == "big.npy" else np.column_stack([columns["n"], columns["x"]])}
    if name.endswith(".npz"):
        return arrays_of(whole)
    if name.endswith(".h5"):
        return {"group/x": columns["x"], "n": columns["n"]}
    return columns


def gathered(batches: Any) -> "dict[str, Any]":
    """All batches as one, copied: the stream's memory is used again."""
    parts: dict[str, list[Any]] = {}
    for batch in batches:
        for name, array in (batch.items() if isinstance(batch, dict) else [("", batch)]):
            parts.setdefault(name, []).append(array.copy())
        del batch, array
    return {name: np.concatenate(each) for name, each in parts.items()}


def same(found: "dict[str, Any]", wanted: "dict[str, Any]") -> None:
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.fixture(scope="module", params=WRITERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """A file of each kind, with what is in it."""
    whole = table(500)
    path = tmp_path_factory.mktemp("made") / request.param
    WRITERS[request.param](path, whole)
    yield path, expected(path.name, whole)


# --- every row, in order --------------------------------------------------------------------------------------------


@often
@given(budget=st.integers(300_000, 2_000_000), rows=st.one_of(st.none(), st.integers(1, 700)), reuse=st.booleans())
def test_every_row_in_order(made: Any, budget: int, rows: "int | None", reuse: bool) -> None:
    path, wanted = made
    stream = bursar.stream(path, budget, rows=rows, reuse=reuse)
    sizes: list[int] = []

    def counted() -> Iterator[Any]:
        for batch in stream:
            sizes.append(len(next(iter(batch.values())) if isinstance(batch, dict) else batch))
            yield batch

    same(gathered(counted()), wanted)
    assert stream.rows == 500
    assert rows is None or max(sizes) <= rows
    assert stream.peak_bytes <= budget


@often
@given(st.integers(300_000, 1_000_000), st.integers(1, 300), st.integers(0, 500), st.integers(1, 300))
def test_on_from_anywhere(made: Any, budget: int, rows: int, stop: int, then: int) -> None:
    path, wanted = made
    first = bursar.stream(path, budget, rows=rows)
    parts = []
    for batch in first:
        parts.append(gathered([batch]))
        if first.rows >= stop:
            break
    position = json.loads(json.dumps(first.position))
    assert position["row"] == first.rows
    parts.append(gathered(bursar.stream(path, 2 * budget, rows=then, start=position)))
    both = {name: np.concatenate([part[name] for part in parts if part]) for name in wanted}
    same(both, wanted)


@pytest.mark.parametrize("as_", ["pandas", "arrow", "torch"])
def test_as_what_is_wanted(made: Any, as_: str) -> None:
    pytest.importorskip(as_.replace("arrow", "pyarrow"))
    path, wanted = made
    if as_ == "torch" and "s" in wanted:
        with pytest.raises(TypeError, match="no tensors of object, which column 's'"):
            next(bursar.stream(path, MIB, as_=as_))
        del wanted["s"]
    columns = None if "" in wanted else list(wanted)
    batches = list(bursar.stream(path, MIB, as_=as_, columns=columns, rows=130))
    assert len(batches) >= 4
    for name, array in wanted.items():
        if as_ == "torch":
            found = np.concatenate([(batch[name] if name else batch).numpy() for batch in batches])
        elif name and array.ndim == 1:
            parts = [batch.column(name) if as_ == "arrow" else batch[name] for batch in batches]
            found = np.concatenate([np.asarray(part) for part in parts])
        else:
            continue
        np.testing.assert_array_equal(found, array)
    firsts = [next(iter(batch.values())) if isinstance(batch, dict) else batch for batch in batches]
    assert sum(first.num_rows if as_ == "arrow" else len(first) for first in firsts) == 500


def test_a_query(tmp_path: Path) -> None:
    whole = table(3000)
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("create table t (n integer, x real, s text, b integer)")
    rows = zip(*(column.to_pylist() for column in whole.columns), strict=True)
    connection.executemany("insert into t values (?, ?, ?, ?)", rows)
    wanted = expected("t", whole)
    source = (connection, "select * from t where n >= ? order by n", (0,))
    stream = bursar.stream(source, "300 kB", rows=1000)
    first = next(stream)
    same(gathered([first, *stream]), {**wanted, "b": wanted["b"].astype(int)})
    assert stream.peak_bytes <= 300_000
    stream = bursar.stream(source, "300 kB", rows=100)
    for _ in range(7):
        next(stream)
    position = json.loads(json.dumps(stream.position))
    stream.close()
    found = gathered(bursar.stream(source, "1 MiB", start=position))
    np.testing.assert_array_equal(found["n"], np.arange(stream.rows, 3000))
    connection.close()


@pytest.mark.parametrize("kind", ["tables", "frames", "arrays", "dicts", "rows", "records", "one table", "one frame"])
def test_an_iterable(kind: str) -> None:
    pd = pytest.importorskip("pandas")
    whole = table(500).select(["n", "x"])
    parts = [whole.slice(at, 90) for at in range(0, 500, 90)]
    sources: dict[str, Any] = {
        "tables": lambda: iter(parts), "frames": lambda: (part.to_pandas() for part in parts),
        "arrays": lambda: (part["x"].to_numpy() for part in parts),
        "dicts": lambda: ({"n": part["n"].to_numpy(), "x": part["x"].to_numpy()} for part in parts),
        "rows": lambda: zip(*(column.to_pylist() for column in whole.columns), strict=True),
        "records": lambda: iter(whole.to_pylist()), "one table": lambda: whole, "one frame": lambda: whole.to_pandas(),
    }  # fmt: skip
    assert pd
    wanted = {"n": whole["n"].to_numpy(), "x": whole["x"].to_numpy()}
    if kind == "rows":
        wanted = {"0": wanted["n"], "1": wanted["x"]}
    if kind == "arrays":
        wanted = {"": wanted["x"]}
    same(gathered(bursar.stream(sources[kind](), "64 KiB", rows=33)), wanted)
    stream = bursar.stream(sources[kind](), "64 KiB", rows=33)
    head = gathered(next(stream) for _ in range(4))
    tail = gathered(bursar.stream(sources[kind](), "64 KiB", rows=71, start=stream.position))
    same({name: np.concatenate([head[name], tail[name]]) for name in wanted}, wanted)


def test_a_folder_and_a_list(tmp_path: Path) -> None:
    whole = table(900)
    for number in range(3):
        part = whole.slice(number * 300, 300)
        parquet.write_table(part, tmp_path / f"{number}.parquet")
    (tmp_path / ".hidden").touch()
    (tmp_path / "_SUCCESS").touch()
    wanted = expected("", whole)
    same(gathered(bursar.stream(tmp_path, MIB, rows=70)), wanted)
    stream = bursar.stream([tmp_path / f"{number}.parquet" for number in range(3)], MIB, rows=70)
    head = [gathered([next(stream)]) for _ in range(7)]
    assert stream.position["file"] == 1
    tail = gathered(bursar.stream(sorted(map(str, tmp_path.glob("*.parquet"))), MIB, start=stream.position))
    np.testing.assert_array_equal(np.concatenate([each["n"] for each in head] + [tail["n"]]), wanted["n"])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="notes.txt: its name does not say what it is"):
        bursar.stream(tmp_path)


def test_a_folder_of_csv_has_the_types_of_its_first_file(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text("a,b\n1.5,x\n")
    (tmp_path / "1.csv").write_text("a,b\n2,7\n")
    found = [batch.schema for batch in bursar.stream(tmp_path, MIB, as_="arrow")]
    assert found[0].equals(found[1])


# --- columns and rows that are wanted -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.arrow", "a.arrows", "packed.feather"])
def test_columns_and_rows(tmp_path: Path, name: str) -> None:
    whole = table(1000)
    WRITERS[name](tmp_path / name, whole)
    found = gathered(bursar.stream(tmp_path / name, MIB, columns=["s", "n"], where=[("x", ">", 0.5), ("n", "<", 700)]))
    chosen = [row for row in whole.to_pylist() if row["x"] > 0.5 and row["n"] < 700]
    assert list(found) == ["s", "n"]
    assert found["n"].tolist() == [row["n"] for row in chosen] and found["s"].tolist() == [row["s"] for row in chosen]
    either = [[("n", "in", [3, 5])], [("n", "not in", range(998)), ("b", "=", True)]]
    found = gathered(bursar.stream(tmp_path / name, MIB, where=either))
    assert found["n"].tolist() == [3, 5, *(row["n"] for row in whole.to_pylist()[998:] if row["b"])]
    with pytest.raises(ValueError, match="has no column 'y': it has n, x, s, b"):
        next(bursar.stream(tmp_path / name, columns=["n", "y"]))


def test_row_groups_that_cannot_match_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(table(10_000), path, row_group_size=1000, use_dictionary=False)
    with open(path, "r+b") as file:  # whoever reads this row group fails
        group = parquet.ParquetFile(path).metadata.row_group(3)
        file.seek(group.column(0).data_page_offset)
        file.write(b"\xff" * 40)
    found = gathered(bursar.stream(path, MIB, where=[("n", ">=", 4000)]))
    np.testing.assert_array_equal(found["n"], np.arange(4000, 10_000))
    for where in ([("n", "<", 3000)], [("n", "=", 17)], [("n", "in", [1, 9999])], [("n", ">", 5000)]):
        assert len(gathered(bursar.stream(path, MIB, where=where))["n"])
    with pytest.raises(ValueError, match="row group 3, column 'n'"):
        gathered(bursar.stream(path, MIB, where=[("n", "=", 3500)]))


# --- the bound ------------------------------------------------------------------------------------------------------


def grown(rows: int, most: int = 30_000) -> Any:
    """Rows that grow a thousandfold half way, of letters that nothing compresses well."""
    half = rows // 2
    rng = np.random.default_rng(3)
    letters = rng.integers(97, 123, 1 << 20, dtype=np.uint8).tobytes().decode()
    small = [f"{number:0{most // 1000}}" for number in range(half)]
    places = zip(rng.integers(0, len(letters) - most, half), rng.integers(most * 5 // 6, most, half), strict=True)
    return pa.table({"n": np.arange(rows), "s": small + [letters[at : at + size] for at, size in places]})


GROWN: dict[str, Callable[[Path, Any], Any]] = {
    "a.csv": WRITERS["a.csv"],
    "one group.parquet": lambda path, whole: parquet.write_table(whole, path, use_dictionary=False),
    "as it comes.parquet": lambda path, whole: parquet.write_table(whole, path),
    "dictionary.parquet": lambda path, whole: parquet.write_table(whole, path, dictionary_pagesize_limit=1 << 30),
    "zstd, second.parquet": lambda path, whole: parquet.write_table(
        whole, path, compression="zstd", data_page_version="2.0", use_dictionary=False
    ),
    "a.arrow": lambda path, whole: write_ipc(path, whole, pa.ipc.new_file),
    "lz4.arrow": lambda path, whole: write_ipc(path, whole, pa.ipc.new_file, compression="lz4"),
}


@pytest.mark.parametrize("as_", ["numpy", "pandas", "arrow"])
@pytest.mark.parametrize("name", GROWN)
def test_rows_that_grow_a_thousandfold(tmp_path: Path, name: str, as_: str) -> None:
    whole = grown(4000)
    assert whole.nbytes > 50 * MIB
    GROWN[name](tmp_path / name, whole)
    # The dictionary of one of these files is as large as its text, and a page of others 28 MiB: a reader must have
    # those, and pyarrow reserves as much again.
    others = 100 if name.endswith("parquet") else 24
    budget = {"dictionary.parquet": 450, "as it comes.parquet": 140}.get(name, others) * MIB
    stream = bursar.stream(tmp_path / name, budget, as_=as_)
    at = 0
    for batch in stream:
        texts = batch["s"] if as_ != "arrow" else batch.column("s").to_pylist()
        wanted = whole["s"].slice(at, len(texts)).to_pylist()
        assert list(texts) == wanted
        at += len(texts)
        del batch, texts
    assert at == 4000
    assert stream.peak_bytes <= budget
    assert stream._memory.pool.max_memory() > 0  # what is read is charged there


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("at_once", [8, 1024])  # pages of some rows, and one of all that are large
def test_a_few_rows_that_are_far_above_the_average(tmp_path: Path, at_once: int, version: str) -> None:
    texts = ["x" * 10, None] * 20_000 + [chr(97 + number) * MIB for number in range(24)] + ["y"] * 10_000
    parquet.write_table(
        pa.table({"s": texts}), tmp_path / "a.parquet", use_dictionary=False, write_batch_size=at_once,
        compression="zstd", data_page_version=version,
    )  # fmt: skip
    budget = (24 if at_once == 8 else 64) * MIB
    stream = bursar.stream(tmp_path / "a.parquet", budget, as_="arrow")
    at = 0
    for batch in stream:
        assert batch.column("s").to_pylist() == texts[at : at + batch.num_rows]
        at += batch.num_rows
        del batch
    assert at == len(texts)
    assert stream.peak_bytes <= budget


def test_csv_of_the_shortest_values(tmp_path: Path) -> None:
    """A byte of the file is a value of eight."""
    path = tmp_path / "a.csv"
    path.write_text("a,b,c,d\n" + ",,,\n" * 1_000_000)
    types = dict.fromkeys("abcd", "double")
    stream = bursar.stream(path, 4 * MIB, types=types)
    assert sum(len(batch["a"]) for batch in stream) == 1_000_000
    assert stream.peak_bytes <= 4 * MIB


def test_a_dictionary_whose_values_fill_memory(tmp_path: Path) -> None:
    """A page of a few bytes that becomes gigabytes: a value of a megabyte, a hundred thousand times."""
    path = tmp_path / "a.parquet"
    words = pa.array(["x" * MIB, "y" * 900_000])
    schema = pa.schema([("s", pa.dictionary(pa.int32(), pa.string()))])
    with parquet.ParquetWriter(path, schema, store_schema=False) as file:
        indices = pa.array(np.arange(20_000, dtype="i4") % 2)
        file.write_table(pa.table({"s": pa.DictionaryArray.from_arrays(indices, words)}))
    assert path.stat().st_size < 4 * MIB
    stream = bursar.stream(path, 40 * MIB, as_="arrow")
    for number, batch in enumerate(stream):
        assert batch.num_rows <= 10 and batch.column("s")[0].as_py()[0] in "xy"
        del batch
        if number == 30:
            break
    assert stream.peak_bytes <= 40 * MIB


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_lists_that_grow(tmp_path: Path, version: str) -> None:
    lists = [[float(row)] * (5 if row < 2000 else 4000) for row in range(4000)]
    parquet.write_table(pa.table({"v": lists}), tmp_path / "a.parquet", data_page_version=version)
    stream = bursar.stream(tmp_path / "a.parquet", 20 * MIB, as_="arrow")
    at = 0
    for batch in stream:
        assert batch.column("v").to_pylist() == lists[at : at + batch.num_rows]
        at += batch.num_rows
        del batch
    assert at == 4000
    assert stream.peak_bytes <= 20 * MIB


def test_a_query_whose_rows_grow() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (n integer, s text)")
    whole = grown(4000)
    connection.executemany("insert into t values (?, ?)", zip(*(c.to_pylist() for c in whole.columns), strict=True))
    stream = bursar.stream((connection, "select * from t order by n"), 8 * MIB)
    assert gathered(stream)["s"].tolist() == whole["s"].to_pylist()
    assert stream.peak_bytes <= 8 * MIB
    connection.execute("insert into t values (4000, zeroblob(3000000))")
    stream = bursar.stream((connection, "select * from t where n >= 3990"), 8 * MIB)
    # Before Python 3.11 there is no way to have SQLite refuse it.
    with pytest.raises(MemoryError, match="a value behind row 0" if sys.version_info >= (3, 11) else "row 10 takes"):
        gathered(stream)
    if sys.version_info >= (3, 11):
        assert connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) > 8 * MIB
    connection.close()


LIMITED = """
import os, sys, bursar
path, budget, group = sys.argv[1], int(sys.argv[2]), sys.argv[3]
stream = bursar.stream(path, budget, as_="arrow")
first = next(bursar.stream(path, budget, as_="arrow"))  # what is imported is there
del first
limit = os.path.join(group, "memory.limit_in_bytes")
with open(os.path.join(group, "memory.stat")) as now:  # without the page cache, which the kernel gives up
    used = next(int(line.split()[1]) for line in now if line.startswith("rss "))
for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
    if os.path.exists(os.path.join(group, name)):
        with open(os.path.join(group, name), "w") as file:
            file.write(str(used + budget + int(sys.argv[4])))
if len(sys.argv) > 5:
    import pyarrow.csv, pyarrow.parquet
    (pyarrow.csv.read_csv if path.endswith("csv") else pyarrow.parquet.read_table)(path)
print(sum(batch.num_rows for batch in stream))
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group for memory, which only root may make."""
    place = Path("/sys/fs/cgroup/memory") / f"bursar-test-{os.getpid()}"
    try:
        place.mkdir()
        (place / "memory.swappiness").write_text("0")
    except OSError as error:
        pytest.skip(f"no control group of version 1 can be made here: {error.strerror}")
    yield place
    place.rmdir()


@pytest.mark.parametrize("name", ["a.csv", "one group.parquet", "as it comes.parquet", "lz4.arrow"])
def test_under_a_cgroup_limit(tmp_path: Path, group: Path, name: str) -> None:
    """The kernel kills who takes more than the limit: its budget, and 4 MiB for allocators and page tables."""
    GROWN[name](tmp_path / name, grown(10_000, 10_000))

    def run(*more: str) -> "subprocess.CompletedProcess[str]":
        for limit in sorted(group.glob("memory.*limit_in_bytes"), reverse=True):
            with contextlib.suppress(OSError):  # those of other kinds
                limit.write_text("-1")
        words = [sys.executable, "-c", LIMITED, tmp_path / name, 32 * MIB, group, 4 * MIB, *more]
        return subprocess.run(
            ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *map(str, words)],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    done = run()
    assert (done.returncode, done.stdout) == (0, "10000\n"), done.stderr
    if not name.endswith("arrow"):
        assert run("read it whole").returncode == -9  # the limit is one


@pytest.mark.parametrize("kind", ["npy", "npz", "csv", "parquet", "arrow", "h5", "rows"])
def test_what_cannot_fit_is_an_error_before_it_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    text = "z" * 5 * MIB
    place = "row 1"
    source: Any = path
    if kind == "npy":
        np.save(path, np.zeros((3, MIB)))
        place = "row 0"
    elif kind == "npz":
        np.savez(path, x=np.zeros((3, MIB)))
        place = "row 0"
    elif kind == "csv":
        path.write_text(f"a,b\n1,2\n3,{text}\n")
        place = "line 3"
    elif kind == "parquet":
        parquet.write_table(pa.table({"a": [1, 2], "b": ["x", text]}), path, use_dictionary=False, compression="none")
        place = "row group 0: a page of each column, the largest in column 'b'"
    elif kind == "arrow":
        write_ipc(path, pa.table({"a": ["x", text]}), pa.ipc.new_file, compression="zstd")
        place = "record batch 0"
    elif kind == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file.create_dataset("x", shape=(2000, 1000), chunks=(2000, 1000), dtype="f8", compression="gzip")
        place = "a chunk of dataset 'x'"
    else:
        source = iter([(1, "x"), (2, text)])
    stream = bursar.stream(source, 4 * MIB)
    with pytest.raises(MemoryError) as error:
        gathered(stream)
    told = str(error.value)
    assert place in told and "the budget of 4.0 MiB has no room" in told and (kind == "rows" or str(path) in told)
    assert stream.peak_bytes <= 4 * MIB and "\n" not in told
    if kind not in ("csv", "rows"):  # what would do does
        for _ in range(3 if kind in ("parquet", "arrow") else 1):  # one for the file's pages, one for a row of it
            told = told.rpartition("a budget of ")[2].removesuffix(" would do").replace("bytes", "B")
            try:
                assert gathered(bursar.stream(source, told))
                break
            except MemoryError as more:
                told = str(more)
        else:
            pytest.fail(told)


# --- bad input ------------------------------------------------------------------------------------------------------


def all_of(source: Any, *arguments: Any, **options: Any) -> None:
    for batch in bursar.stream(source, *arguments, **options):
        del batch


def test_ragged_rows_and_wrong_values(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    good = "".join(f'{number},"x\n{number}",1\n' for number in range(100_000))
    path.write_text("a,b,c\n" + good + "7,8\n" + good)
    with pytest.raises(ValueError, match=r"a\.csv, line 200002: 2 values, where line 1 has 3 columns"):
        all_of(path)
    path.write_text("a,b,c\n" + good + "7,8,oops\n" + good)
    told = r"a\.csv, line 200002: 'oops' in column 'c' is no int64.*give types=\{'c': 'string'\}"
    with pytest.raises(ValueError, match=told):
        all_of(path)
    all_of(path, types={"c": "string"})
    path.write_bytes(b"a,b\n" + b"1,ok\n" * 100_000 + b"1,\xff\xfe\n")
    with pytest.raises(ValueError, match=r"a\.csv, line"):
        all_of(path)
    path.write_text("")
    with pytest.raises(ValueError, match="is empty"):
        all_of(path)
    path.write_text("a,a\n1,2\n")
    with pytest.raises(ValueError, match="two columns are called 'a'"):
        all_of(path)


@pytest.mark.parametrize("name", WRITERS)
def test_files_that_are_cut(tmp_path: Path, name: str) -> None:
    """Each file, cut anywhere: an error that names it, or, of CSV and of an Arrow stream, the rows until there."""
    WRITERS[name](tmp_path / name, table(300))
    content = (tmp_path / name).read_bytes()
    path = tmp_path / f"cut-{name}"
    for size in sorted({0, 1, 7, 50, len(content) // 3, len(content) // 2, len(content) - 30, len(content) - 1}):
        path.write_bytes(content[:size])
        try:
            all_of(path, MIB)
        except (ValueError, OSError) as error:
            assert str(path) in str(error), error
            assert "\n" not in str(error)
        else:
            assert name in ("a.csv", "a.arrows", "a.arrow", "packed.feather"), size


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    for name in ("a.npy", "fortran.npy", "a.npz", "a.parquet", "a.arrow"):
        path = tmp_path / name
        WRITERS[name](path, table(20_000))
        stream = bursar.stream(path, "400 kB")
        next(stream)
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises((OSError, ValueError), match=name):
            gathered(stream)
        with pytest.raises(StopIteration):
            next(stream)


def test_what_is_no_such_file(tmp_path: Path) -> None:
    for name in (*WRITERS, "a.ipc", "a.hdf5"):
        path = tmp_path / name
        path.write_bytes(b"\x00\xffneither this nor that" * 50 if not name.endswith("csv") else b"\xff,\n")
        with pytest.raises((ValueError, OSError)) as error:
            all_of(path)
        assert str(path) in str(error.value)
    with pytest.raises(FileNotFoundError):
        bursar.stream(tmp_path / "no.such")
    with pytest.raises(FileNotFoundError):
        all_of(tmp_path / "no.csv")
    np.save(tmp_path / "o.npy", np.array([{}, []], object), allow_pickle=True)
    with pytest.raises(ValueError, match="has objects"):
        all_of(tmp_path / "o.npy")
    np.save(tmp_path / "o.npy", np.float64(3))
    with pytest.raises(ValueError, match="single number"):
        all_of(tmp_path / "o.npy")


def test_wrong_use(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 2)))
    path = tmp_path / "a.npy"
    for wrong in (
        {"budget": "much"}, {"budget": 0}, {"as_": "list"}, {"rows": 0}, {"as_": "pandas", "reuse": True}, {"start": 5},
        {"start": {"file": 3, "name": "a", "row": 0, "place": {}}}, {"columns": ["a", "a"]}, {"where": [("a", "~", 1)]},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            bursar.stream(path, **wrong)
    for source in (5, b"a.npy"):
        with pytest.raises(TypeError):
            all_of(source)
    with pytest.raises(TypeError, match="list of names"):
        bursar.stream(path, columns="a")
    with pytest.raises(ValueError, match="no columns to choose"):
        all_of(path, columns=["a"])
    stream = bursar.stream(path, rows=1)
    next(stream)
    np.save(path, np.zeros((0, 2)))
    with pytest.raises(OSError, match="has 0 rows now, and the position to go on from is row 1"):
        all_of(path, start=stream.position)


# --- what is opened is closed -----------------------------------------------------------------------------------------


def open_files() -> "set[str]":
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return found


def test_what_is_opened_is_closed(made: Any) -> None:
    path = str(made[0])

    def is_open() -> bool:
        return path in open_files()

    gc.disable()  # nothing may wait for it
    try:
        for leave in ("close", "with", "del", "end", "error"):
            stream = bursar.stream(path, MIB, rows=100)
            next(stream)
            assert is_open(), "this test sees open files"
            if leave == "close":
                stream.close()
            elif leave == "with":
                with pytest.raises(ZeroDivisionError), stream:
                    1 / 0
            elif leave == "end":
                gathered(stream)
            elif leave == "error":
                with pytest.raises(ZeroDivisionError):
                    for _ in stream:
                        1 / 0
                del _
            del stream
            assert not is_open(), leave
        for _ in bursar.stream(path, MIB, rows=100):
            break
        assert not is_open()
    finally:
        gc.enable()


def test_a_batch_that_is_kept_stays_as_it_is(made: Any) -> None:
    path, wanted = made
    kept = list(bursar.stream(path, MIB, rows=100))
    gc.collect()
    same({name: np.concatenate([batch[name] if name else batch for batch in kept]) for name in wanted}, wanted)


def test_one_buffer_is_used_again(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(1000.0))
    stream = bursar.stream(tmp_path / "a.npy", rows=100, reuse=True)
    first = next(stream)
    second = next(stream)
    assert np.shares_memory(first, second) and first[0] == 100
    alone = bursar.stream(tmp_path / "a.npy", rows=100)
    places = {next(alone).ctypes.data for _ in range(8)}
    assert len(places) == 1  # nobody had the batch before
    kept = [next(alone), next(alone)]
    assert not np.shares_memory(*kept)


def test_batches_outlive_the_stream_and_the_interpreter(tmp_path: Path) -> None:
    """Arrow's memory is freed by the pool that it came from, which must still be there."""
    parquet.write_table(table(1000), tmp_path / "a.parquet")
    code = f"""if True:
        import bursar, gc
        kept = []
        for number in range(300):
            kept = [next(bursar.stream({str(tmp_path / "a.parquet")!r}, as_="arrow"))]
            gc.collect()
        print(kept[0].num_rows, bursar.stream([1]).peak_bytes)
        from bursar import _stream_memory
        vars(_stream_memory).clear()  # as the interpreter does in the end, before or after what others keep
        gc.collect()
        kept.clear()
    """
    environment = {**os.environ, "MALLOC_PERTURB_": "90"}  # what is freed is garbage at once
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "1000 0\n"), done.stderr


def test_it_is_a_scope(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(4_000_000))
    code = f"""if True:
        import bursar, json
        bursar.start("exact", output={str(tmp_path / "l.bursar")!r})
        kept = bytearray(30_000_000)
        for batch in bursar.stream({str(tmp_path / "a.npy")!r}, "8 MiB"):
            kept += bytes(1000)
        bursar.stop()
    """
    subprocess.run([sys.executable, "-c", code], check=True)
    command = Path(sys.executable).parent / "bursar"
    told = subprocess.run([command, "report", tmp_path / "l.bursar", "--view", "scopes", "--format", "json"],
                          capture_output=True, check=True).stdout  # fmt: skip
    scope = next(each for each in json.loads(told)["scopes"] if each["name"] == "stream")
    assert MIB < scope["peak_max_bytes"] <= 13 * MIB  # with NumPy, which is imported in it


def test_an_archive_with_a_wrong_checksum(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(1).normal(size=9000))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[len(content) // 2] ^= 0x55
    (tmp_path / "a.npz").write_bytes(content)
    assert zipfile.is_zipfile(tmp_path / "a.npz")
    with pytest.raises(OSError, match="array 'x', rows from"):
        all_of(tmp_path / "a.npz")


def test_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.zeros(1000))
    seen: list[Any] = []

    class Bar:
        total = None

        def __init__(self, **options: Any) -> None:
            seen.append(self)
            self.done = 0

        def update(self, rows: int) -> None:
            self.done += rows

        def close(self) -> None:
            seen.append("closed")

    module = type(sys)("tqdm.auto")
    module.tqdm = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", type(sys)("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    all_of(tmp_path / "a.npy", rows=300, progress=True)
    assert (seen[0].total, seen[0].done, seen[1:]) == (1000, 1000, ["closed"])
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    all_of(tmp_path / "a.npy", progress=True)
