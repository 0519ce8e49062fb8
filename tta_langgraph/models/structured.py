"""`with_structured_output` for models whose engine enforces a JSON schema while decoding."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Literal

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.pydantic import is_basemodel_subclass

from tta_langgraph.errors import ModelError
from tta_langgraph.models.json_schema import json_schema_of, openai_tool
from tta_langgraph.models.response_format import schema_form

__all__ = ["Method", "structured_output"]

Method = Literal["json_schema", "function_calling", "json_mode"]
"""How the answer is constrained: to the schema, to a forced tool call, or to any JSON object."""


def structured_output(
    model: BaseChatModel, schema: Any, *, method: Method, include_raw: bool
) -> Runnable[LanguageModelInput, Any]:
    """A model whose answers have the given shape, parsed.

    Args:
        model: takes tools, and `response_format` in the OpenAI shape.
        schema: a pydantic class (of version 1 or 2), a `TypedDict`, or a JSON schema (with a `title`, which names
            the tool, for a forced tool call). What refers to itself is enforced all the way down.
        method: how the answer is constrained.
        include_raw: return `{"raw", "parsed", "parsing_error"}` instead of the parsed value, and never raise for
            what the model wrote.

    Raises:
        ModelError: an unknown method, no schema for a method that needs one, or something that is no schema.
    """
    if schema is None and method != "json_mode":
        raise ModelError(f"method {method!r} needs a schema", where="with_structured_output")
    is_pydantic = isinstance(schema, type) and is_basemodel_subclass(schema)
    parser: Runnable[Any, Any]
    if method == "function_calling":
        name = openai_tool(schema)["function"]["name"]
        bound: Runnable[LanguageModelInput, Any] = model.bind_tools(
            [schema], tool_choice=name, parallel_tool_calls=False, **_format(schema, method)
        )
        if is_pydantic:
            parser = PydanticToolsParser(tools=[schema], first_tool_only=True)
        else:
            parser = JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
        parser = RunnablePassthrough(_refuse_cut) | parser  # a call that was cut is no call, and would be None
    elif method in ("json_schema", "json_mode"):
        bound = model.bind(response_format=_response_format(schema, method), **_format(schema, method))
        parser = PydanticOutputParser(pydantic_object=schema) if is_pydantic else JsonOutputParser()
        parser = RunnablePassthrough(_refuse_cut) | parser  # checks the whole answer, lets a stream through
    else:
        raise ModelError(
            f"unknown method {method!r}",
            where="with_structured_output",
            remedy="Use json_schema, function_calling or json_mode",
        )
    return _with_raw(bound, parser) if include_raw else bound | parser


def _refuse_cut(message: BaseMessage) -> None:
    """The JSON parser is lenient and would complete a cut answer in silence."""
    if message.response_metadata.get("finish_reason") == "length":
        raise OutputParserException(
            "The answer was cut at the token limit. Raise max_tokens or ask for a smaller object.",
            llm_output=message.text,
        )


def _response_format(schema: Any, method: Method) -> dict[str, Any]:
    return {"type": "json_object"} if method == "json_mode" else schema_form(json_schema_of(schema))


def _format(schema: Any, method: Method) -> dict[str, Any]:
    """What LangSmith shows; LangChain takes it out again before the call."""
    if schema is None:
        return {}  # LangChain looks for a schema in it
    shown = openai_tool({"title": "answer", **schema} if isinstance(schema, Mapping) else schema)
    return {"ls_structured_output_format": {"kwargs": {"method": method}, "schema": shown}}


def _with_raw(
    bound: Runnable[LanguageModelInput, Any], parser: Runnable[Any, Any]
) -> Runnable[LanguageModelInput, Any]:
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | parsed.with_fallbacks([failed], exception_key="parsing_error")
