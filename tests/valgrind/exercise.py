"""What memcheck looks at: every way into the extension, briefly. `tools/check.py valgrind` runs it."""

import asyncio
import gc
import importlib
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

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


def budgets() -> None:
    """Refused where it is asked for, and between two instructions; told at a soft limit."""
    told = threading.Event()
    with bursar.scope("soft", soft="1 MiB", on_soft=lambda scope: told.set()):
        kept = [bytes(10_000) for _ in range(300)]
    assert told.wait(60)
    for size in (10_000, 100):
        try:
            with bursar.scope("hard", hard="2 MiB"):
                kept = [bytes(size) for _ in range(100_000)]
        except bursar.BudgetExceeded as error:
            kept = [str(error).encode()]
        assert len(kept) == 1


def governed() -> None:
    """Collections in rests, with and without freezing, and a fork meanwhile.  No trims: these, reclaim() and balance()
    look into memory that nobody has set, which memcheck is right to tell, and they are right to do."""
    for freeze in (False, True):
        with bursar.governor("1 GiB", idle=0.001, freeze=freeze, trim=False) as governor:
            for _ in range(20):
                with bursar.scope("request"):
                    churn(100)
            gc.collect()
            child = os.fork()
            if child == 0:
                gc.collect()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        assert governor.full_collections


def left_open() -> None:
    with bursar.scope("open", left_open="event") as scope:
        with open(os.devnull) as file:
            kept = [socket.socket(), open(os.devnull), os.fdopen(os.dup(file.fileno()))]  # noqa: SIM115
        pipe = os.pipe()
        kept.append(bursar.keep_open(open(os.devnull)))  # noqa: SIM115
    assert len(scope.left_open) == 5, scope.left_open
    for thing in kept:
        thing.close()
    for descriptor in pipe:
        os.close(descriptor)


def verdicts() -> None:
    kept: list[bytes] = []
    bursar.assert_no_leak(lambda: sorted(range(100)), calls=500)
    try:
        bursar.assert_no_leak(lambda: kept.append(bytes(1000)), calls=1000)
    except AssertionError as error:
        assert "exercise.py" in str(error)
    else:
        raise AssertionError("1000 bytes a call were not found")
    for _ in range(3):
        with bursar.scope("seldom"):
            churn(10)
    assert bursar.verdict("seldom").leaks is None


def let_go() -> None:
    """Objects and modules that are held, and then are not."""
    data = [bytes(100)]
    released = bursar.release(data)
    assert released.holders
    del data
    assert released.gone
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "short_lived.py").write_text("DATA = bytearray(100_000)\ndef f(): return DATA\n")
        sys.path.insert(0, folder)
        kept = [importlib.import_module("short_lived").f]
        assert not bursar.unload("short_lived").unloaded
        kept.clear()
        assert bursar.unload("short_lived").unloaded
        sys.path.remove(folder)


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
    left_open()
    let_go()
    budgets()
    governed()
    verdicts()


main()
