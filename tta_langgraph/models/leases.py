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
from tta_langgraph.models.caller import Caller
from tta_langgraph.pool import Lease, PoolRefusal, SharedPool
from tta_langgraph.reservation import Reservation, largest_affordable
from tta_langgraph.threads import in_thread, start

POLL_SECONDS = 0.05
"""How often a busy pool is asked again."""

_Held = list[tuple[SharedPool, Lease]]
_open: dict[str, set[tuple[str, str]]] = {}
"""The pools that the open reservations of this process draw on, by the reservations' ids."""


class Leases:
    """The leases of one call's attempts.

    Args:
        pools: the shared budgets that it draws on. One that is named twice is charged once; all calls take them in the
            same order, so that no two of them hold what the other waits for.
    """

    def __init__(self, pools: Sequence[SharedPool]) -> None:
        accounts = {pool.account: pool for pool in reversed(pools)}
        self._pools = [accounts[account] for account in sorted(accounts)]
        self._held: dict[str, _Held] = {}

    def take(self, reservation: Reservation, caller: Caller, seconds_left: Callable[[], float]) -> None:
        """Reserves in every pool; asks a busy one again until the deadline.

        Where a pool has less left than the episode, the completion cap shrinks to it.

        Raises:
            BudgetExceededError: a pool is spent, or busy until the deadline.
            DatabaseError: a pool cannot be reached.
        """
        for pool in self._pools:
            while not isinstance(outcome := pool.reserve(reservation.bound), Lease):
                if _is_worth_waiting(pool, outcome, reservation, caller, seconds_left):
                    time.sleep(POLL_SECONDS)
                else:
                    _shrink(pool, outcome, reservation)
            self._hold(reservation, pool, outcome)

    async def atake(self, reservation: Reservation, caller: Caller, seconds_left: Callable[[], float]) -> None:
        """Twin of `take`.

        Raises:
            TimeoutError: a pool's database did not answer by the deadline.
        """
        for pool in self._pools:
            while not isinstance(outcome := await _ask(pool, reservation.bound, seconds_left()), Lease):
                if _is_worth_waiting(pool, outcome, reservation, caller, seconds_left):
                    await asyncio.sleep(POLL_SECONDS)
                else:
                    _shrink(pool, outcome, reservation)
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
        _open.pop(reservation.id, None)
        return self._held.pop(reservation.id, [])

    def _hold(self, reservation: Reservation, pool: SharedPool, lease: Lease) -> None:
        self._held.setdefault(reservation.id, []).append((pool, lease))
        _open.setdefault(reservation.id, set()).add(pool.account)


def _is_worth_waiting(
    pool: SharedPool,
    refusal: PoolRefusal,
    reservation: Reservation,
    caller: Caller,
    seconds_left: Callable[[], float],
) -> bool:
    """Whether calls in flight may give back what is missing: not if they go on only when this one does."""
    if refusal.reserved <= 0 or seconds_left() <= POLL_SECONDS:
        return False
    if any(pool.account in _open.get(outer, ()) for outer in caller.inside):
        return False
    return refusal.spent + _least(reservation, refusal.dimension) <= refusal.limit


def _shrink(pool: SharedPool, refusal: PoolRefusal, reservation: Reservation) -> None:
    """Lowers the completion cap to what the pool has left."""
    request, dimension = reservation.request, refusal.dimension
    room = refusal.limit - refusal.spent - refusal.reserved
    cap = 0
    if dimension in ("tokens", "completion_tokens"):
        read = request.prompt_tokens if dimension == "tokens" else 0
        cap = int((room - read) // request.n)
    elif dimension == "usd":
        cap = largest_affordable(request, reservation.completion_tokens, room)
    if not min(request.min_completion, request.completion_tokens) <= cap < reservation.completion_tokens:
        need = _least(reservation, dimension)
        raise BudgetExceededError(dimension, refusal.spent, refusal.limit, f"pool {pool.name!r}", need)
    reservation.shrink(cap)


def _least(reservation: Reservation, dimension: str) -> float:
    request = reservation.request
    return float(getattr(request.bound(min(request.min_completion, request.completion_tokens)), dimension))


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
            return await in_thread(ask)
    except BaseException:
        with lock:
            left = True
            got = [outcome for outcome in granted if isinstance(outcome, Lease)]
        await _in_threads([partial(pool.release, lease) for lease in got], patience=0.0)
        raise


async def _in_threads(works: Sequence[Callable[[], None]], patience: float) -> None:
    """Does the works in threads, and waits for them that long; they go on even if the waiter is cancelled."""
    if doing := [start(work) for work in works]:
        await asyncio.wait(doing, timeout=None if math.isinf(patience) else max(0.0, patience))
