"""The adapter that puts this package's budget through the conformance suite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from tta_langgraph import scope as scopes
from tta_langgraph.budget import Budget, BudgetTracker, Charge, Reserve, Usage, merge_budget
from tta_langgraph.errors import BudgetExceededError
from tta_langgraph.models.meter import Lost, Unreported
from tta_langgraph.models.metered import budgeted
from tta_langgraph.scope import budget_scope
from tta_langgraph.testing.calls import ask
from tta_langgraph.testing.chat import scripted_chat_model
from tta_langgraph.testing.conformance import Account, Call, Refused
from tta_langgraph.testing.scenarios import Scenario
from tta_langgraph.testing.server import ScriptedServer


@dataclass(frozen=True)
class Ours:
    """`budgeted` and `budget_scope`, resumed from a checkpoint's bytes."""

    name: str = "tta-langgraph"
    """Name in the table."""
    counts: bool = True
    """Whether the model counts exactly by itself; else it is a plain client of the server."""
    lost: Lost = "received"
    """What calls are charged that were cancelled or broke: the scripted server stops when its client leaves."""

    async def start(self, server: ScriptedServer, scenario: Scenario) -> Account:
        """Opens an episode."""
        client = scripted_chat_model(server, counts=self.counts, max_retries=scenario.client_retries)
        # Who uses a model that hides its reasoning, and a server that reports nothing, knows it.
        unreported: Unreported = "reserve" if scenario.kind == "reasoning" else "count"
        model = budgeted(client, lost=self.lost, unreported=unreported)
        return _Ours(model, BudgetTracker.start(Budget(tokens=scenario.limit)))


class _Ours:
    def __init__(self, model: BaseChatModel, tracker: BudgetTracker) -> None:
        self._model = model
        self._tracker = tracker

    @property
    def reported(self) -> int:
        with budget_scope(self._tracker) as scope:
            return scope.tracker.usage.tokens

    async def call(self, call: Call) -> str:
        try:
            with budget_scope(self._tracker):
                text, _ = await ask(self._model, call)
        except BudgetExceededError as error:
            raise Refused(str(error)) from error
        return text

    async def resume(self) -> Account:
        with budget_scope(self._tracker) as scope:
            saved = await _through_a_checkpoint(scope.tracker)
        scopes._ledgers.pop(saved.episode)  # a new process has no ledger of this episode
        return _Ours(self._model, saved)


_SAVED = [(kind.__module__, kind.__name__) for kind in (Budget, BudgetTracker, Charge, Reserve, Usage)]


class _State(TypedDict):
    budget: Annotated[BudgetTracker, merge_budget]


async def _through_a_checkpoint(tracker: BudgetTracker) -> BudgetTracker:
    """Returns what a graph's checkpointer keeps of the tracker: written as bytes, read from them."""
    builder = StateGraph(_State)
    builder.add_sequence([("pause", lambda state: {})])
    builder.add_edge(START, "pause")
    graph = builder.compile(checkpointer=InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=_SAVED)))
    config: RunnableConfig = {"configurable": {"thread_id": tracker.episode}}
    await graph.ainvoke({"budget": tracker}, config)
    saved = (await graph.aget_state(config)).values["budget"]
    assert isinstance(saved, BudgetTracker)
    assert saved is not tracker
    return saved
