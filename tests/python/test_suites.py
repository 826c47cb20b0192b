"""A few of CPython's own test files under `bursar run`: the same results as without, and all allocations seen.

`make check` runs all of tests/suites/run, on every interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITES = Path(__file__).resolve().parent.parent / "suites" / "run"


@pytest.mark.parametrize("suite", ["test_json", "test_generators", "test_dict", "test_fork1"])
def test_cpythons_own(python: str, suite: str) -> None:
    if subprocess.run([python, "-c", f"import test.{suite}"], capture_output=True).returncode != 0:
        pytest.skip(f"{python} has no test.{suite}: its `test` package is not installed")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, SUITES, "--python", python, suite], capture_output=True, text=True, env=environment,
        errors="replace", timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("1 passed, 0 failed, 0 skipped\n")
