"""From a budget to a price: the λ whose policy spends what you want on average, found by replay."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tta_langgraph.budget import Budget
from tta_langgraph.decision import Policy
from tta_langgraph.errors import PolicyError
from tta_langgraph.traces.model import Pool
from tta_langgraph.traces.replay import Progress, replay
from tta_langgraph.traces.replay_columns import Columns, Measure, columns
from tta_langgraph.traces.replay_draws import order
from tta_langgraph.traces.replay_result import Outcomes


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
        found = self.outcomes
        return (
            f"{self.target} {self.reached:.4g} (asked {self.asked:.4g}{'' if self.met else ', not met'}): "
            f"accuracy {found.accuracy:.3f} at {found.mean_tokens:.0f} tokens and {found.mean_seconds:.2f} s, "
            f"price {self.policy.utility.per_token:.3g} per token"
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
    """Finds the prices at which a policy meets a mean budget, or an accuracy, by bisection over replays.

    Both prices (per token and per second) are scaled together. Mean cost falls as they rise, so one number decides:
    the cheapest prices that keep the mean cost within the budget, or the dearest that still reach the accuracy.

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
        steps: replays at most.
        progress: called with (replays done, replays at most).

    Returns:
        The tuned policy and what it reached. Where the pools cannot meet the target (the first answer alone costs
        more, or no price reaches the accuracy), `met` is False and the nearest is given.

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
        raise PolicyError(f"a target of {asked:g} {name}", where="tune", remedy="Give a positive, finite number")
    if policy.rule is not None:
        raise PolicyError(
            "a static strategy has no price to tune", where=f"tune {policy.name}", remedy="Give a policy that forecasts"
        )
    policy = policy.with_opening(opening)
    table = pools if isinstance(pools, Columns) else columns(pools, measure=measure)
    cards = order(table, repeats=repeats, seed=seed)
    done = 0

    def run(log_scale: float) -> tuple[Policy, Outcomes]:
        nonlocal done
        priced = scaled(policy, math.exp(log_scale))
        outcomes = replay(table, priced, budget=budget, cards=cards)
        done += 1
        if progress is not None:
            progress(done, steps + 2)
        return priced, outcomes

    return _bisect(run, name, asked, steps)


def scaled(policy: Policy, factor: float) -> Policy:
    """The same policy with both prices multiplied."""
    return policy.with_utility(policy.utility.scaled(factor))


Run = Callable[[float], tuple[Policy, Outcomes]]


def _bisect(run: Run, name: str, asked: float, steps: int) -> Tuned:
    """Prices rise from `low` (spends most) to `high` (spends least); keeps the best that meets the target."""

    def value(outcomes: Outcomes) -> float:
        return {
            "tokens": outcomes.mean_tokens,
            "seconds": outcomes.mean_seconds,
            "accuracy": outcomes.accuracy,
        }[name]

    def meets(outcomes: Outcomes) -> bool:
        return value(outcomes) >= asked - EPSILON if name == "accuracy" else value(outcomes) <= asked + EPSILON

    low, high = -WIDEST, WIDEST
    generous, stingy = run(low), run(high)
    # For a budget the generous end is wanted, as far as it fits; for an accuracy the stingy one.
    wanted, other = (stingy, generous) if name == "accuracy" else (generous, stingy)
    best = wanted if meets(wanted[1]) else other if meets(other[1]) else None
    if best is None or best is wanted:
        found = best or min((generous, stingy), key=lambda pair: abs(value(pair[1]) - asked))
    else:
        found = best
        for _ in range(steps):
            middle = (low + high) / 2
            candidate = run(middle)
            fits = meets(candidate[1])
            if fits:
                found = _better(found, candidate, name)
            if fits == (name == "accuracy"):
                low = middle
            else:
                high = middle
    return Tuned(
        policy=found[0],
        outcomes=found[1],
        target=name,
        asked=asked,
        reached=value(found[1]),
        met=meets(found[1]),
    )


def _better(a: tuple[Policy, Outcomes], b: tuple[Policy, Outcomes], name: str) -> tuple[Policy, Outcomes]:
    """Of two that meet the target: the cheaper for an accuracy, the more accurate (then the cheaper) for a budget."""
    if name == "accuracy":
        return b if b[1].mean_tokens <= a[1].mean_tokens else a
    return b if (b[1].accuracy, -b[1].mean_tokens) >= (a[1].accuracy, -a[1].mean_tokens) else a


WIDEST = math.log(1e5)
"""Prices are searched between a hundred-thousandth and a hundred thousand times the policy's own."""
EPSILON = 1e-9
