"""What to do next with the tokens and seconds that are left."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tta_langgraph.decision.actions import ABSTAIN, STOP, Action
from tta_langgraph.decision.agreement import Agreement
from tta_langgraph.decision.batch import Batch, Choice, choose, choose_batch
from tta_langgraph.decision.costs import CostModel
from tta_langgraph.decision.decide import decide
from tta_langgraph.decision.experience import Experience
from tta_langgraph.decision.features import features
from tta_langgraph.decision.fitted_value import FittedValue
from tta_langgraph.decision.forecasts import Ahead, Assessment, Forecast, Quantity
from tta_langgraph.decision.learned import Learned
from tta_langgraph.decision.options import Option
from tta_langgraph.decision.panel import Panel
from tta_langgraph.decision.policy import Policy
from tta_langgraph.decision.predictor import Predictor, predictor_from_dict, predictor_to_dict, register
from tta_langgraph.decision.rates import Rates
from tta_langgraph.decision.saturation import Saturating
from tta_langgraph.decision.score_tail import ScoreTail
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.decision.tally import Tally
from tta_langgraph.decision.transitions import Transition, Transitions, TransitionTable
from tta_langgraph.decision.utility import AdaptiveLambda, Utility
from tta_langgraph.decision.vote_stability import VoteStability

if TYPE_CHECKING:
    from tta_langgraph.decision.builder import add_budget_router
    from tta_langgraph.decision.router import UtilityRouter, last_decision, planned_samples

_WITH_LANGGRAPH = {
    "UtilityRouter": "router",
    "add_budget_router": "builder",
    "last_decision": "router",
    "planned_samples": "router",
}
"""Imported on first use: replay and fitting decide by the million and need no graph."""

__all__ = [
    "ABSTAIN",
    "STOP",
    "Action",
    "AdaptiveLambda",
    "Agreement",
    "Ahead",
    "Assessment",
    "Batch",
    "Choice",
    "CostModel",
    "Experience",
    "FittedValue",
    "Forecast",
    "Learned",
    "Option",
    "Panel",
    "Policy",
    "Predictor",
    "Quantity",
    "Rates",
    "Saturating",
    "ScoreTail",
    "Snapshot",
    "Tally",
    "Transition",
    "TransitionTable",
    "Transitions",
    "Utility",
    "UtilityRouter",
    "VoteStability",
    "add_budget_router",
    "choose",
    "choose_batch",
    "decide",
    "features",
    "last_decision",
    "planned_samples",
    "predictor_from_dict",
    "predictor_to_dict",
    "register",
]


def __getattr__(name: str) -> Any:
    module = _WITH_LANGGRAPH.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
