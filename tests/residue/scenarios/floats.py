"""A float: what was freed stands in the free list as it was."""

import struct

import bursar
import waiting

with bursar.scope("work", wipe=True):
    price = float((waiting.folder / "float.txt").read_text())
    values = [price * 1.0 for _ in range(50)]
    packed = struct.pack("<d", price) + struct.pack(">d", price) + repr(price).encode()
    del price, values, packed
waiting.ready()
