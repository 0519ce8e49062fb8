"""A process that kills itself inside a query, or resumes the run in which that happened.

usage: crash_query_child.py CHECKPOINTS DATABASE sync|async start|resume
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph

from tta_langgraph import Budget, EpisodeState
from tta_langgraph.checkpoints import checkpoint_serializer
from tta_langgraph.episode import BudgetNode, OutOfBudget, Run, Steps
from tta_langgraph.sql import Database
from tta_langgraph.sql.result import ExecutionResult

PATH, DATABASE, MODE, DIES = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] == "start"


class Fatal(Database):
    """In the first process its second query is the last thing that happens."""

    def execute(self, sql: str, **options: Any) -> ExecutionResult:
        self._live_or_die(sql)
        return super().execute(sql, **options)

    async def aexecute(self, sql: str, **options: Any) -> ExecutionResult:
        self._live_or_die(sql)
        return await super().aexecute(sql, **options)

    def _live_or_die(self, sql: str) -> None:
        if DIES and sql == "SELECT 2":
            os._exit(9)


class Ask(BudgetNode):
    """Runs queries until the budget refuses; the answer says how many it got."""

    def steps(self, state: Mapping[str, Any]) -> Steps:
        database = Fatal(DATABASE)
        done = 0
        try:
            for number in range(1, 9):
                yield Run(database=database, sql=f"SELECT {number}")
                done += 1
        except OutOfBudget:
            pass
        return {"answer": str(done)}


builder = StateGraph(EpisodeState).add_node("ask", Ask()).add_edge(START, "ask")
config: Any = {"configurable": {"thread_id": "t"}}
start: Any = {"question": "?", "budget": Budget(executions=5)} if DIES else None


def run() -> Any:
    with SqliteSaver.from_conn_string(PATH) as saver:
        saver.serde = checkpoint_serializer()
        return builder.compile(checkpointer=saver).invoke(start, config, durability="sync")


async def arun() -> Any:
    async with AsyncSqliteSaver.from_conn_string(PATH) as saver:
        saver.serde = checkpoint_serializer()
        return await builder.compile(checkpointer=saver).ainvoke(start, config, durability="sync")


state = run() if MODE == "sync" else asyncio.run(arun())
print(json.dumps([state["answer"], state["budget"].usage.executions, len(state["budget"].charges)]))
