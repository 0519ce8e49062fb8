"""What a failed call means for the account, and whether to try again. **This is where a retry is decided.**

A request that the server turned away (4xx, connection refused) wrote nothing: it counts as a call with no tokens. Any
other failure may have written the whole completion before it was lost: it is charged in full.
"""

from __future__ import annotations

import email.utils
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

RETRYABLE_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


@dataclass(frozen=True, slots=True)
class Failure:
    """How one failed attempt is treated."""

    retryable: bool
    """Trying again may help."""
    nothing_written: bool
    """The server turned the request away: no tokens were consumed."""
    retry_after: float | None
    """Seconds that the server asked to wait, or None."""
    label: str
    """For the charge's note: `failed: 503`, `failed: ConnectError`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retries:
    """How often and how patiently failed model calls are repeated; every attempt is admitted and charged."""

    attempts: int = 3
    """Attempts in all; 1 never retries."""
    backoff: float = 0.5
    """Seconds before the second attempt; doubled for each further one, with jitter."""
    longest: float = 20.0
    """The longest pause in seconds that backoff reaches; a server's Retry-After may ask for more."""
    patience: float = 60.0
    """The longest pause in seconds that a server may ask for; a call that it sends further away fails at once."""

    def pause(self, attempt: int, failure: Failure) -> float:
        """Seconds to wait after the given attempt (1 for the first)."""
        if failure.retry_after is not None:
            return failure.retry_after
        return min(self.longest, self.backoff * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)


_NEVER_REACHED = frozenset(
    {"ConnectError", "ConnectionRefusedError", "ConnectTimeout", "EndpointConnectionError", "ConnectTimeoutError"}
)
"""Names of what clients raise that could not connect; the last two are Amazon's."""
_DEEPEST = 8
"""Causes of causes that are looked at."""


def classify(error: BaseException) -> Failure:
    """Judges an exception of any client by its status code, its response headers and its name."""
    if getattr(error, "nothing_sent", False):
        return Failure(False, True, None, f"not sent: {type(error).__name__}")
    status = _status(error)
    if status is not None:
        return Failure(
            retryable=status in RETRYABLE_STATUS,
            nothing_written=400 <= status < 500 or status == 503,
            retry_after=_retry_after(error),
            label=f"failed: {status}",
        )
    names = {kind.__name__ for kind in type(error).__mro__} | {type(cause).__name__ for cause in _causes(error)}
    refused = bool(names & _NEVER_REACHED)
    lost = bool(names & {"APIConnectionError", "TransportError", "TimeoutError", "ConnectionError", "APITimeoutError"})
    return Failure(refused or lost, refused, None, f"failed: {type(error).__name__}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What clients raised below: LangChain's makes an error of its own of OpenAI's, which made one of httpx's."""
    for _ in range(_DEEPEST):
        if error.__cause__ is None:
            return
        error = error.__cause__
        yield error


def is_timeout(error: BaseException) -> bool:
    """Whether the exception says that the per-call timeout struck."""
    chain = (error, error.__cause__, error.__context__)
    return any("Timeout" in type(link).__name__ for link in chain if link is not None)


def _status(error: BaseException) -> int | None:
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            found = getattr(holder, name, None)
            if isinstance(found, str) and found.isdecimal():
                found = int(found)  # the code of an error event in a stream
            if isinstance(found, int) and not isinstance(found, bool) and 100 <= found < 600:
                return found
    stated = _of_boto(error).get("HTTPStatusCode")
    return stated if isinstance(stated, int) else None


def _of_boto(error: BaseException) -> Mapping[str, Any]:
    """The status and headers of an answer that a client of Amazon's makes an exception of: it has a dictionary."""
    response = getattr(error, "response", None)
    found = response.get("ResponseMetadata") if isinstance(response, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _retry_after(error: BaseException) -> float | None:
    """What the server asked for; None where it asked for nothing, or for something that is neither number nor date."""
    headers = getattr(getattr(error, "response", None), "headers", None) or _of_boto(error).get("HTTPHeaders")
    if not isinstance(headers, Mapping):
        return None
    waits: tuple[tuple[str, Callable[[str], float]], ...] = (
        ("retry-after-ms", lambda text: float(text) / 1000),
        ("retry-after", float),
        ("retry-after", _until),
    )
    for name, read in waits:
        try:
            seconds = read(str(headers[name]))
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


def _until(date: str) -> float:
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
