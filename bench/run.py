"""`make bench`: what bursar and its peers cost, as ratios to no profiler, measured in turn on one machine.

Writes build/bench.json and docs/benchmarks.md. A part of it alone: --parts, --only, --tools, with --merge, which keeps
the rest of what was measured before. Nothing here asserts a speed; tests/python/test_work.py pins the work.
"""
from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import page
from measure import Run, median, run
from peers import (
    NONE,
    ROOT,
    TOOLS,
    TORCH,
    Tool,
    build_native,
    install_bursar,
    install_peers,
    install_torch,
    missing_of_the_system,
    versions,
)

WORKLOADS = {
    "json": "json_text.py",
    "trees": "trees.py",
    "both": "both.py",
    "calls": "calls.py",
    "threads": "threads.py",
    "numpy": "numpy_arrays.py",
    "pandas": "pandas_tables.py",
    "sklearn": "sklearn_forest.py",
    "deltablue": "pyperformance_deltablue.py",
    "async_tree": "pyperformance_async_tree.py",
    "logging": "pyperformance_logging.py",
    "native": "native_threads.py",
    "torch": "torch_inference.py",
}
NEEDS = {"native": "native.c", "torch": "torch"}  # what a workload cannot do without
PARTS = ("workloads", "instructions", "balance", "scopes", "secrets", "models", "services")
# One thread in the numeric libraries and fixed hashes: the same work in every run.
FIXED = {
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "LC_ALL": "C.UTF-8",
}
QUICK_SCALE = 0.1
TOOLS_PER_NONE = 2  # at most so many tools share the run without a profiler that stands before them
QUICK_BALANCE = 64 << 20
SMALL_BLOCK = 512  # bytes: what CPython serves from its pools


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Bench:
    """One measurement: where its files lie, how long a run may take, and which tools can run at all."""

    def __init__(self, options: argparse.Namespace, missing: dict[str, str]) -> None:
        self.options = options
        self.missing = missing
        self.venv: Path = options.work / "venv"
        self.scratch: Path = options.work / "run"
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        scale = QUICK_SCALE if options.quick else 1.0
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.env = {**keep, **FIXED, "BENCH_SCALE": str(scale), "BURSAR_DIR": str(self.scratch / "ledgers")}
        self.env["BENCH_NATIVE"] = str(options.work / "native.so")
        self.env["BENCH_TORCH"] = str(options.work / "torch")

    def tools(self, workload: str) -> list[Tool]:
        wanted = [TOOLS[name] for name in self.options.tools if TOOLS[name].package not in self.missing]
        return [tool for tool in wanted if not tool.only or workload in tool.only]

    def capture(self, tool: Tool) -> Path:
        return self.scratch / f"{tool.name}.capture"

    def run(self, tool: Tool, script: Path) -> Run:
        capture = self.capture(tool)
        for left in self.scratch.glob(f"{capture.name}*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        command = tool.command(self.venv, capture, script)
        return run(command, self.env, self.scratch / "log", self.options.timeout)

    def workload(self, name: str) -> dict[str, Any]:
        """All pairs of one workload, tools in turn, then what can be read out of the last captures."""
        script = ROOT / "bench" / "workloads" / WORKLOADS[name]
        tools = self.tools(name)
        cells = {tool.name: new_cell() for tool in tools}
        nones: list[Run] = []
        answer = ""
        for pair in range(self.options.pairs):
            since_none = TOOLS_PER_NONE
            for tool in tools:
                cell = cells[tool.name]
                if cell["failure"] or (not tool.every_pair and cell["spent_s"] > self.options.cell_seconds):
                    continue
                if since_none >= TOOLS_PER_NONE:
                    nones.append(self.run(NONE, script))
                    if not nones[-1].ok:
                        raise SystemExit(f"bench: {name} fails without a profiler: {nones[-1].failure}")
                    answer = answer or nones[-1].output.strip()
                    since_none = 0
                since_none += 1
                self.one(name, pair, tool, script, cell, nones[-1], answer)
        result: dict[str, Any] = {"script": WORKLOADS[name], "none": summary_of_nones(nones), "cells": cells}
        for tool in tools:
            self.read_capture(tool, cells[tool.name])
            finish_cell(cells[tool.name])
        result["allocations"] = cells.get("ours", {}).get("allocations")
        return result

    def one(self, name: str, pair: int, tool: Tool, script: Path, cell: dict[str, Any], none: Run, answer: str) -> None:
        outcome = self.run(tool, script)
        if outcome.ok and answer not in outcome.output:
            outcome = Run(0.0, 0.0, 0, "", f"the program's answer was not '{answer}'")
        cell["spent_s"] += outcome.wall_s
        if not outcome.ok:
            cell["failure"] = outcome.failure
            say(f"  {name:<11}{tool.name:<22}{outcome.failure}")
            return
        cell["ratios"].append(outcome.cpu_s / none.cpu_s)
        cell["added"].append(outcome.peak_bytes - none.peak_bytes)
        say(
            f"  {name:<11}{tool.name:<22}pair {pair + 1}: {outcome.cpu_s:6.2f} s against {none.cpu_s:5.2f} s ="
            f" {cell['ratios'][-1]:5.2f}, {cell['added'][-1] / 2**20:+7.1f} MiB"
        )

    def read_capture(self, tool: Tool, cell: dict[str, Any]) -> None:
        """The capture's size, the CPU seconds of its flamegraph, and the allocations that it counted."""
        capture = self.capture(tool)
        if not tool.report or not cell["ratios"] or not capture.is_file():
            return
        cell["capture_bytes"] = capture.stat().st_size
        page_file = self.scratch / f"{tool.name}.html"
        page_file.unlink(missing_ok=True)
        made = run(tool.report_command(self.venv, capture, page_file), self.env, self.scratch / "log", 300)
        cell["report_s"] = made.cpu_s if made.ok else None
        cell["report_failure"] = made.failure
        if tool.name == "ours":
            cell.update(self.facts(capture))
        capture.unlink()

    def facts(self, ledger: Path) -> dict[str, Any]:
        """What the ledger itself says was paid for, and the small blocks that were live at the peak."""
        command = [str(self.venv / "bin" / "bursar"), "report", str(ledger), "--format", "json"]
        result = subprocess.run(command, env=self.env, capture_output=True, check=False)
        if result.returncode != 0:
            return {"report_failure": result.stderr.decode("utf-8", "replace").strip()}
        facts = json.loads(result.stdout)
        small = sum(
            site["peak_bytes"]
            for site in facts["sites"]
            if site["peak_blocks"] and site["peak_bytes"] <= SMALL_BLOCK * site["peak_blocks"]
        )
        wanted = ("allocations", "frees", "allocated_bytes", "peak_bytes", "complete", "folded_sites")
        return {**{key: facts[key] for key in wanted}, "small_blocks_at_peak_bytes": small}


def new_cell() -> dict[str, Any]:
    return {"ratios": [], "added": [], "spent_s": 0.0, "failure": ""}


def summary_of_nones(nones: Sequence[Run]) -> dict[str, Any]:
    if not nones:
        return {"runs": 0}
    seconds = [one.cpu_s for one in nones]
    middle = median(seconds)
    return {
        "runs": len(nones),
        "cpu_s": middle,
        "low": min(seconds) / middle,
        "high": max(seconds) / middle,
        "peak_bytes": median([one.peak_bytes for one in nones]),
    }


def finish_cell(cell: dict[str, Any]) -> None:
    cell["pairs"] = len(cell["ratios"])
    if cell["ratios"]:
        cell["median"] = median(cell["ratios"])
        cell["low"], cell["high"] = min(cell["ratios"]), max(cell["ratios"])
        cell["added_bytes"] = median(cell["added"])


def machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_bytes": pages,
        "kernel": f"{platform.system()} {platform.release()}",
        "system": system,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def revision() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    except FileNotFoundError:  # no git
        return "unknown"
    return result.stdout.strip() or "unknown"


def names(choices: Sequence[str], what: str) -> Any:
    def read(text: str) -> list[str]:
        wanted = [part.strip() for part in text.split(",") if part.strip()]
        unknown = [part for part in wanted if part not in choices]
        if unknown or not wanted:
            raise argparse.ArgumentTypeError(f"no such {what}: '{', '.join(unknown)}'; there are {', '.join(choices)}")
        return [choice for choice in choices if choice in wanted]

    return read


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/run.py", description=(__doc__ or "").splitlines()[0])
    workloads, tools = list(WORKLOADS), list(TOOLS)
    parser.add_argument("--parts", type=names(PARTS, "part"), default=list(PARTS), metavar="PART,…")
    parser.add_argument("--only", type=names(workloads, "workload"), default=workloads, metavar="WORKLOAD,…")
    parser.add_argument("--tools", type=names(tools, "tool"), default=tools, metavar="TOOL,…")
    parser.add_argument("--pairs", type=int, default=5, help="pairs for each tool (5)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, one pair: to see that it runs")
    parser.add_argument("--timeout", type=float, default=75, help="seconds after which one run is given up (75)")
    parser.add_argument("--cell-seconds", type=float, default=10, help="no more pairs of a peer after so many (10)")
    parser.add_argument("--merge", action="store_true", help="keep what build/bench.json holds and is not measured now")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="where peers and captures go")
    options = parser.parse_args(arguments)
    options.work = options.work.resolve()
    if options.quick:
        options.pairs = 1
    if options.pairs < 1:
        parser.error("--pairs: at least 1")
    return options


