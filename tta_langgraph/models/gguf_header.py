"""Reads what a GGUF file says about itself, without loading a single weight.

`gguf.GGUFReader` builds an array for every vocabulary entry, which takes seconds for a modern vocabulary. A
check that runs at every start must take milliseconds, so this steps over arrays.

Format: the GGUF specification of the ggml project (version 2 and 3, little endian).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tta_langgraph.models.errors import WeightsError

Scalar = int | float | bool | str


@dataclass(frozen=True, kw_only=True)
class GGUFHeader:
    """The metadata of one GGUF file."""

    path: Path
    """Where it was read from."""
    fields: Mapping[str, Scalar]
    """Every scalar key, e.g. `general.architecture`; arrays are left out."""
    data_bytes: int
    """How many bytes the file must have at the least (start of the last tensor)."""

    @property
    def architecture(self) -> str:
        """`qwen2`, `llama`, …"""
        return str(self.fields.get("general.architecture", ""))

    @property
    def name(self) -> str:
        """The model's name as its maker wrote it, or ``""``."""
        return str(self.fields.get("general.name", ""))

    @property
    def quantisation(self) -> str:
        """`Q4_K_M`, `Q4_1`, …; the bare number for a type this table does not know."""
        kind = int(self.fields.get("general.file_type", -1))
        return _FILE_TYPES.get(kind, str(kind))

    @property
    def context_length(self) -> int | None:
        """Tokens the model was trained to attend to, or None when it is not stated."""
        value = self.fields.get(f"{self.architecture}.context_length")
        return int(value) if value is not None else None

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template, or None for a base model."""
        value = self.fields.get("tokenizer.chat_template")
        return str(value) if value else None


def read_gguf_header(path: Path | str) -> GGUFHeader:
    """Reads the header of a GGUF file.

    Args:
        path: the file.

    Raises:
        WeightsError: not a GGUF file, an unknown version, or shorter than its own table of tensors says.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(path, data)
    except (OSError, ValueError) as error:
        raise _broken(path, f"cannot be read: {error}") from error
    except (struct.error, UnicodeDecodeError, KeyError, IndexError) as error:
        raise _broken(path, "ends in the middle of its own header") from error


def _parse(path: Path, data: mmap.mmap) -> GGUFHeader:
    if data[:4] != b"GGUF":
        raise _broken(path, "is not a GGUF file (it does not start with 'GGUF')")
    cursor = _Cursor(data, 4)
    version = cursor.number("<I")
    if version not in (2, 3):
        raise _broken(path, f"has GGUF version {version}; 2 and 3 are understood")
    tensors, pairs = cursor.number("<Q"), cursor.number("<Q")
    fields: dict[str, Scalar] = {}
    for _ in range(pairs):
        key = cursor.text()
        value = cursor.value(cursor.number("<I"))
        if value is not None:
            fields[key] = value
    last_offset = 0
    for _ in range(tensors):
        cursor.skip_text()
        cursor.skip(8 * cursor.number("<I") + 4)
        last_offset = max(last_offset, cursor.number("<Q"))
    alignment = int(fields.get("general.alignment", 32))
    needed = -(-cursor.at // alignment) * alignment + last_offset
    if len(data) <= needed:
        raise _broken(path, f"is truncated: {len(data):,} bytes, its last tensor starts at {needed:,}")
    return GGUFHeader(path=path, fields=fields, data_bytes=needed)


class _Cursor:
    """A reading position in the mapped file."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self.data, self.at = data, at

    def number(self, code: str) -> int:
        (value,) = struct.unpack_from(code, self.data, self.at)
        self.at += struct.calcsize(code)
        return int(value)

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise IndexError(self.at)

    def skip_text(self) -> None:
        self.skip(self.number("<Q"))

    def text(self) -> str:
        size = self.number("<Q")
        start = self.at
        self.skip(size)
        return self.data[start : start + size].decode("utf-8")

    def value(self, kind: int) -> Scalar | None:
        """The value of a key, or None for an array, which is skipped."""
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            item, count = self.number("<I"), self.number("<Q")
            if item == _STRING:
                self._skip_texts(count)
            elif item == _ARRAY:
                for _ in range(count):
                    self.value(_ARRAY)
            else:
                self.skip(count * struct.calcsize(_SCALARS[item]))
            return None
        code = _SCALARS[kind]
        (value,) = struct.unpack_from(code, self.data, self.at)
        self.at += struct.calcsize(code)
        return bool(value) if kind == _BOOL else value

    def _skip_texts(self, count: int) -> None:
        """Steps over a vocabulary: the hot loop of the whole reader."""
        unpack, data, at = struct.Struct("<Q").unpack_from, self.data, self.at
        for _ in range(count):
            at += 8 + unpack(data, at)[0]
        self.at = at
        self.skip(0)


def _broken(path: Path, what: str) -> WeightsError:
    return WeightsError(f"the model file {what}", where=str(path), remedy="Delete the file and fetch it again")


_SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_BOOL, _STRING, _ARRAY = 7, 8, 9
_FILE_TYPES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M",
    18: "Q6_K", 32: "BF16",
}  # fmt: skip
