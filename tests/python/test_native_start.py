"""bursar.start(domains=...), without `bursar run`: the hooks are written into the modules that are loaded."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from books import line_of
from running import Run

pytestmark = pytest.mark.core

HERE = Path(__file__).parent
# How the loader binds names: at the first call, at once, and with the places sealed afterwards.
BINDINGS = {"lazy": ["-Wl,-z,lazy,-z,norelro"], "now": ["-Wl,-z,now,-z,norelro"], "sealed": ["-Wl,-z,now,-z,relro"]}


def build(out: Path, flags: list[str], source: str = "native_driver.c") -> Path:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler to build the driver with: install gcc")
    subprocess.run(
        [*compiler.split(), "-O1", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-shared", "-fPIC", "-pthread",
         "-D_GNU_SOURCE", *flags, "-o", out, HERE / source], check=True,
    )  # fmt: skip
    return out


@pytest.fixture(scope="session", params=BINDINGS)
def driver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("driver") / f"{request.param}.so", BINDINGS[request.param])


HEAD = """import ctypes, sys
import bursar
def load():
    driver = ctypes.PyDLL(sys.argv[1])
    for name in "made_here", "made_by_table", "made_by_variable", "mapped_here":
        getattr(driver, name).restype = ctypes.c_void_p
        getattr(driver, name).argtypes = [ctypes.c_size_t]
    driver.ended_here.argtypes = [ctypes.c_void_p]
    return driver
"""


class Read:
    def __init__(self, text: str, path: Path, facts: dict[str, Any]) -> None:
        self.text, self.path, self.facts = text, path, facts

    def live(self, mark: str, domain: str) -> int:
        line = line_of(self.text, mark)
        return sum(
            site["live_bytes"] for site in self.facts["sites"]
            if site["domain"] == domain and site["stack"] and site["stack"][0]["file"] == str(self.path)
            and site["stack"][0]["line"] == line
        )  # fmt: skip


def play(execute: Run, python: str, command: str, tmp_path: Path, driver: Path, text: str) -> Read:
    path, ledger = tmp_path / "program.py", tmp_path / "start.bursar"
    path.write_text(text)
    done = execute(python, path, driver)
    assert done.returncode == 0, done.stderr
    report = execute(command, "report", ledger, "--format", "json")
    return Read(text, path, json.loads(report.stdout))


@pytest.mark.parametrize("before", [True, False], ids=["loaded before", "loaded after"])
@pytest.mark.parametrize("domains", ["all", "malloc,mmap"])
def test_modules_loaded_before_and_after(
    execute: Run, python: str, command: str, tmp_path: Path, driver: Path, before: bool, domains: str
) -> None:
    """From its first call on, whether anything else allocates before that or not."""
    read = play(
        execute, python, command, tmp_path, driver,
        HEAD + ("driver = load()\n" if before else "")
        + f"bursar.start('exact', output='start.bursar', domains={domains!r})\n"
        + ("" if before else "driver = load()\n")
        + "a = driver.made_here(123_456)  # @name\n"
        "b = driver.made_by_table(234_567)  # @table\n"
        "c = driver.mapped_here(10 << 20)  # @mapping\n"
        "d = driver.made_here(345_678)  # @ended\n"
        "driver.ended_here(d)\n"
        "bursar.stop()\n",
    )  # fmt: skip
    assert read.live("name", "malloc") == 123_456
    assert read.live("table", "malloc") == 234_567
    assert read.live("mapping", "mmap") == 10 << 20
    assert read.live("ended", "malloc") == 0


def test_a_copied_pointer_is_not_seen(
    execute: Run, python: str, command: str, tmp_path: Path, driver: Path
) -> None:
    """What README.md declares: what the code kept for itself before goes by; and its end harms nothing."""
    read = play(
        execute, python, command, tmp_path, driver,
        HEAD + "driver = load()\n"
        "driver.remember_malloc()\n"
        "bursar.start('exact', output='start.bursar', domains='all')\n"
        "a = driver.made_by_variable(123_456)  # @variable\n"
        "b = driver.made_here(1_000)  # @name\n"
        "driver.ended_here(a)\n"
        "driver.ended_here(b)\n"
        "bursar.stop()\n"
        "bursar.start('exact', output='again.bursar', domains='all')\n"
        "driver.ended_here(driver.made_here(10))\n"
        "bursar.stop()\n",
    )  # fmt: skip
    assert read.live("variable", "malloc") == 0
    assert read.live("name", "malloc") == 0


def test_once_stopped_it_only_passes_through(
    execute: Run, python: str, command: str, tmp_path: Path, driver: Path
) -> None:
    read = play(
        execute, python, command, tmp_path, driver,
        HEAD + "driver = load()\n"
        "bursar.start('exact', output='start.bursar', domains='native')\n"
        "kept = driver.made_here(5_000)  # @kept\n"
        "bursar.stop()\n"
        "for i in range(1000): driver.ended_here(driver.made_here(i))\n"
        "driver.ended_here(kept)\n",
    )  # fmt: skip
    assert read.live("kept", "malloc") == 5_000


@pytest.mark.parametrize("word", ["mallok", "", "python,,numpy"])
def test_no_such_domain(execute: Run, python: str, tmp_path: Path, word: str) -> None:
    """Wrong input never costs data: the ledger that was there is still there."""
    (tmp_path / "start.bursar").write_text("mine")
    text = f"import bursar; bursar.start('exact', output='start.bursar', force=True, domains={word!r})"
    done = execute(python, "-c", text)
    assert done.returncode == 1 and "ValueError: no domain " in done.stderr
    assert (tmp_path / "start.bursar").read_text() == "mine"
