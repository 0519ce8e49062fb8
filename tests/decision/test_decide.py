"""The decision rule of the design: U(a) = V·ΔP − λ_tokens·E[tokens] − λ_seconds·E[seconds]."""

from __future__ import annotations

from typing import Any

import pytest

from tests.decision.stub_predictor import Stub, forecast
from tta_langgraph.decision import Action, AdaptiveLambda, Ahead, Option, Policy, Snapshot, Utility
from tta_langgraph.errors import PolicyError


def policy(p_now: float, *told: Any, actions: tuple[Any, ...] | None = None, **settings: Any) -> Policy:
    rates = {"per_token": 1e-3, "per_second": 1e-2} | settings.pop("rates", {})
    return Policy(
        predictor=Stub(p_now, told),
        utility=Utility(**rates),
        actions=actions or tuple(str(f.action) for f in told),
        **settings,
    )


def rows(decision: Any) -> dict[str, dict[str, Any]]:
    return {row["action"]: row for row in decision.forecasts}


def test_takes_the_action_with_the_highest_utility(snapshot: Any) -> None:
    chosen = policy(0.4, forecast("reflect", 0.6, 50, 2), forecast("resample(4)", 0.7, 120, 1)).decide(snapshot("a"))
    # reflect: 0.2 − 0.05 − 0.02 = 0.13; resample: 0.3 − 0.12 − 0.01 = 0.17
    assert (chosen.action, chosen.n) == ("resample", 4)
    assert rows(chosen)["reflect"]["utility"] == pytest.approx(0.13)
    assert rows(chosen)["resample(4)"]["utility"] == pytest.approx(0.17)


def test_stops_when_nothing_is_worth_its_price(snapshot: Any) -> None:
    stopped = policy(0.9, forecast("reflect", 0.93, 50, 2)).decide(snapshot("a"))
    assert stopped.action == "stop"
    assert rows(stopped)["stop"]["utility"] == 0
    assert "reflect" in stopped.reason


def test_stops_at_a_utility_of_exactly_zero(snapshot: Any) -> None:
    rates = {"per_token": 0.0, "per_second": 0.0}
    assert policy(0.5, forecast("reflect", 0.5), rates=rates).decide(snapshot("a")).action == "stop"


def test_prices_of_time_and_tokens_lead_to_different_actions(snapshot: Any) -> None:
    told = (forecast("reflect", 0.6, 60, 4), forecast("resample(4)", 0.6, 400, 1))
    dear_tokens = policy(0.4, *told, rates={"per_token": 1e-3, "per_second": 0.0})
    dear_seconds = policy(0.4, *told, rates={"per_token": 0.0, "per_second": 0.1})
    assert dear_tokens.decide(snapshot("a")).action == "reflect"
    assert dear_seconds.decide(snapshot("a")).action == "resample"


@pytest.mark.parametrize(
    ("left", "why"),
    [
        ({"tokens_left": 149.0}, "150 tokens"),
        ({"seconds_left": 3.9}, "4.0 s"),
        ({"calls_left": 0.0}, "no model call left"),
        ({"executions_left": 0.0}, "executions"),
    ],
)
def test_an_action_must_fit_at_p90_in_what_is_left(snapshot: Any, left: dict[str, float], why: str) -> None:
    told = forecast("reflect", 0.9, 100, 2, tokens_p90=150, seconds_p90=4.0)
    refused = policy(0.1, told).decide(snapshot("a", **left))
    assert refused.action == "stop"
    assert rows(refused)["reflect"]["feasible"] is False
    assert why in rows(refused)["reflect"]["why"]
    assert policy(0.1, told).decide(snapshot("a", tokens_left=150.0, seconds_left=4.0)).action == "reflect"


def test_what_does_not_fit_gives_way_to_the_next_best(snapshot: Any) -> None:
    told = (forecast("resample(4)", 0.9, 400), forecast("resample(1)", 0.6, 100))
    chosen = policy(0.1, *told).decide(snapshot("a", tokens_left=200.0))
    assert (chosen.action, chosen.n) == ("resample", 1)


@pytest.mark.parametrize(("p_now", "action"), [(0.32, "abstain"), (0.34, "stop")])
def test_abstains_below_c_wrong_over_v_plus_c_wrong(snapshot: Any, p_now: float, action: str) -> None:
    decided = policy(p_now, rates={"value": 2.0, "wrong": 1.0}).decide(snapshot("a"))  # threshold 1/3
    assert decided.action == action


def test_never_abstains_without_a_cost_of_being_wrong(snapshot: Any) -> None:
    assert policy(0.0).decide(snapshot(None)).action == "stop"


def test_goes_on_rather_than_abstain_when_that_pays(snapshot: Any) -> None:
    assert policy(0.1, forecast("reflect", 0.8), rates={"wrong": 1.0}).decide(snapshot("a")).action == "reflect"


