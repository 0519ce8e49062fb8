"""A policy beside every static strategy, published stop rule and the oracle, all on the same cards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tta_langgraph.budget import Budget
from tta_langgraph.decision import Policy
from tta_langgraph.decision.fitting import folds as group_folds
from tta_langgraph.traces.frontier import Comparison, Frontier, Point, compare, frontier
from tta_langgraph.traces.metrics_intervals import Interval, paired_difference
from tta_langgraph.traces.model import Pool
from tta_langgraph.traces.plain import plain
from tta_langgraph.traces.replay import Progress, replay
from tta_langgraph.traces.replay_columns import Columns, Measure, columns
from tta_langgraph.traces.replay_draws import order
from tta_langgraph.traces.replay_prices import price_grid
from tta_langgraph.traces.replay_result import Outcomes, joined
from tta_langgraph.traces.strategies import RULES, Bench, statics
from tta_langgraph.traces.strategies_oracle import oracle_curve
from tta_langgraph.traces.tune import scaled


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything a report or a benchmark says about one data set."""

    name: str
    """The data set, for headings."""
    table: Columns
    """The recorded questions it was measured on."""
    bench: Bench
    """The cards that everyone was dealt."""
    statics: Sequence[Outcomes]
    """Static strategies and published stop rules."""
    oracles: Sequence[Outcomes]
    """The oracle that knows the pool and saves tokens, cheap end first."""
    stop_oracles: Sequence[Outcomes]
    """The oracle that knows when to stop but must vote."""
    curve: Sequence[Outcomes]
    """The policy at prices from high to low."""
    prices: Sequence[float]
    """λ per token of each point of the curve."""
    policy: Policy
    """The policy at its own prices."""
    headline: Outcomes | None = None
    """The policy at its own prices, every decision kept."""
    budget: Budget | None = None
    """Limits per episode."""
    notes: dict[str, str] = field(default_factory=dict)
    """How it was made, for readers: measure, split, seed, command."""

    def frontier(self, kind: str, cost: str = "tokens") -> Frontier:
        """The frontier of `fixed` (static strategies), `rules` (published stop rules), `policy` or `oracle`."""
        return frontier(self.points(kind, cost))

    def points(self, kind: str, cost: str = "tokens", *, draws: int = 0) -> list[Point]:
        """The points of `fixed`, `rules`, `static` (both), `policy`, `oracle` or `oracle stop`; bars if `draws` > 0."""
        sets: dict[str, Sequence[Outcomes]] = {
            "fixed": [o for o in self.statics if o.family not in RULES],
            "rules": [o for o in self.statics if o.family in RULES],
            "static": self.statics,
            "policy": self.curve,
            "oracle": self.oracles if cost == "tokens" else self._hasty[0],
            "oracle stop": self.stop_oracles if cost == "tokens" else self._hasty[1],
        }
        if draws:
            return [o.point(cost=cost, draws=draws) for o in sets[kind]]
        return [Point(name=o.name, cost=o.mean(cost), accuracy=o.accuracy, family=o.family) for o in sets[kind]]

    def comparison(self, cost: str = "tokens", against: str = "fixed", oracle: str = "oracle") -> Comparison:
        """The policy's curve against static strategies (or stop rules) and the oracle."""
        return compare(self.frontier("policy", cost), self.frontier(against, cost), self.frontier(oracle, cost))

    def gap_at_best(self, cost: str = "tokens", against: str = "fixed", draws: int = 2000) -> tuple[str, str, Interval]:
        """Policy minus the most accurate static strategy, paired by question, where the policy spends no more.

        Returns:
            Names of the static strategy and of the policy's point, and the difference in accuracy with its interval.
        """
        best = self._best(cost, against)
        affordable = [o for o in self.curve if o.mean(cost) <= best.mean(cost)] or [self.curve[0]]
        own = max(affordable, key=lambda o: (o.accuracy, -o.mean(cost)))
        return best.name, own.name, _difference(own, best, draws)

    def gap_to_best(self, own: Outcomes, against: str = "fixed", draws: int = 2000) -> tuple[Outcomes, Interval]:
        """One setting of the policy minus the most accurate static strategy, paired by question.

        Nothing about the policy is chosen with hindsight here, unlike in `gap_at_best`.

        Returns:
            The static strategy, and the difference in accuracy with its interval.
        """
        best = self._best("tokens", against)
        return best, _difference(own, best, draws)

    def _best(self, cost: str, against: str) -> Outcomes:
        rivals = [o for o in self.statics if against == "static" or (o.family in RULES) == (against == "rules")]
        return max(rivals, key=lambda o: (o.accuracy, -o.mean(cost)))

    def to_dict(self) -> dict[str, Any]:
        """Figures for JSON: every strategy's point with intervals, and comparisons; None where there is no number."""
        kinds = ("fixed", "rules", "policy", "oracle", "oracle stop")
        found = {
            "name": self.name,
            "questions": len(self.table),
            "episodes": self.bench.cards.episodes,
            "databases": len(set(self.table.db_ids)),
            "notes": self.notes,
            "strategies": {
                kind: [_point(p) for p in self.points(kind, draws=400)] for kind in kinds if self._has(kind)
            },
            "comparison": {
                against: vars(self.comparison(against=against))
                | {"cost_ratio": self.comparison(against=against).cost_ratio}
                for against in ("fixed", "rules", "static")
                if self._has(against)
            },
        }
        return dict(plain(found))

    @cached_property
    def _hasty(self) -> tuple[list[Outcomes], list[Outcomes]]:
        """Both oracles where they save seconds: what is cheapest in tokens need not be the quickest."""
        return oracle_curve(self.bench, cost="seconds"), oracle_curve(self.bench, selects=False, cost="seconds")

    def _has(self, kind: str) -> bool:
        return bool(self.points(kind))


