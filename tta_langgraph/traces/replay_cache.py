"""The prefix cache in replay: an episode's first request reads what the recording's first request read.

A recording warms its own cache: its first answer reads the prompt, and the samples after it find most of it there. An
episode that begins with the samples has nothing to find. Whatever it begins with therefore pays for what the first
recorded request to the same model had to read; what comes later pays what was recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tta_langgraph.latency import LatencyModel, Observation, fit_rates

if TYPE_CHECKING:
    from tta_langgraph.traces.replay_columns import Columns

Ints = NDArray[np.int64]
SEEN = 400
"""Requests of a model that its reading speed is fitted on at most."""


def spared(table: Columns) -> dict[str, NDArray[Any]]:
    """What each attempt was spared by requests of its pool before it: `spared_tokens` and `spared_seconds`.

    Prompt tokens that it found in the cache beyond those that the first request to its model found, and the seconds
    that reading them takes, by a latency model fitted on the recording itself (0 where it tells nothing). Corrections
    and answers to another answer are spared nothing: no episode begins with one.

    Args:
        table: the recorded pools, with all tokens counted.

    Returns:
        Two columns, shape (attempts,).
    """
    tokens = np.zeros(table.n_attempts, dtype=np.int64)
    seconds = np.zeros(table.n_attempts)
    fresh = np.flatnonzero(table["parent"] < 0)
    cached = table["cached_tokens"]
    if cached[fresh].any():
        models = len(table.texts["model"])
        _, first, member = np.unique(
            table.owner[fresh] * models + table["model"][fresh], return_index=True, return_inverse=True
        )
        tokens[fresh] = np.maximum(0, cached[fresh] - cached[fresh[first]][member])
    for model in np.unique(table["model"][tokens > 0]):
        latency = _latency(table, fresh[table["model"][fresh] == model])
        if latency is None:
            continue
        rows = np.flatnonzero((tokens > 0) & (table["model"] == model))
        prompt = table["prompt_tokens"][rows].astype(float)
        seconds[rows] = tokens[rows] * (latency.prefill + latency.attention * prompt)
    return {"spared_tokens": tokens.astype(np.int32), "spared_seconds": seconds.astype(np.float32)}


def _latency(table: Columns, rows: Ints) -> LatencyModel | None:
    """How long this model's requests took, by what they read and wrote; None where too little is known."""
    _, starts = np.unique(np.stack([table.owner[rows], table["request"][rows]]), axis=1, return_index=True)
    starts = np.sort(starts)  # attempts of one request stand together
    wrote = np.maximum.reduceat(table["completion_tokens"][rows], starts)
    took = np.maximum.reduceat(table["seconds"][rows], starts)
    timed = np.flatnonzero(took > 0)
    timed = timed[:: max(1, len(timed) // SEEN)]
    prompt, cached = (table[name][rows[starts]] for name in ("prompt_tokens", "cached_tokens"))
    seen = [
        Observation(
            prompt_tokens=int(prompt[i]),
            completion_tokens=int(wrote[i]),
            seconds=float(took[i]),
            cached_tokens=int(cached[i]),
        )
        for i in timed
    ]
    return fit_rates(seen) if len(seen) >= FEWEST else None


FEWEST = 8
"""Timed requests under which nothing is said of a model's speed."""
