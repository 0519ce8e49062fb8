"""Says that a graph runs without a budget because its state has no place for one.

LangGraph drops every key of a graph's input that the state's schema does not name, so a `Budget` in there may be lost
without a word. When a node runs, nothing is left of the input to tell whether it brought one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from tta_langgraph.enclosing import CHANNEL

_log = logging.getLogger(__name__)
_said = False


def note_unlimited(config: Mapping[str, Any] | None, who: str) -> None:
    """Warns, once in a process, if the running graph's state has no `budget`; for who has found no budget anywhere.

    Once, because to use nodes or models without any budget may be meant.

    Args:
        config: the running task's config.
        who: the node or model that nothing limits.
    """
    global _said
    if _said or config is None or _has(config, CHANNEL) or _has(config, "__end__"):
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


def _has(config: Mapping[str, Any], channel: str) -> bool:
    """Whether the running graph has this channel; `__end__` belongs to functions marked `@entrypoint`, which keep their
    input whole."""
    try:
        config["configurable"]["__pregel_read"](channel, False)
    except KeyError:
        return False
    return True
