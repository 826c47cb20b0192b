"""Finds the Python interpreters to test: BURSAR_PYTHONS (executables or commands, separated by ':' or blanks) where it
is set, else python3.10 to python3.14 and python3 on PATH, and what pyenv installed."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

SUPPORTED = ("3.10", "3.11", "3.12", "3.13", "3.14")
OLDEST = (3, 10)

PROBE = """
import importlib.util, platform, sys, sysconfig
from pathlib import Path
print(platform.python_implementation())
print("%d.%d" % sys.version_info[:2])
print(sys.version.split()[0])
print(Path(sysconfig.get_paths()["include"], "Python.h").exists())
print(importlib.util.find_spec("ensurepip") is not None)
"""


class Interpreter(NamedTuple):
    series: str  # 3.12
    version: str  # 3.12.1
    executable: Path


def candidates() -> list[str]:
    told = os.environ.get("BURSAR_PYTHONS", "")
    if told.strip():
        return [word for word in re.split(r"[:\s]+", told) if word]
    found = [f"python{series}" for series in SUPPORTED] + ["python3"]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    if pyenv.is_dir():
        found += sorted(str(path) for path in pyenv.glob("3.*/bin/python3"))
    return found


def find() -> tuple[dict[str, Interpreter], dict[str, str]]:
    """Interpreters by series, the first found of each, and for each series without one the reason."""
    found: dict[str, Interpreter] = {}
    unfit: dict[str, str] = {}
    for candidate in candidates():
        executable = shutil.which(candidate)
        if executable is None:
            continue
        try:
            probe = subprocess.run([executable, "-I", "-c", PROBE], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            continue
        facts = probe.stdout.split("\n")
        if probe.returncode != 0 or facts[0] != "CPython" or facts[1] in found:
            continue
        if tuple(map(int, facts[1].split("."))) < OLDEST:
            continue
        if facts[3] != "True" or facts[4] != "True":
            unfit[facts[1]] = f"{executable} has no {'Python.h' if facts[3] != 'True' else 'ensurepip'}"
            continue
        found[facts[1]] = Interpreter(facts[1], facts[2], Path(executable))
    missing = {series: unfit.get(series, "not found") for series in SUPPORTED if series not in found}
    return found, missing
