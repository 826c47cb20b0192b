"""Who has a copy of some bytes in a process: read from outside, from /proc, and simple enough to be believed.

A program under the eyes of `Watched` stops where it says `stop(name)`, and goes on when it is told to."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

STOP = """\
import os as _os
def stop(name):
    _os.write(1, name.encode() + b"\\n")
    assert _os.read(0, 1) == b"\\n"
"""


class Copy(NamedTuple):
    where: str  # the mapping's name
    at: int


def copies(pid: int, wanted: bytes) -> list[Copy]:
    """Each place in the process's memory that has the bytes, closed to the process itself or not."""
    return list(_copies(pid, wanted))


def _copies(pid: int, wanted: bytes) -> Iterator[Copy]:
    maps = Path(f"/proc/{pid}/maps").read_text()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps.splitlines():
            first, last, _, name = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)", line).groups()  # type: ignore[union-attr]
            if name.startswith(("[vvar", "[vsyscall")):
                continue
            at = int(first, 16)
            text = _read(memory.fileno(), at, int(last, 16) - at)
            for found in re.finditer(b"(?=" + re.escape(wanted) + b")", text):
                yield Copy(name, at + found.start())


def _read(memory: int, at: int, size: int) -> bytes:
    """What can be read there, with zeros for pages that cannot."""
    try:
        text = os.pread(memory, size, at)
    except OSError:
        text = b""
    if len(text) == size:
        return text
    if size <= 4096:
        return bytes(size)
    half = size // 4096 // 2 * 4096 or 4096
    return _read(memory, at, half) + _read(memory, at + half, size - half) if size < 1 << 26 else text


class Watched:
    """A program that is looked at where it stops."""

    def __init__(
        self, python: str, program: str, *, folder: Path, env: "dict[str, str]", arguments: "tuple[str, ...]" = ()
    ):
        path = folder / "watched.py"
        path.write_text(STOP + program)
        self.process = subprocess.Popen(
            [python, str(path), *arguments],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *unused: object) -> None:
        with self.process:
            self.process.kill()

    def line(self) -> bytes:
        assert self.process.stdout
        text: bytes = self.process.stdout.readline()
        return text.rstrip(b"\n")

    def reads(self, size: int) -> bytes:
        assert self.process.stdout
        text: bytes = self.process.stdout.read(size)
        assert len(text) == size, "it has ended"
        return text

    def reaches(self, name: str) -> "Watched":
        assert self.line() == name.encode()
        return self

    def goes_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write(b"\n")

    def copies(self, wanted: bytes) -> list[Copy]:
        return copies(self.process.pid, wanted)
