"""The example services (examples/service), served for a test: started, driven by wrk, looked at, and ended."""

import contextlib
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from running import LIMIT

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "service"
sys.path.append(str(EXAMPLE))
load = importlib.import_module("load")

MIB = 1 << 20
HARD = 64 * MIB  # the budget of each request there
CONNECTIONS = 8

# By name: what it needs, and how it is started; PORT is a free one.
_UVICORN = ("-m", "uvicorn", "--port", "PORT", "--log-level", "warning", "--timeout-keep-alive", "300")
_GUNICORN = ("-m", "gunicorn", "--config", str(EXAMPLE / "gunicorn.conf.py"), "--bind", "127.0.0.1:PORT")
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "plain": (("fastapi", "uvicorn", "sklearn"), (*_UVICORN, "app:app")),
    "fastapi": (("fastapi", "uvicorn", "sklearn"), (*_UVICORN, "governed:app")),
    "torch": (("fastapi", "uvicorn", "sklearn", "torch"), (*_UVICORN, "governed:app")),
    "gunicorn": (("flask", "gunicorn", "sklearn"), (*_GUNICORN, "wsgi:application")),
    "pool": (("sklearn",), (str(EXAMPLE / "pool.py"), "PORT")),
}


def needs(kind: str) -> None:
    """Skips where a package or wrk is missing."""
    for package in KINDS[kind][0]:
        if find_spec(package) is None:
            pytest.skip(f"no {package}")
    if not shutil.which("wrk"):
        pytest.skip("no wrk: install it (Debian: wrk)")


class Service(NamedTuple):
    process: "subprocess.Popen[bytes]"
    url: str
    log: Path
    ledgers: Path  # a folder

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def workers(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


def environment_of(kind: str, folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """One thread in the numeric libraries: what they would spin in is no request's."""
    fixed = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    fixed |= {"PYTHONPATH": f"{folder}{os.pathsep}{EXAMPLE}", "BURSAR_DIR": str(folder / "ledgers")}
    return environment | fixed | ({"SERVICE_MODEL": "torch_model"} if kind == "torch" else {})


@contextlib.contextmanager
def serving(
    kind: str, python: str, folder: Path, environment: dict[str, str], *, before: "tuple[str | Path, ...]" = (),
    program: "tuple[str, ...]" = (), app: "str | None" = None,
) -> Iterator[Service]:  # fmt: skip
    """A service that answers, until the end of the block, where it is told to end.

    before: words that it is started by, such as those of `bursar run`.  program, app: another program, or another
    application, than the example's.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [word.replace("PORT", str(port)) for word in program or KINDS[kind][1]]
    words[-1] = app or words[-1]
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*map(str, before or (python,)), *words], cwd=folder, env=environment_of(kind, folder, environment),
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + LIMIT
        while not accepts(port):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield Service(process, f"http://127.0.0.1:{port}", log, folder / "ledgers")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) in (0, -signal.SIGTERM, -signal.SIGKILL), log.read_text()
    finally:
        process.kill()
        process.wait()


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def write_requests(
    kind: str, python: str, folder: Path, environment: dict[str, str],
    absurd: tuple[str, ...] = ("/predict", "/explain"),
) -> Path:  # fmt: skip
    """What wrk is to send, with the answers of the model itself."""
    path = folder / "requests"
    code = f"import load, pathlib; load.write_requests(pathlib.Path({str(path)!r}), {absurd!r})"
    subprocess.run([python, "-c", code], env=environment_of(kind, folder, environment), check=True, timeout=LIMIT)
    return path


# --- figures of a process ---------------------------------------------------------------------------------------------


def status_bytes(pid: int, name: str) -> int:
    """VmRSS, or VmHWM: the most that it was."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) * 1024


def cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def verdicts(command: str, ledger: Path) -> dict[str, dict[str, Any]]:
    """What `bursar verdict` says of each scope in a ledger, of a process that runs or has ended."""
    done = subprocess.run([command, "verdict", str(ledger), "--format", "json"], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return {one["scope"]: one for one in json.loads(done.stdout)["verdicts"]}
