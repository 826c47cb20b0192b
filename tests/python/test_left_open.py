"""Resources left open at a scope's end: named by kind and line, and nothing that was closed."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from programs import Program, printed, program

__all__ = ["program"]

HEAD = '''import bursar, json, os, sys, threading, warnings
def left(function, name="s", **options):
    """What a scope says that the call left open: kind, line, how many; and what the function returned."""
    try:
        with bursar.scope(name, left_open="error", **options) as s:
            kept = function(s) if function.__code__.co_argcount else function()
    except bursar.LeftOpenError as error:
        return sorted((each.kind, each.line, each.count) for each in error.left), None
    return [], kept
'''

# Kind, what opens one, and how it is closed; and how many, where it is more than one.
KINDS = {
    "file": ("open(__file__)", "it.close()", 1),
    "file by number": ("os.open(__file__, os.O_RDONLY)", "os.close(it)", 1),
    "device": ("open(os.devnull, 'wb')", "it.close()", 1),
    "directory": ("os.open('.', os.O_RDONLY)", "os.close(it)", 1),
    "directory that is listed": ("os.scandir('.')", "it.close()", 1),
    "socket": ("socket.socket()", "it.close()", 1),
    "socket of a pair": ("socket.socketpair()", "[one.close() for one in it]", 2),
    "socket accepted": ("server.accept()[0]", "it.close()", 1),
    "pipe": ("os.pipe()", "(os.closerange(it[0], it[0] + 1), os.close(it[1]))", 2),
    "file doubled": ("os.dup(given.fileno())", "os.close(it)", 1),
    "file put in a place": ("os.dup2(given.fileno(), 90 + len(keep))", "os.close(it)", 1),
    "memory file": ("os.memfd_create('m')", "os.close(it)", 1),
    "epoll": ("select.epoll()", "it.close()", 1),
    "shared memory": ("_posixshmem.shm_open(name, os.O_RDWR)", "os.close(it)", 1),
    "database connection": ("sqlite3.connect(':memory:')", "it.close()", 1),
    "database connection to a file": ("used(sqlite3.connect('d.db'))", "it.close()", 1),
    "database connection given up": ("[sqlite3.connect('e.db')]", "(it.clear(), gc.collect())", 1),
    "memory map": ("mmap.mmap(-1, 4096)", "it.close()", 1),
    "memory map of a file": ("mmap.mmap(given.fileno(), 0, access=mmap.ACCESS_READ)", "it.close()", 1),
    "thread": ("(t := threading.Thread(target=ended.wait), t.start())[0]", "(ended.set(), it.join())", 1),
    "thread as a daemon": (
        "(t := threading.Thread(target=ended.wait, daemon=True), t.start())[0]",
        "(ended.set(), it.join())",
        1,
    ),
    "subprocess": ("subprocess.Popen([sys.executable, '-c', ''])", "it.wait()", 1),
}
SET_UP = """import _posixshmem, gc, mmap, select, socket, sqlite3, subprocess
ended = threading.Event()
server = socket.create_server(("127.0.0.1", 0))
clients = [socket.create_connection(server.getsockname()) for _ in range(2)]
given = open(__file__)
name = f"/bursar-test-{os.getpid()}"
os.close(_posixshmem.shm_open(name, os.O_RDWR | os.O_CREAT, mode=0o600))
def begun(thread):
    thread.start()
    return thread
def used(connection):
    connection.execute("create table if not exists t(x)")
    return connection
