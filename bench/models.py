"""What it costs to save, load, pack and seal models: bursar's ways and those that people have, in turn on one machine.

    bench/models.py [--json OUT] [--only ROW,…] [--pairs N] [--quick] [--python P]

CPU time as ratios to a plain read or write of the same bytes, or as bytes by it; peak memory above the model's own
size, each run in a process of its own (models_run.py), files warm in the page cache. Without --python the peers
(models-requirements.txt) and bursar from this checkout are installed below build/; what would not install is 'not
installed' in its place.
"""
from __future__ import annotations

import argparse
import filecmp
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import models_page
from measure import Run, median, run
from peers import ROOT, install_bursar, install_peers, versions
from run import FIXED, machine, names, new_cell, revision, say

REQUIREMENTS = ROOT / "bench" / "models-requirements.txt"
ROWS = ("save", "copied", "mapped", "first", "small", "packed", "sealed", "forest", "stream")
# What a way needs, by how it is called up to a comma or a point.
NEEDS = {
    "joblib": "joblib", "h5py": "h5py", "torch": "torch", "safetensors": "safetensors", "zipnn": "zipnn", "age": "age",
    "blosc2": "blosc2", "skops": "skops", "pyrage": "pyrage", "Fernet": "cryptography", "limit": "cryptography",
}  # fmt: skip
STREAMED = ("pyarrow", "pandas", "polars", "duckdb")
PACKAGES = ("bursar", "numpy", "sklearn", "ml_dtypes", *sorted({*NEEDS.values()} - {"age"}), *STREAMED)
# arrays, numbers in each: 468 MB of tensors of 4 MB, and as much in 50,000 arrays
SIZES = {"float32": (117, 1_000_000), "small": (50_000, 2340), "bfloat16": (117, 1_000_000), "forest": (20_000, 157)}
QUICK = {"float32": (3, 100_000), "small": (100, 234), "bfloat16": (3, 100_000), "forest": (300, 5)}

KEPT = ("pickle 5", "pickle out-of-band", "joblib", "h5py", "npz", "torch.save", "safetensors", "bursar")
SAVED = ("raw and fsync", *KEPT, "bursar, from an iterator")
COPIED = ("raw, array by array", *KEPT)
MAPPED = ("pickle out-of-band", "joblib", "torch.save", "safetensors, torch", "bursar", "bursar, torch")
FIRST = ("safetensors", "bursar", "bursar, packed", "bursar, sealed")
CODECS = ("zipnn", "blosc2, zstd 1", "blosc2, lz4", "bursar")
SEALERS = ("bursar", "bursar, to /dev/null", "bursar.read", "age", "age, to /dev/null", "pyrage", "Fernet", "limit")
FOREST = ("pickle 5", "joblib", "joblib, compress=3", "skops", "skops, deflated", "bursar", "bursar, packed")
KEPT_FACTS = ("cpu_s", "wall_s", "again_s", "kept_bytes", "file_bytes")
WAYS_PER_RAW = 2  # at most so many ways share the plain read or write that stands before them


Ran = tuple[Run, dict[str, Any]]  # how it ended, and what it says of itself


