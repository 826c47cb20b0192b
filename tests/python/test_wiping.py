"""What is freed is zeroed: all that the process frees (run --wipe, start(wipe=True)), or what a scope allocates.

A program works with a text that it makes of a masked one, lets go of it, and looks for it in its own memory as the
kernel shows it.  The masked one is no copy; the one that it looks for is the one that it must find.  What lies dead on
a stack is freed by nobody: tests/residue looks there too, after scopes, which zero it."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import ARENA_MAP, Program, printed, program
from running import Facts, Run

__all__ = ["program"]
pytestmark = pytest.mark.core

LOOK = """import asyncio, ctypes, json, sys, threading, bursar
MASKED = bytes.fromhex("0a1904130f0e0f1513080e0f")
def secret(n=1): return bytes(x ^ 0x6B for x in MASKED) * n
def places(data, wanted):
    at = data.find(wanted)
    while at >= 0:
        yield at
        at = data.find(wanted, at + 1)
def copies():
    wanted, found = secret(2), 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            span, access, *rest = line.split()
            begin, end = (int(x, 16) for x in span.split("-"))
            if not access.startswith("rw") or end - begin > 1 << 28 or "[stack]" in rest:
                continue
            while begin < end:
                try:
                    memory.seek(begin)
                    data = memory.read(end - begin)
                except OSError:  # a page that guards a stack
                    data = b""
                found += sum(1 for _ in places(data, wanted))
                begin += len(data) or 4096
                data = None
    return found
def work():
    texts = [secret(3).decode() + str(i) for i in range(500)]
    text = json.dumps(texts)
    data = text.encode()
    large = b"".join([data] * 40)
    other = bytearray(data)
    while len(other) < 400_000: other += data
    del other[1000:]
    json.loads(text), data.hex(), [t.upper() for t in texts], large[:200_000]
