"""How coverage saturates with more samples and more rounds, and where the next one no longer pays.

Sources: *Large Language Monkeys* (arXiv 2407.21787) for coverage of parallel samples; the test-time scaling performance
model (TTSPM, arXiv 2505.20522) for F(N) = F_max · (1 − (1 − p)^N), its sequential form and the saturation point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.costs import CostModel
from tta_langgraph.decision.forecasts import Assessment, Forecast
from tta_langgraph.decision.predictor import register
from tta_langgraph.decision.rates import Rates
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.errors import PolicyError


@dataclass(frozen=True, slots=True)
class Saturation:
    """F(N) = F_max · (1 − (1 − p)^N): P(right) after N parallel samples.

    Raises:
        PolicyError: a parameter outside (0, 1].
    """

    limit: float
    """F_max: where it ends up."""
    p: float
    """Share of what is missing that one more sample closes."""

    def __post_init__(self) -> None:
        for name in ("limit", "p"):
            if not 0 < getattr(self, name) <= 1:
                raise PolicyError(f"{name} must be in (0, 1], got {getattr(self, name)!r}", where="Saturation")

    def at(self, n: float) -> float:
        """F(n)."""
        return float(self.limit * (1 - (1 - self.p) ** n))

    def marginal(self, n: int) -> float:
        """F(n+1) − F(n) = F_max · p · (1 − p)^n."""
        return float(self.limit * self.p * (1 - self.p) ** n)

    def best_n(self, price: float, *, value: float = 1.0, most: int = 10_000) -> int:
        """N*: the number of samples after which the next one no longer pays, value · (F(N+1) − F(N)) <= price.

        Closed form: the smallest N with (1 − p)^N <= price / (value · F_max · p).

        Args:
            price: of one more sample.
            value: of a right answer, same unit.
            most: returned where it pays for ever (price 0).
        """
        first = value * self.limit * self.p
        if price >= first:
            return 0
        if price <= 0 or self.p >= 1:
            return 1 if self.p >= 1 else most
        n = max(0, math.ceil(math.log(price / first) / math.log(1 - self.p)) - 1)
        while n < most and value * self.marginal(n) > price:  # guards the rounding of the logarithms
            n += 1
        return min(n, most)


def fit_saturation(points: Sequence[tuple[int, float]]) -> Saturation:
    """Least squares on (N, P(right) after N samples), by golden-section search over p with F_max in closed form.

    Args:
        points: at least two, with N >= 1.

    Raises:
        PolicyError: fewer than two different N, or shares outside [0, 1].
    """
    if len({n for n, _ in points}) < 2 or any(n < 1 or not 0 <= f <= 1 for n, f in points):
        raise PolicyError(
            "saturation needs shares in [0, 1] at two different N >= 1", where="fit_saturation", remedy="Replay more n"
        )

    def fitted(log_p: float) -> tuple[float, float]:
        p = math.exp(log_p)
        basis = [1 - (1 - p) ** n for n, _ in points]
        limit = sum(b * f for b, (_, f) in zip(basis, points, strict=True)) / sum(b * b for b in basis)
        limit = min(1.0, max(1e-9, limit))
        return sum((limit * b - f) ** 2 for b, (_, f) in zip(basis, points, strict=True)), limit

    grid = [math.log(1e-4) * (1 - i / 200) for i in range(201)]
    centre = min(range(201), key=lambda i: fitted(grid[i])[0])
    low, high = grid[max(0, centre - 1)], grid[min(200, centre + 1)]
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(80):
        a, b = high - golden * (high - low), low + golden * (high - low)
        if fitted(a)[0] < fitted(b)[0]:
            high = b
        else:
            low = a
    log_p = (low + high) / 2
    return Saturation(fitted(log_p)[1], min(1.0, math.exp(log_p)))


def chain(rates: Rates, start: float, rounds: int) -> list[float]:
    """P(right) after 0..rounds sequential rounds of a two-state chain; absorbing where p_break is 0.

    Closed form: c_k = c* + (c_0 − c*) · (1 − p_fix − p_break)^k with c* = p_fix / (p_fix + p_break).

    Args:
        rates: of one round.
        start: P(right) before the first.
        rounds: how many.
    """
    fixed, slack = rates.break_even, 1 - rates.p_fix - rates.p_break
    if rates.p_fix + rates.p_break == 0:
        return [start] * (rounds + 1)
    return [fixed + (start - fixed) * slack**k for k in range(rounds + 1)]


def best_rounds(rates: Rates, start: float, price: float, *, value: float = 1.0, most: int = 100) -> int:
    """Rounds after which the next one no longer pays: value · (c_{k+1} − c_k) <= price."""
    c = start
    for k in range(most):
        after = rates.after(c)
        if value * (after - c) <= price:
            return k
        c = after
    return most


@register("saturating")
@dataclass(frozen=True, kw_only=True)
class Saturating:
    """Knows only how many samples and rounds there were: the population's saturation curve and chain.

    The baseline that every predictor which looks at the evidence must beat.
    """

    samples: Saturation = field(default_factory=lambda: Saturation(0.75, 0.65))
    """P(right) by number of samples."""
    rounds: Rates = Rates(0.1, 0.04)  # noqa: RUF009 - frozen and without side effects
    """Of a correction."""
    costs: CostModel = field(default_factory=CostModel)
    """What actions cost."""

    @property
    def name(self) -> str:
        """`saturating`."""
        return "saturating"

    def assess(self, snapshot: Snapshot, actions: Sequence[Action]) -> Assessment:
        """Forecasts `resample` and `reflect`; other actions are left out."""
        best = snapshot.chosen or snapshot.tally.best
        fresh = sum(c.parent is None for c in snapshot.candidates)
        p_now = self.samples.at(fresh) if best is not None else 0.0
        for _ in range(best.round if best is not None else 0):
            p_now = self.rounds.after(p_now)
        scale = self.costs.scale(snapshot)
        found = {}
        for action in actions:
            if action.kind == "resample":
                p = p_now + self.samples.at(fresh + action.n) - self.samples.at(fresh)
            elif action.kind == "reflect":
                p = self.rounds.after(p_now)
            else:
                continue
            found[action] = Forecast(action, min(1.0, max(0.0, p)), *self.costs.of(action, scale), self.name)
        return Assessment(p_now, found, self.name, {"samples": float(fresh)}, best.id if best else None)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"samples": asdict(self.samples), "rounds": asdict(self.rounds), "costs": self.costs.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Saturating:
        """Reads `to_dict`'s output."""
        return cls(
            samples=Saturation(**data["samples"]),
            rounds=Rates(**data["rounds"]),
            costs=CostModel.from_dict(data["costs"]),
        )
