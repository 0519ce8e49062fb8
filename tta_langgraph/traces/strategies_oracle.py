"""Oracles in replay: what could be had by someone who knew which recorded answers are right, or only when to stop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tta_langgraph.traces.replay_draws import Draws
from tta_langgraph.traces.replay_result import Outcomes
from tta_langgraph.traces.strategies import Bench, first_true

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def oracle(bench: Bench, price: float, *, selects: bool = True, cost: str = "tokens") -> Outcomes:
    """Knows the pool: goes on only where a right answer will come, and stops when it is there.

    It meets samples in the same order as everyone. It asks for them one by one, as a policy does, or for all of them in
    one request, as a majority of n does, whichever is cheaper: otherwise strategies that share a prompt would beat it.
    On a ladder of models it goes straight to the first one that is right. It extends an episode to its first right
    answer when that costs no more than one right answer is worth (`1 / price`), and else takes the cheapest answer. It
    never has an answer corrected.

    Args:
        bench: what it is measured on.
        price: price per token (or second); sweeping it from high to low draws the oracle's frontier.
        selects: True knows which answer is right; False knows only when to stop, and the vote must select.
        cost: what it saves, `tokens` or `seconds`.
    """
    ways = _ways(bench, selects)
    worth = np.stack([way.right - price * way.cost(cost) for way in ways])
    best, e = worth.argmax(axis=0), np.arange(bench.cards.episodes)
    return bench.outcome(
        f"oracle{'' if selects else ' stop'}({price:g})",
        "oracle" if selects else "oracle stop",
        np.stack([way.row for way in ways])[best, e],
        np.stack([way.tokens for way in ways])[best, e],
        np.stack([way.seconds for way in ways])[best, e],
        np.stack([way.calls for way in ways])[best, e],
    )


def oracle_curve(bench: Bench, *, selects: bool = True, points: int = 24, cost: str = "tokens") -> list[Outcomes]:
    """The oracle at prices that cover its whole frontier, cheap end first."""
    ways = _ways(bench, selects)
    costs = np.stack([way.cost(cost) for way in ways])
    extra = np.where(np.stack([way.right for way in ways]), costs, np.inf).min(axis=0) - costs.min(axis=0)
    one_by_one = bench.sequence.tokens if cost == "tokens" else bench.sequence.seconds
    spans = [extra[np.isfinite(extra)], (one_by_one - one_by_one[:, :1]).ravel()]
    shares = np.linspace(0, 1, points)
    prices = [1 / np.quantile(span[span > 0], shares) for span in spans if (span > 0).any()]
    every = np.unique(np.concatenate([[1e9], *prices]))[::-1]
    return [oracle(bench, float(price), selects=selects, cost=cost) for price in every]


@dataclass(frozen=True, kw_only=True)
class _Way:
    """One way to answer every episode, shapes (episodes,)."""

    row: Ints
    right: NDArray[np.bool_]
    tokens: Floats
    seconds: Floats
    calls: Ints

    def cost(self, name: str) -> Floats:
        return self.tokens if name == "tokens" else self.seconds


def _ways(bench: Bench, selects: bool) -> list[_Way]:
    """The first answer and the first right one, by each way of drawing."""
    seq = bench.sequence
    single, count = np.ones(1, dtype=np.int64), np.arange(1, seq.rows.shape[1] + 1)
    if not bench.cards.samples.shape[1]:
        if not selects:
            return _stops(seq, seq.tokens, seq.seconds, count, selects)
        # On a ladder nothing but the first answer and the right one is paid for.
        tokens, seconds = (np.diff(c, axis=1, prepend=0.0) for c in (seq.tokens, seq.seconds))
        tokens[:, 1:] += tokens[:, :1]
        seconds[:, 1:] += seconds[:, :1]
        return _stops(seq, tokens, seconds, np.minimum(count, 2), selects)
    ways = _stops(seq, seq.tokens, seq.seconds, count, selects)
    ways += _stops(seq, seq.together_tokens, seq.together_seconds, single, selects)
    if selects:  # a vote with and one without the first answer would be two votes to choose from: that is selection
        fresh = bench.sampled
        ways += _stops(fresh, fresh.together_tokens, fresh.together_seconds, single, selects)
    return ways


def _stops(seq: Draws, tokens: Floats, seconds: Floats, calls: Ints, selects: bool) -> list[_Way]:
    """Taking the first answer, and going on to the first right one (where there is none, the first answer again)."""
    e = np.arange(len(seq.rows))
    good = (seq.any_right if selects else seq.right) & seq.valid
    reached = first_true(good, fallback=0)
    found = []
    for at in (np.zeros_like(reached), reached):
        right = good[e, at]
        row = np.where(right & selects, seq.rows[e, at], seq.winner[e, at])
        each = np.broadcast_to(calls, seq.rows.shape)[e, at]
        found.append(_Way(row=row, right=right, tokens=tokens[e, at], seconds=seconds[e, at], calls=each))
    return found
