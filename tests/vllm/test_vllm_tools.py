"""Tool calls read back from text, and forced by a schema."""

from __future__ import annotations

import json

import pytest

from tta_langgraph.errors import ModelError
from tta_langgraph.models.vllm_tools import forced_schema, hermes_instructions, parse_forced, parse_text, safe_prefix

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
NOW = {"type": "function", "function": {"name": "now", "description": "The time."}}


def hermes(call: object) -> str:
    return f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


def test_calls_are_taken_out_of_the_text_around_them() -> None:
    text = "Let me look. " + hermes({"name": "weather", "arguments": {"city": "Oslo"}})
    parsed = parse_text(text + hermes({"name": "now", "arguments": {}}), parser="hermes")
    assert parsed.content == "Let me look."
    assert [(call["name"], call["args"]) for call in parsed.calls] == [("weather", {"city": "Oslo"}), ("now", {})]
    assert len({call["id"] for call in parsed.calls}) == 2


def test_a_text_without_calls_is_left_as_it_is() -> None:
    assert parse_text("  a < b  ", parser="hermes").content == "  a < b  "


@pytest.mark.parametrize("body", ['{"name": "weather", "argu', '{"arguments": {}}', '{"name": "w", "arguments": "x"}'])
def test_a_broken_call_is_reported_not_lost(body: str) -> None:
    parsed = parse_text(f"<tool_call>{body}</tool_call>", parser="hermes")
    assert parsed.calls == []
    assert parsed.invalid[0]["args"] == body
    assert parsed.invalid[0]["error"]


def test_a_forced_call_cut_by_the_limit_keeps_the_whole_ones_before_it() -> None:
    whole = json.dumps({"name": "weather", "arguments": {"city": "Oslo, ]"}})
    assert [call["args"] for call in parse_forced(f"[{whole}]").calls] == [{"city": "Oslo, ]"}]
    cut = parse_forced(f'[{whole}, {{"name": "wea')
    assert len(cut.calls) == len(cut.invalid) == 1
    assert parse_forced("").calls == []


def test_a_growing_text_is_shown_up_to_where_a_call_might_begin() -> None:
    text = "I see. " + hermes({"name": "now", "arguments": {}})
    shown = [text[: safe_prefix(text[:length], parser="hermes")] for length in range(len(text) + 1)]
    assert all("<" not in part for part in shown)
    assert shown[-1] == "I see. "
    assert safe_prefix("a < b <to", parser="hermes") == len("a < b ")


def test_forcing_allows_only_calls_of_the_chosen_tool() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    one = {"name": "weather", "arguments": {"city": "Oslo"}}
    chosen = jsonschema.Draft202012Validator(forced_schema([WEATHER, NOW], "weather", parallel=True))
    assert chosen.is_valid([one])
    assert not chosen.is_valid([])
    assert not chosen.is_valid([one, one])
    assert not chosen.is_valid([{"name": "now", "arguments": {}}])
    assert not chosen.is_valid([{"name": "weather", "arguments": {}}])
    either = jsonschema.Draft202012Validator(forced_schema([WEATHER, NOW], "required", parallel=True))
    assert either.is_valid([one, {"name": "now", "arguments": {}}])
    assert not either.is_valid([{"name": "now", "arguments": {"invented": 1}}])
    single = jsonschema.Draft202012Validator(forced_schema([WEATHER, NOW], "required", parallel=False))
    assert not single.is_valid([one, one])


def test_a_call_without_arguments_has_no_room_for_white_space_that_never_ends() -> None:
    xgrammar = pytest.importorskip("xgrammar", reason="xgrammar, which comes with vLLM, is not installed")
    from xgrammar.testing import _is_grammar_accept_string as accepts

    grammar = xgrammar.Grammar.from_json_schema(json.dumps(forced_schema([NOW], "now", parallel=True)))
    assert accepts(grammar, '[{"name": "now", "arguments": {}}]')
    assert not accepts(grammar, '[{"name": "now", "arguments": {\n\n\n}}]')


def test_calls_that_could_only_repeat_each_other_come_to_an_end() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    call, other = {"name": "now", "arguments": {}}, {"name": "here", "arguments": {}}
    here = {"type": "function", "function": {"name": "here", "parameters": {"type": "object", "properties": {}}}}
    both = jsonschema.Draft202012Validator(forced_schema([NOW, here], "required", parallel=True))
    assert both.is_valid([call, other])
    assert not both.is_valid([call, other, call])
    oslo, rome = ({"name": "weather", "arguments": {"city": city}} for city in ("Oslo", "Rome"))
    mixed = jsonschema.Draft202012Validator(forced_schema([NOW, WEATHER], "required", parallel=True))
    assert mixed.is_valid([call, oslo, rome]), "calls with arguments may differ"


def test_forcing_a_tool_nobody_bound_names_those_that_are() -> None:
    with pytest.raises(ModelError, match="weather, now"):
        forced_schema([WEATHER, NOW], "clock", parallel=True)


def test_instructions_carry_every_signature_and_the_form_the_parser_reads() -> None:
    text = hermes_instructions([WEATHER, NOW])
    assert json.dumps(WEATHER) in text
    assert json.dumps(NOW) in text
    assert parse_text(text, parser="hermes").calls[0]["name"] == "the function"
