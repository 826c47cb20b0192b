"""The example services under load: in a flood in which one request in fifty is absurd, each of those is refused alone,
and all others have the answers of the model itself; a leak is found, and none where there is none."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import serving
from running import Facts
from serving import CONNECTIONS, HARD, MIB, Service, load, status_bytes

EVERY = 50
SMALL_OVER = MIB  # above a limit in small blocks

Serve = Callable[..., "contextlib.AbstractContextManager[tuple[Service, Path]]"]


@pytest.fixture(scope="session")
def requests_of(python: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Path]:
    """What a kind of service is sent, with the model's own answers: with absurd requests, or without."""
    made: dict[tuple[bool, bool], Path] = {}

    def of(kind: str, absurd: bool) -> Path:
        key = kind == "torch", absurd
        if key not in made:
            folder = tmp_path_factory.mktemp("requests")
            more = () if absurd else ((),)
            made[key] = serving.write_requests(kind, python, folder, dict(os.environ), *more)
        return made[key]

    return of


@pytest.fixture
def serve(python: str, tmp_path: Path, environment: dict[str, str], requests_of: Callable[[str, bool], Path]) -> Serve:
    """A service, and the requests that it is to be sent."""

    @contextlib.contextmanager
    def run(kind: str, *, absurd: bool = True, **options: Any) -> Iterator[tuple[Service, Path]]:
        serving.needs(kind)
        requests = requests_of(kind, absurd)
        (tmp_path / "ledgers").mkdir(mode=0o700, exist_ok=True)
        with serving.serving(kind, python, tmp_path, environment, **options) as service:
            yield service, requests

    return run


def check_flood(service: Service, requests: Path, total: int, seconds: int = 100) -> dict[str, Any]:
    counts = load.flood(service.url, requests, total, EVERY, connections=CONNECTIONS, seconds=seconds)
    absurd = total // EVERY
    expected = {"right": total - absurd, "wrong": 0, "refused": absurd, "other": 0}
    assert {name: counts[name] for name in expected} == expected, (counts, service.log.read_text()[-2000:])
    assert service.process.poll() is None
    return counts


def books_of(facts: Facts, ledgers: Path) -> list[dict[str, Any]]:
    return [facts(path) for path in sorted(ledgers.iterdir())]


def check_books(books: list[dict[str, Any]], total: int) -> None:
    """Who was refused, and that nobody held more than may be: nothing where it can be refused, else a mebibyte."""
    scopes = [scope for one in books for scope in one["scopes"]]
    assert sum(scope["calls"] for scope in scopes) == total
    for scope in scopes:
        over = SMALL_OVER if scope["name"].endswith("explain") else 0
        assert scope["peak_max_bytes"] <= HARD + over, scope
    refused = [event for one in books for event in one["events"] if event["kind"] == "refused"]
    assert len(refused) >= total // EVERY
    assert {event["scope"].rpartition("/")[2] for event in refused} == {"predict", "explain"}


def flood_kept_apart(kind: str, total: int, serve: Serve, facts: Facts) -> None:
    with serve(kind) as (service, requests):
        before = status_bytes(service.pid, "VmHWM")
        check_flood(service, requests, total)
        most = status_bytes(service.pid, "VmHWM")
        assert most - before <= CONNECTIONS * (HARD + SMALL_OVER) + 64 * MIB, "each absurd one is held to its budget"
        check_books(books_of(facts, service.ledgers), total)
    assert "Traceback" not in service.log.read_text()


@pytest.mark.parametrize("kind", ["fastapi", "pool"])
def test_a_flood(kind: str, serve: Serve, facts: Facts) -> None:
    flood_kept_apart(kind, 1000, serve, facts)


@pytest.mark.check
@pytest.mark.parametrize("kind", ["fastapi", "torch", "pool"])
def test_a_long_flood(kind: str, serve: Serve, facts: Facts) -> None:
    flood_kept_apart(kind, 20_000, serve, facts)


# --- three workers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "under_run", [False, pytest.param(True, marks=pytest.mark.check)], ids=["start", "follow-fork"]
)
def test_three_workers(under_run: bool, serve: Serve, facts: Facts, command: str, tmp_path: Path) -> None:
    """Each has books and budgets of its own, by bursar.start() in post_fork, or by the command that began it all."""
    ledger = tmp_path / "ledgers" / "all.bursar"
    run: tuple[str | Path, ...] = (command, "run", "--follow-fork", "--mode", "sample", "--domains", "all")
    run += ("-o", ledger)
    with serve("gunicorn", before=run if under_run else ()) as (service, requests):
        while len(workers := service.workers) < 3:
            time.sleep(0.02)
        check_flood(service, requests, 1000)
        assert service.workers == workers, "none was killed and begun anew"
    books = books_of(facts, service.ledgers)
    assert len(books) == 3 + under_run
    assert {one["pid"] for one in books} == {*workers, *([service.pid] if under_run else [])}
    check_books(books, 1000)


# --- leaks ------------------------------------------------------------------------------------------------------------

LEAKY = """\
import model
kept = []
predict = model.predict
def leaks(rows, copies):
    kept.append(bytes(167))  # 200 bytes, and malloc makes 208 of it
    return predict(rows, copies)
model.predict = leaks
"""


def check_leak(found: dict[str, dict[str, Any]], name: str, tmp_path: Path) -> None:
    assert found[name]["leaks"] is True, found[name]["says"]
    first = found[name]["sites"][0]["stack"][0]
    assert (first["file"], first["line"]) == (str(tmp_path / "leaky.py"), 5)


