"""Threads for short work of a call: counting, reading, a pool's or a checkpointer's database.

Not asyncio's own: LangGraph runs sync nodes in those, and nodes that wait for the budget would keep the call that they
wait for from ending.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

T = TypeVar("T")

MOST = 32
"""Threads at most; each is busy for milliseconds, or waits for a database."""

_lock = threading.Lock()
_executor: ThreadPoolExecutor | None = None


def start(work: Callable[[], T]) -> asyncio.Future[T]:
    """Starts work in a thread, in this context. It goes on even if nobody waits for it any more."""
    context = contextvars.copy_context()
    return asyncio.get_running_loop().run_in_executor(_threads(), partial(context.run, work))


async def in_thread(work: Callable[[], T]) -> T:
    """Does work in a thread while the event loop goes on."""
    return await start(work)


def bounded(work: Callable[[], T], seconds: float, *, grace: float = 0.02) -> T:
    """Does a sync caller's work in a thread of its own and waits for it that long; later, nobody waits any more.

    Args:
        work: what cannot be cancelled.
        seconds: to wait for it.
        grace: seconds more, in which work that has a timeout of its own ends by it, with its own error.

    Raises:
        TimeoutError: it took longer.
    """
    done: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            done.set_result(context.run(work))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="tta-sync-call", daemon=True).start()
    try:
        return done.result(max(0.0, seconds) + grace)
    except TimeoutError:
        if done.done():
            raise  # its own
        raise TimeoutError(f"no answer after {seconds:.3f} seconds") from None


def _threads() -> ThreadPoolExecutor:
    global _executor
    with _lock:
        if _executor is None:
            _executor = ThreadPoolExecutor(MOST, thread_name_prefix="tta-work")
        return _executor


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _executor, _lock
    _executor, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
