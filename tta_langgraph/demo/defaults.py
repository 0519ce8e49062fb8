"""What the demonstration asks by default, and which policy it shows."""

from __future__ import annotations

from tta_langgraph.decision import Policy, Utility

DEFAULT_QUESTIONS = frozenset(
    {"customers", "jazz-price", "busiest-artists", "five-star-reviews", "never-ordered", "best-seller"}
)
"""Ids of the handful: from easy to hard, some that the default model answers at once and some that it does not."""


def demo_policy() -> Policy:
    """The policy of the demonstration: shipped priors, and prices for a model whose tokens are free but slow."""
    return Policy.default("sql", utility=Utility(per_token=2e-5, per_second=1e-3))
