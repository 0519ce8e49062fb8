"""From the engine's event loop to whoever waits: a thread, or a task on another loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, TypeVar

__all__ = ["Submit", "aoutputs", "outputs", "wait"]

T = TypeVar("T")
Submit = Callable[[Callable[[Any], None]], concurrent.futures.Future[Any]]
"""Starts a request that calls back, on the engine's loop, with each partial output."""


def wait(future: concurrent.futures.Future[T]) -> T:
    """The result; an interrupt of the waiting thread aborts the request."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def outputs(submit: Submit) -> Generator[Any, None, None]:
    """Partial outputs as they come; leaving the iteration early aborts the request."""
    arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
    future = submit(arrived.put)
    future.add_done_callback(lambda _: arrived.put(None))
    try:
        while (output := arrived.get()) is not None:
            yield output
        future.result()
    finally:
        future.cancel()


async def aoutputs(submit: Submit) -> AsyncGenerator[Any, None]:
    """As `outputs`, for a task on any loop; cancelling the task aborts the request."""
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def put(output: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the caller's loop is closed: nobody listens any more
            loop.call_soon_threadsafe(arrived.put_nowait, output)

    future = submit(put)
    future.add_done_callback(lambda _: put(None))
    try:
        while (output := await arrived.get()) is not None:
            yield output
        future.result()
    finally:
        future.cancel()
