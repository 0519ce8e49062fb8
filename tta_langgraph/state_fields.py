"""A graph's state as a mapping, whichever of LangGraph's three kinds its schema is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from tta_langgraph.errors import GraphError


def state_fields(state: Any) -> Mapping[str, Any]:
    """The fields of a state by name: LangGraph hands out a mapping, a pydantic model or a dataclass.

    Raises:
        GraphError: it is none of these.
    """
    if isinstance(state, Mapping):
        return state
    if isinstance(state, BaseModel):
        return dict(state)
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    raise GraphError(
        f"a {type(state).__name__} is not a state",
        where="the node's input",
        remedy="Give it the graph's state: a mapping, a pydantic model or a dataclass",
    )
