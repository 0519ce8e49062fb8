"""Who asks for a reservation, and which open ones cannot settle while that asker waits.

A caller that waited for a reservation that it holds itself would wait for ever. It holds those of its own task or
thread; those of the streams that it is reading, which go on only when it reads on, also from tasks and threads that it
starts meanwhile; and, if it is sync code on an event loop, those of that loop, which its waiting would stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from tta_langgraph.reservation import Reservation

_inside: ContextVar[frozenset[str]] = ContextVar("tta_inside_reservations", default=frozenset())


class Caller:
    """The owner of a reservation.

    Args:
        who: the task, or the thread's id.
        loop: the event loop that settles its reservations; None for a thread.
        stops: the event loop that its waiting would stop; None if it would stop none.
    """

    __slots__ = ("inside", "loop", "patient", "stops", "who")

    def __init__(
        self, who: object, loop: asyncio.AbstractEventLoop | None, stops: asyncio.AbstractEventLoop | None
    ) -> None:
        self.who, self.loop, self.stops = who, loop, stops
        self.inside = _inside.get()
        self.patient = True
        """False: it waits for nobody, and takes what is left now."""

    @classmethod
    def sync(cls) -> Caller:
        """The thread that runs here."""
        loop = asyncio._get_running_loop()
        return cls(threading.get_ident(), loop, loop)

    @classmethod
    def task(cls) -> Caller:
        """The task that runs here."""
        task = asyncio.current_task()
        return cls(task, None if task is None else task.get_loop(), None)

    def holds(self, reservation: Reservation) -> bool:
        """Whether a reservation cannot settle while this caller waits."""
        if reservation.id in self.inside or not self.patient:
            return True
        owner = reservation.owner
        if not isinstance(owner, Caller):
            return False
        return owner.who == self.who or (self.stops is not None and owner.loop is self.stops)


@contextlib.contextmanager
def room_to_wait() -> Iterator[bool]:
    """Whether a sync caller may wait here; counts it among those who do.

    In an async graph, sync nodes run in the threads of asyncio's own pool, and so do small parts of async clients'
    calls. If every thread of it waited for such a call, none would ever end. So a thread that waits is made up for
    with another one; where that cannot be, the last one must not wait.
    """
    global _waiting
    if not threading.current_thread().name.startswith("asyncio_"):
        yield True
        return
    with _lock:
        _waiting += 1
        pool = _lend_thread()
        last = pool is None and _waiting >= _POOL
    try:
        yield not last
    finally:
        with _lock:
            _waiting -= 1
            if pool is not None:
                pool._max_workers -= 1


def _lend_thread() -> Any:
    """Lets the pool that this thread belongs to have one more; the pool, or None if it has enough or cannot be told."""
    try:
        pool: Any = threading.current_thread()._args[0]()  # type: ignore[attr-defined]
        if pool._max_workers >= _POOL + MOST_LENT:
            return None
        pool._max_workers += 1
        pool._adjust_thread_count()  # for work that is queued already
    except (AttributeError, IndexError, TypeError):
        return None
    return pool


MOST_LENT = 256
"""Threads lent to asyncio's pool at most."""
_POOL = min(32, (os.cpu_count() or 1) + 4)
"""Threads that it has by itself."""
_lock = threading.Lock()
_waiting = 0


@contextlib.contextmanager
def inside(reservation: Reservation) -> Iterator[None]:
    """What runs until the end of this is run on behalf of an open reservation.

    Entered in a generator, it holds for the code that reads the generator: both share a context. They may part before
    the end, so the context is left by taking the one id out again, whatever it is then.
    """
    _inside.set(_inside.get() | {reservation.id})
    try:
        yield
    finally:
        _inside.set(_inside.get() - {reservation.id})
