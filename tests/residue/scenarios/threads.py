"""Threads that have ended."""

import json
import threading

import bursar
import waiting


def work() -> None:
    document = json.loads((waiting.folder / "secret.json").read_text())
    texts = [document["password"] + str(i) for i in range(20)]
    hidden = waiting.unmasked("masked.bin").hex()
    del document, texts, hidden


with bursar.scope("work", wipe=True):
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    del thread, threads
bursar.wipe_caches()
waiting.ready()
