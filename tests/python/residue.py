"""What a secret left behind in a process: tests/residue/scenarios, run, and looked at by tests/residue/scanner.c.

The secret is made here, anew for each run, and reaches the scenario as it would in life: by a file, a pipe, a variable.
A look proves nothing unless it finds what was planted: each canary, in each of its forms, in each kind of memory."""

import base64
import contextlib
import csv
import json
import os
import pickle
import secrets
import select
import shutil
import string
import struct
import subprocess
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from running import LIMIT

ROOT = Path(__file__).resolve().parents[2] / "tests" / "residue"
SCENARIOS = ROOT / "scenarios"
MASK = 0x5A
LETTERS = string.ascii_letters + string.digits

# What each scenario needs beside the standard library.
PACKAGES = {
    "numpy_arrays": ["numpy"], "numpy_text": ["numpy"], "pandas_csv": ["pandas"], "pandas_numbers": ["pandas"],
    "parquet": ["pandas", "pyarrow"], "scikit_learn": ["sklearn"], "torch_inference": ["torch"], "hdf5": ["h5py"],
    "joblib_dump": ["joblib"], "fernet": ["cryptography"], "aes_gcm": ["cryptography"],
    "sqlite": ["sqlite3"], "sqlite_open": ["sqlite3"],
    "compressed_data": ["bz2", "lzma"], "tls": ["ssl"], "postgresql": ["psycopg"],
}  # fmt: skip


def names() -> list[str]:
    return sorted(path.stem for path in SCENARIOS.glob("*.py") if path.stem != "waiting")


def token() -> str:
    """32 letters and digits, in upper and lower case: the text of a secret, which is no part of anything."""
    return "".join(secrets.choice(LETTERS) for _ in range(32))


