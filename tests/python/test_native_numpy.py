"""NumPy's data: a domain of its own, by the handler that NEP 49 gave it."""

import json
from pathlib import Path

from books import Keep, keep
from running import Run
from test_native import live

__all__ = ["keep"]

NUMPY = """import numpy as np
before = np.empty(1_000)  # @early
kept = np.zeros((1000, 1000))  # @kept
view = kept[::2]
copy = kept[:10].copy()  # @copy
for i in range(100):
    small = np.arange(10)  # @small
grown = np.empty(10)
grown.resize(5000, refcheck=False)  # @grown
"""


def test_numpy_is_a_domain_of_its_own(keep: Keep) -> None:
    books = keep(NUMPY, "--domains", "python,numpy,malloc,mmap")
    assert live(books, "early", "numpy") == (8000, 1)
    assert live(books, "kept", "numpy") == (8_000_000, 1)
    assert live(books, "copy", "numpy") == (80_000, 1)
    assert live(books, "small", "numpy") == (80, 1)
    assert books.sum("small", "allocations", "numpy") == 100
    assert live(books, "grown", "numpy") == (40_000, 1)
    for mark in "early", "kept", "copy", "small", "grown":
        assert not books.sites(mark, "malloc") and not books.sites(mark, "mmap")


def test_without_numpy_s_domain_its_data_is_malloc_s(keep: Keep) -> None:
    books = keep("import numpy as np\nkept = np.empty(1_000_000)  # @kept\n", "--domains", "malloc")
    assert 8_000_000 <= live(books, "kept", "malloc")[0] < 8_010_000  # with what Python itself asks for on that line


def test_arrays_that_were_made_before(execute: Run, python: str, command: str, tmp_path: Path) -> None:
    """They keep their handler, which still frees what it gave; in threads, with contexts of their own, too."""
    (tmp_path / "program.py").write_text(
        "import threading\n"
        "import numpy as np\n"
        "import bursar\n"
        "old = [np.zeros(size) for size in (10, 1_000, 1_000_000)]\n"
        "bursar.start('exact', output='start.bursar', domains='numpy')\n"
        "new = np.zeros(100_000)\n"
        "del old[2], old[1], old[0]\n"
        "made = []\n"
        "thread = threading.Thread(target=lambda: made.append(np.zeros(50_000)))\n"
        "thread.start(); thread.join()\n"
        "bursar.stop()\n"
        "del new, made\n"
        "bursar.start('exact', output='again.bursar', domains='numpy')\n"
        "again = np.zeros(1_000)\n"
    )
    done = execute(python, "program.py")
    assert done.returncode == 0, done.stderr
    for ledger, held in ("start.bursar", 1_200_000), ("again.bursar", 8_000):
        facts = json.loads(execute(command, "report", ledger, "--format", "json").stdout)
        assert sum(site["live_bytes"] for site in facts["sites"]) == held
        assert {site["domain"] for site in facts["sites"] if site["allocations"]} == {"numpy"}
