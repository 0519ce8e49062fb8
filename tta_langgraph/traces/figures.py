"""Refuses recorded figures that cannot be: one NaN would spread through every mean."""

from __future__ import annotations

import math
from typing import TypeVar

from tta_langgraph.errors import TraceError
from tta_langgraph.traces.model import Pool, Trace

T = TypeVar("T", Pool, Trace)


def check_figures(item: T, *, where: str) -> T:
    """Gives the pool or trace back if its counts, seconds, dollars and scores are possible.

    Raises:
        TraceError: one is negative, NaN or infinite, or a score is outside of [0, 1].
    """
    if isinstance(item, Pool):
        for attempt in item.attempts:
            _amounts(attempt, f"attempt {attempt.id!r}", ("execution_seconds", "n_rows", "round"), where)
            _score(attempt.verdict_score, f"attempt {attempt.id!r}: verdict_score", where)
        for judgement in item.judgements:
            _amounts(judgement, f"the verdict on {judgement.attempt!r}", (), where)
            _score(judgement.score, f"the verdict on {judgement.attempt!r}: score", where)
        for name, value in item.features.items():
            if not math.isfinite(value):
                raise _impossible(f"the feature {name!r}", value, where)
    else:
        for name in ("seconds", "tokens"):
            _amount(getattr(item, name), f"trace {item.id!r}: {name}", where)
        for charge in item.charges:
            _amounts(charge.usage, f"charge {charge.id!r}", (), where)
    return item


def _amounts(holder: object, what: str, further: tuple[str, ...], where: str) -> None:
    for name in (*_AMOUNTS, *further):
        value = getattr(holder, name)
        if not 0 <= value < math.inf:
            raise _impossible(f"{what}: {name}", value, where)


def _amount(value: float, what: str, where: str) -> None:
    if not 0 <= value < math.inf:
        raise _impossible(what, value, where)


def _score(value: float | None, what: str, where: str) -> None:
    if value is not None and not 0 <= value <= 1:
        raise _impossible(what, value, where)


def _impossible(what: str, value: float, where: str) -> TraceError:
    return TraceError(f"{what} is {value:g}", where=where, remedy="Correct it, or leave the line out")


_AMOUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens", "seconds", "usd")
