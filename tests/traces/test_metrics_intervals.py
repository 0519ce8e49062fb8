"""Intervals and calibration: they must cover what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from tta_langgraph.errors import TraceError
from tta_langgraph.traces.metrics_calibration import auc, brier, calibration_error, reliability
from tta_langgraph.traces.metrics_intervals import (
    Interval,
    bootstrap,
    mcnemar,
    paired_difference,
    proportion,
    standing,
    wilson,
)


def test_a_bootstrap_over_questions_covers_the_true_mean_about_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        interval = bootstrap(rng.random(120) < 0.7, draws=400, seed=trial)
        hits += interval.low <= 0.7 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_resampling_databases_widens_the_interval_when_their_questions_stand_and_fall_together() -> None:
    rng = np.random.default_rng(1)
    easy = rng.random(20) < 0.5
    values, databases = np.repeat(easy, 25).astype(float), np.repeat(np.arange(20), 25)
    by_question, by_database = bootstrap(values), bootstrap(values, clusters=list(databases))
    assert by_database.high - by_database.low > 3 * (by_question.high - by_question.low)


def test_a_ratio_of_sums_is_bootstrapped_as_one() -> None:
    tokens, right = np.array([100.0, 300.0, 200.0]), np.array([1.0, 0.0, 1.0])
    assert bootstrap(tokens, per=right).value == pytest.approx(300.0)


def test_pairing_removes_the_difficulty_of_the_questions() -> None:
    rng = np.random.default_rng(2)
    difficulty = rng.normal(size=300)
    a, b = difficulty + 0.05, difficulty
    paired = paired_difference(a, b)
    assert (paired.low, paired.high) == pytest.approx((0.05, 0.05))
    assert bootstrap(a).high - bootstrap(a).low > 0.1


def test_mcnemar_counts_only_the_questions_on_which_two_answerers_differ() -> None:
    a = np.array([1] * 50 + [1] * 8 + [0] * 1 + [0] * 20)
    b = np.array([1] * 50 + [0] * 8 + [1] * 1 + [0] * 20)
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b) == (8, 1)
    assert found.p_value == pytest.approx(2 * (1 + 9) / 2**9)  # exact binomial tail: 0 or 1 of 9, both sides
    assert mcnemar(a, a).p_value == 1.0


def test_wilson_matches_its_closed_form_at_the_edge() -> None:
    # With nothing right the upper end is z² / (n + z²).
    assert wilson(0, 10).high == pytest.approx(1.959964**2 / (10 + 1.959964**2), rel=1e-5)
    assert wilson(0, 10).low == 0.0


def test_empty_and_uneven_inputs_are_refused() -> None:
    with pytest.raises(TraceError):
        bootstrap([])
    with pytest.raises(TraceError):
        bootstrap([1.0, 0.0], clusters=["a"])
    with pytest.raises(TraceError, match="outside"):
        brier([1.2], [1])


def test_brier_of_always_half_is_a_quarter() -> None:
    assert brier([0.5] * 8, [1, 0] * 4) == 0.25


def test_a_calibrated_forecaster_has_a_small_calibration_error_and_an_overconfident_one_does_not() -> None:
    rng = np.random.default_rng(3)
    p = rng.random(40_000)
    right = rng.random(40_000) < p
    assert calibration_error(p, right) < 0.015
    assert calibration_error(np.where(p < 0.5, 0.0, 1.0), right) > 0.2  # it is off by a quarter on average


def test_reliability_bins_hold_every_answer_once_even_at_the_edges() -> None:
    p = [0.0, 0.1, 0.1, 0.5, 1.0, 1.0]
    for equal_mass in (False, True):
        assert sum(b.n for b in reliability(p, [0, 0, 1, 1, 1, 1], bins=4, equal_mass=equal_mass)) == 6


def test_auc_is_the_chance_that_a_right_answer_outranks_a_wrong_one() -> None:
    p, right = np.array([0.2, 0.4, 0.4, 0.9, 0.1]), np.array([0, 1, 0, 1, 0])
    pairs = [(x > y) + 0.5 * (x == y) for x in p[right == 1] for y in p[right == 0]]
    assert auc(p, right) == pytest.approx(np.mean(pairs))
    assert np.isnan(auc([0.3], [1]))


def test_all_right_on_two_questions_is_not_certainty() -> None:
    found = proportion([1.0, 1.0])
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(wilson(2, 2).low)
    assert proportion([0.0] * 8, clusters=list("abcdefgh")).high == pytest.approx(wilson(0, 8).high)


def test_a_handful_of_questions_gets_an_interval_made_for_few() -> None:
    assert proportion([1.0, 1.0, 0.5]).low == pytest.approx(wilson(2.5, 3).low)


def test_databases_that_are_many_and_differ_are_resampled() -> None:
    right, groups = [1.0, 1.0, 0.0, 0.0] * 20, [i // 3 for i in range(80)]
    found = bootstrap(right, clusters=groups, draws=200)
    assert proportion(right, clusters=groups, draws=200) == found


def test_a_difference_is_judged_by_its_interval_and_not_by_its_upper_end_alone() -> None:
    def judged(value: float, low: float, high: float, n: int = 100) -> str:
        return standing(Interval(value=value, low=low, high=high), n=n)

    assert judged(-0.019, -0.07, 0.026) == "undecided"
    assert judged(-0.05, -0.09, -0.01) == "below"
    assert judged(0.004, -0.02, 0.03) == "not below"
    assert judged(-0.002, -0.008, 0.004) == "not below", "within the margin"
    assert judged(0.0, 0.0, 0.0, n=2) == "undecided", "two questions decide nothing"
