"""A pool of threads that ends with the work."""

import concurrent.futures

import bursar
import waiting


def load(i: int) -> str:
    return (waiting.folder / "secret.txt").read_text() * i


with bursar.scope("work", wipe=True):
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        results = list(pool.map(bursar.carry(load) if hasattr(bursar, "carry") else load, range(1, 9)))
    del results, pool
bursar.wipe_caches()
waiting.ready()