"""


@pytest.mark.core
def test_each_kind_is_named_with_its_line_and_what_was_closed_is_not(program: Program) -> None:
    text = HEAD + SET_UP + "told = {}\nkeep = []\n"
    lines = {}
    for name, (opens, closes, _) in KINDS.items():
        lines[name] = text.count("\n") + 2
        text += f"def opens():\n    it = {opens}\n    keep.append(it)\n    return it\n"
        text += f"def closes():\n    it = {opens}\n    {closes}\n    ended.clear()\n"
        text += f"told[{name!r}] = left(opens)[0], left(closes)[0]\n"
        text += f"it = keep.pop()\n{closes}\nended.clear()\ndel it\n"
    told = printed(program(text + "_posixshmem.shm_unlink(name)\nprint(json.dumps(told))\n"))
    for name, (_, _, count) in KINDS.items():
        kind = next(kind for kind in sorted(KINDS, key=len) if name.startswith(kind))
        assert told[name] == [[[kind, lines[name], count]], []], name


@pytest.mark.core
def test_what_ctypes_opens_is_told(program: Program) -> None:
    done = program(
        HEAD + "with bursar.scope('first', left_open='event'): pass\nimport ctypes\n"
        "for name in None, 'libc.so.6':\n"
        "    libc = ctypes.CDLL(name)\n"
        "    with bursar.scope('s', left_open='error'): libc.close(libc.open(b'/dev/null', 0))\n"
        "    try:\n"
        "        with bursar.scope('s', left_open='error'): libc.open(b'/dev/null', 0)\n"
        "    except bursar.LeftOpenError as error: print(error)\n"
    )
    assert len(done.stdout.splitlines()) == 2
    assert all("device '/dev/null', opened at " in line for line in done.stdout.splitlines())


@pytest.mark.core
def test_a_scope_that_leaves_nothing_makes_no_system_call(program: Program) -> None:
    """In a child where any system call but read, write and exit is the end of it; a planted one is."""
    done = program(
        HEAD + "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def entries(count):\n"
        "    for _ in range(count):\n"
        "        with bursar.scope('s', left_open='error'): pass\n"
        "def lives(planted):\n"
        "    end, begin = os.pipe()\n"
        "    if not (pid := os.fork()):\n"
        "        entries(1000)\n"
        "        libc.prctl(22, 1)  # PR_SET_SECCOMP, SECCOMP_MODE_STRICT\n"
        "        entries(10_000)\n"
        "        if planted: os.getppid()\n"
        "        os.write(begin, b'through')\n"
        "        os._exit(0)\n"
        "    os.close(begin)\n"
        "    os.waitpid(pid, 0)\n"
        "    return os.read(end, 100).decode()\n"
        "entries(10)\n"
        "print(json.dumps([lives(False), lives(True)]))\n"
    )
    assert printed(done) == ["through", ""]


def test_a_scope_without_it_leaves_the_process_alone(program: Program) -> None:
    done = program(
        HEAD + "import mmap\n"
        "new, filters = mmap.mmap.__new__, list(warnings.filters)\n"
        "with bursar.scope('s') as s: kept = open(os.devnull)\n"
        "same = [mmap.mmap.__new__ == new, list(warnings.filters) == filters, 'bursar._open' in sys.modules]\n"
        "print(json.dumps([same, s.left_open]))\n"
    )
    assert printed(done) == [[True, True, False], None]


# --- whose it is -----------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_the_innermost_scope_that_watches_has_it(program: Program) -> None:
    done = program(
        HEAD + "kept = []\n"
        "def inner(): kept.append(open(os.devnull))\n"
        "def both():\n"
        "    told.append(left(inner, 'inner')[0])\n"
        "def unwatched():\n"
        "    with bursar.scope('between'): inner()\n"
        "told = []\n"
        "told += [left(both, 'outer')[0], left(unwatched, 'outer')[0]]\n"
        "print(json.dumps(told))\n"
    )
    line = HEAD.count("\n") + 2
    assert printed(done) == [[["device", line, 1]], [], [["device", line, 1]]]


def test_what_is_kept_is_the_outer_scopes_and_kept_there_nobodys(program: Program) -> None:
    done = program(
        HEAD + SET_UP + "pool = []\n"
        "makes = [lambda: open(__file__), socket.socket, lambda: sqlite3.connect('d.db'),\n"
        "         lambda: mmap.mmap(-1, 4096),\n"
        "         lambda: begun(threading.Thread(target=ended.wait)), lambda: os.dup(0),\n"
        "         lambda: subprocess.Popen([sys.executable, '-c', ''], stdout=subprocess.PIPE)]\n"
        "def inner(s): pool.extend(s.keep(make()) for make in makes)\n"
        "def outer(s):\n"
        "    told.append(left(inner, 'inner')[0])\n"
        "    if also: [s.keep(each) for each in pool[-len(makes):]]\n"
        "def here(): bursar.keep_open(pool.append(socket.socket()) or pool[-1])\n"
        "told = []\n"
        "for also in (False, True):\n"
        "    told.append([each[0] for each in left(outer, 'outer')[0]])\n"
        "told.append(left(lambda: left(here)[0])[0])\n"
        "with bursar.scope('plain') as s: told.append(s.keep(3) == bursar.keep_open(3) == 3)\n"
        "try: bursar.keep_open([])\n"
        "except TypeError as error: told[-1] = told[-1] and str(error)\n"
        "ended.set()\n"
        "for each in pool:\n"
        "    if hasattr(each, 'wait'): each.wait()\n"
        "print(json.dumps(told))\n"
    )
    inner, outer, inner_again, outer_again, here, plain = printed(done)
    assert (inner, inner_again, outer_again, here) == ([], [], [], [])
    assert plain == "a 'list' is nothing that stays open: hand on what has a fileno()"
    standard_input = {"device", "pipe"} & set(outer) - {"pipe"} or {"pipe"}
    assert set(outer) == standard_input | {
        "database connection", "file", "memory map", "pipe", "socket", "subprocess", "thread",
    }  # fmt: skip


@pytest.mark.core
def test_tasks_and_threads_have_their_own(program: Program) -> None:
    """Many tasks at once, each in a scope; every third one leaves a socket, and another one's is closed elsewhere."""
    done = program(
        HEAD + "import asyncio, socket\n"
        "kept = []\n"
        "async def task(number):\n"
        "    try:\n"
        "        with bursar.scope('task', left_open='error'):\n"
        "            await asyncio.sleep(0)\n"
        "            one = socket.socket()\n"
        "            await asyncio.sleep(0)\n"
        "            other = await asyncio.to_thread(open, os.devnull)\n"
        "            await asyncio.sleep(0)\n"
        "            if number % 3: one.close()\n"
        "            kept.append(one)\n"
        "            await asyncio.to_thread(other.close)\n"
        "    except bursar.LeftOpenError as error:\n"
        "        return [[each.kind, each.line, each.count] for each in error.left]\n"
        "    return []\n"
        "async def main(): return await asyncio.gather(*map(task, range(60)))\n"
        "print(json.dumps(asyncio.run(main())))\n"
    )
    line = HEAD.count("\n") + 7
    assert printed(done) == [[] if number % 3 else [["socket", line, 1]] for number in range(60)]


