"""What a budget costs: an instant model call in a LangGraph node, with and without us, side by side in one run.

    python benchmarks/budget_overhead.py [--json out.json]

The model answers at once, so that everything measured is LangGraph, LangChain and this package. CPU time per invoke,
because the wall clock of a shared machine measures its other users.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import random
import statistics
import time
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, StateGraph

from tta_langgraph import Budget, EpisodeState, budgeted

ROUNDS, PER_ROUND = 30, 40


class Instant(BaseChatModel):
    """Answers at once, counts its own tokens, reports them, and takes a timeout, as clients of servers do."""

    reports_exact_usage: bool = True
    supports_timeout: bool = True

    @property
    def _llm_type(self) -> str:
        return "instant"

    def count_prompt_tokens(self, messages: Any, **_: Any) -> int:
        return 8

    def count_text(self, text: str) -> int:
        return len(text) // 4

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        usage = {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10}
        message = AIMessage("four", usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])


def graph(model: BaseChatModel) -> Any:
    """Two nodes: one calls the model, one does nothing."""
    builder = StateGraph(EpisodeState)
    builder.add_node("call", lambda state: {"answer": model.invoke("2 + 2?").text})
    builder.add_node("after", lambda state: {})
    builder.add_edge(START, "call")
    builder.add_edge("call", "after")
    builder.add_edge("after", END)
    return builder.compile()


def cpu_ms(compiled: Any, start: dict[str, Any]) -> float:
    """CPU milliseconds per invoke, over a batch."""
    begun = time.process_time()
    for _ in range(PER_ROUND):
        compiled.invoke(start)
    return (time.process_time() - begun) * 1000 / PER_ROUND


def function_calls(compiled: Any, start: dict[str, Any], runs: int = 100) -> float:
    """Python and C function calls per invoke: what no other user of the machine can change."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(runs):
        compiled.invoke(start)
    profile.disable()
    return float(pstats.Stats(profile).total_calls) / runs  # type: ignore[attr-defined]


def main() -> None:
    """Measures in turns, and prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    out = parser.parse_args().json
    bare, ours = graph(Instant()), graph(budgeted(Instant()))
    stubborn = graph(budgeted(Instant(supports_timeout=False)))
    plain, limited = {"question": "?"}, {"question": "?", "budget": Budget(tokens=100_000, seconds=600)}
    variants = {
        "without us": lambda: cpu_ms(bare, plain),
        "wrapped, no budget": lambda: cpu_ms(ours, plain),
        "wrapped, under a budget": lambda: cpu_ms(ours, limited),
        "same, without timeouts": lambda: cpu_ms(stubborn, limited),
    }
    for run in variants.values():
        run()
    # In another order each round: a variant pays for the garbage of the one before it.
    orders = [random.sample(list(variants), len(variants)) for _ in range(ROUNDS)]
    rounds = [{name: variants[name]() for name in order} for order in orders]
    found = {name: statistics.median(each[name] for each in rounds) for name in variants}
    extra = statistics.median(each["wrapped, under a budget"] - each["without us"] for each in rounds)
    share = statistics.median(each["wrapped, under a budget"] / each["without us"] - 1 for each in rounds)
    for name, value in found.items():
        print(f"{name:26} {value:7.3f} ms CPU per invoke")
    print("without timeouts: a sync client that takes none is run in a thread, so that the deadline holds")
    print(f"a budgeted call adds {extra:.3f} ms ({share:.1%} of the bare graph's invoke)")
    calls, more = function_calls(bare, plain), function_calls(ours, limited) - function_calls(bare, plain)
    print(f"and {more:.0f} function calls to {calls:.0f} ({more / calls:.1%})")
    if out is not None:
        measured = {"ms": found, "added_ms": extra, "added_share": share, "calls": calls, "added_calls": more}
        out.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
