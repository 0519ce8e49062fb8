"""The nodes and the router in graphs whose state is a pydantic model or a dataclass, which LangGraph takes as well."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from pydantic import BaseModel, ConfigDict

from tta_langgraph import Budget, BudgetTracker, Candidate, add_budget_router
from tta_langgraph.budget import merge_budget
from tta_langgraph.errors import GraphError
from tta_langgraph.nodes import Execute, Generate, Reflect, Sample
from tta_langgraph.sql import Database
from tta_langgraph.state import Decision, merge_candidates, merge_decisions
from tta_langgraph.testing import ScriptedServer, scripted_chat_model

BAD = "```sql\nSELECT count(*) FROM artists\n```"
GOOD = "```sql\nSELECT count(*) FROM artist\n```"


class Model(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    question: str
    customer: str = ""
    budget: Annotated[BudgetTracker, merge_budget] = BudgetTracker()
    candidates: Annotated[list[Candidate], merge_candidates] = []
    decisions: Annotated[list[Decision], merge_decisions] = []
    answer: str | None = None
    best: Candidate | None = None
    result: dict[str, Any] | None = None
    stop_reason: str = ""


@dataclass
class Data:
    question: str
    customer: str = ""
    budget: Annotated[BudgetTracker, merge_budget] = field(default_factory=BudgetTracker)
    candidates: Annotated[list[Candidate], merge_candidates] = field(default_factory=list)
    decisions: Annotated[list[Decision], merge_decisions] = field(default_factory=list)
    answer: str | None = None
    best: Candidate | None = None
    result: dict[str, Any] | None = None
    stop_reason: str = ""


def graph(schema: type[Any], server: ScriptedServer, shop: Database, **compiling: Any) -> Any:
    model = scripted_chat_model(server)
    builder = StateGraph(schema)
    builder.add_node("generate", Generate(model=model, database=shop))
    builder.add_node("execute", Execute(database=shop))
    builder.add_node("reflect", Reflect(model=model, database=shop))
    builder.add_node("sample", Sample(model=model, database=shop))
    builder.add_edge(START, "generate")
    for node in ("generate", "reflect", "sample"):
        builder.add_edge(node, "execute")
    add_budget_router(builder, after="execute", routes={"reflect": "reflect", "resample": "sample"})
    return builder.compile(**compiling)


@pytest.mark.parametrize("schema", [Model, Data])
@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_model_or_a_dataclass_is_a_state_like_any_other(
    schema: type[Any], mode: str, server: ScriptedServer, shop: Database
) -> None:
    server.use([BAD, *[GOOD] * 8])
    given = {"question": "How many artists?", "customer": "Eve", "budget": Budget(tokens=9_000)}
    app = graph(schema, server, shop)
    state = app.invoke(given) if mode == "sync" else await app.ainvoke(given)
    assert state["result"]["rows"] == [[3]]
    assert state["stop_reason"] == "stop"
    assert state["customer"] == "Eve"
    assert len(state["decisions"]) > 1
    assert state["budget"].usage.tokens == server.total
    assert state["budget"].budget.tokens == 9_000


@pytest.mark.parametrize("schema", [Model, Data])
def test_its_budget_holds_over_a_resume(schema: type[Any], server: ScriptedServer, shop: Database) -> None:
    server.use([BAD, *[GOOD] * 8])
    app = graph(schema, server, shop, checkpointer=InMemorySaver(), interrupt_before=["decide"])
    config: Any = {"configurable": {"thread_id": "1"}}
    state = app.invoke({"question": "How many artists?", "budget": Budget(model_calls=1)}, config)
    while app.get_state(config).next:
        state = app.invoke(None, config)
    assert server.requests == 1
    assert state["budget"].usage.tokens == server.total


def test_a_state_that_is_nothing_of_the_kind_is_refused_by_name(server: ScriptedServer) -> None:
    with pytest.raises(GraphError, match="list is not a state"):
        Generate(model=scripted_chat_model(server)).invoke(["What is 17 + 4?"])