def test_a_context_with_many_variables_is_read_right(program: Program) -> None:
    """Without the GIL, by the shape of what maps variables: each size of it, before and after the scope is set."""
    done = program(
        HEAD + "import contextvars\n"
        "def around(count, after):\n"
        "    variables = [contextvars.ContextVar(f'v{number}') for number in range(count)]\n"
        "    def work():\n"
        "        for variable in variables if after else (): variable.set(1)\n"
        "        return open(os.devnull)\n"
        "    for variable in () if after else variables: variable.set(1)\n"
        "    return len(left(work)[0])\n"
        "sizes = [0, 1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 100, 1000, 5000]\n"
        "told = [contextvars.Context().run(around, size, after) for size in sizes for after in (0, 1)]\n"
        "print(json.dumps(told))\n"
    )
    assert printed(done) == [1] * 28


@pytest.mark.core
def test_an_asyncio_server(program: Program) -> None:
    """Each connection is a task in a scope; every fifth one leaves a connection of its own to another server open."""
    done = program(
        HEAD + "import asyncio\n"
        "told, kept, handlers = {}, [], []\n"
        "async def echo(reader, writer):\n"
        "    handlers.append(asyncio.current_task())\n"
        "    writer.write(await reader.readline())\n"
        "    await reader.read()\n"
        "    writer.close()\n"
        "async def ask(number, port):\n"
        "    reader, writer = await asyncio.open_connection('127.0.0.1', port)\n"
        "    writer.write(b'hello\\n')\n"
        "    await reader.readline()\n"
        "    if number % 5 == 0: return kept.append(writer)\n"
        "    if number % 5 == 1: return bursar.keep_open(kept.append(writer) or writer)\n"
        "    writer.close()\n"
        "    await writer.wait_closed()\n"
        "async def serve(reader, writer):\n"
        "    handlers.append(asyncio.current_task())\n"
        "    number = int(await reader.readline())\n"
        "    try:\n"
        "        with bursar.scope('serve', left_open='error'): await ask(number, other)\n"
        "    except bursar.LeftOpenError as error:\n"
        "        told[number] = [[each.kind, each.count, each.through.split(':')[0]] for each in error.left]\n"
        "    writer.write(b'done')\n"
        "    writer.close()\n"
        "async def client(number, port):\n"
        "    reader, writer = await asyncio.open_connection('127.0.0.1', port)\n"
        "    writer.write(b'%d\\n' % number)\n"
        "    await reader.read()\n"
        "    writer.close()\n"
        "async def main():\n"
        "    global other\n"
        "    servers = [await asyncio.start_server(each, '127.0.0.1', 0) for each in (echo, serve)]\n"
        "    other, port = [server.sockets[0].getsockname()[1] for server in servers]\n"
        "    await asyncio.gather(*[client(number, port) for number in range(50)])\n"
        "    for writer in kept: writer.close()\n"
        "    await asyncio.gather(*handlers)\n"
        "    for server in servers: server.close()\n"
        "asyncio.run(main())\n"
        "print(json.dumps(told))\n"
    )
    assert printed(done) == {str(number): [["socket", 1, "socket.py"]] for number in range(0, 50, 5)}


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_a_request_by_the_middleware(program: Program, ledger: Path, facts: Callable[[Path], Any], kind: str) -> None:
    """The body of a response is part of it."""
    program(
        HEAD + f"import asyncio\nfrom bursar.{kind} import ScopeMiddleware\n"
        "bursar.start(output=sys.argv[1])\n"
        "kept = []\n"
        "async def app(scope, receive, send):\n"
        "    kept.append(open(os.devnull))\n"
        "def application(environ, start_response):\n"
        "    kept.append(open(os.devnull))\n"
        "    yield b'one'\n"
        "    kept.append(open(os.devnull))\n"
        "if 'bursar.wsgi' not in sys.modules:\n"
        "    app = ScopeMiddleware(app, lambda scope: '/items/{id}', left_open='event')\n"
        "    asyncio.run(app({'type': 'http', 'method': 'GET'}, None, None))\n"
        "else:\n"
        "    app = ScopeMiddleware(application, lambda environ: '/items/{id}', left_open='event')\n"
        "    body = app({'REQUEST_METHOD': 'GET'}, None)\n"
        "    kept.append((list(body), open(os.devnull)))\n"
        "    body.close()\n",
        ledger,
    )
    events = [(event["scope"], event["text"].partition(":")[2]) for event in facts(ledger)["events"]]
    first = HEAD.count("\n") + 6
    lines = [first] if kind == "asgi" else [first + 2, first + 4]
    assert events == [("GET /items/{id}", str(line)) for line in lines]


