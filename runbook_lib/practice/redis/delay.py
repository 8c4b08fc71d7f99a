"""A TCP relay that delivers late, as a network between two zones would."""

from __future__ import annotations

import asyncio
import contextlib

CHUNK = 1 << 16


class Delay:
    """Listens on one loopback port and passes everything on to another, so much later."""

    def __init__(self, port: int, target: int, seconds: float) -> None:
        self._port = port
        self._target = target
        self.seconds = seconds
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def stop(self) -> None:
        """Stop listening and close what is open."""
        if self._server:
            server, self._server = self._server, None
            server.close()
            for writer in [*self._open]:
                writer.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            inward, outward = await asyncio.open_connection("127.0.0.1", self._target)
            self._open |= {writer, outward}
            # Each way takes half, so a question and its answer take all of it.
            await asyncio.gather(self._pass_on(reader, outward), self._pass_on(inward, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(CHUNK):
                await asyncio.sleep(self.seconds / 2)
                writer.write(chunk)
                await writer.drain()
        finally:
            self._open.discard(writer)
            writer.close()
