"""Streams of asyncio, both ends."""

import asyncio

import bursar
import waiting


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    line = await reader.readline()
    writer.write(b"hello " + line)
    await writer.drain()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    writer.write((waiting.folder / "secret.txt").read_bytes())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    del answer


with bursar.scope("work", wipe=True):
    asyncio.run(main())
bursar.wipe_caches()
waiting.ready()
