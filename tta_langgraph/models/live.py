"""Spending and retries, shown while they happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tta_langgraph import events
from tta_langgraph.budget import Charge
from tta_langgraph.ledger import Ledger


def stream_charge(ledger: Ledger, charge: Charge, config: Mapping[str, Any] | None) -> None:
    """Shows the spending live to those who stream the graph with `stream_mode="custom"`."""
    if config is None:
        return
    writer: Callable[[Any], None] | None = getattr(
        config["configurable"].get("__pregel_runtime"), "stream_writer", None
    )
    if writer is None or _goes_nowhere(writer):
        return
    remaining = ledger.remaining
    writer(
        {
            "type": "charge",
            "episode": ledger.episode,
            "id": charge.id,
            "source": charge.source,
            "usage": charge.usage.to_dict(),
            "note": charge.note,
            "tokens_left": events.finite(remaining.tokens),
            "seconds_left": events.finite(remaining.seconds, 3),
        }
    )


def _goes_nowhere(writer: Callable[[Any], None]) -> bool:
    """Whether nobody streams: LangGraph's writer is then a function that holds no stream to write to."""
    module = getattr(writer, "__module__", "")
    return module.startswith("langgraph.") and getattr(writer, "__closure__", writer) is None


def publish_retry(ledger: Ledger, source: str, attempt: int, error: BaseException, pause: float) -> None:
    """Reports a retry to those who watch."""
    events.publish(
        {
            "type": "retry",
            "episode": ledger.episode,
            "source": source,
            "attempt": attempt,
            "error": f"{type(error).__name__}: {error}"[:300],
            "pause": pause,
        }
    )
