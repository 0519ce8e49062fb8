"""One random episode on a virtual clock: nested and parallel branches, failures, cancellations and resumes."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

from tta_langgraph.budget import ADDITIVE, Budget, BudgetTracker, Charge, Usage
from tta_langgraph.ledger import Ledger, Refusal, Request, Reservation


@dataclass(eq=False)
class Branch:
    """A branch that makes calls one after another on its own ledger."""

    name: str
    ledger: Ledger
    calls: int
    held: Reservation | None = None
    waiting: bool = False
    over: bool = False
    leave: object = None
    epoch: int = 0


@dataclass
class World:
    """The episode: its clock, its branches and what the server says it produced."""

    rng: random.Random
    now: float = 1_000.0
    served: dict[str, int] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    branches: list[Branch] = field(default_factory=list)
    arrivals: list[tuple[float, int, Branch, Reservation]] = field(default_factory=list)
    ledgers: list[Ledger] = field(default_factory=list)
    epoch: int = 0
    order: int = 0
    steps: int = 0

    # -- the graph ----------------------------------------------------------------------------------------

    def start(self) -> None:
        rng = self.rng
        limits: dict[str, object] = {"tokens": rng.randint(60, 3_000)}
        if rng.random() < 0.3:
            limits["model_calls"] = rng.randint(1, 20)
        if rng.random() < 0.3:
            limits["completion_tokens"] = rng.randint(20, 1_000)
        if rng.random() < 0.4:
            limits["seconds"] = rng.uniform(1, 60)
        if rng.random() < 0.3:
            limits["reserve"] = rng.randint(1, 50)
        tracker = BudgetTracker(episode="root", budget=Budget(**limits), started=self.now)
        self._grow(self._ledger(tracker, None))

    def _ledger(self, tracker: BudgetTracker, parent: Ledger | None) -> Ledger:
        ledger = Ledger(tracker, parent=parent, now=lambda: self.now)
        self.ledgers.append(ledger)
        return ledger

    def _grow(self, root: Ledger) -> None:
        rng = self.rng
        homes = [root]
        for number in range(rng.randint(1, 7)):
            home = rng.choice(homes)
            if rng.random() < 0.3:
                nested = BudgetTracker(
                    episode=f"{self.epoch}.{number}", budget=Budget(tokens=rng.randint(30, 800)), started=self.now
                )
                home = self._ledger(nested, home)
                homes.append(home)
            self.branches.append(Branch(f"{self.epoch}.{number}", home, rng.randint(1, 4), epoch=self.epoch))

    # -- what can happen ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Lets things happen until every branch is over."""
        self.start()
        while any(not branch.over for branch in self.branches):
            self.steps += 1
            assert self.steps < 2_000, "the episode does not end"
            ready = [b for b in self.branches if not b.over and not b.waiting and b.held is None]
            chance = self.rng.random()
            if chance < 0.03 and self.epoch < 2:
                self._kill_and_resume()
            elif chance < 0.10:
                self._cancel_someone()
            elif ready and (chance < 0.6 or not self.arrivals):
                self._call(self.rng.choice(ready))
            elif self.arrivals:
                self._arrive()
            else:
                stuck = [b.name for b in self.branches if b.waiting and not b.over]
                assert not stuck, f"deadlock: {stuck} wait and nothing is in flight"
            self.check()

    def _call(self, branch: Branch) -> None:
        if branch.calls == 0:
            branch.over = True
            return
        branch.calls -= 1
        request = Request(
            prompt_tokens=self.rng.randint(1, 80),
            completion_tokens=self.rng.randint(1, 300),
            n=self.rng.choice([1, 1, 1, 4]),
            min_completion=self.rng.choice([1, 16]),
            model_calls=1,
            final=self.rng.random() < 0.1,
        )
        outcome = branch.ledger.try_reserve(request, branch)
        if isinstance(outcome, Refusal) and outcome.busy:
            branch.waiting = True
            branch.leave = branch.ledger.enqueue(request, branch, lambda found: self._granted(branch, found))
        else:
            self._granted(branch, outcome)

    def _granted(self, branch: Branch, outcome: Reservation | Refusal) -> None:
        branch.waiting = False
        if isinstance(outcome, Refusal):
            assert not outcome.busy
            branch.over = True
            return
        branch.held = outcome
        self.order += 1
        heapq.heappush(self.arrivals, (self.now + self.rng.uniform(0.01, 5), self.order, branch, outcome))

    def _arrive(self) -> None:
        at, _, branch, reservation = heapq.heappop(self.arrivals)
        self.now = max(self.now, at)
        if not reservation.open or branch.held is not reservation:
            return
        branch.held = None
        produced = self._produce(reservation)
        if self.rng.random() < 0.15:
            reservation.settle_unknown("failed: 500")
        else:
            self.known.add(reservation.id)
            reservation.settle(produced)

    def _produce(self, reservation: Reservation) -> Usage:
        """What the server produces: never more than the cap that it was sent."""
        written = sum(self.rng.randint(0, reservation.completion_tokens) for _ in range(reservation.request.n))
        usage = Usage(prompt_tokens=reservation.request.prompt_tokens, completion_tokens=written, model_calls=1)
        self.served[reservation.id] = usage.tokens
        return usage

    def _cancel_someone(self) -> None:
        alive = [b for b in self.branches if not b.over]
        if not alive:
            return
        branch = self.rng.choice(alive)
        if branch.waiting:
            branch.waiting = False
            branch.leave()  # type: ignore[operator]
        if branch.held is not None:
            reservation, branch.held = branch.held, None
            self._produce(reservation)
            reservation.settle_unknown("cancelled")
        branch.over = True

    def _kill_and_resume(self) -> None:
        """The process dies: what is in flight is charged in full, and the graph goes on from the tracker."""
        self.epoch += 1
        root = self.ledgers[0]
        open_calls = root.in_flight
        for branch in self.branches:
            if branch.held is not None:
                self._produce(branch.held)
            branch.over, branch.held, branch.waiting = True, None, False
        saved = root.tracker()
        self.arrivals, self.ledgers = [], []
        revived = self._ledger(saved, None)
        for reservation in open_calls:
            revived.absorb([_in_full(reservation)])
            revived.absorb([_in_full(reservation)])  # recovered twice: by id, it counts once
        self._grow(revived)

    # -- what must hold -----------------------------------------------------------------------------------

    def check(self) -> None:
        """The invariant, in every ledger and dimension, at every step."""
        for ledger in self.ledgers:
            for dimension in ADDITIVE:
                limit = ledger.budget.limits.get(dimension)
                if limit is not None:
                    total = getattr(ledger.spent, dimension) + getattr(ledger.reserved, dimension)
                    assert total <= limit, f"{dimension}: {total} of {limit}"

    def check_account(self) -> None:
        """At the end nothing is held, and the charges are the server's log."""
        for ledger in self.ledgers:
            assert ledger.reserved == Usage()
            assert ledger.in_flight == ()
        charges = self.ledgers[0].charges
        assert set(charges) == set(self.served), "a call without a charge, or a charge without a call"
        for key, produced in self.served.items():
            if key in self.known:
                assert charges[key].usage.tokens == produced
            else:
                assert charges[key].usage.tokens >= produced, "an unknown usage is charged in full"


def _in_full(reservation: Reservation) -> Charge:
    return Charge(id=reservation.id, usage=reservation.bound, estimated=True, note="killed")
