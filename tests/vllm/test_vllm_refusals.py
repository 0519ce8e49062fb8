"""One refused request is not a dead engine, and the message says which it was; answers are cached by what made them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from tta_langgraph.errors import ModelError
from tta_langgraph.models.vllm import ChatVLLM
from tta_langgraph.models.vllm_engine import Engine
from tta_langgraph.models.vllm_env import vllm_distribution

needs_vllm = pytest.mark.skipif(vllm_distribution() is None, reason="vllm is not installed; see docs/concepts/vllm.md")


class Failing:
    """Stands for vLLM's `AsyncLLM`; every request fails in the given way."""

    output_handler = None
    vllm_config = SimpleNamespace()
    aborted = False

    def __init__(self, error: Exception, *, errored: bool) -> None:
        self.error, self.errored = error, errored

    def get_tokenizer(self) -> None:
        return None

    async def generate(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        raise self.error
        yield

    async def abort(self, request_id: str) -> None:
        self.aborted = True

    def shutdown(self, timeout: float) -> None:
        pass


def message_of(error: Exception, monkeypatch: pytest.MonkeyPatch, *, errored: bool) -> tuple[str, list[Engine]]:
    """What the caller reads, and the engines that were reported dead."""
    llm, died = Failing(error, errored=errored), []

    async def start(self: Engine) -> Any:
        return llm

    monkeypatch.setattr(Engine, "_start", start)
    engine = Engine("m", {}, died=died.append)
    try:
        with pytest.raises(ModelError) as caught:
            engine.submit(engine.generate([1], None)).result(timeout=60)
    finally:
        engine.close()
    return str(caught.value), died


@needs_vllm
def test_a_request_that_vllm_could_not_take_is_named_and_the_engine_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.v1.engine.exceptions import EngineGenerateError

    error = EngineGenerateError()
    error.__cause__ = TypeError("keys must be int, not str")
    message, died = message_of(error, monkeypatch, errored=False)
    assert "TypeError: keys must be int, not str" in message
    assert "new engine" not in message
    assert not died


@needs_vllm
def test_a_version_of_vllm_without_errors_of_its_own_refuses_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("vllm.exceptions.VLLMClientError")  # as in 0.26
    message, died = message_of(ValueError("too long"), monkeypatch, errored=False)
    assert "vLLM refused the request: too long" in message
    assert not died


@needs_vllm
def test_a_dead_engine_is_said_to_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.v1.engine.exceptions import EngineDeadError

    message, died = message_of(EngineDeadError(), monkeypatch, errored=True)
    assert "the next call starts a new engine" in message
    assert len(died) == 1


@pytest.mark.parametrize("changed", [{"chat_template": "{{ messages }}"}, {"tool_parser": "mistral"}])
def test_an_answer_in_another_form_is_not_taken_from_the_cache(changed: dict[str, str]) -> None:
    assert ChatVLLM(model="m")._get_llm_string() != ChatVLLM(model="m", **changed)._get_llm_string()
