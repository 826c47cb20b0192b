#!/usr/bin/env python3
"""make test: the C tests, all Python tests under .venv, and the tests marked `core` on every other Python found.

The latter run beside the former, one Python after another; what they print comes at the end. The last line is
`N passed, N failed, N skipped`, summed over all of them; the exit status is 0 only where nothing failed and something
passed. Runs under .venv's Python, after `make build`.
"""

import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import install
import interpreters
import prepare

ROOT = Path(__file__).resolve().parent.parent
VENV_BIN = ROOT / ".venv" / "bin"
RESULTS = ROOT / "build" / "results"


# A test's name may hold them, and Meson writes it as it is.
NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Tally(NamedTuple):
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: object) -> "Tally":
        if not isinstance(other, Tally):
            return NotImplemented
        return Tally(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def read_junit(path: Path, status: int) -> Tally:
    """Counts a JUnit file's cases. A run that failed without a failed case, or left no file, is one failure."""
    tally = Tally()
    try:
        text = NOT_XML.sub("?", path.read_text(errors="replace"))
        cases = list(ElementTree.fromstring(text).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        cases = []
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            tally += Tally(failed=1)
        elif case.find("skipped") is not None:
            tally += Tally(skipped=1)
        else:
            tally += Tally(passed=1)
    if status != 0 and tally.failed == 0:
        tally += Tally(failed=1)
    return tally


def heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def run_meson(folder: Path, *arguments: str) -> Tally:
    """Runs the C tests of a build folder."""
    report = folder / "meson-logs" / "testlog.junit.xml"
    report.unlink(missing_ok=True)
    environment = dict(os.environ, PATH=f"{VENV_BIN}{os.pathsep}{os.environ['PATH']}")
    command = [str(VENV_BIN / "meson"), "test", "-C", str(folder), "--print-errorlogs", *arguments]
    status = subprocess.run(command, env=environment, cwd=ROOT).returncode
    return read_junit(report, status)


def run_pytest(python: Path, name: str, *arguments: str, aside: bool = False) -> Tally:
    """Runs pytest under `python`, in the checkout. `name` is the name of its result file. `aside`: what it prints
    goes into a file beside that."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    report = RESULTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("BURSAR", "PYTHON"))}
    environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [str(python), "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
    if aside:
        with printed_aside(name).open("wb") as out:
            status = subprocess.run(command, env=environment, cwd=ROOT, stdout=out, stderr=out).returncode
    else:
        status = subprocess.run(command, env=environment, cwd=ROOT).returncode
    return read_junit(report, status)


def printed_aside(name: str) -> Path:
    return RESULTS / f"{name}.log"


def environment_for(interpreter: interpreters.Interpreter, requirements: list[str]) -> Path:
    """A virtual environment of that interpreter under build/, with bursar built and installed. Returns its python.

    Raises RuntimeError with one line where that fails."""
    folder = ROOT / "build" / f"venv-{interpreter.version}"
    python = folder / "bin" / "python"
    if not python.exists():
        status, line = prepare.run_logged([str(interpreter.executable), "-m", "venv", str(folder)])
        if status != 0:
            raise RuntimeError(f"no virtual environment of Python {interpreter.version}: {line}")
    prepare.install_requirements(python, requirements, folder / ".installed")
    status, output = install.install(python)
    if status != 0:
        print(output, file=sys.stderr)
        raise RuntimeError(f"bursar does not build for Python {interpreter.version}; the build's output is above")
    return python


def run_interpreter(interpreter: interpreters.Interpreter, requirements: list[str], *arguments: str) -> Tally:
    try:
        python = environment_for(interpreter, requirements)
    except (RuntimeError, SystemExit) as error:
        print(error, file=sys.stderr)
        return Tally(failed=1)
    return run_pytest(python, f"python-{interpreter.version}", *arguments)


def main() -> int:
    start = time.monotonic()
    own = "{}.{}".format(*sys.version_info[:2])
    own_version = sys.version.split()[0]
    found, missing = interpreters.find()
    missing.pop(own, None)
    heading("C tests")
    total = run_meson(install.build_folder(VENV_BIN / "python"))
    tested = [f"{own_version} (all tests)"]
    with ThreadPoolExecutor(1) as beside:
        others: dict[str, Future[Tally]] = {}
        for series, interpreter in found.items():
            if series == own:
                continue
            try:
                python = environment_for(interpreter, ["build", "core"])
            except (RuntimeError, SystemExit) as error:
                print(error, file=sys.stderr)
                total += Tally(failed=1)
                continue
            name = f"python-{interpreter.version}"
            core = ("-m", "core", "--ignore=tests/browser")
            others[name] = beside.submit(run_pytest, python, name, *core, aside=True)
            tested.append(f"{interpreter.version} (core)")
        heading(f"all Python tests, Python {own_version}")
        total += run_pytest(VENV_BIN / "python", f"python-{own_version}")
        for name, tally in others.items():
            total += tally.result()
            heading(f"core tests, {name}")
            print(printed_aside(name).read_text(errors="replace"))
    minutes = (time.monotonic() - start) / 60
    heading(f"summary, {minutes:.1f} minutes")
    print(f"Python tested: {', '.join(tested)}")
    print(f"Python missing: {', '.join(f'{series} ({why})' for series, why in missing.items()) or 'none'}")
    print(total)
    return 0 if total.failed == 0 and total.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
