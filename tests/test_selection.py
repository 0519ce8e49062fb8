"""Selection: one formula, its presets, and what happens at its edges."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tta_langgraph.errors import PolicyError
from tta_langgraph.evidence import CheckOutcome, Evidence, Execution, LogprobStats, Verdict
from tta_langgraph.selection import PRESETS, Rule, select, uncorrected
from tta_langgraph.state import Candidate


def made(id: str, key: str | None = None, *, answer: str | None = "", **evidence: Any) -> Candidate:
    """A candidate that answers its key, unless told otherwise."""
    score = evidence.pop("score", None)
    if score is not None:
        evidence["verdicts"] = (Verdict(score=score, label="SUCCESS"),)
    extra = {name: evidence.pop(name) for name in ("parent", "action") if name in evidence}
    text = key if answer == "" else answer
    return Candidate(id=id, text=text or "", answer=text, key=key, evidence=Evidence(**evidence), **extra)


def failed(id: str) -> Candidate:
    return made(id, answer="SELECT oops", execution=Execution(ok=False, error="no such column: oops"))


def test_majority_takes_the_answer_most_candidates_gave() -> None:
    selection = select([made("1", "a"), made("2", "b"), made("3", "b")])
    assert selection.candidate is not None
    assert selection.candidate.id == "2"
    assert selection.share == pytest.approx(2 / 3)
    assert [(group.key, group.weight) for group in selection.groups] == [("b", 2.0), ("a", 1.0)]


def test_a_tie_goes_to_the_answer_that_appeared_first() -> None:
    pool = [made("1", "a"), made("2", "b"), made("3", "b"), made("4", "a")]
    for rule in ("majority", "execution_vote", "weighted", "confidence"):
        assert select(pool, rule).candidate == pool[0], rule


def test_a_tie_in_votes_of_uneven_size_is_not_decided_by_rounding() -> None:
    pool = [made("1", "a", score=0.3), made("2", "b", score=0.1), made("3", "b", score=0.2)]
    assert select(pool, "weighted").candidate == pool[0]


@pytest.mark.parametrize("rule", PRESETS)
def test_one_candidate_is_selected_with_share_one(rule: str) -> None:
    only = made("1", "a", execution=Execution(ok=True, key="a"))
    selection = select([only], rule)
    assert selection.candidate == only
    assert selection.share == 1.0


@pytest.mark.parametrize("rule", PRESETS)
def test_no_candidate_gives_none(rule: str) -> None:
    assert select([], rule).candidate is None
    assert select([made("1", answer=None)], rule).candidate is None


def test_when_every_query_failed_the_first_answer_comes_back_with_no_share() -> None:
    selection = select([made("0", answer=None), failed("1"), failed("2")], "execution_vote")
    assert selection.candidate is not None
    assert selection.candidate.id == "1"
    assert selection.share == 0.0
    assert selection.groups == ()


def test_one_query_that_ran_outvotes_many_that_failed() -> None:
    ran = made("9", "r", execution=Execution(ok=True, key="r"))
    assert select([*(failed(str(i)) for i in range(5)), ran], "execution_vote").candidate == ran


def test_a_correction_takes_the_place_of_what_it_corrects() -> None:
    first, second = made("1", "a"), made("2", "b", parent="1", action="reflect")
    assert select([first, second]).candidate == second
    assert select([first, second], Rule(corrections=False)).candidate == first


def test_a_correction_that_failed_corrects_nothing() -> None:
    first = made("1", "a")
    for reply in (made("2", answer=None, parent="1"), made("3", answer="SELECT oops", parent="1")):
        assert select([first, reply], "execution_vote").candidate == first


def test_a_correction_of_a_failed_query_replaces_it_even_if_it_fails_too() -> None:
    second = made("2", answer="SELECT oops2", parent="1")
    assert uncorrected([failed("1"), second]) == [second]


def test_a_larger_model_outvotes_a_pair_but_not_three_that_agree() -> None:
    large = made("L", "z", action="escalate")
    assert select([made("1", "a"), made("2", "a"), large]).candidate == large
    agreed = [made(str(i), "a") for i in range(3)]
    assert select([*agreed, large]).candidate == agreed[0]


def test_best_of_n_follows_the_judge_and_weighted_the_sum() -> None:
    pool = [made("1", "a", score=0.5), made("2", "a", score=0.5), made("3", "b", score=0.9)]
    assert select(pool, "best_of_n").candidate == pool[2]
    assert select(pool, "weighted").candidate == pool[0]


def test_best_of_majority_needs_frequency_first() -> None:
    common = [made(str(i), "a", score=0.4) for i in range(4)]
    lucky, second = made("8", "b", score=0.99), made("9", "c", score=0.6)
    assert select([*common, lucky, second], "best_of_majority").candidate in common
    assert select([*common, lucky], Rule(weight=PRESETS["best_of_n"].weight, combine="max")).candidate == lucky


def test_checks_count_as_rewards() -> None:
    good = CheckOutcome(name="rule", passed=True, score=1.0)
    bad = CheckOutcome(name="rule", passed=False, score=0.0)
    pool = [made("1", "a", checks=(bad,)), made("2", "b", checks=(good,))]
    assert select(pool, "best_of_n").candidate == pool[1]


def test_free_energy_prefers_the_surer_and_steadier_one() -> None:
    steady = made("1", "a", logprobs=LogprobStats(mean=-0.3, tail=-0.4, minimum=-0.5, variance=0.1))
    wild = made("2", "b", logprobs=LogprobStats(mean=-0.25, tail=-2.0, minimum=-4.0, variance=2.0))
    assert select([wild, steady], "free_energy").candidate == steady
    assert select([wild, made("3", "c")], "free_energy").candidate == wild


def test_confidence_weighs_votes_by_probability() -> None:
    def sure(id: str, key: str, p: float) -> Candidate:
        return made(id, key, logprobs=LogprobStats(mean=math.log(p), tail=0.0, minimum=0.0))

    pool = [sure("1", "a", 0.4), sure("2", "a", 0.4), sure("3", "b", 0.9)]
    selection = select(pool, "confidence")
    assert selection.candidate == pool[2]
    assert selection.share == pytest.approx(0.9 / 1.7)


def test_a_softmax_draw_follows_its_temperature() -> None:
    pool = [made("1", "a", score=0.2), made("2", "b", score=0.8)]
    rng = random.Random(7)
    drawn = Counter(
        choice.id for _ in range(4_000) if (choice := select(pool, "judge_softmax", temperature=0.5, rng=rng).candidate)
    )
    expected = 1 / (1 + math.exp(-(0.8 - 0.2) / 0.5))
    assert drawn["2"] / 4_000 == pytest.approx(expected, abs=0.03)


def test_a_draw_without_a_generator_repeats() -> None:
    pool = [made(str(i), str(i), score=0.5) for i in range(9)]
    assert len({str(select(pool, "judge_softmax").candidate) for _ in range(5)}) == 1


def test_arguments_replace_the_parts_of_a_rule() -> None:
    pool = [made("1", "a"), made("2", "a"), made("3", "b")]
    assert select(pool, weight=lambda c: 5.0 if c.id == "3" else 1.0).candidate == pool[2]
    assert select(pool, filter=lambda c: c.id == "3").candidate == pool[2]
    assert select(pool, key=lambda c: c.id).candidate == pool[0]


def test_top_gives_the_best_of_the_heaviest_groups() -> None:
    pool = [made("1", "a"), made("2", "b"), made("3", "b"), made("4", "c")]
    assert [c.id for c in select(pool).top(2)] == ["2", "1"]


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        (lambda: select([], "plurality"), "majority"),
        (lambda: select([made("1", "a")], pick="softmax", temperature=0.0), "above 0"),
        (lambda: select([made("1", "a")], weight=lambda _: math.nan), "finite"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_remedy(call: Any, remedy: str) -> None:
    with pytest.raises(PolicyError, match=remedy):
        call()


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b", "c"]), st.floats(0, 1)), max_size=12), st.randoms())
def test_the_winner_is_never_lighter_than_another_answer(votes: list[tuple[str | None, float]], rng: Any) -> None:
    pool = [made(str(i), key, answer=key or "x", score=score) for i, (key, score) in enumerate(votes)]
    for rule in ("majority", "weighted", "execution_vote", "best_of_n"):
        selection = select(pool, rule)
        assert selection.groups == tuple(sorted(selection.groups, key=lambda g: -g.weight))
        assert 0 <= selection.share <= 1
        if selection.groups:
            assert selection.candidate == selection.groups[0].best
