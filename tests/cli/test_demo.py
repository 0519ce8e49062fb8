"""`tta demo` with a scripted model: what a newcomer reads, and that its figures are those of what happened."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tta_langgraph.demo import handful, load_questions
from tta_langgraph.testing import ScriptedServer

Demo = Callable[..., str]
QUESTIONS = handful(load_questions())


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Demo:
    """Runs the command's own entry point against a server that knows the answer to one question in two."""
    from tta_langgraph.cli import main

    known = {item.question: item.gold_sql for item in QUESTIONS[::2]}

    def answer(request: object) -> str:
        asked = str(getattr(request, "messages", ""))
        return next((sql for question, sql in known.items() if question in asked), "SELECT count(*) FROM orders")

    def run(*arguments: str, model: str = "scripted") -> str:
        monkeypatch.setenv("COLUMNS", "100")
        with ScriptedServer(script=answer, model=model) as server:
            place = ("--db", str(tmp_path / "shop.sqlite"), "--model", server.base_url)
            monkeypatch.setattr(sys, "argv", ["tta", "demo", *place, *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        out, errors = capfd.readouterr()
        assert not ended.value.code, errors
        return out

    return run


def test_the_table_counts_right_answers_of_the_policy_and_of_the_strategies_beside_it(demo: Demo) -> None:
    shown = demo()
    right = f"{len(QUESTIONS[::2])} of {len(QUESTIONS)}"
    for strategy in ("one shot", "best of 8", "policy"):
        assert re.search(rf"^{strategy} +{right} ", shown, re.MULTILINE), strategy
    assert re.search(rf"^one shot +{right} +0 of {len(QUESTIONS)} ", shown, re.MULTILINE), "asked once"
    assert re.search(rf"^best of 8 +{right} +{len(QUESTIONS)} of {len(QUESTIONS)} ", shown, re.MULTILINE)


def test_each_decision_shows_what_was_offered_and_at_which_price(demo: Demo) -> None:
    shown = demo("--no-compare")
    offered = re.findall(r" offered +(.*)", shown)
    assert len(offered) >= len(QUESTIONS)
    assert all(re.search(r"resample\(8\) -> [01]\.\d\d \([+-]0\.\d+\)", line) for line in offered[:1])
    assert re.search(r" decide +(stop: P\(correct\)|resample\(\d\): P\(correct\) 0\.\d\d -> )", shown)
    assert "must buy 1 more right answer in 100" in shown


def test_figures_that_were_recorded_with_the_embedded_model_are_shown_for_it_alone(demo: Demo) -> None:
    other = demo("--no-compare")
    assert "policy    default(sql)" in other
    assert "recorded" not in other.lower()
    own = demo("--no-compare", model="qwen2.5-coder-0.5b")
    assert "policy    fitted(qwen2.5-coder-0.5b, 420 recorded questions)" in own
    assert "all 57 questions" in own
    assert "python benchmarks/shipped_policy.py" in own
