"""SQL that can be trusted: read-only in depth, ended at its deadline, comparable."""

from __future__ import annotations

from tta_langgraph.sql.compare import Semantics, result_key, same_result
from tta_langgraph.sql.database import Database
from tta_langgraph.sql.extract import extract_sql
from tta_langgraph.sql.feedback import execution_feedback
from tta_langgraph.sql.result import ErrorKind, ExecutionResult

__all__ = [
    "Database",
    "ErrorKind",
    "ExecutionResult",
    "Semantics",
    "execution_feedback",
    "extract_sql",
    "result_key",
    "same_result",
]
