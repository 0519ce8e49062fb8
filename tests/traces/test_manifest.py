"""The manifest says what answered, and nothing that is secret or merely local."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_openai import ChatOpenAI
from pydantic import Field

from tta_langgraph.errors import TraceError
from tta_langgraph.models.metered import budgeted
from tta_langgraph.traces.manifest import Manifest, manifest_for


class Reporting(FakeListChatModel):
    """A model that reports a manifest of its own."""

    report: dict[str, Any] = Field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        return self.report


def _reporting(**report: Any) -> Reporting:
    return Reporting(responses=["x"], report=report)


def test_a_model_that_reports_is_believed() -> None:
    found = manifest_for(
        _reporting(
            engine="vllm",
            version="0.32",
            model="/home/someone/weights/Small-1B",
            weights={"repository": "org/small", "revision": "abc"},
            dtype="bfloat16",
            attention_backend="FLASH_ATTN",
            prefix_caching=True,
            seed=7,
            chat_template_sha256="ff",
            block_size=16,
            quantization=None,
        ),
        sampling={"temperature": 0.8},
    )
    assert (found.engine, found.engine_version, found.dtype) == ("vllm", "0.32", "bfloat16")
    assert found.weights == "repository=org/small, revision=abc"
    assert (found.prefix_caching, found.seed, found.chat_template_hash) == (True, 7, "ff")
    assert found.sampling == {"temperature": 0.8}
    assert found.extra == {"block_size": 16}
    assert found.model == "Small-1B"


def test_the_same_backend_has_the_same_id_and_another_one_another() -> None:
    one = manifest_for(_reporting(engine="vllm", sampling={"a": 1, "b": 2}))
    same = manifest_for(_reporting(sampling={"b": 2, "a": 1}, engine="vllm"))
    assert one.id == same.id
    assert len(one.id) == 32
    for change in ({"dtype": "float16"}, {"seed": 1}, {"sampling": {"a": 1}}, {"prefix_caching": False}):
        assert replace(one, **change).id != one.id


def test_wrappers_are_looked_through() -> None:
    model = _reporting(engine="vllm")
    assert manifest_for(budgeted(model)).id == manifest_for(model).id
    assert manifest_for(model.bind(stop=["x"])).id == manifest_for(model).id


def test_a_served_model_is_described_without_its_key_and_path() -> None:
    model = ChatOpenAI(
        model="my-model",
        api_key="sk-secret",  # type: ignore[arg-type]
        base_url="https://user:pass@models.example:8443/v1/tenant-7",
        temperature=0.2,
        seed=3,
    )
    found = manifest_for(model)
    assert (found.model, found.endpoint, found.seed) == ("my-model", "https://models.example:8443", 3)
    assert found.sampling["temperature"] == 0.2
    text = json.dumps(found.to_dict())
    assert not any(secret in text for secret in ("sk-secret", "user", "pass", "tenant"))


def test_a_malformed_report_is_an_error_and_not_half_a_manifest() -> None:
    with pytest.raises(TraceError, match="seed"):
        manifest_for(_reporting(engine="vllm", seed="many"))


def test_it_comes_back_as_it_was() -> None:
    found = manifest_for(_reporting(engine="vllm", prefix_caching=False, block_size=16))
    assert Manifest.from_dict(json.loads(json.dumps(found.to_dict()))) == found
