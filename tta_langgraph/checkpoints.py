"""What a checkpointer must know to read this package's state back without a warning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import langchain_core.messages as messages
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from tta_langgraph.state import EpisodeState


def checkpoint_serializer(*more: type) -> JsonPlusSerializer:
    """A serializer for checkpointers that reads this package's state, chat messages and the types named, no others.

    Outside of its strict mode (`LANGGRAPH_STRICT_MSGPACK`), LangGraph warns of every type that it was not told of, when
    it reads a checkpoint. In strict mode it finds the types in the graph's schema by itself, and this is not needed.

    Args:
        more: further types that the graph's state holds: dataclasses, pydantic models, enums.

    Example:
        ```python
        import sqlite3

        from langgraph.checkpoint.sqlite import SqliteSaver
        from tta_langgraph.checkpoints import checkpoint_serializer

        connection = sqlite3.connect("checkpoints.sqlite", check_same_thread=False)
        checkpointer = SqliteSaver(connection, serde=checkpoint_serializer())
        ```
    """
    known = {*_types_in(EpisodeState), *_messages(), *more}
    return JsonPlusSerializer(allowed_msgpack_modules=sorted((kind.__module__, kind.__name__) for kind in known))


def _types_in(kind: Any) -> Iterator[type]:
    """The dataclasses and models that values of a type consist of."""
    found: set[type] = set()
    waiting = [kind]
    while waiting:
        seen = waiting.pop()
        if isinstance(seen, type) and (is_dataclass(seen) or issubclass(seen, BaseModel)):
            if seen in found:
                continue
            found.add(seen)
            names = [each.name for each in fields(seen)] if is_dataclass(seen) else list(seen.model_fields)
            hints = get_type_hints(seen)
            waiting += [hints[name] for name in names]
        elif seen is EpisodeState:
            waiting += get_type_hints(seen).values()
        else:
            waiting += get_args(seen)
    yield from found


def _messages() -> Iterator[type]:
    kinds = (getattr(messages, name) for name in messages.__all__)
    return (kind for kind in kinds if isinstance(kind, type) and issubclass(kind, messages.BaseMessage))
