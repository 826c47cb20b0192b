"""Memory given back, and what that holds up: the first four rows of the table in docs/giving_back.md.

    bench/giving_back.py [--python P] [--pairs N] [--only idle,pause,workers] [--quick] [--format json]

Idle memory after eight threads served bodies of 1 kB to 20 MB (giving_back_load.py), with the C library's malloc as it
is, with its trim threshold, with jemalloc and tcmalloc where the system has them, and with a governor and the settings
of `bursar run --tune serving`, in turn; how long giving back may have held a request up; the longest collector's pause
inside a request; and what a forked worker costs.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROWS = ("idle", "pause", "workers")
SERVING = "glibc.malloc.arena_max=2:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=536870912"

# Requests that keep what they make, over many objects that live long.
PAUSE = """
import contextlib, gc, json, sys, time
how, objects, requests = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
gc.disable()
kept = [[number] for number in range(objects)]
gc.enable()
inside, longest, began, full = False, 0.0, 0.0, 0
def listen(phase, info):
    global longest, began, full
    if phase == "start":
        began = time.perf_counter()
    elif inside:
        longest = max(longest, time.perf_counter() - began)
        full += info["generation"] == 2
gc.callbacks.append(listen)
scope = None
if how == "governor":
    import bursar
    governor, scope = bursar.governor(), bursar.scope
elif how == "freeze":
    gc.collect()
    gc.freeze()
for request in range(requests):
    with scope("request") if scope else contextlib.nullcontext():
        inside = True
        kept.append([[number] for number in range(objects // 250)])
        cycle = [[] for _ in range(100)]
        for each in cycle: each.append(each)
        inside = False
    time.sleep(0.1 if request % 10 == 9 else 0.002)
print(json.dumps({"longest_s": longest, "full_inside": full, "callbacks": len(gc.callbacks)}))
"""

# 500 MB: objects, and an array. What a worker has for itself after one collection, and after 1,000 looks.
WORKERS = """
import array, gc, json, os, sys
how, objects = sys.argv[1], int(sys.argv[2])
gc.disable()
model = [{"weight": number, "names": [number, str(number)]} for number in range(objects)]
weights = array.array("d", bytes(8 * 33 * objects))
for at in range(0, len(weights), 512): weights[at] = 1.0
gc.enable()
def figures(pid="self"):
    sums = {"Private": 0, "Rss": 0}
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            words = line.split()
            name = words[0].rstrip(":").partition("_")[0]
            if name in sums: sums[name] += int(words[1]) * 1024
    return sums
size = figures()["Rss"]
if how == "prefork":
    import bursar
    bursar.prefork()
elif how == "freeze":
    gc.freeze()
(read, write), (wait, go) = os.pipe(), os.pipe()
def step():
    os.write(write, b".")
    os.read(wait, 1)
def other():
    os.read(read, 1)
    private = figures(pid)["Private"]  # from the parent: to look costs memory too
    os.write(go, b".")
    return private
pid = os.fork()
if not pid:
    gc.collect()
    step()
    total = 0
    for number in range(1000):
        one = model[number * 7919 % objects]
        total += one["names"][0] + weights[number * 1000]
    step()
    os._exit(0)
after, used = other(), other()
os.waitpid(pid, 0)
print(json.dumps({"model": size, "private": after, "grew": used - after}))
"""


def library(name: str) -> str:
    found = sorted(path for place in ("/usr/lib/*/", "/usr/lib/") for path in glob.glob(f"{place}{name}*"))
    return found[0] if found else ""


def ask(python: str, arguments: list[str], **env: str) -> dict[str, Any]:
    done = subprocess.run(
        [python, *arguments], env=os.environ | env, check=True, stdout=subprocess.PIPE, text=True, timeout=600
    )
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def idle(python: str, pairs: int, requests: int) -> dict[str, Any]:
    load = [str(HERE / "giving_back_load.py")]
    ways: dict[str, tuple[str, dict[str, str]]] = {
        "glibc": ("plain", {}),
        "glibc, trim threshold 128 KiB": ("plain", {"MALLOC_TRIM_THRESHOLD_": "131072"}),
        "jemalloc": ("plain", {"LD_PRELOAD": library("libjemalloc.so")}),
        "tcmalloc": ("plain", {"LD_PRELOAD": library("libtcmalloc")}),
        "serving alone": ("plain", {"GLIBC_TUNABLES": SERVING}),
        "governor alone": ("governed", {}),
        "governor and serving": ("governed", {"GLIBC_TUNABLES": SERVING}),
    }
    for setting in SERVING.split(":"):
        ways[f"governor and {setting.removeprefix('glibc.malloc.')}"] = ("governed", {"GLIBC_TUNABLES": setting})
    runs: dict[str, list[dict[str, Any]]] = {
        name: [] for name, (_, env) in ways.items() if env.get("LD_PRELOAD") != ""
    }
    for _ in range(pairs):
        for name in runs:
            how, env = ways[name]
            runs[name].append(ask(python, [*load, how, str(requests)], **env))
    base = runs["glibc"]
    table = {}
    for name, found in runs.items():
        cpu = [one["cpu_all_s"] / other["cpu_all_s"] for one, other in zip(found, base, strict=True)]
        rss = [one["idle"] / other["idle"] for one, other in zip(found, base, strict=True)]
        table[name] = {
            "idle_ratio": statistics.median(rss), "cpu_ratio": statistics.median(cpu),
            "cpu_range": [round(min(cpu), 3), round(max(cpu), 3)],
            "idle_bytes": statistics.median(one["idle"] for one in found),
            "longest_request_s": max(one["longest_s"] for one in found),
            **({"trims": sum(one["trims"] for one in found), "trim_s": sum(one["trim_s"] for one in found),
                "met_s": sum(one["met_s"] for one in found)} if "met_s" in found[0] else {}),
        }  # fmt: skip
    return table


def pause(python: str, pairs: int, objects: int, requests: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for _ in range(pairs):
        for how in ("plain", "freeze", "governor"):
            one = ask(python, ["-c", PAUSE, how, str(objects), str(requests)])
            held = table.setdefault(how, {"longest_s": [], "full_inside": []})
            held["longest_s"].append(one["longest_s"])
            held["full_inside"].append(one["full_inside"])
    return table


def workers(python: str, pairs: int, objects: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for _ in range(pairs):
        for how in ("plain", "freeze", "prefork"):
            one = ask(python, ["-c", WORKERS, how, str(objects)])
            held = table.setdefault(how, {"model": [], "private": [], "grew": []})
            for name, value in one.items():
                held[name].append(value)
    return table


def rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--only", default=",".join(ROWS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    quick = options.quick
    pairs, few = options.pairs or (2 if quick else 5), options.pairs or (1 if quick else 3)
    only = options.only.split(",")
    found: dict[str, Any] = {"python": sys.version.split()[0]}
    if "idle" in only:
        found["idle"] = idle(options.python, pairs, 60 if quick else 400)
    if "pause" in only:
        found["pause"] = pause(options.python, few, 1_000_000 if quick else 5_000_000, 150)
    if "workers" in only:
        found["workers"] = workers(options.python, few, 100_000 if quick else 750_000)
    if options.format == "json":
        print(json.dumps(found, indent=1))
        return
    for row, table in found.items():
        print(row, table if isinstance(table, str) else "")
        for name, facts in table.items() if isinstance(table, dict) else ():
            print(f"  {name}: {', '.join(f'{key} {rounded(value)}' for key, value in facts.items())}")


if __name__ == "__main__":
    main()
