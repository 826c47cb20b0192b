"""gzip, bz2 and lzma."""

import bz2
import gzip
import lzma

import bursar
import waiting

with bursar.scope("work", wipe=True):
    text = (waiting.folder / "secret.txt").read_bytes()
    for module in (gzip, bz2, lzma):
        same = module.decompress(module.compress(text)) == text
    with gzip.open(waiting.folder / "new.gz", "wt") as file:
        file.write(text.decode())
    with gzip.open(waiting.folder / "new.gz", "rt") as file:
        back = file.read()
    del text, file, back
bursar.wipe_caches()
waiting.ready()