def test_executors_workers_are_only_an_event(program: Program, ledger: Path, facts: Callable[[Path], Any]) -> None:
    done = program(
        HEAD + "from concurrent.futures import ThreadPoolExecutor\n"
        "bursar.start(output=sys.argv[1])\n"
        "pool = ThreadPoolExecutor(1)\n"
        "def work(): return pool.submit(bursar.carry(open), os.devnull).result()\n"
        "print(json.dumps(left(work)[0]))\n",
        ledger,
    )
    line = HEAD.count("\n") + 4
    through = printed(done)
    assert [each[0] for each in through] == ["device"]  # opened by the worker, in the scope that was carried there
    texts = [event["text"] for event in facts(ledger)["events"]]
    assert any(
        re.match(rf"worker of an executor, started at .*program.py:{line} \(through threading.py", t) for t in texts
    )


def test_a_number_that_was_used_again_is_not_taken_for_it(program: Program) -> None:
    """Closed by a system call that no hook sees, and opened again by nobody's scope."""
    done = program(
        HEAD + "import ctypes\n"
        "syscall = ctypes.CDLL(None).syscall\n"
        "numbers = []\n"
        "def closed():\n"
        "    numbers.append(os.open(__file__, os.O_RDONLY))\n"
        "    syscall(3, numbers[-1])\n"
        "def reused():\n"
        "    closed()\n"
        "    other = threading.Thread(target=lambda: numbers.append(os.open('.', os.O_RDONLY)))\n"
        "    other.start()\n"
        "    other.join()\n"
        "def elsewhere():\n"
        "    closed()\n"
        "    numbers.append(os.open('.', os.O_RDONLY))\n"
        "told = [left(closed)[0], left(reused)[0], left(elsewhere)[0]]\n"
        "print(json.dumps([told, [number == numbers[0] for number in numbers]]))\n"
    )
    told, same = printed(done)
    assert told == [[], [], [["directory", HEAD.count("\n") + 14, 1]]]
    assert same == [True, True, True, False, False] or same[:3] == [True, True, True]


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_forks_and_subprocesses_change_nothing(program: Program) -> None:
    """A child by vfork shares this memory while it closes descriptors of its own; a forked one has no scope."""
    done = program(
        HEAD + "import subprocess\n"
        "kept = []\n"
        "def work():\n"
        "    kept.append(open(__file__))\n"
        "    subprocess.run([sys.executable, '-c', ''], check=True, stdout=subprocess.DEVNULL, close_fds=True)\n"
        "    subprocess.run(['true'], check=True, preexec_fn=lambda: os.closerange(3, 100))\n"
        "    if not os.fork():\n"
        "        kept[0].close()\n"
        "        with bursar.scope('child', left_open='error'): pass\n"
        "        os._exit(0 if left(lambda: kept.append(open(os.devnull)))[0] else 1)\n"
        "    return os.wait()[1]\n"
        "def child():\n"
        "    process = subprocess.Popen(['sleep', '60'])\n"
        "    kept.append(process)\n"
        "    if not os.fork():\n"
        "        return 'child'\n"
        "    process.kill()\n"
        "    process.wait()\n"
        "    return os.wait()[1] >> 8\n"
        "warnings.simplefilter('ignore')\n"
        "told = [left(work)[0], left(child)]\n"
        "if told[1] == ([], 'child'): os._exit(7)\n"
        "print(json.dumps(told))\n"
    )
    assert printed(done) == [[["file", HEAD.count("\n") + 4, 1]], [[], 7]]


