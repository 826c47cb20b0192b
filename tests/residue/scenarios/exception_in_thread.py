"""An exception that ends a thread, and one that nobody can see."""

import threading

import bursar
import waiting


class Leaving:
    def __init__(self, text: str) -> None:
        self.text = text

    def __del__(self) -> None:
        raise ValueError(self.text)


def work() -> None:
    text = (waiting.folder / "secret.txt").read_text()
    Leaving(text)
    raise KeyError(text)


with bursar.scope("work", wipe=True):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    del thread
bursar.wipe_caches()
waiting.ready()
