"""The backend manifest: what an answer depended on besides the prompt, stored once and referenced by hash."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import metadata
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from pydantic import ConfigDict

from tta_langgraph.traces.codec import from_plain, to_json, to_plain


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Backend of a recording. Two recordings with the same `id` may be pooled; others are compared, not mixed."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    engine: str = ""
    """`vllm`, `llama.cpp`, `openai`, …"""
    engine_version: str = ""
    """Its version."""
    model: str = ""
    """Name of the model as the engine knows it."""
    weights: str = ""
    """Revision or SHA-256 of the weights."""
    dtype: str = ""
    """Type of the weights in memory, e.g. `bfloat16`, `Q4_K_M`."""
    attention_backend: str = ""
    """Attention kernel, e.g. `FLASH_ATTN`, `CPU_ATTN`."""
    prefix_caching: bool | None = None
    """Whether prompts share cached prefixes; None where unknown."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Sampling parameters: `temperature`, `top_p`, `max_tokens`, `stop`, …"""
    seed: int | None = None
    """Seed of the sampler, or None."""
    chat_template_hash: str = ""
    """SHA-256 of the chat template."""
    endpoint: str = ""
    """Scheme, host and port of a served model; never its path, user or key."""
    hardware: str = ""
    """Accelerator or processor."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """Versions of this package, langchain-core and Python."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else the engine reported, and how latencies were obtained."""

    @property
    def id(self) -> str:
        """First 32 hexadecimal digits of the SHA-256 of the canonical JSON form."""
        canonical = json.dumps(json.loads(to_json(self)), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; fields at their default are left out."""
        return to_plain(self)

    def differences(self, other: Manifest) -> list[str]:
        """What keeps recordings under the two apart, one phrase each: `sampling.samples is 8, not 2`.

        Package versions, addresses and machines may change within a recording; what is asked and how latencies are
        had may not.
        """
        mine, theirs = _comparable(self), _comparable(other)
        return [
            f"{name} is {mine.get(name, 'not given')}, not {theirs.get(name, 'given')}"
            for name in sorted({*mine, *theirs})
            if mine.get(name) != theirs.get(name)
        ]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str = "manifest") -> Manifest:
        """The inverse of `to_dict`.

        Raises:
            TraceError: a field is unknown or of another type.
        """
        return from_plain(cls, data, where=where)


def _comparable(manifest: Manifest) -> dict[str, Any]:
    """What must be the same throughout a recording, flat."""
    plain = json.loads(to_json(manifest))
    found = {name: value for name, value in plain.items() if name not in (*_MAY_CHANGE, "sampling", "extra")}
    found |= {f"sampling.{name}": value for name, value in plain.get("sampling", {}).items()}
    return found | {name: value for name, value in plain.get("extra", {}).items() if name in LATENCY}


def manifest_for(model: Any, *, sampling: Mapping[str, Any] | None = None, seed: int | None = None) -> Manifest:
    """Describes the backend behind a chat model.

    A model that has `manifest()` is asked; of any other the usual attributes are read. Wrappers (metered models,
    `bind`, fallbacks) are looked through. Keys and passwords are never read.

    Args:
        model: a chat model, wrapped or bare.
        sampling: sampling parameters of the recording; they complete what the model reports.
        seed: seed of the recording, if the model does not carry one.
    """
    inner = _unwrapped(model)
    reported = inner.manifest() if callable(getattr(inner, "manifest", None)) else _read_attributes(inner)
    if not isinstance(reported, Mapping):
        reported = to_plain(reported)
    known: dict[str, Any] = {}
    extra: dict[str, Any] = dict(reported.get("extra") or {})
    for name, value in reported.items():
        target = _ALIASES.get(name, name)
        if target == "extra" or value is None:
            continue
        if target in _TEXT_FIELDS:
            known.setdefault(target, value if isinstance(value, str) else _text(value))
        elif target in _FIELDS:
            known.setdefault(target, value)
        else:
            extra[name] = value if isinstance(value, str | int | float | bool | Mapping) else str(value)
    known["model"] = model_label(known.get("model", ""))
    known["sampling"] = {**known.get("sampling", {}), **(sampling or {})}
    if seed is not None:
        known["seed"] = seed
    known.setdefault("hardware", platform.processor() or platform.machine())
    known["packages"] = {**_packages(), **known.get("packages", {})}
    return Manifest.from_dict({**known, "extra": extra}, where=f"manifest of {type(inner).__name__}")


def model_label(name: str) -> str:
    """The name to record for a model: of local weights the last part of the path, else the name itself."""
    return PurePath(name).name if name.startswith(("/", ".", "~")) or re.match(r"^[A-Za-z]:\\", name) else name


def _unwrapped(model: Any) -> Any:
    """Follows the attribute under which wrappers keep the model they wrap."""
    seen: set[int] = set()
    while id(model) not in seen and not callable(getattr(model, "manifest", None)):
        seen.add(id(model))
        for name in _WRAPPED:
            inner = getattr(model, name, None)
            if inner is not None and not isinstance(inner, str) and hasattr(inner, "invoke"):
                model = inner
                break
    return model


def _read_attributes(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"engine": str(getattr(model, "_llm_type", "") or type(model).__name__)}
    for name in ("model_name", "model", "model_id"):
        value = getattr(model, name, None)
        if isinstance(value, str) and value:
            found["model"] = value
            break
    sampling = {}
    for name in ("temperature", "top_p", "top_k", "max_tokens", "stop", "frequency_penalty", "presence_penalty"):
        value = getattr(model, name, None)
        if isinstance(value, str | int | float | list | tuple) and not isinstance(value, bool):
            sampling[name] = list(value) if isinstance(value, tuple) else value
    found["sampling"] = sampling
    seed = getattr(model, "seed", None)
    if isinstance(seed, int) and not isinstance(seed, bool):
        found["seed"] = seed
    for name in ("openai_api_base", "base_url", "endpoint_url"):
        value = getattr(model, name, None)
        if isinstance(value, str) and value:
            parts = urlsplit(value)
            port = f":{parts.port}" if parts.port else ""
            found["endpoint"] = f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else ""
            break
    return found


def _text(value: Any) -> str:
    """One line for what is told in several parts, e.g. a repository and its revision."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={part}" for name, part in value.items())
    return str(value)


def _packages() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("tta-langgraph", "langchain-core"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


LATENCY = (
    "latency",
    "questions_at_a_time",
    "prefill_seconds_per_token",
    "decode_seconds_per_token",
    "attention_seconds_per_token_squared",
    "overhead_seconds",
)
"""Keys of `extra` that say how latencies were had."""
_MAY_CHANGE = ("packages", "endpoint", "hardware", "engine_version")
_FIELDS = {item.name for item in fields(Manifest)}
_TEXT_FIELDS = {item.name for item in fields(Manifest) if item.type == "str"}
_ALIASES = {
    "version": "engine_version",
    "revision": "weights",
    "sha256": "weights",
    "weights_sha256": "weights",
    "weights_revision": "weights",
    "quantization": "dtype",
    "model_name": "model",
    "sampling_parameters": "sampling",
    "device": "hardware",
    "chat_template_sha256": "chat_template_hash",
}
_WRAPPED = ("model", "inner", "bound", "llm", "runnable")