def script(bench: Bench, name: str, *arguments: str) -> dict[str, Any]:
    """What bench/NAME.py measures by itself."""
    command = [str(bench.venv / "bin" / "python"), str(ROOT / "bench" / f"{name}.py"), "--format", "json", *arguments]
    result = subprocess.run(command, env=bench.env, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        return {"failure": (result.stderr.strip().splitlines() or ["no output"])[-1]}
    measured: dict[str, Any] = json.loads(result.stdout)
    return measured


def models(options: argparse.Namespace) -> dict[str, Any]:
    """What bench/models.py measures, with peers of its own; it says when and on what."""
    found = options.work / "models.json"
    how = ["--json", str(found), "--work", str(options.work), "--pairs", str(options.pairs)]
    command = [sys.executable, str(ROOT / "bench" / "models.py"), *how, *(["--quick"] if options.quick else [])]
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit("bench: the models' part failed")
    measured: dict[str, Any] = json.loads(found.read_text())
    return measured


def services(options: argparse.Namespace) -> dict[str, Any]:
    """What bench/services.py measures, in the checkout's own environment, which has what services are made of."""
    how = ["--format", "json", "--pairs", str(options.pairs), *(["--quick"] if options.quick else [])]
    command = [sys.executable, str(ROOT / "bench" / "services.py"), *how]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit("bench: the services' part failed")
    measured: dict[str, Any] = json.loads(result.stdout)
    return measured


def profilers(options: argparse.Namespace, result: dict[str, Any], output: Path) -> None:
    """All parts but those of models and services."""
    say("bench: installing the peers")
    missing = {**install_peers(options.work / "venv"), **missing_of_the_system()}
    for name, reason in (
        ("native.c", build_native(options.work / "native.so")),
        ("torch", install_torch(options.work / "venv", options.work / "torch")),
    ):
        if reason:
            missing[name] = reason
    if any(TOOLS[name].package == "bursar" for name in options.tools):
        say("bench: building and installing bursar from this checkout")
        reason = install_bursar(options.work / "venv", options.work)
        if reason:
            missing["bursar"] = reason
    for package, reason in missing.items():
        say(f"bench: {package} is missing: {reason}")
    bench = Bench(options, missing)
    installed = versions(bench.venv)
    if "torch" not in missing:
        installed["torch"] = TORCH.partition("==")[2]
    wanted = {"bursar", "memray", "scalene", "filprofiler", "ddtrace", "pyperformance"}
    wanted |= {"numpy", "pandas", "scikit-learn", "torch"}
    result.update(
        machine=machine(),
        versions={name: installed[name] for name in sorted(wanted) if name in installed},
        revision=revision(),
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        options={"pairs": options.pairs, "quick": options.quick, "timeout_s": options.timeout},
        missing=missing,
        tools={name: TOOLS[name].label for name in TOOLS},
    )
    for name in options.only if "workloads" in options.parts else []:
        if NEEDS.get(name) in missing:
            continue
        measured = bench.workload(name)
        before = result["workloads"].get(name)
        if before is not None:  # only with --merge: the cells of the tools that were not run now stay
            measured["cells"] = {**before["cells"], **measured["cells"]}
            measured["allocations"] = measured["allocations"] or before["allocations"]
        result["workloads"][name] = measured
        output.write_text(json.dumps(result, indent=1) + "\n")
    if "instructions" in options.parts and "bursar" not in missing:
        say("bench: counting instructions under callgrind")
        result["instructions"] = script(bench, "instructions")
    if "balance" in options.parts and "bursar" not in missing:
        say("bench: balances")
        size = str(QUICK_BALANCE if options.quick else 1 << 30)
        result["balance"] = script(bench, "balance", "--bytes", size)
    if "scopes" in options.parts and "bursar" not in missing:
        say("bench: scopes")
        result["scopes"] = script(bench, "scopes", "--pairs", str(options.pairs), "--work", str(options.work))
    if "secrets" in options.parts and "bursar" not in missing:
        say("bench: the vault, the scan")
        result["vault"] = script(bench, "vault")
        result["scan"] = script(bench, "scan", "--size", str(QUICK_BALANCE if options.quick else 1 << 30))
    shutil.rmtree(bench.scratch, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    started = time.monotonic()
    options.work.mkdir(parents=True, exist_ok=True)
    output = options.work.parent / "bench.json"
    result: dict[str, Any] = {"schema": 1, "workloads": {}}
    if options.merge and output.is_file():
        result = json.loads(output.read_text())
    if set(options.parts) - {"models", "services"} or "machine" not in result:
        profilers(options, result, output)
    if "models" in options.parts:
        say("bench: models")
        result["models"] = models(options)
    if "services" in options.parts:
        say("bench: services")
        result["services"] = services(options)
    result["seconds"] = round(time.monotonic() - started)
    output.write_text(json.dumps(result, indent=1) + "\n")
    target = options.work.parent / "benchmarks.md" if options.quick else ROOT / "docs" / "benchmarks.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page.render(result))
    say(f"bench: {result['seconds']} s; wrote {os.path.relpath(output)} and {os.path.relpath(target)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
