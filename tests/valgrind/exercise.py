"""What memcheck looks at: every way into the extension, briefly. `tools/check.py valgrind` runs it."""

import asyncio
import gc
import os
import threading
from collections.abc import Iterator

import bursar


def churn(rounds: int) -> list[dict[str, str]]:
    kept = []
    for number in range(rounds):
        kept.append({f"key{number}": str(number) * 50})
        if number % 3 == 0:
            kept.pop(0)
    return kept


def grow() -> bytearray:
    """Reallocations, small and large."""
    buffer = bytearray()
    for _ in range(2000):
        buffer += b"x" * 100
    del buffer[1000:]
    return buffer


def recurse(depth: int) -> int:
    return depth and len(str(depth)) + recurse(depth - 1)


def generate(count: int) -> Iterator[list[int]]:
    for number in range(count):
        yield [number] * 10


async def ticks() -> None:
    async def one(number: int) -> str:
        await asyncio.sleep(0)
        return "t" * number

    await asyncio.gather(*(one(number) for number in range(50)))


def fail_and_recover() -> None:
    for _ in range(100):
        try:
            raise ValueError("x" * 100)
        except ValueError:
            pass


def secrets() -> None:
    """On locked pages: valgrind knows no memfd_secret. Nor the block on the stack, which from_env() would read."""
    kept = bursar.SecretBytes(100)
    for size in (1, 4096, 5000, 100_000):
        secret = bursar.SecretBytes.from_file("/dev/urandom", size)
        with secret.open(write=True) as view, kept.open() as other:
            assert len(view) == size and other[0] == 0
        assert secret == secret and secret != kept  # noqa: PLR0124
    try:
        with kept.open() as view:
            part = view[1:]
    except BufferError:
        del part


def main() -> None:
    secrets()
    churn(3000)
    grow()
    recurse(500)
    sum(len(item) for item in generate(500))
    asyncio.run(ticks())
    fail_and_recover()
    for number in range(50):  # code objects that are born and die
        exec(f"def f{number}(): return [{number}] * 20\nf{number}()", {})
    threads = [threading.Thread(target=churn, args=(1500,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with bursar.track():
        churn(500)
    gc.collect()
    child = os.fork()
    if child == 0:
        churn(500)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status


main()
