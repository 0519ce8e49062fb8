"""The examples of other tasks than SQL: scripted, on real data sets' answers, and on the embedded model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tta_langgraph.parsers import Label, boxed, normal_expression, normal_number, number
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, scripted_chat_model

DATA = Path(os.environ.get("TTA_SHARED_DATA") or Path(__file__).parents[2].parent / "shared" / "data") / "tasks"


def lines(name: str) -> list[dict[str, Any]]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path.name} is not here; set TTA_SHARED_DATA to the folder that has tasks/{path.name}")
    with path.open(encoding="utf-8") as found:
        return [json.loads(line) for line in found]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer([]) as running:
        yield running


def test_mathematics_samples_again_while_answers_differ(server: ScriptedServer) -> None:
    def script(request: LoggedRequest) -> Reply:
        return Reply(texts=["12 * 4 = 48.\nAnswer: 33"]) if request.n > 1 else Reply("48 - 15 = 23.\nAnswer: 23")

    server.use(script)
    example = import_module("grade_school_math")
    assert example.main(example.PROBLEMS[:1], scripted_chat_model(server)) == 1.0
    assert max(request.n for request in server.log) == 2


def test_sentiment_reads_labels_and_counts_what_is_wrong(server: ScriptedServer) -> None:
    server.use(lambda request: Reply("Positive." if "wonderful" in request.text else "negative"))
    example = import_module("sentiment")
    assert example.main(example.REVIEWS[:4], scripted_chat_model(server)) == 3 / 4


def test_translation_chooses_the_version_that_the_others_agree_with(server: ScriptedServer) -> None:
    good = "La bibliothèque est ouverte le dimanche."
    server.use(
        lambda request: (
            Reply(texts=[good, "La bibliothèque est ouverte dimanche."]) if request.n == 2 else Reply("Oui!")
        )
    )
    example = import_module("translation")
    assert example.main(example.SENTENCES[:1], scripted_chat_model(server)) > 0.6
    assert server.requests == 2


def test_meteor_of_a_perfect_translation_loses_only_the_penalty_of_one_chunk() -> None:
    meteor = import_module("meteor").meteor
    text = "the cat sat on the mat"
    assert meteor(text, text) == pytest.approx(1 - 0.5 * (1 / 6) ** 3)


def test_meteor_by_hand() -> None:
    meteor = import_module("meteor").meteor
    # Two of three words match in one chunk against four: P = 2/3, R = 1/2, F = 10PR / (R + 9P) = 20/39.
    assert meteor("the cat sleeps", "the cat sat down") == pytest.approx(20 / 39 * (1 - 0.5 * (1 / 2) ** 3))
    # Order costs: the same words in two chunks.
    assert meteor("b a", "a b") == pytest.approx(1 - 0.5)
    assert meteor("x y", "a b") == 0.0
    assert meteor("", "a") == 0.0


def test_meteor_matches_stems_after_words() -> None:
    meteor = import_module("meteor").meteor
    assert meteor("cats sleeping", "cat sleeps") == meteor("cat sleeps", "cat sleeps")
    assert meteor("ils chantaient", "ils chantait", language="french") > 0.9


def test_every_gold_solution_of_gsm8k_is_read_as_its_answer() -> None:
    wrong = [row["id"] for row in lines("gsm8k_test.jsonl") if number(row["solution"]) != normal_number(row["answer"])]
    assert wrong == []


def test_every_gold_solution_of_math500_is_read_as_its_answer() -> None:
    wrong = [
        row["id"]
        for row in lines("math500.jsonl")
        if normal_expression(boxed(row["solution"]) or "") != normal_expression(row["answer"])
    ]
    assert wrong == []


def test_every_sentiment_label_is_read_as_itself() -> None:
    labels = {row["label"] for row in lines("sentiment_uci.jsonl")}
    read = Label(*sorted(labels))
    assert {read(f"I think it is {label.upper()}.") for label in labels} == labels


@pytest.mark.model
@pytest.mark.parametrize(
    ("name", "items"), [("grade_school_math", "PROBLEMS"), ("sentiment", "REVIEWS"), ("translation", "SENTENCES")]
)
def test_each_example_runs_on_the_embedded_model(name: str, items: str, capsys: pytest.CaptureFixture[str]) -> None:
    example = import_module(name)
    assert 0 <= example.main(getattr(example, items)[:2]) <= 1
    assert "None" not in capsys.readouterr().out.splitlines()[-1]
