"""Everyday programs that handle a secret, and what they leave of it: without bursar copies, with it none."""

import importlib.util
import subprocess
from pathlib import Path

import pytest
import residue

NAMES = residue.names()
VERSION = "import sys; print(*sys.version_info[:2], sep=chr(46))"


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> residue.Tools:
    return residue.build(tmp_path_factory.mktemp("residue"))


def needs(name: str) -> None:
    missing = [package for package in residue.PACKAGES.get(name, []) if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")


def test_there_are_enough() -> None:
    assert len(NAMES) >= 40


@pytest.mark.parametrize("name", NAMES)
def test_without(name: str, python: str, tools: residue.Tools, tmp_path: Path, environment: dict[str, str]) -> None:
    """A scenario that leaves nothing anyway would prove nothing."""
    needs(name)
    bare = environment | {"PYTHONPATH": str(residue.ROOT / "without")}
    found = residue.run(tools, tmp_path, name, [python], bare)
    assert not found.missed
    assert sum(found.copies.values()) > 0, found.output


# What stays, by scenario, and from which version to which: docs/hideouts.md says why.
EXCEPTIONS = {
    "dictionary_keys": ((3, 12), (3, 12)),  # the name of an attribute is interned, and interned strings never die
    "parquet": ((3, 10), (3, 99)),  # the stacks of the threads that Arrow keeps for ever
}


@pytest.mark.parametrize("name", NAMES)
def test_with(
    name: str, command: str, python: str, tools: residue.Tools, tmp_path: Path, environment: dict[str, str]
) -> None:
    needs(name)
    version = tuple(map(int, subprocess.check_output([python, "-c", VERSION], text=True).split(".")))
    found = residue.run(tools, tmp_path, name, [command, "run", "--wipe", "--python", python], environment)
    assert not found.missed
    since, until = EXCEPTIONS.get(name, ((9, 9), (9, 9)))
    if not since <= version <= until:
        assert not found.copies, f"{found}\n{found.output}"
