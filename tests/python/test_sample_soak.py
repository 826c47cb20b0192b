"""Two thousand million allocations from a hundred thousand stacks in mode sample: ledger, memory and figures stay what
they are in a short run.

BURSAR_SOAK_ALLOCATIONS says how many; a part of them is run in every test.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import install
import pytest

ALLOCATIONS = int(os.environ.get("BURSAR_SOAK_ALLOCATIONS", "2000000000"))
CAP = 64 << 20


def run(allocations: int, stacks: int = 100_000) -> "dict[str, Any]":
    driver = install.build_folder(Path(sys.executable)) / "tests" / "unit" / "soak_sample"
    if not driver.exists():
        pytest.skip("no build of the core here: make build")
    done = subprocess.run([driver, str(allocations), str(stacks)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(found: "dict[str, Any]", allocations: int) -> None:
    assert found["notes"] == 0
    assert found["allocations"] == allocations and found["counted"] == found["allocated"]
    assert abs(found["estimate"] - found["live"]) <= 5 * found["stderr"]
    assert 0.01 < found["stderr"] / found["live"] < 0.1  # 280 MB of small blocks: some hundred samples
    assert found["summed"] == found["estimate"]
    assert found["file"] <= CAP
    assert found["late"] - found["early"] < 4 << 20


def test_a_short_run() -> None:
    check(run(20_000_000), 20_000_000)


@pytest.mark.soak
def test_a_long_run() -> None:
    found = run(ALLOCATIONS)
    check(found, ALLOCATIONS)
    assert found["folded"] > 0
