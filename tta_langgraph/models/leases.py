"""What one call holds of shared pools: taken after its own budget has admitted it, settled with its charge.

A pool is a database, which another process may keep locked for seconds. Async calls leave its work to threads: the
event loop goes on, a deadline strikes while a pool is slow, and what a thread gets for a call that is gone is given
back.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from tta_langgraph.budget import Usage
from tta_langgraph.errors import BudgetExceededError
from tta_langgraph.ledger import Reservation
from tta_langgraph.pool import Lease, PoolRefusal, SharedPool

POLL_SECONDS = 0.05
"""How often a busy pool is asked again."""

_Held = list[tuple[SharedPool, Lease]]


class Leases:
    """The leases of one call's attempts.

    Args:
        pools: the shared budgets that it draws on.
    """

    def __init__(self, pools: Sequence[SharedPool]) -> None:
        self._pools = pools
        self._held: dict[str, _Held] = {}

    def take(self, reservation: Reservation, seconds_left: Callable[[], float]) -> None:
        """Reserves in every pool; asks a busy one again until the deadline.

        Raises:
            BudgetExceededError: a pool is spent, or busy until the deadline.
            DatabaseError: a pool cannot be reached.
        """
        for pool in self._pools:
            while _is_worth_waiting(outcome := pool.reserve(reservation.bound), seconds_left):
                time.sleep(POLL_SECONDS)
            self._hold(reservation, pool, outcome)

    async def atake(self, reservation: Reservation, seconds_left: Callable[[], float]) -> None:
        """Twin of `take`.

        Raises:
            TimeoutError: a pool's database did not answer by the deadline.
        """
        for pool in self._pools:
            outcome = await _ask(pool, reservation.bound, seconds_left())
            while _is_worth_waiting(outcome, seconds_left):
                await asyncio.sleep(POLL_SECONDS)
                outcome = await _ask(pool, reservation.bound, seconds_left())
            self._hold(reservation, pool, outcome)

    def settle(self, reservation: Reservation, usage: Usage) -> None:
        """Charges the pools what was consumed."""
        for pool, lease in self._pop(reservation):
            pool.settle(lease, usage)

    async def asettle(self, reservation: Reservation, usage: Usage, patience: float) -> None:
        """Twin of `settle`. It goes on, but is not waited for, after so many seconds or a cancellation."""
        await _in_threads([partial(pool.settle, lease, usage) for pool, lease in self._pop(reservation)], patience)

    def give_back(self, reservation: Reservation) -> None:
        """Releases what was taken: the call is not made."""
        for pool, lease in self._pop(reservation):
            pool.release(lease)

    async def agive_back(self, reservation: Reservation, patience: float) -> None:
        """Twin of `give_back`, as patient as `asettle`."""
        await _in_threads([partial(pool.release, lease) for pool, lease in self._pop(reservation)], patience)

    def _pop(self, reservation: Reservation) -> _Held:
        return self._held.pop(reservation.id, [])

    def _hold(self, reservation: Reservation, pool: SharedPool, outcome: Lease | PoolRefusal) -> None:
        if isinstance(outcome, PoolRefusal):
            raise BudgetExceededError(outcome.dimension, outcome.spent, outcome.limit, f"pool {pool.name!r}")
        self._held.setdefault(reservation.id, []).append((pool, outcome))


def _is_worth_waiting(outcome: Lease | PoolRefusal, seconds_left: Callable[[], float]) -> bool:
    return isinstance(outcome, PoolRefusal) and outcome.busy and seconds_left() > POLL_SECONDS


async def _ask(pool: SharedPool, bound: Usage, patience: float) -> Lease | PoolRefusal:
    """Reserves in a thread. If the asker is cancelled or out of time, the thread gives back what it gets."""
    lock = threading.Lock()
    granted: list[Lease | PoolRefusal] = []
    left = False

    def ask() -> Lease | PoolRefusal:
        outcome = pool.reserve(bound)
        with lock:
            granted.append(outcome)
            unwanted = left
        if unwanted and isinstance(outcome, Lease):
            pool.release(outcome)
        return outcome

    try:
        async with asyncio.timeout(None if math.isinf(patience) else max(0.0, patience)):
            return await asyncio.to_thread(ask)
    except BaseException:
        with lock:
            left = True
            got = [outcome for outcome in granted if isinstance(outcome, Lease)]
        await _in_threads([partial(pool.release, lease) for lease in got], patience=0.0)
        raise


async def _in_threads(works: Sequence[Callable[[], None]], patience: float) -> None:
    """Does the works in threads, and waits for them that long; they go on even if the waiter is cancelled."""
    loop = asyncio.get_running_loop()
    if doing := [loop.run_in_executor(None, work) for work in works]:
        await asyncio.wait(doing, timeout=None if math.isinf(patience) else max(0.0, patience))
