"""The demonstration: a music shop's database and graded questions about it."""

from __future__ import annotations

from tta_langgraph.demo.database import build_database
from tta_langgraph.demo.defaults import DEFAULT_QUESTIONS, demo_policy
from tta_langgraph.demo.questions import DemoQuestion, Difficulty, load_questions

__all__ = [
    "DEFAULT_QUESTIONS",
    "DemoQuestion",
    "Difficulty",
    "build_database",
    "demo_policy",
    "load_questions",
]
