"""Programs that use memory in hostile ways, in every mode: results and status are their own, and the figures known."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from books import assert_balanced, line_of
from running import Facts, Run

pytestmark = pytest.mark.core

HERE = Path(__file__).parent
WAYS = {
    "exact": ["--domains", "all"],
    "exact with native stacks": ["--domains", "all", "--native"],
    "sample": ["--domains", "all", "--mode", "sample"],
    "sample with native stacks": ["--domains", "all", "--mode", "sample", "--native"],
    "count": ["--domains", "all", "--mode", "count"],
}
STORM = 2_000_000  # bytes: what threads may hold and drop between two looks at the peak


def built(folder: Path, source: str, *options: str) -> Path:
    cpp = source.endswith(".cpp")
    found = shutil.which(os.environ.get("CXX" if cpp else "CC") or ("c++" if cpp else "cc"))
    compiler = found or shutil.which("g++" if cpp else "gcc")
    if not compiler:
        pytest.skip("no compiler to build the driver with: install gcc and g++")
    out = folder / (source + ".so")
    flags = ["-Wall", "-Wextra", "-Werror", "-fno-builtin", "-shared", "-fPIC", "-pthread", "-D_GNU_SOURCE", "-g"]
    subprocess.run([compiler, *flags, *options, "-o", out, HERE / source], check=True)
    return out


@pytest.fixture(scope="session")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("hostile")
    return (
        built(folder, "hostile_driver.c", "-O1"), built(folder, "hostile_driver.cpp", "-O1"),
        built(folder, "native_driver.c", "-O1"),
    )  # fmt: skip


HEAD = """\
import ctypes, sys, threading, warnings
warnings.simplefilter("ignore")
c, cpp, other = sys.argv[1:]
for kind in (ctypes.CDLL, ctypes.PyDLL):  # without the GIL, and with it
    d, x = kind(c), kind(cpp)
    d.deep.restype, d.ended.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
"""
CASES = """\
    assert d.handlers(2000, 0) == 1  # @handlers
    assert d.handlers(2000, 1) == 1  # @elsewhere
    assert d.short_lives(50) == 200  # @lives
    assert d.come_and_go(other.encode(), 50) == 50  # @come
    assert d.refusals() == 0  # @refusals
    assert d.resized_by_many() == 1  # @resized
    assert d.forks(30) == 30  # @forks
    assert d.spawns(20) == 20  # @spawns
    assert d.contexts(200) == 400  # @contexts
    assert x.exceptions(100, 30) == 100  # @exceptions
    assert x.thrown_again() == 1  # @again
print("done")
sys.exit(7)
"""


@pytest.mark.parametrize("way", WAYS)
def test_hostile_programs(
    bursar: Run, facts: Facts, ledger: Path, tmp_path: Path, drivers: tuple[Path, Path, Path], way: str
) -> None:
    text = HEAD + CASES
    (tmp_path / "hostile.py").write_text(text)
    done = bursar("run", "-o", ledger, *WAYS[way], tmp_path / "hostile.py", *drivers)
    assert (done.returncode, done.stdout) == (7, "done\n"), done
    read = facts(ledger)
    assert read["complete"] and read["state"] == "ended"
    assert not [note for note in read["notes"] if "damaged" in note]
    assert read["allocations"] > 200_000
    malloc = [site for site in read["sites"] if site["domain"] == "malloc"]
    if read["mode"] == "count":
        assert 0 <= sum(site["live_bytes"] for site in malloc) < 300_000
        return
    if read["mode"] == "sample":
        return
    assert_balanced(read, STORM)

    def of(mark: str) -> tuple[int, int]:
        """Allocated and live bytes of malloc's whose innermost frame of the program is at that line."""
        line = line_of(text, mark)
        frames = [[f for f in site["stack"] if f["file"] == str(tmp_path / "hostile.py")][:1] for site in malloc]
        sites = [site for site, frame in zip(malloc, frames, strict=True) if frame and frame[0]["line"] == line]
        return sum(site["allocated_bytes"] for site in sites), sum(site["live_bytes"] for site in sites)

    assert of("contexts") == (2 * 400 * 500, 0)
    # What a handler does while its thread is in the books begins unseen; no end is.
    for mark in ("handlers", "elsewhere"):
        allocated, live = of(mark)
        assert allocated > 100_000 and live == 0
    # 31 frames that hold 100 to 130 integers, the text (three times: made, kept, looked at), and what C++ adds.
    allocated, live = of("exceptions")
    assert 2 * 100 * (31 * 115 * 4 + 3 * 1001) <= allocated < 2 * 100 * (31 * 115 * 4 + 3 * 1001 + 1000)
    assert live < 5_000  # of the unwinder's own
    for mark in ("resized", "refusals", "again"):
        assert of(mark)[1] < 5_000, mark


DEEP = """\
    def go():
        for frames in (10, 1000, 60_000, 66_000, 500_000):
            d.ended(d.deep(frames))  # @deep
    threading.stack_size(256 << 20)
    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
"""


@pytest.mark.parametrize("way", WAYS)
def test_very_deep_stacks(
    bursar: Run, facts: Facts, ledger: Path, tmp_path: Path, drivers: tuple[Path, Path, Path], way: str
) -> None:
    """What is deeper than is kept is cut at its outermost native frames, and counted."""
    text = HEAD + DEEP
    (tmp_path / "deep.py").write_text(text)
    done = bursar("run", "-o", ledger, *WAYS[way], tmp_path / "deep.py", *drivers)
    assert done.returncode == 0, done.stderr
    read = facts(ledger)
    assert read["complete"] and not [note for note in read["notes"] if "damaged" in note]
    if way != "exact with native stacks":
        return
    sites = [site for site in read["sites"] if site["allocated_bytes"] == 4242 * site["allocations"] > 0]
    deep = sorted(sum(frame["function"] == "deep" for frame in site["stack"]) for site in sites)
    assert deep[-4:-1] == [11, 1001, 60_001] and 65_000 < deep[-1] <= 65_536  # the last one twice
    assert all(site["stack"][-1]["function"] == "_bootstrap" for site in sites)
    assert sum(site["allocations"] for site in sites) == 10
    assert sum(site["live_bytes"] for site in sites) == 0
    assert read["deep_stacks"] == 1
