"""A pipe of multiprocessing."""

import multiprocessing

import bursar
import waiting

with bursar.scope("work", wipe=True):
    here, there = multiprocessing.Pipe()
    there.send([(waiting.folder / "secret.txt").read_text(), 1, 2.5])
    received = here.recv()
    here.close()
    there.close()
    del received, here, there
waiting.ready()
