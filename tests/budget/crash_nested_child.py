"""A process that kills itself inside a model call of a nested episode, or resumes the run in which that happened.

usage: crash_nested_child.py CHECKPOINTS NESTING start|resume
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph

from tta_langgraph import Budget, EpisodeState, budget_scope, budgeted
from tta_langgraph.checkpoints import checkpoint_serializer

DIES = sys.argv[3] == "start"


class Fatal(BaseChatModel):
    """Charges 10 tokens a call; in the first process its second call is the last thing that happens."""

    reports_exact_usage: bool = True
    supports_timeout: bool = True

    @property
    def _llm_type(self) -> str:
        return "fatal"

    def count_prompt_tokens(self, messages: Any, **_: Any) -> int:
        return 8

    def count_text(self, text: str) -> int:
        return 2

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        if DIES and messages[-1].content == "second":
            os._exit(9)
        usage: Any = {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10}
        return ChatResult(generations=[ChatGeneration(message=AIMessage("four", usage_metadata=usage))])


MODEL = budgeted(Fatal(), max_completion_tokens=100)


def twice(state: Any) -> dict[str, Any]:
    MODEL.invoke("first")
    return {"answer": MODEL.invoke("second").text}


def graph(node: Callable[[Any], Any], **options: Any) -> Any:
    builder = StateGraph(EpisodeState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile(**options)


def own_budget(state: Any) -> dict[str, Any]:
    return {"answer": graph(twice).invoke({"question": "?", "budget": Budget(tokens=1000)})["answer"]}


def part(state: Any) -> dict[str, Any]:
    return {"answer": graph(twice).invoke({"question": "?", "budget": state["budget"].nested(1000)})["answer"]}


def scope(state: Any) -> dict[str, Any]:
    with budget_scope(Budget(tokens=1000)):
        return twice(state)


def own_thread(state: Any) -> dict[str, Any]:
    inner = graph(twice, checkpointer=InMemorySaver(serde=checkpoint_serializer()))
    address: Any = {"configurable": {"thread_id": "inner"}}
    return {"answer": inner.invoke({"question": "?", "budget": Budget(tokens=1000)}, address)["answer"]}


def two_deep(state: Any) -> dict[str, Any]:
    return {"answer": graph(own_budget).invoke({"question": "?", "budget": Budget(tokens=2000)})["answer"]}


NESTINGS = {each.__name__: each for each in (own_budget, part, scope, own_thread, two_deep)}


def main(path: str, nesting: str, mode: str) -> None:
    with SqliteSaver.from_conn_string(path) as saver:
        saver.serde = checkpoint_serializer()
        outer = graph(NESTINGS[nesting], checkpointer=saver)
        start = {"question": "?", "budget": Budget(tokens=5_000)} if mode == "start" else None
        state = outer.invoke(start, {"configurable": {"thread_id": "t"}}, durability="sync")
    charges = state["budget"].charges.values()
    print(json.dumps([[charge.usage.tokens, charge.estimated] for charge in charges]))


if __name__ == "__main__":
    main(*sys.argv[1:])
