"""A password in this program's environment, set in the work and taken out of it."""

import os

import bursar
import waiting

with bursar.scope("work", wipe=True):
    os.environ["PASSWORD"] = (waiting.folder / "secret.txt").read_text().strip()
    length = len(os.environ["PASSWORD"])
    bursar.wipe_environ("PASSWORD")
    os.environ.pop("PASSWORD", None)
waiting.ready()
