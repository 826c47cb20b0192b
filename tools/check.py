#!/usr/bin/env python3
"""make check: everything that is too long for make test. check.py [STEP...] runs those steps alone; --list names them.

A step that cannot run here (an interpreter is missing, no root for the sid root) fails: a check that was left out is
no check. The last line is `N passed, N failed, N skipped`, over the steps and the tests in them.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import install
import interpreters
from run_tests import ROOT, VENV_BIN, Tally, heading, run_interpreter, run_meson, run_pytest

SID_SERIES = "3.14"  # tested in a Debian sid root, whose python3 it is
PYTHON = VENV_BIN / "python"


def environment(**more: str) -> dict[str, str]:
    return dict(os.environ, PATH=f"{VENV_BIN}{os.pathsep}{os.environ['PATH']}", **more)


def passes(*command: object, **more: str) -> Tally:
    """One command, one result."""
    words = [str(word) for word in command]
    try:
        status = subprocess.run(words, cwd=ROOT, env=environment(**more)).returncode
    except OSError as error:
        print(f"{words[0]}: {error.strerror}", file=sys.stderr)
        status = 127
    return Tally(passed=1) if status == 0 else Tally(failed=1)


def c_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.[ch]"))


def step_lint() -> Tally:
    """ruff, clang-format, and the house: who may include whom."""
    files = c_files("src", "pyext", "preload", "tests")
    return (
        passes(VENV_BIN / "ruff", "check", ".")
        + passes(VENV_BIN / "clang-format", "--dry-run", "-Werror", *files)
        + run_pytest(PYTHON, "house", "tests/test_house.py")
    )


def step_tidy() -> Tally:
    """clang-tidy over the core and the extension."""
    files = [path for path in c_files("src", "pyext", "preload") if path.suffix == ".c"]
    return passes(VENV_BIN / "clang-tidy", "--quiet", "-p", install.build_folder(PYTHON), *files)


def step_types() -> Tally:
    """mypy --strict, and stubtest: do the stubs say what the extension has?"""
    stubs = passes(PYTHON, "-m", "mypy.stubtest", "bursar._bursar", "--ignore-disjoint-bases")
    return passes(VENV_BIN / "mypy") + stubs


def sanitized(name: str, sanitizers: str, **options: str) -> Tally:
    """Builds the core alone with these sanitizers, and runs its C tests."""
    folder = ROOT / "build" / name
    if not (folder / "build.ninja").exists():
        setup = passes(VENV_BIN / "meson", "setup", folder, ROOT, "-Dpython=false", f"-Db_sanitize={sanitizers}",
                       "-Db_lundef=false", "-Dbuildtype=debugoptimized")  # fmt: skip
        if setup.failed:
            return setup
    compiled = passes(VENV_BIN / "meson", "compile", "-C", folder)
    if compiled.failed:
        return compiled
    os.environ.update(options)
    return run_meson(folder, "--timeout-multiplier", "20")


def step_asan() -> Tally:
    """The core and its C tests under AddressSanitizer and UndefinedBehaviorSanitizer."""
    return sanitized(
        "asan", "address,undefined",
        ASAN_OPTIONS="halt_on_error=1:abort_on_error=1:detect_leaks=1",
        UBSAN_OPTIONS="halt_on_error=1:abort_on_error=1:print_stacktrace=1",
    )  # fmt: skip


def step_tsan() -> Tally:
    """The core and its C tests under ThreadSanitizer."""
    return sanitized("tsan", "thread", TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1")


# Each fuzzer with the corpus that it goes on from.
FUZZERS = {
    "fuzz_reader": "tests/fuzz/corpus", "fuzz_safetensors": "tests/fuzz/safetensors",
    "fuzz_archive": "tests/fuzz/archive", "fuzz_age": "tests/fuzz/age",
    "fuzz_policy": "tests/fuzz/policy",
}  # fmt: skip


def fuzz(seconds: int) -> Tally:
    """Builds the fuzzers with clang, and runs each from its corpus on. What they find lands in build/fuzz."""
    folder = ROOT / "build" / "fuzz"
    if not (folder / "build.ninja").exists():
        setup = passes(VENV_BIN / "meson", "setup", folder, ROOT, "-Dpython=false", "-Dfuzz=true",
                       "-Db_lundef=false", CC="clang")  # fmt: skip
        if setup.failed:
            return setup
    total = Tally()
    for name, corpus in FUZZERS.items():
        compiled = passes(VENV_BIN / "meson", "compile", "-C", folder, name)
        if compiled.failed:
            return compiled
        found = folder / f"found_{name}"
        found.mkdir(exist_ok=True)
        total += passes(
            folder / "tests" / "fuzz" / name, f"-max_total_time={seconds}", "-timeout=20", "-verbosity=0",
            "-print_final_stats=1", f"-artifact_prefix={folder}/", found, corpus,
        )  # fmt: skip
    return total


def step_fuzz() -> Tally:
    """What reads files of others, under libFuzzer and AddressSanitizer, a minute each."""
    return fuzz(60)


def step_valgrind() -> Tally:
    """memcheck over the extension."""
    return passes(PYTHON, "tools/memcheck.py")


def step_long() -> Tally:
    """The tests marked `check`. The wheel must be there for its test."""
    return passes(PYTHON, "tools/build_wheel.py") + run_pytest(PYTHON, "check", "-m", "check")


def step_pythons() -> Tally:
    """All tests on each supported Python; the sid root brings the newest."""
    found, missing = interpreters.find()
    total = Tally()
    for series in interpreters.SUPPORTED:
        if series in found:
            heading(f"all tests, Python {found[series].version}")
            total += run_interpreter(found[series], ["build", "test"])
        elif series != SID_SERIES:
            print(f"check: Python {series} is missing ({missing[series]}); put it on PATH", file=sys.stderr)
            total += Tally(failed=1)
    return total


def step_sid() -> Tally:
    """make test in a Debian sid root, whose python3 is 3.14."""
    return passes("tools/sid-root", "make", "test")


def step_suites() -> Tally:
    """Test suites of other programs: CPython's, NumPy's, pandas's, scikit-learn's, pyperformance's."""
    return passes("tests/suites/run")


