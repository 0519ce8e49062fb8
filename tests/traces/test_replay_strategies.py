"""Static strategies in replay: they answer and charge as they would have, live."""

from __future__ import annotations

import numpy as np
import pytest

from tta_langgraph.decision.pets import Curve
from tta_langgraph.errors import TraceError
from tta_langgraph.selection import select
from tta_langgraph.traces.frontier import Point, compare, frontier
from tta_langgraph.traces.model import Attempt, Judgement, Pool
from tta_langgraph.traces.replay_columns import columns
from tta_langgraph.traces.replay_draws import draws, order
from tta_langgraph.traces.strategies import (
    Bench,
    adaptive_consistency,
    best_of,
    by_name,
    esc,
    model_alone,
    one_shot,
    random_stop,
    reflect,
    statics,
)
from tta_langgraph.traces.strategies_oracle import oracle, oracle_curve
from tta_langgraph.traces.strategies_pets import pets


def simulated(questions: int = 60, samples: int = 12, seed: int = 0, greedy: bool = True) -> list[Pool]:
    """Questions whose difficulty is known: a share of samples is right, the others scatter over three wrong answers."""
    rng = np.random.default_rng(seed)
    pools = []
    for q in range(questions):
        p = rng.beta(1.5, 1.0)
        attempts = []
        for s in range(samples + greedy):
            right = bool(rng.random() < p)
            failed = not right and rng.random() < 0.3
            attempts.append(
                Attempt(
                    id=f"a{s}",
                    action="generate" if greedy and s == 0 else "resample",
                    correct=right,
                    key=None if failed else "right" if right else f"wrong-{rng.integers(3)}",
                    executed=not failed,
                    prompt_tokens=400,
                    completion_tokens=int(rng.integers(20, 60)),
                    cached_tokens=0 if s == 0 else 384,
                    seconds=float(rng.uniform(0.5, 2.0)),
                    request="first" if greedy and s == 0 else "samples",
                )
            )
        pools.append(Pool(question_id=f"q{q}", db_id=f"db{q % 7}", attempts=tuple(attempts)))
    return pools


def bench(repeats: int = 3, **options: int) -> Bench:
    table = columns(simulated(**options))  # type: ignore[arg-type]
    return Bench(table, order(table, repeats=repeats, seed=5))


def test_the_vote_over_every_prefix_is_what_the_live_selector_selects() -> None:
    table = columns(simulated(questions=25))
    cards = order(table, repeats=2, seed=3)
    found = draws(table, np.concatenate([cards.first[:, None], cards.samples], axis=1))
    for e in range(cards.episodes):
        made = [a.to_candidate() for a in table.attempts(int(cards.question[e]))]
        base = int(table.offsets[cards.question[e]])
        candidates = [made[row - base] for row in found.rows[e]]
        for d in range(found.rows.shape[1]):
            picked = select(candidates[: d + 1], "execution_vote").candidate
            winner = made[found.winner[e, d] - base]
            # Nobody may vote: the selector falls back to the first with an answer; a failed one is wrong either way.
            expected = picked.key if picked is not None else None
            assert winner.key == expected


def test_a_correction_takes_the_vote_of_what_it_corrects() -> None:
    attempts = (
        Attempt(id="weak", action="generate", key="a", completion_tokens=5),
        Attempt(
            id="strong", action="escalate", key="b", parent="weak", correct=True, completion_tokens=50, model="big"
        ),
    )
    table = columns([Pool(question_id="q", attempts=attempts)])
    rows = np.array([[0, 1]])
    assert draws(table, rows).winner.tolist() == [[0, 1]]


