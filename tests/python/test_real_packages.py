"""Packages as people use them: gunicorn's and uvicorn's workers, greenlets and gevent. Each does what it does without
bursar, and each of its processes has books of what it allocated."""

import contextlib
import http.client
import importlib.util
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from families import MODES, Family, Under, read_family, under
from running import LIMIT, Facts

__all__ = ["under"]

MIB = 1 << 20


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


# ---- servers ----

# Both: WSGI for gunicorn, ASGI for uvicorn. What a request allocated is on a line of its own.
SITE = """\
import os
ONE = b"x"
kept = []

def answer(path):
    kept.append(ONE * 300_000)  # @work
    return f"{os.getpid()} {path}".encode()

def wsgi(environ, start_response):
    body = answer(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    body = answer(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


def ask(path: Path) -> int:
    """One request over a connection of its own; who answered."""
    connection = http.client.HTTPConnection("localhost", timeout=LIMIT)
    connection.sock = socket.socket(socket.AF_UNIX)
    with contextlib.closing(connection):
        connection.sock.connect(str(path))
        connection.request("GET", "/some/where")
        pid, _, said = connection.getresponse().read().decode().partition(" ")
        assert said == "/some/where"
    return int(pid)


@contextlib.contextmanager
def serving(command: "list[str | Path]", folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """A server that listens at the path it yields, and must end well when it is told to."""
    path = folder / "socket"
    path.unlink(missing_ok=True)
    with (folder / "log").open("w+") as log:
        words = [str(path) if word == "SOCKET" else str(word) for word in command]
        server = subprocess.Popen(words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + LIMIT
            while not accepts(path):
                assert server.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            yield path
            server.send_signal(signal.SIGTERM)
            assert server.wait(LIMIT) in (0, -signal.SIGTERM), (folder / "log").read_text()
        finally:
            server.kill()
            server.wait()


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def ask_all(path: Path, workers: int) -> Counter[int]:
    """Requests until so many workers have answered some; how many each answered."""
    answered: Counter[int] = Counter()
    deadline = time.monotonic() + LIMIT
    while len(answered) < workers or min(answered.values()) < 5:
        assert time.monotonic() < deadline, answered
        answered[ask(path)] += 1
    return answered


def check_workers(family: Family, answered: "Counter[int]") -> None:
    """Each worker has books, which know each request that it answered."""
    assert set(answered) <= set(family.children)
    for pid, requests in answered.items():
        books = family.children[pid]
        if books["mode"] in ("exact", "native"):
            assert family.at_work("allocations")[1 + list(family.children).index(pid)] == requests
        else:  # all of it is still held
            assert books["allocated_bytes"] > requests * 300_000


WORKERS = {"sync": (), "gthread": ("--threads", "3"), "gevent": ()}


@needs("gunicorn")
@pytest.mark.parametrize(
    ("worker", "preloaded", "mode"),
    [("sync", False, "exact"), ("sync", True, "sample"), ("sync", True, "count"), ("gthread", True, "exact"),
     ("gevent", False, "exact")],
)  # fmt: skip
def test_gunicorn_with_three_workers(
    command: str, python: str, environment: dict[str, str], facts: Facts, ledger: Path, tmp_path: Path, worker: str,
    preloaded: bool, mode: str,
) -> None:  # fmt: skip
    site = tmp_path / "shop.py"
    site.write_text(SITE)
    gunicorn: list[str | Path] = [
        "-m", "gunicorn", "--workers", "3", "--worker-class", worker, *WORKERS[worker], "--bind", "unix:socket",
        *(("--preload",) if preloaded else ()), "shop:wsgi",
    ]  # fmt: skip
    with serving([python, *gunicorn], tmp_path, environment) as path:
        ask_all(path, 3)
    run: list[str | Path] = [command, "run", "--follow-fork", "-o", ledger, *MODES[mode]]
    with serving([*run, *gunicorn], tmp_path, environment) as path:
        answered = ask_all(path, 3)
    assert "Traceback" not in (tmp_path / "log").read_text()
    family = read_family(facts, ledger, site, SITE)
    check_workers(family, answered)
    assert all(family.children[pid]["state"] == "ended" for pid in answered)


@needs("gunicorn")
def test_gunicorn_under_the_switch(
    python: str, environment: dict[str, str], facts: Facts, tmp_path: Path
) -> None:
    """BURSAR alone: each worker has books, without a line of code."""
    (tmp_path / "shop.py").write_text(SITE)
    gunicorn: list[str | Path] = ["-m", "gunicorn", "--workers", "3", "--preload", "--bind", "unix:socket", "shop:wsgi"]
    with serving([python, *gunicorn], tmp_path, {**environment, "BURSAR": "sample"}) as path:
        answered = ask_all(path, 3)
    books = {read["pid"]: read for read in map(facts, Path(environment["BURSAR_DIR"]).iterdir())}
    assert len(books) == 4 and set(answered) < set(books)
    for pid, requests in answered.items():
        assert books[pid]["mode"] == "sample" and books[pid]["state"] in ("ended", "stopped")
        assert books[pid]["allocated_bytes"] > requests * 300_000


@needs("uvicorn")
def test_uvicorn_with_two_workers(
    command: str, environment: dict[str, str], facts: Facts, ledger: Path, tmp_path: Path
) -> None:
    """Its workers end themselves by the signal that they were told to end by."""
    site = tmp_path / "shop.py"
    site.write_text(SITE)
    run: list[str | Path] = [command, "run", "--follow-fork", "-o", ledger, *MODES["exact"], "-m", "uvicorn"]
    with serving([*run, "--workers", "2", "--uds", "SOCKET", "shop:asgi"], tmp_path, environment) as path:
        answered = ask_all(path, 2)
    assert "Traceback" not in (tmp_path / "log").read_text()
    check_workers(read_family(facts, ledger, site, SITE), answered)


# ---- stacks that move ----

GREENLETS = """\
import gc, threading
import greenlet

