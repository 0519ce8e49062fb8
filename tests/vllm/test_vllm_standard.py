"""LangChain's own suites for chat models."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from tta_langgraph.models.vllm import ChatVLLM


def _without_key(params: dict[str, Any]) -> dict[str, Any]:
    """There is nobody to show an API key to."""
    return {name: value for name, value in params.items() if name != "api_key"}


class TestUnit(ChatModelUnitTests):
    """No engine is started."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatVLLM

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "some/model"}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return _without_key(super().standard_chat_model_params)


@pytest.mark.vllm
@pytest.mark.timeout(900)
class TestIntegration(ChatModelIntegrationTests):
    """On the engine that the other tests use."""

    shared: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _on_the_shared_engine(self, chat_vllm: ChatVLLM) -> None:
        self.shared.update(model=chat_vllm.model, engine_kwargs=chat_vllm.engine_kwargs)

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatVLLM

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return _without_key(super().standard_chat_model_params)

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**self.shared, "temperature": 0, "max_tokens": 160}

    @pytest.mark.xfail(
        reason="Shown get_weather in its prompt and free to call, SmolLM2 with 135M parameters answers in prose (The "
        "weather in San Francisco, CA, is a combination of ...). Forced, it calls it with the right arguments, which "
        "the tests of tool choice cover."
    )
    async def test_agent_loop(self, model: BaseChatModel) -> None:
        super().test_agent_loop(model)

    @pytest.mark.xfail(
        reason="Inside the string that the schema asks for, SmolLM2 with 135M parameters repeats itself until it is "
        "cut (A cat is a cat, a cat is a cat, ...), with or without white space between the fields."
    )
    def test_structured_output_optional_param(self, model: BaseChatModel) -> None:
        super().test_structured_output_optional_param(model)