def report(): print(json.dumps(copies()))
"""
ONE = 1  # the one that is looked for
ALLOCATORS = ["default", "malloc", "pymalloc_debug"]


def allocator(name: str) -> dict[str, str | None]:
    return {"PYTHONMALLOC": None if name == "default" else name}


@pytest.mark.parametrize("name", ALLOCATORS)
def test_without_wiping_much_is_left(program: Program, name: str) -> None:
    least = 500 if name != "pymalloc_debug" else 0  # Python fills what its debug hooks free
    assert printed(program(LOOK + "work(); report()", env=allocator(name))) > least


@pytest.mark.parametrize("name", ALLOCATORS)
def test_start_wipes(program: Program, name: str) -> None:
    assert printed(program(LOOK + "bursar.start(wipe=True); work(); report()", env=allocator(name))) == ONE


@pytest.mark.parametrize("name", ALLOCATORS)
@pytest.mark.parametrize("mode", ["exact", "sample", "count"])
def test_run_wipes(execute: Run, command: str, tmp_path: Path, mode: str, name: str) -> None:
    if mode == "count" and name == "pymalloc_debug":
        pytest.skip("mode count keeps no books where there are debug hooks")
    (tmp_path / "work.py").write_text(LOOK + "work(); report()")
    done = execute(command, "run", "--wipe", "--mode", mode, "work.py", env=allocator(name))
    assert done.stdout == f"{ONE}\n" and done.returncode == 0


def test_run_wipes_with_all_domains(execute: Run, command: str, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(LOOK + "work(); report()")
    assert execute(command, "run", "--wipe", "--domains", "all", "work.py").stdout == f"{ONE}\n"


def test_what_ends_the_interpreter_is_wiped_too(execute: Run, command: str, tmp_path: Path) -> None:
    """From before the interpreter starts: a block of that time, freed at its end."""
    (tmp_path / "early.py").write_text(
        "import os, sys, atexit\n" + LOOK + "kept = [secret(3) for _ in range(100)]\n"
        "def late():\n    kept.clear(); report()\n"
        "atexit.register(late)\n"
    )
    assert execute(command, "run", "--wipe", "early.py").stdout == f"{ONE}\n"


@pytest.mark.parametrize("books", ["", *(f"bursar.start({mode!r})\n" for mode in ("exact", "sample", "count"))])
def test_a_scope_wipes(program: Program, books: str) -> None:
    code = LOOK + books + "with bursar.scope('work', wipe=True): work()\nreport()"
    assert printed(program(code)) == ONE


@pytest.mark.parametrize("name", ALLOCATORS)
def test_a_scope_wipes_over_each_allocator(program: Program, name: str) -> None:
    assert printed(program(LOOK + "with bursar.scope('work', wipe=True): work()\nreport()", env=allocator(name))) == ONE


def test_a_scope_under_all_domains(execute: Run, command: str, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(LOOK + "with bursar.scope('work', wipe=True): work()\nreport()")
    assert execute(command, "run", "--domains", "all", "work.py").stdout == f"{ONE}\n"


def test_other_threads_are_not_wiped(program: Program) -> None:
    """A scope is its own: what a thread outside frees meanwhile stays as it was."""
    code = LOOK + (
        "with bursar.scope('quiet', wipe=True):\n"
        "    other = threading.Thread(target=work); other.start(); other.join()\n"
        "report()"
    )
    assert printed(program(code)) > 500


def test_a_task_is_wiped_and_the_one_beside_it_is_not(program: Program) -> None:
    tasks = (
        "async def busy(wipe, n):\n"
        "    if wipe:\n"
        "        with bursar.scope('task', wipe=True): return await turns(n)\n"
        "    return await turns(n)\n"
        "async def turns(n):\n"
        "    for i in range(50):\n"
        "        kept = [secret(3) + bytes([n]) * 30 for _ in range(20)]\n"
        "        await asyncio.sleep(0)\n"
        "    del kept\n"
        "async def main(*wipes): await asyncio.gather(*(busy(wipe, n) for n, wipe in enumerate(wipes)))\n"
    )
    assert printed(program(LOOK + tasks + "asyncio.run(main(True, True)); report()")) == ONE
    assert printed(program(LOOK + tasks + "asyncio.run(main(True, False)); report()")) > ONE


def test_blocks_that_outlive_their_scope_are_wiped_at_their_end(program: Program) -> None:
    code = LOOK + (
        "with bursar.scope('work', wipe=True): kept = [secret(3) for _ in range(300)]; large = secret(9000)\n"
        "del kept, large\n"
        "report()"
    )
    assert printed(program(code)) == ONE
    assert printed(program(code.replace("True", "False"))) > 300


def test_functions_generators_and_coroutines(program: Program) -> None:
    code = LOOK + (
        "wiped = bursar.scope('work', wipe=True)\n"
        "@wiped\ndef function(): work()\n"
        "@wiped\ndef generator():\n    work()\n    yield 1\n    work()\n"
        "@wiped\nasync def coroutine(): work()\n"
        "function(); list(generator()); asyncio.run(coroutine()); report()"
    )
    assert printed(program(code)) == ONE


def test_hooks_are_gone_when_nothing_is_left(program: Program) -> None:
    code = LOOK + (
        "name = ctypes.pythonapi._PyMem_GetCurrentAllocatorName; name.restype = ctypes.c_char_p\n"
        "def clean(): return name() == b'pymalloc'\n"
        "inside = held = after = kept = None; clean(), secret(3)\n"
        "with bursar.scope('work', wipe=True): inside = clean()\n"
        "with bursar.scope('more', wipe=True): kept = secret(3)\n"
        "held = clean()\n"
        "kept = None\n"
        "with bursar.scope('last', wipe=True): pass\n"
        "after = clean()\n"
        "print(json.dumps([inside, held, after]))"
    )
    assert printed(program(code)) == [False, False, True]


def test_wiping_changes_no_figure(execute: Run, command: str, facts: Facts, ledger: Path, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(LOOK + "work()")
    read = []
    for wipe in ([], ["--wipe"]):
        assert execute(command, "run", *wipe, "-f", "-o", ledger, "work.py").returncode == 0
        read.append(facts(ledger))
    apart = abs(read[0]["peak_bytes"] - read[1]["peak_bytes"])
    assert min(apart, abs(apart - ARENA_MAP)) < read[0]["peak_bytes"] / 1000
    assert read[0]["allocations"] == pytest.approx(read[1]["allocations"], rel=0.001)
    assert read[1]["complete"] and read[1]["notes"] == []


def test_numpy_and_its_cache(program: Program) -> None:
    how = "bursar.start(wipe=True)"
    pytest.importorskip("numpy")
    code = LOOK + (
        "import numpy\n" + how + "\n"
        "def arrays():\n"
        "    kept = [numpy.frombuffer(secret(5), dtype='u1').copy() for _ in range(200)]\n"
        "    large = numpy.frombuffer(secret(50_000), dtype='u1').copy()\n"
        "    return int(large[0]) + len(kept)\n"
        "arrays(); report()"
    )
    assert printed(program(code)) == ONE
    assert printed(program(code.replace(how, "pass"))) > 10
    scoped = "with bursar.scope('a', wipe=True): arrays()\nreport()"
    scoped = code.replace(how, "pass").replace("arrays(); report()", scoped)
    assert printed(program(scoped)) == ONE


# --- results ----------------------------------------------------------------------------------------------------------

CHURN = """import hashlib, json, random, sys, bursar
dice = random.Random(7)
def churn(rounds):
    digest, slots = hashlib.sha256(), [bytearray() for _ in range(50)]
    lists, table = [[] for _ in range(20)], {}
    for _ in range(rounds):
        at = dice.randrange(50)
        one = slots[at]
        kind = dice.randrange(5)
        if kind == 0: one += bytes([at]) * dice.randrange(700)
        elif kind == 1: del one[dice.randrange(len(one) + 1):]
        elif kind == 2: slots[at] = bytearray(one[:300] + b"new")
        elif kind == 3: lists[at % 20].extend(range(dice.randrange(80)))
        else: del lists[at % 20][dice.randrange(len(lists[at % 20]) + 1):]
        table[f"key {at} {dice.randrange(500)}"] = one[:20].hex().upper()
        if len(table) > 3000: table.clear()
    for one in slots: digest.update(one)
    digest.update(json.dumps([lists, sorted(table.items())]).encode())
    return digest.hexdigest()