def test_columns_give_back_the_attempts_they_were_made_from() -> None:
    pools = simulated(questions=4)
    table = columns(pools)
    for row, original in enumerate(a for pool in pools for a in pool.attempts):
        again = table.attempts(row // 13)[row % 13]
        for name in ("action", "correct", "executed", "prompt_tokens", "completion_tokens", "cached_tokens"):
            assert getattr(again, name) == getattr(original, name), name
        assert again.seconds == pytest.approx(original.seconds)
        assert (again.key is None) == (original.key is None)


def test_selecting_questions_keeps_parents_with_their_children() -> None:
    chain = (
        Attempt(id="x", action="generate", key="1"),
        Attempt(id="y", action="reflect", key="2", parent="x", feedback="execution", round=1, correct=True),
    )
    table = columns([Pool(question_id=f"q{i}", attempts=chain) for i in range(3)]).select([2, 0])
    assert table.question_ids == ("q2", "q0")
    assert [a.parent for q in range(2) for a in table.attempts(q)] == [None, "a0", None, "a0"]


def test_a_measure_says_which_tokens_count() -> None:
    table = columns(simulated(questions=2))
    rows = slice(1, 2)
    assert table["prompt_tokens"][rows] == 400
    assert table.measured("uncached")["prompt_tokens"][rows] == 400 - 384
    assert table.measured("completion")["prompt_tokens"][rows] == 0


def test_samples_drawn_together_pay_for_the_prompt_once_and_wait_for_the_slowest() -> None:
    b = bench(repeats=1)
    found, seq = best_of(b, 4), b.sampled
    for e in range(5):
        rows = seq.rows[e, :4]
        assert found.tokens[e] == 400 + b.table["completion_tokens"][rows].sum()
        assert found.seconds[e] == pytest.approx(b.table["seconds"][rows].max())


def test_samples_drawn_one_by_one_pay_for_the_prompt_each_time() -> None:
    b = bench(repeats=1)
    seq = b.sequence
    assert seq.tokens[0, 2] == 3 * 400 + b.table["completion_tokens"][seq.rows[0, :3]].sum()


def test_reflection_follows_the_recorded_chain_and_keeps_the_answer_when_a_round_gives_none() -> None:
    attempts = (
        Attempt(id="g", action="generate", key=None, executed=False, completion_tokens=10, seconds=1),
        Attempt(
            id="r1",
            action="reflect",
            parent="g",
            feedback="execution",
            round=1,
            key="k",
            executed=True,
            correct=True,
            completion_tokens=12,
            seconds=2,
        ),
        Attempt(
            id="r2",
            action="reflect",
            parent="r1",
            feedback="execution",
            round=2,
            key=None,
            executed=False,
            completion_tokens=14,
            seconds=3,
        ),
        Attempt(
            id="n1", action="reflect", parent="g", feedback="none", round=1, key="z", executed=True, completion_tokens=9
        ),
    )
    table = columns([Pool(question_id="q", attempts=attempts)])
    b = Bench(table, order(table))
    rounds = [reflect(b, k, "execution") for k in (0, 1, 2, 3)]
    assert [o.accuracy for o in rounds] == [0.0, 1.0, 1.0, 1.0]
    assert [o.mean_tokens for o in rounds] == [10.0, 22.0, 36.0, 36.0]
    assert [o.mean_seconds for o in rounds] == [1.0, 3.0, 6.0, 6.0]
    assert reflect(b, 1, "none").accuracy == 0.0


def test_adaptive_consistency_stops_after_three_unanimous_answers_at_ninety_percent() -> None:
    # 1 − I_½(v + 1, 1) = 1 − 2^−(v + 1): v = 3 is the first with at least 0.9.
    attempts = tuple(Attempt(id=f"s{i}", action="resample", key="a", completion_tokens=1) for i in range(9))
    table = columns([Pool(question_id="q", attempts=attempts)])
    b = Bench(table, order(table))
    assert adaptive_consistency(b, 0.9).tokens.tolist() == [3.0]
    assert adaptive_consistency(b, 0.95).tokens.tolist() == [4.0]


def test_esc_stops_at_the_first_unanimous_window_and_votes_over_all_draws() -> None:
    keys = ["a", "b", "b", "b", "a", "a"]
    attempts = tuple(
        Attempt(id=f"s{i}", action="resample", key=k, completion_tokens=1, correct=k == "b") for i, k in enumerate(keys)
    )
    table = columns([Pool(question_id="q", attempts=attempts)])
    b = Bench(table, order(table, shuffle=False))
    found = esc(b, 2)
    assert found.tokens.tolist() == [4.0]
    assert found.calls.tolist() == [2]
    assert found.accuracy == 1.0


def test_every_strategy_meets_the_same_cards() -> None:
    b = bench(repeats=2)
    again = Bench(b.table, order(b.table, repeats=2, seed=5))
    for first, second in zip(statics(b), statics(again), strict=True):
        np.testing.assert_array_equal(first.tokens, second.tokens)
        np.testing.assert_array_equal(first.correct, second.correct)


@pytest.mark.parametrize("cost", ["tokens", "seconds"])
@pytest.mark.parametrize("greedy", [True, False])
def test_no_strategy_beats_the_oracle_that_knows_the_pool(cost: str, greedy: bool) -> None:
    b = bench(repeats=4, greedy=greedy)
    best = frontier([(o.mean(cost), o.accuracy) for o in oracle_curve(b, points=60, cost=cost)])
    for found in statics(b):
        assert found.accuracy <= best.at(found.mean(cost)) + 1e-9, found.name


@pytest.mark.parametrize("selects", [True, False])
def test_an_oracle_may_share_the_prompt_as_a_majority_does(selects: bool) -> None:
    attempts = tuple(
        Attempt(
            id=f"a{i}",
            action="generate" if i == 0 else "resample",
            key=key,
            correct=key == "right",
            executed=True,
            prompt_tokens=400,
            completion_tokens=40,
            seconds=1.0,
        )
        for i, key in enumerate(("wrong", "other", "right", "right"))
    )
    table = columns([Pool(question_id="q", attempts=attempts)])
    b = Bench(table, order(table, shuffle=False))
    assert best_of(b, 3).accuracy == 1.0
    best = oracle(b, 1e-12, selects=selects)
    assert best.accuracy == 1.0
    assert best.mean_tokens <= best_of(b, 3).mean_tokens + (0 if selects else 40)  # a vote counts the first answer, too
    assert best.mean_seconds <= best_of(b, 3).mean_seconds


def test_no_vote_beats_the_oracle_that_must_vote_too() -> None:
    b = bench(repeats=4)
    best = frontier([(o.mean_tokens, o.accuracy) for o in oracle_curve(b, points=60, selects=False)])
    for n in (2, 4, 8, 12):
        found = best_of(b, n)
        assert found.accuracy <= best.at(found.mean_tokens) + 1e-9, found.name


def test_the_oracle_at_a_prohibitive_price_takes_the_cheapest_answer_and_at_none_has_full_coverage() -> None:
    b = bench(repeats=2)
    cheapest = np.minimum(one_shot(b).tokens, best_of(b, 1).tokens)
    assert oracle(b, 1e9).tokens.tolist() == cheapest.tolist()
    free = oracle(b, 1e-12)
    assert free.accuracy == b.sequence.any_right[:, -1].mean()


def test_an_oracle_that_cannot_select_is_held_back_by_the_vote() -> None:
    b = bench(repeats=2)
    assert oracle(b, 1e-12, selects=False).accuracy <= oracle(b, 1e-12).accuracy


def test_stopping_at_random_costs_what_a_coin_says() -> None:
    b = bench(repeats=60, questions=20)
    tosses = random_stop(b, 0.5).calls
    assert tosses.mean() == pytest.approx(sum(k * 0.5**k for k in range(1, 60)), rel=0.05)


def test_one_model_of_a_ladder_costs_its_own_call_only() -> None:
    attempts = (
        Attempt(id="s", action="generate", model="small", key="a", completion_tokens=10),
        Attempt(id="m", action="escalate", model="medium", key="a", completion_tokens=30),
        Attempt(id="l", action="escalate", model="large", key="b", completion_tokens=90, correct=True),
    )
    table = columns([Pool(question_id="q", attempts=attempts)])
    b = Bench(table, order(table))
    assert model_alone(b, 2).mean_tokens == 90
    assert model_alone(b, 2).name == "always large"
    assert oracle(b, 1e-12).mean_tokens == 100


@pytest.mark.parametrize("name", ["one_shot", "best_of(4)", "reflect(2)", "esc(3)", "adaptive_consistency(0.9)"])
def test_strategies_are_found_by_name(name: str) -> None:
    assert len(by_name(name)(bench(repeats=1))) == 60


def test_an_unknown_strategy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TraceError, match=r"best_of\(8\)"):
        by_name("best_off(8)")


