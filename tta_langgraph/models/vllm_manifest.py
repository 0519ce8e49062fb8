"""What exactly answered: engine, weights, precision, attention backend, template. Every trace carries it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tta_langgraph.models.vllm_engine import Engine
from tta_langgraph.models.vllm_env import vllm_distribution

__all__ = ["engine_manifest", "weights_identity"]


def engine_manifest(engine: Engine, *, template_sha256: str | None) -> dict[str, Any]:
    """Facts of a running engine, JSON-able; equal manifests mean comparable measurements."""
    config = engine.config
    model, cache = config.model_config, config.cache_config
    distribution, version = vllm_distribution() or ("vllm", "unknown")
    return {
        "engine": "vllm",
        "engine_distribution": distribution,
        "engine_version": version,
        "model": engine.model,
        "weights": weights_identity(str(model.model), getattr(model, "revision", None)),
        "architecture": next(iter(getattr(model.hf_config, "architectures", None) or ()), None),
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantization": model.quantization,
        "kv_cache_dtype": str(cache.cache_dtype),
        "attention_backend": _attention_backend(config),
        "device": str(config.device_config.device_type),
        "prefix_caching": bool(cache.enable_prefix_caching),
        "block_size": cache.block_size,
        "max_model_len": model.max_model_len,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "tensor_parallel_size": config.parallel_config.tensor_parallel_size,
        "data_parallel_size": config.parallel_config.data_parallel_size,
        "enforce_eager": model.enforce_eager,
        "seed": model.seed,
        "logprobs_mode": str(model.logprobs_mode),
        "default_sampling": engine.default_sampling(),
        "chat_template_sha256": template_sha256,
    }


def weights_identity(model: str, revision: str | None = None) -> dict[str, Any]:
    """What the weights are: the hub's revision, the hash of the converted file, or a fingerprint of a folder.

    The fingerprint covers the name, length, first and last mebibyte of each weight file: enough to tell versions
    apart without reading gigabytes at every start.
    """
    folder = Path(model)
    if not folder.is_dir():
        return {"repository": model, "revision": revision or "main"}
    if folder.parent.name == "snapshots":  # the hub's cache names the folder after the commit
        return {"repository": folder.parent.parent.name, "revision": folder.name}
    conversion = folder / "conversion.json"
    if conversion.exists():
        return dict(json.loads(conversion.read_text()))
    digest = hashlib.sha256()
    for path in sorted((*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.gguf"))):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(_PROBE))
            file.seek(max(0, size - _PROBE))
            digest.update(file.read(_PROBE))
    return {"fingerprint_sha256": digest.hexdigest()}


def _attention_backend(config: Any) -> str:
    """The backend vLLM chose; its selector is internal, so a version that moves it costs a name, not a call."""
    chosen = getattr(getattr(config, "attention_config", None), "backend", None)
    if chosen is not None:
        return str(getattr(chosen, "name", chosen))
    try:
        from vllm.config import set_current_vllm_config
        from vllm.v1.attention.selector import get_attn_backend

        with set_current_vllm_config(config):
            backend = get_attn_backend(
                config.model_config.get_head_size(), config.model_config.dtype, config.cache_config.cache_dtype
            )
        return str(backend.get_name())
    except Exception:
        return "chosen by vllm"


_PROBE = 1 << 20
