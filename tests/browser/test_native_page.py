"""Native frames on the page, from a program in C++ whose names have brackets in them."""

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_report import Page, Report, assert_only_text, open_page, settle, tool

__all__ = ["open_page"]
pytest_plugins = ["chromium"]
pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 35),
    reason="native stacks are known on x86-64 with glibc 2.35 or later",
)

CPP = r"""
#include <cstddef>
extern "C" void *PyMem_Malloc(std::size_t);
struct script {};
template <class T> struct alert {
  template <class U> __attribute__((noinline)) static void *taken(std::size_t n) {
    void *p = PyMem_Malloc(n);
    asm volatile("" ::: "memory");
    return p;
  }
};
extern "C" void *take(std::size_t n) {
  void *p = alert<script>::taken<alert<int *> &&>(n);
  asm volatile("" ::: "memory");
  return p;
}
"""
NAME = "void* alert<script>::taken<alert<int*>&&>(unsigned long)"


@pytest.fixture
def native(tmp_path: Path) -> Report:
    compiler = shutil.which("c++") or shutil.which("g++")
    if not compiler:
        pytest.skip("no C++ compiler to build the program with: install g++")
    (tmp_path / "take.cc").write_text(CPP)
    library, ledger, page = tmp_path / "take.so", tmp_path / "take.bursar", tmp_path / "report.html"
    code = (
        f"import bursar, ctypes\nbursar.start('exact', output={str(ledger)!r}, native=True)\n"
        f"d = ctypes.PyDLL({str(library)!r})\nd.take.restype, d.take.argtypes = ctypes.c_void_p, [ctypes.c_size_t]\n"
        "kept = d.take(50_000_000)\n"
    )
    for command in (
        [compiler, "-O1", "-g", "-shared", "-fPIC", "-o", library, tmp_path / "take.cc"],
        [sys.executable, "-c", code],
        [tool("src/cli/bursar"), "report", ledger, "--format", "html", "-o", page],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return Report(page, {})


def test_a_template_s_name_is_only_text(native: Report, open_page: Callable[..., Page]) -> None:
    page = open_page(native)
    page.click("#tab-table")
    page.select_option("#table-grouping", "function")
    page.fill("#search", "alert<script>")
    settle(page)
    row = page.locator("#table tbody tr[data-row]", has_text=NAME).first
    assert "native" in row.locator(".native").inner_text()
    row.click()
    settle(page)
    assert_only_text(page, "table")
    assert NAME in page.inner_text("#stack")
    assert "take.cc" in page.inner_text("#stack") or "take.cc" in page.inner_text("#details-name")
    data = native.path.read_text(encoding="utf-8")
    assert data.lower().count("<script") == 2 and "alert<script>" not in data
