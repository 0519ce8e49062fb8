"""Pictures in prompts: what they cost at most is known from their size, and reserved before they are sent."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage, ToolMessage

from tta_langgraph import Budget, budget_scope, budgeted
from tta_langgraph.errors import BudgetExceededError
from tta_langgraph.models.counting import media_tokens_for
from tta_langgraph.models.openai_compatible import chat_openai_server
from tta_langgraph.models.picture_size import picture_size, size_in_block
from tta_langgraph.models.picture_tokens import media_tokens
from tta_langgraph.models.prompt_count import count_prompt
from tta_langgraph.testing import Reply, ScriptedServer


def png(width: int, height: int) -> bytes:
    """A white picture, one bit per pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\xff" * -(-width // 8)) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def block(width: int = 0, height: int = 0, **detail: str) -> dict[str, Any]:
    """As OpenAI takes a picture; without a size, only its address."""
    url = f"data:image/png;base64,{in_base64(png(width, height))}" if width else "https://example.org/cat.png"
    return {"type": "image_url", "image_url": {"url": url, **detail}}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "WEBP lossless", "WEBP extended", "JPEG described"])
@pytest.mark.parametrize("size", [(1, 1), (640, 480), (300, 1_999)])
def test_the_size_of_a_picture_is_read_from_the_first_bytes_of_any_encoder(kind: str, size: tuple[int, int]) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow, which writes the pictures, is not installed")
    file, name = io.BytesIO(), kind.partition(" ")[0]
    options: dict[str, Any] = {"lossless": True} if "lossless" in kind else {}
    if "described" in kind:
        options = {"exif": b"Exif\0\0" + b"x" * 60_000, "icc_profile": b"y" * 100_000, "progressive": True}
    image.new("RGBA" if "extended" in kind else "RGB", size, 1).save(
        file, name, **({"exif": b"Exif\0\0MM"} if "extended" in kind else {}), **options
    )
    content = file.getvalue()
    assert picture_size(content) == size
    assert size_in_block({"type": "image", "base64": in_base64(content)}) == size


@given(
    st.binary(max_size=80),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"GIF89a", b"\xff\xd8\xff\xe0", b"RIFF0000WEBPVP8X"]),
)
def test_a_file_that_is_none_or_broken_has_no_size_and_does_no_harm(content: bytes, head: bytes) -> None:
    size = picture_size(head + content)
    assert size is None or min(size) > 0


PNG = png(640, 480)


@pytest.mark.parametrize(
    "form",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + in_base64(PNG)}},
        {"type": "image_url", "image_url": "data:image/png;base64," + in_base64(PNG)},
        {"type": "input_image", "image_url": "data:image/png;base64," + in_base64(PNG)},
        {"type": "image", "base64": in_base64(PNG), "mime_type": "image/png"},
        {"type": "image", "source_type": "base64", "data": in_base64(PNG), "mime_type": "image/png"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": in_base64(PNG)}},
        {"type": "media", "mime_type": "image/png", "data": PNG},
        {"inline_data": {"mime_type": "image/png", "data": in_base64(PNG)}},
        {"image": {"format": "png", "source": {"bytes": PNG}}},
    ],
    ids=lambda form: "-".join(form),
)
def test_a_picture_is_known_by_its_size_in_the_form_of_any_provider(form: dict[str, Any]) -> None:
    assert size_in_block(form) == (640, 480)
    cost = media_tokens("claude-3-5-sonnet-latest")(form)
    assert cost == 23 * 18, "patches of 28 pixels"
    model = FakeListChatModel(responses=["a cat"], name="claude-3-5-sonnet-latest")
    counted = count_prompt(model, [HumanMessage(["What is this?", form])])
    assert (counted.media, counted.media_tokens) == (1, media_tokens_for(model)(form))
    assert counted.count < counted.media_tokens + 100, "its bytes are no text"


