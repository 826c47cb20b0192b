"""A temporary file and shutil."""

import shutil
import tempfile

import bursar
import waiting

with bursar.scope("work", wipe=True):
    with tempfile.TemporaryFile("w+") as file, open(waiting.folder / "secret.txt") as source:
        shutil.copyfileobj(source, file)
        file.seek(0)
        lines = file.readlines()
    with tempfile.SpooledTemporaryFile(1000) as spooled:
        spooled.write(lines[0].encode())
        spooled.seek(0)
        data = spooled.read()
    del lines, data
waiting.ready()
