"""Budget-aware reasoning for LangGraph: how much thinking is this question worth?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tta_langgraph.budget import Budget, BudgetTracker, Usage
    from tta_langgraph.decision import Policy, Utility, UtilityRouter, add_budget_router
    from tta_langgraph.episode import BudgetNode
    from tta_langgraph.errors import BudgetError, BudgetExceededError, TTAError
    from tta_langgraph.middleware import BudgetMiddleware
    from tta_langgraph.models.metered import budgeted
    from tta_langgraph.pool import SharedPool
    from tta_langgraph.scope import budget_scope
    from tta_langgraph.selection import select
    from tta_langgraph.shown_budget import budget_block
    from tta_langgraph.state import Candidate, Decision, EpisodeInput, EpisodeState

__version__ = "0.1.0"

_HOMES = {
    "Budget": "budget",
    "BudgetError": "errors",
    "BudgetExceededError": "errors",
    "BudgetMiddleware": "middleware",
    "BudgetNode": "episode",
    "BudgetTracker": "budget",
    "Candidate": "state",
    "Decision": "state",
    "EpisodeInput": "state",
    "EpisodeState": "state",
    "Policy": "decision",
    "SharedPool": "pool",
    "TTAError": "errors",
    "Usage": "budget",
    "Utility": "decision",
    "UtilityRouter": "decision",
    "add_budget_router": "decision",
    "budget_block": "shown_budget",
    "budget_scope": "scope",
    "budgeted": "models.metered",
    "select": "selection",
}

__all__ = [
    "Budget",
    "BudgetError",
    "BudgetExceededError",
    "BudgetMiddleware",
    "BudgetNode",
    "BudgetTracker",
    "Candidate",
    "Decision",
    "EpisodeInput",
    "EpisodeState",
    "Policy",
    "SharedPool",
    "TTAError",
    "Usage",
    "Utility",
    "UtilityRouter",
    "add_budget_router",
    "budget_block",
    "budget_scope",
    "budgeted",
    "select",
]


def __getattr__(name: str) -> Any:
    """Imports a public name on first use, so that `import tta_langgraph` costs nothing a caller does not use."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "langchain":
            raise
        return _without_langchain(name)
    globals()[name] = value
    return value


def _without_langchain(name: str) -> type:
    """What can be imported along with the other names where langchain is missing; its use says what to install."""

    def refuse(self: object, *_: Any, **__: Any) -> None:
        from tta_langgraph.errors import MissingPackageError

        remedy = "Install the extra: pip install 'tta-langgraph[agents]'"
        raise MissingPackageError("langchain is not installed", where=name, remedy=remedy)

    return type(name, (), {"__init__": refuse})


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
