"""An exception that nobody catches: the interpreter prints it, and keeps it in sys.last_value."""

import atexit

import bursar
import waiting

atexit.register(waiting.ready)
atexit.register(bursar.wipe_caches)


def login(password: str) -> None:
    raise PermissionError(f"not with {password}")


with bursar.scope("work", wipe=True):
    login((waiting.folder / "secret.txt").read_text().strip())