def step_torch() -> Tally:
    """torch's memory by line, frozen, wiped, served, in the checkout's environment: it is too large for the others."""
    found = passes(PYTHON, "tools/prepare.py", "torch")
    tests = [f"tests/python/test_{name}_torch.py" for name in ("native", "freeze", "wiping")]
    served = "tests/python/test_services.py::test_a_long_flood[torch]"
    return found + run_pytest(PYTHON, "torch", *tests) + run_pytest(PYTHON, "torch-served", "-m", "check", served)


def step_residue() -> Tally:
    """What a secret leaves behind in all scenarios, those of large packages too, in the checkout's environment."""
    found = passes(PYTHON, "tools/prepare.py", "residue")
    return found + run_pytest(PYTHON, "residue", "tests/python/test_residue_scenarios.py")


def step_soak() -> Tally:
    """What takes hours, for make soak: the tests marked `soak`, and ten minutes of fuzzing."""
    return fuzz(600) + run_pytest(PYTHON, "soak", "-m", "soak")


STEPS: dict[str, Callable[[], Tally]] = {
    name.removeprefix("step_"): value for name, value in list(globals().items()) if name.startswith("step_")
}


def main(arguments: list[str]) -> int:
    if "--list" in arguments:
        for name, step in STEPS.items():
            print(f"{name:10} {(step.__doc__ or '').partition(chr(10))[0]}")
        return 0
    unknown = [name for name in arguments if name not in STEPS]
    if unknown:
        print(f"check: no step '{unknown[0]}'; the steps are {', '.join(STEPS)}", file=sys.stderr)
        return 2
    results: dict[str, Tally] = {}
    for name in arguments or (name for name in STEPS if name != "soak"):
        heading(f"check: {name}")
        start = time.monotonic()
        results[name] = STEPS[name]()
        print(f"check: {name}: {results[name]} ({time.monotonic() - start:.0f} s)", flush=True)
    heading("summary")
    for name, tally in results.items():
        print(f"{name:10} {tally}")
    total = sum(results.values(), start=Tally())
    print(total)
    return 0 if total.failed == 0 and total.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
