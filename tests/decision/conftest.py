"""Candidates and snapshots in one line each."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from tta_langgraph.budget import Usage
from tta_langgraph.decision import Snapshot
from tta_langgraph.evidence import Evidence, Execution
from tta_langgraph.state import Candidate

MakeCandidate = Callable[..., Candidate]
MakeSnapshot = Callable[..., Snapshot]


@pytest.fixture
def candidate() -> MakeCandidate:
    """`candidate("a")` ran and gave result a; `candidate(None)` failed to execute."""
    numbers = count()

    def make(key: str | None = "a", **fields: Any) -> Candidate:
        evidence = fields.pop("evidence", None)
        if evidence is None:
            error = None if key is not None else "no such column"
            evidence = Evidence(
                execution=Execution(ok=key is not None, key=key, n_rows=3, error=error, error_kind=error and "schema")
            )
        fields = {
            "id": f"c{next(numbers)}",
            "text": "reply",
            "answer": f"SELECT {key}",
            "usage": Usage(prompt_tokens=500, completion_tokens=30, seconds=1.5, model_calls=1),
            **fields,
        }
        return Candidate(key=key, evidence=evidence, **fields)

    return make


@pytest.fixture
def snapshot(candidate: MakeCandidate) -> MakeSnapshot:
    """`snapshot("a", "a", None)`: two that agree and one that failed."""

    def make(*keys: str | Candidate | None, **fields: Any) -> Snapshot:
        made = [key if isinstance(key, Candidate) else candidate(key) for key in keys]
        return Snapshot(question="How many?", candidates=tuple(made), **fields)

    return make
