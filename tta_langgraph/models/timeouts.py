"""A call's timeout under a deadline: the model's own, unless the deadline comes first."""

from __future__ import annotations

from typing import Any

import httpx

__all__ = ["timeout_within"]


def timeout_within(left: float, own: Any) -> Any:
    """The timeout to pass to a client.

    Args:
        left: seconds to the deadline.
        own: what the call or the model set: seconds, an `httpx.Timeout`, a pair for connecting and reading, or None.
    """
    left = max(0.001, left)
    if isinstance(own, tuple):
        own = httpx.Timeout(own)
    if isinstance(own, httpx.Timeout):
        parts = {name: left if value is None else min(value, left) for name, value in own.as_dict().items()}
        return httpx.Timeout(**parts)
    return min(own, left) if isinstance(own, int | float) else left
