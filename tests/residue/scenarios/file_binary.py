"""A file read and written in binary, through buffers."""

import bursar
import waiting

with bursar.scope("work", wipe=True):
    with open(waiting.folder / "secret.txt", "rb") as file, open(waiting.folder / "copy", "wb") as out:
        while chunk := file.read(16):
            out.write(chunk)
    del chunk
waiting.ready()
