"""The caps of a call on the embedded model: however they are spelled, the smallest holds, for all turns together."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from tta_langgraph.errors import ModelError
from tta_langgraph.models.embedded import EmbeddedChatModel
from tta_langgraph.models.embedded_engine import EmbeddedEngine
from tta_langgraph.models.errors import ModelTimeoutError

PROMPT = [HumanMessage("Write a long story about a ship.")]
ENDLESS: dict[str, Any] = {"ignore_eos": True}

pytestmark = pytest.mark.model


@pytest.mark.parametrize(
    "also",
    [
        {"max_completion_tokens": 60},
        {"n_predict": 60},
        {"extra_body": {"max_tokens": 60}},
        {"extra_body": {"max_completion_tokens": 60}},
        {"extra_body": {"n_predict": 60}},
        {"extra_body": {"n_predict": 4}, "max_tokens": 60},
    ],
    ids=str,
)
def test_of_several_caps_the_smallest_holds(small_model: EmbeddedChatModel, also: dict[str, Any]) -> None:
    call = {"max_tokens": 4, **also, "extra_body": {**ENDLESS, **also.get("extra_body", {})}}
    usage = small_model.invoke(PROMPT, **call).usage_metadata
    assert usage is not None
    assert usage["output_tokens"] == 4


def test_a_cap_of_the_call_replaces_the_models_own_however_it_is_spelled(small_model: EmbeddedChatModel) -> None:
    model = small_model.model_copy(update={"max_tokens": 3})
    usage = model.invoke(PROMPT, max_completion_tokens=7, extra_body=ENDLESS).usage_metadata
    assert usage is not None
    assert usage["output_tokens"] == 7


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n_predict", "n", "n_cmpl"])
def test_a_cap_that_is_no_positive_whole_number_is_refused_by_its_name(
    small_model: EmbeddedChatModel, name: str
) -> None:
    for value in (-1, 0, 2.5, "9", True):
        for given in ({name: value}, {"extra_body": {name: value}}):
            with pytest.raises(ModelError, match=rf"{name} must be a positive whole number"):
                small_model.invoke(PROMPT, timeout=5, **given)


def test_samples_asked_for_twice_must_agree(small_model: EmbeddedChatModel) -> None:
    with pytest.raises(ModelError, match="n is given twice"):
        small_model.invoke(PROMPT, n=2, extra_body={"n": 3})
    both = small_model.generate([PROMPT], n=2, extra_body={"n": 2}, temperature=1.0, max_tokens=2)
    assert len(both.generations[0]) == 2


def test_samples_asked_for_in_the_body_take_turns_as_well(small_model: EmbeddedChatModel) -> None:
    wanted = small_model.parallel + 2
    result = small_model.generate([PROMPT], extra_body={"n": wanted}, temperature=1.0, max_tokens=2)
    assert len(result.generations[0]) == wanted


@pytest.mark.parametrize("how", ["sync", "async"])
def test_all_turns_of_a_call_share_one_timeout(
    small_model: EmbeddedChatModel, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_model.warm_up()
    turns, clock, event = 0, time.monotonic, EmbeddedEngine._event

    def slow(self: EmbeddedEngine, line: str) -> dict[str, Any] | None:
        nonlocal turns
        turns += line == "data: [DONE]"
        return event(self, line)

    monkeypatch.setattr(EmbeddedEngine, "_event", slow)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 200 * turns)  # each turn alone would be in time
    call: dict[str, Any] = {"n": 3 * small_model.parallel, "temperature": 1.0, "max_tokens": 2, "timeout": 300}
    with pytest.raises(ModelTimeoutError, match="within 300 s"):
        if how == "sync":
            small_model.generate([PROMPT], **call)
        else:
            asyncio.run(small_model.agenerate([PROMPT], **call))
    assert turns == 2
