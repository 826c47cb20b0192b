"""What the start-up file imports in a program that `bursar run` started: opens the books before the program begins.

BURSAR_RUN is taken out of the environment, of os.environ and of C, unless the books follow forks, so that no child
takes itself for the program.  Whatever goes wrong here is one line on stderr, and the program goes on without books.
Imports nothing but the extension and what every Python has loaded by now: what is in sys.modules afterwards is the
program's to see.
"""

import os
import sys


def _begin() -> None:
    settings = os.environ.get("BURSAR_RUN")
    if settings is None:
        return
    if "follow=1" not in settings.split(";"):
        del os.environ["BURSAR_RUN"]
    try:
        from . import _bursar

        _bursar.boot(settings)
    except Exception as error:  # a program must start with or without its books
        if sys.stderr is not None:  # descriptor 2 may be closed
            sys.stderr.write("bursar: no books are kept: " + " ".join(str(error).split()) + "\n")


_begin()
