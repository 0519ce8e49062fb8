"""How far a token count can be trusted, learned from what servers report."""

from __future__ import annotations

import math
import threading
from typing import Any


class SafetyMargin:
    """Turns an estimated prompt length into an upper bound, and learns from every report.

    The bound is `offset + factor * estimate`. Short prompts teach the offset (a chat template the counter does not
    know, such as a default system prompt, adds a constant), long ones the factor. The bound never falls below
    anything that was reported; the cautious start fades as reports come in. Pictures have bounds of their own, to
    which no factor is applied; prompts with them teach what one costs beyond, and nothing about text. Thread-safe.

    Args:
        factor: where to start, e.g. 1.15 for a tokenizer of another family and 1.0 for an exact count.
        offset: constant to start with (tokens).
        exact: the count claims to be exact; then the margin never falls below 1.
    """

    def __init__(self, factor: float, *, offset: int = 0, exact: bool = False) -> None:
        self.prior = factor
        """The factor before anything was reported."""
        self.exact = exact
        """Whether the count claims to be exact."""
        self.offset = offset
        """Constant part of the bound (tokens)."""
        self.observations = 0
        """Reports so far."""
        self.media = 0
        """Tokens that each picture, recording or document needs beyond its bound."""
        self.worst = 0.0
        """Largest factor that a report needed."""
        self._factor = factor
        self._floor = 1.0 if exact else _LOWEST
        self._lock = threading.Lock()

    @property
    def factor(self) -> float:
        """The current factor."""
        return self._factor

    def bound(self, estimated: int, media: int = 0, media_tokens: int = 0) -> int:
        """The most prompt tokens that a server may charge for a prompt of this estimated length.

        Args:
            estimated: tokens of the text by the counter.
            media: pictures, recordings and documents in the prompt.
            media_tokens: what they cost at most by their own bounds.
        """
        return self.offset + math.ceil(self._factor * estimated) + media_tokens + media * self.media

    def observe(self, *, estimated: int, reported: int, media: int = 0, media_tokens: int = 0) -> None:
        """Takes in what a server charged for a prompt that was estimated before.

        Args:
            estimated: tokens of the text by the counter.
            reported: tokens by the server; 0 or less is ignored, and so is what no prompt of this length can be.
            media: pictures, recordings and documents in the prompt.
            media_tokens: what they cost at most by their own bounds.
        """
        if estimated <= 0 or reported <= 0 or absurd(reported, estimated + media_tokens):
            return
        with self._lock:
            self.observations += 1
            if media:
                beyond = reported - self.offset - math.ceil(self._factor * estimated) - media_tokens
                self.media = max(self.media, math.ceil(beyond / media))
                return
            if estimated < _SHORT:
                # Against the lowest factor there can be, so that the bound holds when the factor falls later.
                self.offset = max(self.offset, reported - math.floor(self._floor * estimated))
                return
            self.worst = max(self.worst, (reported - self.offset) / estimated)
            weight = _PRIOR_WEIGHT / (_PRIOR_WEIGHT + self.observations)
            learned = self.worst * _SLACK
            faded = self.prior if self.exact else weight * self.prior + (1 - weight) * learned
            self._factor = max(self._floor, self.worst, faded)

    def to_dict(self) -> dict[str, Any]:
        """What a trace states."""
        return {
            "factor": round(self._factor, 4),
            "offset": self.offset,
            "media": self.media,
            "prior": self.prior,
            "worst": round(self.worst, 4),
            "observations": self.observations,
            "exact": self.exact,
        }


def absurd(reported: int, estimated: int) -> bool:
    """Whether a server's figure cannot be that of one prompt: a sum over its lifetime, say, or an overflow.

    One such report believed would make every later call look too large for any budget.

    Args:
        reported: tokens by the server.
        estimated: tokens by the counter; hidden instructions and pictures may add a lot to them.
    """
    return reported > _ABSURD * (estimated + _HIDDEN)


_ABSURD = 20
"""Times the estimate, with what may be hidden, that no tokenizer can need."""
_HIDDEN = 5_000
"""Tokens of instructions that a server may add on its own."""
_SHORT = 64
"""Prompts below this many tokens say more about the template than about the tokenizer."""
_LOWEST = 0.5
"""An estimate that proves too high is scaled down to this at most."""
_SLACK = 1.02
"""Room above the worst ratio seen so far."""
_PRIOR_WEIGHT = 20.0
"""After this many reports the start and what was learned weigh the same."""
