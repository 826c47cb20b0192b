"""What docs/secrets.md recommends leaves no copy: its programs run to their end, and then another process reads all of
their memory."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from memory_reader import Watched

PAGE = Path(__file__).resolve().parents[2] / "docs" / "secrets.md"
RECIPES = dict(re.findall(r"^```python\n# (\w+)\.py[^\n]*\n(.*?)^```$", PAGE.read_text(), re.M | re.S))

# The secret goes to the test through a pipe, straight from its pages.
END = """
import gc as _gc
_gc.collect()
with secret.open() as _view:
    _os.write(1, _view)
del _view
stop("")
"""
PARTS = [(0, 32), (0, 16), (8, 24), (16, 32)]


def left_behind(recipe: str, folder: Path, env: dict[str, str]) -> list[str]:
    """Where the program has its secret, or half of it, apart from hidden pages."""
    with Watched(sys.executable, recipe + END, folder=folder, env=env) as program:
        secret = program.reads(32)
        program.reaches("")
        return [copy.where for first, last in PARTS for copy in program.copies(secret[first:last])]


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"arrays"}))
def test_a_recipe_leaves_no_copy(name: str, tmp_path: Path, environment: dict[str, str]) -> None:
    needed = re.search(rf"# {name}\.py \(needs (\w+)\)", PAGE.read_text())
    if needed and find_spec(needed[1]) is None:
        pytest.skip(f"{needed[1]} is not installed")
    assert left_behind(RECIPES[name], tmp_path, environment) == []


@pytest.mark.parametrize(
    "careless",
    [
        "copy = bytes(view)",
        "copy = view[8:].tobytes()",
        "import hashlib; copy = hashlib.sha256(view)",  # up to a block of what was given last
        "import hmac; copy = hmac.new(bytes(view), b'm', 'sha256'); kept = bytearray(view[:16])",
    ],
)
def test_a_careless_program_is_found_out(careless: str, tmp_path: Path, environment: dict[str, str]) -> None:
    program = RECIPES["first"] + f"\nwith secret.open() as view:\n    {careless}\ndel view\n"
    assert left_behind(program, tmp_path, environment)


def test_an_array_leaves_no_copy(tmp_path: Path, environment: dict[str, str]) -> None:
    pytest.importorskip("numpy")
    program = RECIPES["arrays"] + (
        "with weights.open(write=True) as array, open('/dev/urandom', 'rb', buffering=0) as file:\n"
        "    file.readinto(array.view('u1'))\n"
        "    _os.write(1, array)\n"
        "with weights.open() as array:\n"
        "    array.sum(), array.max()\n"
        "stop('')\n"
    )
    with Watched(sys.executable, program, folder=tmp_path, env=environment) as running:
        numbers = running.reads(48)
        running.reaches("")
        assert running.copies(numbers[8:24]) == []
