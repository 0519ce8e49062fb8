"""The demonstration: a music shop's database and graded questions about it."""

from __future__ import annotations

from tta_langgraph.demo.database import build_database
from tta_langgraph.demo.defaults import demo_policy, handful, recorded_figures
from tta_langgraph.demo.questions import DemoQuestion, Difficulty, load_questions

__all__ = [
    "DemoQuestion",
    "Difficulty",
    "build_database",
    "demo_policy",
    "handful",
    "load_questions",
    "recorded_figures",
]
