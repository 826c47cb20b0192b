"""A few of CPython's own test files under `bursar run`: the same results as without, and all allocations seen.

`make check` runs all of tests/suites/run, on every interpreter."""

import importlib.util
import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
from running import Run

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


@pytest.fixture(scope="module")
def harness() -> ModuleType:
    loader = SourceFileLoader("suites_run", str(SUITES))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_a_difference_is_seen(harness: ModuleType) -> None:
    """Two runs that are alike pass only beside others that are not."""
    plain = harness.Run(0, {"a": "passed", "b": "skipped"}, "")
    assert harness.differences(plain, plain) == []
    assert harness.differences(plain, plain._replace(status=1)) == ["exit status 1, and 0 without bursar"]
    fewer = plain._replace(results={"a": "passed"})
    assert harness.differences(plain, fewer) == ["b: not run, and skipped without bursar"]
    assert harness.differences(plain._replace(results={}), plain) != []


def test_a_subtest_that_fails_is_seen(harness: ModuleType, tmp_path: Path) -> None:
    report = tmp_path / "results.xml"
    case = '<testcase classname="C" name="{}">{}</testcase>'
    report.write_text(f"<t>{case.format('a', '')}{case.format('a', '<failure/>')}{case.format('b', '<skipped/>')}</t>")
    assert harness.junit_results(report) == {"C.a": "failure passed", "C.b": "skipped"}


def test_only_the_times_of_a_benchmark_may_differ(harness: ModuleType, tmp_path: Path) -> None:
    """A script that writes what pyperf writes: the same but for the time, another answer, fewer loops."""
    report = tmp_path / "results.json"
    facts = '{"benchmarks": [{"runs": [{"values": [0.1]}]}], "metadata": {"name": "x", "loops": %d, "unit": "second"}}'

    def run(said: str, loops: int) -> object:
        script = f"print({said!r}); open({str(report)!r}, 'w').write({facts % loops!r})"
        return harness.run_suite(sys.executable, [sys.executable, "-c", script], report)

    plain = run("x: 45.7 us, 3 found", 1)
    assert harness.differences(plain, run("x: 1.23 sec, 3 found", 1)) == []
    assert len(harness.differences(plain, run("x: 45.7 us, 4 found", 1))) == 1
    assert len(harness.differences(plain, run("x: 45.7 us, 3 found", 2))) == 1


def test_allocations_that_were_not_seen_are_missed(
    harness: ModuleType, tmp_path: Path, command: str, execute: Run, ledger: Path
) -> None:
    """A program that ends at once has fewer allocations than any suite."""
    assert execute(command, "run", "--domains", "all", "-o", ledger, "-c", "pass").returncode == 0
    wrong, allocations, processes = harness.complaints_about(command, ledger.parent, ledger, "bm_x")
    assert 0 < allocations < harness.FEWEST and processes == 1
    assert [line.split(":")[0] for line in wrong] == [
        f"only {allocations} allocations were seen", "only 0 allocations were seen in the benchmark itself",
    ]  # fmt: skip


@pytest.mark.parametrize("mode", ["exact", "sample", "count"])
def test_a_domain_that_was_not_heard_is_missed(
    harness: ModuleType, tmp_path: Path, command: str, execute: Run, ledger: Path, mode: str
) -> None:
    """Where malloc is not listened to, and where it is."""
    program = "kept = [str(n) for n in range(200_000)]"
    for domains, silent in (("python", ["nothing was seen of malloc"]), ("all", [])):
        words = ("run", "-f", "--mode", mode, "--domains", domains, "-o", ledger, "-c", program)
        assert execute(command, *words).returncode == 0
        assert harness.complaints_about(command, ledger.parent, ledger, f"test_x@{mode}")[0] == silent
    wrong, _, _ = harness.complaints_about(command, ledger.parent, ledger, f"numpy.fft@{mode}")
    assert wrong == ["nothing was seen of numpy"]
