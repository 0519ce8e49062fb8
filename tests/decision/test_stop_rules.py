"""Published stop rules and formulas against closed forms, other libraries and simulation."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from tta_langgraph.decision import Action, Policy, Rates, Saturating, ScoreTail, Snapshot, Transitions, VoteStability
from tta_langgraph.decision.calibration import Platt
from tta_langgraph.decision.pets import Curve, allocate, fit_curve, fit_curves
from tta_langgraph.decision.saturation import Saturation, best_rounds, chain, fit_saturation
from tta_langgraph.decision.score_tail import TruncatedNormal, fit_truncated_normal
from tta_langgraph.decision.transitions import Transition, TransitionTable
from tta_langgraph.decision.vote_stability import beta_confidence, dirichlet_confidence
from tta_langgraph.errors import PolicyError
from tta_langgraph.evidence import Evidence, Verdict


@pytest.mark.parametrize("votes", [(0, 0), (1, 0), (3, 0), (4, 0), (5, 2), (30, 9), (2, 2)])
def test_beta_confidence_is_one_minus_the_incomplete_beta_at_a_half(votes: tuple[int, int]) -> None:
    special = pytest.importorskip("scipy.special", reason="scipy is not installed")
    v1, v2 = votes
    assert beta_confidence(v1, v2) == pytest.approx(1 - special.betainc(v1 + 1, v2 + 1, 0.5), abs=1e-12)


def test_adaptive_consistency_needs_four_equal_answers_at_95_percent() -> None:
    # 1 − 2^−(v+1): 0.9375 for three, 0.96875 for four.
    assert beta_confidence(3, 0) == 1 - 2**-4
    assert beta_confidence(4, 0) == 1 - 2**-5


@pytest.mark.parametrize("votes", [[3, 1, 1], [5, 4, 1, 1], [2, 2, 2], [12, 3, 2, 1, 1]])
def test_dirichlet_confidence_is_what_gamma_draws_estimate(votes: list[int]) -> None:
    rng = random.Random(11)
    draws = 40_000
    wins = 0
    for _ in range(draws):
        shares = [rng.gammavariate(v + 1, 1.0) for v in votes]
        wins += max(shares) == shares[0]
    assert dirichlet_confidence(votes) == pytest.approx(wins / draws, abs=4 * math.sqrt(0.25 / draws))
    assert dirichlet_confidence(votes) == dirichlet_confidence(list(reversed(votes)))


def test_dirichlet_confidence_of_equal_answers_is_an_equal_share_and_of_two_the_beta() -> None:
    assert dirichlet_confidence([1, 1, 1, 1]) == pytest.approx(0.25, abs=1e-6)
    assert dirichlet_confidence([4, 1]) == beta_confidence(4, 1)


def test_adaptive_consistency_stops_at_the_threshold_and_at_the_most(snapshot: Any) -> None:
    rule = Policy.static("adaptive_consistency", threshold=0.95, most=6)
    assert rule.decide(snapshot(*"aaa")).action == "resample"
    assert rule.decide(snapshot(*"aaaa")).action == "stop"
    assert rule.decide(snapshot(*"ababab")).action == "stop"


def test_esc_fills_windows_and_stops_at_a_unanimous_one(snapshot: Any) -> None:
    rule = Policy.static("esc", window=4, most=10)
    first = rule.decide(snapshot("a"))
    assert (first.action, first.n) == ("resample", 3)
    assert rule.decide(snapshot(*"aaaa")).action == "stop"
    assert rule.decide(snapshot(*"aaab")).n == 4
    assert rule.decide(snapshot("b", *"abbaaaa")).action == "stop"
    assert rule.decide(snapshot(None, None, None, None)).action == "resample"  # failures agree on nothing
    assert rule.decide(snapshot(*"abababab")).n == 2
    assert rule.decide(snapshot(*"ababababab")).action == "stop"


def test_best_of_and_reflect_run_their_plan_and_no_more(snapshot: Any) -> None:
    best_of = Policy.static("best_of", 4)
    assert (best_of.decide(snapshot("a")).action, best_of.decide(snapshot("a")).n) == ("resample", 3)
    assert best_of.decide(snapshot(*"abca", used={"resample": 1})).action == "stop"
    reflect = Policy.static("reflect", 2)
    assert [reflect.decide(snapshot("a", used={"reflect": k})).action for k in range(3)] == [
        "reflect",
        "reflect",
        "stop",
    ]
    assert Policy.one_shot().decide(snapshot("a")).action == "stop"


def test_a_plan_that_does_not_fit_in_the_budget_ends(snapshot: Any) -> None:
    assert Policy.static("best_of", 8).decide(snapshot("a", tokens_left=100.0)).action == "stop"


@pytest.mark.parametrize(
    ("kind", "settings"), [("best_of", {"n": 0}), ("dice", {}), ("esc", {"windows": 3}), ("best_of", {})]
)
def test_strategies_that_do_not_exist_are_refused(kind: str, settings: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        Policy.static(kind, **settings)


def test_saturation_stops_where_the_next_sample_no_longer_pays() -> None:
    curve = Saturation(0.8, 0.3)
    assert curve.at(0) == 0
    assert curve.marginal(3) == pytest.approx(curve.at(4) - curve.at(3))
    for price in (0.001, 0.01, 0.05, 0.2, 0.3):
        searched = next(n for n in range(1_000) if curve.at(n + 1) - curve.at(n) <= price)
        assert curve.best_n(price) == searched


def test_a_saturation_curve_is_found_again() -> None:
    truth = Saturation(0.72, 0.41)
    fitted = fit_saturation([(n, truth.at(n)) for n in (1, 2, 3, 5, 8)])
    assert (fitted.limit, fitted.p) == (pytest.approx(0.72, abs=1e-3), pytest.approx(0.41, abs=1e-3))
    with pytest.raises(PolicyError):
        fit_saturation([(1, 0.5)])


def test_the_chain_is_the_two_state_markov_chain() -> None:
    rates, c = Rates(0.3, 0.1), 0.4
    for k, value in enumerate(chain(rates, 0.4, 6)):
        if k:
            c = (1 - c) * 0.3 + c * 0.9
        assert value == pytest.approx(c)
    absorbing = chain(Rates(0.25, 0.0), 0.2, 30)
    assert absorbing[3] == pytest.approx(1 - 0.8 * 0.75**3)
    assert best_rounds(Rates(0.25, 0.0), 0.2, price=0.05) == next(
        k for k in range(30) if absorbing[k + 1] - absorbing[k] <= 0.05
    )


def test_reflection_helps_only_below_its_break_even() -> None:
    rates = Rates(0.2, 0.1)
    assert rates.break_even == pytest.approx(2 / 3)
    assert rates.gain(0.66) > 0 > rates.gain(0.67)
    assert rates.after(rates.break_even) == pytest.approx(rates.break_even)


def test_transition_counts_move_the_prior_and_back_off_to_coarser_ones() -> None:
    reflect = Action("reflect")
    seen = [Transition(reflect, "small", "ran", 0, False, i < 2) for i in range(200)]
    seen += [Transition(reflect, "small", "ran", 0, True, i >= 60) for i in range(200)]
    table = TransitionTable.fit(seen)
    exact = table.rates(reflect, model="small", state="ran", round=0)
    assert exact.p_fix == pytest.approx(0.01, abs=0.01)
    assert exact.p_break == pytest.approx(0.3, abs=0.02)
    assert exact.break_even < 0.1
    other_model = table.rates(reflect, model="large", state="ran", round=0)
    untouched = table.rates(reflect, model="small", state="failed", round=0)
    assert other_model.p_break > TransitionTable().rates(reflect, state="ran").p_break
    assert untouched == TransitionTable().rates(reflect, state="failed")


def test_a_model_that_copies_itself_is_not_asked_to_reflect(snapshot: Any) -> None:
    reflect = Action("reflect")
    copied = [Transition(reflect, "", "failed", 0, False, False) for _ in range(60)]
    learned = Policy(predictor=Transitions(table=TransitionTable.fit(copied)), actions=["reflect"])
    assert Policy(predictor=Transitions(), actions=["reflect"]).decide(snapshot(None)).action == "reflect"
    assert learned.decide(snapshot(None)).action == "stop"


def test_truncated_normal_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    mine = TruncatedNormal(0.7, 0.25)
    theirs = stats.truncnorm((0 - 0.7) / 0.25, (1 - 0.7) / 0.25, loc=0.7, scale=0.25)
    for s in (0.0, 0.1, 0.5, 0.9, 1.0):
        assert mine.cdf(s) == pytest.approx(theirs.cdf(s), abs=1e-9)
    assert mine.expected_max(1) == pytest.approx(theirs.mean(), abs=1e-5)


def test_n_star_is_the_least_number_that_reaches_the_target() -> None:
    scores = TruncatedNormal(0.5, 0.2)
    n = scores.samples_for(0.8, q=0.05)
    assert 1 - scores.cdf(0.8) ** n >= 0.95 > 1 - scores.cdf(0.8) ** (n - 1)
    assert scores.samples_for(1.5, q=0.05, most=32) == 32
    assert scores.samples_for(0.0, q=0.05) == 1


def test_scores_seen_move_the_score_distribution() -> None:
    low = fit_truncated_normal([0.1, 0.15, 0.2, 0.12, 0.18, 0.1])
    assert low.mu < 0.3
    assert low.samples_for(0.9) > fit_truncated_normal([0.8, 0.9, 0.85]).samples_for(0.9)


def test_score_tail_answers_the_best_scored_candidate_and_stops_at_the_top(candidate: Any) -> None:
    def scored(score: float) -> Any:
        return candidate(f"k{score}", evidence=Evidence(verdicts=(Verdict(score=score, label="SUCCESS"),)))

    tail = ScoreTail()
    low, high = scored(0.2), scored(0.99)
    moment = Snapshot(candidates=(low, high))
    found = tail.assess(moment, [Action("resample", 4)])
    assert found.best == high.id
    gains = [
        tail.assess(Snapshot(candidates=(c,)), [Action("resample", 4)]).forecasts[Action("resample", 4)].p_correct
        - tail.calibrator(score)
        for c, score in ((low, 0.2), (high, 0.99))
    ]
    assert gains[0] > 10 * gains[1] >= 0


def test_vote_stability_expects_what_a_simulated_vote_gives(snapshot: Any) -> None:
    calibrator = Platt(5.0, -3.0)
    rng, total, runs = random.Random(3), 0.0, 30_000
    for _ in range(runs):
        share = rng.betavariate(3, 2)  # posterior of the leader's share after 2 votes to 1
        k = sum(rng.random() < share for _ in range(4))
        one, two = 2 + k, 1 + 4 - k
        total += calibrator(beta_confidence(max(one, two), min(one, two)))
    found = VoteStability(calibrator=calibrator).assess(snapshot("a", "a", "b"), [Action("resample", 4)])
    assert found.forecasts[Action("resample", 4)].p_correct == pytest.approx(total / runs, abs=0.01)


def test_saturating_knows_the_number_of_samples_only(snapshot: Any) -> None:
    predictor = Saturating(samples=Saturation(0.8, 0.5))
    found = predictor.assess(snapshot("a", "b"), [Action("resample", 2), Action("judge")])
    assert found.p_now == pytest.approx(0.8 * 0.75)
    assert found.forecasts[Action("resample", 2)].p_correct == pytest.approx(0.8 * (1 - 0.5**4))
    assert Action("judge") not in found.forecasts


def test_pets_curve_is_found_again_and_rises_with_k() -> None:
    truth = Curve(0.4, -0.2)
    fitted = fit_curve([(k, truth.at(k), 10**6) for k in (4, 8, 16, 32)])
    assert (fitted.a, fitted.b) == (pytest.approx(0.4, abs=0.01), pytest.approx(-0.2, abs=0.02))


def test_pets_gives_the_split_questions_more_and_keeps_to_the_mean() -> None:
    rng = random.Random(2)
    easy = [["a" if rng.random() < 0.95 else "b" for _ in range(32)] for _ in range(150)]
    hard = [["a" if rng.random() < 0.6 else "b" for _ in range(32)] for _ in range(150)]
    curves = fit_curves(easy + hard, first=4)
    given = allocate(curves, 10, first=4, most=32)
    assert given[(2, 2)] > given[(4,)]
    assert sum(share * given[pattern] for pattern, (_, share) in curves.items()) <= 10 + 1e-9


def test_pets_allocation_is_the_best_there_is() -> None:
    curves = {(4,): (Curve(0.9, 0.3), 0.5), (2, 2): (Curve(0.35, -0.4), 0.5)}

    def agreement(split: tuple[int, int]) -> float:
        return sum(share * curve.at(k) for k, (curve, share) in zip(split, curves.values(), strict=True))

    best = max(((i, j) for i in range(4, 17) for j in range(4, 17) if (i + j) / 2 <= 8), key=agreement)
    assert agreement(tuple(allocate(curves, 8, first=4, most=16).values())) == pytest.approx(agreement(best), abs=1e-9)  # type: ignore[arg-type]
    with pytest.raises(PolicyError):
        allocate(curves, 2, first=4)


def test_an_allocation_runs_as_a_strategy(snapshot: Any) -> None:
    rule = Policy.static("pets", samples={"4": 4, "2-2": 12}, first=4)
    assert rule.decide(snapshot("a")).n == 3
    assert rule.decide(snapshot(*"aaaa")).action == "stop"
    assert rule.decide(snapshot(*"abab")).n == 8