ONE = b"x"

def deep(n, there):
    if n:
        return deep(n - 1, there) + sorted([n], key=lambda i: i)[0]
    held = ONE * 100_000  # @work
    there.switch(len(held))
    return max([0], key=lambda i: deep2(i, there))

def deep2(n, there):
    held = [ONE * 1000 for _ in range(10)]
    there.switch(sum(map(len, held)))
    return n

def turn(count):
    here = greenlet.getcurrent()
    many = [greenlet.greenlet(deep) for _ in range(count)]
    told = [g.switch(3 * i % 40, here) for i, g in enumerate(many)]
    told += [g.switch() for g in reversed(many)]
    told += [g.switch() for g in many]
    return told, all(g.dead for g in many)

def thrown():
    here = greenlet.getcurrent()
    def f():
        try:
            here.switch([ONE * 5000])
        except greenlet.GreenletExit:
            return "left " + str(len(ONE * 3000))
    g = greenlet.greenlet(f)
    return len(g.switch()), g.throw()

def unfinished():
    here = greenlet.getcurrent()
    for i in range(20):
        g = greenlet.greenlet(deep)
        g.switch(i, here)
        del g
    gc.collect()

print(turn(50))
print(thrown())
unfinished()
told = []
threads = [threading.Thread(target=lambda: told.append(turn(20))) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print(len(told), all(one == told[0] for one in told))
"""


@needs("greenlet")
@pytest.mark.parametrize("mode", MODES)
def test_greenlets(under: Under, mode: str) -> None:
    family = under(GREENLETS, mode)
    if mode in ("exact", "native"):
        assert family.at_work("allocations") == [50 + 20 + 4 * 20]
        assert family.at_work("live_bytes") == [0]


GEVENT = """\
import gevent.monkey
gevent.monkey.patch_all()
import os, socket, subprocess, sys, threading
import gevent, gevent.pool, gevent.server, gevent.queue

ONE = b"x"

def work(n):
    held = ONE * 100_000  # @work
    gevent.sleep(0)
    return len(held) + n

def serve(peer, address):
    stream = peer.makefile("rwb")
    while line := stream.readline():
        stream.write(b"%d\\n" % work(int(line)))
        stream.flush()

server = gevent.server.StreamServer(("127.0.0.1", 0), serve)
server.start()

def ask(n):
    with socket.create_connection(("127.0.0.1", server.server_port)) as peer:
        stream = peer.makefile("rwb")
        for i in range(3):
            stream.write(b"%d\\n" % (n + i))
            stream.flush()
            answer = stream.readline()
    return int(answer)

pool = gevent.pool.Pool(10)
print(pool.map(ask, range(30)))
server.stop()
told = []
threads = [threading.Thread(target=lambda: told.append(work(1))) for _ in range(10)]
[t.start() for t in threads]
[t.join() for t in threads]
print(told)
print(gevent.get_hub().threadpool.map(work, range(5)))
print(subprocess.run([sys.executable, "-c", "kept = bytes(3_000_000); print(len(kept))"], stdout=-1).stdout)
if (pid := os.fork()) == 0:
    print(gevent.spawn(work, 7).get(), flush=True)
    os._exit(0)
print(os.waitpid(pid, 0)[1])
"""


@needs("gevent")
@pytest.mark.parametrize("mode", MODES)
def test_gevent(under: Under, mode: str) -> None:
    family = under(GEVENT, mode)
    assert len(family.children) == 2
    if mode in ("exact", "native"):
        assert family.at_work("allocations")[0] == 90 + 10 + 5
        assert sorted(family.at_work("allocations")[1:]) == [0, 1]
