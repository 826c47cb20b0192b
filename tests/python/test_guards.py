"""Guards within a mapping (MADV_GUARD_INSTALL), as glibc 2.42 puts them at the end of threads' stacks: smaps shows
memory that may be read, and a touch is a fault. Whatever looks into memory goes around them."""

import pytest
from programs import Program, printed, program

__all__ = ["program"]
pytestmark = pytest.mark.core

GUARDED = """
import ctypes, json, mmap, os, sys
import bursar
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
PAGE = 4096
at = libc.mmap(None, 512 * PAGE, 3, 0x22, -1, 0)
for page in range(0, 512, 3):  # some that are there, some that are not, and guards between
    ctypes.memset(at + page * PAGE, 1, PAGE)
    if libc.madvise(at + (page + 1) * PAGE, PAGE, 102) != 0:
        print(json.dumps("no guards here"))
        sys.exit()
"""


def guarded(program: Program, text: str, *arguments: object, **environment: str) -> object:
    told = printed(program(GUARDED + text, *arguments, **environment))
    if told == "no guards here":
        pytest.skip("this kernel has no guards within a mapping (Linux 6.13 has)")
    return told


@pytest.mark.parametrize("dumpable", [True, False])
def test_a_scan(program: Program, dumpable: bool) -> None:
    text = """
import secrets
secret = secrets.token_hex(16)
for page in (0, 255, 510):
    ctypes.memmove(at + page * PAGE + PAGE - 33, secret.encode(), 32)
if sys.argv[1] == "False":
    bursar.no_core()
found = bursar.residue(secret)
places = [hit.address - at for hit in found.hits if 0 <= hit.address - at < 512 * PAGE]
print(json.dumps([sorted(places), found.canary_found]))
"""
    places = [page * 4096 + 4096 - 33 for page in (0, 255, 510)]
    assert guarded(program, text, dumpable) == [places, True]


@pytest.mark.parametrize("mode", ["exact", "sample", "count"])
def test_books_and_a_balance(program: Program, mode: str) -> None:
    text = f"""
bursar.start({mode!r})
before = bursar.balance()
child = os.fork()
if not child:
    bursar.start({mode!r})
    bursar.balance()
    os._exit(7)
print(json.dumps([before.rss_bytes > 1 << 20, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]))
"""
    assert guarded(program, text) == [True, 7]
