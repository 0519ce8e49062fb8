"""Which tool to call: every API's spelling means the same on every engine, and a forced call keeps to its schema."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from tta_langgraph.errors import ModelError
from tta_langgraph.models.embedded import EmbeddedChatModel
from tta_langgraph.models.json_schema import openai_tool
from tta_langgraph.models.tool_choice import choice_of
from tta_langgraph.models.tool_schema import forced_call


def tool_with(definition: dict[str, Any], name: str = "place") -> dict[str, Any]:
    """A tool as MCP servers describe them: with definitions of its own, not resolved."""
    parameters = {
        "type": "object",
        "properties": {"p": {"$ref": "#/$defs/P"}},
        "required": ["p"],
        "$defs": {"P": definition},
    }
    return {"type": "function", "function": {"name": name, "description": "Places it.", "parameters": parameters}}


NUMBER = {"type": "object", "properties": {"x": {"type": "integer", "enum": [7]}}, "required": ["x"]}
PLACE = tool_with({**NUMBER, "additionalProperties": False})
OTHER = {"type": "function", "function": {"name": "other", "parameters": {"type": "object", "properties": {}}}}


class Tree(BaseModel):
    """A tree."""

    value: bool
    child: Tree | None


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        (None, None),
        (False, None),
        (True, "required"),
        ("any", "required"),
        ("required", "required"),
        ("auto", "auto"),
        ("none", "none"),
        ("place", "place"),
        ({"type": "any"}, "required"),
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "place"}, "place"),
        ({"type": "function", "name": "place"}, "place"),
        ({"type": "function", "function": {"name": "place"}}, "place"),
    ],
)
def test_every_spelling_of_a_choice_has_one_meaning(choice: object, meant: str | None) -> None:
    assert choice_of(choice, ["place"]) == meant


@pytest.mark.parametrize("choice", ["", 7, {}, {"type": "function"}, {"type": "allowed_tools"}, {"name": 3}])
def test_a_choice_that_means_nothing_is_refused(choice: object) -> None:
    with pytest.raises(ModelError, match="tool_choice"):
        choice_of(choice, ["place"])


def test_a_tool_that_is_not_offered_cannot_be_chosen() -> None:
    with pytest.raises(ModelError, match=r"'nope'.*place, other"):
        choice_of({"type": "tool", "name": "nope"}, ["place", "other"])


def test_definitions_of_one_name_in_two_tools_stay_apart() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema, definitions = forced_call([PLACE, tool_with({"type": "string"}, "say")], "required")
    allowed = jsonschema.Draft202012Validator({**schema, "$defs": definitions})
    assert allowed.is_valid({"name": "place", "arguments": {"p": {"x": 7}}})
    assert allowed.is_valid({"name": "say", "arguments": {"p": "x"}})
    assert not allowed.is_valid({"name": "say", "arguments": {"p": {"x": 7}}})


def test_a_tool_that_refers_to_itself_keeps_its_shape_all_the_way_down() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema, definitions = forced_call([openai_tool(Tree)], "Tree")
    allowed = jsonschema.Draft202012Validator({**schema, "$defs": definitions})
    leaf = {"value": True, "child": None}
    assert allowed.is_valid({"name": "Tree", "arguments": {"value": True, "child": {"value": True, "child": leaf}}})
    assert not allowed.is_valid({"name": "Tree", "arguments": {"value": True, "child": {"value": "no"}}})


@pytest.mark.parametrize(
    ("parameters", "allowed"),
    [
        (None, [{}]),
        ({"type": "object", "properties": {}}, [{}]),
        ({"type": "object", "properties": {}, "required": [], "title": "other", "additionalProperties": False}, [{}]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, [{}, {"x": 7}]),
        ({"type": "object", "additionalProperties": True}, [{}, {"x": 7}]),
        ({"type": "object", "properties": {"x": {"type": "integer"}}}, [{}, {"x": 7}]),
    ],
    ids=str,
)
def test_a_tool_without_arguments_is_given_none_and_any_other_keeps_its_own(
    parameters: dict[str, Any] | None, allowed: list[dict[str, Any]]
) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    function = {"name": "other", **({} if parameters is None else {"parameters": parameters})}
    schema, _ = forced_call([{"type": "function", "function": function}], "other")
    check = jsonschema.Draft202012Validator(schema)
    assert [arguments for arguments in ({}, {"x": 7}) if check.is_valid({"name": "other", "arguments": arguments})] == (
        allowed
    )


@pytest.mark.model
def test_the_embedded_model_ends_a_call_without_arguments(small_model: EmbeddedChatModel) -> None:
    [call] = small_model.bind_tools([OTHER], tool_choice="any").invoke("Do the other thing.", max_tokens=60).tool_calls
    assert (call["name"], call["args"]) == ("other", {})


@pytest.mark.model
@pytest.mark.parametrize(
    "choice",
    [{"type": "any"}, "any", {"type": "tool", "name": "place"}, {"type": "function", "function": {"name": "place"}}],
    ids=str,
)
@pytest.mark.parametrize("given", ["bound", "in the call"])
def test_the_embedded_model_makes_the_call_it_is_forced_to(
    small_model: EmbeddedChatModel, choice: Any, given: str
) -> None:
    forced = small_model.bind_tools([PLACE], tool_choice=choice)
    if given == "in the call":
        forced = small_model.bind(tools=[PLACE], tool_choice=choice)
    [call] = forced.invoke("Place it, please.", max_tokens=60).tool_calls
    assert (call["name"], call["args"]) == ("place", {"p": {"x": 7}})


@pytest.mark.model
def test_the_embedded_model_refuses_a_choice_of_a_tool_it_was_not_offered(small_model: EmbeddedChatModel) -> None:
    with pytest.raises(ModelError, match="nope"):
        small_model.invoke("hi", tools=[OTHER], tool_choice={"type": "tool", "name": "nope"})
