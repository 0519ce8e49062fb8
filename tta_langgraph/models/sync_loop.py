"""One event loop in a background thread, for sync callers whose call must be cancellable at a deadline."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import math
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
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
    chunks: AsyncIterator[T], seconds_left: Callable[[], float], arrives: Callable[[T], None]
) -> Generator[T, None, None]:
    """Iterates over an async stream from a sync caller; at the deadline, or when it is left, the stream is closed.

    Args:
        chunks: the stream; one task on the background loop reads it to its end.
        seconds_left: seconds to the deadline, `inf` without one.
        arrives: called with every chunk that comes, also with those that a slow caller never gets to see.

    Raises:
        TimeoutError: the deadline passed; the stream was cancelled.
    """
    arrived: queue.SimpleQueue[tuple[T] | None] = queue.SimpleQueue()
    left = threading.Event()

    async def read() -> None:
        source: Any = chunks
        async with contextlib.aclosing(source):
            async for chunk in source:
                arrives(chunk)
                if left.is_set():  # before Python 3.12, `asyncio.wait_for` may swallow a cancellation
                    return
                arrived.put((chunk,))

    reading = asyncio.run_coroutine_threadsafe(read(), _background())
    reading.add_done_callback(lambda _: arrived.put(None))
    try:
        while (seconds := seconds_left()) > 0:
            try:
                item = arrived.get(timeout=None if math.isinf(seconds) else seconds)
            except queue.Empty:
                break
            if item is None:
                reading.result()  # raises what ended the stream
                return
            yield item[0]
        raise TimeoutError("the deadline passed while streaming")
    finally:
        left.set()
        reading.cancel()


def _background() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="tta-sync-calls", daemon=True).start()
        return _loop
