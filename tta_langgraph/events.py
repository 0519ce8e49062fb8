"""What happens inside episodes, for those who watch: charges, decisions, retries, ends. Listeners never break a run."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

Event = Mapping[str, Any]
"""`type` (`charge`, `decision`, `retry`, `end`), `episode`, and what the type carries."""
Listener = Callable[[Event], None]

_log = logging.getLogger(__name__)
_listeners: list[Listener] = []


def subscribe(listener: Listener) -> Callable[[], None]:
    """Calls `listener` with every event of this process, on the thread where it happens, until unsubscribed.

    Returns:
        A function that unsubscribes.
    """
    _listeners.append(listener)

    def unsubscribe() -> None:
        if listener in _listeners:
            _listeners.remove(listener)

    return unsubscribe


def watched() -> bool:
    """Whether anybody listens, for callers whose event costs something to make."""
    return bool(_listeners)


def publish(event: Event) -> None:
    """Tells every listener; a listener that fails is logged and otherwise ignored."""
    for listener in tuple(_listeners):
        try:
            listener(event)
        except Exception:
            _log.exception("a listener failed on a %s event", event.get("type"))


def finite(left: float, digits: int | None = None) -> float | None:
    """What is left, as JSON has it: None where it is unlimited, because JSON knows no infinity."""
    return None if math.isinf(left) else left if digits is None else round(left, digits)


def ended(tracker: Any, stop_reason: str) -> None:
    """Tells every listener that an episode is over: `end`, with its `stop_reason`.

    Args:
        tracker: the episode's `BudgetTracker`, or whatever stands in the state where there is none.
        stop_reason: why, as in the state.
    """
    if _listeners:
        publish({"type": "end", "episode": str(getattr(tracker, "episode", "")), "stop_reason": stop_reason})
