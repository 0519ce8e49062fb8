"""From a budget to a price: the λ whose policy spends what you want on average, found by replay."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tta_langgraph.budget import Budget
from tta_langgraph.decision import Policy
from tta_langgraph.errors import PolicyError
from tta_langgraph.traces.model import Pool
from tta_langgraph.traces.replay import Progress, replay
from tta_langgraph.traces.replay_columns import Columns, Measure, columns
from tta_langgraph.traces.replay_draws import order
from tta_langgraph.traces.replay_result import Outcomes

OPENINGS = (1, 2, 4, 8)
"""Numbers of answers in the first request that are worth a try."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A policy whose prices meet a target, and what it reached in replay."""

    policy: Policy
    """The policy with the prices found."""
    outcomes: Outcomes
    """Its replay on the pools it was tuned on."""
    target: str
    """What was asked for: `tokens`, `seconds` or `accuracy`."""
    asked: float
    """The value asked for."""
    reached: float
    """The value reached; beside the target where the pools cannot meet it."""
    met: bool
    """Whether the target was met within the tolerance."""

    def __str__(self) -> str:
        found, rates = self.outcomes, self.policy.utility
        return (
            f"{self.target} {self.reached:.4g} (asked {self.asked:.4g}{'' if self.met else ', not met'}): "
            f"accuracy {found.accuracy:.3f} at {found.mean_tokens:.0f} tokens and {found.mean_seconds:.2f} s, "
            f"price {rates.per_token:.3g} per token"
            + (f", {rates.per_second:.3g} per second" if rates.per_second else "")
            + (f", {self.policy.opening} answers in the first request" if self.policy.opening > 1 else "")
        )


def tune(
    policy: Policy,
    pools: Columns | Iterable[Pool],
    *,
    tokens: float | None = None,
    seconds: float | None = None,
    accuracy: float | None = None,
    budget: Budget | int | None = None,
    opening: int | None = None,
    repeats: int = 4,
    seed: int = 0,
    measure: Measure = "tokens",
    steps: int = 18,
    progress: Progress | None = None,
) -> Tuned:
    """Finds the prices at which a policy meets a mean budget, or an accuracy, over replays.

    Both prices (per token and per second) are scaled together, so one number decides. Mean cost falls as they rise: a
    budget is met by bisection. Accuracy does not, so for an accuracy prices are scanned first and then refined around
    the one that reaches it with the fewest tokens.

    Args:
        policy: the policy to tune; its λ only sets the ratio of the two prices.
        pools: recorded questions, best those the policy was not fitted on.
        tokens: mean tokens per question to stay within.
        seconds: mean seconds per question to stay within.
        accuracy: accuracy to reach, in (0, 1].
        budget: limits per episode while replaying.
        opening: answers that the first request draws, for the tuned policy too; what the policy says if not given.
        repeats: episodes per question; the same cards are dealt at every price.
        seed: deals the cards.
        measure: what counts as a token.
        steps: replays at most, but for the two ends of the range; twice as many for an accuracy.
        progress: called with (replays done, replays at most).

    Returns:
        The tuned policy and what it reached. Where the pools cannot meet the target (the first answer alone costs
        more, or no price reaches the accuracy), `met` is False and the nearest is given: for an accuracy the best one,
        at the fewest tokens.

    Raises:
        PolicyError: not exactly one target was given, or it is out of range.
    """
    targets = {"tokens": tokens, "seconds": seconds, "accuracy": accuracy}
    given = [(name, value) for name, value in targets.items() if value is not None]
    if len(given) != 1:
        raise PolicyError(
            f"{len(given)} targets", where="tune", remedy="Give exactly one of tokens=, seconds= and accuracy="
        )
    name, asked = given[0]
    if not (asked > 0 and math.isfinite(asked)) or (name == "accuracy" and asked > 1):
        range_ = "an accuracy in (0, 1]" if name == "accuracy" else "a positive, finite number"
        raise PolicyError(f"a target of {asked:g} {name}", where="tune", remedy=f"Give {range_}")
    if policy.rule is not None:
        raise PolicyError(
            "a static strategy has no price to tune", where=f"tune {policy.name}", remedy="Give a policy that forecasts"
        )
    policy = policy.with_opening(opening)
    table = pools if isinstance(pools, Columns) else columns(pools, measure=measure)
    cards = order(table, repeats=repeats, seed=seed)
    done, most = 0, 2 * steps + 2 if name == "accuracy" else steps + 2

    def run(log_scale: float) -> tuple[Policy, Outcomes]:
        nonlocal done
        priced = scaled(policy, math.exp(log_scale))
        outcomes = replay(table, priced, budget=budget, cards=cards)
        done += 1
        if progress is not None:
            progress(done, most)
        return priced, outcomes

    return _cheapest(run, asked, most) if name == "accuracy" else _bisect(run, name, asked, steps)


