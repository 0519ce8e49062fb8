"""What an episode may spend, what it has spent, and the state object that carries both through a graph.

`Budget` is the frozen wish, `Usage` a consumption, `Charge` one settled consumption with a unique id, and
`BudgetTracker` the value of the graph's `budget` channel. The tracker is a *set* of charges under a union
reducer (`merge_budget`), so fan-out, retries, replays and resumes can neither lose nor double a charge.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tta_langgraph.enclosing import note_task, running_config, trackers_around
from tta_langgraph.errors import BudgetError

Dimension = Literal["tokens", "prompt_tokens", "completion_tokens", "seconds", "usd", "model_calls", "executions"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
"""Every dimension a budget can limit, in the order in which errors and tables name them."""

ADDITIVE: tuple[Dimension, ...] = tuple(d for d in DIMENSIONS if d != "seconds")
"""The dimensions that add up over charges; wall-clock does not (parallel calls overlap)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What was consumed. Every field adds up, but `seconds` is busy time, not wall-clock: parallel calls overlap."""

    prompt_tokens: int = 0
    """Tokens read by the model, cached ones included."""
    completion_tokens: int = 0
    """Tokens written by the model, reasoning included."""
    cached_tokens: int = 0
    """Part of `prompt_tokens` that a prefix cache served."""
    seconds: float = 0.0
    """Busy seconds: the latency of the call or the runtime of the query."""
    usd: float = 0.0
    """US dollars; 0 where no price is known."""
    model_calls: int = 0
    """Requests to a model, failed ones included."""
    executions: int = 0
    """Queries or tools run."""

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            seconds=self.seconds + other.seconds,
            usd=self.usd + other.usd,
            model_calls=self.model_calls + other.model_calls,
            executions=self.executions + other.executions,
        )

    def to_dict(self) -> dict[str, float]:
        """The non-zero fields and `tokens`, for logs and JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"tokens": self.tokens, **{name: value for name, value in values.items() if value}}


class Reserve(BaseModel):
    """What is held back for a final answer: nothing but a call marked `final` may touch it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int = Field(default=0, ge=0)
    """Tokens held back."""
    seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Seconds held back."""


