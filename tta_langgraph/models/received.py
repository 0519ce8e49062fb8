"""What came out of a stream so far, and what a stream that never ended is charged.

A call that was cancelled or that broke reports no usage. Read as a stream, it is known up to the last token that
arrived; what the server wrote beyond that is bounded by habits of the same server: how many tokens an event of its
streams carries, how many it writes without showing them, how long its answer is on the way.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from tta_langgraph.models.answer_cache import end_of, is_cut
from tta_langgraph.models.usage import Consumed, believable, from_metadata, too_few, written

HIDDEN_AT_MOST = 16
"""Tokens that a model may write without showing them (an end of turn, a stop string) and still be known by its text."""
STEPS = 3
"""Events that a server makes of what it writes until it has noticed that its client left: one that it drops as its
connection closes, and what an engine that looks once per step, and plans one ahead, still writes."""
BLIND_AT_MOST = 0.1
"""Seconds of an event loop too busy to read, after which what has arrived says nothing of what was written."""
SHORTEST_READING = 0.02
"""Seconds of a stream that are too few to tell its pace."""
LONGEST_WAY = 0.25
"""Seconds that an answer is taken to be on the way at most."""


class Habits:
    """How one model's server streams, learned from streams that ended with a report. Thread-safe."""

    def __init__(self) -> None:
        self.event = 1
        """Most tokens that one event carried."""
        self.hidden = 0
        """Most tokens that were reported beyond those that were shown."""
        self.way = math.inf
        """Seconds to the first event of the quickest stream."""
        self.rate = 0.0
        """Tokens per second, of the quicker ones of the latest streams."""
        self.streams = 0
        """Streams that taught this."""
        self.heeds = True
        """Whether it ends a stream whose client has shut its half of the connection."""
        self._lock = threading.Lock()

    @property
    def known(self) -> bool:
        """Whether what arrives tells what was written: not before the first report, not where tokens are hidden."""
        return self.streams > 0 and self.hidden <= HIDDEN_AT_MOST

    def learn(self, received: Received, reported: int, shown: int) -> None:
        """Takes in a stream that ended: tokens reported, and tokens of what it showed."""
        with self._lock:
            self.streams += 1
            self.hidden = max(self.hidden, reported - shown)
            if received.characters:
                # By length, for counting one piece would mean asking the server again; a piece cut off here and there
                # is a character longer than its tokens' mean.
                by_length = math.ceil(shown * received.longest / received.characters - 0.25)
                # Every other piece took a token at least.
                self.event = max(self.event, min(by_length, shown - received.pieces + 1))
            self.way = min(self.way, received.first_at - received.begun)
            reading = time.perf_counter() - received.first_at
            if reading > SHORTEST_READING:
                self.rate = max(0.9 * self.rate, shown / reading)

    def beyond(self, received: Received, tokens: int, *, left: bool) -> int:
        """Tokens that may have been written beyond those that arrived.

        Args:
            received: the stream.
            tokens: how many arrived.
            left: the client left; False where the server ended the stream, which then arrived whole.
        """
        unsent = self.event - 1 + self.hidden
        if not left:
            return unsent
        reading = time.perf_counter() - received.first_at - received.blind
        rate = tokens / max(SHORTEST_READING, reading) if tokens else 0.0
        # A first event took the way there and back, and some work; so does the news that we have left. Where the server
        # has ended the stream in answer to it, the news is there and what was sent is here: its own work is left.
        way = min(self.way, LONGEST_WAY) / (2 if received.drained else 1)
        meanwhile = max(rate, self.rate) * (way + received.blind)
        return unsent + max(STEPS * self.event, math.ceil(meanwhile))


