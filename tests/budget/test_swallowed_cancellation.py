"""A stream ends when it is left, also where a library on the way swallows the one cancellation that says so.

`asyncio.wait_for` does before Python 3.12, when a chunk arrives in the same moment.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from tta_langgraph.models.reader import Direct, Reader
from tta_langgraph.models.received import Received
from tta_langgraph.models.sync_loop import stream_in_background


class Swallows:
    """A chunk at once, then one for each cancellation; `closed` when it is closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    async def chunks(self) -> AsyncIterator[ChatGenerationChunk]:
        try:
            while True:
                yield ChatGenerationChunk(message=AIMessageChunk("word "))
                try:
                    await asyncio.sleep(3_600)
                except asyncio.CancelledError:
                    task = asyncio.current_task()
                    assert task is not None
                    task.uncancel()
        finally:
            self.closed.set()


def test_a_sync_stream_that_is_left() -> None:
    source = Swallows()
    stream = stream_in_background(Direct(source.chunks(), Received(keep=False)), lambda: math.inf)
    assert next(stream).text == "word "
    stream.close()
    assert source.closed.wait(10)


async def test_an_async_stream_that_is_left() -> None:
    source = Swallows()
    async with asyncio.timeout(10):
        async with Reader(source.chunks(), Received(keep=False)) as chunks:
            assert (await anext(chunks)).text == "word "
    assert source.closed.is_set()
