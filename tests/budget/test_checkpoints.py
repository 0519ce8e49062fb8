"""A checkpoint of this package's state is read back without a warning, and without a type that nobody named."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass

import pytest
from langchain_core.messages import AIMessage

from tta_langgraph import Budget, BudgetTracker, Candidate
from tta_langgraph.budget import Charge, Usage
from tta_langgraph.checkpoints import checkpoint_serializer
from tta_langgraph.evidence import CheckOutcome, Evidence, Execution, Verdict
from tta_langgraph.state import Decision

TRACKER = BudgetTracker.start(Budget(tokens=100, reserve=10)).with_charges(
    {"a": Charge(id="a", usage=Usage(prompt_tokens=3))}
)
EVIDENCE = Evidence(
    execution=Execution(ok=True, n_rows=2),
    verdicts=(Verdict(score=0.5),),
    checks=(CheckOutcome(name="c", passed=True),),
)
STATE = {
    "budget": TRACKER.nested(Budget(seconds=3)),
    "candidates": [Candidate(text="SELECT 1", answer="SELECT 1", evidence=EVIDENCE)],
    "decisions": [Decision(step=0, action="stop")],
    "messages": [AIMessage("four")],
}


@dataclass(frozen=True)
class Mine:
    value: int


def test_the_state_comes_back_whole_and_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    serializer = checkpoint_serializer()
    with caplog.at_level(logging.DEBUG, "langgraph"):
        again = serializer.loads_typed(serializer.dumps_typed(STATE))
    assert again["budget"].parent.charges == TRACKER.charges
    [candidate], [decision] = again["candidates"], again["decisions"]
    # MessagePack knows no tuples: apart from that, every part is what it was.
    assert candidate.evidence.execution == EVIDENCE.execution
    assert tuple(candidate.evidence.verdicts) == EVIDENCE.verdicts
    assert tuple(candidate.evidence.checks) == EVIDENCE.checks
    assert type(decision) is Decision
    assert again["messages"] == STATE["messages"]
    assert again["budget"].budget == STATE["budget"].budget  # type: ignore[attr-defined]
    assert caplog.records == []


def test_a_type_of_the_users_comes_back_only_if_it_was_named() -> None:
    written = checkpoint_serializer().dumps_typed({"mine": Mine(3)})
    assert checkpoint_serializer(Mine).loads_typed(written) == {"mine": Mine(3)}
    assert checkpoint_serializer().loads_typed(written) != {"mine": Mine(3)}


def test_a_graph_resumed_from_a_file_in_a_new_process_warns_of_nothing(tmp_path: object) -> None:
    code = """
import logging, sqlite3, sys
logging.basicConfig(level=logging.WARNING)
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from tta_langgraph import Budget, EpisodeState
from tta_langgraph.checkpoints import checkpoint_serializer
builder = StateGraph(EpisodeState)
builder.add_node("node", lambda state: {})
builder.add_edge(START, "node")
saver = SqliteSaver(sqlite3.connect(sys.argv[1], check_same_thread=False), serde=checkpoint_serializer())
graph = builder.compile(checkpointer=saver)
config = {"configurable": {"thread_id": "t"}}
if sys.argv[2] == "write":
    graph.invoke({"question": "?", "budget": Budget(tokens=100)}, config)
print(graph.get_state(config).values["budget"].budget.tokens)
"""
    for mode in ("write", "read"):
        done = subprocess.run(
            [sys.executable, "-c", code, f"{tmp_path}/checkpoints.sqlite", mode],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stdout.split() == ["100"]
        assert "nregistered" not in done.stderr
