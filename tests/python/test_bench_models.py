"""bench/models.py, tiny: each row has a figure or says why not, and a way that gives something else has none."""
from __future__ import annotations

import json
import mmap
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("numpy")
BENCH = Path(__file__).resolve().parents[2] / "bench"
RUN = [sys.executable, str(BENCH / "models_run.py")]
MODULES = ("models", "models_page", "models_run", "models_ways", "page", "run", "measure", "peers")


@pytest.fixture(scope="module")
def models() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCH))
    try:
        import models

        yield models
    finally:
        sys.path.remove(str(BENCH))
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def result(models: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    work = tmp_path_factory.mktemp("bench")
    assert models.main(["--quick", "--python", sys.executable, "--work", str(work), "--json", str(work / "out")]) == 0
    assert not (work / "models").exists()
    facts: dict[str, Any] = json.loads((work / "out").read_text())
    return facts


def cells(part: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, inner in part.items():
        if name == "cells":
            yield from inner.items()
        elif isinstance(inner, dict):
            yield from cells(inner)


def test_each_way_has_a_figure_or_is_not_installed(models: ModuleType, result: dict[str, Any]) -> None:
    assert list(result["rows"]) == list(models.ROWS)
    seen = set()
    forests = result["rows"]["forest"]["cells"].values() if "sklearn" in result["missing"] else ()
    for way, cell in cells(result["rows"]):
        seen.add(way)
        needs = {models.NEEDS.get(part) for part in (way.partition(",")[0].partition(".")[0], way.partition(", ")[2])}
        if needs & {*result["missing"]} or any(cell is one for one in forests):
            assert cell["failure"] == "not installed", way
            continue
        assert cell["failure"] == "", (way, cell["failure"])
        figures = [cell["median"]] if "median" in cell else [one["median"] for one in cell["speed"].values()]
        assert figures and min(figures) > 0, way
    assert seen == {
        *models.SAVED, *models.COPIED, *models.MAPPED, *models.FIRST, *models.CODECS, *models.SEALERS, *models.FOREST,
    }  # fmt: skip


def test_the_page_says_what_was_measured(models: ModuleType, result: dict[str, Any]) -> None:
    page = models.models_page
    text = "\n".join(page.section(result))
    assert text.startswith("**A quick run")
    wanted = [line for line in page.goals(result) if line.endswith("| not measured |")]
    assert all("forest" in line for line in wanted) and (not wanted or "sklearn" in result["missing"])
    assert "not installed" in text or not result["missing"]
    assert page.section(None) == ["Not measured in this run."]


def test_a_goal_is_met_by_the_figure_alone(models: ModuleType, result: dict[str, Any]) -> None:
    cell = result["rows"]["copied"]["cells"]["bursar"]
    steady, unsteady = {"low": 0.1, "high": 0.15}, {"low": 0.1, "high": 0.5}
    decided = (1.09, steady, "yes"), (1.11, steady, "**no**")
    for ratio, raw, met in (*decided, (None, steady, "not measured"), (1.09, unsteady, "undecided")):
        told = {**cell, "median": ratio} if ratio else {"failure": "not installed"}
        rows = {**result["rows"], "copied": {"raw_s": raw, "cells": {"bursar": told}}}
        line = next(line for line in models.models_page.goals({**result, "rows": rows}) if "copied: CPU" in line)
        assert line.endswith(f"| {met} |")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_what_comes_back_as_something_else_is_no_figure(tmp_path: Path) -> None:
    folder = tmp_path / "float32"
    assert run("make", "3 1000 float32", folder, "").returncode == 0
    assert run("save", "bursar", folder, "bursar").returncode == 0
    done = run("copied", "bursar", folder, "bursar")
    assert done.returncode == 0 and json.loads(done.stdout)["cpu_s"] > 0
    changed = bytearray((folder / "bursar").read_bytes())
    changed[-1] ^= 1
    (folder / "bursar").write_bytes(changed)
    for task in ("copied", "mapped"):
        done = run(task, "bursar", folder, "bursar")
        assert done.returncode == 1 and "came back as something else" in done.stderr
    shutil.copyfile(folder.parent / "tiny" / "float32" / "bursar", folder / "bursar")
    assert "2 arrays came, not 3" in run("copied", "bursar", folder, "bursar").stderr


def test_memory_that_was_had_and_given_back_is_seen(models: ModuleType) -> None:
    import models_run

    kept: list[mmap.mmap] = []

    def touched(size: int) -> mmap.mmap:  # not malloc's, which may have some left of what it gave before
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, size, mmap.PAGESIZE):
            memory[at] = 1
        return memory

    def act() -> None:
        gone = touched(48 << 20)
        kept.append(touched(16 << 20))
        gone.close()

    facts, _ = models_run.timed(act)
    slack = 1 << 20  # of the kernel's counters, and of what an interpreter has beside
    assert abs(facts["peak_bytes"] - (64 << 20)) <= slack
    assert abs(facts["kept_bytes"] - (16 << 20)) <= slack
