"""The strictly typed program runs; that it is well typed is what `tools/typecheck` asks of it."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from tests.typed.own_graph import ask, build, spent
from tta_langgraph.testing import ScriptedServer, scripted_chat_model


def test_a_typed_graph_takes_a_budget_and_its_own_fields() -> None:
    with ScriptedServer(lambda _: "42") as server:
        state = ask(build(scripted_chat_model(server)))
        assert state["answer"] == "42"
        assert state["messages"][0].text == "Hello Ada"
        assert spent(cast("Any", state)) == server.total


@pytest.mark.parametrize("budget", ["2000", '{"tokens": 2000, "seconds": 20, "reserve": 100}'])
def test_its_input_schema_asks_for_limits_and_takes_them_as_json(budget: str) -> None:
    with ScriptedServer(lambda _: "42") as server:
        graph = build(scripted_chat_model(server))
        assert {"customer", "question", "budget"} <= set(graph.get_input_jsonschema()["properties"])
        assert "Budget" in json.dumps(graph.get_input_jsonschema()["properties"]["budget"])
        question: Any = {"customer": "Ada", "question": "6 x 7?", "budget": json.loads(budget)}
        assert graph.invoke(question)["budget"].budget.tokens == 2_000
