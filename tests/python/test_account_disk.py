"""No room for the ledger: the program's result is unchanged, one warning says that the books stopped, and what was
booked until then reads."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import LIMIT, Done, Run

# Makes ever new stacks and blocks, so that the ledger must grow; prints the same with and without books.
PROGRAM = """\
import hashlib, sys
one, kept = b'x', []
text = 'def f(n, i):\\n    if not n: return one * 100\\n' + ''.join(
    f'    if i % 40 == {k}: return f(n - 1, i // 40)\\n' for k in range(40))
exec(text)
for i in range(60_000):
    kept.append(f(4, i * 7919))
print(len(kept), hashlib.sha256(b''.join(kept)).hexdigest())
sys.stderr.write('the program has ended\\n')
sys.exit(7)
"""


SmallDisk = Callable[[int], Path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of so many KiB."""
    mounted = []

    def mount(kib: int) -> Path:
        place = tmp_path / "disk"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "bursar-test", place], capture_output=True)
        if done.returncode:
            pytest.skip(f"a small disk needs root, to mount a tmpfs: {done.stderr.decode().strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", place], check=True)


def check_broken(done: Done, plain: Done, bursar: Run, ledger: Path) -> dict[str, Any]:
    assert (done.returncode, done.stdout) == (plain.returncode, plain.stdout), done.stderr
    lines = done.stderr.splitlines()
    assert lines.count("the program has ended") == 1
    warnings = [line for line in lines if "the books stopped" in line]
    assert len(warnings) == 1 and warnings[0].startswith("bursar: "), done.stderr
    read = bursar("report", ledger, "--format", "json")
    assert read.returncode == 0, read.stderr
    facts: dict[str, Any] = json.loads(read.stdout)
    assert facts["state"] == "broken" and facts["complete"] is False
    assert facts["allocations"] > 1000
    for name in "live_bytes", "allocations", "allocated_bytes", "peak_bytes":
        assert facts[name] == sum(site[name] for site in facts["sites"]), name
    table = bursar("report", ledger)
    assert table.returncode == 0 and table.stdout
    return facts


@pytest.fixture
def plain(execute: Run, python: str, tmp_path: Path) -> Done:
    (tmp_path / "program.py").write_text(PROGRAM)
    return execute(python, tmp_path / "program.py")


@pytest.mark.parametrize("kib", [600, 900, 1500, 2200, 3000])
def test_a_full_disk(bursar: Run, plain: Done, small_disk: SmallDisk, tmp_path: Path, kib: int) -> None:
    place = small_disk(kib)
    ledger = place / "full.bursar"
    done = bursar("run", "-o", ledger, tmp_path / "program.py")
    if "the books stopped" not in done.stderr and not ledger.exists():
        pytest.fail(done.stderr)
    check_broken(done, plain, bursar, ledger)
    assert ledger.stat().st_size <= kib * 1024


def test_a_disk_that_somebody_else_fills(bursar: Run, plain: Done, small_disk: SmallDisk, tmp_path: Path) -> None:
    place = small_disk(6000)
    ledger = place / "full.bursar"
    fill = f"""
import os
with open({str(place / 'other')!r}, 'wb', buffering=0) as other:
    try:
        while True: other.write(bytes(65536))
    except OSError: pass
"""
    (tmp_path / "program.py").write_text(fill + PROGRAM)
    done = bursar("run", "-o", ledger, tmp_path / "program.py")
    check_broken(done, plain, bursar, ledger)


@pytest.mark.parametrize("kib", [600, 1100, 2000, 3000])
def test_a_file_size_limit(bursar: Run, plain: Done, ledger: Path, tmp_path: Path, kib: int) -> None:
    """RLIMIT_FSIZE: beyond it a write is SIGXFSZ, which would end the program."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, kib * 1024))

    done = bursar("run", "-o", ledger, tmp_path / "program.py", preexec_fn=limit)
    check_broken(done, plain, bursar, ledger)
    assert ledger.stat().st_size <= kib * 1024


@pytest.mark.core
def test_a_limit_that_the_program_sets_itself(bursar: Run, ledger: Path, tmp_path: Path) -> None:
    """A program that lowers its own limits in the middle meets only its own errors."""
    program = tmp_path / "program.py"
    program.write_text(
        "import resource, signal\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n" + PROGRAM.replace("sys.exit(7)", "")
        + "try:\n    open('big', 'wb').write(bytes(1_000_000))\nexcept OSError as error: print(error.errno)\n"
    )
    done = bursar("run", "-o", ledger, program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(27 if sys.platform == "linux" else 0)
    assert done.stderr.count("the books stopped") == 1
    read = bursar("report", ledger, "--format", "json")
    assert json.loads(read.stdout)["state"] == "broken"


@pytest.mark.core
def test_a_ledger_that_is_removed(bursar: Run, ledger: Path, tmp_path: Path) -> None:
    """Somebody cleans up while it runs: the program does not care, and no file comes back."""
    program = tmp_path / "program.py"
    program.write_text(f"import os\nos.unlink({str(ledger)!r})\n" + PROGRAM)
    done = bursar("run", "-o", ledger, program, timeout=LIMIT)
    assert done.returncode == 7 and done.stdout.startswith("60000 ")
    assert "Traceback" not in done.stderr
    assert not ledger.exists() or os.stat(ledger).st_size > 0
