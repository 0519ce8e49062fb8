"""What the demonstration asks by default, and which policy it shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from tta_langgraph.decision import Policy
from tta_langgraph.demo.questions import DemoQuestion

EVERY = 5
"""The default demonstration asks every fifth question: what two quiet cores answer three times in two minutes."""


def handful(questions: Sequence[DemoQuestion]) -> list[DemoQuestion]:
    """Every fifth question in the order of the file, which is by grade: each grade has its share, none was picked."""
    return list(questions[::EVERY])


def demo_policy(model: str) -> Policy:
    """The demonstration's policy: the one that ships for the model, else priors with more samples to choose from.

    Samples come in one request that reads the prompt once, so eight of them cost little more than two.

    Args:
        model: name of the chat model.
    """
    policy = Policy.for_model(model)
    if policy == Policy.default("sql"):
        return policy.with_actions(("reflect", "resample(2)", "resample(4)", "resample(8)"))
    return policy


@cache
def recorded_figures(model: str) -> Mapping[str, Any] | None:
    """What strategies reached on recorded answers to all questions, if this model's were recorded.

    `strategies` holds, per name, how many answers were `right`, and the mean `seconds` (on the idle engine) and
    `requests` per question; `reflect` counts what a second look mended and broke. `benchmarks/shipped_policy.py` makes
    the file.
    """
    found: dict[str, Any] = json.loads(files(__package__).joinpath("recorded.json").read_text(encoding="utf-8"))
    return found if found["model"] == model else None
