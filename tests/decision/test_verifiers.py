"""Imperfect verifiers, evidence as odds, and what looking closer is worth."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tta_langgraph.decision import Action, Agreement, Policy, Utility
from tta_langgraph.decision.allocation import split
from tta_langgraph.decision.posterior import expected_best_after_verdict, posterior, value_of_information
from tta_langgraph.decision.verifier import Verifier, best_attempts_mixed
from tta_langgraph.errors import PolicyError
from tta_langgraph.evidence import Evidence, Execution, Verdict


def test_precision_is_what_a_simulated_verifier_shows() -> None:
    rng, verifier, p = random.Random(1), Verifier(r=0.9, f=0.4), 0.3
    passed = right = 0
    for _ in range(60_000):
        is_right = rng.random() < p
        if rng.random() < (verifier.r if is_right else verifier.f):
            passed += 1
            right += is_right
    assert verifier.precision(p) == pytest.approx(right / passed, abs=0.01)


def test_more_samples_do_not_raise_precision() -> None:
    verifier = Verifier(r=1.0, f=0.5)
    assert verifier.accuracy(0.2, 10_000) == pytest.approx(verifier.precision(0.2))


def test_a_verifier_that_accepts_everything_says_nothing() -> None:
    assert Verifier(r=1.0, f=1.0).precision(0.37) == pytest.approx(0.37)
    assert Verifier(r=1.0, f=1.0).log_ratio(1.0) == 0


def test_the_best_number_of_attempts_is_small_on_mixed_questions() -> None:
    verifier, mixture = Verifier(r=1.0, f=0.3), [(0.5, 0.8), (0.5, 0.05)]

    def reward(k: int, wrong: float) -> float:
        total = 0.0
        for share, p in mixture:
            answered = 1 - (1 - verifier.pass_rate(p)) ** k
            precision = verifier.precision(p)
            total += share * answered * (precision - wrong * (1 - precision))
        return total

    for wrong in (0.5, 1.0, 2.0):
        searched = max(range(200), key=lambda k: (reward(k, wrong), -k))
        assert best_attempts_mixed(mixture, verifier, wrong=wrong, most=199) == searched
        assert searched < 10
    assert verifier.best_attempts(0.05, wrong=2.0) == 0


@pytest.mark.parametrize("rates", [(-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_rates_outside_zero_and_one_are_refused(rates: tuple[float, float]) -> None:
    with pytest.raises(PolicyError):
        Verifier(*rates)


def test_evidence_adds_up_as_log_odds() -> None:
    import math

    assert posterior(0.5, [math.log(3), math.log(2)]) == pytest.approx(6 / 7)
    assert posterior(0.0, [5.0]) == 0.0
    assert posterior(1.0, [-5.0]) == 1.0


def test_a_verdict_is_worth_something_only_if_it_can_change_the_answer() -> None:
    judge = Verifier(r=0.9, f=0.2)
    assert expected_best_after_verdict([0.7], 0, judge) == pytest.approx(0.7)
    assert expected_best_after_verdict([0.8, 0.02], 0, judge) == pytest.approx(0.8)
    rng, total, runs = random.Random(4), 0, 60_000
    for _ in range(runs):
        draw = rng.random()
        truth = 0 if draw < 0.45 else 1 if draw < 0.85 else 2
        accepted = rng.random() < (judge.r if truth == 0 else judge.f)
        # Accepted: keep the leader; rejected: the other one is likelier.
        total += (truth == 0) if accepted else (truth == 1)
    assert expected_best_after_verdict([0.45, 0.4], 0, judge) == pytest.approx(total / runs, abs=0.01)


def test_information_is_gathered_if_and_only_if_it_is_worth_its_cost(snapshot: Any) -> None:
    assert value_of_information(0.6, 0.5, value=1.0, cost=0.05) == pytest.approx(0.05)
    cheap = Policy(predictor=Agreement(), actions=["judge"], utility=Utility(per_token=1e-6, per_second=0.0))
    assert cheap.decide(snapshot("a", "b")).action == "judge"
    assert cheap.decide(snapshot("a", "a")).action == "stop"
    assert cheap.with_utility(per_token=1.0).decide(snapshot("a", "b")).action == "stop"


def test_a_query_that_merely_runs_is_not_taken_for_right(snapshot: Any) -> None:
    ran = Agreement().assess(snapshot("a"), [])
    assert 0.3 < ran.p_now < 0.85
    assert Agreement().assess(snapshot(None), []).p_now < 0.05


def test_rejection_and_empty_results_lower_belief_and_acceptance_raises_it(candidate: Any, snapshot: Any) -> None:
    def judged(score: float | None, *, empty: bool = False) -> float:
        verdicts = () if score is None else (Verdict(score=score, label="SUCCESS"),)
        execution = Execution(ok=True, key="a", n_rows=0 if empty else 3, empty=empty)
        moment = snapshot(candidate("a", evidence=Evidence(execution=execution, verdicts=verdicts)))
        return Agreement().assess(moment, []).p_now

    assert judged(0.0) < judged(None) < judged(1.0)
    assert judged(None, empty=True) < judged(None)


def test_the_vote_is_left_when_evidence_speaks_for_another_answer(candidate: Any, snapshot: Any) -> None:
    ran = Execution(ok=True, key="x", n_rows=3)
    rejected = candidate("a", evidence=Evidence(execution=ran, verdicts=(Verdict(score=0.0, label="PIVOT"),)))
    other = candidate("b", evidence=Evidence(execution=ran, verdicts=(Verdict(score=1.0, label="SUCCESS"),)))
    moment = snapshot(rejected, other)
    by_predictor = Policy(predictor=Agreement(), selection="predictor").decide(moment)
    by_vote = Policy(predictor=Agreement(), selection="execution_vote").decide(moment)
    assert (by_predictor.candidate, by_vote.candidate) == (other.id, rejected.id)
    assert by_predictor.p_correct > by_vote.p_correct


def test_failed_questions_are_given_up_when_more_samples_cannot_pay(snapshot: Any) -> None:
    policy = Policy(predictor=Agreement(), actions=["resample(1)"], utility=Utility(per_token=2e-4))
    actions = [policy.decide(snapshot(*[None] * n)).action for n in range(1, 12)]
    assert actions[0] == "resample"
    assert actions[-1] == "stop"


def test_votes_come_before_verdicts_and_solutions_grow_faster() -> None:
    assert split(4).verdicts == 0
    assert split(4).solutions == 4
    big, bigger = split(256), split(4096)
    assert bigger.solutions / big.solutions == pytest.approx(16**0.57, rel=0.25)
    assert bigger.verdicts / big.verdicts == pytest.approx(16**0.39, rel=0.25)
    for budget in (1, 10, 16, 100, 1_000):
        found = split(budget)
        assert found.solutions * (1 + found.verdicts) <= budget
    with pytest.raises(PolicyError):
        split(0)


def test_agreement_forecasts_every_action_it_is_asked_about(snapshot: Any) -> None:
    actions = [Action("resample", 4), Action("judge"), Action("dance")]
    found = Agreement().assess(snapshot("a", "b"), actions)
    assert set(found.forecasts) == set(actions)
    assert found.forecasts[Action("dance")].p_correct == found.p_now
