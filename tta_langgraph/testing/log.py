"""The scripted server's own log: the ground truth for what was spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tta_langgraph.testing.tokens import message_text

RequestStatus = Literal["running", "hanging", "ok", "error", "disconnected"]
"""Where a request is: being answered, never to be answered, done, failed, or left by its client."""


@dataclass(kw_only=True)
class LoggedRequest:
    """One chat completion as the server saw it. Live: its counts grow while tokens are produced."""

    id: str
    """Id of the request, which is also the completion's id."""
    index: int
    """Position in the order of arrival, from 0."""
    received_at: float
    """Arrival, seconds of `time.monotonic()`."""
    messages: Sequence[Mapping[str, Any]]
    """The messages exactly as they arrived."""
    params: Mapping[str, Any]
    """The rest of the request's body."""
    headers: Mapping[str, str]
    """Request headers, names in lower case."""
    n: int = 1
    """Choices asked for."""
    prompt_tokens: int = 0
    """Prompt tokens processed; 0 where the request was refused at the door. Counted once whatever `n`."""
    completion_tokens: int = 0
    """Completion tokens really produced so far, all choices together."""
    status: RequestStatus = "running"
    """Where the request is."""
    http_status: int | None = None
    """Status sent, or None while nothing was."""
    finished_at: float | None = None
    """End, seconds of `time.monotonic()`, or None while it runs."""

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens so far."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def last_message(self) -> str:
        """Text of the last message."""
        return message_text(self.messages[-1]) if self.messages else ""

    @property
    def text(self) -> str:
        """Text of all messages, one line break between two."""
        return "\n".join(message_text(message) for message in self.messages)
