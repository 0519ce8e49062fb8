"""LangChain's own contract for chat models, against the embedded one."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from tta_langgraph.models.embedded import EmbeddedChatModel
from tta_langgraph.models.errors import WeightsError
from tta_langgraph.models.weights import ensure_weights


class TestUnit(ChatModelUnitTests):
    """Construction, binding, tracing; nothing is loaded."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return EmbeddedChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "qwen2.5-coder-0.5b"}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {"temperature": 0, "max_tokens": 64, "timeout": 120, "stop": []}


@pytest.mark.model
class TestIntegration(ChatModelIntegrationTests):
    """Calls, streams, tools and structure on the real model."""

    @pytest.fixture(autouse=True)
    def _weights(self) -> None:
        pytest.importorskip("xllamacpp", reason="the embedded engine (extra `local`) is not installed")
        try:
            ensure_weights("qwen2.5-coder-0.5b")
        except WeightsError as error:
            pytest.skip(f"no weights: {error}")

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return EmbeddedChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "qwen2.5-coder-0.5b", "context": 8192}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {"temperature": 0, "max_tokens": 96, "timeout": 240}

    @property
    def has_tool_choice(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return True