def test_a_leak_of_200_bytes_is_found_within_1000_calls(serve: Serve, command: str, tmp_path: Path) -> None:
    (tmp_path / "leaky.py").write_text(LEAKY)
    code = f"import leaky, runpy; runpy.run_path({str(serving.EXAMPLE / 'pool.py')!r}, run_name='__main__')"
    with serve("pool", absurd=False, program=("-c", code, "PORT")) as (service, requests):
        assert load.flood(service.url, requests, 2000, 0, connections=1)["right"] == 2000
        [ledger] = service.ledgers.iterdir()
        found = serving.verdicts(command, ledger)
    check_leak(found, "predict", tmp_path)
    assert found["predict"]["alarm_calls"] <= 1000


def test_a_leak_among_garbage_is_found_within_1000_calls(serve: Serve, command: str, tmp_path: Path) -> None:
    """A framework leaves some kilobytes in cycles with each request."""
    (tmp_path / "leaky.py").write_text(LEAKY)
    (tmp_path / "leaky_app.py").write_text("import leaky\nfrom governed import app\n")
    with serve("fastapi", absurd=False, app="leaky_app:app") as (service, requests):
        counts = load.flood(service.url, requests, 2000, 0, connections=CONNECTIONS, seconds=600)
        assert counts["right"] == 2000
        [ledger] = service.ledgers.iterdir()
        found = serving.verdicts(command, ledger)
    check_leak(found, "POST /predict", tmp_path)
    assert found["POST /predict"]["alarm_calls"] <= 1000


@pytest.mark.check
def test_200000_requests_in_a_row(serve: Serve, command: str) -> None:
    """No leak is said to be there, and none is: the second half needs no more memory than the first."""
    total = 200_000
    with serve("fastapi", absurd=False) as (service, requests):
        rss = []
        for _ in range(10):
            counts = load.flood(service.url, requests, total // 10, 0, connections=CONNECTIONS, seconds=600)
            assert counts["right"] == total // 10, counts
            rss.append(status_bytes(service.pid, "VmRSS"))
        assert max(rss[5:]) <= max(rss[:5]) + 2 * MIB, rss
        [ledger] = service.ledgers.iterdir()
        found = serving.verdicts(command, ledger)
    assert {name: (one["leaks"], one["alarm_calls"]) for name, one in found.items()} == {
        "POST /predict": (False, None), "POST /explain": (False, None),
    }  # fmt: skip
    assert sum(one["calls"] for one in found.values()) == total


# --- where the kernel kills -------------------------------------------------------------------------------------------


@pytest.fixture
def gigabyte() -> Iterator[Path]:
    """A control group that may use 1 GB, swap included; who goes beyond it is killed.  Version 1 or 2, for root."""
    root, limits = Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    if not root.is_dir():
        root, limits = Path("/sys/fs/cgroup"), ("memory.max", "memory.swap.max")
    place = root / f"bursar-test-{os.getpid()}"
    try:
        if limits[0] == "memory.max":
            (root / "cgroup.subtree_control").write_text("+memory")
        place.mkdir()
        (place / limits[0]).write_text("1000000000")
    except OSError as error:
        pytest.skip(f"no control group for memory can be made here: {error.strerror}")
    with contextlib.suppress(OSError):  # a kernel without swap has no such file
        (place / limits[1]).write_text("0" if limits[1] == "memory.swap.max" else "1000000000")
    yield place
    for pid in (place / "cgroup.procs").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while True:
        try:
            place.rmdir()
            break
        except OSError:  # who was killed is not gone yet
            assert time.monotonic() < deadline
            time.sleep(0.02)


def within(group: Path, python: str) -> tuple[str, ...]:
    return ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", python)


def test_in_a_gigabyte(gigabyte: Path, serve: Serve, python: str) -> None:
    """The same flood, the same service: without bursar the kernel kills it."""
    with serve("fastapi", before=within(gigabyte, python)) as (service, requests):
        check_flood(service, requests, 1000)
    with serve("plain", before=within(gigabyte, python)) as (service, requests):
        counts = load.flood(service.url, requests, 1000, EVERY, connections=CONNECTIONS, server=service.process)
        assert service.process.wait(60) == -signal.SIGKILL
    assert counts["right"] < 1000 - 1000 // EVERY


SHARED = """\
from app import app
from bursar.asgi import ScopeMiddleware
from governed import Refusals
app.add_middleware(ScopeMiddleware)
app.add_middleware(Refusals)
"""


def test_in_a_gigabyte_that_all_share(gigabyte: Path, serve: Serve, command: str, python: str, tmp_path: Path) -> None:
    """No request has a budget of its own, the process has one: the same requests are refused, and no others."""
    # governed.py itself gives each request a budget: what is of use here is its handler alone.
    governed = (serving.EXAMPLE / "governed.py").read_text().partition("bursar.start(")[0]
    (tmp_path / "governed.py").write_text(governed)
    (tmp_path / "shared.py").write_text(SHARED)
    ledger = tmp_path / "ledgers" / "all.bursar"
    run = (*within(gigabyte, command), "run", "--mode", "sample", "--budget", "80%", "-o", str(ledger))
    with serve("fastapi", before=run, app="shared:app") as (service, requests):
        check_flood(service, requests, 1000)
