"""The LangGraph tasks around the running one: the node that calls an inner graph, and the nodes around that.

LangGraph gives an inner graph's tasks a config of their own, in which nothing leads back to the task that called the
graph. But whatever the graph does before its first task, it does in the context of its caller; a `budget` channel
makes its empty tracker there, new or resumed, and so that is the moment at which the caller is noted. A context
variable carries it into the tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables.config import var_child_runnable_config

CHANNEL = "budget"
"""The state key that carries the tracker."""


@dataclass(frozen=True, slots=True, eq=False)
class Enclosing:
    """A task that has called an inner graph or opened a scope."""

    task: str
    """Its id."""
    config: Mapping[str, Any]
    """Its config."""
    outer: Enclosing | None
    """The task around it."""


innermost: ContextVar[Enclosing | None] = ContextVar("tta_enclosing_task", default=None)
"""The last task that was noted in this context: the running one, if it was noted itself, or else the one around it."""


def running_config() -> Mapping[str, Any] | None:
    """The config of the LangGraph task that this code runs in, or None outside of a graph."""
    config = var_child_runnable_config.get()
    if config is None or "__pregel_read" not in config.get("configurable", {}):
        return None
    return config


def note_task() -> None:
    """Notes the running task, if there is one: what runs inside of it will find it."""
    config = running_config()
    if config is None:
        return
    task = config["configurable"].get("__pregel_task_id", "")
    noted = innermost.get()
    if noted is None or noted.task != task:
        innermost.set(Enclosing(task, config, noted))


def tasks_around(config: Mapping[str, Any] | None) -> Enclosing | None:
    """The nearest noted task around the task of this config."""
    noted = innermost.get()
    if noted is not None and config is not None and noted.task == config["configurable"].get("__pregel_task_id", ""):
        return noted.outer
    return noted


def trackers_around(config: Mapping[str, Any] | None) -> Iterator[Any]:
    """What the states of the task of this config and of the tasks around it have under `budget`, innermost first."""
    if config is not None:
        yield in_state(config)
    around = tasks_around(config)
    while around is not None:
        yield in_state(around.config)
        around = around.outer


def in_state(config: Mapping[str, Any], *, fresh: bool = False) -> Any:
    """What the state of a task's graph has under `budget`; None if it has no such key."""
    try:
        return config["configurable"]["__pregel_read"](CHANNEL, fresh)
    except KeyError:
        return None


def in_send(config: Mapping[str, Any]) -> Any:
    """What the input of a task has under `budget` that was made by `Send`; None for any other task."""
    path = config.get("metadata", {}).get("langgraph_path", ())
    if len(path) < 2 or path[0] != "__pregel_push" or not isinstance(path[1], int):
        return None
    sends = config["configurable"]["__pregel_read"]("__pregel_tasks", False) or ()
    given = sends[path[1]].arg if path[1] < len(sends) else None
    return given.get(CHANNEL) if isinstance(given, Mapping) else None
