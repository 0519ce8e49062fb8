"""A value of the wrong kind is refused by name, here: the engine's process would die of it in silence."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tta_langgraph.errors import ModelError
from tta_langgraph.models.vllm_env import vllm_distribution
from tta_langgraph.models.vllm_params import CallOptions, sampling_params


def read(**options: object) -> CallOptions:
    return CallOptions.read(options, model="m")


@pytest.mark.parametrize("name", ["max_tokens", "min_tokens", "seed", "n", "top_k", "max_completion_tokens"])
def test_a_whole_number_may_be_written_as_a_float(name: str) -> None:
    value = next(iter(read(**{name: 5.0}).sampling.values()))
    assert value == 5
    assert type(value) is int


def test_keys_of_a_logit_bias_may_be_strings_as_json_makes_them() -> None:
    assert read(logit_bias={"100": -100, 7: 2}).sampling["logit_bias"] == {100: -100.0, 7: 2.0}


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 5.5},
        {"max_tokens": "5"},
        {"max_tokens": True},
        {"max_completion_tokens": "5"},
        {"min_tokens": 2.5},
        {"min_tokens": math.inf},
        {"seed": 2**65},
        {"seed": "1"},
        {"seed": 10**400},
        {"temperature": 10**400},
        {"n": "2"},
        {"n": True},
        {"top_k": 2.5},
        {"top_logprobs": 2.5},
        {"priority": "high"},
        {"temperature": "0.5"},
        {"temperature": math.nan},
        {"top_p": True},
        {"timeout": "1"},
        {"ignore_eos": "yes"},
        {"stop": [1]},
        {"stop": 1},
        {"bad_words": "a b"},
        {"stop_token_ids": ["1"]},
        {"stop_token_ids": 1},
        {"allowed_token_ids": [1.5]},
        {"logit_bias": {"a": 1}},
        {"logit_bias": {1: "2"}},
        {"logit_bias": [1]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        {"response_format": CallOptions},
        {"structured_outputs": "yes"},
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=next(iter(options))):
        read(**options)


def test_what_the_engines_process_could_not_read_is_not_sent() -> None:
    if vllm_distribution() is None:
        pytest.skip("vllm is not installed; see docs/concepts/vllm.md")
    with pytest.raises(ModelError, match="max_tokens"):
        sampling_params(CallOptions(sampling={"max_tokens": 5.0}), {}, 100, stream=False)
