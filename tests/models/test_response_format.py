"""`response_format` and schemas: whatever OpenAI's API takes is enforced as it was meant, or refused by name."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import TypedDict

from tta_langgraph.errors import ModelError
from tta_langgraph.models.embedded import EmbeddedChatModel
from tta_langgraph.models.embedded_wire import request_body
from tta_langgraph.models.json_schema import json_schema_of, openai_tool
from tta_langgraph.models.response_format import form_of
from tta_langgraph.models.structured import structured_output
from tta_langgraph.models.vllm_params import CallOptions


class Singer(BaseModel):
    """A singer."""

    name: str


class SingerDict(TypedDict):
    """A singer."""

    name: str


class Tree(BaseModel):
    """A tree."""

    kind: Literal["leaf", "branch"]
    child: Tree | None = None


class TreeDict(TypedDict):
    """A tree."""

    kind: Literal["leaf", "branch"]
    child: TreeDict | None


class TreeV1(BaseModelV1):
    """A tree, in pydantic's first version."""

    kind: Literal["leaf", "branch"]
    child: TreeV1 | None = None


TreeV1.update_forward_refs()


class Garden(BaseModel):
    """Holds something that refers to itself."""

    tree: Tree


def plant(tree: Tree) -> str:
    """Plants a tree.

    Args:
        tree: What to plant.
    """
    return tree.kind


PLAIN = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
ROOTED = {"title": "Rooted", **Tree.model_json_schema()}
NAMED = {"name": "singer", "schema": PLAIN}


def schemas_of(response_format: Any) -> list[Any]:
    """What each of the two engines is told to enforce."""
    body = request_body([HumanMessage("hi")], {"response_format": response_format})
    options = CallOptions.read({"response_format": response_format}, model="m")
    return [body["response_format"]["json_schema"]["schema"], options.sampling["structured_outputs"]["json"]]


@pytest.mark.parametrize(
    "given",
    [
        {"type": "json_schema", "json_schema": NAMED},
        {"type": "json_schema", "json_schema": {"name": "singer", "schema": Singer}},
        {"type": "json_schema", **NAMED},
        {"type": "json_object", "schema": PLAIN},
        Singer,
        SingerDict,
    ],
    ids=["dict", "class inside", "responses API", "llama.cpp", "pydantic", "TypedDict"],
)
def test_every_way_to_give_a_schema_is_enforced_by_both_engines(given: Any) -> None:
    for schema in schemas_of(given):
        assert schema["properties"]["name"]["type"] == "string"
        assert schema["required"] == ["name"]


def test_text_and_any_object_need_no_schema() -> None:
    assert form_of({"type": "text"}, where="m") is None
    assert form_of({"type": "json_object"}, where="m") == {"type": "json_object"}
    sampling = CallOptions.read({"response_format": {"type": "json_object"}}, model="m").sampling
    assert sampling["structured_outputs"] == {"json_object": True}


@pytest.mark.parametrize(
    "given",
    [
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "singer"}},
        {"type": "json_schema", "json_schema": "singer"},
        {"type": "json_schema", "json_schema": {"name": "singer", "schema": True}},
        {"type": "xml"},
        PLAIN,
        {},
        "json",
        int,
        Singer(name="Ella"),
    ],
    ids=str,
)
def test_what_is_no_format_is_refused_with_the_ones_there_are(given: Any) -> None:
    for read in (
        lambda: request_body([HumanMessage("hi")], {"response_format": given}),
        lambda: CallOptions.read({"response_format": given}, model="m"),
    ):
        with pytest.raises(ModelError, match=r"response_format.*json_object.*pydantic class"):
            read()


@pytest.mark.parametrize(
    "shape",
    [Tree, TreeDict, TreeV1, Garden, ROOTED, plant, tool(plant)],
    ids=["pydantic", "TypedDict", "pydantic 1", "inside another", "at the root", "function", "tool"],
)
def test_what_refers_to_itself_keeps_its_shape_all_the_way_down(shape: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    deep: Any = {"kind": "branch", "child": {"kind": "branch", "child": {"kind": "leaf", "child": None}}}
    wrong: Any = {"kind": "branch", "child": {"kind": "branch", "child": {"kind": "stone", "child": None}}}
    if shape is Garden or not isinstance(shape, type | dict):
        deep, wrong = {"tree": deep}, {"tree": wrong}
    for schema in (json_schema_of(shape), openai_tool(shape)["function"]["parameters"]):
        allowed = jsonschema.Draft202012Validator(schema)
        assert not allowed.is_valid(wrong)
        assert allowed.is_valid(deep) or shape is TreeV1  # which knows no null


def test_a_schema_without_properties_is_not_lost() -> None:
    numbers = {"title": "Numbers", "type": "array", "items": {"type": "integer"}}
    assert json_schema_of(numbers) == numbers
    assert openai_tool(numbers)["function"]["parameters"]["items"] == {"type": "integer"}
    assert json_schema_of(PLAIN) == PLAIN  # a title is nothing the answer needs


@pytest.mark.parametrize("shape", [PLAIN, 7, "Singer", {"type": "web_search"}], ids=str)
def test_what_no_tool_can_be_made_of_is_refused_with_what_can(shape: Any) -> None:
    with pytest.raises(ModelError, match=r"pydantic class"):
        openai_tool(shape)


@pytest.mark.model
@pytest.mark.parametrize("shape", [Tree, TreeDict, TreeV1], ids=["pydantic", "TypedDict", "pydantic 1"])
def test_the_embedded_model_keeps_to_a_shape_that_refers_to_itself(small_model: EmbeddedChatModel, shape: Any) -> None:
    model = small_model.model_copy(update={"max_tokens": 24, "temperature": 0.0})
    chain = structured_output(model, shape, method="json_schema", include_raw=True)
    text = chain.invoke("A tree in JSON. Its child is named Bob.")["raw"].text
    children = re.findall(r'"child"\s*:\s*(.)', text)
    assert children
    assert all(child in "{n" for child in children), text  # a tree or nothing, not what the prompt asks for
    assert '"kind"' in text
