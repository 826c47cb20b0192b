"""The profilers that are compared, how each is started, and the virtual environment that holds them."""
from __future__ import annotations

import glob
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "bench" / "requirements.txt"
TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class Tool:
    """One way to profile. In `arguments`, PYTHON, BIN, CAPTURE and SCRIPT stand for paths of the run."""

    name: str
    label: str
    package: str  # the distribution that it comes from; empty for Python itself
    arguments: tuple[str, ...]
    report: tuple[str, ...] = ()  # the command that makes a flamegraph REPORT of CAPTURE
    every_pair: bool = False  # measured in every pair, however long that takes
    only: frozenset[str] = frozenset()  # measured on these workloads; empty: on all

    def command(self, venv: Path, capture: Path, script: Path) -> list[str]:
        return _fill(self.arguments, venv, {"CAPTURE": capture, "SCRIPT": script})

    def report_command(self, venv: Path, capture: Path, report: Path) -> list[str]:
        return _fill(self.report, venv, {"CAPTURE": capture, "REPORT": report})


def _fill(arguments: tuple[str, ...], venv: Path, places: dict[str, Path]) -> list[str]:
    places = {**places, "PYTHON": venv / "bin" / "python"}
    capture = str(places["CAPTURE"])
    return [
        str(places[part]) if part in places else part.replace("BIN/", f"{venv}/bin/").replace("CAPTURE", capture)
        for part in arguments
    ]


def find_library(name: str) -> str:
    """The shared library of that name, where the system keeps those; empty where it has none."""
    folders = ("/usr/lib/*", "/usr/lib64", "/usr/lib", "/usr/local/lib")
    return next((path for folder in folders for path in sorted(glob.glob(f"{folder}/{name}"))), "")


# What comes with the system (tools/packages.txt): a command or a library.
SYSTEM = {
    "heaptrack": shutil.which("heaptrack"),
    "jemalloc": find_library("libjemalloc.so.2"),
    "tcmalloc": find_library("libtcmalloc.so.4"),
}
# Its memory profiler alone; what it would send at the end goes nowhere.
_DDTRACE = (
    "DD_PROFILING_ENABLED=true",
    "DD_PROFILING_MEMORY_ENABLED=true",
    "DD_PROFILING_STACK_ENABLED=false",
    "DD_PROFILING_LOCK_ENABLED=false",
    "DD_PROFILING_EXCEPTION_ENABLED=false",
    "DD_PROFILING_UPLOAD_INTERVAL=3600",
    "DD_TRACE_ENABLED=false",
    "DD_TRACE_STARTUP_LOGS=false",
    "DD_TRACE_AGENT_URL=unix:///nonexistent/agent",
    "DD_CRASHTRACKING_ENABLED=false",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED=false",
    "DD_REMOTE_CONFIGURATION_ENABLED=false",
)
# Goals speak of these, or nothing was known of them: what is slow is measured on them alone.
FEW = frozenset(("json", "trees", "calls", "threads", "sklearn", "native", "torch"))
FEWER = frozenset(("json", "trees", "calls", "sklearn"))

