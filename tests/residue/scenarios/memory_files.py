"""BytesIO, StringIO, struct, array and a mapped file."""

import array
import io
import mmap
import struct

import bursar
import waiting

with bursar.scope("work", wipe=True):
    with open(waiting.folder / "secret.txt", "rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            data = mapped[:32]
    memory = io.BytesIO(data)
    memory.seek(0, 2)
    memory.write(data * 10)
    text = io.StringIO(data.decode())
    text.read()
    packed = struct.pack("32s8x32s", data, data)
    cells = array.array("B", data)
    cells.extend(data)
    del data, memory, text, packed, cells
waiting.ready()
