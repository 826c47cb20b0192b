"""Streaming a file: CPU time as a ratio to reading its bytes, and the most memory, beside others that can do it.

Runs under the interpreter that bursar is installed for, or under --python for peers that are installed elsewhere. Each
run is a process of its own, in turn with the others; shown are medians. A tool first streams a small file of the same
kind, so that what is imported and started is there before. `peak` is by how much resident memory grew at most, `held`
what the tool says itself (bursar: what was charged; Arrow: its pool's mark). Prints a table, with --json all numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from statistics import median
from typing import Any

MAKE = """
import sys, numpy as np, pyarrow as pa, pyarrow.csv, pyarrow.parquet as pq
folder, size = sys.argv[1], int(sys.argv[2])
def make(name, rows):
    rng = np.random.default_rng(7)
    np.save(f"{folder}/{name}.npy", rng.normal(size=(rows, 16)).astype("f4"))
    table = pa.table({"id": np.arange(rows), "x": rng.normal(size=rows), "y": rng.normal(size=rows).round(3),
                      "k": rng.integers(0, 1000, rows), "s": [f"name {n % 5000}" for n in range(rows)]})
    pa.csv.write_csv(table, f"{folder}/{name}.csv")
    pq.write_table(table, f"{folder}/{name}.parquet")
    numbers = {f"c{n}": rng.normal(size=rows).astype("f4") for n in range(16)}
    pq.write_table(pa.table(numbers), f"{folder}/{name}-numbers.parquet", use_dictionary=False)
    half = rows // 2 // 200
    grown = ["%010d" % n for n in range(half)] + [chr(97 + n % 26) * 10_000 for n in range(half)]
    pa.csv.write_csv(pa.table({"n": np.arange(2 * half), "s": grown}), f"{folder}/{name}-grown.csv")
    pq.write_table(pa.table({"n": np.arange(2 * half), "s": grown}), f"{folder}/{name}-grown.parquet")
make("small", 2000)
make("large", size * 1_000_000 // 64)
"""

# Each names `run(path)`, which streams the file, and returns what was held at most, or None.
RAW = """
def run(path):
    buffer = bytearray(1 << 20)
    with open(path, "rb", 0) as file:
        while file.readinto(buffer):
            pass
"""
OURS = """
import bursar
def run(path):
    stream = bursar.stream(path, BUDGET, as_=AS)
    for batch in stream:
        pass
    return stream.peak_bytes
"""
TOOLS: dict[str, dict[str, str]] = {
    "npy": {
        "numpy, mapped": """
import numpy as np
def run(path):
    whole = np.load(path, mmap_mode="r")
    for at in range(0, len(whole), 20_000):
        np.array(whole[at : at + 20_000])
""",
    },
    "csv": {
        "pyarrow": """
import pyarrow as pa, pyarrow.csv as csv
def run(path):
    for batch in csv.open_csv(path, csv.ReadOptions(use_threads=False)):
        pass
    return pa.default_memory_pool().max_memory()
""",
        "pandas chunks": """
import pandas as pd
def run(path):
    for frame in pd.read_csv(path, chunksize=20_000):
        pass
""",
        "polars": """
import polars as pl
def run(path):
    for frame in pl.scan_csv(path).collect_batches():
        pass
""",
        "duckdb": """
import duckdb
def run(path):
    for batch in duckdb.sql(f"set threads=1; from read_csv('{path}')").to_arrow_reader(20_000):
        pass
""",
    },
    "parquet": {
        "pyarrow, tuned": """
import pyarrow as pa, pyarrow.parquet as pq
def run(path):
    file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16)
    for batch in file.iter_batches(32_768, use_threads=False):
        pass
    return pa.default_memory_pool().max_memory()
""",
        "pyarrow": """
import pyarrow as pa, pyarrow.parquet as pq
def run(path):
    for batch in pq.ParquetFile(path).iter_batches(use_threads=False):
        pass
    return pa.default_memory_pool().max_memory()
""",
        "polars": """
