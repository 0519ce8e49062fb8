"""A process that asks a wrapped agent, or resumes it after a person has answered; its agent's state has no budget.

usage: interrupted_child.py SERVER_URL SAVER agent|sql bare|budgeted sync|async ask|resume [DATABASE]
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command, interrupt

from tta_langgraph import Budget, Policy, budgeted
from tta_langgraph.graphs import wrap_agent, wrap_text_to_sql


@tool
def look_up(table: str) -> str:
    """Says what a table is about."""
    return f"{table}: people who buy"


@tool
def ask_human(question: str) -> str:
    """Asks a person."""
    return str(interrupt(question))


def built(url: str, kind: str, charging: str, database: str) -> Any:
    model: Any = ChatOpenAI(base_url=url, api_key="none", model="scripted", max_tokens=64)
    agent = create_agent(budgeted(model) if charging == "budgeted" else model, [look_up, ask_human])
    limits = Budget(tokens=9_000, executions=8)
    if kind == "sql":
        return wrap_text_to_sql(agent, engine=database, budget=limits, policy=Policy.one_shot())
    return wrap_agent(agent, budget=limits)


def main(url: str, saver: str, kind: str, charging: str, mode: str, step: str, database: str = "") -> None:
    graph = built(url, kind, charging, database)
    config: Any = {"configurable": {"thread_id": "one"}}
    given: Any = {"question": "How many customers are there?"} if step == "ask" else Command(resume="all of them")

    async def played() -> dict[str, Any]:
        async with AsyncSqliteSaver.from_conn_string(saver) as checkpointer:
            return dict(await graph.compile(checkpointer=checkpointer).ainvoke(given, config))

    if mode == "async":
        state = asyncio.run(played())
    else:
        with SqliteSaver.from_conn_string(saver) as checkpointer:
            state = graph.compile(checkpointer=checkpointer).invoke(given, config)
    usage = state["budget"].usage
    found = {
        "waiting": [one.value for one in state.get("__interrupt__", ())],
        "answer": state.get("answer"),
        "tokens": usage.tokens,
        "calls": usage.model_calls,
        "executions": usage.executions,
        "ids": sorted(state["budget"].charges),
        "estimated": [charge.note for charge in state["budget"].charges.values() if charge.estimated],
    }
    Path(f"{saver}.{step}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
