"""What to do next with the tokens and seconds that are left."""

from tta_langgraph.decision.actions import ABSTAIN, STOP, Action
from tta_langgraph.decision.agreement import Agreement
from tta_langgraph.decision.builder import add_budget_router
from tta_langgraph.decision.costs import CostModel
from tta_langgraph.decision.decide import decide
from tta_langgraph.decision.forecasts import Ahead, Assessment, Forecast, Quantity
from tta_langgraph.decision.options import Option
from tta_langgraph.decision.policy import Policy
from tta_langgraph.decision.predictor import Predictor, predictor_from_dict, predictor_to_dict, register
from tta_langgraph.decision.router import UtilityRouter, last_decision, planned_samples
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.decision.tally import Tally
from tta_langgraph.decision.transitions import Rates, Transition, Transitions, TransitionTable
from tta_langgraph.decision.utility import AdaptiveLambda, Utility

__all__ = [
    "ABSTAIN",
    "STOP",
    "Action",
    "AdaptiveLambda",
    "Agreement",
    "Ahead",
    "Assessment",
    "CostModel",
    "Forecast",
    "Option",
    "Policy",
    "Predictor",
    "Quantity",
    "Rates",
    "Snapshot",
    "Tally",
    "Transition",
    "TransitionTable",
    "Transitions",
    "Utility",
    "UtilityRouter",
    "add_budget_router",
    "decide",
    "last_decision",
    "planned_samples",
    "predictor_from_dict",
    "predictor_to_dict",
    "register",
]
