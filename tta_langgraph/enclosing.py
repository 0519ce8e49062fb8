"""The LangGraph tasks around the running one: the node that calls an inner graph, and the nodes around that.

LangGraph gives an inner graph's tasks a config of their own. What leads back to the task that called the graph is the
means to call further tasks: it belongs to the loop that runs the graph, and that has its caller's config.

Where a graph is called with a thread of its own, not even its loop knows of its caller. But whatever the graph does
before its first task, it does in the context of its caller; a `budget` channel makes its empty tracker there, new or
resumed, and so that is the moment at which the caller is noted. A context variable carries it into the tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
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
    noted = innermost.get()
    task = config["configurable"].get("__pregel_task_id", "")
    if noted is None or noted.task != task:
        innermost.set(Enclosing(task, config, _around(config, noted)))


def tasks_around(config: Mapping[str, Any] | None) -> Enclosing | None:
    """The nearest task around the task of this config; None if that is in the outermost graph."""
    noted = innermost.get()
    if config is None or (noted is None and "|" not in config["configurable"].get("checkpoint_ns", "")):
        return noted
    return _around(config, noted)


def _around(config: Mapping[str, Any], noted: Enclosing | None) -> Enclosing | None:
    configurable = config["configurable"]
    if noted is not None and noted.task == configurable.get("__pregel_task_id", ""):
        noted = noted.outer
    caller = _caller_of(configurable) if "|" in configurable.get("checkpoint_ns", "") else None
    if caller is None:
        return noted
    task = caller["configurable"].get("__pregel_task_id", "")
    # The noted one has the caller's config itself, into which an inner graph's output is written; this is a copy.
    return noted if noted is not None and noted.task == task else Enclosing(task, caller, _around(caller, noted))


def _caller_of(configurable: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The config of the task that called the graph of this one; None if it cannot be told."""
    config: Mapping[str, Any] | None = getattr(_loop_in(configurable), "config", None)
    return config if config is not None and "__pregel_read" in config.get("configurable", {}) else None


def loop_of(config: Mapping[str, Any]) -> Any:
    """What runs the graph of a task, from its first step to its last; None if it has another form than we know."""
    return _loop_in(config["configurable"])


def _loop_in(configurable: Mapping[str, Any]) -> Any:
    call = configurable.get("__pregel_call")
    for cell in getattr(call, "__closure__", None) or ():  # guarded, in a node with a timeout
        if isinstance(cell.cell_contents, partial):
            call = cell.cell_contents
    return getattr(getattr(call, "keywords", {}).get("schedule_task"), "__self__", None)


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


def task_writes(config: Mapping[str, Any]) -> deque[Any] | None:
    """All that the task of this config has written so far; None if it cannot be reached.

    Its `send` may be guarded, as in a node with a timeout; LangGraph's means to read the state always has them.
    """
    writes = getattr(_record_of(config), "writes", None)
    return writes if isinstance(writes, deque) else None


def _record_of(config: Mapping[str, Any]) -> Any:
    """LangGraph's own record of a task: its path and its writes; None if it has another form than we know."""
    try:
        return config["configurable"]["__pregel_read"].args[-1]
    except (AttributeError, IndexError):
        return None


def in_send(config: Mapping[str, Any]) -> Any:
    """What the input of a task has under `budget` that was made by `Send`; None for any other task."""
    # An agent's own metadata may have taken the place of its caller's; the means to read the state have the path, too.
    path = getattr(_record_of(config), "path", None) or config.get("metadata", {}).get("langgraph_path", ())
    if len(path) < 2 or path[0] != "__pregel_push" or not isinstance(path[1], int):
        return None
    sends = config["configurable"]["__pregel_read"]("__pregel_tasks", False) or ()
    given = sends[path[1]].arg if path[1] < len(sends) else None
    return given.get(CHANNEL) if isinstance(given, Mapping) else getattr(given, CHANNEL, None)
