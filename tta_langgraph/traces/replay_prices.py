"""Prices to sweep: from dearer than any gain to almost free, closer together where a recording's costs lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tta_langgraph.traces.strategies import Bench

Floats = NDArray[np.float64]


def price_grid(bench: Bench, points: int = 20) -> list[float]:
    """Prices per token, high to low.

    At the highest, the cheapest further step would have to be certain to help; at the lowest, all that was recorded
    together costs less than one right answer in two hundred questions.

    Args:
        bench: what is replayed.
        points: how many.
    """
    steps, whole = _costs(bench)
    if not steps.size:
        return [1.0 / max(1.0, float(bench.sequence.tokens[:, 0].mean()))]
    return [float(p) for p in np.geomspace(1.0 / np.quantile(steps, 0.1), 0.005 / whole, points)]


def dearest(bench: Bench) -> float:
    """Mean tokens of all that was recorded for a question."""
    return _costs(bench)[1]


def _costs(bench: Bench) -> tuple[Floats, float]:
    """Tokens of each further step, and of all steps of a question together.

    Steps are further samples or models; where only corrections were recorded, these.
    """
    seq = bench.sequence
    steps = np.diff(seq.tokens, axis=1)[seq.valid[:, 1:]]
    if not steps.size:
        table = bench.table
        corrections = np.flatnonzero(table["parent"] >= 0)
        steps = (table["prompt_tokens"][corrections] + table["completion_tokens"][corrections]).astype(float)
        return steps[steps > 0], float(seq.tokens[:, 0].mean() + steps.sum() / len(table))
    return steps[steps > 0], float(seq.tokens[np.arange(len(seq.tokens)), seq.length - 1].mean())