class Budget(BaseModel):
    """The limits of one episode. None means that a dimension is not limited; zero and less are refused.

    Example:
        ```python
        budget = Budget(tokens=4_000, seconds=8, reserve={"tokens": 300, "seconds": 1})
        ```

    Raises:
        BudgetError: a limit is zero, negative, NaN or infinite, a dimension is unknown, or the reserve is
            larger than the limit it is held back from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int | None = Field(default=None, gt=0)
    """Prompt and completion tokens together."""
    prompt_tokens: int | None = Field(default=None, gt=0)
    """Tokens read by models."""
    completion_tokens: int | None = Field(default=None, gt=0)
    """Tokens written by models."""
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Time from the start of the episode to its deadline."""
    usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """US dollars; every model called must have a known price."""
    model_calls: int | None = Field(default=None, gt=0)
    """Requests to models, failed ones included."""
    executions: int | None = Field(default=None, gt=0)
    """Queries or tools run."""
    reserve: Reserve = Reserve()
    """Held back for a final answer; a plain number means tokens."""
    clock: Literal["wall", "active"] = "wall"
    """`wall` counts all time since the start; `active` does not count time spent interrupted."""
    on_exhausted: Literal["best", "raise"] = "best"
    """End with the best answer so far, or raise `BudgetExceededError`."""

    def __init__(self, **limits: Any) -> None:
        reserve = limits.get("reserve")
        if isinstance(reserve, int | float) and not isinstance(reserve, bool):
            limits["reserve"] = {"tokens": reserve}
        elif reserve is None:
            limits.pop("reserve", None)
        try:
            super().__init__(**limits)
        except ValidationError as error:
            raise _budget_error(error) from None
        for name in ("tokens", "seconds"):
            limit, held = getattr(self, name), getattr(self.reserve, name)
            if limit is not None and held >= limit:
                raise BudgetError(
                    f"the reserve of {held:g} {name} leaves nothing of the limit of {limit:g}",
                    where=f"Budget.reserve.{name}",
                    remedy=f"Hold back less than {limit:g} {name}, or raise Budget.{name}",
                )

    @classmethod
    def coerce(cls, value: Budget | Mapping[str, Any] | int | None) -> Budget:
        """Turns a plain number (tokens), a mapping or None (no limits) into a `Budget`.

        Raises:
            BudgetError: the value is none of these, or not a valid budget.
        """
        if isinstance(value, Budget):
            return value
        if value is None:
            return cls()
        if isinstance(value, Mapping):
            return cls(**value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return cls(tokens=value)
        raise BudgetError(
            f"cannot read a budget from {type(value).__name__}",
            where="budget",
            remedy="Pass Budget(tokens=..., seconds=...), a mapping of its fields, or a number of tokens",
        )

    @cached_property
    def limits(self) -> dict[Dimension, float]:
        """The limited dimensions and their limits."""
        found = {name: getattr(self, name) for name in DIMENSIONS}
        return {name: float(limit) for name, limit in found.items() if limit is not None}

    @cached_property
    def additive_limits(self) -> dict[Dimension, float]:
        """The same without `seconds`, which no sum of charges tells."""
        return {name: limit for name, limit in self.limits.items() if name != "seconds"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Charge:
    """One settled consumption. The id is unique per call attempt, which makes a set of charges idempotent."""

    id: str
    """Unique id of the call attempt."""
    usage: Usage
    """What it consumed."""
    source: str = ""
    """Who spent: the node, model or tool."""
    at: float = 0.0
    """Unix time in seconds at which it was settled."""
    estimated: bool = False
    """True if the usage was unknown and the full reservation was charged."""
    note: str = ""
    """Why, where that is not obvious: `cancelled`, `failed: 503`, `killed`, …"""


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left in each dimension, before the reserve; `inf` where there is no limit, never below 0."""

    tokens: float = math.inf
    prompt_tokens: float = math.inf
    completion_tokens: float = math.inf
    seconds: float = math.inf
    usd: float = math.inf
    model_calls: float = math.inf
    executions: float = math.inf


_NO_LIMITS = Budget()
"""Shared: LangGraph makes an empty tracker for every run of a graph, and a `Budget` is slow to make."""


@dataclass(frozen=True, kw_only=True)
class BudgetTracker:
    """The state object of the graph: limits, charges and clock of one episode.

    Put a `Budget` into the graph's input under `budget`; the reducer starts the clock and turns it into a
    tracker. Read `state["budget"].remaining.tokens` or `.seconds` anywhere.
    """

    episode: str = ""
    """Unique id of the episode; empty until a budget was set."""
    budget: Budget = _NO_LIMITS
    """The limits."""
    started: float = 0.0
    """Unix time in seconds at which the budget was set."""
    charges: dict[str, Charge] = field(default_factory=dict)
    """Settled charges by id."""
    active: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Per invocation of the graph, the first and last Unix time (seconds) at which it was seen working."""
    parent: BudgetTracker | None = None
    """The tracker this one was cut from, if it is nested."""
    within: tuple[str, ...] = ()
    """Episodes of the graphs in whose nodes this one runs; whatever it charges counts in them too."""
    cut: bool = False
    """Just cut from its parent, and given to no graph yet."""
    opened: bool = False
    """A question was asked on this account; the next one on the same thread has another."""
    report: bool = False
    """Only what a node adds to the state of this very episode; it begins no episode in another's state."""

    def __post_init__(self) -> None:
        if not self.episode:
            note_task()

    @classmethod
    def start(
        cls,
        budget: Budget | Mapping[str, Any] | int | None,
        *,
        parent: BudgetTracker | None = None,
        after: BudgetTracker | None = None,
    ) -> BudgetTracker:
        """Starts the clock of a new episode under `budget`.

        Args:
            budget: its limits.
            parent: the tracker that it is cut from.
            after: the tracker whose place it takes in a graph's state. Of two the newer one stays there, so it is made
                the newer one, also if the other was started on a machine whose clock is ahead.
        """
        started = time.time() if after is None else max(time.time(), math.nextafter(after.started, math.inf))
        tracker = cls(episode=new_id(), budget=Budget.coerce(budget), started=started, parent=parent)
        tracker.__dict__["_opened_now"] = True
        return tracker

    @property
    def opened_now(self) -> bool:
        """Whether it was opened in this invocation of the graph: a checkpoint keeps the fields only, and not this."""
        return "_opened_now" in self.__dict__

    def nested(self, budget: Budget | Mapping[str, Any] | int) -> BudgetTracker:
        """Cuts a smaller budget for a sub-graph or a `Send` branch; its charges count here too."""
        return _replaced(self.start(budget, parent=replace(self, cut=False)), cut=True)

    @cached_property
    def usage(self) -> Usage:
        """The sum of all charges; `seconds` is busy time."""
        total = Usage()
        for charge in self.charges.values():
            total = total + charge.usage
        return total

    @property
    def elapsed(self) -> float:
        """Seconds consumed on the budget's clock: wall seconds since the start, or active seconds."""
        if not self.episode:
            return 0.0
        if self.budget.clock == "wall":
            return max(0.0, time.time() - self.started)
        return union_seconds(self.active.values())

    @property
    def spent(self) -> dict[Dimension, float]:
        """Consumed per dimension; `seconds` on the budget's clock."""
        usage = self.usage
        return {name: self.elapsed if name == "seconds" else getattr(usage, name) for name in DIMENSIONS}

    @property
    def remaining(self) -> Remaining:
        """What is left per dimension (tokens, seconds, US dollars, calls); `inf` where unlimited.

        A nested budget has at most what its parent has left.
        """
        return self._left(reserved=False)

    @property
    def spendable(self) -> Remaining:
        """`remaining` without the reserves: what calls that are not `final` may use.

        Every budget holds its own reserve back, this one and those that it is nested in.
        """
        return self._left(reserved=True)

    def _left(self, *, reserved: bool) -> Remaining:
        spent, left = self.spent, dict(self.budget.limits)
        for name, limit in left.items():
            held = getattr(self.budget.reserve, name, 0) if reserved else 0
            left[name] = limit - spent[name] - held
        if self.parent is not None:
            above = self.parent._left(reserved=reserved)
            left = {name: min(left.get(name, math.inf), getattr(above, name)) for name in DIMENSIONS}
        return Remaining(**{name: max(0.0, value) for name, value in left.items()})

    @property
    def exhausted(self) -> Dimension | None:
        """The first dimension with nothing left, or None."""
        remaining = self.remaining
        return next((name for name in DIMENSIONS if getattr(remaining, name) <= 0), None)

    def with_charges(self, charges: Mapping[str, Charge]) -> BudgetTracker:
        """The same tracker with these charges added; existing ids keep their first value."""
        new = {key: charge for key, charge in charges.items() if key not in self.charges}
        return replace(self, charges={**self.charges, **new})


_ids = random.Random()
"""Nobody else's, whom a seed of the user's would make repeat itself in the next process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.seed)


def new_id() -> str:
    """A random id of 128 bits, as a `uuid4` but for its cost."""
    return f"{_ids.getrandbits(128):032x}"


def merge_budget(left: BudgetTracker | None, right: Any) -> BudgetTracker:
    """Reducer of the `budget` channel: commutative and idempotent over charges.

    A plain `Budget` (or a mapping or number) starts a new episode. A tracker of the same episode is united with what is
    there. Of two episodes, one may run inside the other, as a sub-graph's does inside its caller's: it leaves its
    charges there and keeps its limits to itself. Otherwise the newer one stays: a sub-graph that remembers its last
    turn is given the budget of this one. What a node reported to the state of its own run is dropped in any other:
    LangGraph's node cache writes it there again, and what was spent then is not spent now.

    Raises:
        BudgetError: a smaller budget that was just cut (`nested`) is written into the state it was cut from.
    """
    if not isinstance(right, BudgetTracker):
        if right is None:
            return left or BudgetTracker()
        return _entered(BudgetTracker.start(right))
    if right.report and (left is None or right.episode != left.episode):
        return left or BudgetTracker()
    if left is None or not left.episode:
        entered = _entered(right)
        return entered if left is None or not left.charges else entered.with_charges(left.charges)
    if right.episode != left.episode:
        if right.cut and left.episode in _ancestors(right):
            raise BudgetError(
                "a smaller budget was written into the state that it was cut from, where it would limit nothing",
                where="state['budget']",
                remedy="Open it with budget_scope(state['budget'].nested(...)), or give it to a sub-graph or Send "
                "branch (which then returns its update without the key 'budget')",
            )
        if right.episode and left.episode not in _ancestors(right):
            stale = (left.started, left.episode) < (right.started, right.episode)
            return _entered(right) if stale and right.episode not in _ancestors(left) else left
        if not right.charges:
            return left
    # Settled charges never change, so the first value under an id is as good as the last.
    charges = {**left.charges, **{key: charge for key, charge in right.charges.items() if key not in left.charges}}
    active = left.active
    if right.active and right.episode == left.episode:
        active = dict(left.active)
        for key, (begin, end) in right.active.items():
            known = active.get(key, (begin, end))
            active[key] = (min(begin, known[0]), max(end, known[1]))
    return BudgetTracker(
        episode=left.episode,
        budget=left.budget,
        started=left.started,
        charges=charges,
        active=active,
        parent=left.parent,
        within=left.within,
        opened=left.opened or (right.opened and right.episode == left.episode),
    )


def _entered(tracker: BudgetTracker) -> BudgetTracker:
    """The tracker as it comes into a graph's state: it knows what it runs in."""
    config = running_config()
    if config is None and not tracker.cut:
        return tracker
    within = tuple(tracker.within)
    for around in trackers_around(config):
        if isinstance(around, BudgetTracker) and around.episode not in ("", tracker.episode):
            within += tuple(episode for episode in (around.episode, *_ancestors(around)) if episode not in within)
            break
    if within == tuple(tracker.within) and not tracker.cut:
        return tracker
    return _replaced(tracker, within=within, cut=False)


def _replaced(tracker: BudgetTracker, **changes: Any) -> BudgetTracker:
    """`replace` that keeps what is no field."""
    changed = replace(tracker, **changes)
    if tracker.opened_now:
        changed.__dict__["_opened_now"] = True
    return changed


def _ancestors(tracker: BudgetTracker) -> tuple[str, ...]:
    """The episodes in which this one's charges count."""
    cut_from = () if tracker.parent is None else (tracker.parent.episode, *_ancestors(tracker.parent))
    return (*cut_from, *tracker.within)


def union_seconds(intervals: Any) -> float:
    """Length in seconds of the union of `(begin, end)` intervals."""
    total, reached = 0.0, -math.inf
    for begin, end in sorted((begin, end) for begin, end in intervals):  # checkpoints turn tuples into lists
        if end > reached:
            total += end - max(begin, reached)
            reached = end
    return total


def _budget_error(error: ValidationError) -> BudgetError:
    """Names the field and the remedy of pydantic's first complaint."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"]) or "budget"
    if first["type"] == "extra_forbidden":
        known = ", ".join((*DIMENSIONS, "reserve", "clock", "on_exhausted"))
        return BudgetError("there is no such dimension", where=f"Budget.{name}", remedy=f"Known fields: {known}")
    remedy = "See Budget's fields"
    if name in DIMENSIONS:
        number = "finite" if name in ("seconds", "usd") else "whole"
        remedy = f"Give a positive, {number} number, or None for no limit"
    return BudgetError(f"{first['msg'].lower()}, got {first['input']!r}", where=f"Budget.{name}", remedy=remedy)
