"""Generators, one of them not run to its end."""

from collections.abc import Iterator

import bursar
import waiting


def tokens(text: str) -> Iterator[str]:
    for i in range(8):
        part = text.strip() + str(i)
        yield part


with bursar.scope("work", wipe=True):
    steps = tokens((waiting.folder / "secret.txt").read_text())
    first = next(steps)
    rest = [next(steps) for _ in range(3)]
    del first, rest, steps
waiting.ready()
