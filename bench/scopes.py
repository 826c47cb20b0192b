"""What a scope costs on top of each mode: the workloads as they are and inside a scope, in turn; the memory that it
takes to know whose each block is, for each byte of the live heap; and an entry with its end.

    bench/scopes.py [--python P] [--pairs N] [--only WORKLOAD,…] [--modes MODE,…] [--format json]
"""
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WORKLOADS = {"json": "json_text.py", "trees": "trees.py", "calls": "calls.py"}
MODES = ("exact", "sample", "count")
HEAP = 400_000  # dictionaries

# All that the workload allocates is charged: what a service pays whose requests do nothing else.
RUN = """
import contextlib, resource, runpy, sys
import bursar
mode, scoped, path, ledger = sys.argv[1:]
bursar.start(mode, output=ledger, force=True)
with bursar.scope("workload") if scoped == "yes" else contextlib.nullcontext() as scope:
    runpy.run_path(path, run_name="__main__")
    assert scoped == "no" or scope.allocations > 1000000
usage = resource.getrusage(resource.RUSAGE_SELF)
print(usage.ru_utime + usage.ru_stime)
"""

# The heap is all charged, as far as it is ours: dictionaries of small strings, as a cache of parsed documents is.
MEMORY = """
import contextlib, gc, json, os, sys
import bursar
mode, scoped, ledger, count = sys.argv[1:]
bursar.start(mode, output=ledger, force=True)
gc.disable()
def resident():
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Rss"))
with bursar.scope("warm"): kept = [str(i) for i in range(1000)]
before = resident()
with bursar.scope("heap") if scoped == "yes" else contextlib.nullcontext() as scope:
    kept = [{"id": i, "name": f"customer {i}", "tags": [f"tag {i}", f"tag {i + 1}"]} for i in range(int(count))]
print(resident() - before, scope.live if scope else 0)
"""

ENTRY = """
import statistics, sys, time
import bursar
mode, ledger = sys.argv[1:]
bursar.start(mode, output=ledger, force=True)
def one():
    with bursar.scope("it"): pass
def none():
    pass
def cost(function, count=20000):
    start = time.perf_counter()
    for _ in range(count): function()
    return (time.perf_counter() - start) / count
cost(one)
print(statistics.median(cost(one) - cost(none) for _ in range(9)) * 1e6)
"""


def run(python: str, text: str, *arguments: str) -> list[float]:
    """The numbers on the last line that the program prints."""
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [python, "-c", text, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.splitlines()[-1].split()]


def memory(python: str, mode: str, ledger: str, count: int) -> tuple[float, float]:
    """What a heap in a scope takes more than outside of any, and how large it is."""
    plain, scoped = (run(python, MEMORY, mode, how, ledger, str(count)) for how in ("no", "yes"))
    return scoped[0] - plain[0], scoped[1]


def measure(python: str, pairs: int, only: list[str], modes: list[str], work: Path) -> dict[str, Any]:
    ledger = str(work / "scopes.bursar")
    facts: dict[str, Any] = {"pairs": pairs}
    for mode in modes:
        facts[mode] = {"ratios": {}}
        for name in only:
            path, ratios = str(HERE / "workloads" / WORKLOADS[name]), []
            for _ in range(pairs):
                plain, scoped = (run(python, RUN, mode, how, path, ledger)[0] for how in ("no", "yes"))
                ratios.append(scoped / plain)
            facts[mode]["ratios"][name] = [statistics.median(ratios), min(ratios), max(ratios)]
        small, large = (memory(python, mode, ledger, count) for count in (HEAP // 8, HEAP))
        facts[mode]["live_bytes"] = large[1]
        facts[mode]["memory"] = (large[0] - small[0]) / (large[1] - small[1])  # but for what is the same in both
        facts[mode]["memory_fixed_bytes"] = small[0] - facts[mode]["memory"] * small[1]
        facts[mode]["entry_us"] = run(python, ENTRY, mode, ledger)[0]
    return facts


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/scopes.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has bursar installed")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", default=",".join(WORKLOADS))
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--work", type=Path, default=HERE.parent / "build")
    options = parser.parse_args()
    facts = measure(options.python, options.pairs, options.only.split(","), options.modes.split(","), options.work)
    if options.format == "json":
        print(json.dumps(facts, indent=1))
        return 0
    for mode in options.modes.split(","):
        one = facts[mode]
        ratios = ", ".join(f"{name} {a:.3f} ({b:.3f}-{c:.3f})" for name, (a, b, c) in one["ratios"].items())
        fixed = one["memory_fixed_bytes"] / 2**20
        print(f"{mode}: {ratios}; {one['memory']:.1%} of the heap and {fixed:.1f} MiB; {one['entry_us']:.2f} us")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
