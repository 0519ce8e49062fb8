"""Settings of nodes, looked at when a node is made: a misspelt one would otherwise be taken for something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from tta_langgraph.errors import GraphError
from tta_langgraph.selection import select
from tta_langgraph.sql import Database


def check_choices(node: Any, choices: Mapping[str, Any]) -> None:
    """Refuses a setting that is none of the words of its `Literal`; what is no text (None, a function) passes.

    Raises:
        GraphError: naming the setting and the words that there are.
    """
    for name, literal in choices.items():
        value = getattr(node, name)
        if isinstance(value, str) and value not in get_args(literal):
            raise GraphError(
                f"there is no {name} {value!r}",
                where=_where(node, name),
                remedy=f"Use one of {', '.join(map(repr, get_args(literal)))}",
            )


def check_counts(node: Any, *names: str) -> None:
    """Refuses a number of answers, verdicts or parts below 1; None passes.

    Raises:
        GraphError: naming the setting.
    """
    for name in names:
        value = getattr(node, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise GraphError(
                f"{name} must be a whole number of at least 1, got {value!r}",
                where=_where(node, name),
                remedy="Raise it",
            )


def check_database(node: Any) -> None:
    """Refuses a URL or an engine where a `Database` belongs.

    Raises:
        GraphError: saying how to make one.
    """
    value = node.database
    if value is not None and not isinstance(value, Database):
        raise GraphError(
            f"a {type(value).__name__} is not a Database",
            where=_where(node, "database"),
            remedy="Pass tta_langgraph.sql.Database(url or engine); nodes may share one",
        )


def check_selection(node: Any) -> None:
    """Refuses a rule that `select` does not know.

    Raises:
        PolicyError: naming the rules that there are.
    """
    select((), node.selection)


def _where(node: Any, name: str) -> str:
    return f"{type(node).__name__}.{name}"
