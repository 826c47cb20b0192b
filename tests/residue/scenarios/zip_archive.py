"""A zip archive, read and written."""

import io
import zipfile

import bursar
import waiting

with bursar.scope("work", wipe=True):
    with zipfile.ZipFile(waiting.folder / "secret.zip") as archive:
        data = archive.read("secret.txt")
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("new.txt", data)
    text = memory.getvalue()
    del data, memory, archive, text
bursar.wipe_caches()
waiting.ready()
