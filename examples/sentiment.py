"""Sentiment classification under a budget: one label, and a vote where the model is unsure.

    python examples/sentiment.py
    python examples/sentiment.py sentiment_uci.jsonl 40          # JSON lines with `text` and `label`

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
from tta_langgraph.parsers import Label

INSTRUCTION = "Is the sentiment of the review positive or negative? Reply with one word: positive or negative."
BUDGET = Budget(tokens=800, seconds=30)


def graph(model: BaseChatModel) -> Any:
    """The compiled graph."""
    builder = create_reasoning_graph(
        model,
        parse=Label("positive", "negative"),
        instruction=INSTRUCTION,
        policy=Policy.default("text", actions=("resample(1)", "resample(2)")),
        budget=BUDGET,
        max_tokens=8,
    )
    return builder.compile()


def main(reviews: Iterable[dict[str, str]], model: BaseChatModel | None = None) -> float:
    """Classifies the reviews, shows the mistakes, and returns the share that is right."""
    app = graph(model or resolve_model("embedded"))
    right, tokens = [], 0
    for review in reviews:
        state = app.invoke({"question": f"Review: {review['text']}"})
        right.append(state["answer"] == review["label"])
        tokens += state["budget"].usage.tokens
        if not right[-1]:
            votes = [candidate.answer for candidate in state["candidates"]]
            print(f"wrong: {state['answer']} (votes {votes}) for {review['text']!r}")
    print(f"{sum(right)} of {len(right)} right, {tokens / max(1, len(right)):.0f} tokens each")
    return sum(right) / max(1, len(right))


REVIEWS = [
    {"text": "The soup was cold and the waiter never came back.", "label": "negative"},
    {"text": "A wonderful film, I laughed and cried.", "label": "positive"},
    {"text": "Battery died after two days. Waste of money.", "label": "negative"},
    {"text": "Works exactly as promised, my best purchase this year.", "label": "positive"},
    {"text": "I would not go back there if they paid me.", "label": "negative"},
    {"text": "Friendly staff, great coffee, fair prices.", "label": "positive"},
]

if __name__ == "__main__":
    given = REVIEWS
    if len(sys.argv) > 1:
        wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 20
        with Path(sys.argv[1]).open(encoding="utf-8") as lines:
            given = [json.loads(line) for line in islice(lines, wanted)]
    main(given)
