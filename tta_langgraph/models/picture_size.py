"""Width and height of a picture from the first bytes of its file. What costs tokens is its pixels, not its bytes."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["picture_size", "size_in_block"]

Size = tuple[int, int]
"""Width and height in pixels."""


def picture_size(content: bytes) -> Size | None:
    """Width and height (pixels) of a PNG, JPEG, GIF or WebP file, of which the beginning is enough.

    None for anything else, and where too little of it is there.
    """
    try:
        if content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR":
            size = struct.unpack(">II", content[16:24])
        elif content.startswith((b"GIF87a", b"GIF89a")):
            size = struct.unpack("<HH", content[6:10])
        elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
            size = _webp(content)
        elif content.startswith(b"\xff\xd8"):
            size = _jpeg(content)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return (size[0], size[1]) if min(size, default=0) > 0 else None


def size_in_block(block: Mapping[str, Any]) -> Size | None:
    """The size of the picture whose bytes a content block carries, in any provider's form.

    None where it carries an address or the name of a file only: nothing is fetched.
    """
    data = _data(block)
    if data is None or isinstance(data, bytes):
        return None if data is None else picture_size(data)
    # Metadata comes before the size in some JPEG files; most need no more than the first piece.
    for length in _PIECES:
        size = picture_size(_decoded(data[:length]))
        if size is not None or len(data) <= length:
            return size
    return None


def _data(value: Any, named: str = "") -> str | bytes | None:
    """The picture's bytes, or their base64."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        if value[:5].lower() == "data:":
            head, _, data = value.partition(",")
            return data if head.lower().endswith(";base64") else None
        return value if named in _BASE64 else None
    if isinstance(value, Mapping):
        for name in _PLACES:
            if name in value and (found := _data(value[name], name)) is not None:
                return found
    return None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text[: len(text) - len(text) % 4])
    except (binascii.Error, ValueError):
        return b""


def _webp(content: bytes) -> tuple[int, ...]:
    kind = content[12:16]
    if kind == b"VP8X":
        low, high, low_too, high_too = struct.unpack("<HBHB", content[24:30])
        return 1 + (low | high << 16), 1 + (low_too | high_too << 16)
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", content[21:25])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", content[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _jpeg(content: bytes) -> tuple[int, ...]:
    at = 2
    while content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif marker in _FRAMES:
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + int(struct.unpack(">H", content[at + 2 : at + 4])[0])
    return ()


_PIECES: Final = (1 << 16, 1 << 20)
"""Characters of base64 that are looked at, first and at most."""
_PLACES: Final = ("image_url", "url", "base64", "source", "data", "inline_data", "image", "bytes")
_BASE64: Final = frozenset({"base64", "data", "bytes"})
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG's markers of a frame, which states its size; the other three begin tables."""
