"""Nodes that users write: what a body may be, and what one is told that is none."""

from __future__ import annotations

from typing import Any

import pytest

from tta_langgraph import Budget, BudgetNode
from tta_langgraph.episode import Ask
from tta_langgraph.errors import GraphError
from tta_langgraph.testing import ScriptedServer, scripted_chat_model


class Body(BudgetNode):
    """A node with the body that a test gives it."""

    def __init__(self, body: Any) -> None:
        self.steps = body


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_body_that_asks_for_nothing_just_returns_its_update(mode: str) -> None:
    node = Body(lambda state: {"answer": state["question"].upper()})
    given = {"question": "four", "budget": Budget(tokens=100)}
    update = node.invoke(given) if mode == "sync" else await node.ainvoke(given)
    assert update["answer"] == "FOUR"
    assert update["budget"].budget.tokens == 100


async def _as_a_coroutine(state: Any) -> dict[str, Any]:
    return {}


@pytest.mark.parametrize(
    ("body", "says"),
    [(lambda state: "four", "a str"), (lambda state: ["four"], "a list"), (_as_a_coroutine, "async def")],
)
def test_a_body_that_is_none_is_told_what_it_may_be(body: Any, says: str) -> None:
    with pytest.raises(GraphError, match=f"{says}.*(Yield Ask, Run or Call|without async)"):
        Body(body).invoke({})


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("wrong", ["four", ["four"], (1, 2)])
async def test_what_is_no_effect_is_refused_where_it_is_yielded(mode: str, wrong: Any) -> None:
    def body(state: Any) -> Any:
        try:
            yield wrong
        except GraphError as error:
            return {"answer": str(error)}

    node = Body(body)
    update = node.invoke({}) if mode == "sync" else await node.ainvoke({})
    assert "Yield Ask, Run or Call" in update["answer"]


def test_effects_in_a_list_are_told_to_be_a_tuple(server: ScriptedServer) -> None:
    def body(state: Any) -> Any:
        yield [Ask(model=scripted_chat_model(server), messages=[("user", "?")])]

    with pytest.raises(GraphError, match=r"yielded a list.*tuple of them"):
        Body(body).invoke({})
