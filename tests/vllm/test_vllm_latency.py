"""The latency model finds the engine behind the measurements, and says how far off it is."""

from __future__ import annotations

import random

import pytest

from tta_langgraph.errors import ModelError
from tta_langgraph.latency import LatencyModel, Observation, fit_latency
from tta_langgraph.models.vllm import ChatVLLM
from tta_langgraph.models.vllm_latency import measure_latency

pytest.importorskip("numpy", reason="numpy is not installed")


def observed(noise: float, *, attention: float = 1e-7, seed: int = 3) -> list[Observation]:
    """Calls on an engine whose law is known: 20 ms, 1 ms per prompt token, 50 ms per token."""
    rng = random.Random(seed)
    calls = []
    for prompt in (50, 400, 1500):
        for completion in (1, 20, 60, 200):
            seconds = 0.02 + 1e-3 * prompt + attention * prompt * prompt + 0.05 * completion
            seconds *= 1 + rng.uniform(-noise, noise)
            calls.append(Observation(prompt_tokens=prompt, completion_tokens=completion, seconds=seconds))
    return calls


def test_the_coefficients_of_a_noiseless_engine_are_found() -> None:
    model = fit_latency(observed(0.0))
    assert model.per_token == pytest.approx(0.05)
    assert model.prefill == pytest.approx(1e-3)
    assert model.attention == pytest.approx(1e-7)
    assert model.overhead == pytest.approx(0.02)
    assert model.worst_error == pytest.approx(0.0, abs=1e-9)


def test_no_coefficient_is_negative_even_when_the_data_would_like_one() -> None:
    model = fit_latency(observed(0.3, attention=-2e-7))
    assert min(model.overhead, model.prefill, model.attention, model.per_token) >= 0


def test_the_reported_error_grows_with_the_noise() -> None:
    assert fit_latency(observed(0.02)).mean_error < fit_latency(observed(0.2)).mean_error


def test_cached_prompt_tokens_cost_no_prefill() -> None:
    model = fit_latency(observed(0.0))
    assert model.predict(1000, 10, cached_tokens=1000) == pytest.approx(model.overhead + 10 * model.per_token)


def test_json_gives_back_the_same_model_and_refuses_another_text() -> None:
    model = fit_latency(observed(0.1))
    assert LatencyModel.from_json(model.to_json()) == model
    with pytest.raises(ModelError, match="not a latency model"):
        LatencyModel.from_json('{"a": 1}')


def test_too_few_measurements_are_refused() -> None:
    with pytest.raises(ModelError, match="4 coefficients"):
        fit_latency(observed(0.0)[:4])


@pytest.mark.vllm
@pytest.mark.timeout(900)
def test_measuring_controls_the_lengths_and_avoids_the_prefix_cache(chat_vllm: ChatVLLM) -> None:
    frame = chat_vllm.count_prompt_tokens("")  # the chat template's own words, which all prompts share
    calls = measure_latency(chat_vllm, prompt_tokens=(60, 300), completion_tokens=(1, 4), repeats=1)
    assert [call.completion_tokens for call in calls] == [1, 4, 1, 4]
    assert all(call.cached_tokens <= frame for call in calls)
    assert all(abs(call.prompt_tokens - wanted) < 20 for call, wanted in zip(calls, (60, 60, 300, 300), strict=True))
