"""Printed to a file."""

import contextlib
import sys

import bursar
import waiting

with bursar.scope("work", wipe=True):
    text = (waiting.folder / "secret.txt").read_text()
    print("the password is", text)
    print(repr(text), file=sys.stderr)
    with open(waiting.folder / "out", "w") as out, contextlib.redirect_stdout(out):
        print(f"{text!r:>60}")
    del text
bursar.wipe_caches()
waiting.ready()
