"""Translation under a budget: several versions, and the one that the others agree with most.

    python examples/translation.py
    python examples/translation.py translation_ntrex.jsonl 5     # JSON lines with `eng` and `fra`

No two translations are equal, so they cannot vote; but they can be compared. The one with the highest mean
METEOR against the others (minimum Bayes risk) is chosen with `select` and a weight; references serve only to
score it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from langchain_core.language_models import BaseChatModel
from meteor import meteor  # beside this file

from tta_langgraph import Budget, Candidate, Policy, select
from tta_langgraph.graphs.reasoning import create_reasoning_graph
from tta_langgraph.models.resolve import resolve_model
from tta_langgraph.parsing import whole_reply

INSTRUCTION = "Translate the sentence into French. Reply with the translation only."
BUDGET = Budget(tokens=1_000, seconds=60)


def graph(model: BaseChatModel) -> Any:
    """The compiled graph: one greedy translation and two samples, as far as the budget goes."""
    builder = create_reasoning_graph(
        model,
        parse=whole_reply,
        instruction=INSTRUCTION,
        policy=Policy.static("best_of", 3),
        budget=BUDGET,
        max_tokens=96,
        temperature=0.5,
    )
    return builder.compile()


def agreed(candidates: Sequence[Candidate]) -> Candidate | None:
    """The candidate closest to all others; the first one where there are too few to compare."""

    def closeness(candidate: Candidate) -> float:
        others = [c.answer for c in candidates if c.answer and c.id != candidate.id]
        return fmean(meteor(other, candidate.answer or "", language="french") for other in others) if others else 0.0

    return select(candidates, "best_of_n", weight=closeness).candidate


def main(sentences: Iterable[dict[str, str]], model: BaseChatModel | None = None) -> float:
    """Translates the sentences, shows the chosen versions, and returns the mean METEOR against the
    references."""
    app = graph(model or resolve_model("embedded"))
    scores = []
    for sentence in sentences:
        state = app.invoke({"question": sentence["eng"].strip()})
        chosen = agreed(state["candidates"])
        said = (chosen.answer if chosen else None) or ""
        scores.append(meteor(said, sentence["fra"], language="french"))
        print(f"{scores[-1]:.2f} ({state['budget'].usage.tokens} tokens): {said}")
    print(f"mean METEOR {fmean(scores):.3f}")
    return fmean(scores)


SENTENCES = [
    {"eng": "The library is open on Sundays.", "fra": "La bibliothèque est ouverte le dimanche."},
    {"eng": "She bought three red apples at the market.", "fra": "Elle a acheté trois pommes rouges au marché."},
    {"eng": "We will meet in front of the station.", "fra": "Nous nous retrouverons devant la gare."},
]

if __name__ == "__main__":
    given = SENTENCES
    if len(sys.argv) > 1:
        wanted = int(sys.argv[2]) if len(sys.argv) > 2 else 5
        with Path(sys.argv[1]).open(encoding="utf-8") as lines:
            given = [json.loads(line) for line in islice(lines, wanted)]
    main(given)
