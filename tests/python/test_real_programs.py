"""Programs as people write them, of several processes, threads, tasks and interpreters: each does what it does without
bursar, and each of its processes has books of what it allocated."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from families import MODES, Under, line_in, own_words, under
from running import Facts, Run

__all__ = ["under"]


def core(*values: str) -> Any:
    """Of a test's parameters: on every Python. Where a process starts another Python anew, that takes its time."""
    return pytest.param(*values, marks=pytest.mark.core)


HERE = Path(__file__).parent

MULTIPROCESSING = """\
import multiprocessing, os, sys
from multiprocessing import shared_memory

ONE = b"x"

def say(*words):  # at once: a child that is forked meanwhile says again what waits in a buffer
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def work(n):
    held = ONE * 1_000_000  # @work
    return len(held) + n

def fill(name, start, queue, barrier):
    block = shared_memory.SharedMemory(name)
    barrier.wait()
    for at in range(start, start + 1000):
        block.buf[at] = at % 251
    block.close()
    queue.put(start)

def main():
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(3, maxtasksperchild=8) as pool:
        say(pool.map(work, range(20), chunksize=1))
        say(sorted(pool.imap_unordered(work, range(20))))
        pool.close()
        pool.join()
    block = shared_memory.SharedMemory(create=True, size=3000)
    queue, barrier = context.Queue(), context.Barrier(3)
    processes = [context.Process(target=fill, args=(block.name, 1000 * i, queue, barrier)) for i in range(3)]
    for process in processes:
        process.start()
    say(sorted(queue.get() for _ in processes))
    for process in processes:
        process.join()
    say([process.exitcode for process in processes], sum(block.buf[:3000]))
    block.close()
    block.unlink()
    with context.Manager() as manager:
        shared = manager.dict()
        shared.update(a=1, b=work(2))
        say(dict(shared))
        process = context.Process(target=shared.update, args=({"c": 3},))
        process.start()
        process.join()
        say(dict(shared))

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("method", "mode"),
    [*(core("fork", mode) for mode in ("exact", "sample", "count")), ("spawn", "exact"), ("forkserver", "exact")],
)
def test_multiprocessing(under: Under, method: str, mode: str) -> None:
    family = under(MULTIPROCESSING, mode, method)
    assert len(family.children) >= 5 + 3 + 1 + 1  # each of the pool's processes ends after eight tasks
    if mode == "exact":
        main, *children = family.at_work("allocations")
        assert main == 1 and sum(children) == 40 and max(children) == 8
    elif mode == "sample":
        assert sum(books["allocated_bytes"] for books in family.children.values()) > 40 * 1_000_000
    else:
        assert sum(books["peak_bytes"] > 1_000_000 for books in family.children.values()) >= 5


FUTURES = """\
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
import multiprocessing, os, sys

ONE = b"x"
met = threading.Barrier(4)
ready = []

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def begin(word):
    ready.append(word)

def work(n):
    held = ONE * 1_000_000  # @work
    return len(held) + n, ready[-1]

def meet(n):
    met.wait()
    return work(n)

def fail(n):
    raise ValueError(n)

if __name__ == "__main__":
    with ThreadPoolExecutor(4, initializer=begin, initargs=("thread",)) as pool:
        say(list(pool.map(meet, range(8))))
        say(pool.submit(fail, 3).exception())
    context = multiprocessing.get_context(sys.argv[1])
    with ProcessPoolExecutor(2, mp_context=context, initializer=begin, initargs=("process",)) as pool:
        say(list(pool.map(work, range(12))))
        say(sorted(done.result() for done in as_completed([pool.submit(work, n) for n in range(8)])))
        say(repr(pool.submit(fail, 3).exception()))
