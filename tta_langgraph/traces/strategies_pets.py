"""PETS in replay: few first samples, then as many more as the pattern of their agreement deserves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tta_langgraph.decision.pets import Curve, allocate, fit_curves, pattern_of
from tta_langgraph.traces.replay_columns import Columns
from tta_langgraph.traces.replay_draws import order
from tta_langgraph.traces.replay_result import Outcomes
from tta_langgraph.traces.strategies import Bench

Curves = dict[tuple[int, ...], tuple[Curve, float]]


def pets_curves(table: Columns, *, first: int = 4, seed: int = 0) -> Curves:
    """The agreement curves of the fit side: no gold is needed, only its samples.

    Raises:
        PolicyError: no question has `first` + 2 samples.
    """
    rows = _drawn(Bench(table, order(table, seed=seed)))
    return fit_curves([_answers(table, row) for row in rows], first=first)


def pets(bench: Bench, curves: Curves, mean: float, *, first: int = 4) -> Outcomes:
    """Takes `first` samples, then what `allocate` gives their pattern at a mean of `mean` samples, and votes.

    The first samples are one request and the others another one: the prompt counts twice at most, and each request
    takes as long as its slowest sample.

    Args:
        bench: what it is measured on.
        curves: from `pets_curves` on other questions.
        mean: samples per question on average.
        first: samples whose agreement is looked at.
    """
    rows = _drawn(bench)
    given = allocate(curves, mean, first=first, most=rows.shape[1])
    table, seq = bench.table, bench.sequence
    wanted = np.asarray(
        [given.get(pattern_of(_answers(table, row[:first])), round(mean)) for row in rows], dtype=np.int64
    )
    last = np.clip(np.maximum(wanted, first) - 1, 0, seq.length - 1)
    e = np.arange(len(rows))
    head = np.minimum(first - 1, seq.length - 1)
    more = last > head
    prompt = np.where(more, table["prompt_tokens"][seq.rows[e, last]], 0)
    drawn = np.arange(rows.shape[1])
    took = np.where(rows >= 0, table["seconds"][rows].astype(float) + table["execution_seconds"][rows], 0.0)
    second = np.where((drawn > head[:, None]) & (drawn <= last[:, None]), took, 0.0)
    seconds = seq.together_seconds[e, head] + second.max(axis=1)
    return bench.outcome(
        f"pets({mean:g})", "pets", seq.winner[e, last], seq.together_tokens[e, last] + prompt, seconds, 1 + more
    )


def pets_sweep(bench: Bench, table: Columns, means: Sequence[float] = (4, 5, 6, 8, 12, 16, 24)) -> list[Outcomes]:
    """PETS at several mean budgets, its curves fitted on `table` (the fit side); empty where samples are too few."""
    width = bench.sequence.rows.shape[1]
    if not bench.cards.samples.shape[1] or width < 6:
        return []
    curves = pets_curves(table)
    return [pets(bench, curves, mean) for mean in means if mean <= width]


def _drawn(bench: Bench) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return bench.sequence.rows


def _answers(table: Columns, rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[str | None]:
    """Keys that have a vote; None for failures."""
    found = rows[rows >= 0]
    keys = np.where(table["executed"][found] != 0, table["key"][found], -1)
    return [None if key < 0 else str(key) for key in keys.tolist()]
