"""Grade-school mathematics under a budget: think once, and sample again while answers differ.

    python examples/grade_school_math.py
    python examples/grade_school_math.py gsm8k_test.jsonl 20     # JSON lines with `question` and `answer`

The model is the embedded one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel

from tta_langgraph import Budget, Policy
from tta_langgraph.graphs.reasoning import create_reasoning_graph
from tta_langgraph.models.resolve import resolve_model
from tta_langgraph.parsers import normal_number, number

INSTRUCTION = "Solve the problem in a few short steps. End with a line 'Answer: <number>'."
BUDGET = Budget(tokens=1_500, seconds=90)


def graph(model: BaseChatModel) -> Any:
    """The compiled graph."""
    policy = Policy.default("text", actions=("resample(2)",))
    builder = create_reasoning_graph(
        model,
        parse=number,
        normalise=normal_number,
        instruction=INSTRUCTION,
        policy=policy,
        budget=BUDGET,
        max_tokens=240,
    )
    return builder.compile()


async def served() -> Any:
    """What LangGraph's server asks for."""
    return graph(resolve_model("embedded"))


def main(problems: Iterable[dict[str, str]], model: BaseChatModel | None = None) -> float:
    """Solves the problems, shows what each took, and returns the share that is right."""
    app = graph(model or resolve_model("embedded"))
    right = []
    for problem in problems:
        state = app.invoke({"question": problem["question"]})
        right.append(state["answer"] is not None and normal_number(state["answer"]) == normal_number(problem["answer"]))
        votes = [candidate.answer for candidate in state["candidates"]]
        print(
            f"{'right' if right[-1] else 'wrong'}: {state['answer']} (expected {problem['answer']}; votes {votes}; "
            f"{state['budget'].usage.tokens} tokens; {state['stop_reason']})"
        )
    print(f"{sum(right)} of {len(right)} right")
    return sum(right) / max(1, len(right))


PROBLEMS = [
    {"question": "Mia picks 4 baskets of 12 plums and gives away 15 plums. How many plums are left?", "answer": "33"},
    {"question": "A ticket costs 7 dollars. How much do 3 tickets cost with a discount of 5 dollars?", "answer": "16"},
    {"question": "A train needs 3 hours for 210 km. How many km does it go in 5 hours?", "answer": "350"},
    {"question": "Tom reads 18 pages a day. How many days does a book of 90 pages take?", "answer": "5"},
]

if __name__ == "__main__":
    given = PROBLEMS
    if len(sys.argv) > 1:
        wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 10
        with Path(sys.argv[1]).open(encoding="utf-8") as lines:
            given = [json.loads(line) for line in islice(lines, wanted)]
    main(given)