"""


@pytest.mark.parametrize(
    ("method", "mode"),
    [core("fork", "exact"), ("fork", "sample"), ("fork", "count"), ("spawn", "exact")],
)
def test_concurrent_futures(under: Under, method: str, mode: str) -> None:
    family = under(FUTURES, mode, method)
    assert len(family.children) >= 2
    if mode == "exact":
        main, *children = family.at_work("allocations")
        assert main == 8 and sum(children) == 20


ASYNCIO = """\
import asyncio, sys

ONE = b"x"

def work(n):
    held = ONE * 1_000_000  # @work
    return len(held) + n

async def serve(reader, writer):
    while line := await reader.readline():
        await asyncio.sleep(0)
        writer.write(b"%d\\n" % work(int(line)))
        await writer.drain()
    writer.close()

async def ask(path, n):
    reader, writer = await asyncio.open_unix_connection(path)
    for i in range(3):
        writer.write(b"%d\\n" % (n + i))
        answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(answer)

async def count(n):
    for i in range(n):
        yield i
        await asyncio.sleep(0)

async def child(n):
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import sys; kept = bytes(12_000_000); print(len(sys.stdin.read()), end='')",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    out, _ = await program.communicate(b"x" * n)
    return out, program.returncode

async def never():
    await asyncio.Event().wait()

async def main():
    server = await asyncio.start_unix_server(serve, "socket")
    print(await asyncio.gather(*(ask("socket", 10 * n) for n in range(20))))
    server.close()
    print(await asyncio.gather(*(asyncio.to_thread(work, n) for n in range(10))))
    print([i async for i in count(5)])
    print(await asyncio.gather(*(child(1000 * n) for n in range(3))))
    task = asyncio.create_task(never())
    await asyncio.sleep(0)
    task.cancel()
    print(await asyncio.gather(task, return_exceptions=True))
    generator = count(5)
    print(await generator.__anext__())  # never finished

asyncio.run(main())
"""


@pytest.mark.parametrize("mode", [core("exact"), "native", "sample", "count"])
def test_asyncio(under: Under, mode: str) -> None:
    family = under(ASYNCIO, mode)
    assert len(family.children) == 3
    assert all(books["peak_bytes"] > 12_000_000 for books in family.children.values())  # of 512 KiB one is chosen
    if mode in ("exact", "native"):
        assert family.at_work("allocations") == [70, 0, 0, 0]


# 3.14 looks for the packages of a virtual environment in its first interpreter alone: the others find none.
TURNS = 1 if sys.version_info >= (3, 14) else 3
EMBEDDED = """\
import json, threading, bursar
ONE = b'x'
def work(i):
    with bursar.scope(f'turn {i}'):
        return len(ONE * 1_000_000)  # @work
done = [work(i) for i in range(5)]
threads = [threading.Thread(target=json.dumps, args=(list(range(1000)),)) for _ in range(3)]
[t.start() for t in threads]
[t.join() for t in threads]
print(sum(done), flush=True)
"""


@pytest.fixture(scope="session")
def host(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A C program that embeds the Python under test."""
    names = ("LIBDIR", "LDVERSION", "LIBS", "SYSLIBS", "LINKFORSHARED", "INCLUDEPY")
    probe = f"import sysconfig as s\nfor name in {names}: print(s.get_config_var(name) or '')"
    asked = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=True)
    folder, version, libraries, system, shared, include = asked.stdout.splitlines()
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler or not list(Path(folder).glob(f"libpython{version}.*")):
        pytest.skip(f"no compiler, or no libpython{version} in {folder}: it is with Python's headers")
    out = tmp_path_factory.mktemp("host") / "host"
    subprocess.run(
        [compiler, "-O1", "-g", "-Wall", "-Wextra", f"-I{include}", "-o", out, HERE / "host.c", f"-L{folder}",
         f"-Wl,-rpath,{folder}", f"-lpython{version}", *libraries.split(), *system.split(), *shared.split(),
         "-pthread"], check=True,
    )  # fmt: skip
    return out


