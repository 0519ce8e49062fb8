"""Assembled graphs, and wrappers for graphs that exist already. Every factory returns an uncompiled `StateGraph`."""

from tta_langgraph.graphs.reasoning import ReasoningState, create_reasoning_graph
from tta_langgraph.graphs.text_to_sql import TextToSQLState, create_text_to_sql_graph
from tta_langgraph.graphs.wrap import WrappedState, wrap_agent, wrap_text_to_sql

__all__ = [
    "ReasoningState",
    "TextToSQLState",
    "WrappedState",
    "create_reasoning_graph",
    "create_text_to_sql_graph",
    "wrap_agent",
    "wrap_text_to_sql",
]
