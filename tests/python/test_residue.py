"""Copies of a secret: each form is found in each kind of place, by both scans and by a slow one, and its holders named.

The secret comes to each program masked and is unmasked byte by byte into the one place where it belongs, so that the
test itself makes no copies. A zero is believed only beside what was planted."""

import base64
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import Program, printed, program
from running import LIMIT, Run

__all__ = ["program"]
pytestmark = pytest.mark.core

SECRET = b"kP7+zq/9Wm-4_Xv2.Tb8sYd1Rn6hL0cJ"
MASK = 0xB5
NOBODY = 65534
Complains = Callable[..., str]

BEGIN = f"""
import gc, json, mmap, os, sys
import bursar
masked = {bytes(byte ^ MASK for byte in SECRET)!r}
def unmask(into, at=0):
    for i, byte in enumerate(masked):
        into[at + i] = byte ^ {MASK}
secret = bytearray(len(masked))
unmask(secret)
def told(found):
    return [[hit.form, hit.where, hit.whole, hit.length, hit.owner, hit.holders, hit.site] for hit in found.hits]
"""


def digits(number: int) -> bytes:
    """As CPython keeps an int."""
    parts = b""
    while number:
        parts += struct.pack("<I", number & (1 << 30) - 1)
        number >>= 30
    return parts


