#!/usr/bin/env python3
"""Builds bursar and installs it into a virtual environment: install.py [PYTHON], by default .venv's.

The Meson build folder is kept (build/cp311 for CPython 3.11, for instance), so only what changed is compiled again.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIRST_ERROR = re.compile(r"FAILED|: (fatal )?error: |: ERROR: ")
TAG = "import sys; print(f'cp{sys.version_info[0]}{sys.version_info[1]}' + getattr(sys, 'abiflags', ''))"


def tag_of(python: Path) -> str:
    """A short name for the interpreter's ABI, such as cp311."""
    return subprocess.run([python, "-c", TAG], check=True, capture_output=True, text=True).stdout.strip()


def build_folder(python: Path) -> Path:
    return ROOT / "build" / tag_of(python)


def install(python: Path, verbose: bool = False) -> tuple[int, str]:
    """Builds and installs with the tools that `python`'s environment holds. Returns pip's exit status and output."""
    folder = build_folder(python)
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-build-isolation",
        "--no-deps", "--force-reinstall", f"--config-settings=build-dir={folder.relative_to(ROOT)}", ".",
    ]  # fmt: skip
    # The build tools of its own environment first, then .venv's, for npm.
    path = os.pathsep.join([str(python.parent), str(ROOT / ".venv" / "bin"), os.environ.get("PATH", os.defpath)])
    environment = dict(os.environ, PATH=path)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    return done.returncode, done.stdout


def main(arguments: list[str]) -> None:
    python = Path(arguments[0]).absolute() if arguments else ROOT / ".venv" / "bin" / "python"
    print(f"build: compiling and installing into {python.parent.parent.name}", flush=True)
    status, output = install(python)
    if status != 0:
        lines = output.partition("[end of output]")[0].splitlines()
        first = next((i for i, line in enumerate(lines) if FIRST_ERROR.search(line)), max(len(lines) - 40, 0))
        print("\n".join(line.strip() for line in lines[first : first + 40]), file=sys.stderr)
        sys.exit("build: failed; the first error is above")


if __name__ == "__main__":
    main(sys.argv[1:])
