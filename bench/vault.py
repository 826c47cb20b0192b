"""What a secret costs: a slot taken and given back, opened and closed; beside libsodium's, where it is installed.

    python bench/vault.py [--format json]

In turn, CPU time of the thread, medians of many rounds, in nanoseconds. Both are called from Python, libsodium by
ctypes, whose own cost is printed."""

import argparse
import ctypes
import ctypes.util
import json
import statistics
import time
from collections.abc import Callable

import bursar

ROUNDS, CALLS = 101, 200


def cost(act: Callable[[], object]) -> float:
    start = time.thread_time_ns()
    for _ in range(CALLS):
        act()
    return (time.thread_time_ns() - start) / CALLS


def libsodium() -> dict[str, Callable[[], object]]:
    name = ctypes.util.find_library("sodium")
    if not name:
        return {}
    sodium = ctypes.CDLL(name)
    sodium.sodium_malloc.restype = ctypes.c_void_p
    sodium.sodium_malloc.argtypes = [ctypes.c_size_t]
    for function in (sodium.sodium_free, sodium.sodium_mprotect_readonly, sodium.sodium_mprotect_noaccess):
        function.argtypes = [ctypes.c_void_p]
    sodium.sodium_init()
    place = sodium.sodium_malloc(32)
    empty = sodium.sodium_library_version_major

    def open_and_close() -> None:
        sodium.sodium_mprotect_readonly(place)
        sodium.sodium_mprotect_noaccess(place)

    return {
        "libsodium: malloc and free": lambda: sodium.sodium_free(sodium.sodium_malloc(32)),
        "libsodium: readonly and noaccess": open_and_close,
        "ctypes: two empty calls": lambda: (empty(), empty()),
    }


def ours() -> dict[str, Callable[[], object]]:
    secret, array = bursar.SecretBytes(32), bursar.secret_array(8)

    def open_and_close() -> None:
        with secret.open():
            pass

    def array_open_and_close() -> None:
        with array.open():
            pass

    def write_and_wipe() -> None:
        fresh = bursar.SecretBytes(32)
        with fresh.open(write=True):
            pass
        fresh.close()

    return {
        "take and return": lambda: bursar.SecretBytes(32).close(),
        "open and close": open_and_close,
        "take, open, close, wipe, return": write_and_wipe,
        "array: open and close": array_open_and_close,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    theirs = libsodium()
    tasks = ours() | theirs
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(ROUNDS):
        for name, act in tasks.items():
            times[name].append(cost(act))
    pages = "hidden (memfd_secret)" if bursar.SecretBytes(1).hidden else "locked"
    medians = {name: statistics.median(each) for name, each in times.items()}
    if options.format == "json":
        print(json.dumps({"pages": pages, "ns": medians}))
        return
    print("pages:", pages)
    for name, took in medians.items():
        print(f"{took:9.0f} ns  {name}")
    if not theirs:
        print("libsodium is not installed here: left out")


if __name__ == "__main__":
    main()
