"""Counting for models whose own tokenizer is out of reach: tiktoken where it can be had, else an estimate.

Nothing here waits for a network: tiktoken fetches its encodings on first use and may hang for minutes where packets
are dropped, so that happens on another thread, and counting goes on without it.
"""

from __future__ import annotations

import json
import logging
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import tiktoken
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

logger = logging.getLogger(__name__)


class TextCounter:
    """Counts with a tiktoken encoding, or estimates while that cannot be had.

    Args:
        encoding: name of the encoding, e.g. `o200k_base`.
    """

    exact = False
    """Other families split differently and chat templates add tokens."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        """The encoding asked for."""
        self._cache = CountCache()

    @property
    def name(self) -> str:
        """`tiktoken:<encoding>` or `estimate`."""
        return f"tiktoken:{self.encoding}" if _encoder(self.encoding) is not None else "estimate"

    def count_text(self, text: str) -> int:
        """Tokens of a text."""
        encoder = _encoder(self.encoding)
        if encoder is None:
            return estimate_tokens(text)
        return self._cache.get(f"{encoder.name}\0{text}", lambda: len(encoder.encode(text, disallowed_special=())))

    def count_messages(self, messages: Sequence[BaseMessage], **kwargs: Any) -> int:
        """Tokens of a chat prompt, with the frame of each message, its tool calls, and the tools on offer.

        Pictures, recordings and documents count nothing here: `picture_tokens.py` bounds them.
        """
        total = _PRIMING
        for message in messages:
            total += _PER_MESSAGE + self._content(message)
            if message.name:
                total += 1 + self.count_text(message.name)
        for tool in kwargs.get("tools") or ():
            described = tool if isinstance(tool, Mapping) else convert_to_openai_tool(tool)
            total += _PER_TOOL + self.count_text(json.dumps(described, ensure_ascii=False))
        form = kwargs.get("response_format")
        if isinstance(form, Mapping):
            total += self.count_text(json.dumps(form, ensure_ascii=False))
        return total

    def _content(self, message: BaseMessage) -> int:
        if isinstance(message.content, str):
            total = self.count_text(message.content)
        else:
            total = sum(map(self._block, message.content))
        if isinstance(message, AIMessage):
            for call in message.tool_calls:
                total += _PER_TOOL + self.count_text(call["name"] + json.dumps(call["args"], ensure_ascii=False))
        if isinstance(message, ToolMessage):
            total += self.count_text(message.tool_call_id)
        return total

    def _block(self, block: Any) -> int:
        text = block
        if isinstance(block, Mapping):
            inside = block.get("content")
            if isinstance(inside, list):  # what a tool gave back
                return sum(map(self._block, inside))
            if any(media_in(block)):
                return 0
            known = (block.get(name) for name in _TEXTS)
            text = next((value for value in known if isinstance(value, str)), None)
        if not isinstance(text, str):
            text = json.dumps(block, ensure_ascii=False, default=str)
        return self.count_text(text)


def media_in(block: Any) -> Iterator[Mapping[str, Any]]:
    """Pictures, recordings and documents in a content block, in any provider's form, nested ones included."""
    if not isinstance(block, Mapping) or isinstance(block.get("text"), str):
        return
    if isinstance(inside := block.get("content"), list):
        for one in inside:
            yield from media_in(one)
    elif not _MEDIA.isdisjoint(block) or isinstance(block.get("image"), Mapping):  # the latter is Bedrock's
        yield block


class CountCache:
    """Counts by content. Keeps digests, not texts, so long prompts cost no memory. Thread-safe."""

    def __init__(self, size: int = 8192) -> None:
        self._size, self._lock = size, threading.Lock()
        self._counts: OrderedDict[bytes, int] = OrderedDict()

    def get(self, key: str, count: Callable[[], int]) -> int:
        """The remembered count, or the one that `count()` gives."""
        digest = self._digest(key)
        known = self._recall(digest)
        return known if known is not None else self._keep(digest, count())

    async def aget(self, key: str, count: Callable[[], Awaitable[int]]) -> int:
        """`get` with a count that has to be awaited."""
        digest = self._digest(key)
        known = self._recall(digest)
        return known if known is not None else self._keep(digest, await count())

    def _digest(self, key: str) -> bytes:
        return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def _recall(self, digest: bytes) -> int | None:
        with self._lock:
            known = self._counts.get(digest)
            if known is not None:
                self._counts.move_to_end(digest)
            return known

    def _keep(self, digest: bytes, value: int) -> int:
        with self._lock:
            self._counts[digest] = value
            if len(self._counts) > self._size:
                self._counts.popitem(last=False)
        return value


