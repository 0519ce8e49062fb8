"""Says that a graph runs without a budget because its state has no place for one.

LangGraph drops every key of a graph's input that the schema of its state, or one of its input alone, does not name, so
that a `Budget` in there may be lost without a word.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tta_langgraph.budget import Budget, BudgetTracker
from tta_langgraph.enclosing import CHANNEL, loop_of

_log = logging.getLogger(__name__)
_said = False
_said_of_input = False


def note_unlimited(config: Mapping[str, Any] | None, who: str) -> None:
    """Warns, once in a process, if the running graph's state has no `budget`; for who has found no budget anywhere.

    Once, because to use nodes or models without any budget may be meant. A budget in the graph's input is meant, and
    what is said of it does not count as that.

    Args:
        config: the running task's config.
        who: the node or model that nothing limits.
    """
    global _said
    if config is None or note_ineffective(config, who) or _said or _has(config, CHANNEL) or _has(config, "__end__"):
        return
    _said = True
    _log.warning(
        "%s runs without a budget, in a graph whose state has no key `budget`: LangGraph drops a Budget in the input "
        "of such a graph without a word. To limit it, let its state inherit EpisodeState (or declare `budget: "
        "Annotated[BudgetTracker, merge_budget]`), or run it inside `with budget_scope(Budget(...))`; a graph that a "
        'node of another one calls, inside `with budget_scope(state["budget"])`. If no budget is meant, all is well; '
        "this is not said again",
        who,
    )


def note_ineffective(config: Mapping[str, Any], who: str) -> bool:
    """Warns, once in a process, if the running graph was given a budget of which its state has made no account.

    Args:
        config: the running task's config.
        who: the node or model that it does not limit.

    Returns:
        Whether it was given one.
    """
    global _said_of_input
    given = getattr(loop_of(config), "input", None)
    budget = given.get(CHANNEL) if isinstance(given, Mapping) else getattr(given, CHANNEL, None)
    if not isinstance(budget, Budget) and not (isinstance(budget, BudgetTracker) and budget.episode):
        return False
    if not _said_of_input:
        _said_of_input = True
        _log.warning(
            "the Budget in the input of this graph does not limit %s: LangGraph drops what the schema of the state, or "
            "the graph's `input_schema`, does not name, and a key `budget` without the reducer opens no account. Let "
            "the state inherit EpisodeState (or declare `budget: Annotated[BudgetTracker, merge_budget]`) and the "
            "input schema EpisodeInput, or run the graph inside `with budget_scope(Budget(...))`",
            who,
        )
    return True


def _has(config: Mapping[str, Any], channel: str) -> bool:
    """Whether the running graph has this channel; `__end__` belongs to functions marked `@entrypoint`, which keep their
    input whole."""
    try:
        config["configurable"]["__pregel_read"](channel, False)
    except KeyError:
        return False
    return True
