"""The most tokens that a picture can cost, by who charges for it.

As the providers document it: OpenAI counts tiles of 512 pixels, or patches of 32, of a picture that it has scaled
down; Anthropic patches of 28 (`width * height / 750` in older words); Google tiles of 768, and fixed numbers from
Gemini 3 on. Where a provider's rule is not known for a model, the dearest of its rules holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from tta_langgraph.models.picture_size import Size, size_in_block

__all__ = ["MediaTokens", "is_picture", "media_tokens"]

MediaTokens = Callable[[Mapping[str, Any]], int]
"""The most prompt tokens that a block with a picture, a recording or a document is taken to cost."""

PER_MEDIA: Final = 1105
"""For what is no picture, whose length cannot be read off its first bytes; the margin learns the rest."""


def media_tokens(name: str, provider: str | None = None) -> MediaTokens:
    """What the pictures that a model is sent cost at most.

    Args:
        name: the model's name, wherever it is served.
        provider: who serves it, as LangChain names them. On Azure a deployment may have any name.
    """
    name = name.lower()
    return partial(_block, next((rule for pattern, rule in _RULES if pattern.search(name)), _rule_of(provider)), name)


def is_picture(block: Mapping[str, Any]) -> bool:
    """Whether a block of media is a picture."""
    inline = block.get("inline_data")
    kinds = (block.get("mime_type"), inline.get("mime_type") if isinstance(inline, Mapping) else None)
    stated = next((kind for kind in kinds if isinstance(kind, str)), None)
    if stated is not None:
        return stated.startswith("image/")
    return block.get("type") in ("image", "image_url", "input_image") or isinstance(block.get("image"), Mapping)


Rule = Callable[[str, Size | None, str], int]
"""A provider's: model, size (None: unknown), and how much detail was asked for."""


def _block(rule: Rule, name: str, block: Mapping[str, Any]) -> int:
    if not is_picture(block):
        return PER_MEDIA
    inside = block.get("image_url")
    said = (block, inside if isinstance(inside, Mapping) else {})
    detail = next((str(each[key]).lower() for key in _DETAIL for each in said if each.get(key)), "")
    return rule(name, size_in_block(block), detail)


def _anthropic(name: str, size: Size | None, detail: str) -> int:
    edge, most = (1568, 1_600) if _CLAUDE_BEFORE_4_7.search(name) else (2576, 4_784)
    if size is None:
        return most
    width, height = _within(size, edge)
    return min(most, max(_cells(width, height, 28), math.ceil(width * height / 750)))


def _google(name: str, size: Size | None, detail: str) -> int:
    fixed = 2_240 if detail.endswith("ultra_high") else 1_120
    if _GEMINI_FROM_3.search(name):
        return fixed
    if size is None:
        tiles = 24  # of 384 by 3,072 pixels
    elif max(size) <= 384:
        tiles = 1
    else:
        width, height = _within(size, 3072)
        tiles = _cells(width, height, min(768, max(256, math.floor(min(width, height) / 1.5))))
    tiled = 258 * tiles
    return tiled if _GEMINI_BEFORE_3.search(name) else max(tiled, fixed)


def _openai(name: str, size: Size | None, detail: str) -> int:
    if "gpt-4o-mini" in name:
        return _openai_tiles(size, detail, 2_833, 5_667)
    factor = next((factor for part, factor in _OPENAI_FACTORS if part in name), 1.2)
    if _OPENAI_SMALL.search(name):
        return _openai_patches(size, 1_536, factor)
    tiled = _openai_tiles(size, detail, 85, 170)
    if _OPENAI_TILES.search(name):
        return tiled
    return max(tiled, _openai_patches(size, 2_500 if detail in ("low", "high") else 10_000, factor))


def _openai_tiles(size: Size | None, detail: str, base: int, tile: int) -> int:
    if detail == "low":
        return base
    width, height = _within(size or (768, 2048), 2048)
    shrink = min(1.0, 768 / min(width, height))
    return base + tile * _cells(width * shrink, height * shrink, 512)


def _openai_patches(size: Size | None, most: int, factor: float) -> int:
    return math.ceil(factor * (most if size is None else min(most, _cells(*size, 32))))


def _others(name: str, size: Size | None, detail: str) -> int:
    # Qwen's rule, which is among the dearest. A model that always cuts a picture into the same number of tiles may cost
    # more for a small one; the margin learns that.
    return _OF_UNKNOWN_SIZE if size is None else min(16_384, max(PER_MEDIA, _cells(*size, 28)))


def _within(size: Size, edge: int) -> tuple[float, float]:
    """Scaled down, if need be, so that no side is longer."""
    shrink = min(1.0, edge / max(size))
    return max(1.0, size[0] * shrink), max(1.0, size[1] * shrink)


def _cells(width: float, height: float, side: int) -> int:
    # Not to take a rounding error for another row.
    return math.ceil(width / side - 1e-9) * math.ceil(height / side - 1e-9)


def _rule_of(provider: str | None) -> Rule:
    return _openai if provider == "azure" else _others


_OF_UNKNOWN_SIZE: Final = 4_096
"""At a server of one's own: of some 1,790 by 1,790 pixels."""
_DETAIL: Final = ("detail", "media_resolution", "resolution")
_RULES: Final[tuple[tuple[re.Pattern[str], Rule], ...]] = (
    (re.compile("claude"), _anthropic),
    (re.compile("gemini"), _google),
    (re.compile(r"(?:^|[/.:])(?:gpt-(?!oss)|chatgpt|o\d|codex|computer-use)"), _openai),
)
_CLAUDE_BEFORE_4_7: Final = re.compile(
    r"claude-(?:2|3|instant|(?:opus|sonnet|haiku)-4(?:[-.@][0-6](?!\d)|[-@]2\d{7}|$))"
)
_GEMINI_BEFORE_3: Final = re.compile(r"gemini-[12](?:\.|-|$)")
_GEMINI_FROM_3: Final = re.compile(r"gemini-(?:[3-9]|\d\d)(?:\.|-|$)")
_OPENAI_TILES: Final = re.compile(r"gpt-4|gpt-5(?:-2\d{3}|-chat|-codex|-pro|$)|(?:^|[/.:])o[13]|computer-use")
_OPENAI_SMALL: Final = re.compile(r"gpt-4\.1-(?:mini|nano)|gpt-5-(?:mini|nano)|o4-mini|codex-mini")
_OPENAI_FACTORS: Final = (("o4-mini", 1.72), ("codex-mini", 1.72), ("-mini", 1.62), ("-nano", 2.46))
