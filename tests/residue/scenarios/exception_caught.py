"""An exception that has it in its text and in its frames' variables."""

import json

import bursar
import waiting


def parse(text: str) -> object:
    password = text[:40]
    return json.loads("{" + password)


with bursar.scope("work", wipe=True):
    try:
        parse((waiting.folder / "secret.txt").read_text())
    except ValueError as error:
        kept = error
    message = str(kept) + repr(kept.__traceback__)
    del kept, message
bursar.wipe_caches()
waiting.ready()
