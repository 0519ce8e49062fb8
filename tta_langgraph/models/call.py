"""One metered model call: what it may consume at most, its admission, and its settlement.

**This is where a call is admitted and charged**, for every way of calling a model. It knows nothing of how the model
is called; `metered.py` does that.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tta_langgraph.budget import BudgetTracker, Charge, Usage
from tta_langgraph.errors import BudgetError, BudgetExceededError
from tta_langgraph.journal import Journal
from tta_langgraph.journal_later import write_later
from tta_langgraph.ledger import Ledger, Refusal, Request, Reservation
from tta_langgraph.models.call_options import (
    MIN_COMPLETION,
    CallOptions,
    call_options,
    current_source,
    options_here,
    source_of,
)
from tta_langgraph.models.caller import Caller, room_to_wait
from tta_langgraph.models.failures import classify
from tta_langgraph.models.leases import Leases
from tta_langgraph.models.live import stream_charge
from tta_langgraph.models.prices import Price
from tta_langgraph.models.prompt_count import Counted
from tta_langgraph.models.received import Received
from tta_langgraph.models.usage import Consumed
from tta_langgraph.pool import SharedPool
from tta_langgraph.scope import invocation_of, save_to_state

__all__ = ["MIN_COMPLETION", "CallOptions", "MeteredCall", "call_options", "current_source"]


@dataclass(eq=False, slots=True)
class MeteredCall:
    """One logical call, which may take several attempts."""

    name: str
    """The model's name."""
    ledger: Ledger
    """The account it draws on."""
    request: Request
    """Its upper bound."""
    counted: Counted
    """The prompt count and how it was had."""
    price: Price | None
    """US dollars per token, if known."""
    config: Mapping[str, Any] | None
    """Config of the LangGraph task that makes the call; None outside of a graph."""
    tracker: BudgetTracker | None
    """What that task's state says of the budget; it does not change while the task runs."""
    journal: Journal | None
    """Where open reservations are written down; None where nothing outlives the process."""
    spent: list[Usage] | None = None
    """Where to add what was consumed, for the caller."""
    leases: Leases | None = None
    """What it holds of shared pools; None where it draws on none."""

    @classmethod
    def plan(
        cls,
        ledger: Ledger,
        counted: Counted,
        name: str,
        *,
        cap: int,
        n: int,
        price: Price | None,
        pools: tuple[SharedPool, ...],
        config: Mapping[str, Any] | None = None,
        tracker: BudgetTracker | None = None,
    ) -> MeteredCall:
        """Works out the upper bound of a call whose prompt was counted.

        Raises:
            BudgetError: there is a limit in US dollars and the model has no known price.
        """
        options = options_here()
        if price is None and ledger.counts_usd:
            raise BudgetError(
                f"the model {name!r} has no known price, so a limit in US dollars cannot be enforced",
                where="Budget.usd",
                remedy="Register one with tta_langgraph.models.prices.register_price, or limit tokens instead",
            )
        request = Request(
            prompt_tokens=counted.bound,
            completion_tokens=cap,
            n=n,
            min_completion=min(cap, options.min_completion),
            usd=price.cost if price is not None else None,
            model_calls=1,
            final=options.final,
            source=source_of(options, config, name),
        )
        journal = Journal.of(config)
        leases = Leases(pools) if pools else None
        return cls(name, ledger, request, counted, price, config, tracker, journal, options.spent, leases)

    @property
    def seconds_left(self) -> float:
        """Seconds until this call must be over; `inf` without a deadline."""
        return self.ledger.seconds_left(final=self.request.final)

    # -- admission ----------------------------------------------------------------------------------------

    def admit(self) -> Reservation:
        """Waits for admission, at most until the deadline.

        Raises:
            BudgetExceededError: the budget cannot cover even the smallest useful form of the call.
        """
        if self.ledger.counts_activity:
            self.ledger.touch(invocation_of(self.config))
        if self.journal is not None:
            self.journal.recover_once(self.ledger)
        owner = Caller.sync()
        outcome = self.ledger.try_reserve(self.request, owner)
        if isinstance(outcome, Refusal) and outcome.busy:
            with room_to_wait() as owner.patient:
                outcome = self._wait(owner, outcome) if owner.patient else self.ledger.try_reserve(self.request, owner)
        if isinstance(outcome, Refusal):
            raise self._refused(outcome)
        reservation = outcome
        try:
            if self.leases is not None:
                self.leases.take(reservation, owner, lambda: self.seconds_left)
            if self.journal is not None:
                self.journal.opened(reservation)
        except BaseException:
            reservation.release()
            if self.journal is not None:
                with contextlib.suppress(Exception):  # a journal that cannot be written may be what went wrong
                    self.journal.withdrawn(reservation)
            if self.leases is not None:
                self.leases.give_back(reservation)
            raise
        return reservation

    async def aadmit(self) -> Reservation:
        """Twin of `admit`; waiting does not block the event loop."""
        if self.ledger.counts_activity:
            self.ledger.touch(invocation_of(self.config))
        if self.journal is not None:
            await self.journal.arecover_once(self.ledger)
        owner = Caller.task()
        outcome = self.ledger.try_reserve(self.request, owner)
        if isinstance(outcome, Refusal) and outcome.busy:
            outcome = await self._await(owner, outcome)
        if isinstance(outcome, Refusal):
            raise self._refused(outcome)
        reservation = outcome
        try:
            if self.leases is not None:
                await self.leases.atake(reservation, owner, lambda: self.seconds_left)
            if self.journal is not None:
                await self.journal.aopened(reservation)
        except BaseException as error:
            reservation.release()
            if self.journal is not None:
                write_later(self.journal.awithdrawn(reservation))
            if self.leases is not None:
                await self.leases.agive_back(reservation, self.seconds_left)
            if isinstance(error, TimeoutError) and self.seconds_left <= 0:
                raise self._out_of_time() from error
            raise
        return reservation

    def _wait(self, owner: Caller, busy: Refusal) -> Reservation | Refusal:
        arrived = threading.Event()
        box: list[Reservation | Refusal] = []

        def granted(outcome: Reservation | Refusal) -> None:
            box.append(outcome)
            arrived.set()

        leave = self.ledger.enqueue(self.request, owner, granted)
        try:
            left = self.seconds_left
            arrived.wait(None if math.isinf(left) else max(0.0, left))
        except BaseException:
            leave()
            _release(box)
            raise
        leave()
        return box[0] if box else self._too_late(busy)

    async def _await(self, owner: Caller, busy: Refusal) -> Reservation | Refusal:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        box: list[Reservation | Refusal] = []

        def granted(outcome: Reservation | Refusal) -> None:
            box.append(outcome)
            loop.call_soon_threadsafe(_arrive, future)

        leave = self.ledger.enqueue(self.request, owner, granted)
        try:
            left = self.seconds_left
            async with asyncio.timeout(None if math.isinf(left) else max(0.0, left)):
                await future
        except TimeoutError:
            leave()
        except BaseException:
            leave()
            _release(box)
            raise
        return box[0] if box else self._too_late(busy)

    def _too_late(self, busy: Refusal) -> Refusal:
        elapsed, limit = self.ledger.deadline(final=self.request.final)
        return Refusal(
            dimension="seconds", busy=False, spent=elapsed, limit=limit, source=busy.source, ledger=self.ledger
        )

    def _refused(self, outcome: Refusal) -> BudgetExceededError:
        # No charge of this call will take along what an interrupted or failed attempt of the node before has lost.
        save_to_state(self.ledger, self.config, self.tracker)
        return BudgetExceededError(outcome.dimension, outcome.spent, outcome.limit, outcome.source, outcome.need)

    # -- settlement ---------------------------------------------------------------------------------------

    def succeed(self, reservation: Reservation, used: Consumed | None, seconds: float) -> Usage:
        """Settles what was consumed (None: nobody knows), and writes it to the journal and the graph's state."""
        usage = self._succeed(reservation, used, seconds)
        self.settled(reservation)
        return usage

    async def asucceed(self, reservation: Reservation, used: Consumed | None, seconds: float) -> Usage:
        """Twin of `succeed`."""
        usage = self._succeed(reservation, used, seconds)
        await self.asettled(reservation)
        return usage

    def settled(self, reservation: Reservation) -> None:
        """Charges the shared pools what the episode was charged, and notes it in the journal.

        A resume elsewhere would take the call for a killed one without the note.
        """
        if self.leases is None and self.journal is None:
            return
        try:
            self._pay(reservation)
        finally:
            self._note(reservation)

    async def asettled(self, reservation: Reservation, *, wait: bool = True) -> None:
        """Twin of `settled`; at the deadline it no longer waits for a slow pool.

        Who is cancelled meanwhile, or was before (`wait=False`), does not wait for the journal; it is written all the
        same, as long as the event loop goes on, and also if the pools fail.
        """
        try:
            await self._apay(reservation)
            if wait:
                await self._anote(reservation)
            else:
                self._note_later(reservation)
        except BaseException:
            self._note_later(reservation)
            raise

    def _pay(self, reservation: Reservation) -> None:
        if self.leases is not None and (charge := self.ledger.charges.get(reservation.id)) is not None:
            self.leases.settle(reservation, charge.usage)

    async def _apay(self, reservation: Reservation) -> None:
        if self.leases is not None and (charge := self.ledger.charges.get(reservation.id)) is not None:
            await self.leases.asettle(reservation, charge.usage, self.seconds_left)

    def _note(self, reservation: Reservation) -> None:
        if self.journal is not None and (charge := self.ledger.charges.get(reservation.id)) is not None:
            self.journal.closed(charge, self.ledger)

    async def _anote(self, reservation: Reservation) -> None:
        if self.journal is not None and (charge := self.ledger.charges.get(reservation.id)) is not None:
            await self.journal.aclosed(charge, self.ledger)

    def _note_later(self, reservation: Reservation) -> None:
        if self.journal is not None and reservation.id in self.ledger.charges:
            write_later(self._anote(reservation))

    def _succeed(self, reservation: Reservation, used: Consumed | None, seconds: float) -> Usage:
        if used is None:
            usage = replace(reservation.bound, seconds=seconds)
            charge = reservation.settle_unknown("usage not reported: charged in full", seconds)
        else:
            usage = self._usage(reservation, used, seconds)
            self.counted.learn(usage.prompt_tokens)
            charge = reservation.settle(usage, used.note)
        if self.spent is not None:
            self.spent.append(usage)
        self._close(reservation, charge)
        return usage

    def _usage(self, reservation: Reservation, used: Consumed, seconds: float) -> Usage:
        prompt, completion = used.prompt, used.completion
        if used.note:
            # Counted here, not reported: a count may be off by a few tokens, but the model was held to its cap.
            prompt = min(prompt, reservation.bound.prompt_tokens)
            completion = min(completion, reservation.bound.completion_tokens)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=used.cached,
            seconds=seconds,
            usd=self.price.cost(prompt, completion, used.cached, used.stored) if self.price else 0.0,
            model_calls=1,
        )

    def fail(
        self,
        reservation: Reservation,
        error: BaseException,
        seconds: float,
        *,
        began: bool = False,
        received: Received | None = None,
    ) -> None:
        """Charges a failed or cancelled attempt: nothing if it was turned away, else all that it may have consumed.

        Args:
            reservation: what the attempt holds.
            error: what ended it.
            seconds: how long it took.
            began: something came out of it already, so that it was not turned away.
            received: what came out of it, where that tells what it consumed.
        """
        failure = classify(error)
        if isinstance(error, Exception) and failure.nothing_written and not began:
            self._close(reservation, reservation.settle(Usage(seconds=seconds, model_calls=1), failure.label))
            return
        cancelled = isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt)
        # A server that says why it ends a stream has sent all that it wrote before; nothing is on its way.
        left = getattr(error, "body", None) is None
        lost = self._lost(reservation, received, left=left) if began or left else None
        self._settle_lost(reservation, "cancelled" if cancelled else failure.label, seconds, lost)

    def fail_at_deadline(
        self, reservation: Reservation, seconds: float, received: Received | None = None
    ) -> BudgetExceededError:
        """Charges an attempt that was cancelled at the deadline; gives the error to raise."""
        lost = self._lost(reservation, received, left=True)
        self._settle_lost(reservation, "cancelled at the deadline", seconds, lost)
        return self._out_of_time()

    def _out_of_time(self) -> BudgetExceededError:
        elapsed, limit = self.ledger.deadline(final=self.request.final)
        return BudgetExceededError("seconds", max(elapsed, limit), limit, self.request.source)

    def _lost(self, reservation: Reservation, received: Received | None, *, left: bool) -> Consumed | None:
        if received is None:
            return None
        prompt = reservation.bound.prompt_tokens
        return received.lost(self.count_text, prompt=prompt, left=left)

    def _settle_lost(self, reservation: Reservation, why: str, seconds: float, lost: Consumed | None) -> None:
        if lost is None:
            charge = reservation.settle_unknown(why, seconds)
        else:
            note = f"{why}: {lost.note or 'usage reported'}"
            charge = reservation.settle(self._usage(reservation, lost, seconds), note, estimated=bool(lost.note))
        self._close(reservation, charge)

    def count_text(self, text: str) -> int:
        """Counts what the model wrote; an estimate gets its margin, for it must not be too little."""
        count = self.counted.counter.count_text(text)
        return count if self.counted.counter.exact else self.counted.margin.bound(count)

    def _close(self, reservation: Reservation, charge: Charge | None) -> None:
        if self.ledger.counts_activity:
            self.ledger.touch(invocation_of(self.config))
        if charge is None:
            return
        save_to_state(self.ledger, self.config, self.tracker)
        stream_charge(self.ledger, charge, self.config)


def _arrive(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _release(box: Sequence[Reservation | Refusal]) -> None:
    for outcome in box:
        if isinstance(outcome, Reservation):
            outcome.release()
