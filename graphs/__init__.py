"""Assembled graphs, and wrappers for graphs that exist already. Every factory returns an uncompiled `StateGraph`."""

from tta_langgraph.graphs.text_to_sql import TextToSQLState, create_text_to_sql_graph

__all__ = ["TextToSQLState", "create_text_to_sql_graph"]
