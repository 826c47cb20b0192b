"""The example services (examples/service) under wrk, with bursar and without, in turn: each figure from such a run.

    bench/services.py [--python P] [--pairs N] [--only flood,cost,idle,pause,workers,verdict] [--quick] [--format json]

flood: one request in fifty wants 2 GB; who is refused, how far a budget was overshot, and what the kernel does with the
service alone, where a control group of 1 GB can be made.  cost: CPU of honest requests.  idle: memory after a mixed
load and a rest.  pause: the collector's longest inside a request, among a million objects.  workers: what each of
gunicorn's has for itself.  verdict: calls until a leak of 200 bytes is told, and what is said of a clean service.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "python"))
import serving  # noqa: E402
from serving import load  # noqa: E402

MIB = 1 << 20
GIGABYTE = 1_000_000_000
START = "import bursar\nfrom app import app\nbursar.start('sample', domains='all')\n"
SCOPES = START + "from bursar.asgi import ScopeMiddleware\n"
APPS = {
    "plain": "from app import app\n",
    "books": START,
    "scopes": SCOPES + "app.add_middleware(ScopeMiddleware)\n",
    "budgets": SCOPES + "app.add_middleware(ScopeMiddleware, hard='64 MiB')\n",
    "governed": "from governed import app, governor\n",
}
# What is asked for at the end: of all collections, and of those inside a request as the governor knows them.
FIGURES = """
import gc, time
kept = [[number] for number in range(OBJECTS)]
longest, began = 0.0, 0.0
def listen(phase, info):
    global longest, began
    if phase == "start": began = time.perf_counter()
    else: longest = max(longest, time.perf_counter() - began)
gc.collect()
gc.callbacks.append(listen)
@app.get("/figures")
def figures() -> dict[str, float]:
    inside = globals().get("governor")
    if inside is None: return {"longest_s": longest}
    return {"longest_s": longest, "longest_inside_s": inside.longest_pause_in_scope or 0.0,
            "full_inside": inside.full_in_scope}
"""
LEAK = """\
import model
kept, predict = [], model.predict
def leaks(rows, copies):
    kept.append(bytes(167))
    return predict(rows, copies)
model.predict = leaks
"""
CONF = """\
import bursar, gc
workers, preload_app = 3, True
model = [{"weight": number, "names": [number, str(number)]} for number in range(250_000)]  # 100 MB
def when_ready(server):
    if PREFORK: bursar.prefork()
def post_fork(server, worker):
    if BOOKS: bursar.start("sample", domains="all")
    gc.collect()  # sooner or later there is one
