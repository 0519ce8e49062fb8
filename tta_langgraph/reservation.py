"""What is asked of a ledger and what it answers: a request, a refusal, or a reservation to settle.

Nothing here changes once it is made but a reservation. A request is not frozen all the same, nor are the other values
that every call makes: it would take five times as long to make them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tta_langgraph.budget import Charge, Dimension, Usage, new_id

if TYPE_CHECKING:
    from tta_langgraph.ledger import Ledger

Owner = object
"""Whoever holds a reservation; a caller never waits for a reservation that it holds itself.

One that has a method `holds(reservation)` says itself which those are, and one that has a set `inside` of ids, which
open reservations go on only when it does."""


@dataclass(kw_only=True, slots=True)
class Request:
    """What a call may consume at most, before it is admitted."""

    prompt_tokens: int = 0
    """Exact prompt tokens, or an upper bound."""
    completion_tokens: int = 0
    """The completion cap that is wished for, per choice."""
    n: int = 1
    """Choices; each may take the whole completion cap."""
    min_completion: int = 1
    """The smallest completion cap per choice that is still worth a call."""
    usd: Callable[[int, int], float] | None = None
    """Price in US dollars of (prompt tokens, completion tokens); None if no price is known."""
    model_calls: int = 0
    """1 for a model call, else 0."""
    executions: int = 0
    """1 for a query or tool, else 0."""
    final: bool = False
    """May draw on the reserve."""
    source: str = ""
    """Who asks."""

    def bound(self, completion: int) -> Usage:
        """The most that the call can consume with this completion cap per choice."""
        written = completion * self.n
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=written,
            usd=self.usd(self.prompt_tokens, written) if self.usd else 0.0,
            model_calls=self.model_calls,
            executions=self.executions,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why a request was not admitted."""

    dimension: Dimension
    """The limit that struck; the outermost ledger's where several do."""
    busy: bool
    """True: wait for calls in flight. False: exhausted for good."""
    spent: float
    """Spent in that dimension (tokens, seconds, US dollars, calls)."""
    limit: float
    """The limit less the reserve that may not be touched, same unit."""
    source: str
    """Who asked."""
    ledger: Ledger
    """The ledger whose limit struck."""
    need: float = 0.0
    """The least that would have been useful, same unit as `spent`."""


@dataclass(eq=False, slots=True)
class Reservation:
    """The upper bound held while a call is in flight. Settle it exactly once; later calls do nothing."""

    ledger: Ledger
    """The ledger that admitted it; its ancestors hold it too."""
    request: Request
    """What was asked for."""
    completion_tokens: int
    """The completion cap per choice that was granted; pass it to the model as its limit."""
    bound: Usage
    """The most that can be consumed."""
    owner: Owner
    """Who holds it."""
    id: str = field(default_factory=new_id)
    """Unique id, which becomes the charge's id."""
    open: bool = True
    """False once settled or released."""

    def shrink(self, completion_tokens: int) -> None:
        """Takes a smaller completion cap per choice: somewhere else there is no room for the one that was granted."""
        self.ledger._shrink(self, completion_tokens)

    def settle(self, usage: Usage, note: str = "", *, estimated: bool = False) -> Charge | None:
        """Replaces the reservation by what was consumed; `estimated` if that is a bound and not a report."""
        return self.ledger._close(self, usage, note, estimated=estimated)

    def settle_unknown(self, note: str, seconds: float = 0.0) -> Charge | None:
        """Charges the whole reservation: the usage is unknown, so the bound is all that is safe to assume."""
        return self.ledger._close(self, replace(self.bound, seconds=seconds), note, estimated=True)

    def release(self) -> None:
        """Gives the reservation back: the call was never made."""
        self.ledger._close(self, None, "", estimated=False)


class Sum:
    """A running total of usages; adding to it makes no new object, and it happens six times per call."""

    __slots__ = ("cached_tokens", "completion_tokens", "executions", "model_calls", "prompt_tokens", "seconds", "usd")

    def __init__(self) -> None:
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = self.model_calls = self.executions = 0
        self.seconds = self.usd = 0.0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def add(self, usage: Usage) -> None:
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        self.cached_tokens += usage.cached_tokens
        self.seconds += usage.seconds
        self.usd += usage.usd
        self.model_calls += usage.model_calls
        self.executions += usage.executions

    def take_off(self, bound: Usage) -> None:
        """Takes a bound off again, never below zero by rounding; bounds have neither cached tokens nor seconds."""
        self.prompt_tokens -= bound.prompt_tokens
        self.completion_tokens -= bound.completion_tokens
        self.usd = max(0.0, self.usd - bound.usd)
        self.model_calls -= bound.model_calls
        self.executions -= bound.executions

    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            seconds=self.seconds,
            usd=self.usd,
            model_calls=self.model_calls,
            executions=self.executions,
        )


def largest_affordable(request: Request, cap: int, usd: float) -> int:
    """The largest completion cap whose price is at most `usd`; prices grow with tokens, so bisection finds it."""
    low, high = 0, cap
    while low < high:
        middle = (low + high + 1) // 2
        if request.bound(middle).usd <= usd:
            low = middle
        else:
            high = middle - 1
    return low
