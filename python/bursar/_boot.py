"""What the start-up file imports in a program that `bursar run` started: opens the books before the program begins.

BURSAR_RUN is taken out of the environment, of os.environ and of C, unless the books follow forks, so that no child
takes itself for the program.  Whatever goes wrong here is one line on stderr, and the program goes on without books.
Imports nothing but the extension and what every Python has loaded by now: what is in sys.modules afterwards is the
program's to see.
"""

import os
import sys


def _take_out(encoded: str) -> None:
    """Removes our library from LD_PRELOAD, where it stands first."""
    raw = encoded.encode().split(b"%")
    path = os.fsdecode(raw[0] + b"".join(bytes.fromhex(part[:2].decode()) + part[2:] for part in raw[1:]))
    first, colon, others = os.environ.get("LD_PRELOAD", "").partition(":")
    if path and first == path and others:
        os.environ["LD_PRELOAD"] = others
    elif path and first == path:
        del os.environ["LD_PRELOAD"]


def _begin() -> None:
    settings = os.environ.get("BURSAR_RUN")
    if settings is None:
        return
    pairs = dict(pair.partition("=")[::2] for pair in settings.split(";"))
    if pairs.get("follow") != "1":
        del os.environ["BURSAR_RUN"]
        _take_out(pairs.get("preload", ""))
    try:
        from . import _bursar

        _bursar.boot(settings)
    except Exception as error:  # a program must start with or without its books
        if sys.stderr is not None:  # descriptor 2 may be closed
            sys.stderr.write("bursar: no books are kept: " + " ".join(str(error).split()) + "\n")


_begin()
