"""Tasks of asyncio: results, a queue, one that is cancelled."""

import asyncio

import bursar
import waiting


async def produce(queue: "asyncio.Queue[str]") -> str:
    text = (waiting.folder / "secret.txt").read_text()
    await queue.put(text.strip())
    await asyncio.sleep(0)
    return text


async def wait(queue: "asyncio.Queue[str]") -> None:
    text = await queue.get()
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        raise ValueError(f"cancelled with {text}") from None


async def main() -> None:
    queue: asyncio.Queue[str] = asyncio.Queue()
    waiter = asyncio.create_task(wait(queue))
    await asyncio.create_task(produce(queue))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)


with bursar.scope("work", wipe=True):
    asyncio.run(main())
bursar.wipe_caches()
waiting.ready()
