"""A file read line by line."""

import bursar
import waiting

with bursar.scope("work", wipe=True):
    with open(waiting.folder / "secret.ini") as file:
        for line in file:
            key, _, value = line.partition("=")
            length = len(value)
    del line, key, value
waiting.ready()
