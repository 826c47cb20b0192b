"""A function of the program's own behind functools.lru_cache, which the program empties itself."""

import functools

import bursar
import waiting


@functools.lru_cache(maxsize=100)
def salted(text: str) -> str:
    return "salt" + text


with bursar.scope("work", wipe=True):
    length = len(salted((waiting.folder / "secret.txt").read_text()))
salted.cache_clear()
waiting.ready()
