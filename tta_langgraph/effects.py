"""What a node may ask for: a model call, a query, a function call, or several of them at once.

A node yields effects and gets their results sent back, so that one body serves sync and async graphs, and every
effect is admitted, cancelled at the deadline and charged in one place (`episode.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, MessageLikeRepresentation

from tta_langgraph.budget import BudgetTracker, Usage
from tta_langgraph.errors import BudgetExceededError
from tta_langgraph.evidence import LogprobStats

if TYPE_CHECKING:
    from tta_langgraph.sql import Database

OutOfBudget = BudgetExceededError
"""Thrown into a node at the `yield` whose effect the budget cannot cover; catch it to return partial work."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Ask a model; the result is a list of `n` `Completion`s."""

    messages: Sequence[MessageLikeRepresentation]
    """The prompt."""
    model: BaseChatModel
    """Any chat model; it is wrapped with `budgeted` if it is not yet."""
    n: int = 1
    """Samples, in one request where the model can."""
    max_tokens: int | None = None
    """Completion cap per sample, in tokens; None leaves it to the model's own."""
    stop: list[str] | None = None
    """Strings at which the model stops."""
    final: bool = False
    """May draw on the budget's reserve."""
    source: str = ""
    """Who spends; the running node's name if empty."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """`temperature`, `seed`, `logprobs`, `top_logprobs`, `response_format`, …; what the model does not know is left
    out where that can be told."""
    tracker: BudgetTracker | None = None
    """A nested budget to draw on, made with `BudgetTracker.nested`; None draws on the episode's."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Run a query; the result is an `ExecutionResult`. Counts as one execution."""

    database: Database
    """Where to."""
    sql: str
    """One statement, as the model wrote it."""
    timeout: float | None = None
    """Seconds; the budget's deadline applies anyway."""
    source: str = ""
    """Who spends; the running node's name if empty."""
    tracker: BudgetTracker | None = None
    """A nested budget to draw on; None draws on the episode's."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """Call a function, sync or async; the result is what it returns. Budgeted models inside draw on the episode."""

    function: Callable[..., Any]
    """Sync or async."""
    args: tuple[Any, ...] = ()
    """Positional arguments."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments."""
    source: str = ""
    """Who spends; the running node's name if empty."""
    tracker: BudgetTracker | None = None
    """A nested budget to draw on; None draws on the episode's."""


Effect: TypeAlias = Ask | Run | Call
Effects: TypeAlias = Effect | tuple[Effect, ...]
"""One effect, or a tuple of effects to perform side by side. A tuple gives a list of results; the slot of a member that
failed holds its exception, so that the others' work is not lost."""
Steps: TypeAlias = Generator[Effects, Any, dict[str, Any]]
"""A node's body: yields effects, returns its state update."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One sample of a model."""

    text: str
    """What it wrote."""
    message: AIMessage
    """The whole message, tool calls and metadata included."""
    usage: Usage
    """Its share of the request: prompt tokens count on the first sample, completion tokens on their own."""
    finish_reason: str = "stop"
    """`stop`, `length` (cut at the cap), `tool_calls` or `abort`."""
    logprobs: LogprobStats | None = None
    """Statistics of its tokens' log-probabilities, if they were asked for and given."""
    model: str = ""
    """The model's name."""
