"""Comparisons of frontiers say what each strategy costs, and nothing where there is nothing to compare."""

from __future__ import annotations

import math

import pytest

from tta_langgraph.traces.frontier import Point, compare, frontier


def test_the_best_static_strategy_keeps_its_own_cost_where_the_policy_starts_dearer() -> None:
    static = frontier([(1.0, 0.5), (3.1, 0.639)])
    policy, oracle = frontier([(8.7, 0.556), (9.7, 0.644)]), frontier([(8.7, 0.556), (10.0, 0.7)])
    found = compare(policy, static, oracle)
    assert found.static_cost == 3.1
    assert found.cost_ratio == pytest.approx(policy.cost_of(0.639) / 3.1)


def test_costs_that_do_not_overlap_give_no_area_and_say_so() -> None:
    static = frontier([(1.0, 0.5), (3.1, 0.639)])
    found = compare(frontier([(8.7, 0.556), (9.7, 0.644)]), static, frontier([(0.5, 0.5), (10.0, 0.7)]))
    assert math.isnan(found.area_share)
    assert found.no_area == "the policy's cheapest point costs more than the best static strategy"
    assert found.worst_gap == pytest.approx(0.639 - 0.556)
    assert found.worst_gap_at == 8.7


def test_a_best_static_strategy_that_is_the_cheapest_leaves_no_range_and_says_so() -> None:
    static = frontier([(10.0, 1.0)])
    found = compare(static, static, static)
    assert math.isnan(found.area_share)
    assert found.no_area == "the best static strategy is the cheapest, which leaves no range of costs"


def test_no_share_of_the_area_is_given_where_a_static_strategy_beats_the_oracle() -> None:
    static = frontier([Point(name="one_shot", cost=10, accuracy=0.5), Point(name="reflect(1)", cost=20, accuracy=0.8)])
    found = compare(static, static, frontier([(10, 0.5), (40, 0.9)]))
    assert math.isnan(found.area_share)
    assert "reflect(1)" in found.no_area