class Received:
    """What came out of a stream so far.

    Args:
        keep: keep the chunks themselves, for an answer that is made of them.
        habits: of the server that streams; it teaches them, and they judge it. None where a lost call is charged in
            full, whatever arrived.
    """

    def __init__(self, *, keep: bool = True, habits: Habits | None = None) -> None:
        self.keep = keep
        self.habits = habits
        self.text: list[str] = []
        """What was written, piece by piece."""
        self.chunks: list[ChatGenerationChunk] = []
        """The chunks themselves, where a whole answer is made of them."""
        self.reported: Mapping[str, Any] | None = None
        """LangChain's usage metadata, once the server has sent it."""
        self.cut = False
        """The model was stopped at its cap."""
        self.end: str | None = None
        """Why it ended, in the client's own word."""
        self.events = 0
        """Chunks so far."""
        self.pieces = 0
        """Those of them that show text."""
        self.characters = 0
        """Length of the text."""
        self.longest = 0
        """Length of its longest piece."""
        self.blind = 0.0
        """Seconds for which the server may have sent what nobody read."""
        self.drained = False
        """All that the server sent was read, up to its own end of a stream whose client had left."""
        self.begun = self.first_at = time.perf_counter()
        """When the call was made, and when its first chunk came."""

    def add(self, chunk: ChatGenerationChunk) -> None:
        """Takes in one chunk."""
        self.events += 1
        if self.events == 1:
            self.first_at = time.perf_counter()
        if self.keep:
            self.chunks.append(chunk)
        message = chunk.message
        self.end = end_of(chunk.generation_info, message.response_metadata) or self.end
        self.cut = is_cut(self.end)
        text = written(message)
        if isinstance(message, AIMessageChunk):
            text += "".join(part.get("args") or "" for part in message.tool_call_chunks)
            if message.usage_metadata:
                self.reported = message.usage_metadata
        self.text.append(text)
        self.pieces += bool(text)
        self.characters += len(text)
        self.longest = max(self.longest, len(text))

    def consumed(self, count: Callable[[str], int], *, prompt: int, cap: int, trusted: bool = False) -> Consumed:
        """What a stream that ended consumed: as reported, else counted, with a note that says so.

        Args:
            count: counts tokens of a text.
            prompt: prompt tokens as counted before the call.
            cap: the completion cap that was granted.
            trusted: the model counts by itself and is never doubted.
        """
        text = "".join(self.text)
        used = None if self.reported is None else from_metadata(self.reported)
        if used is not None and not trusted:
            used = believable(used, text, prompt)
            if used is not None and too_few(used, text) and (counted := count(text)) > used.completion:
                note = f"server reported {used.completion} completion tokens: counted {counted} here"
                return replace(used, completion=counted, note=note)
        if used is not None:
            if self.habits is not None:
                self.habits.learn(self, used.completion, count(text))
            return used
        counted = count(text)
        if self.cut:
            # It wrote up to its cap, whatever of that was shown.
            counted = max(counted, cap)
        return Consumed(prompt, counted, 0, "usage not streamed: counted here", unreported=True)

    def lost(self, count: Callable[[str], int], *, prompt: int, left: bool) -> Consumed | None:
        """The most that a stream that never ended consumed; None where that cannot be told from what arrived.

        Args:
            count: counts tokens of a text.
            prompt: prompt tokens as counted before the call.
            left: the client left; False where the server ended the stream.
        """
        habits = self.habits
        if habits is None:
            return None
        if self.reported is not None:
            return from_metadata(self.reported)
        if not habits.known or (left and self.blind > BLIND_AT_MOST):
            return None
        tokens = count("".join(self.text))
        return Consumed(prompt, tokens + habits.beyond(self, tokens, left=left), 0, f"{tokens} tokens arrived")


def habits_of(model: str, server: str = "") -> Habits:
    """The habits of a server with one of its models, shared by all in the process that call it.

    Args:
        model: the model's name.
        server: the server's address, where it is known.
    """
    with _LOCK:
        return _HABITS.setdefault((model, server), Habits())


_LOCK = threading.Lock()
_HABITS: dict[tuple[str, str], Habits] = {}
