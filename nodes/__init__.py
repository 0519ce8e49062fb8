"""Nodes that make candidates (strategies), nodes that observe them (evaluators), and the one that begins an episode."""

from tta_langgraph.decision.second_looks import Form, FormRecord, FormTable, best_form
from tta_langgraph.nodes.check import Check
from tta_langgraph.nodes.confidence import Confidence
from tta_langgraph.nodes.demonstrations import Demonstrations
from tta_langgraph.nodes.escalate import Escalate
from tta_langgraph.nodes.execute import Execute
from tta_langgraph.nodes.form_records import form_table
from tta_langgraph.nodes.generate import Generate
from tta_langgraph.nodes.judge import Judge
from tta_langgraph.nodes.open_episode import OpenEpisode
from tta_langgraph.nodes.plan import Plan
from tta_langgraph.nodes.reflect import Reflect
from tta_langgraph.nodes.sample import Sample
from tta_langgraph.nodes.strategy import Strategy

__all__ = [
    "Check",
    "Confidence",
    "Demonstrations",
    "Escalate",
    "Execute",
    "Form",
    "FormRecord",
    "FormTable",
    "Generate",
    "Judge",
    "OpenEpisode",
    "Plan",
    "Reflect",
    "Sample",
    "Strategy",
    "best_form",
    "form_table",
]
