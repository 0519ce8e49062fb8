"""What the demonstration asks by default, and which policy it shows."""

from __future__ import annotations

from tta_langgraph.decision import Policy, Utility

DEFAULT_QUESTIONS = frozenset(
    {"customers", "jazz-price", "busiest-artists", "five-star-reviews", "never-ordered", "best-seller"}
)
"""Ids of the handful: from easy to hard, some that the default model answers at once and some that it does not."""


def demo_policy() -> Policy:
    """The policy of the demonstration: shipped priors and prices, with more samples to choose from.

    Samples come in one request that reads the prompt once, so eight of them cost little more than two.
    """
    actions = ("reflect", "resample(2)", "resample(4)", "resample(8)")
    return Policy.default("sql", utility=Utility(), actions=actions)
