"""Copies of nested data."""

import copy
import json

import bursar
import waiting

with bursar.scope("work", wipe=True):
    document = json.loads((waiting.folder / "secret.json").read_text())
    document["itself"] = document
    document["bytes"] = bytearray(document["password"].encode())
    copies = [copy.deepcopy(document) for _ in range(5)]
    for each in copies:
        del each["itself"]
    del document["itself"], document, copies, each
waiting.ready()
