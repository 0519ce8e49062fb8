"""`with_structured_output` for models whose engine enforces a JSON schema while decoding."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.base import BaseOutputParser
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel


def json_schema_output(
    model: BaseChatModel, schema: dict[str, Any] | type, *, include_raw: bool, enforce: bool = True
) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
    """A model whose answers are JSON of the given schema, parsed.

    Args:
        model: accepts `response_format` in the OpenAI shape.
        schema: a pydantic class, a `TypedDict`, or a JSON schema with a `title`.
        include_raw: return `{"raw", "parsed", "parsing_error"}` instead of the parsed value, and never
            raise for what the model wrote.
        enforce: False asks for any JSON object (`json_mode`) and leaves the schema to the prompt.
    """
    wire = convert_to_json_schema(schema)
    name = str(wire.get("title", "answer"))
    form: dict[str, Any] = {"type": "json_object"}
    if enforce:
        form = {"type": "json_schema", "json_schema": {"name": name, "schema": wire, "strict": True}}
    bound = model.bind(
        response_format=form,
        ls_structured_output_format={"kwargs": {"method": "json_schema"}, "schema": wire},
    )
    parser: BaseOutputParser[Any]
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        parser = PydanticOutputParser(pydantic_object=schema)
    else:
        parser = JsonOutputParser()
    if not include_raw:
        return bound | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | parsed.with_fallbacks([failed], exception_key="parsing_error")
