"""One event loop in a background thread, for sync callers whose call must be cancellable at a deadline."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def run_in_background(work: Coroutine[Any, Any, T], *, timeout: float | None = None) -> T:
    """Runs a coroutine on the background loop and waits for it; at the timeout it is cancelled, not abandoned.

    Args:
        work: the coroutine.
        timeout: seconds to wait, or None.

    Raises:
        TimeoutError: the timeout struck; the coroutine was cancelled.
    """
    future = asyncio.run_coroutine_threadsafe(work, _background())
    try:
        return future.result(timeout)
    except concurrent.futures.TimeoutError:
        future.cancel()
        raise TimeoutError(f"cancelled after {timeout:.3f} seconds") from None
    except BaseException:
        future.cancel()
        raise


def stream_in_background(
    reading: AbstractAsyncContextManager[AsyncIterator[T]], seconds_left: Callable[[], float], *, patience: float = 0.0
) -> Generator[T, None, None]:
    """Iterates over an async stream from a sync caller; at the deadline, or when it is left, the stream is closed.

    Args:
        reading: the stream and its closing; one task on the background loop reads it to its end, also what a slow
            caller never gets to see.
        seconds_left: seconds to the deadline, `inf` without one.
        patience: seconds to wait at the deadline for the stream to be closed.

    Raises:
        TimeoutError: the deadline passed; the stream was cancelled.
    """
    arrived: queue.SimpleQueue[tuple[T] | None] = queue.SimpleQueue()
    left, closed = threading.Event(), threading.Event()

    async def read() -> None:
        try:
            async with reading as chunks:
                async for chunk in chunks:
                    if left.is_set():  # before Python 3.12, `asyncio.wait_for` may swallow a cancellation
                        return
                    arrived.put((chunk,))
        finally:
            closed.set()

    task = asyncio.run_coroutine_threadsafe(read(), _background())
    task.add_done_callback(lambda _: arrived.put(None))
    try:
        while (seconds := seconds_left()) > 0:
            try:
                item = arrived.get(timeout=None if math.isinf(seconds) else seconds)
            except queue.Empty:
                break
            if item is None:
                task.result()  # raises what ended the stream
                return
            yield item[0]
        left.set()
        task.cancel()
        closed.wait(patience)
        raise TimeoutError("the deadline passed while streaming")
    finally:
        left.set()
        task.cancel()


def _background() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="tta-sync-calls", daemon=True).start()
        return _loop
