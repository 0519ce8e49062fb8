"""What a budget costs: an instant model call in a LangGraph node, with and without us, side by side in one run.

    python benchmarks/budget_overhead.py [--json out.json]

The model answers at once, so that everything measured is LangGraph, LangChain and this package. CPU time per invoke,
because the wall clock of a shared machine measures its other users; in small batches in turns, so that they meet all
variants alike. Processor time still grows with what others do to the caches: the function calls do not.
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

ROUNDS, PER_ROUND = 120, 10
MANY = 50, 400
"""Calls in one node: what a call adds must not grow with them."""


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


def graph(model: BaseChatModel, calls: int = 1) -> Any:
    """Two nodes: one calls the model, one does nothing."""
    builder = StateGraph(EpisodeState)
    builder.add_node("call", lambda state: {"answer": [model.invoke("2 + 2?").text for _ in range(calls)][-1]})
    builder.add_node("after", lambda state: {})
    builder.add_edge(START, "call")
    builder.add_edge("call", "after")
    builder.add_edge("after", END)
    return builder.compile()


def cpu_ms(compiled: Any, start: dict[str, Any], runs: int = PER_ROUND) -> float:
    """CPU milliseconds per invoke, over a batch."""
    begun = time.process_time()
    for _ in range(runs):
        compiled.invoke(start)
    return (time.process_time() - begun) * 1000 / runs


def function_calls(compiled: Any, start: dict[str, Any], runs: int = 100) -> float:
    """Python and C function calls per invoke: what no other user of the machine can change."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(runs):
        compiled.invoke(start)
    profile.disable()
    return float(pstats.Stats(profile).total_calls) / runs  # type: ignore[attr-defined]


def added_per_call(calls: int, start: dict[str, Any]) -> float:
    """CPU milliseconds that a budget adds to a call, where one node makes so many; the least of ten runs of each."""
    bare, ours = graph(Instant(), calls), graph(budgeted(Instant()), calls)
    runs = [(cpu_ms(bare, {"question": "?"}, 1), cpu_ms(ours, start, 1)) for _ in range(10)]
    least_bare, least_ours = map(min, zip(*runs, strict=True))
    return (least_ours - least_bare) / calls


def main() -> None:
    """Measures in turns, and prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    out = parser.parse_args().json
    bare, ours = graph(Instant()), graph(budgeted(Instant()))
    stubborn = graph(budgeted(Instant(supports_timeout=False)))
    plain, limited = {"question": "?"}, {"question": "?", "budget": Budget(tokens=1_000_000, seconds=600)}
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
    pairs = [(each["without us"], each["wrapped, under a budget"]) for each in rounds]
    low, extra, high = statistics.quantiles((after - before for before, after in pairs), n=4)
    least, share, most = statistics.quantiles((after / before - 1 for before, after in pairs), n=4)
    for name, value in found.items():
        print(f"{name:26} {value:7.3f} ms CPU per invoke")
    print("without timeouts: a sync client that takes none is run in a thread, so that the deadline holds")
    print(f"a budgeted call adds {extra:.3f} ms (quartiles {low:.3f} and {high:.3f})")
    print(f"which is {share:.1%} of the bare graph's invoke (quartiles {least:.1%} and {most:.1%})")
    calls, more = function_calls(bare, plain), function_calls(ours, limited) - function_calls(bare, plain)
    print(f"and {more:.0f} function calls to {calls:.0f} ({more / calls:.1%})")
    each = {number: added_per_call(number, limited) for number in MANY}
    print("where one node makes many:", ", ".join(f"{ms:.3f} ms for each of {number}" for number, ms in each.items()))
    if out is not None:
        measured = {"ms": found, "added_ms": extra, "added_share": share, "calls": calls, "added_calls": more}
        measured["added_ms_of_many"] = each
        out.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
