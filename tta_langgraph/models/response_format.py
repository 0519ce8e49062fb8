"""What a caller says about the form of the answer, in one form for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from typing_extensions import is_typeddict

from tta_langgraph.errors import ModelError
from tta_langgraph.models.json_schema import json_schema_of

__all__ = ["form_of", "schema_form"]


def form_of(response_format: object, *, where: str) -> dict[str, Any] | None:
    """`response_format` as OpenAI's chat completions spell it, with the schema as a dictionary.

    Args:
        response_format: `{"type": "text"}`, `{"type": "json_object"}`, `{"type": "json_schema", "json_schema":
            {"name": ..., "schema": ...}}`, where the schema may be a class as well, or a class alone: pydantic's, or a
            `TypedDict`. A schema beside the type, as llama.cpp and OpenAI's responses API take it, counts too.
        where: the model, named in errors.

    Returns:
        The form, or None where any text will do.

    Raises:
        ModelError: no such form, or a schema that is missing or none.

    Example:
        >>> form_of({"type": "json_object"}, where="a model")
        {'type': 'json_object'}
    """
    if response_format is None:
        return None
    if isinstance(response_format, type):
        return schema_form(_schema(response_format, where))
    if not isinstance(response_format, Mapping):
        raise _refused(f"response_format is {response_format!r:.80}", where)
    kind = response_format.get("type")
    if kind == "text":
        return None
    beside = response_format.get("schema")
    if kind == "json_object":
        return {"type": "json_object"} if beside is None else schema_form(_schema(beside, where))
    if kind != "json_schema":
        raise _refused(f"response_format has the type {kind!r:.80}", where)
    named = response_format.get("json_schema", {"schema": beside, "name": response_format.get("name")})
    if not isinstance(named, Mapping) or named.get("schema") is None:
        raise _refused("response_format has no schema", where)
    return schema_form(_schema(named["schema"], where), name=named.get("name"))


def schema_form(schema: Mapping[str, Any], *, name: str | None = None) -> dict[str, Any]:
    """The form of answers that follow a JSON schema.

    Args:
        schema: the JSON schema.
        name: what the protocol calls it; None takes its title.
    """
    title = name or str(schema.get("title") or "answer")
    return {"type": "json_schema", "json_schema": {"name": title, "schema": dict(schema), "strict": True}}


def _schema(shape: object, where: str) -> dict[str, Any]:
    if isinstance(shape, Mapping) or (isinstance(shape, type) and (hasattr(shape, "schema") or is_typeddict(shape))):
        return json_schema_of(shape)
    raise _refused(f"the schema of response_format is {shape!r:.80}", where)


def _refused(what: str, where: str) -> ModelError:
    return ModelError(what, where=where, remedy=_REMEDY)


_REMEDY: Final = (
    'Give {"type": "text"}, {"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": ..., '
    '"schema": {...}}}, a pydantic class or a TypedDict'
)
