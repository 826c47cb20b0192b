"""Streams of a PostgreSQL server's queries: a cursor of the server's, which is closed, and is lost with its place."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bursar
import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("pyarrow", reason="pyarrow is not installed: make test installs it for Python 3.11 and later")
psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: make check installs it")

MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The folder of its socket."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("no PostgreSQL server: install postgresql")
    binaries = programs[-1].parent
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:  # which it refuses to run as
        as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}

    def run(name: str, *words: "str | Path") -> None:
        subprocess.run([binaries / name, *words], check=True, stdout=subprocess.DEVNULL, timeout=120, **as_user)

    with tempfile.TemporaryDirectory() as place:
        if as_user:
            shutil.chown(place, "postgres", "postgres")
        data = Path(place) / "data"
        run("initdb", "-D", data, "-U", "boss", "-A", "trust", "--no-sync")
        run("pg_ctl", "-D", data, "-w", "-o", f"-k {place} -h ''", "-l", data / "log", "start")
        try:
            yield place
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")


@pytest.fixture(params=[False, True], ids=["transaction", "autocommit"])
def connection(server: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    with psycopg.connect(host=server, user="boss", dbname="postgres", autocommit=request.param) as connection:
        yield connection


def numbers(count: int) -> str:
    return f"select n, n / 4.0::float8 as x, 'row ' || n as s from generate_series(0, {count - 1}) n order by n"


def cursors(connection: Any) -> int:
    return int(connection.execute("select count(*) from pg_cursors").fetchone()[0])


def test_every_row_and_on_from_a_position(connection: Any) -> None:
    query = (connection, numbers(3000))
    stream = bursar.stream(query, 4 * MIB, rows=250)
    batches = [next(stream) for _ in range(3)]
    assert cursors(connection) == 1
    stream.close()
    assert cursors(connection) == 0
    position = json.loads(json.dumps(stream.position))
    batches += bursar.stream(query, 4 * MIB, start=position)
    np.testing.assert_array_equal(np.concatenate([batch["n"] for batch in batches]), np.arange(3000))
    assert batches[-1]["x"][-1] == 2999 / 4 and batches[-1]["s"][-1] == "row 2999"
    assert cursors(connection) == 0


def test_rows_that_grow_a_thousandfold(connection: Any) -> None:
    query = "select n, repeat('x', case when n < 2000 then 20 else 20000 end) as s from generate_series(0, 3999) n"
    stream = bursar.stream((connection, query), 16 * MIB)
    rows = 0
    for batch in stream:
        assert all(len(text) in (20, 20000) for text in batch["s"])
        rows += len(batch["s"])
    assert rows == 4000
    assert stream.peak_bytes <= 16 * MIB


def test_a_lost_connection(server: str) -> None:
    with psycopg.connect(host=server, user="boss", dbname="postgres") as other:
        connection = psycopg.connect(host=server, user="boss", dbname="postgres")
        stream = bursar.stream((connection, numbers(100_000)), 4 * MIB, rows=100)
        next(stream)
        other.execute("select pg_terminate_backend(%s)", (connection.info.backend_pid,))
        told = r"query .select n, .*: the database failed behind row \d+00: "
        with pytest.raises(ConnectionError, match=told) as error:
            for _ in range(1000):
                next(stream)
        assert "\n" not in str(error.value)
        stream.close()
        connection.close()


def test_a_wrong_query(connection: Any) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        next(bursar.stream((connection, "select * from no_such_table")))
    connection.rollback()
    assert cursors(connection) == 0
