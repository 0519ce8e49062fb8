"""Models are copied with configs and sent to other processes: settings go along, engines do not."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from tta_langgraph import budgeted
from tta_langgraph.models.embedded import EmbeddedChatModel, create_embedded_model
from tta_langgraph.models.metered import BudgetedChatModel
from tta_langgraph.models.vllm import ChatVLLM

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