def test_a_cycle_that_nobody_collected_holds_it_open(program: Program) -> None:
    done = program(
        HEAD + "import gc\n"
        "gc.disable()\n"
        "def cycle():\n"
        "    one = [open(os.devnull)]\n"
        "    one.append(one)\n"
        "def collected():\n"
        "    cycle()\n"
        "    gc.collect()\n"
        "print(json.dumps([left(cycle)[0], left(collected)[0]]))\n"
    )
    assert printed(done) == [[["device", HEAD.count("\n") + 4, 1]], []]


# --- how it is told ---------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_an_error_that_is_under_way_has_a_note(program: Program, ledger: Path, facts: Callable[[Path], Any]) -> None:
    done = program(
        HEAD + "import asyncio\n"
        "bursar.start(output=sys.argv[1])\n"
        "kept = []\n"
        "scope = bursar.scope('s', left_open='error')\n"
        "@scope\n"
        "def plain(fails): kept.append(open(os.devnull)); return 1 / fails\n"
        "@scope\n"
        "async def task(fails): kept.append(open(os.devnull)); return 1 / fails\n"
        "@scope\n"
        "def steps(fails): kept.append(open(os.devnull)); yield 1 / fails\n"
        "@scope\n"
        "async def later(fails): kept.append(open(os.devnull)); yield 1 / fails\n"
        "async def all_of(steps): return [each async for each in steps]\n"
        "ways = [plain, lambda n: asyncio.run(task(n)), lambda n: list(steps(n)),\n"
        "        lambda n: asyncio.run(all_of(later(n)))]\n"
        "def told(way, number):\n"
        "    try: way(number)\n"
        "    except Exception as error: return type(error).__name__, getattr(error, '__notes__', [])\n"
        "print(json.dumps([told(way, number) for way in ways for number in (0, 1)]))\n",
        ledger,
    )
    first = HEAD.count("\n") + 6
    all_told = printed(done)
    for at in range(4):
        (failed, notes), (left, none) = all_told[2 * at : 2 * at + 2]
        assert (failed, left, none) == ("ZeroDivisionError", "LeftOpenError", [])
        if sys.version_info >= (3, 11):
            assert len(notes) == 1 and notes[0].startswith("scope 's' left open: device '/dev/null', opened at ")
            assert notes[0].endswith(f"program.py:{first + 2 * at}")
    events = [event for event in facts(ledger)["events"] if event["kind"] == "left open"]
    assert len(events) == 8 and {event["scope"] for event in events} == {"s"}


@pytest.mark.parametrize("mode", ["exact", "sample", "count"])
def test_the_ledger_has_the_line_and_never_the_path(
    program: Program, ledger: Path, facts: Callable[[Path], Any], mode: str
) -> None:
    program(
        HEAD + f"bursar.start({mode!r}, output=sys.argv[1])\n"
        "kept = []\n"
        "for name in ('secret.txt', 'other.txt'):\n"
        "    with bursar.scope('load', left_open='event'):\n"
        "        for _ in range(int(name == 'other.txt') + 1):\n"
        "            kept.append(open(name, 'w'))\n",
        ledger,
    )
    read = facts(ledger)
    events = [(event["kind"], event["scope"], event["text"]) for event in read["events"]]
    place = f"{Path(ledger).parent}/program.py:{HEAD.count(chr(10)) + 6}"
    assert events == [
        ("left open", "load", f"file, opened at {place}"),
        ("left open", "load", f"2 × file, opened at {place}"),
    ]
    assert b"secret.txt" not in ledger.read_bytes()