def _difference(own: Outcomes, other: Outcomes, draws: int) -> Interval:
    return paired_difference(
        own.per_question(own.correct),
        other.per_question(other.correct),
        clusters=own.question_clusters,
        draws=draws,
    )


def _point(point: Point) -> dict[str, Any]:
    return {"name": point.name, "family": point.family, "cost": point.cost, "accuracy": point.accuracy} | {
        "low": point.low,
        "high": point.high,
        **point.extra,
    }


def evaluate(
    pools: Columns | Iterable[Pool],
    policy: Policy,
    *,
    name: str = "recorded pools",
    budget: Budget | int | None = None,
    repeats: int = 4,
    seed: int = 0,
    measure: Measure = "tokens",
    prices: Sequence[float] | None = None,
    openings: Sequence[int] | None = None,
    at_price: Callable[[float], Policy] | None = None,
    extra: Sequence[Callable[[Bench], Sequence[Outcomes]]] = (),
    keep: bool = True,
    notes: dict[str, str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Replays a policy at a range of prices, and everything it is compared with, on the same cards.

    Args:
        pools: recorded questions that the policy was not fitted on.
        policy: the policy.
        name: of the data set.
        budget: limits per episode.
        repeats: episodes per question.
        seed: deals the cards.
        measure: what counts as a token.
        prices: λ per token to sweep; by default from dear to almost free.
        openings: how many answers the first request draws; each is swept over all prices. What the policy says if not
            given.
        at_price: the policy at a price; by default the same policy with both prices scaled.
        extra: further strategies of the caller's.
        keep: replay the policy at its own prices once more and keep every decision.
        notes: how it was made, for readers.
        progress: called with (replays done, replays in all).
    """
    table = pools if isinstance(pools, Columns) else columns(pools, measure=measure)
    limits = None if budget is None else Budget.coerce(budget)
    bench = Bench(table, order(table, repeats=repeats, seed=seed))
    sweep = list(prices) if prices is not None else price_grid(bench)
    own = policy.utility.per_token or 1e-9

    def priced(price: float) -> Policy:
        return at_price(price) if at_price is not None else scaled(policy, price / own)

    curve = []
    started = openings or (policy.opening,)
    total = len(sweep) * len(started) + keep
    for opening in started:
        for price in sweep:
            found = replay(table, priced(price), budget=limits, cards=bench.cards, opening=opening)
            start = "" if opening == 1 else f" from {opening}"
            curve.append(found.named(f"{policy.name} λ={price:.2g}{start}"))
            if progress is not None:
                progress(len(curve), total)
    headline = replay(table, policy, budget=limits, cards=bench.cards, keep=True) if keep else None
    if progress is not None and keep:
        progress(total, total)
    return Evaluation(
        name=name,
        table=table,
        bench=bench,
        statics=[*statics(bench), *(o for build in extra for o in build(bench))],
        oracles=oracle_curve(bench),
        stop_oracles=oracle_curve(bench, selects=False),
        curve=curve,
        prices=sweep,
        policy=policy,
        headline=headline,
        budget=limits,
        notes={"measure": table.measure, "seed": str(seed), "repeats": str(repeats), **(notes or {})},
    )


def cross_evaluate(
    pools: Columns | Iterable[Pool],
    make: Callable[[Columns], Policy],
    *,
    folds: int = 4,
    name: str = "recorded pools",
    repeats: int = 4,
    seed: int = 0,
    measure: Measure = "tokens",
    prices: Sequence[float] | None = None,
    openings: Sequence[int] = (1,),
    extra: Sequence[Callable[[Bench], Sequence[Outcomes]]] = (),
    notes: dict[str, str] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """`evaluate` by cross-validation: every question is replayed by a policy fitted on other databases.

    Uses small recordings fully. No question of a fold's databases is seen by the policy that is tested on it.

    Args:
        pools: all recorded questions.
        make: fits a policy on some of them.
        folds: parts; a database is never in two.
        name: of the data set.
        repeats: episodes per question.
        seed: deals the cards and the folds.
        measure: what counts as a token.
        prices: λ per token to sweep.
        openings: how many answers the first request draws.
        extra: further strategies of the caller's.
        notes: how it was made, for readers.
        progress: called with (folds done, folds).
    """
    table = pools if isinstance(pools, Columns) else columns(pools, measure=measure)
    bench = Bench(table, order(table, repeats=repeats, seed=seed))
    sweep = list(prices) if prices is not None else price_grid(bench)
    side = group_folds(table.db_ids, folds, seed)
    settings = [(price, opening) for opening in openings for price in sweep]
    parts: list[list[tuple[np.ndarray[Any, Any], Outcomes]]] = [[] for _ in settings]
    policy = None
    for done, k in enumerate(np.unique(side).tolist(), start=1):
        policy = make(table.select(np.flatnonzero(side != k)))
        episodes = np.flatnonzero(side[bench.cards.question] == k)
        cards = bench.cards.take(episodes)
        for part, (price, opening) in zip(parts, settings, strict=True):
            own = scaled(policy, price / (policy.utility.per_token or 1e-9))
            part.append((episodes, replay(table, own, cards=cards, opening=opening)))
        if progress is not None:
            progress(done, folds)
    assert policy is not None
    curve = []
    for part, (price, opening) in zip(parts, settings, strict=True):
        start = "" if opening == 1 else f" from {opening}"
        curve.append(joined(part, f"{policy.name} λ={price:.2g}{start}"))
    return Evaluation(
        name=name,
        table=table,
        bench=bench,
        statics=[*statics(bench), *(o for build in extra for o in build(bench))],
        oracles=oracle_curve(bench),
        stop_oracles=oracle_curve(bench, selects=False),
        curve=curve,
        prices=sweep,
        policy=policy,
        notes={"measure": table.measure, "seed": str(seed), "repeats": str(repeats), **(notes or {})},
    )
