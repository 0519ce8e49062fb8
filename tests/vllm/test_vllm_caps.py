"""A cap said twice, in whatever place: the smaller one holds; and n has one value."""

from __future__ import annotations

from typing import Any

import pytest

from tta_langgraph.errors import ModelError
from tta_langgraph.models.vllm import ChatVLLM
from tta_langgraph.models.vllm_params import CallOptions


def sampling(model: ChatVLLM, **call: Any) -> Any:
    return model._options(call).sampling


@pytest.mark.parametrize(
    "call",
    [
        {"max_completion_tokens": 200, "max_tokens": 50},
        {"max_completion_tokens": 50, "max_tokens": 200},
        {"extra_body": {"max_tokens": 200}, "max_tokens": 50},
        {"extra_body": {"max_tokens": 50}, "max_tokens": 200},
        {"extra_body": {"max_completion_tokens": 200}, "max_tokens": 50.0},
    ],
)
def test_the_smaller_of_two_caps_of_a_call_holds(call: dict[str, Any]) -> None:
    assert CallOptions.read(call, model="m").sampling["max_tokens"] == 50
    assert sampling(ChatVLLM(model="m"), **call)["max_tokens"] == 50


@pytest.mark.parametrize(
    "always",
    [
        {"max_tokens": 64},
        {"max_completion_tokens": 64},
        {"extra_body": {"max_tokens": 64}},
        {"extra_body": {"max_completion_tokens": 64}},
    ],
)
def test_a_cap_sent_with_every_call_neither_lifts_nor_yields_to_the_calls_own(always: dict[str, Any]) -> None:
    model = ChatVLLM(model="m", model_kwargs=always)
    assert sampling(model)["max_tokens"] == 64
    assert sampling(model, max_tokens=50)["max_tokens"] == 50
    assert sampling(model, max_tokens=200)["max_tokens"] == 64
    assert sampling(model, extra_body={"top_k": 4})["max_tokens"] == 64


def test_the_models_own_cap_is_a_default_that_a_call_replaces() -> None:
    model = ChatVLLM(model="m", max_tokens=16)
    assert sampling(model)["max_tokens"] == 16
    assert sampling(model, max_tokens=32)["max_tokens"] == 32
    assert sampling(model, max_completion_tokens=32)["max_tokens"] == 32
    assert "max_tokens" not in sampling(model, max_tokens=None)


def test_two_different_numbers_of_samples_are_refused() -> None:
    for model, call in (
        (ChatVLLM(model="m"), {"n": 2, "extra_body": {"n": 4}}),
        (ChatVLLM(model="m", model_kwargs={"n": 4}), {"n": 2}),
        (ChatVLLM(model="m", model_kwargs={"extra_body": {"n": 4}}), {"n": 2}),
    ):
        with pytest.raises(ModelError, match="n is given as 2 and as 4"):
            sampling(model, **call)


def test_a_number_of_samples_may_be_repeated_and_replaces_the_models_own() -> None:
    assert sampling(ChatVLLM(model="m", n=3), n=2, extra_body={"n": 2})["n"] == 2
    assert sampling(ChatVLLM(model="m", model_kwargs={"n": 4}))["n"] == 4


def test_several_samples_are_not_streamed_wherever_their_number_was_said() -> None:
    assert ChatVLLM(model="m", streaming=True)._should_stream(async_api=False)
    assert not ChatVLLM(model="m", streaming=True)._should_stream(async_api=False, extra_body={"n": 2})
    assert not ChatVLLM(model="m", streaming=True, model_kwargs={"n": 2})._should_stream(async_api=False)


def test_an_extra_body_of_a_call_adds_to_that_of_every_call() -> None:
    model = ChatVLLM(model="m", model_kwargs={"extra_body": {"top_k": 4, "min_p": 0.1}})
    assert sampling(model, extra_body={"min_p": 0.2}) == {"n": 1, "top_k": 4, "min_p": 0.2}