HOW
print(json.dumps([first, second]))
"""
PLAIN = "first = churn(30000); second = churn(30000)"
WAYS = {
    "start": "bursar.start(wipe=True); first = churn(30000); second = churn(30000)",
    "scope": "with bursar.scope('a', wipe=True): first = churn(30000)\nsecond = churn(30000)",
    "late": "first = churn(30000)\nwith bursar.scope('a', wipe=True): second = churn(30000)",
    "books": "bursar.start('exact')\nwith bursar.scope('a', wipe=True): first = churn(30000)\nsecond = churn(30000)",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ALLOCATORS)
def test_results_are_what_they_were(program: Program, way: str, name: str) -> None:
    wanted = printed(program(CHURN.replace("HOW", PLAIN)))
    assert printed(program(CHURN.replace("HOW", WAYS[way]), env=allocator(name))) == wanted


def test_a_scope_tells_whether_it_wipes(program: Program) -> None:
    code = LOOK + (
        "said = []\n"
        "for call in (lambda: bursar.scope('a', wipe=1).wipe, lambda: bursar.scope('a').wipe):\n"
        "    said.append(call())\n"
        "print(json.dumps(said))"
    )
    assert printed(program(code)) == [True, False]


# --- processes ------------------------------------------------------------------------------------------------------


def test_a_forked_child_goes_on_wiping(execute: Run, command: str, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(
        LOOK + "import os\n"
        "if os.fork() == 0:\n    work(); report(); sys.stdout.flush(); os._exit(0)\n"
        "os.wait()"
    )
    assert execute(command, "run", "--wipe", "work.py").stdout == f"{ONE}\n"


@pytest.mark.parametrize("follow", [True, False])
def test_executed_children_wipe_where_they_are_followed(
    execute: Run, command: str, python: str, tmp_path: Path, follow: bool
) -> None:
    (tmp_path / "work.py").write_text(LOOK + "work(); report()")
    start = "import subprocess, sys; subprocess.run([sys.executable, 'work.py'], check=True)"
    (tmp_path / "start.py").write_text(start)
    options = ["--follow-fork"] if follow else []
    done = execute(command, "run", "--wipe", *options, "start.py")
    assert done.returncode == 0
    assert (int(done.stdout) == ONE) is follow


def test_another_malloc_is_wiped_too(execute: Run, command: str, python: str, tmp_path: Path) -> None:
    library = next(Path("/usr/lib").glob("*/libjemalloc.so.2"), None)
    if not library:
        pytest.skip("libjemalloc2 is not installed")
    (tmp_path / "work.py").write_text(LOOK + "work(); report()")
    environment: dict[str, str | None] = {"LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc"}
    assert int(execute(python, "work.py", env=environment).stdout) > 500
    assert execute(command, "run", "--wipe", "work.py", env=environment).stdout == f"{ONE}\n"


def test_a_core_file_has_no_copy(execute: Run, command: str, tmp_path: Path) -> None:
    if Path("/proc/sys/kernel/core_pattern").read_text().startswith("|"):
        pytest.skip("core files go to a program here")
    (tmp_path / "work.py").write_text(
        LOOK + "import os, resource\n"
        "most = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (most, most))\n"
        "with bursar.scope('work', wipe=True): work()\n"
        "marker = bytearray(b'this is live ' * 3)\n"
        "os.abort()"
    )
    secret = bytes(x ^ 0x6B for x in bytes.fromhex("0a1904130f0e0f1513080e0f"))
    for run, left in (([command, "run", "--wipe"], False), ([command, "run"], True)):
        text = (tmp_path / "work.py").read_text().replace("wipe=True", f"wipe={not left}")
        (tmp_path / "work.py").write_text(text)
        assert execute(*run, "work.py").returncode == -6
        cores = list(tmp_path.glob("core*"))
        if not cores:
            pytest.skip("this system writes its core files elsewhere, or none")
        core = cores[0].read_bytes()
        cores[0].unlink()
        assert b"this is live " * 3 in core
        assert (secret * 2 in core) is left


def test_no_room_to_note_blocks_is_told(program: Program) -> None:
    code = LOOK + (
        "import resource\nbursar.scope('work')  # loads what it takes\n"
        "with open('/proc/self/statm') as file: pages = int(file.read().split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (8 << 20),) * 2)\n"
        "try:\n"
        "    with bursar.scope('work', wipe=True): kept = secret(3)\n"
        "except RuntimeError as error: print(json.dumps(str(error)))"
    )
    assert "no address space" in printed(program(code))