NONE = Tool("none", "no profiler", "", ("PYTHON", "SCRIPT"))
_FLAMEGRAPH = ("BIN/memray", "flamegraph", "-f", "-o", "REPORT", "CAPTURE")
TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "ours",
            "bursar (exact)",
            "bursar",
            ("BIN/bursar", "run", "-o", "CAPTURE", "SCRIPT"),
            ("BIN/bursar", "report", "CAPTURE", "--format", "html", "-o", "REPORT"),
            every_pair=True,
        ),
        Tool(
            "ours-native",
            "bursar, native only",
            "bursar",
            ("BIN/bursar", "run", "--domains", "numpy,malloc,mmap", "-o", "CAPTURE", "SCRIPT"),
            every_pair=True,
        ),
        Tool(
            "ours-all",
            "bursar, all domains",
            "bursar",
            ("BIN/bursar", "run", "--domains", "all", "-o", "CAPTURE", "SCRIPT"),
            every_pair=True,
        ),
        Tool(
            "ours-sample",
            "bursar, mode sample",
            "bursar",
            ("BIN/bursar", "run", "--mode", "sample", "-o", "CAPTURE", "SCRIPT"),
            every_pair=True,
        ),
        Tool(
            "ours-count",
            "bursar, mode count",
            "bursar",
            ("BIN/bursar", "run", "--mode", "count", "-o", "CAPTURE", "SCRIPT"),
            every_pair=True,
        ),
        Tool(
            "ours-wipe",
            "bursar, mode sample, all wiped",
            "bursar",
            ("BIN/bursar", "run", "--mode", "sample", "--wipe", "-o", "CAPTURE", "SCRIPT"),
            every_pair=True,
            only=frozenset(("json", "threads", "numpy", "pandas")),
        ),
        Tool(
            "ours-stacks",
            "bursar, all domains, native stacks",
            "bursar",
            ("BIN/bursar", "run", "--domains", "all", "--native", "-o", "CAPTURE", "SCRIPT"),
            only=FEW,
        ),
        Tool(
            "memray",
            "memray, Python allocators",
            "memray",
            ("BIN/memray", "run", "-q", "--trace-python-allocators", "-o", "CAPTURE", "SCRIPT"),
            _FLAMEGRAPH,
        ),
        Tool(
            "memray-aggregate",
            "memray, the same, aggregated",
            "memray",
            ("BIN/memray", "run", "-q", "--trace-python-allocators", "--aggregate", "-o", "CAPTURE", "SCRIPT"),
            _FLAMEGRAPH,
        ),
        Tool(
            "memray-native",
            "memray, native only (its default)",
            "memray",
            ("BIN/memray", "run", "-q", "-o", "CAPTURE", "SCRIPT"),
            _FLAMEGRAPH,
        ),
        Tool(
            "memray-default-stacks",
            "memray, native only, native stacks",
            "memray",
            ("BIN/memray", "run", "-q", "--native", "-o", "CAPTURE", "SCRIPT"),
            only=FEW,
        ),
        Tool(
            "memray-stacks",
            "memray, Python allocators, native stacks",
            "memray",
            ("BIN/memray", "run", "-q", "--native", "--trace-python-allocators", "-o", "CAPTURE", "SCRIPT"),
            only=FEW,
        ),
        Tool(
            "heaptrack", "heaptrack", "heaptrack", ("heaptrack", "-o", "CAPTURE", "PYTHON", "SCRIPT"), only=FEW
        ),
        Tool(
            "jemalloc",
            "jemalloc, sampling",
            "jemalloc",
            (
                "/usr/bin/env",
                f"LD_PRELOAD={SYSTEM['jemalloc']}",
                "MALLOC_CONF=prof:true,prof_final:true,prof_prefix:CAPTURE",
                "PYTHON",
                "SCRIPT",
            ),
            only=FEW,
        ),
        Tool(
            "tcmalloc",
            "tcmalloc, sampling",
            "tcmalloc",
            (
                "/usr/bin/env",
                f"LD_PRELOAD={SYSTEM['tcmalloc']}",
                "TCMALLOC_SAMPLE_PARAMETER=524288",
                "PYTHON",
                "SCRIPT",
            ),
            only=FEW,
        ),
        Tool(
            "ddtrace",
            "ddtrace, memory",
            "ddtrace",
            ("/usr/bin/env", *_DDTRACE, "BIN/ddtrace-run", "PYTHON", "SCRIPT"),
            only=FEW,
        ),
        Tool("scalene", "scalene", "scalene", ("BIN/scalene", "run", "-o", "CAPTURE", "SCRIPT")),
        Tool("fil", "fil", "filprofiler", ("BIN/fil-profile", "--no-browser", "-o", "CAPTURE", "run", "SCRIPT")),
        Tool("tracemalloc-1", "tracemalloc, 1 frame", "", ("PYTHON", "-X", "tracemalloc=1", "SCRIPT")),
        Tool("tracemalloc-25", "tracemalloc, 25 frames", "", ("PYTHON", "-X", "tracemalloc=25", "SCRIPT"), only=FEWER),
    )
}


def _quiet(command: list[str]) -> str:
    """Run a set-up step; the last line of what it said where it failed, else an empty string."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode == 0:
        return ""
    errors = [line for line in result.stdout.splitlines() if "error" in line.lower()]
    return (errors or result.stdout.strip().splitlines() or ["no output"])[-1].strip()


def install_peers(venv: Path, requirements: Path = REQUIREMENTS) -> dict[str, str]:
    """Make `venv` hold what the file pins. Returns the packages that would not install, with the reason."""
    pins = [line for line in requirements.read_text().splitlines() if line.strip() and not line.startswith("#")]
    key = hashlib.sha256("\n".join([sys.version, *pins]).encode()).hexdigest()
    stamp = venv / "installed"
    if stamp.is_file() and stamp.read_text() == key:
        return {}
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    missing: dict[str, str] = {}
    if _quiet([*pip, *pins]):
        for pin in pins:  # one that will not install must not take the others with it
            reason = _quiet([*pip, pin])
            if reason:
                missing[pin.split("==")[0]] = reason
    if not missing:
        stamp.write_text(key)
    return missing


def install_torch(venv: Path, folder: Path) -> str:
    """Install torch in a folder of its own, for the programs that import it. Returns the reason where that failed."""
    stamp = folder / "installed"
    if stamp.is_file() and stamp.read_text() == TORCH:
        return ""
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    reason = _quiet([*pip, "--target", str(folder), TORCH])
    if not reason:
        stamp.write_text(TORCH)
    return reason


def missing_of_the_system() -> dict[str, str]:
    return {name: "not installed" for name, where in SYSTEM.items() if not where}


def build_native(library: Path) -> str:
    """Compile the threaded native workload. Returns the reason where that failed, else ''."""
    compiler = next((found for name in ("gcc", "cc", "clang") if (found := shutil.which(name))), "")
    if not compiler:
        return "no C compiler"
    library.parent.mkdir(parents=True, exist_ok=True)
    source = ROOT / "bench" / "workloads" / "native.c"
    return _quiet([compiler, "-O2", "-g", "-shared", "-fPIC", "-o", str(library), str(source)])


def install_bursar(venv: Path, work: Path) -> str:
    """Build a wheel from this checkout and install it in `venv`. Returns the reason where that failed, else ''."""
    wheels = work / "wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "-q", "--disable-pip-version-check"]
    reason = _quiet([*pip, "wheel", str(ROOT), "--no-deps", "-w", str(wheels)])
    if reason:
        return f"no wheel: {reason}"
    built = sorted(wheels.glob("*.whl"))
    if not built:
        return "no wheel: pip wheel made none"
    return _quiet([*pip, "install", "--no-deps", "--force-reinstall", str(built[-1])])


def versions(venv: Path) -> dict[str, str]:
    """The versions of everything that is installed in `venv`, by distribution."""
    result = subprocess.run(
        [str(venv / "bin" / "python"), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return {row["name"].lower(): row["version"] for row in json.loads(result.stdout)}
