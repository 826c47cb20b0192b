"""Resident memory explained: the lines add up, planted memory is found, and what a trim gives back was predicted.

What is not known is null, never 0; a program that answers, one that is idle and one without books are told apart."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import LIMIT, Run, UnderWay, finish

Complains = Callable[..., str]
Balanced = Callable[..., dict[str, Any]]

MIB = 1 << 20
PLANTED = 64 * MIB
NOBODY = 65534
HEADER_PID, HEADER_START, AT_ANSWER = 32, 40, 20480

# Programs below print what they found as JSON.
BEGIN = f"""
import bursar, ctypes, json, mmap, sys
libc = ctypes.CDLL(None)
libc.syscall.restype = ctypes.c_long
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.malloc.argtypes = [ctypes.c_size_t]
PLANTED = {PLANTED}
def by_name(balance):
    assert len({{line.name for line in balance.lines}}) >= 10
    return {{line.name: line.bytes for line in balance.lines}}
def whole(balance):
    return sum(line.bytes or 0 for line in balance.lines) + balance.unexplained_bytes == balance.rss_bytes
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE
def plant():
    number = {{"x86_64": 9, "aarch64": 222}}[__import__("platform").machine()]
    at = libc.syscall(number, None, ctypes.c_size_t(PLANTED), 3, 0x22, -1, 0)
    ctypes.memset(at, 1, PLANTED)
