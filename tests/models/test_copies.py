"""Models are copied with configs and sent to other processes: settings go along, engines do not."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.load import dumps, loads
from langchain_openai import ChatOpenAI

from tta_langgraph import budgeted
from tta_langgraph.models.embedded import EmbeddedChatModel, create_embedded_model
from tta_langgraph.models.metered import BudgetedChatModel
from tta_langgraph.models.openai_compatible import chat_openai_server
from tta_langgraph.models.vllm import ChatVLLM
from tta_langgraph.testing import ScriptedServer

from .conftest import gguf_bytes

WAYS = [
    copy.copy,
    copy.deepcopy,
    lambda model: model.model_copy(),
    lambda model: model.model_copy(deep=True),
    lambda model: pickle.loads(pickle.dumps(model)),
]


class Watcher:
    """Watches a download; holds what cannot be copied, as a progress bar does."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def told(self, *_: Any) -> None:
        pass


@pytest.fixture
def used(tmp_path: Path) -> EmbeddedChatModel:
    """A model whose engine was looked for already."""
    (tmp_path / "tiny.gguf").write_bytes(gguf_bytes())
    model = create_embedded_model(tmp_path / "tiny.gguf", context=512, temperature=0.3, progress=Watcher().told)
    assert model.engine is not None
    return model


@pytest.mark.parametrize("copied", WAYS, ids=["copy", "deepcopy", "model_copy", "deep model_copy", "pickle"])
def test_an_embedded_model_can_be_copied_and_sent_away(used: EmbeddedChatModel, copied: Any) -> None:
    other = copied(used)
    assert other._identifying_params == used._identifying_params
    assert other.engine is used.engine  # equal settings share one
    assert copied(used.bind(stop=["x"])).bound.engine is used.engine if copied is copy.deepcopy else True


def test_a_copy_with_other_settings_has_an_engine_of_its_own(used: EmbeddedChatModel) -> None:
    assert used.model_copy(update={"context": 256}).engine is not used.engine


@pytest.mark.parametrize("copied", WAYS, ids=["copy", "deepcopy", "model_copy", "deep model_copy", "pickle"])
@pytest.mark.parametrize("inner", [create_embedded_model(), ChatVLLM(model="m")], ids=["embedded", "vLLM"])
def test_so_can_a_budgeted_one(inner: Any, copied: Any) -> None:
    model = budgeted(inner)
    assert model.meter is not None
    assert copied(model).inner._identifying_params == inner._identifying_params


def test_a_copy_of_a_budgeted_model_is_metered_by_its_own_settings() -> None:
    model = budgeted(create_embedded_model())
    before = model.meter
    other = model.model_copy(update={"max_completion_tokens": 7})
    assert isinstance(other, BudgetedChatModel)
    assert other.meter is not before
    assert model.meter is before


@pytest.mark.parametrize("inner", [create_embedded_model(), ChatVLLM(model="m")], ids=["embedded", "vLLM"])
@pytest.mark.parametrize("wrap", [lambda model: model, budgeted], ids=["bare", "budgeted"])
def test_several_prompts_have_one_usage(inner: Any, wrap: Any) -> None:
    usage = {"prompt_tokens": 3, "total_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1}}
    output = {"token_usage": usage, "model_name": "m"}
    assert wrap(inner)._combine_llm_outputs([output, None, {}, output]) == {
        "token_usage": {"prompt_tokens": 6, "total_tokens": 10, "prompt_tokens_details": {"cached_tokens": 2}},
        "model_name": "m",
    }
    assert wrap(inner)._combine_llm_outputs([None]) == {}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(script=lambda _: "fine") as server:
        yield server


@pytest.mark.parametrize("copied", WAYS, ids=["copy", "deepcopy", "model_copy", "deep model_copy", "pickle"])
@pytest.mark.parametrize("wrap", [lambda model: model, budgeted], ids=["bare", "budgeted"])
def test_so_can_the_model_of_a_server_which_then_answers_as_before(
    server: ScriptedServer, copied: Any, wrap: Any
) -> None:
    model = wrap(chat_openai_server(server.base_url, temperature=0.3, extra_body={"top_k": 3}, max_tokens=9))
    model.invoke("x")
    assert copied(model).invoke("x").text == "fine"
    first, second = (call.params for call in server.log)
    assert second == first


def test_a_copy_of_a_servers_model_ignores_a_proxy_too(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    model = chat_openai_server(server.base_url)
    assert pickle.loads(pickle.dumps(model)).invoke("x").text == "fine"


def test_an_http_client_of_the_users_own_is_not_lost_in_silence(server: ScriptedServer) -> None:
    with httpx.Client() as client:
        model = chat_openai_server(server.base_url, http_client=client)
        with pytest.raises(TypeError, match="http_client"):
            pickle.dumps(model)


@pytest.mark.filterwarnings("ignore:The function `loads` is in beta")
def test_langchain_reads_a_servers_model_back_as_its_own_kind(server: ScriptedServer) -> None:
    saved = dumps(chat_openai_server(server.base_url, temperature=0.3))
    secrets = {"OPENAI_API_KEY": "none"}
    read = loads(saved, secrets_map=secrets, allowed_objects="all", ignore_unserializable_fields=True)
    assert (type(read), read.temperature) == (ChatOpenAI, 0.3)
