"""Reads a stream in a task of its own, so that leaving it early does not lose what the server has sent already."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

from langchain_core.outputs import ChatGenerationChunk

from tta_langgraph.models.half_close import LINE, Line
from tta_langgraph.models.received import Received

FAREWELL = 0.01
"""Seconds after which a reader whose server was told that it leaves looks again; more on a busy event loop."""
FAREWELLS = 100
"""How often it looks until it leaves without the server's own end of the stream."""
PATIENCE = 0.001
"""Seconds without a chunk after which nothing more is on its way to a reader that leaves unannounced."""
TURNS = 8
"""Turns of the event loop from bytes in a socket to a chunk; on a busy loop, each is longer than the patience."""
LOOKS = 8
"""How often a reader that leaves unannounced looks at most: it must not stay."""


def reading(chunks: AsyncIterator[ChatGenerationChunk], received: Received) -> Reader | Direct:
    """A stream that `received` takes in: read with care where what arrives tells what a lost call is charged."""
    return Direct(chunks, received) if received.habits is None else Reader(chunks, received)


class Reader:
    """An async iterator over a stream; a context that ends the stream when it is left.

    A coroutine that is cancelled while it reads a socket drops what the socket still holds. Here the socket is read
    by another task. When the stream is left, its server is told, and what it sent is read up to the server's own end
    of it, which takes one way there and back. Where it cannot be told, what has arrived is read for a moment.

    Args:
        chunks: the stream; closed with the reader.
        received: takes in every chunk, also those that nobody asked for any more.
    """

    def __init__(self, chunks: AsyncIterator[ChatGenerationChunk], received: Received) -> None:
        self._chunks: Any = chunks
        self._received = received
        self._left = False
        self._queue: asyncio.Queue[ChatGenerationChunk | None] = asyncio.Queue()
        self._line = Line()
        self._looked = 0.0

    async def _read(self) -> None:
        LINE.set(self._line)
        try:
            async with contextlib.aclosing(self._chunks) as chunks:
                async for chunk in chunks:
                    self._received.add(chunk)
                    if self._left:  # before Python 3.12, `asyncio.wait_for` may swallow a cancellation
                        return
                    if not self._received.keep:
                        self._queue.put_nowait(chunk)
        finally:
            self._queue.put_nowait(None)

    def __aiter__(self) -> AsyncIterator[ChatGenerationChunk]:
        return self

    async def __anext__(self) -> ChatGenerationChunk:
        chunk = await self._queue.get()
        if chunk is None:
            self._queue.put_nowait(None)
            await self._task  # raises what ended the stream
            raise StopAsyncIteration
        return chunk

    async def finish(self) -> None:
        """Waits for the end of the stream.

        Raises:
            Exception: whatever the client raised.
        """
        async for _ in self:
            pass

    async def __aenter__(self) -> Self:
        self._received.blind = math.inf  # until the stream is closed
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        line, habits = self._line, self._received.habits
        self._looked = time.perf_counter()
        try:
            if not self._task.done():
                if habits is None or habits.heeds:
                    line.leave()
                await self._read_on()
                if line.half_closed:
                    await self._read_to_the_end()
        finally:
            self._left = True
            self._task.cancel()
            await asyncio.wait([self._task])
            await asyncio.sleep(0)  # asyncio closes a socket one turn of its loop after it was told to
            self._received.drained = line.half_closed and line.drained
            self._received.blind = self._blind()
            if not self._task.cancelled():
                self._task.exception()  # seen: what ended a stream that was left concerns nobody any more

    def _blind(self) -> float:
        """Seconds for which the server may have sent what was not read; `inf` where nobody knows."""
        if self._line.half_closed:
            return 0.0 if self._received.drained else math.inf
        # What came at the last look may have waited in the socket since the one before. On a busy event loop this is
        # longer than it looks, and the server goes on writing meanwhile.
        return time.perf_counter() - self._looked

    async def _read_to_the_end(self) -> None:
        """Reads what the server has sent, up to its own end of a connection whose other half is shut."""
        begun = time.perf_counter()
        for _look in range(FAREWELLS):
            if self._task.done():
                return
            await asyncio.wait([self._task], timeout=FAREWELL)
        in_time = time.perf_counter() - begun < 2 * FAREWELLS * FAREWELL
        if in_time and self._received.habits is not None:
            self._received.habits.heeds = False  # it is not the event loop that was too busy

    async def _read_on(self) -> None:
        """Reads for a moment what has arrived, unless the server could be told that its client leaves.

        Where the answer is yet to begin, all looks are taken: its server may have answered a busy event loop long ago,
        and can be told as soon as that is read.
        """
        seen, looked, habits = -1, self._looked, self._received.habits
        for _look in range(LOOKS):
            told = self._line.half_closed
            waits = habits is not None and habits.heeds and not self._line.begun
            if self._task.done() or told or (seen == self._received.events and not waits):
                return
            seen, self._looked, looked = self._received.events, looked, time.perf_counter()
            await asyncio.sleep(PATIENCE)
            for _ in range(TURNS):
                await asyncio.sleep(0)


class Direct:
    """The same without a task of its own: for streams whose loss is charged in full anyway.

    Args:
        chunks: the stream; closed with the reader.
        received: takes in every chunk.
    """

    def __init__(self, chunks: AsyncIterator[ChatGenerationChunk], received: Received) -> None:
        self._chunks: Any = chunks
        self._received = received

    def __aiter__(self) -> AsyncIterator[ChatGenerationChunk]:
        return self

    async def __anext__(self) -> ChatGenerationChunk:
        chunk: ChatGenerationChunk = await anext(self._chunks)
        self._received.add(chunk)
        return chunk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._chunks.aclose()
