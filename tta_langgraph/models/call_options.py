"""What a node says about the calls it makes, carried to them in Python's context."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from tta_langgraph.budget import Usage
from tta_langgraph.scope import running_config

MIN_COMPLETION = 16
"""Smallest completion cap (tokens) that is worth a call, unless the call says otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallOptions:
    """What a node says about the calls it makes; set with `call_options`."""

    source: str = ""
    """Who calls; the running node's name if empty."""
    final: bool = False
    """May draw on the budget's reserve."""
    min_completion: int = MIN_COMPLETION
    """Smallest completion cap (tokens per choice) that is worth making the call."""
    spent: list[Usage] | None = None
    """Collects what each successful call consumed, for the caller."""


_DEFAULT = CallOptions()
_options: ContextVar[CallOptions | None] = ContextVar("tta_call_options", default=None)


@contextlib.contextmanager
def call_options(options: CallOptions) -> Iterator[None]:
    """Applies to every metered call made inside."""
    token = _options.set(options)
    try:
        yield
    finally:
        _options.reset(token)


def current_source(fallback: str) -> str:
    """Who is calling: as said by `call_options`, else the running LangGraph node, else the fallback."""
    return source_of(options_here(), running_config(), fallback)


def options_here() -> CallOptions:
    """What was said about the calls made here."""
    return _options.get() or _DEFAULT


def source_of(options: CallOptions, config: Mapping[str, Any] | None, fallback: str) -> str:
    """The same, for a caller that has both."""
    if options.source or config is None:
        return options.source or fallback
    return str(config.get("metadata", {}).get("langgraph_node") or fallback)
