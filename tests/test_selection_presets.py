"""What every preset does where there is nothing to choose by: ties, failures, and answers that nobody may vote for."""

from __future__ import annotations

import pytest

from tta_langgraph import Candidate, select
from tta_langgraph.evidence import CheckOutcome, Evidence, Execution, LogprobStats, Verdict
from tta_langgraph.selection import PRESETS

DRAWN = {"judge_softmax"}
"""Presets that draw lots among equals."""
UNGROUPED = {"best_of_n", "judge_softmax", "free_energy"}
"""Presets in which each candidate stands for itself."""


def equal(id: str, key: str | None) -> Candidate:
    """A candidate with the same evidence of every kind as any other."""
    return Candidate(
        id=id,
        text=id,
        answer=id,
        key=key,
        evidence=Evidence(
            execution=Execution(ok=True, key=key),
            verdicts=(Verdict(score=0.5, label="CONTINUE"),),
            checks=(CheckOutcome(name="check", passed=True, score=0.5),),
            logprobs=LogprobStats(mean=-0.5, tail=-1.0, minimum=-2.0),
        ),
    )


def failed(id: str) -> Candidate:
    """A candidate whose query did not run, and of which nothing else is known."""
    return Candidate(
        id=id, text=id, answer=id, evidence=Evidence(execution=Execution(ok=False, error="no such column"))
    )


@pytest.mark.parametrize("rule", PRESETS)
def test_a_tie_goes_to_the_answer_that_appeared_first_unless_lots_are_drawn(rule: str) -> None:
    first, second = equal("1", "a"), equal("2", "b")
    for pool in ([first, second], [second, first]):
        found = select(pool, rule).candidate
        assert found is not None
        assert rule in DRAWN or found.id == pool[0].id
        assert select(pool, rule).candidate == found, "the same pool gives the same answer"


@pytest.mark.parametrize("rule", PRESETS)
def test_when_all_failed_the_first_answer_comes_back_and_votes_give_it_no_share(rule: str) -> None:
    found = select([failed("1"), failed("2")], rule)
    assert found.candidate is not None
    assert rule in DRAWN or found.candidate.id == "1"
    # Where each stands for itself a failure is ranked like any other; a vote needs a result.
    assert found.share == (0.5 if rule in UNGROUPED else 0.0)


@pytest.mark.parametrize("rule", PRESETS)
def test_replies_without_an_answer_are_never_chosen_over_one(rule: str) -> None:
    silent = Candidate(id="silent", text="I cannot say.")
    found = select([silent, equal("1", "a"), silent], rule)
    assert found.candidate is not None
    assert found.candidate.id == "1"


@pytest.mark.parametrize("rule", PRESETS)
def test_only_replies_without_an_answer_give_no_answer(rule: str) -> None:
    found = select([Candidate(id="1", text="I cannot say."), Candidate(id="2", text="")], rule)
    assert found.candidate is None or found.candidate.answer is None
    assert found.share == 0
