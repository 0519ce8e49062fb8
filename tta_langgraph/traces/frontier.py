"""Accuracy against cost: frontiers of strategies, the area between them, and what a target costs.

A frontier here is the upper concave hull of measured points: any two strategies can be mixed by a coin, so every
point on the line between them can be had. For static strategies this is the strictest comparison: the best mixture,
chosen with hindsight.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tta_langgraph.errors import TraceError

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One strategy at one setting: what it costs on average and how often it is right."""

    name: str
    """The strategy, with its setting: `best_of(4)`, `policy λ=2e-5`, …"""
    cost: float
    """Mean cost per question, tokens or seconds."""
    accuracy: float
    """Share of right answers."""
    low: float = float("nan")
    """Lower end of the accuracy's interval."""
    high: float = float("nan")
    """Upper end of the accuracy's interval."""
    family: str = ""
    """What it belongs to: `best_of`, `policy`, `oracle`, …"""
    extra: dict[str, float] = field(default_factory=dict)
    """Further figures: seconds, calls, share abstained, …"""


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """The upper concave hull of points; flat beyond its last one."""

    cost: Floats
    """Costs of the hull's corners, ascending, shape (corners,)."""
    accuracy: Floats
    """Accuracy at each corner, ascending, shape (corners,)."""
    names: tuple[str, ...]
    """The strategy at each corner."""

    def at(self, cost: ArrayLike) -> Floats:
        """Accuracy that can be had for a mean cost; NaN below the cheapest strategy."""
        asked = np.asarray(cost, float)
        return np.where(asked < self.cost[0], np.nan, np.interp(asked, self.cost, self.accuracy))

    def cost_of(self, accuracy: float) -> float:
        """Lowest mean cost at which this accuracy can be had; infinite if it cannot."""
        if accuracy > self.accuracy[-1] + 1e-12:
            return float("inf")
        if accuracy <= self.accuracy[0]:
            return float(self.cost[0])
        return float(np.interp(accuracy, self.accuracy, self.cost))

    def area(self, low: float, high: float) -> float:
        """Area under the frontier between two costs (accuracy × cost), the cheapest strategy's accuracy below it."""
        if high <= low:
            return 0.0
        inner = self.cost[(self.cost > low) & (self.cost < high)]
        grid = np.concatenate([[low], inner, [high]])
        return float(np.trapezoid(np.interp(grid, self.cost, self.accuracy), grid))


def frontier(points: Iterable[Point] | Sequence[tuple[float, float]]) -> Frontier:
    """The upper concave hull of strategies' points.

    Args:
        points: `Point`s, or pairs (mean cost, accuracy).

    Raises:
        TraceError: there is no point.
    """
    found = sorted(
        ((p.cost, p.accuracy, p.name) if isinstance(p, Point) else (float(p[0]), float(p[1]), "") for p in points),
        key=lambda item: (item[0], -item[1]),
    )
    if not found:
        raise TraceError("a frontier needs at least one point", where="frontier")
    hull: list[tuple[float, float, str]] = []
    for point in found:
        if hull and point[1] <= hull[-1][1]:
            continue
        while len(hull) >= 2 and _below(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return Frontier(
        cost=np.asarray([p[0] for p in hull]),
        accuracy=np.asarray([p[1] for p in hull]),
        names=tuple(p[2] for p in hull),
    )


def _below(a: tuple[float, float, str], b: tuple[float, float, str], c: tuple[float, float, str]) -> bool:
    """Whether b lies on or under the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A policy's curve set against the best static mixture and the oracle, over the costs all three can have."""

    low: float
    """Lower end of the range of costs compared: where the dearer of the two cheapest points lies."""
    high: float
    """Upper end: where the best static strategy reaches its highest accuracy; below `low` if there is no such range."""
    area_share: float
    """Share of the area between best static and oracle that the policy covers; 1 is the oracle, 0 the best static.

    Not a number where `no_area` says why."""
    no_area: str = ""
    """Why there is no share of the area; empty if there is one."""
    worst_gap: float
    """Largest difference in accuracy by which the policy is below the best static mixture there; ≤ 0 if never."""
    worst_gap_at: float
    """The cost at which that happens."""
    static_best: float
    """Highest accuracy of a static strategy."""
    static_cost: float
    """What that strategy costs."""
    policy_cost: float
    """What the policy needs for the same accuracy; infinite if it does not reach it."""

    @property
    def cost_ratio(self) -> float:
        """The policy's cost for the best static strategy's accuracy, as a share of the static strategy's."""
        return self.policy_cost / self.static_cost if self.static_cost > 0 else float("inf")


TOUCHING = 1e-3
"""An oracle's curve is drawn through few prices: strategies above it by less than this touch it."""


def compare(policy: Frontier, static: Frontier, oracle: Frontier, *, grid: int = 200) -> Comparison:
    """Compares three frontiers between the policy's or static's cheapest point and the best static strategy's cost."""
    low, high = float(max(static.cost[0], policy.cost[0])), float(static.cost[-1])
    room = oracle.area(low, high) - static.area(low, high)
    gained = policy.area(low, high) - static.area(low, high)
    # Without a common range the policy's cheapest point is set beside the best that a static strategy ever has.
    costs = np.linspace(low, max(low, high), grid)
    gap = static.at(costs) - policy.at(costs)
    worst = int(np.nanargmax(gap))
    corners = zip(static.cost, static.accuracy, static.names, strict=True)
    above = [name for at, right, name in corners if low <= at <= high and right > oracle.at(at) + TOUCHING]
    none = ""
    if low > high:
        none = "the policy's cheapest point costs more than the best static strategy"
    elif above:
        none = f"{above[-1]} does better than the oracle, which is no bound here"
    elif low == high:
        none = "the best static strategy is the cheapest, which leaves no range of costs"
    elif room <= 1e-9 * (high - low):
        none = "there is no room between the best static mixture and the oracle"
    return Comparison(
        low=low,
        high=high,
        area_share=float("nan") if none else gained / room,
        no_area=none,
        worst_gap=float(gap[worst]),
        worst_gap_at=float(costs[worst]),
        static_best=float(static.accuracy[-1]),
        static_cost=float(static.cost[-1]),
        policy_cost=policy.cost_of(float(static.accuracy[-1])),
    )
