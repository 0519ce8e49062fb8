"""Answers of a given shape, whatever the engine: what was not given, and what was cut, is no surprise later."""

from __future__ import annotations

import pytest
from langchain_core.exceptions import OutputParserException
from pydantic import BaseModel

from tta_langgraph.models.structured import structured_output
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model


class Singer(BaseModel):
    """A singer."""

    name: str


def test_json_mode_needs_no_schema() -> None:
    with ScriptedServer(script=lambda _: '{"name": "Ella"}') as server:
        chain = structured_output(scripted_chat_model(server), None, method="json_mode", include_raw=False)
        assert chain.invoke("who?") == {"name": "Ella"}


def test_a_call_that_was_cut_is_an_error_and_not_none() -> None:
    with ScriptedServer(script=lambda _: Reply(text="word " * 50)) as server:
        model = scripted_chat_model(server, max_tokens=3)
        strict = structured_output(model, Singer, method="function_calling", include_raw=False)
        with pytest.raises(OutputParserException, match="cut at the token limit"):
            strict.invoke("who?")
        raw = structured_output(model, Singer, method="function_calling", include_raw=True)
        found = raw.invoke("who?")
        assert found["parsed"] is None
        assert "cut at the token limit" in str(found["parsing_error"])
