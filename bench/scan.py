"""How fast a secret is looked for: GB per second of CPU time, from within and from outside, beside plain reading.

Runs under the interpreter that bursar is installed for. Prints JSON: medians of runs in turn, each of which takes one
core. The memory is a gigabyte (or --size) of random bytes, of text, or of small numbers; `read` is /proc/PID/mem, read
a MiB at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

BURSAR = Path(sys.executable).parent / "bursar"
REPEATS = 5

TARGET = """
import json, resource, sys, bursar
kind, size = sys.argv[1], int(sys.argv[2])
piece = {"random": lambda: open("/dev/urandom", "rb").read(1 << 20),
         "text": lambda: open(json.__file__, "rb").read() + open(sys.argv[3], "rb").read(),
         "numbers": lambda: b"".join((n % 200).to_bytes(8, "little") for n in range(1 << 17))}[kind]()
kept = bytearray(piece * (size // len(piece)))
secret = bytearray(open("/dev/urandom", "rb").read(16).hex().encode())
bursar.residue(secret)
print("ready", flush=True)
for line in sys.stdin:
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = bursar.residue(secret)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    print(json.dumps([seconds, found.scanned_bytes]), flush=True)
"""


def read_all(pid: int) -> int:
    """Reads what bursar would scan, resident or not, and throws it away."""
    done, buffer = 0, bytearray(1 << 20)
    view = memoryview(buffer)
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            ends, access, *_ = line.split()
            start, end = (int(part, 16) for part in ends.split("-"))
            if access[0] != "r" or "[v" in line or "bursar" in line:
                continue
            memory.seek(start)
            left = end - start
            try:
                while left:
                    got = memory.readinto(view[: min(left, len(buffer))]) or 0
                    if not got:
                        break
                    done += got
                    left -= got
            except OSError:
                continue
    return done


def rate(action: Callable[[], int]) -> float:
    """By the CPU time of this process and of the children that it waited for."""
    began = os.times()
    size = action()
    ended = os.times()
    return size / (sum(ended[:4]) - sum(began[:4])) / 1e9


def measure(kind: str, size: int, secret: Path) -> dict[str, float]:
    command = [sys.executable, "-c", TARGET, kind, str(size), argparse.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as target:
        assert target.stdin and target.stdout
        assert target.stdout.readline() == "ready\n"
        within, outside, read = [], [], []

        def scan() -> int:
            done = subprocess.run(
                [BURSAR, "scan", str(target.pid), "--secret-file", secret, "--format", "json"],
                check=True, capture_output=True,
            )  # fmt: skip
            scanned: int = json.loads(done.stdout)["scanned_bytes"]
            return scanned

        for _ in range(REPEATS):
            target.stdin.write("again\n")
            target.stdin.flush()
            seconds, scanned = json.loads(target.stdout.readline())
            within.append(scanned / seconds / 1e9)
            outside.append(rate(scan))
            read.append(rate(lambda: read_all(target.pid)))
        target.stdin.close()
    figures = {"within_gb_s": median(within), "outside_gb_s": median(outside), "read_gb_s": median(read)}
    figures["outside_to_read"] = figures["outside_gb_s"] / figures["read_gb_s"]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1 << 30, help="bytes of each kind")
    parser.add_argument("--format", choices=("json",), default="json")
    size = parser.parse_args().size
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder) / "secret"
        secret.write_bytes(os.urandom(16).hex().encode())
        print(json.dumps({kind: measure(kind, size, secret) for kind in ("random", "text", "numbers")}, indent=1))


if __name__ == "__main__":
    main()
