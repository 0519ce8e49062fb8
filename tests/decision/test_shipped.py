"""The policy that ships for the embedded model: what it is, that it is not stale, and that it earns its keep."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tta_langgraph import Policy
from tta_langgraph.models.weights_catalog import DEFAULT_WEIGHTS
from tta_langgraph.traces.fit import split

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "shipped_policy.py"


@pytest.fixture(scope="module")
def made() -> Iterator[ModuleType]:
    """The script that makes the file."""
    spec = importlib.util.spec_from_file_location("shipped_policy", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number of JSON values, by where it stands."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, inner in items:
        yield from numbers(inner, f"{path}/{key}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)


def test_the_embedded_default_has_a_policy_of_its_own_and_other_models_start_with_priors() -> None:
    shipped = Policy.for_model(DEFAULT_WEIGHTS)
    assert shipped.name == "fitted(qwen2.5-coder-0.5b, 420 recorded questions)"
    assert shipped.notes["fitted_on"]["questions"] == 420
    assert "CC BY-SA 4.0" in shipped.notes["data_set"]
    assert Policy.for_model("gpt-4o-mini") == Policy.default("sql")
    assert Policy.for_model("../../pyproject") == Policy.default("sql")
    assert Policy.for_model(DEFAULT_WEIGHTS, "text") == Policy.default("text"), "it was fitted on SQL"


def test_it_prices_seconds_and_not_tokens() -> None:
    rates = Policy.for_model(DEFAULT_WEIGHTS).utility
    assert rates.per_token == 0
    assert rates.per_second > 0


def test_the_file_is_what_the_script_makes_of_the_recording_today(made: ModuleType) -> None:
    shipped, fresh = Policy.for_model(made.MODEL), made.fitted(made.recorded(made.SPIDER))
    assert (shipped.name, shipped.actions, shipped.utility) == (fresh.name, fresh.actions, fresh.utility)
    told = "run python benchmarks/shipped_policy.py"
    old, new = (dict(numbers(policy.to_dict()["predictor"])) for policy in (shipped, fresh))
    assert old == pytest.approx(new, rel=1e-3, abs=1e-6), told


def test_on_databases_it_was_not_fitted_on_it_is_worth_more_than_priors_and_fixed_strategies(made: ModuleType) -> None:
    fit_side, test_side = split(made.recorded(made.SPIDER))
    own = made.fitted(fit_side)
    found = {name: made.played(test_side, policy, repeats=6) for name, policy in made.strategies(own).items()}
    price = own.utility.per_second
    worth = {name: o.accuracy - price * o.mean_seconds for name, o in found.items()}
    assert max(worth, key=worth.__getitem__) == "fitted policy", worth
    assert found["fitted policy"].accuracy >= found["best of 8"].accuracy
    assert found["fitted policy"].mean_seconds < 0.75 * found["best of 8"].mean_seconds