@pytest.mark.parametrize(
    ("model", "picture", "cost"),
    [  # the examples in the providers' documentation
        ("gpt-4o", block(1024, 1024), 765),
        ("gpt-4o", block(2048, 4096), 1105),
        ("gpt-4o", block(4096, 8192, detail="low"), 85),
        ("gpt-4o-mini", block(1024, 1024), 2_833 + 4 * 5_667),
        ("gpt-4.1-mini", block(1024, 1024), 1_659),
        ("o4-mini", block(1024, 1024), 1_762),
        ("claude-3-5-sonnet-20241022", block(200, 200), 64),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", block(1000, 1000), 1_334),
        ("gemini-2.0-flash", block(384, 384), 258),
        ("gemini-2.0-flash", block(960, 540), 6 * 258),
        ("gemini-3-pro-preview", block(64, 64), 1_120),
        # and those of docs/concepts/models.md
        ("gpt-4o", block(), 1_445),
        ("gpt-4o-mini", block(1920, 1080), 36_835),
        ("gpt-5.4", block(1920, 1080), 2_448),
        ("gpt-5.4", block(), 12_000),
        ("gpt-5.4", block(detail="high"), 3_000),
        ("claude-sonnet-4-6", block(1920, 1080), 1_600),
        ("claude-opus-4-7", block(1920, 1080), 2_765),
        ("claude-opus-4-7", block(), 4_784),
        ("gemini-2.5-flash", block(1920, 1080), 1_548),
        ("gemini-2.5-flash", block(), 6_192),
        ("qwen2.5-vl", block(512, 512), 1_105),
        ("qwen2.5-vl", block(1920, 1080), 2_691),
        ("qwen2.5-vl", block(), 4_096),
    ],
)
def test_a_picture_is_bounded_as_its_provider_documents_it(model: str, picture: dict[str, Any], cost: int) -> None:
    assert media_tokens(model)(picture) == cost


@pytest.mark.parametrize(
    "model",
    [
        *("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-nano", "gpt-5", "gpt-5-mini", "gpt-5.4", "gpt-6-astra", "o3"),
        *("claude-3-haiku-20240307", "claude-sonnet-4-5", "claude-opus-4-7", "claude-opus-9"),
        *("gemini-2.5-flash", "gemini-3-pro-preview", "gemini-flash-latest"),
    ],
)
@given(size=st.tuples(st.integers(1, 6_000), st.integers(1, 6_000)))
def test_no_picture_costs_more_than_one_of_unknown_size_is_taken_to(model: str, size: tuple[int, int]) -> None:
    cost = media_tokens(model)
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", *size)
    assert 0 < cost({"type": "image", "base64": in_base64(head + b"0")}) <= cost(block())


def test_newer_models_that_look_closer_are_reserved_more() -> None:
    large = block(3_840, 2_160)
    assert media_tokens("claude-opus-4-7")(large) > media_tokens("claude-opus-4-6")(large) > 1_500
    assert media_tokens("claude-sonnet-4-20250514")(large) == media_tokens("claude-opus-4-6")(large)
    assert media_tokens("gpt-5.4")(block()) > media_tokens("gpt-5.4")(block(detail="high"))


def test_a_deployment_on_azure_is_bounded_as_a_model_of_openais() -> None:
    assert media_tokens("my-eyes", "azure")(block()) > media_tokens("my-eyes", "openai")(block())


def test_text_beside_a_picture_in_a_tools_result_is_counted_too() -> None:
    model = FakeListChatModel(responses=["ok"], name="unknown")
    seen = {
        "type": "tool_result",
        "tool_use_id": "1",
        "content": [block(64, 64), {"type": "text", "text": "word " * 3_000}],
    }
    assert count_prompt(model, [HumanMessage([seen])]).count > 3_000
    shown = ToolMessage([block(64, 64), {"type": "text", "text": "word " * 3_000}], tool_call_id="1")
    assert count_prompt(model, [shown]).count > 3_000


def answer(prompt_tokens: int) -> Reply:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A cat."}}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 3, "total_tokens": prompt_tokens + 3}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return Reply(body=json.dumps(body))


def test_the_first_picture_does_not_go_over_the_budget() -> None:
    with ScriptedServer(script=lambda _: answer(1_470)) as server:
        model = budgeted(chat_openai_server(server.base_url, "gpt-4o", check=False), max_completion_tokens=50)
        question = [HumanMessage(["What is this?", block()])]
        with budget_scope(Budget(tokens=1_400)) as scope, pytest.raises(BudgetExceededError):
            model.invoke(question)
        assert (server.requests, scope.tracker.usage.tokens) == (0, 0)
        with budget_scope(Budget(tokens=1_600)) as scope:
            assert model.invoke(question).text == "A cat."
        assert scope.tracker.usage.tokens == 1_473


def test_a_small_picture_fits_a_small_budget() -> None:
    with ScriptedServer(script=lambda _: answer(270)) as server:
        model = budgeted(chat_openai_server(server.base_url, "gpt-4o", check=False), max_completion_tokens=50)
        with budget_scope(Budget(tokens=500)) as scope:
            assert model.invoke([HumanMessage(["What is this?", block(500, 400)])]).text == "A cat."
        assert scope.tracker.usage.tokens == 273