def encoding_for(model_name: str) -> str:
    """The encoding of a model, by name alone; the newest one for names that tiktoken does not know."""
    try:
        return tiktoken.encoding_name_for_model(model_name)
    except KeyError:
        return _DEFAULT_ENCODING


def estimate_tokens(text: str) -> int:
    """A cautious estimate of tokens from the shape of the text, for any language and for code.

    Words cost one token per four letters begun (per one and a half in a run too long to be a word, such as
    base64), digits one each, as several open models split them, other marks one each, letters outside ASCII two
    each; a single space belongs to the word that follows.
    """
    total = 0.0
    for piece in _PIECES.finditer(text):
        word, digits, wide, marks = piece.groups()
        if word:
            total += math.ceil(len(word) / (4 if len(word) <= _LONGEST_WORD else 1.5))
        elif digits:
            total += len(digits)
        elif wide:
            total += 2 * len(wide)
        else:
            total += marks != " "
    return math.ceil(total)


def _encoder(name: str) -> tiktoken.Encoding | None:
    """The encoding, or None while it is being fetched or cannot be had."""
    with _LOCK:
        loader = _LOADERS.get(name)
        if loader is None:
            loader = _LOADERS[name] = _Loader(name)
    return loader.get()


class _Loader:
    """Loads one encoding on a daemon thread and waits for it only once, and not for long."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.encoding: tiktoken.Encoding | None = None
        self.problem = "it could not be fetched in time"
        self._done = threading.Event()
        self._warned = threading.Lock()
        self._thread = threading.Thread(target=self._load, name=f"tiktoken-{name}", daemon=True)
        self._thread.start()
        self._done.wait(_PATIENCE_SECONDS)

    def get(self) -> tiktoken.Encoding | None:
        if self.encoding is None and self._warned.acquire(blocking=False):
            logger.warning(
                "tokens are estimated, because tiktoken's encoding %s cannot be had (%s); set TIKTOKEN_CACHE_DIR "
                "to a folder that has it, or connect once",
                self.name,
                self.problem,
            )
        return self.encoding

    def _load(self) -> None:
        try:
            known = tiktoken.list_encoding_names()
            offline = f"{self.name}_offline"  # how packages that bundle an encoding register it
            self.encoding = tiktoken.get_encoding(offline if offline in known else self.name)
        except Exception as error:  # whatever the network or a plugin does, counting must go on
            self.problem = f"{type(error).__name__}"
        finally:
            self._done.set()


_DEFAULT_ENCODING: Final = "o200k_base"
_PATIENCE_SECONDS: Final = 3.0
# The frame of a chat prompt as OpenAI documents it; open models' templates are within it or learned as an offset.
_PER_MESSAGE: Final = 4
_PRIMING: Final = 3
_PER_TOOL: Final = 8
# Where blocks of media have their data, or where it is to be found.
_MEDIA: Final = frozenset(
    {
        "image_url",
        "source",
        "data",
        "base64",
        "url",
        "file",
        "file_id",
        "input_audio",
        "inline_data",
        "media",
        "file_uri",
    }
)
_TEXTS: Final = ("text", "thinking", "reasoning", "content")
_LONGEST_WORD: Final = 20
_PIECES: Final = re.compile(r"([A-Za-z]+)|([0-9]+)|([^\W\d_A-Za-z]+|[^\x00-\x7f]+)|(\s+|[^\sA-Za-z0-9])")
_LOADERS: Final[dict[str, _Loader]] = {}
_LOCK: Final = threading.Lock()
