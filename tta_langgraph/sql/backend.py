"""What an engine family has to be able to do; one file each beside this one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from tta_langgraph.errors import TTAError
from tta_langgraph.sql.checks import Verdict
from tta_langgraph.sql.result import ErrorKind
from tta_langgraph.sql.rows import Limits
from tta_langgraph.sql.stop import Stop


@dataclass(frozen=True)
class Fetched:
    """Rows as they came, within the limits."""

    columns: tuple[str, ...]
    """Column names."""
    rows: list[tuple[Any, ...]]
    """The rows held."""
    truncated: bool
    """Whether there was more."""


class StatementError(TTAError):
    """The engine did not run the statement; becomes `ExecutionResult.error`.

    Args:
        kind: the family of the error.
        message: one line for the model.
    """

    def __init__(self, kind: ErrorKind, message: str) -> None:
        self.kind: ErrorKind = kind
        """The family of the error."""
        super().__init__(message)


def stopped(stop: Stop) -> StatementError:
    """What is said of a statement that had to end."""
    reason = stop.reason or "timeout"
    return StatementError(reason, "stopped at the deadline" if reason == "timeout" else "cancelled")


class Backend(ABC):
    """Runs one checked statement on an engine, reading only, until the stop."""

    safe_calls: frozenset[str] | None = None
    """Lower-case names of the functions that the engine's catalog calls free of side effects; None if it has none."""

    safe_sources: frozenset[str] | None = None
    """The same for functions that stand in FROM as a table does; None if that makes no difference."""
    unsafe_calls: frozenset[str] = frozenset()
    """Lower-case names of the functions of which the catalog says that they may have side effects, or says nothing."""
    unsafe_fields: frozenset[str] = frozenset()
    """Those of them that may also be called as `row.name`, without brackets."""
    grammar: str | None = None
    """The parser's grammar, where it is a setting of the server; None for the dialect's own."""

    @abstractmethod
    def run(self, sql: str, verdict: Verdict, stop: Stop, limits: Limits) -> Fetched:
        """Blocks until the rows are here or the statement was ended.

        Raises:
            StatementError: for whatever the engine or the driver said.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing of their own to close
        """Gives back what the backend opened itself."""