def test_a_pool_whose_parent_is_missing_is_refused() -> None:
    orphan = Attempt(id="r", action="reflect", parent="gone")
    with pytest.raises(TraceError, match="'gone'"):
        columns([Pool(question_id="q", attempts=(orphan,))])


def test_judge_costs_are_kept_with_the_attempt_they_judge() -> None:
    pool = Pool(
        question_id="q",
        attempts=(Attempt(id="g", action="generate", key="a"),),
        judgements=(Judgement(attempt="g", score=0.8, prompt_tokens=90, completion_tokens=7, seconds=0.5),),
    )
    table = columns([pool])
    assert table["verdict"][0] == pytest.approx(0.8)
    assert (table["judge_prompt"][0], table["judge_completion"][0]) == (90, 7)


def test_a_frontier_is_the_concave_hull_and_mixes_by_coin() -> None:
    hull = frontier([(10, 0.5), (20, 0.55), (30, 0.9), (40, 0.8), (50, 0.92)])
    assert hull.cost.tolist() == [10, 30, 50]
    assert hull.at(20) == pytest.approx(0.7)
    assert np.isnan(hull.at(5))
    assert hull.cost_of(0.7) == pytest.approx(20)
    assert hull.cost_of(0.99) == np.inf


def test_the_area_share_is_zero_for_the_static_mixture_and_one_for_the_oracle() -> None:
    static = frontier([Point(name="s", cost=10, accuracy=0.5), Point(name="t", cost=100, accuracy=0.8)])
    best = frontier([(10, 0.5), (20, 0.9)])
    assert compare(static, static, best).area_share == pytest.approx(0.0)
    assert compare(best, static, best).area_share == pytest.approx(1.0)
    halfway = compare(frontier([(10, 0.5), (55, 0.8)]), static, best)
    assert halfway.cost_ratio == pytest.approx(0.55)
    assert halfway.worst_gap <= 1e-12


def test_a_second_request_of_pets_takes_no_longer_than_its_own_slowest_sample() -> None:
    attempts = tuple(
        Attempt(
            id=f"a{i}",
            action="generate" if i == 0 else "resample",
            key=key,
            executed=True,
            prompt_tokens=100,
            completion_tokens=10,
            seconds=seconds,
        )
        for i, (key, seconds) in enumerate(zip("abcdef", (9.0, 1.0, 1.0, 1.0, 2.0, 3.0), strict=True))
    )
    table = columns([Pool(question_id="q", attempts=attempts)])
    b = Bench(table, order(table, shuffle=False))
    found = pets(b, {(1, 1, 1, 1): (Curve(a=1.0, b=-1.0), 1.0)}, 6)
    assert found.calls.tolist() == [2]
    assert found.tokens.tolist() == [2 * 100 + 6 * 10]
    assert found.seconds.tolist() == [9.0 + 3.0]
