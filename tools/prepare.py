#!/usr/bin/env python3
"""Sets up what a make target needs: system packages, .venv and the packages in it.

    prepare.py GROUP...        GROUP: build, demo, test, check, bench, torch, residue, wheel

Runs under the system's python3, before anything is installed. Does nothing, quickly, where all is there already.
The details of what apt-get, venv and pip say go to build/prepare.log; a failure is one line.
"""

import glob
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOG = ROOT / "build" / "prepare.log"
PACKAGES = ROOT / "tools" / "packages.txt"
REQUIREMENTS = ROOT / "tools" / "requirements"
OLDEST_PYTHON = (3, 10)

# For each group: the groups of system packages, and the requirement files.
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "build": (("build",), ("build", "node")),
    "demo": (("build",), ("build", "node", "demo")),
    "test": (("build", "test"), ("build", "node", "test")),
    "check": (("build", "test", "check"), ("build", "node", "test", "check", "suites", "wheel")),
    "bench": (("build", "bench"), ("build", "node", "test")),
    "torch": (("build", "test"), ("build", "node", "test", "torch")),
    "residue": (("build", "test"), ("build", "node", "test", "torch", "residue")),
    "wheel": (("build",), ("build", "node", "wheel", "core")),
}


class Package(NamedTuple):
    name: str
    group: str
    probe: str
    why: str


def fail(message: str) -> NoReturn:
    sys.exit(f"set-up: {message}")


def say(message: str) -> None:
    print(f"set-up: {message}", flush=True)


def run_logged(command: list[str], environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Runs the command with its output in the log. Returns its exit status and the last line that tells something."""
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("a") as log:
        log.write(f"\n$ {' '.join(command)}\n")
        log.flush()
        start = log.tell()
        try:
            status = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            ).returncode
        except OSError as error:
            return 127, str(error)
    with LOG.open(errors="replace") as log:
        log.seek(start)
        lines = [line.strip() for line in log if line.strip() and "[notice]" not in line]
    errors = [line for line in lines if line.lower().startswith(("error:", "e:"))]
    return status, (errors or lines or ["no output"])[-1]


def read_packages(groups: set[str]) -> list[Package]:
    packages = []
    series = "{}.{}".format(*sys.version_info[:2])
    for line in PACKAGES.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            package = Package(*(field.strip() for field in line.replace("X.Y", series).split("|")))
            if package.group in groups:
                packages.append(package)
    return packages


def is_there(probe: str) -> bool:
    kind, _, what = probe.removeprefix("?").partition(":")
    if kind == "command":
        return any(shutil.which(command) for command in what.split(","))
    if kind == "library":
        folders = ("/usr/lib", "/usr/lib64", "/usr/lib/*", "/usr/local/lib")
        return any(glob.glob(f"{folder}/{what}*") for folder in folders)
    if kind == "header":
        return compiler_finds(what)
    if probe == "python:headers":
        return Path(sysconfig.get_paths()["include"], "Python.h").exists()
    if probe == "python:venv":
        return importlib.util.find_spec("venv") is not None and importlib.util.find_spec("ensurepip") is not None
    if probe == "python:testsuite":
        return bool(glob.glob(sysconfig.get_paths()["stdlib"] + "/test/test_gc.py"))
    if probe == "clang:fuzzer":
        return clang_has_fuzzer()
    fail(f"tools/packages.txt: unknown probe '{probe}'")


def compiler_finds(header: str) -> bool:
    compiler = next((found for name in ("gcc", "cc", "clang") if (found := shutil.which(name))), None)
    command = [compiler or "cc", "-E", "-x", "c", "-include", header, os.devnull]
    return compiler is not None and subprocess.run(command, capture_output=True).returncode == 0


def clang_has_fuzzer() -> bool:
    """Whether clang finds its libFuzzer: on Debian it is in a package of its own."""
    try:
        folder = subprocess.run(["clang", "-print-runtime-dir"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return False
    return any(Path(folder.strip()).parent.glob("**/libclang_rt.fuzzer*.a"))


def apt_prefix() -> list[str] | None:
    """How to run apt-get as root: nothing to add, sudo, or None where neither goes."""
    if not shutil.which("apt-get"):
        return None
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True).returncode == 0:
        return [sudo, "-n"]
    return None


def install_packages(groups: set[str]) -> None:
    missing = [package for package in read_packages(groups) if not is_there(package.probe)]
    if not missing:
        return
    prefix = apt_prefix()
    if prefix is None:
        missing = [package for package in missing if not package.probe.startswith("?")]
        if not missing:
            return
    names = " ".join(package.name for package in missing)
    if prefix is None:
        fail(f"missing system packages; install them and run make again: {names}")
    say(f"installing system packages: {names}")
    environment = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]
    update = [*environment, "update", "-q"]
    install = [*environment, "install", "-y", "-q", "--no-install-recommends", *(package.name for package in missing)]
    if glob.glob("/var/lib/apt/lists/*_Packages*"):
        if run_logged(install)[0] == 0:
            return
        say("the package lists may be old: updating them")
    status, line = run_logged(update)
    if status == 0:
        status, line = run_logged(install)
    if status != 0:
        tell = fail if any(not package.probe.startswith("?") for package in missing) else say
        tell(f"apt-get could not install {names}: {line} (more in {LOG.relative_to(ROOT)})")


def make_venv() -> None:
    python = VENV / "bin" / "python"
    if python.exists():
        if subprocess.run([python, "-c", "import pip"], capture_output=True).returncode == 0:
            return
        say(".venv is damaged: making it anew")
        shutil.rmtree(VENV)
    say(f"making .venv with Python {sys.version.split()[0]}")
    status, line = run_logged([sys.executable, "-m", "venv", str(VENV)])
    if status != 0:
        fail(f"could not make .venv: {line} (more in {LOG.relative_to(ROOT)})")


def requirement_digest(name: str) -> str:
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    parts = [text] + [
        (REQUIREMENTS / line.split()[1]).read_text() for line in text.splitlines() if line.startswith("-r ")
    ]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def install_requirements(python: Path, names: list[str], stamps: Path) -> None:
    """Installs requirement files into the environment of `python`, those that changed since the last time."""
    wanted = {name: requirement_digest(name) for name in names}
    stale = [
        name
        for name, digest in wanted.items()
        if not (stamps / name).exists() or (stamps / name).read_text() != digest
    ]
    if not stale:
        return
    say(f"installing Python packages for {', '.join(stale)}")
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-q"]
    for name in stale:
        command += ["-r", str(REQUIREMENTS / f"{name}.txt")]
    status, line = run_logged(command)
    if status != 0:
        fail(f"pip could not install the packages for {', '.join(stale)}: {line} (more in {LOG.relative_to(ROOT)})")
    stamps.mkdir(exist_ok=True)
    for name in stale:
        (stamps / name).write_text(wanted[name])


def main(arguments: list[str]) -> None:
    unknown = [name for name in arguments if name not in GROUPS]
    if unknown or not arguments:
        fail(f"usage: prepare.py GROUP..., with GROUP one of {', '.join(GROUPS)}")
    if sys.version_info < OLDEST_PYTHON:
        fail(f"python3 is {sys.version.split()[0]}, and bursar needs 3.10 or later: put a newer python3 first on PATH")
    install_packages({group for name in arguments for group in GROUPS[name][0]})
    make_venv()
    names = dict.fromkeys(requirement for name in arguments for requirement in GROUPS[name][1])
    install_requirements(VENV / "bin" / "python", list(names), VENV / ".installed")


if __name__ == "__main__":
    main(sys.argv[1:])
