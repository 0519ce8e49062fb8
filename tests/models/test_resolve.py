"""One string for any model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from langchain_core.language_models import FakeListChatModel

from tta_langgraph.errors import ModelError
from tta_langgraph.models.embedded import EmbeddedChatModel
from tta_langgraph.models.resolve import resolve_model
from tta_langgraph.testing import ScriptedServer

from .conftest import gguf_bytes


def test_a_chat_model_is_returned_as_it_is_and_refuses_options() -> None:
    model = FakeListChatModel(responses=["x"])
    assert resolve_model(model) is model
    with pytest.raises(ModelError, match="temperature"):
        resolve_model(model, temperature=1.0)


@pytest.mark.parametrize(
    ("spec", "name"),
    [("embedded", "qwen2.5-coder-0.5b"), ("embedded:qwen2.5-coder-1.5b", "qwen2.5-coder-1.5b")],
)
def test_embedded_models_are_made_without_fetching_anything(spec: str, name: str) -> None:
    model = resolve_model(spec, temperature=0.3)
    assert isinstance(model, EmbeddedChatModel)
    assert model.model_name == name
    assert model.temperature == 0.3


def test_a_file_of_ones_own_is_an_embedded_model(tmp_path: Path) -> None:
    path = tmp_path / "my-model.gguf"
    path.write_bytes(gguf_bytes())
    model = resolve_model(str(path))
    assert isinstance(model, EmbeddedChatModel)
    assert model.model_name == "my-model"


def test_an_address_is_a_server_and_its_fragment_the_model() -> None:
    with ScriptedServer(["SELECT 1"], model="served") as server:
        assert resolve_model(f"{server.base_url}#served").invoke("hi").content == "SELECT 1"
        with pytest.raises(ModelError, match="'served'"):
            resolve_model(f"{server.base_url}#other")


def test_the_address_of_a_file_is_a_file_whatever_its_query() -> None:
    model = resolve_model("https://example.org/my-model.gguf?download=true")
    assert isinstance(model, EmbeddedChatModel)


def test_an_address_that_cannot_be_read_is_one_clear_error() -> None:
    with pytest.raises(ModelError, match="no address"):
        resolve_model("http://[::1")


def test_a_provider_is_left_to_langchain(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    assert type(resolve_model("openai:gpt-4o-mini")).__name__ == "ChatOpenAI"


def test_a_missing_provider_package_is_named() -> None:
    with pytest.raises(ModelError, match=r"langchain.cohere"):
        resolve_model("cohere:command-r")


def test_a_missing_key_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError, match="OPENAI_API_KEY"):
        resolve_model("openai:gpt-4o-mini")


def test_vllm_without_vllm_says_which_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tta_langgraph.models.vllm", None)
    with pytest.raises(ModelError, match=r"tta-langgraph\[vllm\]"):
        resolve_model("vllm:Qwen/Qwen2.5-Coder-7B-Instruct")


@pytest.mark.parametrize("spec", ["", "nonsense", "nonsense:model", "vllm:", "embedded:", None, 7])
def test_anything_else_lists_the_forms_there_are(spec: object) -> None:
    if spec == "embedded:":
        assert isinstance(resolve_model("embedded:"), EmbeddedChatModel)
        return
    with pytest.raises(ModelError, match="provider:MODEL"):
        resolve_model(spec)  # type: ignore[arg-type]


def test_a_model_file_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model file"):
        resolve_model(str(tmp_path / "absent.gguf"))


def test_an_option_that_does_not_exist_is_named() -> None:
    with pytest.raises(ModelError, match="temprature"):
        resolve_model("embedded", temprature=0.5)
