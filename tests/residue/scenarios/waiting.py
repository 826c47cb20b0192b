"""What each scenario begins and ends with: waiting.ready() says that it is, and waits to be looked at.

All that ready() needs is made here, before the work, so that it disturbs nothing that the work left behind."""

import ctypes
import mmap
import os
import sys
from pathlib import Path

folder = Path(sys.argv[1])
_masked = (folder / "canaries").read_bytes()
_heap = ctypes.create_string_buffer(len(_masked))
_anonymous = mmap.mmap(-1, mmap.PAGESIZE)
_library = ctypes.CDLL(os.environ["RESIDUE_WAITING"])
_path = os.fsencode(folder / "ready")
_begin = (ctypes.c_char * len(_masked)).from_buffer(_anonymous)
if _library.waiting_prepare(_path, _masked, ctypes.c_size_t(len(_masked)), _heap, _begin) != 0:
    raise RuntimeError("no room for the canaries")
ready = _library.waiting_ready


def unmasked(name: str) -> bytearray:
    """A file of the folder that the harness masked, in the one object that is returned."""
    data = bytearray((folder / name).stat().st_size)
    with open(folder / name, "rb", buffering=0) as file:
        file.readinto(data)
    for i in range(len(data)):
        data[i] ^= 0x5A
    return data
