"""The tools behind make: what they count, what they find, and what they say where something is missing."""

import os
import subprocess
import sys
from pathlib import Path

import interpreters
import prepare
import pytest
from run_tests import Tally, read_junit

ROOT = Path(__file__).resolve().parent.parent

JUNIT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"><failure/></testcase><testcase name="c"><error/></testcase>
<testcase name="d"><skipped/></testcase><testcase name="e"/></testsuite></testsuites>"""


def test_each_case_is_counted_once(tmp_path: Path) -> None:
    report = tmp_path / "junit.xml"
    report.write_text(JUNIT)
    assert read_junit(report, 1) == Tally(passed=2, failed=2, skipped=1)
    assert str(read_junit(report, 1)) == "2 passed, 2 failed, 1 skipped"
    report.write_text(JUNIT.replace('"a"', '"it has \x1b[0m"'))
    assert read_junit(report, 1) == Tally(passed=2, failed=2, skipped=1)


def test_a_run_that_died_is_a_failure(tmp_path: Path) -> None:
    report = tmp_path / "junit.xml"
    assert read_junit(report, 3) == Tally(failed=1)
    report.write_text("<testsuites><testcase name='a'/></testsuites>")
    assert read_junit(report, 0) == Tally(passed=1)
    assert read_junit(report, -11) == Tally(passed=1, failed=1)
    report.write_text(JUNIT[:80])
    assert read_junit(report, 2) == Tally(failed=1)


def test_every_package_has_a_reason_and_a_probe_that_is_known() -> None:
    packages = prepare.read_packages({"build", "test", "check"})
    assert {"gcc", "chromium", "mmdebstrap"} <= {package.name for package in packages}
    for package in packages:
        assert package.why
        prepare.is_there(package.probe)
    assert not prepare.is_there("command:no-such-command-anywhere")
    with pytest.raises(SystemExit, match="unknown probe"):
        prepare.is_there("python:wings")


def test_what_is_missing_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "is_there", lambda probe: False)
    monkeypatch.setattr(prepare, "apt_prefix", lambda: None)
    with pytest.raises(SystemExit) as stopped:
        prepare.install_packages({"build"})
    message = str(stopped.value)
    assert "\n" not in message
    assert message == "set-up: missing system packages; install them and run make again: gcc python3-dev python3-venv"


def test_interpreters_are_those_that_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    not_python = tmp_path / "python3.10"
    not_python.write_text("#!/bin/sh\necho nothing\n")
    not_python.chmod(0o755)
    monkeypatch.setenv("BURSAR_PYTHONS", f"{not_python}:{tmp_path}/none {sys.executable}")
    found, missing = interpreters.find()
    own = "{}.{}".format(*sys.version_info[:2])
    assert list(found) == [own]
    assert found[own].version == sys.version.split()[0]
    assert missing == {series: "not found" for series in interpreters.SUPPORTED if series != own}


def test_wrong_use_is_told() -> None:
    command = [sys.executable, "tools/prepare.py", "everything"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    groups = "build, demo, test, check, bench, torch, residue, wheel"
    assert done.stderr == f"set-up: usage: prepare.py GROUP..., with GROUP one of {groups}\n"
    command = [sys.executable, "tools/check.py", "everything"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 2
    assert done.stderr.startswith("check: no step 'everything'; the steps are lint, ")
