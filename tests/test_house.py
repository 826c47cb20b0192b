"""The house stands as ARCHITECTURE.md draws it: includes go downward, each #ifdef is in its room, names say their file.

Every rule is a function from text to complaints, and is first shown a text that breaks it."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import install
import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 800

# A room of src/ may include itself and these.
BELOW = {
    "prim": set[str](),
    "base": {"prim"},
    "memory": {"base", "prim"},
    "ledger": {"memory", "base", "prim"},
    "account": {"ledger", "memory", "base", "prim"},
    "policy": {"account", "ledger", "memory", "base", "prim"},
    "secret": {"ledger", "memory", "base", "prim"},
    "native": {"secret", "memory", "account", "ledger", "base", "prim"},
    "report": {"ledger", "memory", "base", "prim"},
    "model": {"secret", "base", "prim"},
    "cli": {"model", "secret", "policy", "account", "report", "ledger", "memory", "base", "prim"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)
CONDITION = re.compile(r"^\s*#\s*(?:el)?if.*", re.M)
SYSTEM_MACRO = re.compile(
    r"\b(__linux__|__linux|__APPLE__|_WIN32|_WIN64|__FreeBSD__|__NetBSD__|__OpenBSD__|__unix__|__GLIBC__|__ANDROID__)\b"
)


def c_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.[ch]"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def wrong_includes(room: str, text: str) -> Iterator[str]:
    for kind, target in INCLUDE.findall(text):
        if target == "Python.h":
            yield "includes Python.h"
        elif kind == '"' and (ROOT / "src" / target.split("/")[0]).is_dir():
            other = target.split("/")[0]
            if other != room and other not in BELOW[room]:
                yield f"{room} includes {target}"
        elif kind == '"' and "/" in target:
            yield f"includes {target}, which is no room of src/"


def wrong_conditions(text: str, macro: re.Pattern[str]) -> Iterator[str]:
    for line in CONDITION.findall(text):
        if macro.search(line):
            yield line.strip()


def too_long(text: str) -> Iterator[str]:
    lines = text.count("\n")
    if lines > MAX_LINES:
        yield f"{lines} lines"


def wrong_exports(stem: str, names: list[str]) -> Iterator[str]:
    """foo.c exports bursar_foo or bursar_foo_* alone; foo_linux.c is foo on Linux."""
    prefix = "bursar_" + stem.removesuffix("_linux")
    for name in names:
        if name != prefix and not name.startswith(prefix + "_"):
            yield name


def complaints(paths: list[Path], rule: Callable[[Path, str], Iterator[str]]) -> list[str]:
    assert paths, "no file to look at"
    return [f"{name_of(path)}: {what}" for path in paths for what in rule(path, path.read_text())]


def test_includes_go_downward() -> None:
    assert list(wrong_includes("ledger", '#include "account/live.h"\n'))
    assert list(wrong_includes("base", "#include <Python.h>\n"))
    assert not list(wrong_includes("ledger", '#include "layout.h"\n#include "base/error.h"\n#include <stdio.h>\n'))
    rooms = {path.name for path in (ROOT / "src").iterdir() if path.is_dir()}
    assert rooms == set(BELOW), "a new room: say here what it may include"
    files = c_files("src")
    assert not complaints(files, lambda path, text: wrong_includes(path.relative_to(ROOT / "src").parts[0], text))


def test_only_prim_asks_for_the_system() -> None:
    assert list(wrong_conditions("#if defined(__linux__)\n", SYSTEM_MACRO))
    files = [path for path in c_files("src", "pyext", "preload") if path.parent.name != "prim"]
    assert not complaints(files, lambda path, text: wrong_conditions(text, SYSTEM_MACRO))


def test_only_compat_asks_for_the_python_version() -> None:
    version = re.compile(r"\bPY_(VERSION_HEX|MAJOR_VERSION|MINOR_VERSION)\b")
    assert list(wrong_conditions("#elif PY_VERSION_HEX >= 0x030c0000\n", version))
    files = [path for path in c_files("src", "pyext", "preload") if path.name != "compat.h"]
    assert not complaints(files, lambda path, text: wrong_conditions(text, version))


def test_files_are_short() -> None:
    assert list(too_long("\n" * (MAX_LINES + 1)))
    files = c_files("src", "pyext", "preload", "tests") + sorted(
        path for folder in ("python", "tools", "tests", "web/src") for path in (ROOT / folder).rglob("*.*")
        if path.suffix in {".py", ".pyi", ".js", ".css"} and "node_modules" not in path.parts
    )  # fmt: skip
    assert not complaints(files, lambda path, text: too_long(text))


def exported_names(objects: Path) -> dict[str, list[str]]:
    """The global symbols that each source of the core defines, by the source's stem. `objects` is Meson's folder."""
    exported: dict[str, list[str]] = {}
    for source in (ROOT / "src").rglob("*.c"):
        path = objects / ("_".join(source.relative_to(ROOT / "src").parts) + ".o")
        if path.exists():
            command = ["nm", "--defined-only", "--extern-only", str(path)]
            listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            exported[source.stem] = [line.split()[-1] for line in listing.splitlines()]
    return exported


def test_a_file_exports_its_own_names_alone() -> None:
    assert list(wrong_exports("writer", ["bursar_reader_open"]))
    assert list(wrong_exports("writer", ["bursar_writers"]))
    assert not list(wrong_exports("prim_linux", ["bursar_prim_now"]))
    objects = install.build_folder(Path(sys.executable)) / "src" / "libbursar_core.a.p"
    if not objects.is_dir():
        pytest.skip("no build of the core here: make build")
    exported = exported_names(objects)
    assert "bursar_error_set" in exported["error"]
    assert not [f"{stem}.c: {name}" for stem, names in exported.items() for name in wrong_exports(stem, names)]


def test_there_is_one_version() -> None:
    built = re.search(r"^  version: '([^']+)'", (ROOT / "meson.build").read_text(), re.M)
    package = re.search(r'^__version__ = "([^"]+)"', (ROOT / "python/bursar/__init__.py").read_text(), re.M)
    assert built and package and built[1] == package[1]