"""


class Bench:
    def __init__(self, python: str, quick: bool) -> None:
        self.python, self.quick = python, quick
        self.command = str(Path(python).parent / "bursar")
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.env = {**keep, "PYTHONHASHSEED": "0"}
        self.made = 0
        self.root = Path(tempfile.mkdtemp(prefix="bursar-bench-"))
        self.requests = serving.write_requests("fastapi", python, self.root, self.env)

    def some(self, fewer: int, whole: int) -> int:
        return fewer if self.quick else whole

    @contextlib.contextmanager
    def serve(
        self, kind: str, files: dict[str, str] | None = None, **options: Any
    ) -> Iterator[tuple[serving.Service, Path]]:
        self.made += 1
        folder = self.root / str(self.made)
        (folder / "ledgers").mkdir(parents=True, mode=0o700)
        for name, text in (files or {}).items():
            (folder / name).write_text(text)
        with serving.serving(kind, self.python, folder, self.env, **options) as service:
            yield service, folder

    def app(self, text: str, **options: Any) -> contextlib.AbstractContextManager[tuple[serving.Service, Path]]:
        return self.serve("fastapi", {"served.py": text}, app="served:app", **options)

    def send(self, service: serving.Service, total: int, every: int = 0, connections: int = 8, **more: Any) -> Any:
        requests = more.pop("requests", self.requests)
        return load.flood(service.url, requests, total, every, connections=connections, seconds=900, **more)

    def books(self, folder: Path) -> list[dict[str, Any]]:
        said = []
        for ledger in sorted((folder / "ledgers").iterdir()):
            done = subprocess.run(
                [self.command, "report", str(ledger), "--format", "json"], capture_output=True, check=True
            )
            said.append(json.loads(done.stdout))
        return said


# --- a flood ----------------------------------------------------------------------------------------------------------


def over(books: list[dict[str, Any]], last: str) -> int:
    """Bytes beyond its limit that an entry held; below 0 where it stayed so far beneath."""
    peaks = [one["peak_max_bytes"] for book in books for one in book["scopes"] if one["name"].endswith(last)]
    return max(peaks, default=0) - serving.HARD


def flood(bench: Bench) -> dict[str, Any]:
    total = bench.some(1000, 20_000)
    table: dict[str, Any] = {}
    for kind in ("fastapi", "torch", "pool", "gunicorn"):
        if not all(map(serving.find_spec, serving.KINDS[kind][0])):
            continue
        requests = serving.write_requests(kind, bench.python, bench.root, bench.env)
        with bench.serve(kind) as (service, folder):
            while kind == "gunicorn" and len(service.workers) < 3:
                time.sleep(0.02)
            pids = [service.pid, *(service.workers if kind == "gunicorn" else [])]
            before = sum(serving.status_bytes(pid, "VmHWM") for pid in pids)
            counts = bench.send(service, total, 50, requests=requests)
            most = sum(serving.status_bytes(pid, "VmHWM") for pid in pids)
            alive = service.process.poll() is None
        books = bench.books(folder)
        table[kind] = {
            **{name: counts[name] for name in ("sent_honest", "right", "wrong", "sent_absurd", "refused")},
            "alive": alive, "over_refusable_bytes": over(books, "predict"), "over_small_bytes": over(books, "explain"),
            "grown_bytes": most - before, "longest_ms": counts["longest_ms"],
        }  # fmt: skip
    bench.requests = serving.write_requests("fastapi", bench.python, bench.root, bench.env)
    for kind in ("plain", "fastapi"):
        with group() as place:
            if place is None:
                break
            before = ("sh", "-c", f'echo $$ > {place}/cgroup.procs && exec "$@"', "sh", bench.python)
            with bench.serve(kind, before=before) as (service, _):
                counts = bench.send(service, total, 50, server=service.process)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    service.process.wait(1)
                killed = service.process.poll() == -9
            table[f"{kind}, in a gigabyte"] = {"killed": killed} | {
                name: counts[name] for name in ("sent_honest", "right", "wrong", "sent_absurd", "refused")
            }
    return table


@contextlib.contextmanager
def group() -> Iterator[Path | None]:
    """A control group of version 1 with 1 GB, where one can be made."""
    place = Path("/sys/fs/cgroup/memory") / f"bursar-bench-{os.getpid()}"
    try:
        place.mkdir()
        for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"):
            if (place / name).exists():
                (place / name).write_text(str(GIGABYTE))
    except OSError:
        yield None
        return
    try:
        yield place
    finally:
        for _ in range(500):
            with contextlib.suppress(OSError):
                place.rmdir()
                break
            time.sleep(0.02)


# --- what it costs ----------------------------------------------------------------------------------------------------


def cost(bench: Bench, pairs: int) -> dict[str, Any]:
    """CPU seconds of the same honest requests, after a warm-up; in turn, as ratios to what is before it and to none."""
    total = bench.some(1500, 10_000)
    took: dict[str, list[float]] = {name: [] for name in APPS}
    for _ in range(pairs):
        for name, text in APPS.items():
            with bench.app(text) as (service, _folder):
                bench.send(service, 500)
                before = serving.cpu_s(service.pid)
                bench.send(service, total)
                took[name].append((serving.cpu_s(service.pid) - before) / total)
    table = {}
    for name, seconds in took.items():
        of = {"plain": "plain", "books": "plain", "scopes": "books", "budgets": "scopes", "governed": "budgets"}[name]
        ratios = {
            against: [a / b for a, b in zip(seconds, took[against], strict=True)] for against in ("plain", of)
        }
        table[name] = {"us_a_request": statistics.median(seconds) * 1e6} | {
            f"to_{against}": [round(value, 3) for value in (statistics.median(all), min(all), max(all))]
            for against, all in ratios.items()
        }
    return table


def mixed(bench: Bench) -> Path:
    """Honest requests over arrays of 0.5 kB to 20 MB."""
    made = bench.requests.read_text().splitlines()
    lines = []
    for number, line in enumerate(line for line in made if line.startswith("honest\t/predict")):
        kind, path, body, answer = line.split("\t")
        asked = json.loads(body)
        rows = asked["rows"][:1]
        asked |= {"rows": rows, "copies": (1, 30, 1000, 40_000)[number % 4]}
        code = f"import model; print(model.predict({rows!r}, {asked['copies']}))"
        env = serving.environment_of("fastapi", bench.root, bench.env)
        digits = subprocess.run([bench.python, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
        lines.append(f"{kind}\t{path}\t{json.dumps(asked)}\t" + '"digits":' + digits.strip().replace(" ", ""))
    path_ = bench.root / "mixed"
    path_.write_text("\n".join(lines) + "\n")
    return path_


def idle(bench: Bench, pairs: int) -> dict[str, Any]:
    total = bench.some(400, 4000)
    requests = mixed(bench)
    serving_tuned = (bench.command, "run", "--mode", "sample", "--domains", "all", "--tune", "serving")
    ways: dict[str, tuple[str, tuple[str, ...]]] = {
        "plain": ("plain", ()), "governed": ("governed", ()), "governed, --tune serving": ("governed", serving_tuned)
    }  # fmt: skip
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(pairs):
        for name, (app, before) in ways.items():
            with bench.app(APPS[app], before=before) as (service, _folder):
                start = serving.status_bytes(service.pid, "VmRSS")
                cpu = serving.cpu_s(service.pid)
                assert bench.send(service, total, requests=requests)["right"] == total
                time.sleep(3)
                found[name].append({
                    "start": start, "peak": serving.status_bytes(service.pid, "VmHWM"),
                    "idle": serving.status_bytes(service.pid, "VmRSS"), "cpu_s": serving.cpu_s(service.pid) - cpu,
                })  # fmt: skip
    base = found["plain"]
    return {
        name: {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        | {
            "idle_grown_ratio": statistics.median(
                (one["idle"] - one["start"]) / max(other["idle"] - other["start"], 1)
                for one, other in zip(runs, base, strict=True)
            ),
            "cpu_ratio": statistics.median(a["cpu_s"] / b["cpu_s"] for a, b in zip(runs, base, strict=True)),
        }
        for name, runs in found.items()
    }


def pause(bench: Bench) -> dict[str, Any]:
    table = {}
    for name in ("plain", "governed"):
        text = APPS[name] + FIGURES.replace("OBJECTS", str(1_000_000))
        with bench.app(text) as (service, _folder):
            bench.send(service, bench.some(2000, 20_000))
            with urllib.request.urlopen(f"{service.url}/figures") as answer:
                table[name] = json.load(answer)
    return table


# --- workers ----------------------------------------------------------------------------------------------------------


def workers(bench: Bench) -> dict[str, Any]:
    """Of each of three workers, its private memory when it has begun, and what 1,000 predictions each add."""
    import bursar

    table = {}
    for name, settings in {
        "preload alone": (False, False), "prefork()": (True, False), "prefork(), books": (True, True),
    }.items():  # fmt: skip
        text = CONF.replace("PREFORK", str(settings[0])).replace("BOOKS", str(settings[1]))
        program = ("-m", "gunicorn", "--config", "conf.py", "--bind", "127.0.0.1:PORT", "wsgi:application")
        with bench.serve("gunicorn", {"conf.py": text}, program=program) as (service, _folder):
            while len(pids := service.workers) < 3:
                time.sleep(0.02)
            time.sleep(1)  # until they wait for requests: what they do before is theirs too
            before = [bursar.shared(pid) for pid in pids]
            bench.send(service, 4000)
            after = [bursar.shared(pid) for pid in pids]
        table[name] = {
            "rss_bytes": statistics.median(one.rss_bytes for one in before),
            "private_bytes": statistics.median(one.private_bytes for one in before),
            "grown_bytes": statistics.median(
                late.private_bytes - early.private_bytes for early, late in zip(before, after, strict=True)
            ),
        }
    return table


# --- verdicts ---------------------------------------------------------------------------------------------------------


def told(bench: Bench, service: serving.Service, folder: Path, scope: str, total: int, connections: int) -> Any:
    sent = 0
    while sent < total:
        bench.send(service, 1000, connections=connections)
        sent += 1000
        [ledger] = (folder / "ledgers").iterdir()
        found = serving.verdicts(bench.command, ledger).get(scope, {})
        if found.get("leaks") and found["sites"]:
            return {"alarm_calls": found["alarm_calls"], "site": found["sites"][0]["stack"][0]["line"]}
    return {"alarm_calls": None, "after": sent, "lower": found.get("lower"), "upper": found.get("upper")}


def verdict(bench: Bench) -> dict[str, Any]:
    most = bench.some(5000, 80_000)
    pool = f"import leaky, runpy; runpy.run_path({str(serving.EXAMPLE / 'pool.py')!r}, run_name='__main__')"
    table = {}
    for connections in (1, 8):
        program = ("-c", pool, "PORT")
        with bench.serve("pool", {"leaky.py": LEAK}, program=program) as (service, folder):
            found = told(bench, service, folder, "predict", most, connections)
            table[f"leak of 200 bytes, pool, {connections} at once"] = found
    files = {"leaky.py": LEAK, "served.py": "import leaky\n" + APPS["governed"]}
    with bench.serve("fastapi", files, app="served:app") as (service, folder):
        table["leak of 200 bytes, FastAPI, 8 at once"] = told(bench, service, folder, "POST /predict", most, 8)
    total = bench.some(20_000, 200_000)
    with bench.serve("fastapi") as (service, folder):
        rss = []
        for _ in range(10):
            bench.send(service, total // 10)
            rss.append(serving.status_bytes(service.pid, "VmRSS"))
        [ledger] = (folder / "ledgers").iterdir()
        said = serving.verdicts(bench.command, ledger)
    table[f"clean, {total} requests"] = {
        "said": {name: one["leaks"] for name, one in said.items()},
        "alarms": sum(one["alarm_calls"] is not None for one in said.values()),
        "rss_first_half": max(rss[:5]), "rss_second_half": max(rss[5:]),
    }  # fmt: skip
    return table


ROWS = ("flood", "cost", "idle", "pause", "workers", "verdict")


def measure(bench: Bench, only: list[str], pairs: int) -> dict[str, Any]:
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "flood": lambda: flood(bench), "cost": lambda: cost(bench, pairs), "idle": lambda: idle(bench, pairs),
        "pause": lambda: pause(bench), "workers": lambda: workers(bench), "verdict": lambda: verdict(bench),
    }  # fmt: skip
    found: dict[str, Any] = {"python": sys.version.split()[0]}
    for name in only:
        print(f"bench: services, {name}", file=sys.stderr, flush=True)
        found[name] = parts[name]()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--only", default=",".join(ROWS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    bench = Bench(options.python, options.quick)
    try:
        found = measure(bench, options.only.split(","), options.pairs or (1 if options.quick else 5))
    finally:
        shutil.rmtree(bench.root)
    if options.format == "json":
        print(json.dumps(found, indent=1))
        return
    for row, table in found.items():
        print(row, table if isinstance(table, str) else "")
        for name, facts in table.items() if isinstance(table, dict) else ():
            print(f"  {name}: {', '.join(f'{key} {value}' for key, value in facts.items())}")


if __name__ == "__main__":
    main()
