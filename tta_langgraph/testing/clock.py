"""Time that passes only when everybody waits: thousands of episodes with deadlines in a second."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 0.5
"""Real seconds that a virtual run waits for threads and sockets before it says that nothing can go on."""


class DeadlockError(RuntimeError):
    """Every task of a virtual run waits, and nothing will ever wake one."""


class VirtualClock:
    """A clock in place of `time.monotonic`, and an event loop that runs on it.

    Inside `run`, `asyncio.sleep`, timeouts and `call_later` take no real time: when every task waits, the
    clock jumps to the next timer. A run in which everything waits for ever raises instead of hanging.

    Args:
        start: first reading, seconds.

    Example:
        >>> clock = VirtualClock()
        >>> clock.run(asyncio.sleep(3600))
        >>> clock()
        3600.0
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def __call__(self) -> float:
        """Returns the time, seconds; pass the clock itself where a `time.monotonic` is asked for."""
        return self._now

    monotonic = __call__

    def advance(self, seconds: float) -> None:
        """Lets time pass for code that does not run on the virtual loop.

        Args:
            seconds: how far, not negative.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back: advance({seconds})")
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """Sleeps in virtual time; only inside `run`."""
        await asyncio.sleep(seconds)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on an event loop whose time is this clock.

        Raises:
            DeadlockError: every task waits and no timer is set.
        """
        with asyncio.Runner(loop_factory=lambda: _VirtualLoop(self)) as runner:
            return runner.run(main)


class _VirtualSelector(selectors.DefaultSelector):
    """Lets the clock jump where a real selector would wait."""

    clock: VirtualClock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0 if timeout is not None else PATIENCE)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise DeadlockError("every task waits, no timer is set, and no thread or socket has called back")
        self.clock.advance(max(0.0, timeout))
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        selector = _VirtualSelector()
        selector.clock = clock
        self._virtual_clock = clock
        super().__init__(selector)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._virtual_clock()
