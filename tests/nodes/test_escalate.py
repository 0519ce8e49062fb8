"""Escalate: a larger model is called in, and what it answers well is remembered."""

from __future__ import annotations

from typing import Any

from tta_langgraph import Budget, Candidate
from tta_langgraph.nodes import Demonstrations, Escalate, Generate
from tta_langgraph.sql import Database
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model

QUESTION = "How many artists are from Norway?"
GOOD = "```sql\nSELECT count(*) FROM artist WHERE country = 'Norway'\n```"


def votes(*keys: str) -> list[Candidate]:
    return [Candidate(id=str(i), text=k, answer=k, key=k) for i, k in enumerate(keys)]


def test_the_larger_model_answers_in_place_of_the_best_so_far(server: ScriptedServer) -> None:
    server.use(["c"])
    update = Escalate(to=scripted_chat_model(server)).invoke(
        {"question": "?", "candidates": votes("a", "b"), "budget": Budget(tokens=900)}
    )
    assert update["answer"] == "c"
    [found] = update["candidates"]
    assert (found.action, found.parent) == ("escalate", "0")
    assert update["budget"].usage.tokens == server.total


def test_agreeing_samples_need_no_larger_model(server: ScriptedServer) -> None:
    server.use(["c"])
    node = Escalate(to=scripted_chat_model(server), unless_share=0.7)
    assert "candidates" not in node.invoke({"question": "?", "candidates": votes("a", "a", "a")})
    assert node.invoke({"question": "?", "candidates": votes("a", "b", "a")})["candidates"]
    assert server.requests == 1


def test_a_good_answer_of_the_larger_model_is_shown_to_the_smaller_one(
    server: ScriptedServer, shop: Database, assert_prompt: Any
) -> None:
    store = Demonstrations()
    server.use([GOOD, "```sql\nSELECT 1\n```"])
    model = scripted_chat_model(server)
    Escalate(to=model, database=shop, remember=store).invoke({"question": QUESTION})
    Generate(model=model, database=shop, demonstrations=store).invoke({"question": "How many artists are from Sweden?"})
    assert_prompt(server.log[1], "escalate_demonstration")


def test_what_failed_found_nothing_or_was_cut_is_not_remembered(server: ScriptedServer, shop: Database) -> None:
    store = Demonstrations()
    server.use(
        [
            "```sql\nSELECT nope FROM artist\n```",
            "```sql\nSELECT name FROM artist WHERE country = 'Chile'\n```",
            Reply("I cannot answer."),
            GOOD,
        ]
    )
    for cap in (200, 200, 200, 8):
        Escalate(to=scripted_chat_model(server), database=shop, remember=store, max_tokens=cap).invoke(
            {"question": QUESTION}
        )
    assert store.similar("How many artists?") == []


def test_the_most_similar_demonstrations_come_back_and_never_the_question_itself() -> None:
    store = Demonstrations(k=2)
    for question in ("How many artists are from Norway?", "Which album is oldest?", "How many albums are from 1999?"):
        store.add(question, f"answer to {question}")
    found = store.similar("How many artists are from Norway?")
    assert found[0][0] == "How many albums are from 1999?"
    assert "How many artists are from Norway?" not in [question for question, _ in found]
    store.add("Which album is oldest?", "better")
    assert dict(store.similar("Which album is newest?"))["Which album is oldest?"] == "better"


async def test_the_async_twin_does_the_same(server: ScriptedServer, shop: Database) -> None:
    store = Demonstrations()
    server.use([GOOD])
    update = await Escalate(to=scripted_chat_model(server), database=shop, remember=store).ainvoke(
        {"question": QUESTION}
    )
    assert update["candidates"][0].key is not None
    assert len(store.similar("Artists from Sweden?")) == 1
