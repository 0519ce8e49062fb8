"""Metrics against closed forms, Monte Carlo and published values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tta_langgraph.errors import TraceError
from tta_langgraph.traces.metrics import (
    VoteFit,
    anytime_area,
    cost_of_pass,
    coverage_curve,
    energy_per_token,
    fit_coverage,
    fit_vote,
    frontier_cost_of_pass,
    pass_at_k,
    price_reversals,
)


@pytest.mark.parametrize(("n", "c", "k"), [(5, 2, 1), (5, 2, 3), (5, 0, 2), (6, 6, 4), (7, 3, 7)])
def test_pass_at_k_is_the_share_of_subsets_that_hold_a_right_sample(n: int, c: int, k: int) -> None:
    subsets = list(itertools.combinations(range(n), k))
    share = sum(any(i < c for i in subset) for subset in subsets) / len(subsets)
    assert pass_at_k(n, c, k)[0] == pytest.approx(share)


def test_pass_at_k_does_not_overflow_for_thousands_of_samples() -> None:
    # With c = 1 of n the chance to catch it among k is k / n, whatever the size of the binomials.
    assert pass_at_k(10_000, 1, 2_500)[0] == pytest.approx(0.25)


def test_pass_at_k_refuses_more_samples_than_were_taken() -> None:
    with pytest.raises(TraceError, match="pass@8 needs at least 8 samples"):
        pass_at_k([10, 4], [1, 1], 8)


def test_coverage_curve_leaves_out_questions_with_too_few_samples() -> None:
    assert coverage_curve([(4, 2), (1, 1)], [1, 2]) == pytest.approx([0.75, 5 / 6])


def test_a_coverage_curve_gives_back_the_parameters_it_was_made_from() -> None:
    ks = np.array([1, 2, 4, 8, 16, 32])
    found = fit_coverage(ks, np.exp(-0.9 * ks**-0.45))
    assert (found.a, found.b) == pytest.approx((-0.9, -0.45), rel=1e-4)
    assert found(64) == pytest.approx(math.exp(-0.9 * 64**-0.45), rel=1e-4)


def test_a_flat_coverage_curve_is_refused_with_a_remedy() -> None:
    with pytest.raises(TraceError, match="Record more"):
        fit_coverage([1, 2, 4], [1.0, 1.0, 1.0])


def test_cost_of_pass_is_the_expected_cost_of_trying_until_it_is_right() -> None:
    rng = np.random.default_rng(0)
    tries = rng.geometric(0.25, size=200_000)
    assert cost_of_pass(30.0, 0.25) == pytest.approx(30 * tries.mean(), rel=0.01)
    assert cost_of_pass(30.0, 0.0) == math.inf


def test_the_frontier_cost_of_pass_is_that_of_the_cheapest_strategy_per_right_answer() -> None:
    name, cost = frontier_cost_of_pass({"small": (10.0, 0.2), "large": (100.0, 0.9), "useless": (1.0, 0.0)})
    assert (name, cost) == ("small", 50.0)


def test_a_model_with_cheaper_tokens_that_writes_more_of_them_is_a_price_reversal() -> None:
    listed = {"terse": 5e-6, "verbose": 1e-6, "unused": 1e-9}
    assert price_reversals(listed, {"terse": 0.01, "verbose": 0.04}) == [("verbose", "terse")]


def test_energy_per_token_needs_tokens() -> None:
    assert energy_per_token(300.0, 10.0, 1500.0) == 2.0
    with pytest.raises(TraceError):
        energy_per_token(300.0, 10.0, 0.0)


def test_the_anytime_area_is_the_mean_quality_when_stopped_at_a_random_moment() -> None:
    costs, quality, horizon = [10.0, 30.0, 60.0], [0.5, 0.6, 0.9], 80.0
    moments = np.random.default_rng(0).uniform(0, horizon, 400_000)
    held = np.concatenate([[0.0], quality])[np.searchsorted(costs, moments, side="right")]
    assert anytime_area(costs, quality, horizon) == pytest.approx(held.mean(), abs=3e-3)


def test_answers_after_the_horizon_add_nothing_to_the_anytime_area() -> None:
    assert anytime_area([10.0, 500.0], [0.5, 1.0], 100.0) == pytest.approx(0.45)


def test_a_vote_levels_off_no_lower_than_where_it_was_measured() -> None:
    measured = [0.480634, 0.540493, 0.573944, 0.605634, 0.625, 0.633803, 0.639085, 0.635563]
    found = fit_vote(range(1, 9), measured)
    assert found.limit > measured[-1]
    assert np.abs(found(range(1, 9)) - measured).max() < 0.01


def test_a_vote_curve_gives_back_the_parameters_it_was_made_from() -> None:
    made = VoteFit(start=0.5, limit=0.7, q=0.6, error=0.0)
    found = fit_vote([1, 2, 3, 5, 8], made([1, 2, 3, 5, 8]))
    assert (found.start, found.limit, found.q) == pytest.approx((0.5, 0.7, 0.6), abs=1e-6)
    with pytest.raises(TraceError, match="four"):
        fit_vote([1, 2, 3], [0.1, 0.2, 0.3])
