"""One episode may run under several budgets at a time: each is held to its limit and charged for its own calls."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tta_langgraph import Budget, BudgetTracker
from tta_langgraph.budget import Usage
from tta_langgraph.ledger import Ledger, Request, Reservation

PARENTS = 3
steps = st.lists(st.tuples(st.integers(0, PARENTS - 1), st.sampled_from("abc"), st.integers(1, 40)), max_size=40)


def ask(ledger: Ledger, tokens: int) -> Any:
    return ledger.try_reserve(Request(completion_tokens=tokens, min_completion=tokens), object())


@given(steps)
@settings(deadline=None)
def test_calls_of_sisters_that_share_an_episode_count_where_they_were_made(steps: list[tuple[int, str, int]]) -> None:
    parents = [Ledger(BudgetTracker.start(Budget(tokens=200))) for _ in range(PARENTS)]
    shared = Ledger(BudgetTracker.start(Budget(tokens=300)))
    spent = [0] * PARENTS
    open_calls: list[tuple[int, Reservation]] = []
    for who, kind, tokens in steps:
        if kind == "c" and open_calls:
            began, reservation = open_calls.pop(tokens % len(open_calls))
            used = min(tokens, reservation.bound.completion_tokens)
            reservation.settle(Usage(completion_tokens=used))
            spent[began] += used
            continue
        outcome = ask(shared.under(parents[who]), tokens)
        if isinstance(outcome, Reservation):
            open_calls.append((who, outcome))
        for ledger in (*parents, shared):
            assert ledger.spent.tokens + ledger.reserved.tokens <= (ledger.budget.tokens or 0)
    for began, reservation in open_calls:
        reservation.settle(Usage(completion_tokens=1))
        spent[began] += 1
    assert [parent.spent.tokens for parent in parents] == spent
    assert shared.spent.tokens == sum(spent)
    assert all(ledger.reserved.tokens == 0 for ledger in (*parents, shared))


def test_a_call_that_waits_under_one_parent_is_served_by_what_settles_under_another() -> None:
    here, there = (Ledger(BudgetTracker.start(Budget(tokens=100))) for _ in range(2))
    shared = Ledger(BudgetTracker.start(Budget(tokens=100)))
    held = ask(shared.under(here), 80)
    granted: list[Any] = []
    shared.under(there).enqueue(Request(completion_tokens=60, min_completion=60), object(), granted.append)
    assert not granted
    held.settle(Usage(completion_tokens=5))
    assert isinstance(granted[0], Reservation)
    assert (here.reserved.tokens, there.reserved.tokens, shared.reserved.tokens) == (0, 60, 60)