class Bench:
    """One measurement: whose Python runs it, where its files lie, and what can run at all."""

    def __init__(self, options: argparse.Namespace, python: Path) -> None:
        self.options = options
        self.python = python
        self.command = python.parent / "bursar"
        self.scratch: Path = options.work / "models"
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        self.sizes = QUICK if options.quick else SIZES
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.env = {**keep, **FIXED}
        self.core = str(max(os.sched_getaffinity(0)))
        here = self.must("have", ",".join(PACKAGES), self.scratch)
        self.missing = {*(name for name in PACKAGES if name not in here), *(() if shutil.which("age") else ("age",))}
        if "bursar" in self.missing:
            raise SystemExit(f"bench: {python} has no bursar")

    def lacks(self, way: str) -> str:
        """What is not here of what a way needs."""
        kind, _, how = way.partition(",")
        wanted = {NEEDS.get(kind.partition(".")[0], ""), NEEDS.get(how.strip(), "")}
        return next((name for name in sorted(wanted) if name in self.missing), "")

    def folder(self, name: str) -> Path:
        """A model, made when it is first asked for."""
        folder = self.scratch / name
        if not folder.is_dir():
            say(f"bench: making the model '{name}'")
            count, length = self.sizes[name]
            dtype = {"forest": "", "bfloat16": " uint16"}.get(name, " float32")
            self.must("make", f"{count} {length}{dtype}", folder)
        return folder

    def task(self, task: str, way: str, folder: Path, name: str = "", pinned: bool = False) -> Ran:
        """models_run.py, once: how it ended, and the line that it prints."""
        script = ROOT / "bench" / "models_run.py"
        command = [str(self.python), str(script), task, way, str(folder), name]
        if pinned:
            command = ["taskset", "-c", self.core, *command]
        outcome = run(command, self.env, self.scratch / "log", self.options.timeout)
        lines = outcome.output.strip().splitlines()
        return outcome, json.loads(lines[-1]) if outcome.ok else {}

    def must(self, task: str, way: str, folder: Path, name: str = "") -> dict[str, Any]:
        outcome, facts = self.task(task, way, folder, name)
        if not outcome.ok:
            raise SystemExit(f"bench: {task} {way}: {outcome.failure}")
        return facts

    def tool(self, *command: str | Path, output: str = "") -> Run:
        """A command on one core, its output into a file where one is named."""
        parts = [str(part) for part in command]
        if output:
            parts = ["sh", "-c", 'exec "$@" > "$0"', output, *parts]
        return run(["taskset", "-c", self.core, *parts], self.env, self.scratch / "log", self.options.timeout)

    def must_tool(self, *command: str | Path) -> None:
        outcome = self.tool(*command)
        if not outcome.ok:
            raise SystemExit(f"bench: {' '.join(map(str, command))}: {outcome.failure}")

    # --- rows -------------------------------------------------------------------------------------------------------

    def rounds(self, what: str, ways: Sequence[str], cells: dict[str, dict[str, Any]]) -> Iterator[tuple[int, str]]:
        """Each way in turn, as often as pairs are wanted; a peer that is slow less often."""
        for way in ways:
            cells[way] = new_cell()
            if self.lacks(way):
                cells[way]["failure"] = "not installed"
                say(f"  {what:<22}{way:<26}not installed: {self.lacks(way)}")
        for pair in range(self.options.pairs):
            for way in ways:
                cell = cells[way]
                slow = not way.startswith("bursar") and cell["spent_s"] > self.options.cell_seconds
                if not cell["failure"] and not slow:
                    yield pair, way

    def ratios(
        self, what: str, task: str, ways: Sequence[str], folder: Path, size: int, more: int = 0
    ) -> dict[str, Any]:
        """Each way beside plain reads or writes, over the middle one of its round, since what free memory costs differs
        by the second where a machine has to be given it first; and the least of all over the least of all plain ones.
        `more`: what a load must keep of memory."""
        cells: dict[str, dict[str, Any]] = {}
        raws: dict[int, list[float]] = {}
        raw: dict[str, Any] = {}
        seen: list[tuple[int, str, float]] = []
        since_raw, most = 0, len(ways) if self.options.quick else WAYS_PER_RAW
        for pair, way in self.rounds(what, ways, cells):
            if since_raw >= most or pair not in raws:
                raw = self.one(task, "raw", folder)[1]
                raws.setdefault(pair, []).append(raw["cpu_s"])
                since_raw = 0
            since_raw += 1
            outcome, facts = self.one(task, way, folder)
            cell = cells[way]
            cell["spent_s"] += outcome.wall_s
            if not outcome.ok:
                cell["failure"] = outcome.failure
                say(f"  {what:<22}{way:<26}{outcome.failure}")
                continue
            seen.append((pair, way, facts["cpu_s"]))
            if facts.get("peak_bytes") is not None:
                cell["added"].append(facts["peak_bytes"] - more)
            for name in KEPT_FACTS:
                if name in facts:
                    cell.setdefault(name, []).append(facts[name])
            memory = f", {cell['added'][-1] / 2**20:+7.1f} MiB" if cell["added"] else ""
            took = f"{facts['cpu_s'] * 1e3:8.1f} ms, raw {raws[pair][-1] * 1e3:6.1f} ms"
            say(f"  {what:<22}{way:<26}pair {pair + 1}: {took}{memory}")
        for pair, way, cpu_s in seen:
            cells[way]["ratios"].append(cpu_s / median(raws[pair]))
            cells[way]["least"] = min(cells[way]["cpu_s"]) / min(map(min, raws.values()))
        seconds = spread(sum(raws.values(), []))
        return {"bytes": size, "raw_s": seconds, "raw": raw, "cells": finish(cells)}

    def one(self, task: str, way: str, folder: Path) -> Ran:
        """A save to a file that is not there, or a load of one that is in memory."""
        name = f"saved-{slug(way)}" if task == "save" and way.startswith("raw") else file_of(way)
        path = folder / name
        if task == "save":
            path.unlink(missing_ok=True)
        else:
            warm(path)
        outcome, facts = self.task(task, way, folder, name)
        if way == "raw" and not outcome.ok:
            raise SystemExit(f"bench: a plain {task} fails: {outcome.failure}")
        return outcome, facts

    def files(self, ways: Sequence[str], folder: Path) -> None:
        """What is loaded was saved before."""
        for way in ways:
            if not (folder / file_of(way)).is_file() and not self.lacks(way):
                self.task("save", way, folder, file_of(way))
        os.sync()

    def row_save(self) -> dict[str, Any]:
        folder = self.folder("float32")
        return self.ratios("save", "save", SAVED, folder, size_of(folder))

    def row_copied(self) -> dict[str, Any]:
        folder = self.folder("float32")
        self.files(KEPT, folder)
        return self.ratios("load, copied", "copied", COPIED, folder, size_of(folder), size_of(folder))

    def row_mapped(self) -> dict[str, Any]:
        folder = self.folder("float32")
        self.files(KEPT, folder)
        return self.ratios("load, mapped", "mapped", MAPPED, folder, size_of(folder))

    def row_small(self) -> dict[str, Any]:
        folder = self.folder("small")
        saved = self.ratios("small arrays, save", "save", SAVED, folder, size_of(folder))
        self.files(KEPT, folder)
        loaded = self.ratios("small arrays, load", "copied", COPIED, folder, size_of(folder), size_of(folder))
        shutil.rmtree(folder)
        return {"arrays": self.sizes["small"][0], "save": saved, "load": loaded}

    def row_first(self) -> dict[str, Any]:
        folder = self.folder("float32")
        self.files(("safetensors", "bursar"), folder)
        self.keys(folder)
        plain, packed = (folder / file_of(way) for way in ("bursar", "bursar, packed"))
        self.must_tool(self.command, "model", "pack", plain, "-o", packed)
        self.seal_model(folder, "bursar, sealed")
        return self.ratios("first tensor", "first", FIRST, folder, self.sizes["float32"][1] * 4)

    def row_packed(self) -> dict[str, Any]:
        return {"raw_copy": self.raw_copies(), **{dtype: self.packed(dtype) for dtype in ("float32", "bfloat16")}}

    def packed(self, dtype: str) -> dict[str, Any]:
        folder = self.folder(dtype)
        size, plain = size_of(folder), folder / file_of("bursar")
        if not plain.is_file() and "bursar" not in self.missing:
            self.must("save", "bursar" if dtype == "float32" else "bursar, bfloat16", folder, plain.name)
        cells: dict[str, dict[str, Any]] = {}
        for pair, way in self.rounds(f"packed, {dtype}", CODECS, cells):
            name = f"packed-{slug(way)}"
            warm(plain if way == "bursar" else folder / "raw")
            if way == "bursar":
                packed = self.bursar_pack(folder, name)
            else:
                packed = self.task("pack", way, folder, name, pinned=True)
            keep_speed(cells[way], "pack", packed, size)
            if packed[0].ok:
                cells[way]["share"] = packed[1]["file_bytes"] / size
                keep_read(cells[way], self.task("unpack", way, folder, name, pinned=True), "unpack", size)
            if way == "bursar" and not cells[way]["failure"]:
                self.bursar_unpack(folder, name, cells[way], size)
            say(f"  packed, {dtype:<14}{way:<26}pair {pair + 1}: {told(cells[way])}")
        if dtype == "bfloat16":
            shutil.rmtree(folder)
        return {"bytes": size, "cells": finish(cells)}

    def bursar_pack(self, folder: Path, name: str) -> Ran:
        """The command; its memory is what it takes more than for a tiny model."""
        small = folder.parent / "tiny" / folder.name
        base = self.tool(self.command, "model", "pack", small / file_of("bursar"), "-o", small / name)
        outcome = self.tool(self.command, "model", "pack", folder / file_of("bursar"), "-o", folder / name)
        if not outcome.ok:
            return outcome, {}
        added = outcome.peak_bytes - base.peak_bytes
        facts = {"cpu_s": outcome.cpu_s, "alone_s": outcome.user_s, "peak_bytes": added}
        return outcome, {**facts, "file_bytes": (folder / name).stat().st_size}

    def bursar_unpack(self, folder: Path, name: str, cell: dict[str, Any], size: int) -> None:
        outcome = self.tool(self.command, "model", "unpack", folder / name, "-o", folder / "unpacked")
        facts = {"cpu_s": outcome.cpu_s, "alone_s": outcome.user_s}
        keep_speed(cell, "unpack_command", (outcome, facts), size)
        if outcome.ok and not filecmp.cmp(folder / "unpacked", folder / file_of("bursar"), shallow=False):
            cell["failure"] = "the unpacked file is another one"
        (folder / "unpacked").unlink(missing_ok=True)

    def raw_copies(self) -> float | None:
        """Bytes by CPU second of a file copied to another: what each figure from file to file has in it."""
        folder = self.folder("float32")
        seconds = []
        for _ in range(self.options.pairs):
            warm(folder / "raw")
            copied = self.tool("dd", f"if={folder / 'raw'}", f"of={folder / 'copy'}", "bs=1M", "status=none")
            seconds += [copied.cpu_s] if copied.ok else []
            (folder / "copy").unlink(missing_ok=True)
        return size_of(folder) / median(seconds) if seconds else None

    # --- sealed -----------------------------------------------------------------------------------------------------

    def keys(self, folder: Path) -> None:
        if (folder / "identity").is_file():
            return
        keygen = [str(self.command), "model", "keygen", "-o", str(folder / "identity")]
        subprocess.run(keygen, env=self.env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        found = re.search(r"public key: (age1\S+)", (folder / "identity").read_text())
        (folder / "recipient").write_text(found[1] if found else "")
        if "cryptography" not in self.missing:
            from base64 import urlsafe_b64encode

            (folder / "fernet").write_bytes(urlsafe_b64encode(os.urandom(32)))

    def seal_model(self, folder: Path, way: str) -> None:
        """bursar's file, sealed, and the tiny one."""
        recipient = (folder / "recipient").read_text()
        for place in (folder.parent / "tiny" / folder.name, folder):
            source, target = place / file_of("bursar"), place / file_of(way)
            self.must_tool(self.command, "model", "seal", "--to", recipient, "-o", target, source)

    def row_sealed(self) -> dict[str, Any]:
        folder = self.folder("float32")
        size = size_of(folder)
        self.files(("bursar",), folder)
        self.keys(folder)
        self.seal_model(folder, "bursar.read")
        cells: dict[str, dict[str, Any]] = {}
        for pair, way in self.rounds("sealed", SEALERS, cells):
            name = f"sealed-{slug(way.partition(',')[0])}"
            cell = cells[way]
            warm(folder / "raw")
            if way == "bursar.read":
                loaded = self.task("load_sealed", way, folder, file_of(way), pinned=True)
                keep_read(cell, loaded, "decrypt", size)
            elif way in ("pyrage", "Fernet", "limit"):
                keep_speed(cell, "encrypt", self.task("seal", way, folder, name, pinned=True), size)
                if not cell["failure"]:
                    keep_speed(cell, "decrypt", self.task("unseal", way, folder, name, pinned=True), size)
            else:
                self.sealed_by_command(cell, way, folder, name, size)
            opened = folder / f"{name}.out"
            if opened.is_file():
                if not filecmp.cmp(opened, folder / "raw", shallow=False):
                    cell["failure"] = "it opened to something else"
                opened.unlink()
            say(f"  sealed                {way:<26}pair {pair + 1}: {told(cell)}")
        return {"bytes": size, "raw_copy": self.raw_copies(), "cells": finish(cells)}

    def sealed_by_command(self, cell: dict[str, Any], way: str, folder: Path, name: str, size: int) -> None:
        """With -o; or to standard output, which nobody keeps, after a run with -o made the file to be opened."""
        recipient, identity = (folder / "recipient").read_text(), folder / "identity"
        tools: tuple[list[str | Path], ...] = (["age", "-r", recipient], ["age", "-d", "-i", identity])
        if way.startswith("bursar"):
            model = [self.command, "model"]
            tools = [*model, "seal", "--to", recipient], [*model, "open", "-i", identity]
        nowhere = "/dev/null" if way.endswith("/dev/null") else ""
        files = ("raw", name), (name, f"{name}.out")
        for what, command, (source, target) in zip(("encrypt", "decrypt"), tools, files, strict=True):
            peaks = []
            for place in (folder.parent / "tiny" / folder.name, folder):
                into = [] if nowhere else ["-o", place / target]
                if not nowhere:
                    (place / target).unlink(missing_ok=True)
                outcome = self.tool(*command, *into, place / source, output=nowhere)
                peaks.append(outcome.peak_bytes)
            facts = {"cpu_s": outcome.cpu_s, "alone_s": outcome.user_s, "peak_bytes": peaks[1] - peaks[0]}
            keep_speed(cell, what, (outcome, facts), size)

    # --- a forest ---------------------------------------------------------------------------------------------------

    def row_stream(self) -> dict[str, Any]:
        """bench/stream.py's kinds of files; {}: pyarrow is not there."""
        if "pyarrow" in self.missing:
            return {}
        how = ["--json", "--repeats", str(self.options.pairs), "--size", "2" if self.options.quick else "128"]
        say("bench: streams")
        command = [str(self.python), str(ROOT / "bench" / "stream.py"), "--budgets", "32 MiB", *how]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit("bench: streams failed")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def row_forest(self) -> dict[str, Any]:
        if "sklearn" in self.missing:
            cells = {way: {**new_cell(), "failure": "not installed"} for way in FOREST}
            return {"bytes": None, "cells": finish(cells)}
        folder = self.folder("forest")
        places = (folder.parent / "tiny" / folder.name, folder)
        for way in FOREST:
            if way != "bursar, packed" and not self.lacks(way):
                self.task("save_forest", way, folder, file_of(way))
        for place in places:
            plain = place / file_of("bursar")
            self.must_tool(self.command, "model", "pack", plain, "-o", place / file_of("bursar, packed"))
            plain.rename(place / "raw")  # the plain read is of bursar's file
            plain.symlink_to("raw")
        size = size_of(folder)
        measured = self.ratios("forest, load", "load_forest", FOREST, folder, size, size)
        for way, cell in measured["cells"].items():
            if (folder / file_of(way)).is_file():
                cell["share"] = (folder / file_of(way)).stat().st_size / size
        return measured


# --- what is kept of a run ------------------------------------------------------------------------------------------


def slug(way: str) -> str:
    return re.sub(r"\W+", "-", way)


def file_of(way: str) -> str:
    """The file that a way saves to, which those that load the same kind of file share."""
    shared = {"raw, array by array": "raw", "bursar, torch": "bursar", "safetensors, torch": "safetensors"}
    return "raw" if way == "raw" else slug(shared.get(way, way))


def size_of(folder: Path) -> int:
    return (folder / "raw").stat().st_size


def warm(path: Path) -> None:
    """The file is in the page cache."""
    if path.is_file():
        piece = bytearray(1 << 20)
        with path.open("rb", buffering=0) as file:
            while file.readinto(piece):
                pass


def spread(values: Sequence[float]) -> dict[str, float] | None:
    return {"median": median(values), "low": min(values), "high": max(values)} if values else None


def keep_speed(cell: dict[str, Any], what: str, ran: Ran, size: int, more: int = 0) -> None:
    outcome, facts = ran
    cell["spent_s"] += outcome.wall_s
    if not outcome.ok:
        cell["failure"] = cell["failure"] or outcome.failure
        return
    cell.setdefault("speed", {}).setdefault(what, []).append(size / max(facts["cpu_s"], 1e-9))
    if facts.get("alone_s"):
        cell["speed"].setdefault(f"{what}_alone", []).append(size / facts["alone_s"])
    if facts.get("peak_bytes") is not None:
        cell.setdefault("memory", {}).setdefault(what, []).append(facts["peak_bytes"] - more)


def keep_read(cell: dict[str, Any], ran: Ran, what: str, size: int) -> None:
    """Into new arrays: a load. Into memory that is there already: what the reading itself costs."""
    outcome, facts = ran
    keep_speed(cell, "load", (outcome, {**facts, "alone_s": None}), size, size)
    if outcome.ok:
        keep_speed(cell, what, (outcome, {"cpu_s": facts["again_s"], "alone_s": facts["alone_s"]}), size)


def told(cell: dict[str, Any]) -> str:
    speeds = ", ".join(f"{what} {values[-1] / 1e9:.2f}" for what, values in cell.get("speed", {}).items())
    return cell["failure"] or f"GB/s {speeds}"


def finish(cells: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Medians and ranges, in place of all that was seen."""
    for cell in cells.values():
        cell["pairs"] = len(cell["ratios"])
        if cell["ratios"]:
            cell["median"], cell["low"], cell["high"] = median(cell["ratios"]), min(cell["ratios"]), max(cell["ratios"])
        if cell["added"]:
            cell["added_bytes"] = median(cell["added"])
        for name in KEPT_FACTS:
            if name in cell:
                cell[name] = median(cell[name])
        for kind in ("speed", "memory"):
            cell[kind] = {what: spread(values) for what, values in cell.get(kind, {}).items()}
    return cells


# --- the command ----------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> dict[str, Any]:
    started = time.monotonic()
    options.work.mkdir(parents=True, exist_ok=True)
    python = options.python
    if python is None:
        venv = options.work / "models-venv"
        say("bench: installing what models are kept in today, and bursar from this checkout")
        reasons = install_peers(venv, REQUIREMENTS)
        if reason := install_bursar(venv, options.work):
            reasons["bursar"] = reason
        for package, reason in reasons.items():
            say(f"bench: {package} is missing: {reason}")
        python = venv / "bin" / "python"
    bench = Bench(options, python)
    installed = versions(python.parent.parent)
    wanted = {"bursar", "ml_dtypes", "scikit-learn", *PACKAGES}
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "revision": revision(),
        "machine": machine(),
        "versions": {name: installed[name] for name in sorted(wanted) if name in installed},
        "missing": sorted(bench.missing),
        "options": {"pairs": options.pairs, "quick": options.quick},
        "load_before": os.getloadavg()[0],
        "rows": {},
    }
    if "age" not in bench.missing:
        told_by_age = subprocess.run(["age", "--version"], capture_output=True, text=True, check=False).stdout
        result["versions"]["age"] = told_by_age.strip().lstrip("v")
    for row in options.only:
        result["rows"][row] = getattr(bench, f"row_{row}")()
    result["load_after"] = os.getloadavg()[0]
    result["seconds"] = round(time.monotonic() - started)
    shutil.rmtree(bench.scratch, ignore_errors=True)
    return result


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/models.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="OUT", help="a file for the facts; else a page to standard output")
    parser.add_argument("--only", type=names(ROWS, "row"), default=list(ROWS), metavar="ROW,…")
    parser.add_argument("--pairs", type=int, default=5, help="pairs for each way (5)")
    parser.add_argument("--quick", action="store_true", help="tiny models, one pair: to see that it runs")
    parser.add_argument("--timeout", type=float, default=60, help="seconds after which one run is given up (60)")
    parser.add_argument("--cell-seconds", type=float, default=8, help="no more pairs of a peer after so many (8)")
    parser.add_argument("--python", type=Path, help="an interpreter that has bursar, and the peers to be measured")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench", help="where peers and models go")
    options = parser.parse_args(arguments)
    options.work = options.work.resolve()
    if options.python is not None:
        options.python = options.python.absolute()  # as it is called: a link into an environment is one of it
    if options.quick:
        options.pairs = 1
    if options.pairs < 1:
        parser.error("--pairs: at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    result = measure(options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    else:
        print("\n".join(models_page.section(result)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
