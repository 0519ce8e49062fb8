"""Promise 1: after every admission, spent + reserved <= limit, in every dimension. And 2: busy is not exhausted."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tta_langgraph import Budget, BudgetExceededError, budget_scope, budgeted
from tta_langgraph.budget import BudgetTracker, Usage
from tta_langgraph.ledger import Ledger, Refusal, Request, Reservation
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model


def ledger(**limits: object) -> Ledger:
    return Ledger(BudgetTracker.start(Budget(**limits)))


def call(prompt: int = 10, cap: int = 100, **more: object) -> Request:
    return Request(prompt_tokens=prompt, completion_tokens=cap, model_calls=1, **more)  # type: ignore[arg-type]


def admitted(outcome: Reservation | Refusal) -> Reservation:
    assert isinstance(outcome, Reservation), outcome
    return outcome


def refused(outcome: Reservation | Refusal) -> Refusal:
    assert isinstance(outcome, Refusal), outcome
    return outcome


def test_the_completion_cap_is_clamped_to_what_remains() -> None:
    reservation = admitted(ledger(tokens=50).try_reserve(call(prompt=10, cap=100)))
    assert reservation.completion_tokens == 40
    assert reservation.bound.tokens == 50


def test_the_cap_is_shared_by_all_samples_of_a_request() -> None:
    reservation = admitted(ledger(tokens=90).try_reserve(call(prompt=10, cap=100, n=4)))
    assert reservation.completion_tokens == 20
    assert reservation.bound.completion_tokens == 80


def test_a_prompt_that_does_not_fit_is_refused_for_good() -> None:
    refusal = refused(ledger(tokens=50).try_reserve(call(prompt=60)))
    assert (refusal.dimension, refusal.busy, refusal.limit) == ("tokens", False, 50)


def test_a_call_that_may_fit_later_is_told_to_wait_and_one_that_cannot_is_not() -> None:
    account = ledger(tokens=100)
    admitted(account.try_reserve(call(prompt=10, cap=80), owner="a"))
    assert refused(account.try_reserve(call(prompt=20, cap=50), owner="b")).busy
    assert not refused(account.try_reserve(call(prompt=200, cap=50), owner="b")).busy


def test_nobody_waits_for_what_it_holds_itself() -> None:
    account = ledger(tokens=100)
    admitted(account.try_reserve(call(prompt=10, cap=80), owner="a"))
    # The same owner streams one call and makes another inside the loop: waiting would never end.
    assert not refused(account.try_reserve(call(prompt=20, cap=50), owner="a")).busy


def test_what_settles_below_its_bound_is_handed_to_the_first_who_waits() -> None:
    account = ledger(tokens=200)
    first = admitted(account.try_reserve(call(prompt=10, cap=190), owner="a"))
    served: list[str] = []
    for name in ("b", "c"):
        account.enqueue(call(prompt=10, cap=100), name, lambda _, name=name: served.append(name))
    assert served == []
    first.settle(Usage(prompt_tokens=10, completion_tokens=5, model_calls=1))
    assert served == ["b"], "c must wait for b: together they do not fit"


def test_a_waiter_that_leaves_does_not_hold_up_those_behind_it() -> None:
    account = ledger(tokens=120)
    admitted(account.try_reserve(call(prompt=10, cap=100), owner="a"))
    outcomes: list[object] = []
    leave = account.enqueue(call(prompt=50, cap=60), "b", outcomes.append)
    account.enqueue(Request(prompt_tokens=5, completion_tokens=5), "c", outcomes.append)
    assert outcomes == []
    leave()
    assert [type(outcome) for outcome in outcomes] == [Reservation]


@pytest.mark.parametrize("dimension", ["tokens", "prompt_tokens", "completion_tokens", "model_calls", "executions"])
def test_zero_left_means_refuse_never_unlimited(dimension: str) -> None:
    account = ledger(**{dimension: 1})
    account.absorb(
        [admitted(account.try_reserve(Request(source="x"))).settle(_one_of(dimension))]  # type: ignore[list-item]
    )
    request = Request(prompt_tokens=1, completion_tokens=1, model_calls=1, executions=1)
    assert refused(account.try_reserve(request)).dimension == dimension


def _one_of(dimension: str) -> Usage:
    return Usage(prompt_tokens=1) if dimension == "tokens" else Usage(**{dimension: 1})


def test_the_price_limits_the_cap_too() -> None:
    request = call(prompt=100, cap=1_000, usd=lambda prompt, completion: prompt * 1e-6 + completion * 1e-5)
    reservation = admitted(ledger(usd=0.0051).try_reserve(request))
    assert reservation.completion_tokens == 500
    assert reservation.bound.usd <= 0.0051


def test_only_a_final_call_may_touch_the_reserve() -> None:
    account = ledger(tokens=100, reserve=40)
    assert admitted(account.try_reserve(call(prompt=10, cap=100), owner=1)).completion_tokens == 50
    account = ledger(tokens=100, reserve=40)
    assert refused(account.try_reserve(call(prompt=70, cap=10))).limit == 60
    assert admitted(account.try_reserve(call(prompt=70, cap=100, final=True))).completion_tokens == 30


def test_nested_budgets_conserve_and_the_outermost_exhausted_limit_wins() -> None:
    outer = ledger(tokens=100)
    inner = Ledger(outer.tracker().nested(Budget(tokens=80)), parent=outer)
    reservation = admitted(inner.try_reserve(call(prompt=10, cap=1_000)))
    assert reservation.bound.tokens == 80
    reservation.settle(Usage(prompt_tokens=10, completion_tokens=70))
    assert outer.spent.tokens == inner.spent.tokens == 80
    assert refused(inner.try_reserve(call(prompt=90))).limit == 100
    assert refused(inner.try_reserve(call(prompt=15, cap=1))).limit == 80


def test_a_sister_is_not_kept_waiting_by_a_branch_that_only_its_own_small_budget_clamps() -> None:
    outer = ledger(tokens=10_000)
    small = Ledger(outer.tracker().nested(Budget(tokens=50)), parent=outer)
    admitted(outer.try_reserve(call(cap=100), owner="elsewhere"))
    assert admitted(small.try_reserve(call(prompt=10, cap=500), owner="here")).completion_tokens == 40


@pytest.mark.parametrize("branches", [1, 8, 32, 128])
async def test_parallel_branches_never_overshoot_and_use_the_budget_up(branches: int) -> None:
    limit = branches * 60
    with ScriptedServer(script=lambda _: Reply(text="word " * 20, latency=0.005)) as server:
        model = budgeted(scripted_chat_model(server), max_completion_tokens=200)

        async def branch(name: int) -> None:
            for step in itertools.count():
                try:
                    await model.ainvoke(f"branch {name} step {step}")
                except BudgetExceededError:
                    return

        with budget_scope(Budget(tokens=limit)) as scope:
            await asyncio.gather(*(branch(name) for name in range(branches)))
        assert server.total <= limit
        assert scope.tracker.usage.tokens == server.total, "every token in the server's log is charged"
        if branches == 128:
            assert server.total >= 0.98 * limit
        assert scope.ledger.reserved == Usage()


async def test_a_report_above_the_reservation_is_charged_as_reported() -> None:
    account = ledger(tokens=100)
    reservation = admitted(account.try_reserve(call(prompt=10, cap=50)))
    reservation.settle(Usage(prompt_tokens=30, completion_tokens=50))
    assert account.spent.tokens == 80
    assert account.left("tokens") == 20
