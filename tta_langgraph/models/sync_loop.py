"""One event loop in a background thread, for sync callers whose call must be cancellable at a deadline."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
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


def _background() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="tta-sync-calls", daemon=True).start()
        return _loop
