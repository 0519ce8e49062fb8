"""Reading a judge's reply: its word, its critique, and how sure it was of the word."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

from langchain_core.messages import AIMessage

from tta_langgraph.evidence import Verdict

Label = Literal["SUCCESS", "CONTINUE", "PIVOT"]
LABELS: tuple[Label, ...] = ("SUCCESS", "CONTINUE", "PIVOT")


def read_verdict(text: str, message: AIMessage | None = None, *, judge: str = "") -> Verdict:
    """The verdict in a reply.

    The label is the first of the three words that stands at the start of a line or after `VERDICT:`, else the
    only one in the reply; two different ones in prose are no verdict.

    Args:
        text: the judge's reply.
        message: its message, whose `response_metadata["logprobs"]` (OpenAI's form) gives the score.
        judge: the judge's model.
    """
    label = _label(text)
    score = 0.5 if label is None else float(label == "SUCCESS")
    if label is not None and message is not None:
        likely = _likelihood(message)
        score = score if likely is None else likely
    return Verdict(
        score=score,
        label=label or "UNPARSED",
        critique=_line("CRITIQUE", text),
        summary=_line("SUMMARY", text),
        judge=judge,
    )


def _label(text: str) -> Label | None:
    found = _find(text)
    return next((label for label in LABELS if found and found[1].upper() == label), None)


def _find(text: str) -> re.Match[str] | None:
    for at_start in _AT_START.finditer(text):
        line = text[at_start.start() :].splitlines()[0]
        # Two of the words in one line weigh them against each other, or repeat the instruction.
        if len({match.upper() for match in _WORDS.findall(line)}) == 1:
            return at_start
    anywhere = list(_ANYWHERE.finditer(text))
    return anywhere[0] if len({match[1] for match in anywhere}) == 1 else None


def _likelihood(message: AIMessage) -> float | None:
    """P(SUCCESS) among the three labels at the token where the verdict begins; None without
    log-probabilities."""
    reported = message.response_metadata.get("logprobs")
    tokens: list[dict[str, Any]] = (reported or {}).get("content") or []
    found = _find("".join(str(token.get("token", "")) for token in tokens))
    if found is None:
        return None
    reached = 0
    for token in tokens:
        reached += len(str(token.get("token", "")))
        if reached > found.start(1):
            return _success_among(token)
    return None


def _success_among(token: dict[str, Any]) -> float | None:
    # The chosen token is usually among the alternatives; a server may leave it out.
    options = {str(option["token"]): float(option["logprob"]) for option in token.get("top_logprobs") or ()}
    options.setdefault(str(token["token"]), float(token["logprob"]))
    mass = dict.fromkeys(LABELS, 0.0)
    for word, logprob in options.items():
        label = _begins(word)
        if label:
            mass[label] += math.exp(min(0.0, logprob))
    total = math.fsum(mass.values())
    return mass["SUCCESS"] / total if total > 0 else None


def _begins(token: str) -> Label | None:
    """The label that a token begins; the three differ in their first letter."""
    word = token.strip(" *#\n\"'").upper()
    return next((label for label in LABELS if word and label.startswith(word)), None)


def _line(name: str, text: str) -> str:
    match = re.search(rf"^\W*{name}\W*:?\s*(.+)$", text, re.I | re.M)
    said = match[1].strip(" *") if match else ""
    return "" if said.rstrip(".").casefold() in {"none", "n/a", "no fault", "nothing"} else said


_AT_START = re.compile(r"^\W*(?:verdict\W*)?\b(success|continue|pivot)\b", re.I | re.M)
_WORDS = re.compile(r"\b(success|continue|pivot)\b", re.I)
_ANYWHERE = re.compile(r"\b(SUCCESS|CONTINUE|PIVOT)\b")
