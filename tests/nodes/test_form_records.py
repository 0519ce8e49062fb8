"""The default form of a second look is the one that records speak for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tta_langgraph.nodes import FormRecord, best_form, form_table
from tta_langgraph.traces.export import read_pools
from tta_langgraph.traces.model import Attempt, Pool

RECORDINGS = Path(__file__).parents[2] / "benchmarks" / "recordings"
TABLE = {
    ("tiny", "execution", "attempt"): FormRecord(failed=50, wrong=50, broken=10, right=50),
    ("tiny", "*", "fresh"): FormRecord(repaired=5, failed=50, fixed=5, wrong=50, broken=20, right=50),
    ("*", "execution", "repair"): FormRecord(repaired=2, failed=50, fixed=4, wrong=50, broken=0, right=50),
}


def test_a_failed_attempt_is_put_in_the_form_that_repairs_most() -> None:
    assert best_form("Tiny-0.5B", "execution", failed=True, table=TABLE) == "fresh"


def test_an_attempt_that_ran_is_put_in_the_form_that_breaks_least_for_what_it_fixes() -> None:
    assert best_form("Tiny-0.5B", "execution", table=TABLE) == "repair"


def test_an_unknown_model_goes_by_records_of_any_model_and_without_any_by_the_default() -> None:
    assert best_form("huge", "execution", table=TABLE) == "repair"
    assert best_form("huge", "judge", table=TABLE, default="consequences") == "consequences"


def test_a_record_of_the_model_outranks_one_of_any_model() -> None:
    table = {**TABLE, ("tiny", "execution", "repair"): FormRecord(broken=50, right=50)}
    for ordered in (table, dict(reversed(table.items()))):
        assert best_form("tiny", "execution", table=ordered) != "repair"


def test_few_observations_claim_little() -> None:
    assert FormRecord(fixed=1, wrong=1).p_fix < FormRecord(fixed=50, wrong=100).p_fix + 0.1
    assert FormRecord().gain() == 0


def test_second_looks_in_pools_are_counted_by_what_was_there_before() -> None:
    def attempt(id: str, *, correct: bool, executed: bool = True, **more: str) -> Attempt:
        return Attempt(
            id=id, correct=correct, executed=executed, key=id, model="Tiny", **{"action": "generate", **more}
        )  # type: ignore[arg-type]

    def reflection(id: str, parent: str, *, correct: bool, reply: str = "answer") -> Attempt:
        more = {"action": "reflect", "parent": parent, "feedback": "execution", "form": "repair", "reply": reply}
        return attempt(id, correct=correct, **more)

    pool = Pool(
        question_id="1",
        attempts=(
            attempt("failed", correct=False, executed=False),
            reflection("mended", "failed", correct=True),
            reflection("broke", "mended", correct=False),
            reflection("kept", "mended", correct=False, reply="confirmation"),
            attempt("again", correct=True, action="resample"),
        ),
    )
    assert form_table([pool]) == {
        ("tiny", "execution", "repair"): FormRecord(repaired=1, failed=1, broken=1, right=2),
        ("tiny", "*", "fresh"): FormRecord(repaired=1, failed=1),
    }


@pytest.mark.parametrize("failed", [True, False])
def test_what_ships_agrees_with_the_recordings_it_was_counted_on(failed: bool) -> None:
    path = RECORDINGS / "spider_qwen2.5-coder-0.5b.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    model = "Qwen2.5-Coder-0.5B-Instruct"
    counted = form_table(read_pools(path))
    for feedback in ("execution", "judge", "none"):
        assert best_form(model, feedback, failed=failed) == best_form(model, feedback, failed=failed, table=counted)
