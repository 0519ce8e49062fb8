"""Prices to sweep: from dearer than any gain to almost free, closer together where a recording's costs lie."""

from __future__ import annotations

import numpy as np

from tta_langgraph.traces.strategies import Bench


def price_grid(bench: Bench, points: int = 20) -> list[float]:
    """Prices per token, high to low.

    At the highest, the cheapest further step would have to be certain to help; at the lowest, all that was recorded
    together costs less than one right answer in two hundred questions.

    Args:
        bench: what is replayed.
        points: how many.
    """
    seq = bench.sequence
    steps = np.diff(seq.tokens, axis=1)[seq.valid[:, 1:]]
    steps = steps[steps > 0]
    if not steps.size:
        return [1.0 / max(1.0, float(seq.tokens[:, 0].mean()))]
    whole = float(seq.tokens[:, -1].mean())
    return [float(p) for p in np.geomspace(1.0 / np.quantile(steps, 0.1), 0.005 / whole, points)]
