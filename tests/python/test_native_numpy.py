"""NumPy's data: a domain of its own, by the handler that NEP 49 gave it."""

from books import Keep, keep
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
    pytest.importorskip("numpy")
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
    pytest.importorskip("numpy")
    books = keep("import numpy as np\nkept = np.empty(1_000_000)  # @kept\n", "--domains", "malloc")
    assert 8_000_000 <= live(books, "kept", "malloc")[0] < 8_010_000  # with what Python itself asks for on that line
