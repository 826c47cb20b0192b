"""Looked up as an attribute: the cache of types keeps the names that it was asked for."""

import types

import bursar
import waiting

settings = types.SimpleNamespace()
with bursar.scope("work", wipe=True):
    name = (waiting.folder / "secret.txt").read_text().strip()
    value = getattr(settings, name, None) or getattr(int, name + "x", None)
    del name, value
waiting.ready()