import polars as pl
def run(path):
    for frame in pl.scan_parquet(path).collect_batches():
        pass
""",
        "duckdb": """
import duckdb
def run(path):
    for batch in duckdb.sql(f"set threads=1; from read_parquet('{path}')").to_arrow_reader(20_000):
        pass
""",
    },
}  # fmt: skip

PROGRAM = """
import json, resource, sys, time
{run}
run({small!r})
def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))
before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
began = time.process_time()
held = run({large!r})
seconds = time.process_time() - began
print(json.dumps([seconds, status("VmHWM") - before, held]))
"""


def one(python: str, run: str, folder: str, small: str, large: str) -> list[Any] | None:
    """Seconds, by how much memory grew, what was held; None: the tool is not there, or fails."""
    program = PROGRAM.format(run=run, small=os.path.join(folder, small), large=os.path.join(folder, large))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, env=environment)
    if done.returncode:
        told = done.stderr.strip().rpartition("\n")[2]
        if "No module named" not in told:
            print(f"{large}: {told}", file=sys.stderr)
        return None
    found: list[Any] = json.loads(done.stdout)
    return found


def measure(kind: str, file: str, options: argparse.Namespace, folder: str) -> dict[str, Any]:
    suffix = file + "." + kind
    size = os.path.getsize(os.path.join(folder, "large" + suffix))
    tools = {"raw read": (sys.executable, RAW)}
    for budget in options.budgets.split(","):
        for as_ in ("numpy",) if kind == "npy" else ("arrow", "numpy", "pandas"):
            prelude = f"BUDGET, AS = {budget!r}, {as_!r}\n"
            tools[f"bursar, {budget}, {as_}"] = (sys.executable, prelude + OURS)
    for name, run in TOOLS[kind].items():
        tools[name] = (options.python, run)
    runs: dict[str, list[list[Any]]] = {name: [] for name in tools}
    missing = set()
    for _ in range(options.repeats):
        for name, (python, run) in tools.items():
            if name not in missing:
                found = one(python, run, folder, "small" + suffix, "large" + suffix)
                missing |= {name} if found is None else set()
                runs[name] += [found] if found else []
    raw = [run[0] for run in runs["raw read"]]
    table: dict[str, Any] = {}
    for name, found in runs.items():
        if name in missing:
            table[name] = None
            continue
        table[name] = {
            "ratio": median(run[0] / base for run, base in zip(found, raw, strict=True)),
            "MB_per_s": size / median(run[0] for run in found) / 1e6,
            "peak_bytes": median(run[1] for run in found),
            "held_bytes": median(run[2] for run in found) if found[0][2] is not None else None,
        }
    return {"file_bytes": size, "tools": table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128, help="MB of the npy file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budgets", default="32 MiB,200 MiB")
    parser.add_argument("--python", default=sys.executable, help="where the peers are installed")
    parser.add_argument("--only", default="npy,csv,parquet,parquet-numbers,csv-grown,parquet-grown")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    every = {}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", MAKE, folder, str(options.size)], check=True)
        for name in options.only.split(","):
            kind, _, more = name.partition("-")
            every[name] = measure(kind, f"-{more}" if more else "", options, folder)
    if options.json:
        print(json.dumps(every, indent=1))
        return
    for name, found in every.items():
        print(f"\n{name}, {found['file_bytes'] / 1e6:.0f} MB; CPU time, medians of {options.repeats} in turn")
        print(f"{'':34} {'x raw':>7} {'MB/s':>7} {'peak':>9} {'held':>9}")
        for tool, row in found["tools"].items():
            if row is None:
                print(f"{tool:34} not installed, or failed")
                continue
            held = "" if row["held_bytes"] is None else f"{row['held_bytes'] / 2**20:.1f} MiB"
            peak = f"{row['peak_bytes'] / 2**20:.1f} MiB"
            print(f"{tool:34} {row['ratio']:7.2f} {row['MB_per_s']:7.0f} {peak:>9} {held:>9}")


if __name__ == "__main__":
    main()
