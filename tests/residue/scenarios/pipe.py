"""A pipe, read by descriptor."""

import os

import bursar
import waiting

read, write = os.pipe()
if os.fork() == 0:
    os.write(write, (waiting.folder / "secret.txt").read_bytes())
    os._exit(0)
os.close(write)
os.wait()
with bursar.scope("work", wipe=True):
    text = os.read(read, 4096).decode()
    words = text.split()
    del text, words
waiting.ready()
