"""A password that came in the environment: its place is in the block that the program was started with."""

import os

import bursar
import waiting

with bursar.scope("work", wipe=True):
    length = len(os.environ["RESIDUE_PASSWORD"])
    bursar.wipe_environ("RESIDUE_PASSWORD")
bursar.wipe_caches()
waiting.ready()
