"""Call options: OpenAI's names and vLLM's own mean the same, and a wrong one is named."""

from __future__ import annotations

import pytest
from langchain_core.messages import HumanMessage

from tta_langgraph.errors import ModelError
from tta_langgraph.models.vllm import ChatVLLM
from tta_langgraph.models.vllm_env import vllm_distribution
from tta_langgraph.models.vllm_params import CallOptions

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}


def read(**options: object) -> CallOptions:
    return CallOptions.read(options, model="m")


def test_a_call_written_for_a_server_reads_the_same() -> None:
    served = read(extra_body={"continue_final_message": True, "add_generation_prompt": False, "top_k": 5})
    assert served == read(continue_final_message=True, top_k=5)
    assert read(max_completion_tokens=9) == read(max_tokens=9)


def test_an_openai_response_format_becomes_guided_decoding() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    assert read(response_format=wanted).sampling["structured_outputs"] == {"json": SCHEMA}
    assert read(response_format={"type": "json_object"}).sampling["structured_outputs"] == {"json_object": True}
    assert "structured_outputs" not in read(response_format={"type": "text"}).sampling
    with pytest.raises(ModelError, match="grammar_x"):
        read(response_format={"type": "grammar_x"})


def test_only_a_forced_tool_choice_constrains_the_answer() -> None:
    assert not read(tools=[TOOL]).forced
    assert read(tools=[TOOL], tool_choice="required").forced
    assert read(tools=[TOOL], tool_choice="now").sampling["structured_outputs"]["json"]["maxItems"] == 1
    assert read(tools=[TOOL], tool_choice="none").tools is None


def test_alternatives_imply_log_probabilities_and_zero_is_not_none() -> None:
    assert read().top_logprobs is None
    assert read(logprobs=True).top_logprobs == 0
    assert read(top_logprobs=4).sampling["logprobs"] == 4


@pytest.mark.parametrize(
    "options", [{"max_tokens": 0}, {"max_tokens": -1}, {"n": 0}, {"n": 2, "temperature": 0}, {"tempature": 1}]
)
def test_an_impossible_option_is_refused_by_name(options: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=next(iter(options))):
        read(**options)


def test_fields_of_the_model_are_checked_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="tempature"):
        ChatVLLM(model="m", tempature=1)


def test_a_model_that_cannot_be_found_is_an_error_before_any_engine_starts(tmp_path: object) -> None:
    if vllm_distribution() is None:
        pytest.skip("vllm is not installed; see docs/concepts/vllm.md")
    with pytest.raises(ModelError, match="no such folder"):
        ChatVLLM(model=f"{tmp_path}/missing").invoke([HumanMessage("hi")])