@pytest.mark.core
@pytest.mark.parametrize(("mode", "threaded"), [*((mode, "0") for mode in MODES), ("exact", "1")])
def test_a_program_that_embeds_python(
    execute: Run, bursar: Run, python: str, host: Path, facts: Facts, ledger: Path, mode: str, threaded: str
) -> None:
    """Interpreters in one process, one after another. Each has books of its own where they are followed."""
    arguments = (host, python, EMBEDDED, str(TURNS), threaded)
    plain = execute(*arguments)
    assert (plain.returncode, plain.stderr) == (0, "")
    kept = bursar("run", "--follow-fork", "-o", ledger, *MODES[mode], "--", *arguments)
    assert (kept.returncode, kept.stdout) == (0, plain.stdout)
    told = f"bursar: mode {mode} needs Python: as long as {host} runs none, its books are exact\n"
    assert own_words(kept) == (told if mode in ("sample", "count") else "")
    ledgers = [ledger, *ledger.parent.glob(f"{ledger.name}.*")]
    assert len(ledgers) == TURNS
    for books in map(facts, ledgers):
        assert books["complete"] and books["state"] == "ended"
        assert books["allocated_bytes"] > 5 * 1_000_000 + 5_000_000
        if mode in ("exact", "native"):
            assert sum(s["allocated_bytes"] for s in books["sites"] if s["domain"] == "malloc") >= 5_000_000
            assert sum(s["allocations"] for s in books["sites"] if line_in(s) == ("<string>", 5)) >= 5


@pytest.mark.core
def test_embedded_interpreters_under_the_switch(
    execute: Run, python: str, host: Path, environment: dict[str, str], facts: Facts
) -> None:
    """BURSAR in the environment: the same, in the default place."""
    done = execute(host, python, EMBEDDED, str(TURNS), "0", env={"BURSAR": "sample"})
    assert (done.returncode, done.stderr) == (0, "")
    ledgers = list(Path(environment["BURSAR_DIR"]).iterdir())
    assert len(ledgers) == TURNS
    for books in map(facts, ledgers):
        assert books["complete"] and books["state"] == "ended" and books["mode"] == "sample"


LEFT_OPEN = """\
import bursar, mmap, socket, sqlite3
kept = []
def work():
    kept.extend([open('/dev/null'), socket.socket(), sqlite3.connect(':memory:'), mmap.mmap(-1, 4096)])
try:
    with bursar.scope('s', left_open='error'): work()
except bursar.LeftOpenError as error: print(*sorted(left.kind for left in error.left), flush=True)
left = bursar.scope('never left', left_open='error')
left.__enter__()
work()
"""


@pytest.mark.core
@pytest.mark.parametrize("threaded", ["0", "1"])
def test_embedded_interpreters_name_what_is_left_open(execute: Run, python: str, host: Path, threaded: str) -> None:
    """Each anew, whatever the one before had not ended."""
    text, kinds = LEFT_OPEN, "device memory map socket"
    if execute(host, python, "import sqlite3", "2", threaded).returncode == 0:  # 3.12's datetime cannot begin twice
        kinds = f"database connection {kinds}"
    else:
        text = text.replace(" sqlite3.connect(':memory:'),", "").replace(", sqlite3", "")
    done = execute(host, python, text, str(TURNS), threaded)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{kinds}\nended\n" * TURNS


FORKS_IN_C = """\
import ctypes, os, threading
import bursar

def turn(name):
    with bursar.scope(name):
        return [str(i) for i in range(1000)]  # @work

def fork(library):
    pid = library.fork()
    if pid == 0:
        kept = turn('child')
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

turn('parent')
print(fork(ctypes.PyDLL(None)), fork(ctypes.CDLL(None)))
"""


@pytest.mark.core
@pytest.mark.parametrize("mode", ["exact", "sample", "count"])
def test_c_code_that_forks(under: Under, mode: str) -> None:
    """With the GIL, and without: then nothing of Python's may be touched, and the child keeps no books."""
    family = under(FORKS_IN_C, mode)
    assert len(family.children) == 1
