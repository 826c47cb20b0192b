"""What a balance takes and what it leaves unexplained, and what it takes to read a process's counters.

Runs under the interpreter that bursar is installed for, beside NumPy, pandas, scikit-learn and torch where those are.
Prints JSON. BENCH_NATIVE names the library made of workloads/native.c, BENCH_TORCH the folder of torch. A balance reads
smaps, and the kernel looks at each resident page for that: the time of this reading alone stands beside each figure.
"""
from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BURSAR = Path(sys.executable).parent / "bursar"
REPEATS = 9
OUTSIDE = 5

# A gigabyte in a process that has another thread, as most have; it rests while it is looked at from outside.
LARGE = """
import bursar, ctypes, json, sys, threading, time
kind, size, library, repeats = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
if kind == "objects":
    kept = [b"%0400d" % number for number in range(size // 448)]
elif kind == "arrays":
    import numpy
    kept = [numpy.ones(1 << 17) for _ in range(size >> 20)]
else:
    fill = ctypes.CDLL(library).native_fill
    fill.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
    fill(size // 1008, 1000)
wait = threading.Event()
threading.Thread(target=wait.wait, daemon=True).start()

def times(action):
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = action()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[repeats // 2] * 1e3, result

def smaps():
    with open("/proc/self/smaps", "rb", buffering=1 << 16) as file:
        while file.read(1 << 16):
            pass

balance_ms, balance = times(bursar.balance)
smaps_ms, _ = times(smaps)
facts = {"balance_ms": balance_ms, "smaps_ms": smaps_ms, "rss_bytes": balance.rss_bytes}
facts["unexplained"] = balance.unexplained_bytes / balance.rss_bytes
print(json.dumps(facts), flush=True)
sys.stdin.read()
"""

# Looks while it works, from another thread, and once more when it ends.
EXPLAINED = """
import atexit, bursar, importlib, json, os, sys, threading
sys.path.append(os.environ.get("BENCH_TORCH", ""))
module = sys.argv[1]
shares = {"running": [], "end": []}

def look(when):
    balance = bursar.balance()
    shares[when].append(balance.unexplained_bytes / balance.rss_bytes)

def at_end():
    look("end")
    print(json.dumps({when: max(values) for when, values in shares.items()}), flush=True)

def interpreter():
    return {str(number): [number] for number in range(200_000)}

def numpy():
    import numpy
    for _ in range(20):
        numpy.random.default_rng(1).random((700, 700)) @ numpy.ones((700, 700))

def pandas():
    import pandas
    frame = pandas.DataFrame({"key": [number % 100 for number in range(200_000)], "value": range(200_000)})
    for _ in range(10):
        frame.groupby("key")["value"].agg(["sum", "mean"]).merge(frame, on="key")

def sklearn():
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    x, y = make_classification(n_samples=2000, random_state=3)
    RandomForestClassifier(n_estimators=40, random_state=3).fit(x, y)

def torch():
    import torch
    net = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
    best = torch.optim.Adam(net.parameters())
    for _ in range(40):
        best.zero_grad()
        torch.nn.functional.cross_entropy(net(torch.randn(64, 256)), torch.randint(0, 10, (64,))).backward()
        best.step()

atexit.register(at_end)
done = threading.Event()

def watch():
    look("running")
    while not done.wait(0.05):
        look("running")

if module != "interpreter":
    importlib.import_module(module)
watcher = threading.Thread(target=watch)
watcher.start()
kept = globals()[module]()
done.set()
watcher.join()
"""


def run(work: Path, domains: str, program: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [str(BURSAR), "run", "-f", "-o", str(work / "it.bursar"), "--domains", domains, "-c", program, *arguments]
    env = {**os.environ, "BURSAR_DIR": str(work / "ledgers"), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=work
    )


def first_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        said = process.communicate()[1].strip().splitlines() or ["no output"]
        return {"failure": said[-1]}
    facts: dict[str, Any] = json.loads(line)
    return facts


def outside(pid: int) -> float:
    """Milliseconds of `bursar balance PID`, its own start included."""
    taken = []
    for _ in range(OUTSIDE):
        began = time.perf_counter()
        subprocess.run([str(BURSAR), "balance", str(pid), "--format", "json"], stdout=subprocess.DEVNULL, check=True)
        taken.append((time.perf_counter() - began) * 1e3)
    return median(taken)


def large(work: Path, kind: str, domains: str, size: int, native: str) -> dict[str, Any]:
    process = run(work, domains, LARGE, kind, str(size), native, str(REPEATS))
    with process:
        facts = first_line(process)
        if "failure" not in facts:
            facts["outside_ms"] = outside(process.pid)
        process.communicate("")
    return facts


def explained(work: Path, module: str, domains: str) -> dict[str, Any]:
    with run(work, domains, EXPLAINED, module) as process:
        return first_line(process)


def counters(work: Path, core: Path) -> dict[str, Any]:
    """Nanoseconds of bench/counters.c."""
    program = work / "counters"
    compiler = shutil.which("gcc") or shutil.which("cc") or "cc"
    made = subprocess.run(
        [compiler, "-O2", "-D_GNU_SOURCE", "-I", str(ROOT / "src"), "-o", str(program)]
        + [str(ROOT / "bench" / "counters.c"), str(core), "-lm"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        return {"failure": (made.stderr.strip().splitlines() or ["the compiler failed"])[-1]}
    with run(work, "python", "print('{}', flush=True); input()") as process:
        first_line(process)
        said = subprocess.run([str(program), str(process.pid)], capture_output=True, text=True, check=True).stdout
        process.communicate("\n")
    each, cold = map(float, said.split())
    return {"read_ns": each, "open_ns": cold}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/balance.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--format", choices=["json"], default="json")
    parser.add_argument("--bytes", type=int, default=1 << 30, help="how large the large processes are (1 GiB)")
    options = parser.parse_args()
    native = os.environ.get("BENCH_NATIVE", "")
    series = "{}{}".format(*sys.version_info[:2])
    result: dict[str, Any] = {"bytes": options.bytes, "large": {}, "explained": {}}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        result["counters"] = counters(work, ROOT / "build" / f"cp{series}" / "src" / "libbursar_core.a")
        for domains in ("python", "all"):
            for kind in ("objects", "arrays", *(["blocks"] if native else [])):
                result["large"][f"{kind}, {domains}"] = large(work, kind, domains, options.bytes, native)
            for module in ("interpreter", "numpy", "pandas", "sklearn", "torch"):
                result["explained"][f"{module}, {domains}"] = explained(work, module, domains)
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