"""


@pytest.fixture
def found(python: str, bursar: Run) -> Callable[..., Any]:
    """What a program prints, run by bursar with these domains."""

    def run(program: str, domains: str = "python", **options: Any) -> Any:
        done = bursar("run", "--domains", domains, "-c", BEGIN + program, **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def balanced(bursar: Run) -> Balanced:
    """What `bursar balance` says of a process or ledger, which adds up."""

    def read(what: "int | Path") -> dict[str, Any]:
        done = bursar("balance", str(what), "--format", "json")
        assert done.returncode == 0, done.stderr
        facts: dict[str, Any] = json.loads(done.stdout)
        if facts["rss_bytes"] is not None:
            assert sum(line["bytes"] or 0 for line in facts["lines"]) + facts["unexplained_bytes"] == facts["rss_bytes"]
        facts["by_name"] = {line["name"]: line for line in facts["lines"]}
        return facts

    return read


@pytest.fixture
def busy(command: str, environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts a program under bursar that goes on allocating until its stdin ends."""
    started = []
    program = (
        "import select, sys\nkept = b'x' * 8_000_000\nprint('here', flush=True)\n"
        "while not select.select([0], [], [], 0)[0]:\n    [bytes(1000) for _ in range(50)]"
    )

    def start(*options: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [command, "run", *options, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=environment, cwd=tmp_path,
        )  # fmt: skip
        started.append(process)
        assert process.stdout and process.stdout.readline() == "here\n"
        return process

    yield start
    for process in started:
        with process:
            process.kill()


# --- from inside -----------------------------------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("domains", ["python", "all"])
def test_an_interpreter_is_explained(found: Callable[..., Any], domains: str) -> None:
    program = """
b = bursar.balance()
names = by_name(b)
print(json.dumps([whole(b), b.rss_bytes, resident(), b.unexplained_bytes, names["python.obj"], names["numpy"]]))
"""
    adds_up, rss, statm, unexplained, objects, numpy = found(program, domains)
    assert adds_up
    assert rss == pytest.approx(statm, rel=0.05)
    assert unexplained < 0.02 * rss
    assert objects > 100_000
    assert (numpy is None) == (domains == "python"), "what nobody listens to is not known, never 0"


@pytest.mark.parametrize("module", ["numpy", "pandas", "sklearn.ensemble"])
@pytest.mark.parametrize("domains", ["python", "all"])
def test_large_programs_are_explained(found: Callable[..., Any], domains: str, module: str) -> None:
    pytest.importorskip(module.split(".")[0])
    program = f"import {module}\nb = bursar.balance()\nprint(json.dumps([whole(b), b.rss_bytes, b.unexplained_bytes]))"
    adds_up, rss, unexplained = found(program, domains)
    assert adds_up
    assert unexplained < 0.02 * rss


@pytest.mark.core
@pytest.mark.parametrize("threads", [0, 3])
def test_what_is_mapped_behind_the_books_is_unexplained(found: Callable[..., Any], threads: int) -> None:
    program = f"""
import threading
wait = threading.Event()
for _ in range({threads}):
    threading.Thread(target=wait.wait, daemon=True).start()
before = bursar.balance()
plant()
after = bursar.balance()
print(json.dumps([whole(after), after.unexplained_bytes - before.unexplained_bytes]))
"""
    adds_up, grew = found(program, "all")
    assert adds_up
    assert grew == pytest.approx(PLANTED, abs=MIB)


@pytest.mark.parametrize("domains", ["python", "all"])
def test_a_booked_mapping_is_explained(found: Callable[..., Any], domains: str) -> None:
    program = """
before = bursar.balance()
area = mmap.mmap(-1, PLANTED, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.write(b"x" * PLANTED)
after = bursar.balance()
print(json.dumps([by_name(after)["mmap"], after.unexplained_bytes - before.unexplained_bytes]))
"""
    mapped, grew = found(program, domains)
    if domains == "all":
        assert mapped == pytest.approx(PLANTED, abs=MIB)
        assert abs(grew) < MIB
    else:
        assert mapped is None
        assert grew == pytest.approx(PLANTED, abs=MIB)


@pytest.mark.core
def test_untouched_bytes_are_live_and_not_resident(found: Callable[..., Any]) -> None:
    program = """
kept = bytes(1 << 30)  # zeros that nobody has written
b = bursar.balance()
lines = {line.name: line for line in b.lines}
kept = b"x" * PLANTED
written = bursar.balance()
line = {line.name: line for line in written.lines}["python.obj"]
obj = lines["python.obj"]
print(json.dumps([obj.live_bytes, obj.bytes, b.live_not_resident_bytes, b.rss_bytes, line.bytes,
                  written.live_not_resident_bytes]))
"""
    live, objects, absent, rss, written, absent_then = found(program)
    assert live > 1 << 30
    assert objects < 32 * MIB > rss // 2
    assert absent == pytest.approx(1 << 30, abs=MIB)
    assert written > PLANTED
    assert absent_then < MIB


@pytest.mark.core
def test_free_inside_arenas(found: Callable[..., Any]) -> None:
    program = """
kept = [b"%0400d" % n for n in range(100_000)]
full = by_name(bursar.balance())
del kept[::2]
half = by_name(bursar.balance())
print(json.dumps([half["pymalloc: free in arenas"] - full["pymalloc: free in arenas"],
                  full["python.obj"] - half["python.obj"]]))
"""
    vacant, objects = found(program)
    assert objects == pytest.approx(50_000 * 433, rel=0.01)
    assert vacant == pytest.approx(50_000 * 448, rel=0.02)


TRIM = """
import random
random.seed(5)
def touch(sizes):
    blocks = []
    for size in sizes:
        blocks.append(libc.malloc(size))
        ctypes.memset(blocks[-1], 1, size)
    return blocks
def make():
    blocks = touch(random.choices(SIZES, k=COUNT))
    random.shuffle(blocks)
    for block in blocks[COUNT // 20:]:
        libc.free(block)
"""
PREDICT = """
b = bursar.balance()
before = resident()
libc.malloc_trim(0)
print(json.dumps([b.returnable_bytes, before - resident(), whole(b), b.unexplained_bytes]))
"""


@pytest.mark.core
@pytest.mark.parametrize(
    ("sizes", "count"),
    [("[24, 50, 100, 200, 800]", 300_000), ("range(1000, 60000)", 3000), ("range(60000, 110000)", 900)],
)
@pytest.mark.parametrize("threads", [False, True])
def test_what_a_trim_would_return(found: Callable[..., Any], sizes: str, count: int, threads: bool) -> None:
    make = "make()"
    if threads:
        make = (
            "import threading\nworkers = [threading.Thread(target=make) for _ in range(2)]\n"
            "for worker in workers:\n    worker.start()\nfor worker in workers:\n    worker.join()"
        )
    predicted, returned, adds_up, unexplained = found(f"SIZES = {sizes}\nCOUNT = {count}{TRIM}{make}{PREDICT}")
    assert returned > 8 * MIB, "nothing to predict"
    assert predicted == pytest.approx(returned, rel=0.1)
    assert adds_up
    assert unexplained < MIB


@pytest.mark.core
def test_without_books(python: str, execute: Run) -> None:
    program = "b = bursar.balance()\nprint(json.dumps([whole(b), by_name(b)['python.obj'], b.notes, b.rss_bytes]))"
    done = execute(python, "-c", BEGIN + program)
    adds_up, objects, notes, rss = json.loads(done.stdout)
    assert adds_up
    assert objects is None
    assert rss > MIB
    assert "no books are open" in notes[0]


@pytest.mark.core
def test_what_python_gets(python: str, execute: Run) -> None:
    program = """
b = bursar.balance()
assert isinstance(b, bursar.Balance)
assert b.pid == __import__("os").getpid() and b.threads == 1
assert str(b).startswith(f"process {b.pid}: ") and "unexplained" in str(b)
assert repr(b) == f"<Balance pid={b.pid} rss_bytes={b.rss_bytes} unexplained_bytes={b.unexplained_bytes}>"
assert b.lines[0].name == "python.obj" and b.page_tables_bytes > 0 and 0 < b.pss_bytes <= b.rss_bytes
"""
    done = execute(python, "-c", BEGIN + program)
    assert done.returncode == 0, done.stderr


def at_rest(program: "subprocess.Popen[str]") -> int:
    """The pid of a program of `under_way` that waits for its stdin: between its word and that it waits for nothing."""
    stat = Path(f"/proc/{program.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "S":
        pass
    return program.pid


# --- from outside ----------------------------------------------------------------------------------------------------


def test_a_running_program_answers(balanced: Balanced, busy: Callable[..., "subprocess.Popen[str]"]) -> None:
    program = busy()
    facts = balanced(program.pid)
    assert facts["notes"] == []
    assert facts["by_name"]["python.obj"]["bytes"] > 8_000_000
    assert facts["unexplained_bytes"] < 0.02 * facts["rss_bytes"]
    assert facts["returnable_bytes"] is not None
    assert balanced(Path(facts["ledger"]))["pid"] == program.pid
    assert finish(program) == 0


def test_an_idle_program(balanced: Balanced, under_way: UnderWay) -> None:
    program = under_way()
    facts = balanced(at_rest(program))
    assert "is idle" in facts["notes"][0]
    objects = facts["by_name"]["python.obj"]
    assert objects["bytes"] is None
    assert objects["live_bytes"] > 4_000_000
    if "its memory was read" in facts["notes"][0]:
        assert facts["unexplained_bytes"] < 0.02 * facts["rss_bytes"]
    else:
        assert facts["returnable_bytes"] is None
    assert finish(program) == 0


def test_an_answer_that_cannot_be_is_none(balanced: Balanced, under_way: UnderWay, ledger: Path) -> None:
    program = under_way("-o", ledger)
    at_rest(program)
    with ledger.open("r+b") as file:
        file.seek(AT_ANSWER)
        serial = struct.pack("<QQQQ", 7, 7, 1 << 62, 0)
        file.write(serial + struct.pack("<II", 31, 2) + b"\xff" * 900)
    facts = balanced(program.pid)
    assert "is idle" in facts["notes"][0]
    assert finish(program) == 0


def test_any_request_does(bursar: Run, busy: Callable[..., "subprocess.Popen[str]"], tmp_path: Path) -> None:
    program = busy("-o", str(tmp_path / "asked.bursar"))
    with (tmp_path / "asked.bursar").open("r+b") as file:
        for value in (0, 1, (1 << 64) - 1):
            file.seek(4096)
            file.write(struct.pack("<Q", value) * 100)
            file.flush()
            assert bursar("balance", str(program.pid)).returncode == 0
    assert finish(program) == 0


def test_a_process_without_books(balanced: Balanced) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "print(1, flush=True); input()"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as program:  # fmt: skip
        assert program.stdout
        program.stdout.readline()
        facts = balanced(program.pid)
        program.communicate(b"\n", timeout=LIMIT)
    assert facts["ledger"] is None
    assert f"process {program.pid} keeps no books of bursar's: these are the kernel's categories" in facts["notes"][0]
    assert facts["returnable_bytes"] is None
    assert facts["by_name"]["interpreter and libraries"]["bytes"] > MIB


def test_a_program_that_has_ended(balanced: Balanced, complains: Complains, under_way: UnderWay, ledger: Path) -> None:
    program = under_way("-o", ledger)
    assert finish(program) == 0
    facts = balanced(ledger)
    assert (facts["rss_bytes"], facts["unexplained_bytes"], facts["returnable_bytes"]) == (None, None, None)
    assert facts["by_name"]["python.obj"]["bytes"] is None
    assert facts["by_name"]["python.obj"]["live_bytes"] > 4_000_000
    assert "has ended" in facts["notes"][0]
    line = complains(1, "balance", str(program.pid))
    assert line == f"bursar: balance: there is no process {program.pid} (any more): see bursar ls\n"


def test_a_number_that_was_used_again(complains: Complains, bursar: Run, under_way: UnderWay, tmp_path: Path) -> None:
    assert finish(under_way()) == 0
    (ledger,) = (tmp_path / "ledgers").iterdir()
    content = bytearray(ledger.read_bytes())
    content[HEADER_PID : HEADER_PID + 4] = struct.pack("<I", os.getpid())
    ledger.write_bytes(content)
    line = complains(1, "balance", str(os.getpid()))
    assert f"process {os.getpid()} is not the one that wrote its ledger" in line
    assert str(ledger) in line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_users_process(complains: Complains, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    line = complains(1, "balance", str(os.getpid()), user=NOBODY, env={"BURSAR_DIR": "/nonexistent"}, cwd="/")
    assert f"process {os.getpid()} belongs to another user" in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "balance: give one process id or ledger: "),
        (["1", "2"], "balance: give one process id or ledger: "),
        (["1", "--format", "html"], "balance: no format 'html'"),
    ],
)
def test_wrong_use(complains: Complains, words: list[str], expected: str) -> None:
    assert complains(2, "balance", *words).startswith(f"bursar: {expected}")


def test_what_is_no_process(complains: Complains, tmp_path: Path) -> None:
    assert "there is no process 0" in complains(1, "balance", "0")
    assert "there is no process 99999999" in complains(1, "balance", "99999999")
    (tmp_path / "text").write_text("hello")
    assert "is not a ledger" in complains(1, "balance", tmp_path / "text")


def test_the_vaults_pages_are_a_line_of_their_own(execute: Run, python: str) -> None:
    code = (
        "import bursar, json\n"
        "secrets = [bursar.SecretBytes(40_000) for _ in range(50)]\n"
        "for secret in secrets:\n"
        "    with secret.open(write=True) as view: view[:] = bytes(40_000)\n"
        "balance = bursar.balance()\n"
        "lines = {line.name: line.bytes for line in balance.lines}\n"
        "print(json.dumps([secrets[0].hidden, lines.get('hidden memory'), balance.unexplained_bytes]))"
    )
    hidden, held, unexplained = json.loads(execute(python, "-c", code).stdout)
    if not hidden:
        pytest.skip("no memfd_secret here")
    assert 2_000_000 <= held <= 6_000_000 and unexplained < 200_000
