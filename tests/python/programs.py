"""Programs that tests write, run to their end, and read the output of."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Done, Run

Program = Callable[..., Done]

# A node of the tree that says which addresses are pymalloc's.  The first arena in each 16 GiB of addresses brings one,
# and where those begin is chance (ASLR): a line that needs a new arena may be charged with it, rightly.
ARENA_MAP = 131072


@pytest.fixture
def program(execute: Run, python: str, tmp_path: Path) -> Program:
    """Runs a program under the interpreter under test; it must succeed, and say nothing on stderr unless `says`."""

    def run(text: str, *arguments: object, says: bool = False, **options: Any) -> Done:
        path = tmp_path / "program.py"
        path.write_text(text)
        done = execute(python, path, *map(str, arguments), **options)
        assert done.returncode == 0, done.stderr
        assert says or done.stderr == ""
        return done

    return run


def printed(done: Done) -> Any:
    """What a program printed as JSON."""
    return json.loads(done.stdout)
