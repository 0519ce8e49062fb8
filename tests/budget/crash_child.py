"""A process to be killed: runs or resumes a two-node graph whose plain nodes call a budgeted model.

usage: crash_child.py SERVER_URL SAVER THREAD start|resume CLOCK
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import Any

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph

from tta_langgraph import Budget, EpisodeState, budgeted


@contextmanager
def saver(where: str) -> Any:
    if where.startswith("postgresql"):
        from langgraph.checkpoint.postgres import PostgresSaver

        with PostgresSaver.from_conn_string(where) as found:
            found.setup()
            yield found
    else:
        from langgraph.checkpoint.sqlite import SqliteSaver

        with SqliteSaver.from_conn_string(where) as found:
            yield found


def main(url: str, where: str, thread: str, mode: str, clock: str) -> None:
    model = budgeted(ChatOpenAI(base_url=url, api_key="none", model="scripted"), max_completion_tokens=100)

    def once(state: EpisodeState) -> dict[str, Any]:
        model.invoke("first node")
        return {}

    def twice(state: EpisodeState) -> dict[str, Any]:
        model.invoke("second node, first call")
        reply = model.invoke("second node, second call")
        return {"answer": str(reply.content)}

    builder = StateGraph(EpisodeState)
    builder.add_node("once", once)
    builder.add_node("twice", twice)
    builder.add_edge(START, "once")
    builder.add_edge("once", "twice")
    builder.add_edge("twice", END)
    config = {"configurable": {"thread_id": thread}}
    with saver(where) as checkpointer:
        graph = builder.compile(checkpointer=checkpointer)
        start = {"question": "?", "budget": Budget(tokens=5_000, seconds=600, clock=clock)}
        state = graph.invoke(start if mode == "start" else None, config, durability="sync")
    tracker = state["budget"]
    print(
        json.dumps(
            {
                "answer": state["answer"],
                "elapsed": tracker.elapsed,
                "started": tracker.started,
                "charges": [
                    {"id": c.id, "tokens": c.usage.tokens, "estimated": c.estimated, "note": c.note, "source": c.source}
                    for c in tracker.charges.values()
                ],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
