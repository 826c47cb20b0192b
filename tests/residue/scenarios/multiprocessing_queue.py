"""A queue from a worker process."""

import multiprocessing
from typing import Any

import bursar
import waiting


def worker(queue: Any) -> None:
    queue.put({"password": (waiting.folder / "secret.txt").read_text().strip()})


context = multiprocessing.get_context("fork")
with bursar.scope("work", wipe=True):
    queue = context.Queue()
    process = context.Process(target=worker, args=(queue,))
    process.start()
    got = queue.get()
    process.join()
    queue.put(got["password"])
    back = queue.get()
    queue.close()
    queue.join_thread()
    del got, back, queue, process
bursar.wipe_caches()
waiting.ready()
