"""Fitting: a policy learned from recordings finds what the best policy does, on databases it never saw."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from replay_worlds import repairable, two_kinds

from tta_langgraph.decision import Policy, Utility
from tta_langgraph.errors import PolicyError, TraceError
from tta_langgraph.traces.fit import fit, side_of, split
from tta_langgraph.traces.fit_candidates import preferred
from tta_langgraph.traces.fit_explore import explore, recorded_actions
from tta_langgraph.traces.model import Attempt, Pool
from tta_langgraph.traces.replay import replay
from tta_langgraph.traces.replay_columns import columns
from tta_langgraph.traces.replay_evaluate import evaluate
from tta_langgraph.traces.replay_result import Outcomes
from tta_langgraph.traces.tune import _cheapest, tune

pytest.importorskip("sklearn", reason="fitting needs scikit-learn (extra: learn)")


@pytest.fixture(scope="module")
def repaired() -> Policy:
    return fit(columns(repairable(160)), utility=Utility(per_token=1e-4, per_second=0), episodes=3, predictor="learned")


def test_a_split_never_divides_a_database_and_gives_each_side_its_share() -> None:
    fitting, testing = split(columns(two_kinds(120, databases=10)))
    assert not set(fitting.db_ids) & set(testing.db_ids)
    assert len(fitting) + len(testing) == 120
    assert 0.3 <= len(testing) / 120 <= 0.7


def test_the_recorded_split_wins() -> None:
    pools = [replace(p, split="test" if p.db_id == "db0" else "fit") for p in two_kinds(40)]
    fitting, testing = split(columns(pools))
    assert set(testing.db_ids) == {"db0"}
    assert "db0" not in fitting.db_ids


def test_one_database_cannot_be_split() -> None:
    with pytest.raises(TraceError, match="at least two databases"):
        split(columns(two_kinds(10, databases=1)))


def test_a_database_recorded_for_both_sides_is_refused() -> None:
    pools = [replace(p, split="test" if i < 20 else "fit") for i, p in enumerate(two_kinds(40))]
    with pytest.raises(TraceError, match="both sides"):
        split(columns(pools))


def test_an_unmarked_question_goes_with_its_database() -> None:
    pools = [
        replace(p, split=("test" if p.db_id == "db0" else "fit") if i < 20 else "") for i, p in enumerate(two_kinds(40))
    ]
    fitting, testing = split(columns(pools))
    assert set(testing.db_ids) == {"db0"}
    assert len(fitting) + len(testing) == 40


@pytest.mark.parametrize("mark", ["fit", "test"])
def test_what_was_recorded_for_one_side_alone_is_never_dealt_again(mark: str) -> None:
    table = columns([replace(p, split=mark) for p in two_kinds(40)])
    assert len(side_of(table, mark)) == 40
    other = "test" if mark == "fit" else "fit"
    with pytest.raises(TraceError, match=f"none .* marked {other}"):
        side_of(table, other)
    with pytest.raises(TraceError, match=f"none .* marked {other}"):
        split(table)


def test_one_database_alone_can_be_fitted_on() -> None:
    policy = fit(columns(repairable(60, databases=1)), episodes=2)
    assert policy.notes["held_out_by"] == "question"
    assert policy.notes["fitted_on"]["databases"] == ["db0"]


@pytest.mark.parametrize("databases", [2, 3])
def test_the_predictor_is_chosen_also_where_a_half_of_the_databases_is_one(databases: int) -> None:
    policy = fit(columns(two_kinds(60, databases=databases)), episodes=2)
    assert policy.notes["chosen_by_replay"]


def relabelled(correct: Callable[[Pool], bool]) -> list[Pool]:
    pools = two_kinds(40)
    return [replace(p, attempts=tuple(replace(a, correct=correct(p)) for a in p.attempts)) for p in pools]


@pytest.mark.parametrize("right", [True, False])
def test_where_every_answer_is_alike_the_policy_stops_at_the_first(right: bool) -> None:
    pools = columns(relabelled(lambda _: right))
    assert replay(pools, fit(pools, episodes=2)).calls.max() == 1


def test_nothing_but_failures_make_a_policy_that_stops_at_the_first() -> None:
    failed = {"correct": False, "executed": False, "key": None, "error_kind": "syntax"}
    pools = [replace(p, attempts=tuple(replace(a, **failed) for a in p.attempts)) for p in two_kinds(24)]
    assert replay(pools, fit(pools, episodes=1)).calls.max() == 1


def test_a_half_whose_answers_are_all_right_does_not_end_the_choice() -> None:
    pools = relabelled(lambda pool: pool.db_id != "db0" or int(pool.question_id[1:]) % 16 == 0)
    assert fit(columns(pools), episodes=2).notes["chosen_by_replay"]


def test_the_actions_are_those_that_were_recorded() -> None:
    assert [str(a) for a in recorded_actions(columns(repairable()))] == ["reflect:execution", "judge"]
    assert [str(a) for a in recorded_actions(columns(two_kinds()))] == [f"resample({n})" for n in (1, 2, 4, 8)]


def test_exploration_reports_what_each_step_cost_and_who_was_right() -> None:
    pools = repairable(30)
    table, repaired_at = columns(pools), {pool.question_id: pool.attempts[1].correct for pool in pools}
    for step in explore(table, recorded_actions(table), episodes=2):
        if step.action.name == "judge":
            assert step.tokens == 55
            assert len(step.after.candidates) == len(step.snapshot.candidates)
        else:
            assert step.tokens == 180
            child = step.after.candidates[-1]
            assert (child.id in step.right) == repaired_at[step.question]


def test_a_fitted_policy_repairs_failures_and_leaves_right_answers_alone(repaired: Policy) -> None:
    unseen = replay(repairable(100, seed=9), repaired, keep=True)
    assert unseen.accuracy > 0.9  # half are right at once, nine in ten of the others can be repaired
    for decisions in unseen.decisions:
        first = decisions[0]
        if first.features["executed"] == 1.0:
            assert first.action == "stop"
        else:
            assert any(d.action == "reflect:execution" for d in decisions)


def test_a_fitted_policy_does_not_pay_for_samples_that_never_help() -> None:
    policy = fit(
        columns(two_kinds(120)), utility=Utility(per_token=1e-4, per_second=0), episodes=3, predictor="learned"
    )
    unseen = replay(two_kinds(60, seed=5), policy)
    assert unseen.calls.mean() < 1.1


def test_a_policy_file_replays_to_the_same_numbers(repaired: Policy, tmp_path: Path) -> None:
    again = Policy.load(repaired.save(tmp_path / "policy.json"))
    pools = repairable(40, seed=3)
    np.testing.assert_array_equal(replay(pools, repaired).tokens, replay(pools, again).tokens)
    np.testing.assert_array_equal(replay(pools, repaired).p_correct, replay(pools, again).p_correct)


def test_the_fit_says_what_it_saw_and_how_well_it_did_on_unseen_databases(repaired: Policy) -> None:
    assert repaired.notes["fitted_on"]["questions"] == 160
    assert repaired.notes["held_out"]["now"]["auc"] > 0.95  # whether it ran decides everything here


def test_reflections_alone_are_priced_and_paid_for() -> None:
    """Half of the answers are right, each of three rounds mends half of the others, and no sample was ever drawn."""
    rng = np.random.default_rng(0)
    pools = []
    for q in range(80):
        right = np.logical_or.accumulate(rng.random(4) < 0.5).tolist()
        attempts = tuple(
            Attempt(
                id=f"r{i}",
                action="reflect" if i else "generate",
                feedback="execution" if i else "",
                parent=f"r{i - 1}" if i else None,
                round=i,
                correct=right[i],
                key="right" if right[i] else f"wrong-{i}",
                executed=True,
                prompt_tokens=100,
                completion_tokens=20,
            )
            for i in range(4)
        )
        pools.append(Pool(question_id=f"q{q}", db_id=f"db{q % 8}", attempts=attempts))
    found = evaluate(pools, fit(pools, predictor="transitions", episodes=2), repeats=1, keep=False)
    assert max(each.accuracy for each in found.curve) == max(each.accuracy for each in found.statics) > 0.85
    assert min(each.mean_tokens for each in found.curve) == 120
    first = replay(pools, found.policy, keep=True).decisions[0][0]
    assert first.p_correct == pytest.approx(0.5, abs=0.12)


def test_the_predictor_is_chosen_by_replay_on_databases_held_out() -> None:
    policy = fit(columns(repairable(120)), utility=Utility(per_token=1e-4, per_second=0), episodes=2)
    scores = policy.notes["chosen_by_replay"]
    assert set(scores) == {"learned", "transitions"}
    assert scores[policy.notes["predictor"]] == pytest.approx(max(scores.values()), abs=1e-4)
    assert replay(repairable(60, seed=7), policy).accuracy > 0.9


def test_a_lead_that_may_be_luck_does_not_cost_the_panel_its_place() -> None:
    assert preferred({"learned": 0.722, "panel": 0.736, "transitions": 0.745}) == "panel"
    assert preferred({"learned": 0.722, "panel": 0.716, "transitions": 0.745}) == "transitions"
    assert preferred({"learned": 0.5, "transitions": 0.5}) == "transitions"


def test_first_answers_alone_teach_nothing() -> None:
    alone = [Pool(question_id=f"q{i}", db_id=f"d{i}", attempts=(Attempt(id="g", action="generate"),)) for i in range(4)]
    with pytest.raises(TraceError, match="nothing but first answers"):
        fit(alone)


@pytest.mark.parametrize("tokens", [200.0, 320.0])
def test_tuning_meets_a_mean_budget_and_uses_it(repaired: Policy, tokens: float) -> None:
    found = tune(repaired, repairable(80, seed=2), tokens=tokens, repeats=1)
    assert found.met
    assert found.outcomes.mean_tokens <= tokens
    assert found.reached == found.outcomes.mean_tokens
    if tokens > 300:
        assert found.outcomes.accuracy > 0.9


def test_tuning_for_an_accuracy_finds_the_cheapest_prices_that_reach_it(repaired: Policy) -> None:
    found = tune(repaired, repairable(80, seed=2), accuracy=0.9, repeats=1)
    assert found.met
    assert found.outcomes.accuracy >= 0.9
    assert found.outcomes.mean_tokens < 130 + 180 + 55


def _humped(log_scale: float) -> tuple[Policy, Outcomes]:
    """Accuracy 0.6 where everything is paid for, 0.8 around a scale of e^2, 0.5 where nothing is."""
    accuracy = 0.8 if 0.5 < log_scale < 4.0 else 0.6 if log_scale <= 0.5 else 0.5
    tokens = 1000.0 - 50.0 * log_scale
    return Policy.default("sql"), cast(Outcomes, SimpleNamespace(accuracy=accuracy, mean_tokens=tokens))


def test_an_accuracy_is_found_between_prices_that_miss_it_on_both_sides() -> None:
    found = _cheapest(_humped, 0.75, 20)
    assert found.met
    assert found.outcomes.mean_tokens < 1000 - 50 * 3.5, "and the dear end of the prices that reach it"


def test_an_accuracy_that_no_price_reaches_gives_the_best_at_the_fewest_tokens() -> None:
    found = _cheapest(_humped, 0.9, 20)
    assert not found.met
    assert found.reached == 0.8
    assert found.outcomes.mean_tokens < 1000 - 50 * 3.5


def test_a_target_out_of_reach_is_reported_not_pretended(repaired: Policy) -> None:
    found = tune(repaired, repairable(40), tokens=10, repeats=1)
    assert not found.met
    assert found.reached == pytest.approx(130)
    assert "not met" in str(found)


def test_tuning_needs_exactly_one_sensible_target(repaired: Policy) -> None:
    pools = repairable(20)
    with pytest.raises(PolicyError, match="exactly one"):
        tune(repaired, pools)
    with pytest.raises(PolicyError, match="exactly one"):
        tune(repaired, pools, tokens=100, accuracy=0.5)
    with pytest.raises(PolicyError, match="positive"):
        tune(repaired, pools, tokens=-1)
    with pytest.raises(PolicyError, match="no price"):
        tune(Policy.one_shot(), pools, tokens=100)


def test_a_predictor_is_chosen_also_where_only_seconds_have_a_price() -> None:
    free = Utility(per_token=0.0, per_second=0.01)
    found = fit(two_kinds(40), utility=free, predictor=("panel", "transitions"), episodes=2)
    assert found.utility == free
    assert set(found.notes["chosen_by_replay"]) == {"panel", "transitions"}