def test_a_warning_is_shown_at_the_line_unless_it_is_filtered(execute: Run, python: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(
        "import bursar\nkept = []\nfor _ in range(3):\n    with bursar.scope('s', left_open='warn'):\n"
        "        kept.append(open('/dev/null'))\nprint('through')\n"
    )
    done = execute(python, path)
    assert (done.returncode, done.stdout) == (0, "through\n")
    assert done.stderr.startswith(
        f"{path}:5: LeftOpenWarning: scope 's' left open: device '/dev/null', opened at {path}:5\n"
    )
    assert done.stderr.count("LeftOpenWarning") == 1
    assert execute(python, "-W", "ignore::ResourceWarning", path).stderr == ""
    failed = execute(python, "-W", "error::ResourceWarning", path)
    assert failed.returncode == 1 and "LeftOpenWarning: scope 's' left open" in failed.stderr


@pytest.mark.core
def test_a_default_by_name_and_what_is_refused(program: Program) -> None:
    done = program(
        HEAD + "from bursar import _open\n"
        "kept = []\n"
        "@bursar.scope('load')\n"
        "def load(): kept.append(open(os.devnull))\n"
        "def told(function, *arguments, **options):\n"
        "    try: function(*arguments, **options)\n"
        "    except (bursar.LeftOpenError, ValueError) as error: return type(error).__name__, str(error)\n"
        "load()\n"
        "_open.watch('load', 'error')\n"
        "by_name = told(load)\n"
        "_open.watch('load', None)\n"
        "load()\n"
        "print(json.dumps([by_name, told(bursar.scope, 's', left_open='tell'), told(_open.watch, 's', 'tell')]))\n"
    )
    by_name, refused, also = printed(done)
    assert by_name[0] == "LeftOpenError"
    assert refused == also == ["ValueError", "left_open is 'event', 'warn' or 'error', or None: not 'tell'"]


def test_the_line_of_the_program_and_the_one_it_led_to(program: Program) -> None:
    done = program(
        HEAD + "import tempfile\n"
        "def makes(): return tempfile.TemporaryFile()\n"
        "try:\n"
        "    with bursar.scope('s', left_open='error'): kept = makes()\n"
        "except bursar.LeftOpenError as error: told = error.left[0]\n"
        "print(json.dumps([told.file == __file__, told.line, told.through, told.library]))\n"
    )
    ours, line, through, library = printed(done)
    assert (ours, line, library) == (True, HEAD.count("\n") + 2, None)
    assert re.fullmatch(r"tempfile\.py:\d+", through)


# --- how it is seen ---------------------------------------------------------------------------------------------------


def test_modules_that_come_later_are_seen_too(program: Program) -> None:
    done = program(
        HEAD + "left(lambda: None)\n"
        "assert '_socket' not in sys.modules and 'select' not in sys.modules\n"
        "def work():\n"
        "    import socket, select\n"
        "    return socket.socket(), select.epoll()\n"
        "print(json.dumps(left(work)[0]))\n"
    )
    line = HEAD.count("\n") + 5
    assert printed(done) == [["epoll", line, 1], ["socket", line, 1]]


@pytest.mark.parametrize("options", [[], ["--domains", "all"], ["--mode", "sample", "--domains", "all"]])
def test_under_bursar_run(
    bursar: Run, ledger: Path, tmp_path: Path, facts: Callable[[Path], Any], options: Any
) -> None:
    path = tmp_path / "program.py"
    path.write_text(HEAD + "print(json.dumps(left(lambda: (open(__file__), os.pipe()))[0]))\n")
    done = bursar("run", *options, "-o", ledger, path)
    assert done.returncode == 0, done.stderr
    line = HEAD.count("\n") + 1
    assert done.stdout.strip() == f'[["file", {line}, 1], ["pipe", {line}, 2]]'
    assert [event["kind"] for event in facts(ledger)["events"]] == ["left open"] * 2
