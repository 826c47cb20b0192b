"""Resident memory of processes, from /proc; run as a script, it samples one process while another works.

As a script (python -I -S _rss.py PID INTERVAL METRIC CHILDREN MAX) it takes a sample, writes a byte to stdout, samples
every INTERVAL seconds until its stdin ends, takes a last one, and writes the count of samples (8 bytes) and the
samples (pairs of doubles: bytes, seconds since 1970; only the greatest where MAX is 1).  It is a process of its own
so that it samples on time whatever holds the interpreter's lock in the one that it looks at.
"""

import os
import sys
import time

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int, metric: str) -> int:
    """The bytes that a process has in memory: 'rss', 'pss' (shared pages in proportion) or 'uss' (its own alone).

    0 for a zombie.  ProcessLookupError: there is no such process.  PermissionError: it is another user's ('pss' and
    'uss').  Source: /proc/PID/statm, /proc/PID/smaps_rollup.
    """
    try:
        if metric == "rss":
            with open(f"/proc/{pid}/statm", "rb") as file:
                return int(file.read().split()[1]) * _PAGE
        fields = (b"Pss:",) if metric == "pss" else (b"Private_Clean:", b"Private_Dirty:")
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(fields))
    except (FileNotFoundError, ProcessLookupError):
        if metric != "rss" and os.path.exists(f"/proc/{pid}/statm"):
            return 0
        if not os.path.exists("/proc/self/statm"):
            raise OSError("there is no /proc here: mount it") from None
        raise ProcessLookupError(f"there is no process {pid}") from None


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started; not this one.  Source: /proc/*/stat."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child != os.getpid():
                found.append(child)
                waiting.append(child)
    return found


def of_children(pid: int, metric: str) -> list[tuple[int, int]]:
    """(pid, bytes) of each descendant that is still there and may be read."""
    figures = []
    for child in descendants(pid):
        try:
            figures.append((child, resident(child, metric)))
        except (ProcessLookupError, PermissionError):
            continue
    return figures


def measure(pid: int, metric: str, children: bool) -> int:
    """resident(), with all descendants where children is true."""
    own = resident(pid, metric)
    return own + sum(size for _, size in of_children(pid, metric)) if children else own


def _sample(pid: int, interval: float, metric: str, children: bool, greatest: bool) -> None:
    import select
    import signal
    from array import array

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program
    samples = array("d")
    count = 0
    last = False
    while True:
        try:
            size = measure(pid, metric, children)
        except ProcessLookupError:
            return
        count += 1
        if not (greatest and samples):
            samples.extend((size, time.time()))
        elif size > samples[0]:
            samples[0], samples[1] = size, time.time()
        if count == 1:
            os.write(1, b"+")
        if last:
            break
        last = bool(select.select([0], [], [], interval)[0])
    with os.fdopen(1, "wb") as out:
        out.write(array("q", (count,)).tobytes() + samples.tobytes())


if __name__ == "__main__":
    _sample(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4] == "1", sys.argv[5] == "1")
