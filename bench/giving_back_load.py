"""A service of eight threads for bench/giving_back.py: bodies of 1 kB to 20 MB, then a rest.

    giving_back_load.py plain|governed REQUESTS [REST]

Each request takes a body apart, keeps a thousandth of it in a cache, and forgets the rest. Prints JSON: CPU seconds
of the requests, resident bytes at the end of them and after a rest, the longest request, what the governor says.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import sys
import threading
import time
from typing import Any

THREADS = 8
SEED = 7
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Service:
    def __init__(self, governed: bool) -> None:
        self.cache: dict[int, bytes] = {}
        self.longest = 0.0
        self.scope: Any = None
        if governed:
            import bursar

            self.scope = bursar.scope

    def handle(self, chance: random.Random) -> str:
        size = int(1000 * 20_000 ** chance.random())
        body = bytearray(size)
        body[:: 4096] = b"x" * len(body[:: 4096])
        step = chance.choice((600, 5000, 60_000))
        parts = [bytes(body[at : at + step]) for at in range(0, min(size, 2000 * step), step)]
        fields = {number: {"part": part, "size": len(part)} for number, part in enumerate(parts)}
        digest = hashlib.sha1(body).hexdigest()
        for number in range(0, len(parts), 1000):
            self.cache[chance.randrange(20_000)] = fields[number]["part"]  # type: ignore[assignment]
        return digest

    def serve(self, seed: int, requests: int) -> None:
        chance = random.Random(seed)
        for _ in range(requests):
            began = time.perf_counter()
            with self.scope("request") if self.scope else contextlib.nullcontext():
                self.handle(chance)
            self.longest = max(self.longest, time.perf_counter() - began)


def main() -> None:
    how, requests = sys.argv[1], int(sys.argv[2])
    rest = float(sys.argv[3]) if len(sys.argv) > 3 else 3.0
    service = Service(how == "governed")
    governor: Any = None
    if how == "governed":
        import bursar

        governor = bursar.governor()
    threads = [threading.Thread(target=service.serve, args=(SEED + number, requests)) for number in range(THREADS)]
    began = cpu()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worked, busy = cpu() - began, resident()
    time.sleep(rest)
    facts = {"cpu_s": worked, "cpu_all_s": cpu() - began, "busy": busy, "idle": resident()}
    facts["longest_s"] = service.longest
    if governor:
        facts |= {"trims": governor.trims, "trim_s": governor.trim_seconds, "returned": governor.returned_bytes,
                  "met_s": governor.met_seconds,
                  "longest_pause_in_scope_s": governor.longest_pause_in_scope}  # fmt: skip
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
