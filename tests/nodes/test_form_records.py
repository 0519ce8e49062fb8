"""The default form of a second look is the one that records speak for."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tta_langgraph import Policy
from tta_langgraph.decision import Action, TransitionTable
from tta_langgraph.decision.rates import Counts
from tta_langgraph.nodes import FormRecord, best_form, form_table
from tta_langgraph.traces.model import Attempt, Pool

RECORDINGS = Path(__file__).parents[2] / "benchmarks" / "recordings"
SMALL = "Qwen2.5-Coder-0.5B-Instruct"
TABLE = {
    ("tiny", "execution", "attempt"): FormRecord(error=Counts(0, 50), rows=Counts(0, 50, 10, 50)),
    ("tiny", "*", "fresh"): FormRecord(error=Counts(5, 50), empty=Counts(0, 50), rows=Counts(40, 50, 20, 50)),
    ("*", "execution", "repair"): FormRecord(error=Counts(2, 50), empty=Counts(9, 50), rows=Counts(4, 50, 0, 50)),
}


@pytest.mark.parametrize(("seen", "form"), [("error", "fresh"), ("empty", "repair")])
def test_a_failure_is_put_in_the_form_that_mends_most_of_its_kind(seen: Any, form: str) -> None:
    assert best_form("Tiny-0.5B", "execution", seen=seen, table=TABLE) == form


def test_what_a_form_breaks_counts_by_how_many_such_answers_are_right() -> None:
    assert best_form("Tiny-0.5B", "execution", table=TABLE) == "fresh"
    mostly_right = {key: replace(record, rows=record.rows + Counts(0, 0, 0, 2_000)) for key, record in TABLE.items()}
    broken = {**mostly_right, ("tiny", "*", "fresh"): FormRecord(rows=Counts(40, 50, 820, 2_050))}
    assert best_form("Tiny-0.5B", "execution", table=broken) == "repair"


def test_an_unknown_model_goes_by_records_of_any_model_and_without_any_by_the_default() -> None:
    assert best_form("huge", "execution", table=TABLE) == "repair"
    assert best_form("huge", "judge", table=TABLE, default="consequences") == "consequences"


def test_a_record_of_the_model_outranks_one_of_any_model() -> None:
    table = {
        **TABLE,
        ("tiny", "*", "fresh"): FormRecord(empty=Counts(8, 50)),
        ("tiny", "execution", "repair"): FormRecord(empty=Counts(0, 50)),
    }
    for ordered in (table, dict(reversed(table.items()))):
        assert best_form("tiny", "execution", seen="empty", table=ordered) != "repair"


def test_a_single_lucky_look_outranks_no_well_known_form() -> None:
    known = {("tiny", "*", "fresh"): FormRecord(error=Counts(150, 300))}
    lucky = {**known, ("tiny", "execution", "consequences"): FormRecord(error=Counts(1, 1))}
    assert best_form("tiny", "execution", seen="error", table=lucky) == "fresh"
    proven = {**known, ("tiny", "execution", "consequences"): FormRecord(error=Counts(40, 50))}
    assert best_form("tiny", "execution", seen="error", table=proven) == "consequences"


def test_second_looks_at_first_answers_are_counted_by_what_was_seen_of_them() -> None:
    def attempt(id: str, *, correct: bool, executed: bool = True, **more: Any) -> Attempt:
        given = {"action": "generate", "key": id if executed else None, **more}
        return Attempt(id=id, correct=correct, executed=executed, model="Tiny", **given)

    def reflection(id: str, parent: str, *, correct: bool, reply: str = "answer") -> Attempt:
        more = {"action": "reflect", "parent": parent, "feedback": "execution", "form": "repair", "reply": reply}
        return attempt(id, correct=correct, **more)

    def pool(*attempts: Attempt) -> Pool:
        return Pool(question_id="1", attempts=attempts)

    failed = pool(
        attempt("failed", correct=False, executed=False),
        reflection("mended", "failed", correct=True),
        reflection("again", "mended", correct=False),
        attempt("sampled", correct=True, action="resample"),
    )
    kept = pool(attempt("good", correct=True), reflection("kept", "good", correct=False, reply="confirmation"))
    nothing = pool(attempt("none", correct=False, empty=True), reflection("still", "none", correct=False))
    assert form_table([failed, kept, nothing]) == {
        ("tiny", "execution", "repair"): FormRecord(
            error=Counts(1, 1, 0, 0), empty=Counts(0, 1, 0, 0), rows=Counts(0, 0, 0, 1)
        ),
        ("tiny", "*", "fresh"): FormRecord(error=Counts(1, 1, 0, 0)),
    }


@pytest.mark.parametrize("seen", ["error", "rows"])
def test_the_shipped_rates_of_a_reflection_are_those_of_the_form_that_runs(seen: Any) -> None:
    state = {"error": "failed", "rows": "ran"}[seen]
    rates = partial(TransitionTable().rates, model=SMALL, state=state)
    form = best_form(SMALL, "execution", seen=seen)
    assert rates(Action("reflect")) == rates(Action(f"reflect:execution.{form}"))
    other = "attempt" if form == "fresh" else "fresh"
    assert rates(Action(f"reflect:execution.{other}")) != rates(Action("reflect"))
    assert TransitionTable().rates(Action("reflect"), model="unheard of", state=state) != rates(Action("reflect"))


def test_a_policy_file_keeps_whether_measured_rates_count(tmp_path: Path) -> None:
    policy = Policy.default("sql")
    assert Policy.load(policy.save(tmp_path / "policy.json")) == policy
