"""Reads a stream in a task of its own, so that leaving it early does not lose what has arrived already."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

from langchain_core.outputs import ChatGenerationChunk

from tta_langgraph.models.received import Received

PATIENCE = 0.001
"""Seconds without a chunk after which nothing more is on its way to a reader that leaves."""
TURNS = 8
"""Turns of the event loop from bytes in a socket to a chunk; on a busy loop, each is longer than the patience."""
LOOKS = 8
"""How often a reader that leaves looks at most: it must not stay."""


class Reader:
    """An async iterator over a stream; a context that ends the stream when it is left.

    A coroutine that is cancelled while it reads a socket drops what the socket still holds. Here the socket is read
    by another task, which is given a moment for what has arrived before it is cancelled in turn.

    Args:
        chunks: the stream; closed with the reader.
        received: takes in every chunk, also those that nobody asked for any more.
    """

    def __init__(self, chunks: AsyncIterator[ChatGenerationChunk], received: Received) -> None:
        self._chunks: Any = chunks
        self._received = received
        self._left = False
        self._queue: asyncio.Queue[ChatGenerationChunk | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
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
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seen, before, looked = -1, time.perf_counter(), time.perf_counter()
        try:
            for _look in range(LOOKS):
                if self._task.done() or seen == self._received.events:
                    break
                seen, before, looked = self._received.events, looked, time.perf_counter()
                await asyncio.sleep(PATIENCE)
                for _ in range(TURNS):
                    await asyncio.sleep(0)
        finally:
            self._left = True
            self._task.cancel()
            await asyncio.wait([self._task])
            await asyncio.sleep(0)  # asyncio closes a socket one turn of its loop after it was told to
            # What came at the last look may have waited in the socket since the one before. On a busy event loop this
            # is longer than it looks, and the server goes on writing meanwhile.
            self._received.blind = time.perf_counter() - before
            if not self._task.cancelled():
                self._task.exception()  # seen: what ended a stream that was left concerns nobody any more


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
