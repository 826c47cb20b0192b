"""Bytes, made here out of what came masked."""

import bursar
import waiting


def work() -> None:
    data = waiting.unmasked("masked.bin")
    copies = [bytes(data), data[8:], memoryview(data).tobytes(), bytes(reversed(data))]
    data.extend(b"more" * 100)
    del data, copies


with bursar.scope("work", wipe=True):
    work()
waiting.ready()
