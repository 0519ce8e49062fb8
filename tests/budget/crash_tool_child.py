"""A process that is killed inside a query which an agent's tool runs, or resumes the run in which that happened.

usage: crash_tool_child.py SERVER_URL CHECKPOINTS DATABASE middleware|wrapped sync|async LIMIT start|resume
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from tta_langgraph import Budget, BudgetMiddleware
from tta_langgraph.checkpoints import checkpoint_serializer
from tta_langgraph.graphs import wrap_agent

URL, CHECKPOINTS, DATABASE, KIND, MODE, LIMIT, STAGE = sys.argv[1:]
DIES = STAGE == "start"
ran: list[str] = []


def die() -> int:
    if DIES:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2


def query(sql: str) -> str:
    """Runs a query."""
    ran.append(sql)
    with sqlite3.connect(DATABASE) as connection:
        connection.create_function("die", 0, die)
        return str(connection.execute(sql).fetchall())


async def aquery(sql: str) -> str:
    """Runs a query."""
    return query(sql)


tool = StructuredTool.from_function(query, aquery if MODE == "async" else None, name="query")
config: Any = {"configurable": {"thread_id": "t"}}
start: Any = {"messages": [("user", "How many?")]} if DIES else None


def graph(saver: Any) -> Any:
    saver.serde = checkpoint_serializer()
    model, budget = ChatOpenAI(base_url=URL, api_key="none", model="scripted"), Budget(executions=int(LIMIT))
    if KIND == "middleware":
        return create_agent(model, [tool], middleware=[BudgetMiddleware(budget)], checkpointer=saver)
    return wrap_agent(create_agent(model, [tool]), budget=budget).compile(checkpointer=saver)


def run() -> Any:
    with SqliteSaver.from_conn_string(CHECKPOINTS) as saver:
        return graph(saver).invoke(start, config, durability="sync")


async def arun() -> Any:
    async with AsyncSqliteSaver.from_conn_string(CHECKPOINTS) as saver:
        return await graph(saver).ainvoke(start, config, durability="sync")


if __name__ == "__main__":
    state = run() if MODE == "sync" else asyncio.run(arun())
    print(json.dumps({"ran": ran, "executions": state["budget"].usage.executions}))
