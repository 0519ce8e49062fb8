"""What the scripted server answers, and how a script picks the answer to a request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tta_langgraph.errors import TTAError
from tta_langgraph.testing.log import LoggedRequest
from tta_langgraph.testing.tokens import count_tokens

UsageReport = bool | Literal["first_choice_only", "wrong", "zeros", "empty"]
"""How honest the server's `usage` is: full, none, llama.cpp's habit with n > 1, half of the truth, zeros for what
it does not know, or an object without a figure."""


class ScriptError(TTAError, ValueError):
    """A script of the scripted server that cannot answer a request."""


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One tool call in a reply."""

    name: str
    """Name of the tool."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Its arguments, sent as JSON."""


@dataclass(frozen=True)
class Reply:
    """One answer of the scripted server.

    Time runs like on an engine: `latency` seconds of prefill, then one token per choice every
    `stream_interval` seconds, whether the client streams or not.

    A status of 400 or more with no text is a refusal at the door, for which nothing is spent. With a text,
    the server does the work and fails afterwards: what it produced counts. A stream has begun by then; it
    ends with an error event, as vLLM's does.

    Example:
        >>> slow = Reply("SELECT 1", latency=0.2)
        >>> busy = Reply(status=429, headers={"Retry-After": "1"})
        >>> broken = Reply(status=502, body="<html>Bad gateway</html>")
    """

    text: str = ""
    """What every choice says."""
    texts: Sequence[str] | None = None
    """What each of the `n` choices says, instead of `text`; repeated from the start where there are fewer."""
    completion_tokens: int | None = None
    """Tokens of each choice; more than its text has means hidden reasoning tokens before it."""
    tool_calls: Sequence[ToolCall] = ()
    """Tools that the message calls, after its text."""
    latency: float | None = None
    """Seconds until the first token; None for the server's default."""
    stream_interval: float | None = None
    """Seconds between tokens; None for the server's default."""
    status: int = 200
    """HTTP status."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further response headers, such as `Retry-After`."""
    body: str | None = None
    """A raw body in place of JSON, sent as HTML, whatever the status."""
    hang: bool = False
    """Never answers: the request stays open until the client leaves or the server stops."""
    die_after_tokens: int | None = None
    """Closes the socket after so many tokens (of all choices), and in any case before the end of the
    reply.
    """
    tokens_per_event: int = 1
    """Tokens that one event of a stream carries."""
    keep_alive: float | None = None
    """Seconds between signs of life while the server writes, as gateways send them: comments in a stream, white space
    before a whole answer. None for none."""
    usage: UsageReport = True
    """How usage is reported."""
    cached_tokens: int = 0
    """Prompt tokens that usage reports as served from a prefix cache."""
    logprobs: float | Sequence[float] | None = None
    """Log-probability of every token, or one for each (repeated), sent where the request asks; None:
    unsupported.
    """

    def __post_init__(self) -> None:
        if self.completion_tokens is None:
            return
        longest = max(count_tokens(text) for text in (self.texts or [self.text]))
        if self.completion_tokens < longest:
            raise ScriptError(
                f"completion_tokens={self.completion_tokens} is less than the {longest} tokens of the text",
                where="Reply.completion_tokens",
                remedy="Shorten the text, or leave completion_tokens out to count it",
            )

    def choice_text(self, index: int) -> str:
        """Returns what choice `index` says."""
        return self.texts[index % len(self.texts)] if self.texts else self.text


Answer = Reply | str
Script = Callable[[LoggedRequest], Answer] | Sequence[Answer] | Mapping[str, Answer] | None
"""A function of the request; answers used up in order; answers by substring of the last message; or filler.
"""


class ScriptReader:
    """Picks the reply to each request; safe to share between threads."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._next = 0
        self._lock = threading.Lock()

    def reply_to(self, request: LoggedRequest) -> Reply:
        """Returns the scripted reply.

        Raises:
            ScriptError: the list is used up, or no key of the mapping occurs in the last message.
        """
        answer = self._answer_to(request)
        return answer if isinstance(answer, Reply) else Reply(answer)

    def _answer_to(self, request: LoggedRequest) -> Answer:
        script = self._script
        if script is None:
            return filler(request)
        if isinstance(script, str | Reply):
            raise ScriptError("a single reply is no script", where="script", remedy="Use a list, a dict or a function")
        if isinstance(script, Mapping):
            for key, answer in script.items():
                if key in request.last_message:
                    return answer
            raise ScriptError(
                f"no key occurs in the last message {request.last_message[-80:]!r}",
                where="script",
                remedy="Add a key, or '' for any message",
            )
        if callable(script):
            return script(request)
        with self._lock:
            index, self._next = self._next, self._next + 1
        if index >= len(script):
            raise ScriptError(
                f"all {len(script)} replies are used up",
                where="script",
                remedy="Add replies to the list, or use a function",
            )
        return script[index]


def filler(request: LoggedRequest) -> str:
    """Returns a text of 16 to 64 tokens that depends on nothing but the messages."""
    digest = sum(map(ord, request.last_message)) + 7 * len(request.messages)
    return " ".join(["word"] * (16 + digest % 49))