def test_a_look_ahead_replaces_the_first_step_in_the_utility_but_not_in_feasibility(snapshot: Any) -> None:
    # One step gains nothing, the plan that starts with it does.
    told = forecast("resample(1)", 0.4, 100, 1, ahead=Ahead(0.9, 250, 2))
    decided = policy(0.4, told).decide(snapshot("a", tokens_left=120.0))
    assert decided.action == "resample"
    assert rows(decided)["resample(1)"]["utility"] == pytest.approx(0.5 - 0.25 - 0.02)


def test_the_decision_records_what_led_to_it(snapshot: Any) -> None:
    moment = snapshot("a", "b", "b", tokens_left=900.0, seconds_left=7.5, step=2)
    decided = policy(0.4, forecast("reflect", 0.6)).decide(moment)
    assert decided.step == 2
    assert decided.candidate == moment.candidates[1].id
    assert (decided.p_correct, decided.predictor, decided.features) == (0.4, "stub", {"n": 3.0})
    assert (decided.tokens_left, decided.seconds_left) == (900.0, 7.5)
    recorded = "action p_correct tokens tokens_p90 seconds seconds_p90 utility feasible why predictor"
    assert set(rows(decided)["reflect"]) >= set(recorded.split())
    assert decided.reason == "reflect: P(correct) 0.40 -> 0.60 for 100 tokens and 1.0 s (gain 0.20, price 0.11)"


def test_a_close_decision_shows_by_how_much(snapshot: Any) -> None:
    decided = policy(0.4, forecast("reflect", 0.5091)).decide(snapshot("a"))
    assert (
        decided.reason == "stop: P(correct) 0.40; reflect -> 0.51 for 100 tokens and 1.0 s (gain 0.1091, price 0.1100)"
    )


def test_options_close_when_their_limit_is_reached(snapshot: Any, candidate: Any) -> None:
    told = forecast("reflect", 0.9)
    twice = policy(0.1, told, actions=(Option(action=Action("reflect"), max_uses=2),))
    assert twice.decide(snapshot("a", used={"reflect": 1})).action == "reflect"
    assert twice.decide(snapshot("a", used={"reflect": 2})).action == "stop"
    only_failed = policy(0.1, told, actions=(Option(action=Action("reflect"), when="failed"),))
    assert only_failed.decide(snapshot("a")).action == "stop"
    assert only_failed.decide(snapshot(None)).action == "reflect"


def test_reflection_is_offered_for_one_round_with_a_judge_and_three_with_execution(candidate: Any) -> None:
    for name, rounds in (("reflect:judge", 1), ("reflect:execution", 3), ("reflect", 3)):
        offering = policy(0.1, forecast(name, 0.9))
        for done in range(5):
            moment = Snapshot(candidates=(candidate("a", round=done),))
            assert (offering.decide(moment).action == name) == (done < rounds)


def test_nothing_to_reflect_on_before_there_is_a_candidate() -> None:
    assert policy(0.0, forecast("reflect", 0.9)).decide(Snapshot()).action == "stop"


def test_it_stops_after_so_many_decisions_whatever_the_forecasts_promise(snapshot: Any) -> None:
    endless = policy(0.1, forecast("resample(1)", 0.9), max_steps=3)
    assert endless.decide(snapshot("a", step=2)).action == "resample"
    assert endless.decide(snapshot("a", step=3)).action == "stop"


def test_prices_follow_the_budget_online(snapshot: Any) -> None:
    told = forecast("reflect", 0.55, 100, 0)
    adaptive = policy(0.4, told, adaptive=AdaptiveLambda(strength=2.0, steps=4), rates={"per_token": 1.2e-3})
    ahead_of_schedule = snapshot("a", tokens_left=100.0, spent_tokens=900.0)
    behind_schedule = snapshot("a", tokens_left=900.0, spent_tokens=100.0)
    assert adaptive.decide(ahead_of_schedule).action == "stop"
    assert adaptive.decide(behind_schedule).action == "reflect"


@pytest.mark.parametrize("rate", [-1.0, float("nan"), float("inf"), True])
@pytest.mark.parametrize("name", ["value", "wrong", "per_token", "per_second"])
def test_a_rate_must_be_a_finite_number_that_is_not_negative(name: str, rate: float) -> None:
    with pytest.raises(PolicyError, match=f"Utility.{name}"):
        Utility(**{name: rate})


@pytest.mark.parametrize("text", ["", "Reflect", "resample(0)", "resample(x)", "stop()", "a b"])
def test_what_is_not_an_action_is_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        Action.parse(text)


@pytest.mark.parametrize("text", ["stop", "resample(1)", "resample(4)", "reflect:judge", "escalate:gpt-4-1106/x"])
def test_actions_read_as_they_are_written(text: str) -> None:
    assert str(Action.parse(text)) == text
