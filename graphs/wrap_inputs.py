"""How an agent of somebody else's takes a question, and where it puts its answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableBinding
from langgraph.graph import StateGraph
from pydantic import BaseModel

from tta_langgraph.errors import GraphError

Agent = Runnable[Any, Any]

QUESTION_FIELDS = ("messages", "question", "input", "query")
"""Input fields that are known to hold the question, the first one found wins."""
ANSWER_FIELDS = ("answer", "output", "result", "final_answer")
"""Output fields that are known to hold the answer."""


def check_runnable(agent: Any) -> None:
    """Says what to do with what is nearly an agent.

    Raises:
        GraphError: it is a function, a graph that was not compiled, or nothing that can be run.
    """
    if isinstance(agent, Runnable):
        return
    if isinstance(agent, StateGraph):
        what, remedy = "the agent is a graph that was not compiled", "Pass agent.compile()"
    elif callable(agent):
        what, remedy = "the agent is a plain function", "Pass langchain_core.runnables.RunnableLambda(agent)"
    else:
        what, remedy = f"a {type(agent).__name__} cannot be run", "Pass a runnable, a compiled graph or a chat model"
    raise GraphError(what, where="wrap_agent(agent)", remedy=remedy)


def input_kind(agent: Agent) -> str:
    """How an agent takes the question: `list` (of messages), `text`, or the name of a field.

    Raises:
        GraphError: its input schema does not say.
    """
    inner = agent
    while isinstance(inner, RunnableBinding):
        inner = inner.bound
    if isinstance(inner, BaseChatModel):
        return "list"
    fields = _fields(getattr(getattr(inner, "builder", None), "input_schema", None)) or _declared(agent)
    if not fields:
        return "text"
    for name in QUESTION_FIELDS:
        if name in fields:
            return name
    raise GraphError(
        f"the agent takes {', '.join(fields)}, and none of them is known to be the question",
        where="wrap_agent(agent)",
        remedy="Say how to ask it: make_input=lambda state: {...}",
    )


def final_text(output: Any) -> str:
    """An agent's final text: a string, a message, the last message, or one of the usual fields.

    Raises:
        GraphError: there is none.
    """
    if isinstance(output, str):
        return output
    if isinstance(output, BaseMessage):
        return str(output.text)
    messages = output
    if isinstance(output, Mapping):
        for name in ANSWER_FIELDS:
            if isinstance(output.get(name), str):
                return str(output[name])
        messages = output.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], BaseMessage):
        return str(messages[-1].text)
    raise GraphError(
        f"no answer found in the agent's output ({type(output).__name__})",
        where="wrap_agent(agent)",
        remedy="Say where it is: read_output=lambda output: ...",
    )


def _declared(agent: Agent) -> tuple[str, ...]:
    """The fields of the declared input type, else of the JSON schema; none for a plain text."""
    try:
        found = _fields(agent.InputType)
    except TypeError:
        found = ()
    if found:
        return found
    try:
        schema = agent.get_input_jsonschema()
    except Exception:  # a runnable of plain functions may have no schema that can be written down
        return ()
    if "$ref" in schema:
        schema = schema.get("$defs", {}).get(str(schema["$ref"]).rpartition("/")[2], {})
    return tuple(schema.get("properties") or ())


def _fields(schema: Any) -> tuple[str, ...]:
    if not isinstance(schema, type):
        return ()
    if issubclass(schema, BaseModel):
        return tuple(schema.model_fields)
    if dataclasses.is_dataclass(schema):
        return tuple(field.name for field in dataclasses.fields(schema))
    if not hasattr(schema, "__total__"):  # what a TypedDict has
        return ()
    try:
        return tuple(get_type_hints(schema))
    except NameError:
        return tuple(schema.__annotations__)
