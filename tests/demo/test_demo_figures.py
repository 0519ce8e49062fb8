"""What the demonstration says without asking a model is what replay of its recording says."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path

import pytest

from tta_langgraph import Policy
from tta_langgraph.demo import demo_policy, handful, load_questions, recorded_figures

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "shipped_policy.py"


def test_the_handful_has_every_grade_and_is_picked_by_position_alone() -> None:
    questions = load_questions()
    asked = handful(questions)
    assert {question.difficulty for question in asked} == {question.difficulty for question in questions}
    places = [questions.index(question) for question in asked]
    assert {after - before for before, after in itertools.pairwise(places)} == {places[1]}
    assert places[0] == 0


def test_the_figures_on_all_questions_are_those_of_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("shipped_policy", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, made)
    spec.loader.exec_module(made)
    table = made.recorded(made.MUSIC_SHOP)
    told = recorded_figures(made.MODEL)
    assert told is not None
    assert sorted(table.question_ids) == sorted(question.id for question in load_questions())
    assert told["questions"] == len(table)
    assert told["reflect"] == made.second_looks(table)
    now = made.figures(table, Policy.for_model(made.MODEL), "reflect")
    assert told["strategies"].keys() == now.keys()
    for name, row in now.items():
        assert told["strategies"][name] == pytest.approx(row, rel=0.01), f"{name}: run {told['made_by']}"


def test_figures_of_one_model_are_not_shown_for_another() -> None:
    assert recorded_figures("gpt-4o-mini") is None
    assert demo_policy("gpt-4o-mini").predictor == Policy.default("sql").predictor
