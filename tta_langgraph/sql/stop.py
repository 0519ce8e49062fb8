"""Ending a running statement: at its deadline, or when the caller gives up."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

log = logging.getLogger(__name__)

Reason = Literal["timeout", "cancelled"]


class Stop:
    """One statement's deadline and its cancel button; any thread may press it.

    Args:
        seconds: from now to the deadline.
    """

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        """On the monotonic clock."""
        self.reason: Reason | None = None
        """Why the statement has to end, once it has to."""
        self.politely: Callable[[], None] | None = None
        """Asks the server to end the statement; tried before a connection is dropped, where that is another thing."""
        self._interrupt: Callable[[], None] | None = None
        self._done: threading.Event | None = None
        self._lock = threading.Lock()

    @property
    def remaining(self) -> float:
        """Seconds to the deadline, never negative."""
        return max(0.0, self.deadline - time.monotonic())

    def due(self) -> bool:
        """Whether the statement has to end now."""
        if self.reason is None and time.monotonic() >= self.deadline:
            self.reason = "timeout"
        return self.reason is not None

    def acquire(self, lock: threading.Lock) -> bool:
        """Waits for the lock until the statement has to end; whether it was had."""
        while not lock.acquire(timeout=min(_LOOK, self.remaining)):
            if self.due():
                return False
        return True

    def cancel(self, reason: Reason = "cancelled") -> None:
        """Ends the statement; the first reason stays."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
            done = self._done
        if done is not None:
            threading.Thread(target=self._insist, args=(done,), name="tta-sql-interrupt", daemon=True).start()

    @contextmanager
    def watched(self, interrupt: Callable[[], None], *, grace: float = 0.0) -> Iterator[None]:
        """While the block runs, `interrupt` is called at the deadline (plus `grace` seconds) and on `cancel`.

        It is called again until the block ends: an interrupt between two statements of a block is lost on the engine.
        """
        done = threading.Event()
        with self._lock:
            self._interrupt, self._done = interrupt, done
        ticket = _watchdog.at(self.deadline + grace, lambda: self.cancel("timeout"))
        try:
            if self.reason is not None:
                self.cancel(self.reason)
            yield
        finally:
            _watchdog.forget(ticket)
            done.set()
            with self._lock:  # from here on the connection is somebody else's
                self._interrupt = self._done = None

    def _insist(self, done: threading.Event) -> None:
        pause = _FIRST_PAUSE
        while not done.is_set():
            with self._lock:
                if self._done is not done or self._interrupt is None:
                    return
                try:
                    self._interrupt()
                except Exception:  # the connection may be gone already, which is what was wanted
                    log.debug("a statement could not be interrupted", exc_info=True)
            done.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


class _Watchdog:
    """One thread for all deadlines of the process, started by the first one."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._calls: dict[int, Callable[[], None]] = {}
        self._ids = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def at(self, moment: float, call: Callable[[], None]) -> int:
        with self._changed:
            ticket = next(self._ids)
            self._calls[ticket] = call
            heapq.heappush(self._heap, (moment, ticket))
            if self._thread is None or not self._thread.is_alive():  # also after a fork
                self._thread = threading.Thread(target=self._run, name="tta-sql-deadlines", daemon=True)
                self._thread.start()
            elif self._heap[0][1] == ticket:
                self._changed.notify()
            return ticket

    def forget(self, ticket: int) -> None:
        with self._changed:
            self._calls.pop(ticket, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._heap and self._heap[0][1] not in self._calls:
                    heapq.heappop(self._heap)
                wait = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                call = self._calls.pop(heapq.heappop(self._heap)[1], None)
            if call is not None:
                call()


_FIRST_PAUSE = 0.05
_LOOK = 0.05
_LONGEST_PAUSE = 1.0
_watchdog = _Watchdog()
