"""What one call may take on the embedded engine: tokens, samples, time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tta_langgraph.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The caps of a call, however they were spelled."""

    n: int
    """Samples."""
    max_tokens: int | None
    """Completion cap (tokens per sample); None: what the window leaves."""

    @classmethod
    def read(cls, options: Mapping[str, Any], *, default: int | None, where: str) -> Limits:
        """Reads the caps among the options of a call and inside its `extra_body`.

        The engine knows several names for one cap and lets one of them win; here the smallest wins, so that no
        spelling lifts a cap that a budget has set.

        Args:
            options: of this call alone.
            default: completion cap of a call that names none.
            where: the model, named in errors.

        Raises:
            ModelError: a cap that is no positive whole number, or two different numbers of samples.
        """
        caps = [_positive(name, value, where) for name, value in _given(options, _CAPS)]
        counts = {_positive(name, value, where) for name, value in _given(options, _COUNTS)}
        if len(counts) > 1:
            raise ModelError(
                f"n is given twice, as {' and as '.join(map(str, sorted(counts)))}",
                where=where,
                remedy="Ask for one number of samples",
            )
        if not caps and default is not None and "max_tokens" not in options:
            caps = [_positive("max_tokens", default, where)]
        return cls(n=counts.pop() if counts else 1, max_tokens=min(caps, default=None))


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """When a call must have ended, over all requests it is made of."""

    seconds: float | None
    """What the caller allowed, for errors; None: no limit."""
    ends: float | None
    """On the clock of `time.monotonic`."""

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The clock runs from here on."""
        return cls(seconds=seconds, ends=None if seconds is None else time.monotonic() + seconds)

    @property
    def left(self) -> float | None:
        """Seconds, not below 0; None: no limit."""
        return None if self.ends is None else max(0.0, self.ends - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return self.left == 0.0


def without_caps(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that `Limits` does not read."""
    return {name: value for name, value in options.items() if name not in _CAPS and name not in _COUNTS}


def _given(options: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for source in (options, options.get("extra_body") or {}):
        yield from ((name, source[name]) for name in names if source.get(name) is not None)


def _positive(name: str, value: Any, where: str) -> int:
    # The engine reads -1 as "without end": a cap that is spent must never turn into that.
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{name} must be a positive whole number, not {value!r}", where=where)
    return value


_CAPS: Final = ("max_tokens", "max_completion_tokens", "n_predict")
_COUNTS: Final = ("n", "n_cmpl")
"""What llama.cpp's server takes for the same thing."""
