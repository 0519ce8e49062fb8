"""A setting that means nothing is refused when the node is made, not taken for another one in the first episode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel

from tta_langgraph.errors import GraphError, PolicyError
from tta_langgraph.nodes import Check, Confidence, Execute, Generate, Judge, Plan, Reflect, Sample

MODEL = FakeListChatModel(responses=["4"])


@pytest.mark.parametrize(
    ("make", "where", "remedy"),
    [
        (lambda: Reflect(model=MODEL, feedback="exec"), "Reflect.feedback", "'execution'"),
        (lambda: Reflect(model=MODEL, form="again"), "Reflect.form", "'repair'"),
        (lambda: Sample(model=MODEL, diversify="words"), "Sample.diversify", "'rephrase'"),
        (lambda: Plan(model=MODEL, schedule="falling"), "Plan.schedule", "'cosine'"),
        (lambda: Confidence(statistic="median"), "Confidence.statistic", "'tail'"),
        (lambda: Generate(model=MODEL, n=0), "Generate.n", "at least 1"),
        (lambda: Sample(model=MODEL, n=-2), "Sample.n", "at least 1"),
        (lambda: Judge(model=MODEL, n_verdicts=0), "Judge.n_verdicts", "at least 1"),
        (lambda: Plan(model=MODEL, max_parts=0), "Plan.max_parts", "at least 1"),
        (lambda: Generate(model=MODEL, database="sqlite:///shop.sqlite"), "Generate.database", r"Database\(url"),
        (lambda: Judge(model=MODEL, database="sqlite:///shop.sqlite"), "Judge.database", r"Database\(url"),
        (lambda: Execute(database="sqlite:///shop.sqlite"), "Execute.database", r"Database\(url"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_at_once(make: Callable[[], Any], where: str, remedy: str) -> None:
    with pytest.raises(GraphError, match=remedy) as caught:
        make()
    assert caught.value.where == where


@pytest.mark.parametrize(
    "make",
    [
        lambda **rule: Generate(model=MODEL, **rule),
        lambda **rule: Judge(model=MODEL, **rule),
        lambda **rule: Check(verifier=str.isdigit, **rule),
        lambda **rule: Confidence(**rule),
    ],
)
def test_a_selection_rule_that_does_not_exist_is_refused_at_once(make: Callable[..., Any]) -> None:
    with pytest.raises(PolicyError, match="execution_vote"):
        make(selection="loudest")


def test_a_function_may_say_what_a_model_is_told() -> None:
    assert callable(Reflect(model=MODEL, feedback=lambda candidate, state: "Look again.").feedback)
