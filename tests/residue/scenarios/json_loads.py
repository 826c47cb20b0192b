"""A file of JSON."""

import json

import bursar
import waiting

with bursar.scope("work", wipe=True):
    with open(waiting.folder / "secret.json") as file:
        document = json.load(file)
    password = document["password"]
    accepted = len(password) == 32
    del document, password
waiting.ready()
