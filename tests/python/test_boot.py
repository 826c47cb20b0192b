"""The start-up file: what a Python start costs and shows with it, and what goes wrong in it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Run

pytestmark = pytest.mark.core

MODULES = "import sys; print(*sorted(sys.modules))"


@pytest.fixture
def start(execute: Run, python: str, tmp_path: Path) -> Callable[..., Any]:
    """Runs `python ARGUMENTS` with BURSAR_RUN set to `settings`, where PID stands for the process's own."""

    def run(settings: str, *arguments: str, **options: Any) -> Any:
        text = 'BURSAR_RUN=$(echo "$1" | sed "s/PID/$$/"); export BURSAR_RUN; shift; exec "$@"'
        return execute("sh", "-c", text, "sh", settings, python, *arguments, **options)

    return run


@pytest.fixture
def reserved(execute: Run, python: str, ledger: Path) -> Path:
    """A ledger as `bursar run` leaves it to the program."""
    done = execute(python, "-c", f"from bursar import _bursar; _bursar.create({str(ledger)!r}, False)")
    assert done.returncode == 0, done.stderr
    return ledger


def settings(path: Path, **others: object) -> str:
    fields = {"pid": "PID", "mode": "exact", "out": path, "cap": 0, "within": 1, "follow": 0, "quiet": 1} | others
    return ";".join(f"{key}={value}" for key, value in fields.items())


def test_without_bursar_run_nothing_is_imported(execute: Run, python: str) -> None:
    with_site = execute(python, "-c", MODULES)
    assert with_site.stderr == ""
    assert not [name for name in with_site.stdout.split() if "bursar" in name]


def test_a_program_sees_three_modules_more(
    start: Callable[..., Any], execute: Run, python: str, reserved: Path
) -> None:
    plain = set(execute(python, "-c", MODULES).stdout.split())
    done = start(settings(reserved), "-c", MODULES)
    assert done.returncode == 0 and done.stderr == ""
    assert set(done.stdout.split()) - plain == {"atexit", "bursar", "bursar._boot", "bursar._bursar"} - plain


def test_the_books_are_open_before_the_program_begins(
    start: Callable[..., Any], reserved: Path, facts: Callable[[Path], dict[str, Any]]
) -> None:
    done = start(
        settings(reserved),
        "-c",
        "from bursar import _bursar; kept = bytearray(1 << 20)\n"
        "print(_bursar.status(), _bursar.live_bytes() > 1 << 20)",
    )
    assert done.returncode == 0 and done.stderr == ""
    assert "'mode': 'exact'" in done.stdout and str(reserved) in done.stdout and done.stdout.endswith("True\n")
    assert facts(reserved)["peak_bytes"] > 1 << 20


@pytest.mark.parametrize("follow", [0, 1])
def test_children_inherit_the_setting_only_where_they_are_followed(
    start: Callable[..., Any], reserved: Path, follow: int
) -> None:
    """In os.environ, in C's environment, and in what a child gets."""
    done = start(
        settings(reserved, follow=follow),
        "-c",
        "import ctypes, os, subprocess\n"
        "getenv = ctypes.CDLL(None).getenv; getenv.restype = ctypes.c_char_p\n"
        "child = subprocess.run(['sh', '-c', 'echo ${BURSAR_RUN+set}'], capture_output=True).stdout\n"
        "print('BURSAR_RUN' in os.environ, getenv(b'BURSAR_RUN') is not None, child == b'set\\n')\n",
    )
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.split() == [str(bool(follow))] * 3


def test_another_process_keeps_no_books(start: Callable[..., Any], reserved: Path) -> None:
    """A Python that the program's command starts on its way is not the program."""
    text = "import os; from bursar import _bursar; print(_bursar.live_bytes(), 'BURSAR_RUN' in os.environ)"
    done = start(settings(reserved, pid=1), "-c", text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "-1 False\n", "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "pid=PID",
        "pid=PID;mode=exact;out=/nowhere/there.bursar",
        "pid=PID;mode=exact;out=/proc/self/status",
        "pid=PID;mode=exact;out=%zz",
        "pid=PID;mode=exact;cap=many;out=x",
    ],
)
def test_bad_settings_never_stop_a_program(start: Callable[..., Any], text: str) -> None:
    done = start(text, "-c", "import sys; print('ran'); sys.exit(3)")
    assert (done.returncode, done.stdout) == (3, "ran\n")
    assert done.stderr.startswith("bursar: no books are kept: ")
    assert done.stderr.count("\n") == 1


def test_a_closed_stderr(start: Callable[..., Any], reserved: Path, execute: Run, python: str) -> None:
    program = "import sys; print(sys.stderr)"
    for text in (settings(reserved), "pid=PID;mode=exact;out=/nowhere/there.bursar"):
        done = start(text, "-c", program, preexec_fn=lambda: os.close(2), stderr=None)
        assert (done.returncode, done.stdout) == (0, "None\n")


@pytest.mark.parametrize("broken", ["raise RuntimeError('two\\nlines')", "import nothing_of_that_name", "not Python"])
def test_a_package_that_does_not_load_never_stops_a_program(
    start: Callable[..., Any], tmp_path: Path, reserved: Path, broken: str
) -> None:
    """As where an upgrade was cut short."""
    package = tmp_path / "first" / "bursar"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(broken + "\n")
    done = start(settings(reserved), "-c", "print('ran')", env={"PYTHONPATH": str(package.parent)})
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert done.stderr.startswith("bursar: no books are kept, the package does not load: ")
    assert done.stderr.count("\n") == 1


def test_an_extension_that_does_not_load_never_stops_a_program(
    start: Callable[..., Any], execute: Run, python: str, tmp_path: Path, reserved: Path
) -> None:
    found = execute(python, "-c", "import bursar; print(bursar.__path__[0])").stdout.strip()
    package = tmp_path / "first" / "bursar"
    package.mkdir(parents=True)
    for name in ("__init__.py", "_boot.py"):
        (package / name).write_text((Path(found) / name).read_text())
    done = start(settings(reserved), "-c", "print('ran')", env={"PYTHONPATH": str(package.parent)})
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert done.stderr.startswith("bursar: no books are kept: ")
    assert done.stderr.count("\n") == 1


def test_the_start_up_file_is_one_line_that_looks_before_it_imports(execute: Run, python: str) -> None:
    text = (
        "import bursar, json, os, sys\n"
        "paths = [os.path.join(folder, 'bursar.pth') for folder in sys.path]\n"
        "print(json.dumps([open(path).read() for path in paths if os.path.exists(path)]))\n"
    )
    (line,) = json.loads(execute(python, "-c", text).stdout)
    assert line.count("\n") == 1 and line.endswith("\n")
    assert line.startswith('import os, sys; ("BURSAR_RUN" in os.environ or ("BURSAR" in os.environ or "BURSAR_POLICY"')
