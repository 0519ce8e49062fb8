"""One set of options out of the places a call gets them from, where some of them say the same thing twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tta_langgraph.errors import ModelError
from tta_langgraph.models.vllm_values import CAPS, whole_number

__all__ = ["merged_options"]


def merged_options(
    *sources: Mapping[str, Any], defaults: Mapping[str, Any] | None = None, where: str = "ChatVLLM"
) -> dict[str, Any]:
    """The options of a call, with `extra_body` unpacked; a later source replaces an earlier one.

    Two options are not replaced, since a budget has counted on them: of all completion caps the smallest holds,
    under whichever name it came, and the number of samples must be the same wherever it is given.

    Args:
        sources: what goes with every call, then the call's own; a None stands for "not given".
        defaults: the model's fields, each replaced by any source that names it.
        where: named in errors.

    Raises:
        ModelError: different numbers of samples, or a cap that is no number.
    """
    flat = [part for source in sources for part in _unpacked(source, where)]
    merged = dict(defaults or {})
    for part in flat:
        merged |= part
    numbers = [whole_number(part["n"], "n", where) for part in flat if part.get("n") is not None]
    if len(set(numbers)) > 1:
        raise ModelError(
            f"n is given as {min(numbers)} and as {max(numbers)}",
            where=where,
            remedy="Say once how many samples are wanted: per call, in extra_body or in model_kwargs",
        )
    caps = [whole_number(part[name], name, where) for part in flat for name in CAPS if part.get(name) is not None]
    if caps:
        merged.pop("max_completion_tokens", None)
        merged["max_tokens"] = min(caps)
    return merged


def _unpacked(source: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    body = source.get("extra_body")
    if body is None:
        return [source]
    if not isinstance(body, Mapping):
        raise ModelError(f"extra_body is {body!r:.80}", where=where, remedy="Give a mapping")
    return [{name: value for name, value in source.items() if name != "extra_body"}, body]
