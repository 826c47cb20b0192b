#!/usr/bin/env python3
"""make wheel: builds the wheel and lets auditwheel make it fit for other Linux machines. It lands in dist/."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def build_wheel(folder: Path) -> Path:
    """Builds a repaired wheel into the folder, which is emptied of wheels first. Returns its path."""
    raw = ROOT / "build" / "wheel"
    for place in (raw, folder):
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob("bursar-*.whl"):
            old.unlink()
    environment = dict(os.environ, PATH=f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    tag = "cp{}{}".format(*sys.version_info[:2])
    command = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "-q", "--no-build-isolation",
               "--no-deps", f"--config-settings=build-dir=build/wheel-{tag}", "-w", str(raw), "."]  # fmt: skip
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    (built,) = raw.glob("bursar-*.whl")
    repair = [sys.executable, "-m", "auditwheel", "repair", "--strip", "-w", str(folder), str(built)]
    done = subprocess.run(repair, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"wheel: auditwheel could not repair {built.name}: {done.stderr.strip().splitlines()[-1]}")
    (wheel,) = folder.glob("bursar-*.whl")
    return wheel


if __name__ == "__main__":
    try:
        print(f"wheel: {build_wheel(ROOT / 'dist').relative_to(ROOT)}")
    except subprocess.CalledProcessError as failure:
        sys.exit(f"wheel: pip could not build it (exit status {failure.returncode}); its words are above")
