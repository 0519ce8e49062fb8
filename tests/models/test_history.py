"""Histories that other models wrote, and texts that no engine can take: shown as text, or refused before the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from tta_langgraph.errors import ModelError
from tta_langgraph.models.embedded import EmbeddedChatModel, create_embedded_model
from tta_langgraph.models.embedded_wire import request_body
from tta_langgraph.models.errors import UnsendableError
from tta_langgraph.models.vllm_prompt import PromptBuilder

Render = Callable[[list[BaseMessage]], str]
HALF = "caf\ud800"
"""Text with half of a surrogate pair, as `json.loads` makes it of a cut string."""


class Tokenizer:
    """What `PromptBuilder` needs of a tokenizer; the template shows roles and texts."""

    chat_template = "any"

    def apply_chat_template(self, messages: list[dict[str, Any]], **_: Any) -> str:
        return " ".join(f"{message['role']}={message['content']}" for message in messages)

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


def by_vllm(messages: list[BaseMessage], **options: Any) -> str:
    return "".join(map(chr, PromptBuilder(Tokenizer(), where="m").token_ids(messages, **options)))


def by_llama(messages: list[BaseMessage], **options: Any) -> str:
    sent = request_body(messages, options)["messages"]
    return " ".join(f"{message['role']}={message['content']}" for message in sent)


both = pytest.mark.parametrize("render", [by_vllm, by_llama], ids=["vLLM", "llama.cpp"])


@both
@pytest.mark.parametrize(
    "block",
    [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "reasoning", "summary": [], "id": "rs_1"},
        {"type": "reasoning_content", "reasoning_content": {"text": "hm"}},
        {"type": "non_standard", "value": {"any": "thing"}},
        {"type": "server_tool_call", "name": "search", "args": {}},
    ],
    ids=lambda block: block["type"],
)
def test_the_thoughts_of_another_model_are_left_out(render: Render, block: dict[str, Any]) -> None:
    answer = AIMessage([block, {"type": "text", "text": "42"}])
    assert render([HumanMessage("6 * 7?"), answer, HumanMessage("why?")]) == "user=6 * 7? assistant=42 user=why?"
    assert render([HumanMessage("6 * 7?"), AIMessage([block])]) == "user=6 * 7? assistant="


@both
def test_every_form_of_text_is_shown(render: Render) -> None:
    blocks = ["a", {"type": "text", "text": "b"}, {"type": "output_text", "text": "c"}]
    assert render([AIMessage([*blocks, {"type": "refusal", "refusal": "d"}])]) == "assistant=a\nb\nc\nd"  # type: ignore[list-item]


@both
@pytest.mark.parametrize(
    "block", [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aa"}}, {"text": "untyped"}, {"a": 1}]
)
def test_what_is_no_text_is_refused_and_not_dropped(render: Render, block: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"not supported.*Send text"):
        render([HumanMessage([block])])


@both
def test_half_a_surrogate_pair_is_shown_with_its_surroundings_before_anything_is_sent(render: Render) -> None:
    with pytest.raises(UnsendableError, match=r"surrogate pair.*caf.*replace") as caught:
        render([HumanMessage(HALF)])
    assert caught.value.nothing_sent
    assert "café 😀" in render([HumanMessage("café 😀")])


@both
def test_continuing_needs_something_to_continue(render: Callable[..., str]) -> None:
    for messages in ([], [HumanMessage("hi")], [HumanMessage("hi"), AIMessage("")]):
        with pytest.raises(ModelError, match=r"nothing to continue.*AIMessage"):
            render(messages, continue_final_message=True)
    assert render([HumanMessage("hi"), AIMessage("SELECT ")], continue_final_message=True).endswith("SELECT ")


def test_no_message_at_all_is_nothing_to_answer() -> None:
    with pytest.raises(ModelError, match="no message to answer"):
        by_vllm([])
    with pytest.raises(ModelError, match="no message to answer"):
        create_embedded_model().invoke([])


def test_an_option_that_is_no_json_is_named() -> None:
    with pytest.raises(UnsendableError, match="Object of type object is not JSON"):
        request_body([HumanMessage("hi")], {"extra_body": {"logit_bias": object()}})


@pytest.mark.model
def test_the_embedded_model_answers_and_continues_a_history_with_thoughts(small_model: EmbeddedChatModel) -> None:
    thought = {"type": "thinking", "thinking": "They want a number.", "signature": "s"}
    asked = [HumanMessage("Count."), AIMessage([thought, {"type": "text", "text": "1, 2,"}])]
    assert small_model.invoke([*asked, HumanMessage("Go on.")], max_tokens=2).usage_metadata is not None
    assert small_model.invoke(asked, max_tokens=2, continue_final_message=True, add_generation_prompt=False).text
    for call in (small_model.count_text, small_model.get_token_ids, small_model.invoke):
        with pytest.raises(UnsendableError):
            call(HALF)
