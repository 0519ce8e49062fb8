"""Replay: the live policy on recorded pools, with recorded costs and without peeking."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from replay_worlds import repairable, two_kinds

from tta_langgraph.budget import Budget, BudgetTracker
from tta_langgraph.decision import Action, Assessment, Policy, Snapshot, Utility
from tta_langgraph.errors import TraceError
from tta_langgraph.traces.model import Pool
from tta_langgraph.traces.replay import replay
from tta_langgraph.traces.replay_columns import Columns, columns
from tta_langgraph.traces.replay_draws import order
from tta_langgraph.traces.replay_episode import Episode, Hand
from tta_langgraph.traces.replay_evaluate import cross_evaluate, evaluate
from tta_langgraph.traces.strategies import Bench, best_of, one_shot


def episode(pools: list[Pool], question: int = 0) -> Episode:
    table = columns(pools)
    hand = Hand.of(table, question)
    cards = order(table, shuffle=False)
    samples = cards.samples[question]
    return Episode(hand, int(cards.first[question]) - hand.start, (samples[samples >= 0] - hand.start).tolist(), [])


def test_a_static_policy_in_replay_costs_and_answers_what_the_static_strategy_does() -> None:
    pools = two_kinds()
    table = columns(pools)
    bench = Bench(table, order(table, repeats=2))
    played = replay(table, Policy.one_shot(), cards=bench.cards)
    np.testing.assert_array_equal(played.tokens, one_shot(bench).tokens)
    np.testing.assert_array_equal(played.correct, one_shot(bench).correct)


def test_samples_in_one_request_pay_for_the_prompt_once_and_take_as_long_as_the_slowest() -> None:
    played = episode(two_kinds())
    before = played.spent, played.seconds
    played.play(Action("resample", 4), played.candidates[0].id)
    written = sum(c.usage.completion_tokens for c in played.candidates[1:])
    assert played.spent - before[0] == 100 + written
    assert played.seconds - before[1] == pytest.approx(1.0)


def test_on_an_engine_that_batches_poorly_the_other_samples_take_their_time() -> None:
    table = columns(two_kinds())
    cards = order(table, shuffle=False)
    vote = Policy.static("best_of", 5)
    together, shared = (replay(table, vote, cards=cards, sharing=sharing) for sharing in (0.0, 0.25))
    written = np.asarray([c.usage.completion_tokens for c in episode(two_kinds()).candidates])
    assert (shared.tokens == together.tokens).all()
    assert shared.seconds[0] - together.seconds[0] == pytest.approx(0.25 * 3 * written[0])
    one = Policy.one_shot()
    assert (replay(table, one, cards=cards, sharing=0.25).seconds == replay(table, one, cards=cards).seconds).all()


def test_the_snapshot_of_a_replayed_episode_is_the_one_a_live_state_gives() -> None:
    played = episode(repairable())
    played.play(Action("reflect:execution"), played.candidates[0].id)
    budget = Budget(tokens=1000, reserve={"tokens": 100})
    replayed = played.snapshot(budget)
    live = Snapshot.of({"candidates": list(played.candidates), "budget": BudgetTracker.start(budget)})
    assert replayed.candidates == live.candidates
    assert replayed.tally == live.tally
    assert replayed.tokens_left == 1000 - 100 - played.spent


def test_a_policy_never_sees_whether_an_answer_is_right() -> None:
    pools = repairable(40)
    lied = [replace(p, attempts=tuple(replace(a, correct=not a.correct) for a in p.attempts)) for p in pools]
    policy = Policy.default("sql", actions=("reflect:execution", "judge"))
    truth, lie = replay(pools, policy), replay(lied, policy)
    np.testing.assert_array_equal(truth.tokens, lie.tokens)
    np.testing.assert_array_equal(truth.row, lie.row)
    assert truth.accuracy == pytest.approx(1 - lie.accuracy)


def test_actions_whose_outcome_was_not_recorded_are_not_taken() -> None:
    played = episode(repairable())
    best = played.candidates[0].id
    assert played.can(Action("reflect:execution"), best)
    assert played.can(Action("reflect"), best)
    assert played.can(Action("judge"), best)
    assert not played.can(Action("reflect:judge"), best)
    assert not played.can(Action("resample"), best)
    assert not played.can(Action("escalate"), best)
    played.play(Action("reflect:execution"), best)
    assert not played.can(Action("reflect:execution"), best), "the same correction cannot be drawn twice"


def test_a_judge_costs_its_tokens_and_adds_its_verdict_once() -> None:
    played = episode(repairable())
    best = played.candidates[0].id
    spent = played.spent
    played.play(Action("judge"), best)
    assert played.spent - spent == 55
    assert len(played.candidates[0].evidence.verdicts) == 1
    assert not played.can(Action("judge"), best)


def test_a_token_budget_holds_in_every_replayed_episode() -> None:
    pools = two_kinds(samples=16)
    eager = Policy.default(
        "text", utility=Utility(per_token=1e-9, per_second=0), actions=("resample(2)", "resample(4)")
    )
    free, limited = replay(pools, eager), replay(pools, eager, budget=450)
    assert free.tokens.max() > 450
    assert limited.tokens.max() <= 450
    assert limited.tokens.mean() > one_shot(Bench(columns(pools), order(columns(pools)))).tokens.mean()


def test_the_same_seed_gives_the_same_episodes_and_chunks_do_not_matter() -> None:
    policy = Policy.default("text", actions=("resample(1)", "resample(2)"))
    first = replay(two_kinds(), policy, repeats=3, seed=4)
    again = replay(two_kinds(), policy, repeats=3, seed=4, chunk=17)
    np.testing.assert_array_equal(first.tokens, again.tokens)
    np.testing.assert_array_equal(first.row, again.row)


def test_kept_decisions_explain_every_step_and_change_nothing() -> None:
    policy = Policy.default("sql", actions=("reflect:execution",))
    kept, fast = replay(repairable(40), policy, keep=True), replay(repairable(40), policy)
    np.testing.assert_array_equal(kept.tokens, fast.tokens)
    for decisions, reason, steps in zip(kept.decisions, kept.reasons, kept.steps, strict=True):
        assert len(decisions) == steps
        assert decisions[-1].action == "stop"
        assert reason == decisions[-1].reason
        assert all(d.forecasts for d in decisions)


@pytest.mark.parametrize("budget", [None, 900, Budget(tokens=2_000, seconds=30)])
@pytest.mark.parametrize("kind", ["sql", "text"])
def test_many_episodes_at_once_go_as_each_would_alone(kind: str, budget: Budget | int | None) -> None:
    policy = Policy.default(kind, actions=("resample(1)", "resample(3)", "reflect:execution", "judge"))  # type: ignore[arg-type]
    policy = policy.with_utility(per_token=2e-5, per_second=0)
    for pools in (two_kinds(30), repairable(30)):
        together, alone = (replay(pools, policy, budget=budget, repeats=2, keep=keep) for keep in (False, True))
        np.testing.assert_array_equal(together.row, alone.row)
        np.testing.assert_array_equal(together.steps, alone.steps)
        np.testing.assert_array_equal(together.tokens, alone.tokens)
        np.testing.assert_allclose(together.p_correct, alone.p_correct, rtol=1e-12)


def test_a_replayed_candidate_is_the_one_that_its_recorded_attempt_makes() -> None:
    for pools in (two_kinds(20), repairable(20)):
        table = columns(pools)
        block = table.block(0, len(table))
        rows = range(table.n_attempts)
        assert [block.candidate(row) for row in rows] == [block.attempt(row).to_candidate() for row in rows]


def test_an_abstention_is_not_right_and_has_no_answer() -> None:
    careful = Policy.default("text", utility=Utility(wrong=50.0), actions=("resample(1)",))
    found = replay(two_kinds(), careful)
    assert found.abstained is not None
    assert found.abstained.any()
    assert not found.correct[found.abstained].any()
    assert (found.row[found.abstained] == -1).all()


def test_progress_is_told_to_the_last_episode() -> None:
    told: list[tuple[int, int]] = []
    replay(
        two_kinds(20), Policy.one_shot(), repeats=2, chunk=15, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(15, 40), (30, 40), (40, 40)]


class Asked:
    """A predictor one by one that notes which actions it was asked to forecast, and how many samples there were."""

    name = "asked"

    def __init__(self) -> None:
        self.behind = Policy.default("text").predictor
        self.seen: list[tuple[int, list[str]]] = []

    def assess(self, snapshot: Snapshot, actions: Sequence[Action]) -> Assessment:
        self.seen.append((len(snapshot.candidates), [str(action) for action in actions]))
        return self.behind.assess(snapshot, actions)

    def to_dict(self) -> dict[str, object]:
        return {}


def test_samples_that_were_not_recorded_are_not_even_forecast() -> None:
    pools, actions = two_kinds(20, samples=6), ("resample(2)", "resample(4)", "resample(6)")
    cheap = Utility(per_token=1e-6, per_second=0)
    asked = Asked()
    found = replay(pools, Policy(predictor=asked, actions=actions, utility=cheap))
    for made, names in asked.seen:
        assert names == [name for name in actions if int(name[9]) <= 7 - made]
    same = replay(pools, Policy(predictor=asked.behind, actions=actions, utility=cheap))
    for column in ("row", "tokens", "p_correct", "steps"):
        assert np.array_equal(getattr(found, column), getattr(same, column))


def test_pools_without_attempts_are_refused() -> None:
    with pytest.raises(TraceError, match="tta record"):
        replay([Pool(question_id="q")], Policy.one_shot())


def test_an_evaluation_sets_everyone_on_the_same_cards() -> None:
    ev = evaluate(two_kinds(), Policy.default("text", actions=("resample(1)",)), repeats=2, prices=[1e-2, 1e-6])
    assert {len(o) for o in (*ev.statics, *ev.curve, *ev.oracles)} == {160}
    table = columns(two_kinds())
    again = best_of(Bench(table, order(table, repeats=2)), 4)
    own = next(o for o in ev.statics if o.name == "best_of(4)")
    np.testing.assert_array_equal(own.tokens, again.tokens)
    figures = ev.to_dict()
    assert figures["comparison"]["fixed"]["static_best"] == max(p["accuracy"] for p in figures["strategies"]["fixed"])


def test_an_opening_draws_its_answers_in_one_request() -> None:
    found = replay(two_kinds(20), Policy.one_shot(), opening=4)
    table = columns(two_kinds(20))
    written = table["completion_tokens"][table.offsets[:-1]]
    np.testing.assert_array_equal(found.tokens, 100 + 4 * written)
    assert set(found.calls.tolist()) == {1}


def test_cross_validation_tests_every_question_by_a_policy_that_never_saw_its_database() -> None:
    pools = two_kinds(48, databases=6)
    seen: list[set[str]] = []

    def make(side: Columns) -> Policy:
        seen.append(set(side.db_ids))
        return Policy.default("text", actions=("resample(1)",), utility=Utility(per_token=1e-4, per_second=0))

    ev = cross_evaluate(pools, make, folds=3, repeats=2, prices=[1e-3, 1e-6])
    assert len(seen) == 3
    left_out = [set(ev.table.db_ids) - databases for databases in seen]
    assert all(left_out)
    assert set.union(*left_out) == set(ev.table.db_ids)
    assert sum(map(len, left_out)) == 6
    whole = evaluate(pools, make(ev.table), repeats=2, prices=[1e-3, 1e-6], keep=False)
    for folded, straight in zip(ev.curve, whole.curve, strict=True):
        np.testing.assert_array_equal(folded.question, straight.question)
        np.testing.assert_array_equal(folded.tokens, straight.tokens)
