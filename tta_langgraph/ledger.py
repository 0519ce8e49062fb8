"""The in-process account of one episode: reserve, then settle. No I/O, no LangGraph.

The invariant, for every ledger and every dimension, after every admission: `spent + reserved <= limit`.
A call is admitted with an upper bound of what it can consume. When that bound does not fit, there are two
different answers: *busy* (calls in flight may settle below their bound: wait) and *exhausted* (even if they
settled at nothing, there would not be enough: stop).

Ledgers form a tree. A reservation is held by a ledger and all its ancestors, and its charge is recorded in all of
them. An account may come under other ancestors with every call (`Ledger.under`): a graph that is resumed inside a new
scope draws on that one too, and no longer on the one of the request before. So no lock per tree would do; there is
one for all, held for some microseconds.
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from tta_langgraph import events
from tta_langgraph.budget import (
    DIMENSIONS,
    Budget,
    BudgetTracker,
    Charge,
    Dimension,
    Remaining,
    Usage,
    union_seconds,
)
from tta_langgraph.reservation import Owner, Refusal, Request, Reservation, Sum, largest_affordable

__all__ = ["Ledger", "Owner", "Refusal", "Request", "Reservation"]

_ROUNDING = 1e-12
"""US dollars are sums of floats; tokens and calls are whole numbers and far above it."""


class _Waiter:
    """A request that waits for settlements; `granted` is called once, under the lock."""

    __slots__ = ("granted", "ledger", "outcome", "owner", "request")

    def __init__(
        self, ledger: Ledger, request: Request, owner: Owner, granted: Callable[[Reservation | Refusal], None]
    ) -> None:
        self.ledger, self.request, self.owner, self.granted = ledger, request, owner, granted


_lock = threading.RLock()
"""Held while anything is reserved, settled or summed up."""
_waiters: deque[_Waiter] = deque()
"""Those who wait for settlements, of all trees, in order."""


class Ledger:
    """The account of one budget. Thread-safe; safe to share between event loops.

    Args:
        tracker: the limits, earlier charges and clock to continue from.
        parent: the ledger that encloses this one; every charge counts there too.
        now: the clock, Unix seconds; replaced in tests by a virtual one.
    """

    def __init__(
        self, tracker: BudgetTracker, *, parent: Ledger | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.tracker_at_start = tracker
        self.episode = tracker.episode
        self.budget: Budget = tracker.budget
        self.now = now
        self.recovered: dict[object, None] = {}
        """The invocations of the graph that have read the journal, for what other processes charged before them."""
        self.recovering = threading.Lock()
        """Held by who reads it."""
        self.opened: set[str] = set()
        """Ids of the calls that this process wrote into the journal: what they cost is known here."""
        self.charges: dict[str, Charge] = {}
        # The wall clock can be set back by hand or by NTP; within the process, time only goes forward.
        self._clock_zero = now() - time.monotonic() if now is time.time else None
        self._place(self, parent)
        self._limits = self.budget.additive_limits
        self._in_flight: dict[str, Reservation] = {}
        self._spent = Sum()
        self._reserved = Sum()
        self._active = dict(tracker.active)
        self._active_key: str | None = None
        self._placed: Ledger | None = None
        if tracker.charges:
            self.absorb(tracker.charges)

    def _place(self, account: Ledger, parent: Ledger | None) -> None:
        budget = self.budget
        self.parent = parent
        self.lineage: tuple[Ledger, ...] = (account,) if parent is None else (*parent.lineage, account)
        """This ledger and its ancestors, outermost first."""
        self.counts_activity: bool = budget.clock == "active" or (parent is not None and parent.counts_activity)
        """Whether this ledger or an ancestor is on the active clock."""
        self.counts_usd: bool = budget.usd is not None or (parent is not None and parent.counts_usd)
        """Whether this ledger or an ancestor limits US dollars."""
        self._timed: bool = budget.seconds is not None or (parent is not None and parent._timed)
        self._ends = _nearest_ends(self.lineage)

    def under(self, parent: Ledger) -> Ledger:
        """The same account with `parent` and its ancestors around it, for the calls that are made there.

        What is recorded is one; only whom a call draws on besides is another. What was spent before does not count in
        ancestors that were opened since. An account may be under several parents at a time: what this gives is a view
        that keeps nothing of its own, and only the latest is remembered, so as not to make it anew for every call.
        """
        account = self.lineage[-1]
        placed = account._placed
        if placed is None or placed.parent is not parent:
            placed = copy.copy(account)
            placed._placed = None
            placed._place(account, parent)
            account._placed = placed
        return placed

    def of_episode(self, episode: str) -> Ledger:
        """The ledger of this episode among this one and its ancestors, with its own ancestors around it."""
        ledger: Ledger | None = self
        while ledger is not None and ledger.episode != episode:
            ledger = ledger.parent
        assert ledger is not None
        return ledger

    # -- reading ------------------------------------------------------------------------------------------

    @property
    def spent(self) -> Usage:
        """Sum of the settled charges."""
        return self._spent.usage()

    @property
    def reserved(self) -> Usage:
        """Sum of the bounds of the calls in flight."""
        return self._reserved.usage()

    @property
    def in_flight(self) -> tuple[Reservation, ...]:
        """The open reservations of this ledger and its descendants."""
        with _lock:
            return tuple(self._in_flight.values())

    @property
    def elapsed(self) -> float:
        """Seconds consumed on the budget's clock."""
        if self.budget.clock == "wall":
            return self._time() - self.tracker_at_start.started
        active = dict(self._active)
        at_work = self.lineage[-1]._active_key
        if at_work is not None:
            begin, _ = active[at_work]
            active[at_work] = (begin, self._time())
        return union_seconds(active.values())

    def seconds_left(self, *, final: bool = False) -> float:
        """Seconds until the nearest deadline of this ledger and its ancestors; `inf` without one."""
        if self._ends is not None:
            return self._ends[final] - time.monotonic()
        left = math.inf
        if self._timed:
            for ledger in self.lineage:
                limit = ledger.budget.seconds
                if limit is not None:
                    held = 0.0 if final else ledger.budget.reserve.seconds
                    left = min(left, limit - held - ledger.elapsed)
        return left

    def deadline(self, *, final: bool = False) -> tuple[float, float]:
        """Elapsed seconds and the limit, less the reserve, of the nearest deadline in the lineage."""
        limits = [
            (ledger.elapsed, (ledger.budget.seconds or 0.0) - (0.0 if final else ledger.budget.reserve.seconds))
            for ledger in self.lineage
            if ledger.budget.seconds is not None
        ]
        return min(limits, key=lambda pair: pair[1] - pair[0], default=(self.elapsed, math.inf))

    def left(self, dimension: Dimension, *, final: bool = True) -> float:
        """What is neither spent nor reserved, in this ledger and its ancestors; `inf` without a limit."""
        if dimension == "seconds":
            return max(0.0, self.seconds_left(final=final))
        with _lock:
            lefts = (ledger._own_left(dimension, final) for ledger in self.lineage)
            return max(0.0, min(lefts))

    @property
    def remaining(self) -> Remaining:
        """What is neither spent nor reserved per dimension, before the reserve."""
        return Remaining(**{name: self.left(name) for name in DIMENSIONS})

    def tracker(self) -> BudgetTracker:
        """The state object for this moment: limits, charges, clock."""
        with _lock:
            parent = None if self.parent is None else self.parent.tracker()
            start = self.tracker_at_start
            return BudgetTracker(
                episode=start.episode,
                budget=start.budget,
                started=start.started,
                charges=dict(self.charges),
                active=dict(self._active),
                parent=parent,
            )

    # -- spending -----------------------------------------------------------------------------------------

    def try_reserve(self, request: Request, owner: Owner = None) -> Reservation | Refusal:
        """Admits the request now, or says why not.

        The completion cap is clamped to what remains only when nobody else's call is in flight; while
        others may still settle below their bound, the answer is *busy*, so that no branch is cut short
        because its sisters reserved the worst case.
        """
        with _lock:
            return self._admit(request, owner)

    def enqueue(
        self, request: Request, owner: Owner, granted: Callable[[Reservation | Refusal], None]
    ) -> Callable[[], None]:
        """Waits without blocking: `granted` is called, maybe at once, with a reservation or a final refusal.

        Returns:
            A function that leaves the queue; call it on timeout or cancellation. A grant that arrived in
            between is the caller's to release.
        """
        waiter = _Waiter(self, request, owner, granted)
        with _lock:
            _waiters.append(waiter)
            self._serve()

        def leave() -> None:
            with _lock:
                if waiter in _waiters:
                    _waiters.remove(waiter)
                    self._serve()

        return leave

    def absorb(self, charges: Mapping[str, Charge] | Iterable[Charge]) -> None:
        """Adds charges settled elsewhere (a checkpoint, a crashed process); known ids are ignored.

        They count in the ancestors that were open then: what an episode spent before it was resumed inside a scope was
        not spent in there.
        """
        found = charges.values() if isinstance(charges, Mapping) else charges
        began = self.tracker_at_start.started
        with _lock:
            for charge in found:
                at = charge.at or began  # of a killed call only its episode is known
                for ledger in self.lineage[:-1]:
                    if at >= ledger.tracker_at_start.started:
                        ledger._record(charge)
                self.lineage[-1]._record(charge)
            self._serve()

    def absorb_new(self, charges: Mapping[str, Charge]) -> None:
        """`absorb` for the usual case that nothing is new."""
        if not charges.keys() <= self.charges.keys():
            self.absorb(charges)

    def charges_beyond(self, known: Mapping[str, Charge], written: Mapping[str, Charge]) -> dict[str, Charge]:
        """The charges that neither knows by id, oldest first.

        Args:
            known: any charges.
            written: what this has given before, for the same `known`. All that is older than the newest of it was given
                too, so that a task that makes many calls looks at each of their charges once.
        """
        new: list[Charge] = []
        with _lock:
            for key, charge in reversed(self.charges.items()):
                if key in written:
                    break
                if key not in known:
                    new.append(charge)
        return {charge.id: charge for charge in reversed(new)}

    def activity(self) -> dict[str, tuple[float, float]]:
        """Per invocation of the graph, the first and last Unix time (seconds) at which it was seen working."""
        with _lock:
            return dict(self._active)

    def absorb_activity(self, active: Mapping[str, tuple[float, float]]) -> None:
        """Adds when invocations in other processes were at work."""
        with _lock:
            for invocation, (begin, end) in active.items():
                known = self._active.get(invocation, (begin, end))
                self._active[invocation] = (min(begin, known[0]), max(end, known[1]))

    def touch(self, invocation: str) -> None:
        """Notes that an invocation of the graph is at work; the active clock counts between touches.

        The invocation in which the budget was set is at work from that moment on. A later one is not: where nothing is
        known of the first, it was interrupted before it used the budget, or worked in another process.
        """
        with _lock:
            for ledger in self.lineage:
                at = ledger._time()
                begin, _ = ledger._active.get(invocation, (at, at))
                if not ledger._active and ledger.tracker_at_start.opened_now:
                    begin = min(begin, ledger.tracker_at_start.started)
                ledger._active[invocation] = (begin, at)
                ledger._active_key = invocation

    # -- inside the lock ----------------------------------------------------------------------------------

    def _time(self) -> float:
        return self.now() if self._clock_zero is None else self._clock_zero + time.monotonic()

    def _own_left(self, dimension: Dimension, final: bool) -> float:
        limit = self._limits.get(dimension)
        if limit is None:
            return math.inf
        held = self.budget.reserve.tokens if dimension == "tokens" and not final else 0
        return float(limit - held - getattr(self._spent, dimension) - getattr(self._reserved, dimension))

    def _admit(self, request: Request, owner: Owner) -> Reservation | Refusal:
        wished = request.bound(request.completion_tokens)
        cap = request.completion_tokens
        if not self._fits(request, wished):
            smallest = request.bound(min(request.min_completion, request.completion_tokens))
            for ledger in self.lineage:
                refusal = ledger._refuse(request, smallest, owner)
                if refusal is not None:
                    return refusal
            for ledger in self.lineage:
                refusal = ledger._contended(request, wished, owner)
                if refusal is not None:
                    return refusal
            cap = self._largest_cap(request)
            wished = request.bound(cap)
        reservation = Reservation(self, request, cap, wished, owner)
        for ledger in self.lineage:
            ledger._in_flight[reservation.id] = reservation
            ledger._reserved.add(wished)
        return reservation

    def _fits(self, request: Request, wished: Usage) -> bool:
        """Whether the whole request fits everywhere, as most do: then nothing else has to be worked out."""
        if self._timed and self.seconds_left(final=request.final) <= 0:
            return False
        for ledger in self.lineage:
            for dimension in ledger._limits:
                if getattr(wished, dimension) > ledger._own_left(dimension, request.final):
                    return False
        return True

    def _refuse(self, request: Request, smallest: Usage, owner: Owner) -> Refusal | None:
        """This one ledger's refusal of the smallest useful form of the request, or None."""
        held = 0.0 if request.final else self.budget.reserve.seconds
        if self.budget.seconds is not None and self.elapsed >= self.budget.seconds - held:
            return self._refusal("seconds", request, busy=False)
        for dimension in self._limits:
            need = getattr(smallest, dimension)
            left = self._own_left(dimension, request.final)
            if need > left + _ROUNDING:
                may_return = self._held_by_others(dimension, owner)
                return self._refusal(dimension, request, busy=may_return > 0 and need <= left + may_return + _ROUNDING)
        return None

    def _contended(self, request: Request, wished: Usage, owner: Owner) -> Refusal | None:
        """A *busy* refusal if the whole request may fit here once others have settled, else None."""
        for dimension in self._limits:
            over = getattr(wished, dimension) > self._own_left(dimension, request.final) + _ROUNDING
            if over and self._held_by_others(dimension, owner) > 0:
                return self._refusal(dimension, request, busy=True)
        return None

    def _refusal(self, dimension: Dimension, request: Request, *, busy: bool) -> Refusal:
        reserve = 0.0 if request.final else float(getattr(self.budget.reserve, dimension, 0))
        spent = self.elapsed if dimension == "seconds" else float(getattr(self._spent, dimension))
        limit = self.budget.limits[dimension] - reserve
        smallest = request.bound(min(request.min_completion, request.completion_tokens))
        return Refusal(
            dimension=dimension,
            busy=busy,
            spent=spent,
            limit=limit,
            source=request.source,
            ledger=self,
            need=float(getattr(smallest, dimension)),
        )

    def _held_by_others(self, dimension: Dimension, owner: Owner) -> float:
        """What may come back while the asker waits: what it holds itself will not.

        Nor will anything if all that is in flight goes on only when somebody does who waits, too.
        """
        holds = getattr(owner, "holds", None) or (lambda reservation: owner is not None and reservation.owner == owner)
        others = [reservation for reservation in self._in_flight.values() if not holds(reservation)]
        stuck = frozenset().union(*(getattr(waiter.owner, "inside", ()) for waiter in _waiters))
        if stuck and all(reservation.id in stuck for reservation in others):
            return 0.0
        return float(sum(getattr(reservation.bound, dimension) for reservation in others))

    def _largest_cap(self, request: Request) -> int:
        """The largest completion cap per choice that fits in every ledger of the lineage."""
        cap = request.completion_tokens
        for ledger in self.lineage:
            tokens = ledger._own_left("tokens", request.final) - request.prompt_tokens
            completion = ledger._own_left("completion_tokens", request.final)
            room = min(tokens, completion)
            if room < cap * request.n:
                cap = int(room // request.n)
            usd = ledger._own_left("usd", request.final)
            if request.usd is not None and request.bound(cap).usd > usd:
                cap = largest_affordable(request, cap, usd)
        return cap

    def _record(self, charge: Charge) -> bool:
        if charge.id in self.charges:
            return False
        self.charges[charge.id] = charge
        self._spent.add(charge.usage)
        return True

    def _close(self, reservation: Reservation, usage: Usage | None, note: str, *, estimated: bool) -> Charge | None:
        charge: Charge | None = None
        with _lock:
            if not reservation.open:
                return None
            reservation.open = False
            if usage is not None:
                charge = Charge(
                    id=reservation.id,
                    usage=usage,
                    source=reservation.request.source,
                    at=self._time(),
                    estimated=estimated,
                    note=note,
                )
            for ledger in self.lineage:
                del ledger._in_flight[reservation.id]
                ledger._reserved.take_off(reservation.bound)
                if charge is not None:
                    ledger._record(charge)
            if _waiters:
                self._serve()
        if charge is not None and events.watched():
            events.publish({"type": "charge", "episode": self.episode, "charge": charge, "remaining": self.remaining})
        return charge

    def _shrink(self, reservation: Reservation, cap: int) -> None:
        with _lock:
            smaller = reservation.request.bound(cap)
            for ledger in self.lineage:
                ledger._reserved.take_off(reservation.bound)
                ledger._reserved.add(smaller)
            reservation.completion_tokens, reservation.bound = cap, smaller
            if _waiters:
                self._serve()

    def _serve(self) -> None:
        """Hands what came back to those who wait, in order; nobody overtakes on a ledger that is contended."""
        contended: set[Ledger] = set()
        changed = frozenset(self.lineage)
        for waiter in list(_waiters):
            lineage = waiter.ledger.lineage
            if changed.isdisjoint(lineage) or contended.intersection(lineage):
                continue
            outcome = waiter.ledger._admit(waiter.request, waiter.owner)
            if isinstance(outcome, Refusal) and outcome.busy:
                contended.add(outcome.ledger)
                continue
            _waiters.remove(waiter)
            waiter.granted(outcome)


def _nearest_ends(lineage: tuple[Ledger, ...]) -> tuple[float, float] | None:
    """The nearest deadline on the process's own clock, less what is reserved and in all; None if it may move."""
    ends = [math.inf, math.inf]
    for ledger in lineage:
        limit, zero = ledger.budget.seconds, ledger._clock_zero
        if limit is None:
            continue
        if zero is None or ledger.budget.clock != "wall":
            return None
        end = ledger.tracker_at_start.started + limit - zero
        ends = [min(ends[0], end - ledger.budget.reserve.seconds), min(ends[1], end)]
    return ends[0], ends[1]
