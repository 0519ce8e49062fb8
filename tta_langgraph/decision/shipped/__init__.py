"""Policies that come with the package: one JSON file per model, named after it, made by `benchmarks/shipped_policy.py`.

They hold statistics of recorded answers, no questions and no answers.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def shipped_policies() -> dict[str, Traversable]:
    """The policy files by the name of the model that they were fitted for."""
    found = files(__package__).iterdir()
    return {file.name.removesuffix(".json"): file for file in found if file.name.endswith(".json")}
