"""Reading a model's reply strictly: a new answer, a confirmation, a refusal, or garbage.

A small model that is asked to look again mostly confirms in prose. Taking such a reply for a new answer loses
the right one, so every reply goes through `read_reply` before it becomes a candidate.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Parser = Callable[[str], str | None]
"""From a reply to the answer in it, or None. A parser with a true attribute `needs_end` reads the end of the
reply, and is not asked about a reply that was cut off."""
Normaliser = Callable[[str], str | None]
"""From an answer to what counts as the same answer, or None if it takes no part in votes."""
ReplyKind = Literal["answer", "confirmation", "refusal", "garbage"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What a reply amounts to."""

    kind: ReplyKind
    """`answer` (new), `confirmation` (keeps the current answer), `refusal` (will not or cannot), or `garbage`
    (empty, unreadable, or prose that neither answers nor confirms)."""
    answer: str | None = None
    """The new answer, or None."""


def read_reply(
    text: str,
    parse: Parser,
    *,
    current: str | None = None,
    normalise: Normaliser | None = None,
    truncated: bool = False,
) -> Reply:
    """Reads one reply.

    Args:
        text: the reply, thinking included.
        parse: finds the answer in it.
        current: the answer that the model was asked to look at again, or None if this is a first answer.
            Without it there is nothing to confirm.
        normalise: what counts as the same answer; by default letters, spaces and a final full stop are
            folded.
        truncated: whether the reply was cut at a cap.

    Returns:
        Its kind, and the new answer if it has one.

    Example:
        ```python
        read_reply("Yes, it answers the question.", extract_sql, current="SELECT 1").kind    # "confirmation"
        read_reply("SELECT 2", extract_sql, current="SELECT 1").answer                       # "SELECT 2"
        ```
    """
    said = without_thinking(text).strip()
    if not any(character.isalnum() for character in said):
        return Reply(kind="garbage")
    answer = None if truncated and getattr(parse, "needs_end", False) else parse(said)
    if truncated and answer is not None and said.endswith(answer.strip()[-_TAIL:]):
        answer = None  # it runs into the cut: half a query may run as well and mean something else
    if answer is not None and answer.strip():
        if current is not None and _same(answer, current, normalise or normal_text):
            return Reply(kind="confirmation")
        return Reply(kind="answer", answer=answer)
    if _REFUSES.search(said):
        return Reply(kind="refusal")
    if current is not None and _CONFIRMS.search(said) and not _REJECTS.search(said):
        return Reply(kind="confirmation")
    return Reply(kind="garbage")


def whole_reply(text: str) -> str | None:
    """The whole reply is the answer, unless it is empty or a short confirmation; for agents that answer in
    prose."""
    said = text.strip()
    if not said or (len(said) <= _CONFIRMATION_CHARS and _SHORT_CONFIRMATION.match(said)):
        return None
    return said


def without_thinking(text: str) -> str:
    """The reply without what a reasoning model wrote between think tags; an unclosed one hides all that
    follows."""
    text = _THINKING.sub("", text)
    if "</think>" in text:  # opened by the prompt, closed by the reply
        text = text.rpartition("</think>")[2]
    return text


def normal_text(answer: str) -> str | None:
    """Folds case, white space, surrounding quotes and a final full stop; None for nothing."""
    folded = " ".join(answer.casefold().split()).strip(" \"'`*").rstrip(".").rstrip(" \"'`*")
    return folded or None


def _same(left: str, right: str, normalise: Normaliser) -> bool:
    a, b = normalise(left), normalise(right)
    return left.strip() == right.strip() if a is None or b is None else a == b


_CONFIRMATION_CHARS = 120
"""A longer reply is an answer, whatever it begins with."""
_SHORT_CONFIRMATION = re.compile(
    r"\W*(?:correct|confirmed|unchanged|yes|no changes?|(?:my|the) answer (?:is|was) (?:correct|right))\b", re.I
)
_TAIL = 16
"""Characters by which an answer at the very end of a reply is recognised."""
_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.S | re.I)
_REFUSES = re.compile(
    r"\b(?:i(?:['’]m| am)? (?:cannot|can['’]?t|can not|am unable|unable|sorry|won['’]?t|will not|do not have"
    r"|don['’]t have|not able)|as an ai\b|can(?:not|['’]t) be answered|not possible to answer|unanswerable"
    r"|(?:need|provide) (?:me )?(?:with )?more (?:information|context|details))",
    re.I,
)
_CONFIRMS = re.compile(
    r"\A\W*(?:yes|correct|right|ok|okay|confirmed|unchanged|keep)\b"
    r"|\b(?:is|are|was|looks?|seems?|appears?)(?: \w+){0,2} (?:correct|right|fine|accurate|valid|good)\b"
    r"|\b(?:correctly|accurately) \w+"
    r"|\banswers the question\b|\bno (?:changes?|corrections?|errors?|mistakes?|issues?)\b"
    r"|\bstands?\b|\bremains? the same\b|\bsame (?:answer|query)\b",
    re.I,
)
_REJECTS = re.compile(
    r"\bincorrect(?:ly)?\b|\bwrong\b|\bdoes(?: not|n['’]t)\b"
    r"|\b(?:not|n['’]t)(?: \w+){0,3} (?:correct|right|accurate|valid|answer|work)\b"
    r"|\bshould (?:be|have|use|select|join)\b|\bmistaken\b",
    re.I,
)