def tune_opening(
    policy: Policy,
    pools: Columns | Iterable[Pool],
    *,
    openings: Sequence[int] = OPENINGS,
    tokens: float | None = None,
    seconds: float | None = None,
    accuracy: float | None = None,
    repeats: int = 4,
    measure: Measure = "tokens",
    progress: Progress | None = None,
) -> Tuned:
    """`tune` for several numbers of answers in the first request, of which the best is kept.

    Samples of one request share its prompt and its time. Where prompts are long, several answers cost little more than
    one, and a second request a whole prompt more: then starting with several beats every way of adding them later.

    Args:
        policy: the policy to tune.
        pools: recorded questions.
        openings: numbers to try; those of which the recording has fewer samples are left out.
        tokens: as for `tune`.
        seconds: as for `tune`.
        accuracy: as for `tune`.
        repeats: as for `tune`.
        measure: as for `tune`.
        progress: as for `tune`, over all numbers.

    Returns:
        Of those that meet the target, the one that is worth most at the policy's own prices (before tuning), seconds
        included: by accuracy alone, the order of so few is mostly luck.

    Raises:
        PolicyError: as `tune` does.
    """
    table = pools if isinstance(pools, Columns) else columns(pools, measure=measure)
    samples = table.code("action", "resample")
    rows = np.add.reduceat((table["action"] == samples).astype(int), table.offsets[:-1])
    offers = any(option.action.kind == "resample" for option in policy.options)
    tried = [n for n in openings if n == 1 or (offers and n <= rows.max())] or list(openings)
    found: list[Tuned] = []
    for i, opening in enumerate(tried):

        def advance(done: int, most: int, i: int = i) -> None:
            if progress is not None:
                progress(i * most + done, len(tried) * most)

        found.append(
            tune(
                policy,
                table,
                tokens=tokens,
                seconds=seconds,
                accuracy=accuracy,
                opening=opening,
                repeats=repeats,
                progress=advance,
            )
        )
    met = [each for each in found if each.met]
    if not met:
        return min(found, key=lambda each: abs(each.reached - each.asked))
    rates = policy.utility
    return max(
        met,
        key=lambda each: (
            rates.value * each.outcomes.accuracy
            - rates.per_token * each.outcomes.mean_tokens
            - rates.per_second * each.outcomes.mean_seconds
        ),
    )


def scaled(policy: Policy, factor: float) -> Policy:
    """The same policy with both prices multiplied."""
    return policy.with_utility(policy.utility.scaled(factor))


Run = Callable[[float], tuple[Policy, Outcomes]]


def _bisect(run: Run, name: str, asked: float, steps: int) -> Tuned:
    """Mean cost falls as prices rise from `low` to `high`; keeps the most accurate that stays within the budget."""

    def value(outcomes: Outcomes) -> float:
        return outcomes.mean_tokens if name == "tokens" else outcomes.mean_seconds

    def meets(outcomes: Outcomes) -> bool:
        return value(outcomes) <= asked + EPSILON

    low, high = -WIDEST, WIDEST
    generous, stingy = run(low), run(high)
    found = generous if meets(generous[1]) else stingy
    if found is stingy and meets(stingy[1]):
        for _ in range(steps):
            middle = (low + high) / 2
            candidate = run(middle)
            if meets(candidate[1]):
                found, high = max(found, candidate, key=lambda pair: _worth(pair[1])), middle
            else:
                low = middle
    elif found is stingy:
        found = min((generous, stingy), key=lambda pair: abs(value(pair[1]) - asked))
    return _tuned(found, name, asked, value(found[1]), meets(found[1]))


def _cheapest(run: Run, asked: float, most: int) -> Tuned:
    """The fewest tokens at which the accuracy is reached; where it is not, the best accuracy.

    Accuracy does not fall steadily as prices rise: a policy that pays for everything also pays for what breaks right
    answers. So all prices are looked at from afar, and then those around the best one more closely.
    """

    def rank(pair: tuple[Policy, Outcomes]) -> tuple[bool, float, float]:
        found = pair[1]
        met = found.accuracy >= asked - EPSILON
        return met, 0.0 if met else found.accuracy, -found.mean_tokens

    coarse = max(3, most * 2 // 3)
    gap = 2 * WIDEST / (coarse - 1)
    tried = {at: run(at) for at in (-WIDEST + gap * i for i in range(coarse))}
    for _ in range((most - coarse) // 2):
        best = max(tried, key=lambda at: rank(tried[at]))
        gap /= 2
        for at in (best - gap, best + gap):
            if -WIDEST <= at <= WIDEST:
                tried[at] = run(at)
    found = max(tried.values(), key=rank)
    return _tuned(found, "accuracy", asked, found[1].accuracy, rank(found)[0])


def _tuned(found: tuple[Policy, Outcomes], name: str, asked: float, reached: float, met: bool) -> Tuned:
    return Tuned(policy=found[0], outcomes=found[1], target=name, asked=asked, reached=reached, met=met)


def _worth(outcomes: Outcomes) -> tuple[float, float]:
    """Of two that meet a budget: the more accurate, then the cheaper."""
    return outcomes.accuracy, -outcomes.mean_tokens


WIDEST = math.log(1e5)
"""Prices are searched between a hundred-thousandth and a hundred thousand times the policy's own."""
EPSILON = 1e-9