def base64_forms(data: bytes) -> Iterator[tuple[str, bytes]]:
    """At each alignment, what does not depend on the bytes before and behind."""
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + data)
        yield f"base64-{shift}", text[(shift * 8 + 5) // 6 : (shift + len(data)) * 8 // 6]


def text_forms(text: str) -> dict[str, bytes]:
    raw = text.encode()
    return {
        "raw": raw, "hex": raw.hex().encode(), "HEX": raw.hex().upper().encode(), "utf-16": text.encode("utf-16-le"),
        "utf-32": text.encode("utf-32-le"), "reversed": raw[::-1],
    } | dict(base64_forms(raw))  # fmt: skip


def integer_forms(value: int) -> dict[str, bytes]:
    digits = []
    rest = value
    while rest:
        digits.append(rest & (1 << 30) - 1)
        rest >>= 30
    length = (value.bit_length() + 7) // 8
    return {
        "int": struct.pack(f"<{len(digits)}I", *digits), "decimal": str(value).encode(), "int-hex": b"%x" % value,
        "little": value.to_bytes(length, "little"), "big": value.to_bytes(length, "big"),
    }  # fmt: skip


def float_forms(value: float) -> dict[str, bytes]:
    return {"double": struct.pack("<d", value), "double-big": struct.pack(">d", value), "float": repr(value).encode()}


@dataclass
class Secret:
    """A text, an integer and a float: a scenario uses whichever it likes."""

    text: str = field(default_factory=token)
    integer: int = field(default_factory=lambda: secrets.randbits(200) | 1 << 199)
    # 17 digits: no float of anybody's has these bytes
    number: float = field(default_factory=lambda: (1 << 52 | secrets.randbits(52) | 1) / (1 << 40))

    def forms(self) -> dict[str, tuple[bytes, int]]:
        """For each form its bytes, and how many of them at one place are a copy: half of it, all of a float's bytes."""
        found = {name: (text, len(text) // 2) for name, text in text_forms(self.text).items()}
        found |= {name: (text, len(text) // 2) for name, text in integer_forms(self.integer).items()}
        found |= {name: (text, len(text)) for name, text in float_forms(self.number).items()}
        return found


@dataclass
class Look:
    """What one look found. copies: hits of the secret, by region and form; canaries: those that were not found."""

    copies: "Counter[tuple[str, str]]"
    missed: list[str]
    scanned: int
    output: str = ""

    @property
    def stack(self) -> int:
        return sum(n for (region, _), n in self.copies.items() if region in ("stack", "thread"))

    @property
    def heap(self) -> int:
        return sum(self.copies.values()) - self.stack

    def __str__(self) -> str:
        each = ", ".join(f"{n} {form} in {region}" for (region, form), n in sorted(self.copies.items()))
        return f"{self.heap} + {self.stack} copies ({each or 'none'}) in {self.scanned} bytes"


@dataclass
class Tools:
    """The scanner, and the library that ends a scenario."""

    scanner: Path
    waiting: Path


def build(folder: Path) -> Tools:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler to build the scanner with: install gcc")
    tools = Tools(folder / "scanner", folder / "waiting.so")
    words = [*compiler.split(), "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"]
    subprocess.run([*words, "-o", tools.scanner, ROOT / "scanner.c"], check=True)
    subprocess.run([*words, "-shared", "-fPIC", "-o", tools.waiting, ROOT / "waiting.c"], check=True)
    return tools


def masked(data: bytes) -> bytes:
    return bytes(byte ^ MASK for byte in data)


def write_inputs(folder: Path, secret: Secret) -> None:
    """The secret in each of the forms in which a scenario may be given it."""
    document = {"user": "ada", "password": secret.text, "roles": ["reader", "writer"], "age": 36}
    (folder / "secret.txt").write_text(secret.text + "\n")
    (folder / "secret.json").write_text(json.dumps(document))
    (folder / "secret.pickle").write_bytes(pickle.dumps(document, 4))
    (folder / "secret.ini").write_text(f"[database]\nuser = ada\npassword = {secret.text}\n")
    (folder / "secret.xml").write_text(f"<user><name>ada</name><password>{secret.text}</password></user>\n")
    (folder / "masked.bin").write_bytes(masked(secret.text.encode()))
    (folder / "int.txt").write_text(f"{secret.integer}\n")
    (folder / "float.txt").write_text(f"{secret.number!r}\n")
    with (folder / "secret.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("name", "card"), *((f"user{i}", secret.text) for i in range(5)), ("eve", "x")])
    with zipfile.ZipFile(folder / "secret.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("secret.txt", secret.text * 4)
    data = secret.text.encode()
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(data)},), }}"
    header = header.ljust(128 - 10 - 1) + "\n"
    (folder / "secret.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data)


def database(folder: Path, secret: Secret) -> None:
    import sqlite3  # a Python may be without

    with contextlib.closing(sqlite3.connect(folder / "secret.db")) as connection, connection:
        connection.execute("create table users (name text, password text)")
        connection.execute("insert into users values ('ada', ?)", (secret.text,))


def certificate(folder: Path) -> None:
    """A key and a certificate for this run, in tls.pem."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("no openssl to make a certificate with")
    key, pem = folder / "key.pem", folder / "tls.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=here", "-keyout", key, "-out", pem],
        check=True, capture_output=True,
    )  # fmt: skip
    pem.write_text(pem.read_text() + key.read_text())


@contextlib.contextmanager
def postgresql(folder: Path, secret: Secret) -> Iterator[None]:
    """A server for this run, whose user ada has the secret for a password; its socket's folder is named in `server`."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("no PostgreSQL server: install postgresql")
    binaries = programs[-1].parent
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:  # which it refuses to run as
        as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}

    def run(name: str, *words: "str | Path", text: str = "") -> None:
        command = [binaries / name, *words]
        subprocess.run(command, input=text, text=True, check=True, stdout=subprocess.DEVNULL, timeout=LIMIT, **as_user)

    with tempfile.TemporaryDirectory() as place:
        if as_user:
            shutil.chown(place, "postgres", "postgres")
        data = Path(place) / "data"
        run("initdb", "-D", data, "-U", "boss", "-A", "trust", "--no-sync")
        (data / "pg_hba.conf").write_text("local all boss trust\nlocal all all scram-sha-256\n")
        run("pg_ctl", "-D", data, "-w", "-o", f"-k {place} -h ''", "-l", data / "log", "start")
        try:
            create = f"create role ada login password '{secret.text}';\n"
            run("psql", "-h", place, "-U", "boss", "postgres", text=create)
            (folder / "server").write_text(place)
            yield
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")


def look(tools: Tools, pid: int, secret: Secret, canaries: dict[str, bytes], places: dict[str, int]) -> Look:
    """Searches the process's memory. places: where the canaries begin in each kind of memory."""
    lines = [f"{name} {least} {text.hex()}\n" for name, (text, least) in secret.forms().items()]
    lines += [f"canary-{name} {len(text)} {text.hex()}\n" for name, text in canaries.items()]
    done = subprocess.run(
        [tools.scanner, str(pid)], input="".join(lines), capture_output=True, text=True, check=True, timeout=LIMIT
    )
    copies: Counter[tuple[str, str]] = Counter()
    found = set()
    scanned = 0
    for line in done.stdout.splitlines():
        kind, *words = line.split()
        if kind == "scanned":
            scanned = int(words[0])
            continue
        name, region, address = words[0], words[1], int(words[2], 16)
        if name.startswith("canary-"):
            found.add((name.removeprefix("canary-"), address))
        else:
            copies[region, name] += 1
    missed = []
    at = 0
    for name, text in canaries.items():
        missed += [f"{name} in {place}" for place, start in places.items() if (name, start + at) not in found]
        at += len(text)
    return Look(copies, missed, scanned)


@contextlib.contextmanager
def running(
    tools: Tools, folder: Path, name: str, command: list[str], environment: dict[str, str], secret: Secret
) -> "Iterator[tuple[subprocess.Popen[bytes], dict[str, bytes], dict[str, int]]]":
    """The scenario, until it has said that it is ready and where its canaries are."""
    canaries = text_forms(token())
    blob = b"".join(canaries.values())
    (folder / "canaries").write_bytes(masked(blob))
    ready = folder / "ready"
    os.mkfifo(ready)
    environment = environment | {
        "RESIDUE_ROOM": "-" * len(blob), "RESIDUE_WAITING": str(tools.waiting), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    if name == "environment_inherited":
        environment["RESIDUE_PASSWORD"] = secret.text
    listening = os.open(ready, os.O_RDONLY | os.O_NONBLOCK)
    with (folder / "output").open("wb") as output, (folder / "secret.txt").open("rb") as given:
        # A pipe, as from another program: a file could be read again from its beginning.
        source = subprocess.Popen(["cat"], stdin=given, stdout=subprocess.PIPE)
        program = subprocess.Popen(
            [*command, str(SCENARIOS / f"{name}.py"), str(folder)], cwd=folder, env=environment, stdin=source.stdout,
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert source.stdout
        source.stdout.close()
    try:
        seen, _, _ = select.select([listening, pidfd := os.pidfd_open(program.pid)], [], [], LIMIT)
        os.close(pidfd)
        words = os.read(listening, 400).decode().split() if listening in seen else []
        assert words, f"{name} did not come to its end:\n{(folder / 'output').read_text(errors='replace')[-4000:]}"
        yield program, canaries, {place: int(at, 16) for place, _, at in (word.partition("=") for word in words)}
    finally:
        os.close(listening)
        program.kill()
        program.wait()
        source.wait()


def run(tools: Tools, folder: Path, name: str, command: list[str], environment: dict[str, str]) -> Look:
    """Runs the scenario in the folder and looks at what it left."""
    secret = Secret()
    write_inputs(folder, secret)
    if name == "tls":
        certificate(folder)
    if "secret.db" in (SCENARIOS / f"{name}.py").read_text():
        database(folder, secret)
    with contextlib.ExitStack() as stack:
        if name == "postgresql":
            stack.enter_context(postgresql(folder, secret))
        started = stack.enter_context(running(tools, folder, name, command, environment, secret))
        program, canaries, places = started
        found = look(tools, program.pid, secret, canaries, places)
    found.output = (folder / "output").read_text(errors="replace")
    return found