def inner(raw: bytes, shift: int, encode: Callable[[bytes], bytes]) -> bytes:
    """What of base64 text is the same whatever stands around: `raw` begins `shift` bytes behind a group of three."""
    first, last = -(-shift * 8 // 6), (shift + len(raw)) * 8 // 6
    return encode(b"\0" * shift + raw)[first:last]


def forms(raw: bytes) -> dict[str, set[bytes]]:
    """By Python's own library."""
    text = raw.decode()
    shapes = {
        "raw": {raw},
        "reversed": {raw[::-1]},
        "hex": {raw.hex().encode()},
        "hex-upper": {raw.hex().upper().encode()},
        "base64": {inner(raw, shift, base64.b64encode) for shift in range(3)},
        "base64-url": {inner(raw, shift, base64.urlsafe_b64encode) for shift in range(3)},
        "int-digits": {digits(int.from_bytes(raw, "little"))},
        "int-digits-be": {digits(int.from_bytes(raw, "big"))},
    }
    shapes["base64-url"] -= shapes["base64"]
    for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        shapes[name] = {text.encode(name)}
    return shapes


PLACED = (  # in a mapping of 300 pages: ends of pages, of what is read at once, of the mapping
    0, 4096 - 5, 3 * 4096 + 900, 16 * 4096 - 31, 64 * 4096 - 1, 128 * 4096 - 20, 200 * 4096 + 4095,
)  # fmt: skip
PAGES = 300


@pytest.fixture
def paused(python: str, environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts a program that prints a line of JSON and then reads stdin; returns (process, what it printed)."""
    started = []

    def start(text: str, *arguments: object, **options: Any) -> tuple["subprocess.Popen[str]", Any]:
        path = tmp_path / "paused.py"
        path.write_text(text)
        process = subprocess.Popen(
            [python, str(path), *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment, cwd=tmp_path, **options,
        )  # fmt: skip
        started.append(process)
        assert process.stdout
        line = process.stdout.readline()
        assert line, process.wait(LIMIT)
        return process, json.loads(line)

    yield start
    for process in started:
        with process:
            process.kill()


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret.bin"
    path.write_bytes(SECRET + b"\n")
    return path


@pytest.fixture
def scanned(bursar: Run, secret_file: Path) -> Callable[[int], dict[str, Any]]:
    def scan(pid: int) -> dict[str, Any]:
        done = bursar("scan", str(pid), "--secret-file", secret_file, "--format", "json")
        assert done.returncode == 0, done.stderr
        facts: dict[str, Any] = json.loads(done.stdout)
        assert facts["canary_found"] is True
        return facts

    return scan


def slowly(pid: int) -> set[tuple[str, int]]:
    """Every whole form in every readable mapping of a process that rests, by plain search."""
    found = set()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            ends, access, *_ = line.split()
            start, end = (int(part, 16) for part in ends.split("-"))
            if access[0] != "r" or "[v" in line:
                continue
            memory.seek(start)
            data = memory.read(end - start)
            for name, shapes in forms(SECRET).items():
                for shape in shapes:
                    at = data.find(shape)
                    while at >= 0:
                        found.add((name, start + at))
                        at = data.find(shape, at + 1)
    return found


# --- each form, in each kind of place ---------------------------------------------------------------------------------


PLANT = (
    BEGIN
    + f"""
import ctypes, threading
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    mapped[0], mapped[5000]  # else the second page is the process's only where the kernel maps it along
shapes = json.loads(open(sys.argv[2]).read())
area = mmap.mmap(-1, {PAGES} * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.write(b"-" * len(area))  # beside zeros UTF-16 in one order is the other, a byte before
base = ctypes.addressof(ctypes.c_char.from_buffer(area))
kept, places = [], []
for number, (name, shape) in enumerate(shapes):
    shape = bytes(byte ^ {MASK} for byte in shape)
    at = {PLACED!r}[number % {len(PLACED)}] + 4096 * 2 * (number // {len(PLACED)})
    area[at:at + len(shape)] = shape
    pool, large = bytes(shape), bytearray(b"-" * 5000) + shape
    raw = ctypes.create_string_buffer(b"-" + shape + b"-", 4000)
    kept += [pool, large, raw]
    places += [[name, base + at], [name, id(pool) + 32], [name, ctypes.addressof(raw) + 1]]
    places.append([name, ctypes.addressof(ctypes.c_char.from_buffer(large)) + 5000])
whole = [[hit.form, hit.address] for hit in bursar.residue(secret).hits if hit.whole]
print(json.dumps([places, whole]), flush=True)
input()
"""
)


def test_each_form_is_found_in_each_kind_of_place(
    paused: Callable[..., Any], scanned: Callable[[int], dict[str, Any]], tmp_path: Path
) -> None:
    held = tmp_path / "data.bin"
    held.write_bytes(b"." * 5000 + SECRET + b"." * 100)
    shapes = [(name, [b ^ MASK for b in shape]) for name, every in forms(SECRET).items() for shape in every]
    listing = tmp_path / "shapes.json"
    listing.write_text(json.dumps(shapes))
    process, (places, whole) = paused(PLANT, held, listing)
    planted = {(name, address) for name, address in places}
    assert len(planted) == 4 * len(shapes)
    within = {(name, address) for name, address in whole}
    assert not planted - within
    facts = scanned(process.pid)
    outside = {(hit["form"], hit["address"]) for hit in facts["hits"] if hit["whole"]}
    assert planted <= outside
    slow = slowly(process.pid)
    assert planted <= slow
    # What lies in another, longer find is none of its own: UTF-16 in one order, base64's two alphabets.
    lengths = {(hit["address"], hit["length"]) for hit in facts["hits"]}
    missed = {
        (name, at) for name, at in slow - outside
        if not any(start <= at < start + length for start, length in lengths)
    }  # fmt: skip
    assert not missed
    assert not outside - slow
    in_file = [hit for hit in facts["hits"] if hit["where"] == "file" and hit["mapping"].endswith("data.bin")]
    assert len(in_file) == 1 and in_file[0]["form"] == "raw"


def test_what_is_freed_is_told_from_what_is_live(program: Program) -> None:
    done = program(
        BEGIN
        + """
kept = bytes(secret)
bursar.residue(secret)  # all that it needs is there
gone = bytes(secret) + b"!" * 400
at = id(gone) + 32
del gone
found = bursar.residue(secret)
print(json.dumps([[hit.where for hit in found.hits if hit.address == at], [hit.where for hit in found.hits
    if hit.address == id(kept) + 32], sum(hit.where == "stack" for hit in found.hits), len(found.held)]))
"""
    )
    freed, live, _, held = printed(done)
    assert freed == ["freed"]
    assert live == ["live"]
    assert held == 1


def test_what_python_keeps_for_reuse(program: Program) -> None:
    done = program(
        BEGIN
        + """
import struct
(real,) = struct.unpack("<d", secret[:8])
bursar.residue(real)  # all that it needs is there
kept, gone = [real + 0.0 for _ in range(5)], [real + 0.0 for _ in range(20)]
live, free = {id(one) + 16 for one in kept}, {id(one) + 16 for one in gone}
del gone
found = bursar.residue(real)
print(json.dumps([sorted({hit.where for hit in found.hits if hit.address in live}),
    sum(hit.where == "free_list" for hit in found.hits if hit.address in free),
    sum(hit.where == "live" for hit in found.hits if hit.address in free)]))
"""
    )
    live, free, wrong = printed(done)
    assert live == ["live"]
    assert free >= 15 and wrong == 0


@pytest.mark.parametrize("part, copies", [(17, 1), (16, 1), (15, 0)])
def test_half_of_it_is_a_find(program: Program, part: int, copies: int) -> None:
    done = program(
        BEGIN
        + f"""
half = bytearray(100)
for i in range({part}):
    half[50 + i] = masked[9 + i] ^ {MASK}
found = bursar.residue(secret)
print(json.dumps([[hit.length, hit.whole] for hit in found.hits if hit.owner == "bytearray"]))
"""
    )
    assert printed(done) == [[part, False]] * copies


def test_numbers_and_arrays(program: Program) -> None:
    done = program(
        BEGIN
        + """
import array
def forms(value):
    return sorted({hit.form for hit in bursar.residue(value).hits if hit.where == "live"})
number = int.from_bytes(secret, "little")
kept = [str(number), number + 0, hex(number)[2:].encode(), number.to_bytes(32, "big"), number * -1]
print(json.dumps(forms(number)))
real = number / 3e70
kept = [repr(real), array.array("d", [real, 2 * real]), array.array("d", [real])]
kept[2].byteswap()
print(json.dumps(forms(real)))
many = array.array("d", [real, 3 * real, 7 * real])
swapped = many[:]
swapped.byteswap()
print(json.dumps(forms(many)))
word = secret.decode() + "\\u00e9"
kept = [word.encode(), word.encode("latin-1"), word.encode("utf-16-le"), word.encode("utf-32-be")]
print(json.dumps(forms(word)))
"""
    )
    ints, floats, arrays, texts = (json.loads(line) for line in done.stdout.splitlines())
    assert set(ints) >= {"decimal", "hex", "int-be", "int-digits"}
    assert set(floats) >= {"repr", "float-le", "float-be"}
    assert arrays == ["swapped"]
    assert set(texts) >= {"utf-8", "latin-1", "utf-16-le", "utf-32-be"}


# --- who holds it -----------------------------------------------------------------------------------------------------


def test_holders_are_named(program: Program) -> None:
    done = program(
        BEGIN
        + """
import array, threading
class Session:
    pass
session = Session()
session.token = secret.decode()
deep = {"users": [1, {"password": bytes(secret)}]}
numbers = array.array("B", secret)
ready, end = threading.Event(), threading.Event()
def wait():
    mine = secret.hex()
    ready.set()
    end.wait()
thread = threading.Thread(target=wait)
thread.start()
ready.wait()
def ask():
    local = secret[::-1]
    return bursar.residue(secret)
found = ask()
end.set()
print(json.dumps([[hit.form, hit.owner, hit.holders] for hit in found.hits if hit.owner]))
print(found, file=sys.stderr)
""",
        says=True,
    )
    owned = {(form, owner): "; ".join(holders) for form, owner, holders in printed(done)}
    assert "Session" in owned["raw", "str"]
    assert (
        owned["raw", "bytes"]
        == "dict, key 'password' in list[1] in dict, key 'users' in dict of module __main__, key 'deep'"
    )
    assert "dict of module __main__, key 'numbers'" in owned["raw", "array.array"]
    assert "local 'mine' of wait" in owned["hex", "str"]
    assert "local 'local' of ask" in owned["reversed", "bytearray"]
    assert SECRET.decode() not in done.stderr + done.stdout


def test_a_frame_that_gives_up_its_locals(program: Program) -> None:
    """Those that are gone are not looked at, those of frames around it are."""
    done = program(
        BEGIN
        + """
class Last:
    def __del__(self):
        found = bursar.residue(secret)
        print(json.dumps(sorted(str(hit.holders) for hit in found.hits if hit.owner)))
def inner():
    first = bytes(secret) + b"!" * 300
    second = [first, bytes(secret)]
    last = Last()
    third = [bytes(secret)]
def outer():
    around = secret.hex()
    inner()
outer()
"""
    )
    text = done.stdout
    assert (3, 11) <= sys.version_info < (3, 11, 2) or "local 'around' of outer" in text
    assert "first" not in text and "second" not in text


def test_a_key_that_is_the_secret_is_not_printed(program: Program) -> None:
    done = program(
        BEGIN
        + """
word = bytearray(b"tiger_") + secret.replace(b"+", b"_").replace(b"/", b"_").replace(b"-", b"_").replace(b".", b"_")
names = {word.decode(): {1: 2}}
found = bursar.residue(word)
print(found, [hit.holders for hit in found.hits])
assert found.copies
"""
    )
    assert "tiger_" not in done.stdout
    assert "as a key in dict of module __main__, key 'names'" in done.stdout


def test_exact_books_tell_where_it_was_allocated(bursar: Run, tmp_path: Path) -> None:
    path = tmp_path / "booked.py"
    path.write_text(
        BEGIN
        + "\ndef copy():\n    return bytes(secret)\nkept = copy()\nprint(json.dumps(told(bursar.residue(secret))))\n"
    )
    done = bursar("run", path)
    assert done.returncode == 0, done.stderr
    site = next(site for _, where, _, _, owner, _, site in json.loads(done.stdout) if owner == "bytes" and site)
    assert site[0][0] == "copy"
    assert site[0][1] == str(path)
    assert path.read_text().splitlines()[site[0][2] - 1] == "    return bytes(secret)"
    assert site[1][0] == "<module>"


# --- no trace of its own ----------------------------------------------------------------------------------------------


def test_it_leaves_no_copy_of_its_own(paused: Callable[..., Any], scanned: Callable[[int], dict[str, Any]]) -> None:
    process, counts = paused(
        BEGIN
        + """
counts = [bursar.residue(secret).copies for _ in range(3)]
bursar.assert_no_residue(secret)
number, text, real = bytearray(secret), None, None
print(json.dumps(counts), flush=True)
input()
"""
    )
    assert counts == [0, 0, 0]
    facts = scanned(process.pid)
    places = [(hit["form"], hit["where"], hit["whole"]) for hit in facts["hits"]]
    assert places == [("raw", "live", True)] * 2  # the secret, and `number`
    assert facts["copies"] == 2


@pytest.mark.parametrize(
    "value", ["secret.decode()", "int.from_bytes(secret, 'little')", "int.from_bytes(secret, 'big') / 3e70"]
)
def test_nor_of_other_kinds(program: Program, value: str) -> None:
    done = program(
        BEGIN
        + f"""
value = {value}
before = bursar.residue(value).copies
print(json.dumps([before, *(bursar.residue(value).copies for _ in range(3))]))
"""
    )
    before, *after = printed(done)
    assert max(after) <= before


def test_it_disturbs_nothing(program: Program) -> None:
    """No signal, no child to wait for, no descriptor, no warning of threads, and no handler of fork's."""
    done = program(
        BEGIN
        + """
import signal, threading, warnings
warnings.simplefilter("error")
seen = []
signal.signal(signal.SIGCHLD, lambda *_: seen.append("SIGCHLD"))
os.register_at_fork(before=lambda: seen.append("before"), after_in_child=lambda: seen.append("child"))
end = threading.Event()
def busy():
    while not end.is_set():
        [bytearray(n) for n in range(200)]
threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads:
    thread.start()
before = sorted(os.listdir("/proc/self/fd"))
for _ in range(5):
    assert bursar.residue(secret).scanned_bytes > 1 << 20
assert sorted(os.listdir("/proc/self/fd")) == before
end.set()
for thread in threads:
    thread.join()
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    seen.append("no child")
print(json.dumps(seen))
"""
    )
    assert printed(done) == ["no child"]


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_an_undumpable_process_scans_itself(program: Program) -> None:
    done = program(
        BEGIN
        + f"""
import ctypes
kept = bytes(secret)
bursar.residue(secret)  # what it imports may not be readable later
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0
try:
    open("/proc/self/pagemap", "rb")
    readable = True
except OSError:
    readable = False
found = bursar.residue(secret)
print(json.dumps([readable, [hit.owner for hit in found.hits if hit.owner], found.scanned_bytes > 1 << 20]))
"""
    )
    assert printed(done) == [False, ["bytes"], True]


def test_memory_kept_from_forked_children_is_named(program: Program) -> None:
    done = program(
        BEGIN
        + """
area = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
unmask(area)
before = bursar.residue(secret)
area.madvise(mmap.MADV_DONTFORK)
after = bursar.residue(secret)
print(json.dumps([before.copies, after.copies, before.not_scanned, after.not_scanned]))
"""
    )
    with_it, without, nothing, kept = printed(done)
    assert (with_it, without) == (1, 0)
    assert [line for line in kept if line not in nothing] == ["memory kept from forked children: 1 MiB"]


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, kind, words",
    [
        ("b''", "ValueError", "at least|8 bytes"),
        ("b'1234567'", "ValueError", "8 bytes"),
        ("''", "ValueError", "8 bytes"),
        ("1234567", "ValueError", "8 bytes"),
        ("0", "ValueError", "8 bytes"),
        ("b'abcabcabcabc'", "ValueError", "different bytes"),
        ("0.0", "ValueError", "different bytes"),
        ("bytes(1000)", "ValueError", "different bytes"),
        ("'x' * 70000 + 'abcd'", "ValueError", "64 KiB"),
        ("None", "TypeError", "not NoneType"),
        ("True", "TypeError", "not bool"),
        ("[b'12345678']", "TypeError", "not list"),
        ("memoryview(bytes(range(64)))[::2]", "BufferError|ValueError|TypeError", "contiguous"),
    ],
)
def test_what_proves_nothing_is_refused(program: Program, value: str, kind: str, words: str) -> None:
    done = program(
        BEGIN
        + f"""
try:
    bursar.residue({value})
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
    )
    name, text = printed(done)
    assert name in kind.split("|")
    assert any(word in text for word in words.split("|")), text
    assert "\n" not in text


def test_assert_no_residue_lists_the_holders(program: Program) -> None:
    done = program(
        BEGIN
        + """
kept = bytes(secret)
try:
    bursar.assert_no_residue(secret)
except AssertionError as error:
    print(error)
"""
    )
    assert done.stdout.startswith("1 copy found\n")
    assert "bytes, held by dict of module __main__, key 'kept'" in done.stdout
    assert "pipes, sockets" in done.stdout


def test_the_command_reads_no_secret_from_arguments(complains: Complains, secret_file: Path, tmp_path: Path) -> None:
    pid = str(os.getpid())
    assert "--secret-file" in complains(2, "scan", pid)
    assert "--secret-file" in complains(2, "scan", pid, "--secret-file", secret_file, "--secret-fd", "0")
    assert "one process id" in complains(2, "scan", "--secret-file", secret_file)
    assert "one process id" in complains(2, "scan", "12x", "--secret-file", secret_file)
    assert "--secret-fd" in complains(2, "scan", pid, "--secret-fd", "77")
    assert "No such file" in complains(1, "scan", pid, "--secret-file", tmp_path / "none")
    for text, words in ((b"", "8 bytes"), (b"1234567\n", "8 bytes"), (b"aaaaaaaaaaaab", "different bytes")):
        (tmp_path / "short").write_bytes(text)
        assert words in complains(2, "scan", pid, "--secret-file", tmp_path / "short")


def test_a_descriptor_that_is_a_pipe(paused: Callable[..., Any], command: str, environment: dict[str, str]) -> None:
    process, _ = paused(BEGIN + "print(1, flush=True)\ninput()\n")
    done = subprocess.run(
        [command, "scan", str(process.pid), "--secret-fd", "0"], input=SECRET, capture_output=True, env=environment,
        timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"process %d: 1 copy found\n" % process.pid)
    assert b"canaries, in the scanner's own memory and read in the same way, were found" in done.stdout
    assert SECRET not in done.stdout


def test_a_process_that_is_no_python(scanned: Callable[[int], dict[str, Any]], bursar: Run, secret_file: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"here\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"here\n"  # it has begun
        facts = scanned(process.pid)
        done = bursar("scan", str(process.pid), "--secret-file", secret_file)
        process.kill()
    assert facts["copies"] == 0
    assert facts["hits"] == []
    assert facts["scanned_bytes"] > 100_000
    assert done.stdout.startswith(f"process {process.pid}: no copy found in what was scanned\n")
    assert "wiped" not in done.stdout


def test_a_process_that_is_gone(complains: Complains, secret_file: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert "no process" in complains(1, "scan", str(process.pid), "--secret-file", secret_file)
    assert "no process" in complains(1, "scan", str(process.pid), "--secret-file", secret_file)


def test_a_process_that_dies_meanwhile(
    paused: Callable[..., Any], command: str, environment: dict[str, str], secret_file: Path
) -> None:
    """Whichever comes first, it is a scan or one line."""
    for _ in range(3):
        process, _ = paused(BEGIN + "kept = b'x' * 150_000_000\nprint(1, flush=True)\ninput()\n")
        with subprocess.Popen(
            [command, "scan", str(process.pid), "--secret-file", str(secret_file)], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as scan:  # fmt: skip
            process.kill()
            said, complained = scan.communicate(timeout=LIMIT)
        assert scan.returncode in (0, 1)
        assert scan.returncode == 0 or (said == "" and complained.count("\n") == 1 and "no process" in complained)
        process.wait(LIMIT)


def test_a_process_that_forks_meanwhile(paused: Callable[..., Any], scanned: Callable[[int], dict[str, Any]]) -> None:
    process, _ = paused(
        BEGIN
        + """
print(1, flush=True)
while os.getppid() == int(sys.argv[1]):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
""",
        os.getpid(),
    )
    for _ in range(5):
        facts = scanned(process.pid)
        assert facts["copies"] == 1
        assert [hit["where"] for hit in facts["hits"]] == ["live"]
    os.kill(process.pid, signal.SIGKILL)


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_another_users_process(complains: Complains, secret_file: Path) -> None:
    secret_file.chmod(0o644)
    for folder in list(secret_file.parents)[:3]:
        folder.chmod(folder.stat().st_mode | 0o055)
    said = complains(1, "scan", str(os.getpid()), "--secret-fd", "0", user=NOBODY, group=NOBODY, input=SECRET.decode())
    assert "may not be read" in said or "no process" in said


def test_it_takes_a_vault_like_object(program: Program) -> None:
    """What opens gives a view: of memory that is in no forked child, here."""
    done = program(
        BEGIN
        + """
import contextlib
class Vault:
    def __init__(self):
        self.area = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.area.madvise(mmap.MADV_DONTFORK)
        unmask(self.area)
    @contextlib.contextmanager
    def open(self):
        with memoryview(self.area) as whole, whole[:len(masked)] as view:
            yield view
vault = Vault()
copies = bursar.residue(vault).copies
for i in range(len(secret)):
    secret[i] = 0
print(json.dumps([copies, bursar.residue(vault).copies]))
"""
    )
    assert printed(done) == [1, 0]
