"""native: four threads in a C library that allocates and frees without the GIL (native.c)."""
import ctypes
import os
import threading

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
THREADS = 4


def main() -> None:
    library = ctypes.CDLL(os.environ["BENCH_NATIVE"])
    library.native_work.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
    library.native_work.restype = ctypes.c_uint64
    rounds = max(1, round(2_000_000 * SCALE))
    sums = [0] * THREADS

    def work(number: int) -> None:
        sums[number] = library.native_work(number + 1, rounds)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("native", sum(sums))


main()
