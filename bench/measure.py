"""Run one command to its end: CPU time and peak memory of the process and every child that it waited for."""
from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SPAWN = Path(__file__).resolve().parent / "spawn.py"


@dataclass(frozen=True)
class Run:
    """One finished run. `cpu_s` is user and system time, `peak_bytes` the largest resident set of any process of it."""

    cpu_s: float
    wall_s: float
    peak_bytes: int
    output: str
    failure: str  # empty where it ended well
    user_s: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.failure


def median(values: Sequence[float]) -> float:
    """The middle of the sorted values, or the mean of the two in the middle."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def touch(size: int) -> None:
    """Take so much memory, and give it back. The host of a virtual machine may have taken free pages away, and to get
    one again costs several times what it costs to clear it: so that this falls on no measurement by chance."""
    how = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    mmap.mmap(-1, size, flags=how, prot=mmap.PROT_READ | mmap.PROT_WRITE).close()


def run(command: Sequence[str | Path], env: dict[str, str], log: Path, timeout_s: float) -> Run:
    """Run `command` with its output in `log`. Past `timeout_s` its whole process group is killed."""
    helper = [sys.executable, "-I", "-S", str(SPAWN), str(timeout_s), str(log), *(str(part) for part in command)]
    result = subprocess.run(helper, env=env, stdout=subprocess.PIPE, text=True, check=True)
    cpu_s, user_s, wall_s, peak_bytes, status = result.stdout.split()
    output = log.read_text("utf-8", "replace")
    failure = ""
    if status == "timeout":
        failure = f"timed out after {timeout_s:g} s"
    elif status != "0":
        last = output.strip().splitlines()[-1:] or ["no output"]
        failure = f"exit status {status}: {last[0][:160]}"
    return Run(float(cpu_s), float(wall_s), int(peak_bytes), output, failure, float(user_s))
