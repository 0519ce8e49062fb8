"""The table of second looks, made from the recordings that ship with the repository."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import second_look_forms as example

from tta_langgraph.decision.second_looks import SHIPPED, best_form

PATHS = [*example.RECORDINGS.glob("*.jsonl.gz"), *example.RECORDINGS.glob("second_looks/*.jsonl.gz")]
SMALL = "Qwen2.5-Coder-0.5B-Instruct"


@pytest.fixture(scope="module")
def fitted() -> example.Records:
    if not PATHS:
        pytest.skip(f"no recordings in {example.RECORDINGS}")
    return example.records_of(PATHS, "fit")


def test_every_form_was_measured_with_execution_feedback(fitted: example.Records) -> None:
    forms = {form for _, feedback, form in fitted if feedback in ("execution", "*")}
    assert forms >= {"attempt", "consequences", "repair", "fresh"}
    assert example.table_of(fitted).row_count > len(fitted)


@pytest.mark.parametrize("feedback", ["execution", "judge", "none"])
@pytest.mark.parametrize("seen", ["error", "rows"])
def test_the_forms_that_ship_are_those_the_recordings_speak_for(
    fitted: example.Records, feedback: str, seen: example.Seen
) -> None:
    assert best_form(SMALL, feedback, seen=seen) == best_form(SMALL, feedback, seen=seen, table=fitted)


def test_what_ships_can_be_written_anew(fitted: example.Records) -> None:
    text = example.shipped(fitted, "coder-0.5b")
    assert {line.split(": ")[0].strip() for line in text.splitlines()} == {
        str(key).replace("'", '"') for key in SHIPPED if key[0] == "coder-0.5b"
    }
