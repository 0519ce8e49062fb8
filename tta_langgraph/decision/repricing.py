"""The same predictor on another engine: its beliefs about answers stay, what calls cost there is exchanged."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from tta_langgraph.decision.costs import CostModel
from tta_langgraph.decision.predictor import Predictor
from tta_langgraph.errors import PolicyError
from tta_langgraph.latency import LatencyModel


def with_latency(predictor: Predictor, latency: LatencyModel | None) -> Predictor:
    """The predictor, and those it is built on, with the idle latency of an engine; None takes it away again.

    Raises:
        PolicyError: the predictor has no `CostModel` that could be told.
    """
    changed: Any = _told(predictor, latency)
    if changed is None:
        raise PolicyError(
            f"the predictor {predictor.name!r} has no cost model",
            where="with_latency",
            remedy="Give it a dataclass field of type CostModel",
        )
    return changed  # type: ignore[no-any-return]


def _told(value: Any, latency: LatencyModel | None) -> Any:
    """The value with every cost model in it told, or None if there is none."""
    if isinstance(value, CostModel):
        return value.with_latency(latency)
    if not is_dataclass(value) or isinstance(value, type) or not isinstance(value, Predictor):
        return None
    changes = {field.name: _told(getattr(value, field.name), latency) for field in fields(value) if field.init}
    changes = {name: new for name, new in changes.items() if new is not None}
    return replace(value, **changes) if changes else None
