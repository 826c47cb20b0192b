"""The wheel of `make wheel` works where there is nothing else: an empty virtual environment, another folder."""

import json
import platform
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

DIST = Path(__file__).resolve().parent.parent / "dist"

pytestmark = pytest.mark.check


@pytest.fixture(scope="module")
def wheel() -> Path:
    tag = "-cp{}{}-".format(*sys.version_info[:2])
    found = [path for path in DIST.glob("bursar-*.whl") if tag in path.name]
    assert len(found) == 1, "no wheel of this Python in dist/: make wheel"
    return found[0]


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that holds the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=True)
    command = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel]
    subprocess.run(command, check=True, cwd=folder)
    return folder / "bin"


def test_it_is_for_many_machines(wheel: Path) -> None:
    assert "manylinux" in wheel.name


def test_it_holds_what_it_should(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    libraries = ("bursar/preload/libbursar_preload.so", "bursar/preload/libbursar_plain.so")
    for wanted in ("bursar.pth", "bursar/py.typed", "bursar/__init__.py", *libraries):
        assert wanted in names
    assert any(name.endswith(".data/scripts/bursar") for name in names)
    assert any(name.startswith("bursar/_bursar.") and name.endswith(".so") for name in names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not [name for name in names if "__pycache__" in name or "test" in name]


def test_the_command_runs(environment: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "books.bursar"
    code = "kept = [bytes(1000) for _ in range(50_000)]; print(len(kept))"
    run = [environment / "bursar", "run", "-o", ledger, "-c", code]
    done = subprocess.run(run, check=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "50000\n"
    report = subprocess.run(
        [environment / "bursar", "report", ledger, "--format", "json"], check=True, cwd=tmp_path, capture_output=True
    )
    assert b'"peak_bytes"' in report.stdout
    assert b'"schema"' in report.stdout


def test_a_program_without_python(environment: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "books.bursar"
    run = [environment / "bursar", "run", "-o", ledger, "--native", "--", "cat", "/dev/null"]
    subprocess.run(run, check=True, cwd=tmp_path)
    report = subprocess.run([environment / "bursar", "report", ledger], check=True, cwd=tmp_path, capture_output=True)
    assert b"ended, exact" in report.stdout


@pytest.mark.skipif(
    platform.machine() != "x86_64" or tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 35),
    reason="native stacks are known on x86-64 with glibc 2.35 or later",
)
def test_native_stacks_have_names(environment: Path, tmp_path: Path) -> None:
    """What was stripped from the wheel's own libraries is not needed for those of others."""
    ledger = tmp_path / "native.bursar"
    code = (
        "import ctypes; c = ctypes.PyDLL(None); c.malloc.restype = ctypes.c_void_p\n"
        "kept = c.malloc(123_456), ctypes.pythonapi.PyMem_Malloc(234_567)"
    )
    run = [environment / "bursar", "run", "--domains", "all", "--native", "-o", ledger, "-c", code]
    subprocess.run(run, check=True, cwd=tmp_path, capture_output=True)
    report = [environment / "bursar", "report", ledger, "--format", "json"]
    facts = json.loads(subprocess.run(report, check=True, cwd=tmp_path, capture_output=True).stdout)
    for domain, size in (("malloc", 123_456), ("python.mem", 234_567)):
        (site,) = (site for site in facts["sites"] if site["domain"] == domain and site["allocated_bytes"] == size)
        native = [frame["function"] for frame in site["stack"] if frame["native"]]
        assert any(name.startswith("ffi_call") for name in native), native


def test_the_package_imports(environment: Path, tmp_path: Path) -> None:
    code = "import bursar, sys; print(bursar.__version__, 'bursar._boot' in sys.modules)"
    command = [environment / "python", "-c", code]
    done = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "0.1.0 False\n"
