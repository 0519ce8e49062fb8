"""Sub-budgets add up, follow credits and schedules, and refuse what cannot be split."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tta_langgraph.decision.apportion import Schedule, apportion, schedule_weights
from tta_langgraph.errors import BudgetError

SCHEDULES: list[Any] = ["constant", "linear", "quadratic", "cosine", "exponential"]


@settings(deadline=None)
@given(
    st.integers(0, 10**7),
    st.lists(st.floats(0, 1e6), min_size=1, max_size=12).filter(lambda c: sum(c) > 0),
    st.sampled_from(SCHEDULES),
)
def test_the_parts_always_add_up_and_are_within_one_token_of_their_share(
    total: int, credits: list[float], schedule: Schedule
) -> None:
    parts = apportion(total, credits, schedule)
    shape = schedule_weights(len(credits), schedule)
    weights = [c / max(credits) * w for c, w in zip(credits, shape, strict=True)]
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - total * weight / sum(weights)) < 1 + 1e-6 * total


def test_credits_share_in_proportion() -> None:
    assert apportion(100, [1, 1, 2]) == [25, 25, 50]
    assert apportion(10, [1, 1, 1]) == [4, 3, 3]


@pytest.mark.parametrize("schedule", SCHEDULES[1:])
def test_decaying_schedules_give_early_questions_more(schedule: Schedule) -> None:
    parts = apportion(1_000, [1] * 5, schedule)
    assert parts == sorted(parts, reverse=True)
    assert parts[0] > 200 > parts[-1] > 0


def test_every_sub_question_gets_the_least() -> None:
    assert apportion(100, [0, 1], least=20) == [20, 80]


@pytest.mark.parametrize(
    "wrong",
    [
        {"credits": []},
        {"credits": [0, 0]},
        {"credits": [-1, 2]},
        {"credits": [float("nan")]},
        {"credits": [1], "schedule": "zigzag"},
        {"credits": [1, 1], "least": 60},
    ],
)
def test_what_cannot_be_split_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BudgetError):
        apportion(100, **wrong)
