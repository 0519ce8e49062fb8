"""How much of the way to an oracle anything recorded could go: selectors that see every answer, whatever it cost.

    python benchmarks/selection_ceiling.py [--sets ladder last_letters]

An oracle that knows the pool is right wherever any answer is. A policy must tell the right answer from the others by
what was recorded of them. Here three selectors look at all answers of a question, without a price: the majority, and
a logistic and a gradient-boosted model of P(right) over votes by source, votes of the others and the panel's evidence,
by cross-validation over databases. Beside them stands the accuracy that 70% of the way from the best single rule to
the oracle would take, and the area under the ROC curve of the better model: 0.5 is a coin.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policy_worth import recordings
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tta_langgraph.decision.fitting import folds
from tta_langgraph.decision.panel import evidence, source_of
from tta_langgraph.traces.replay_columns import Columns, columns

FOLDS = 5
AREA = 0.7
"""The target's share of the way from the best static strategy to the oracle."""
Floats = NDArray[np.float64]


class Answers:
    """Every distinct answer of every question as a row of numbers."""

    def __init__(self, table: Columns) -> None:
        sources: dict[str, int] = {}
        rows: list[tuple[dict[int, int], list[float]]] = []
        right: list[bool] = []
        owner: list[int] = []
        votes: list[int] = []
        for q in range(len(table)):
            block = table.block(q, q + 1)
            groups: dict[str, list[int]] = {}
            failed = 0
            for row in range(block.start, block.stop):
                candidate = block.candidate(row)
                corrects = candidate.parent is not None and candidate.action != "escalate"
                if candidate.key is None or corrects:
                    failed += not corrects
                    continue
                groups.setdefault(candidate.key, []).append(row)
            sizes = sorted((len(members) for members in groups.values()), reverse=True)
            for members in groups.values():
                said: dict[int, int] = {}
                for row in members:
                    source = sources.setdefault(source_of(block.candidate(row)), len(sources))
                    said[source] = said.get(source, 0) + 1
                others = sizes[0] if len(members) < sizes[0] else (sizes[1] if len(sizes) > 1 else 0)
                seen = evidence(block.candidate(members[0]), table.features[q], 0.0)
                rows.append((said, [len(members), others, len(groups), failed, *seen]))
                right.append(bool(table["correct"][members].any()))
                owner.append(q)
                votes.append(len(members))
        self.x = np.zeros((len(rows), len(sources) + len(rows[0][1])))
        for i, (said, seen) in enumerate(rows):
            for source, count in said.items():
                self.x[i, source] = count
            self.x[i, len(sources) :] = seen
        self.right = np.asarray(right)
        self.owner = np.asarray(owner)
        self.votes = np.asarray(votes, dtype=np.float64)
        self.fold = folds([table.db_ids[q] for q in owner], FOLDS)
        self.questions = len(table)

    def accuracy(self, score: Floats) -> float:
        """Share of questions whose answer of the highest score is right; the first of equals."""
        order = np.lexsort((np.arange(len(score)), -score, self.owner))
        first = order[np.unique(self.owner[order], return_index=True)[1]]
        return float(self.right[first].sum() / self.questions)

    def any_right(self) -> float:
        """Share of questions with a right answer among all."""
        return len(np.unique(self.owner[self.right])) / self.questions

    def held_out(self, make: Callable[[], Any]) -> Floats:
        """P(right) of every answer by a model that did not see its database."""
        found = np.zeros(len(self.right))
        for k in np.unique(self.fold):
            train, test = self.fold != k, self.fold == k
            found[test] = make().fit(self.x[train], self.right[train]).predict_proba(self.x[test])[:, 1]
        return found


def linear() -> Any:
    """A logistic model, shrunk."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=2000))


def boosted() -> Any:
    """Shallow gradient-boosted trees."""
    return HistGradientBoostingClassifier(
        max_depth=3, learning_rate=0.05, max_iter=120, l2_regularization=5.0, min_samples_leaf=20, random_state=0
    )


def main() -> None:
    """Prints a table."""
    known = {name: each for name, each in recordings().items() if not name.endswith("-tokens")}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sets", nargs="+", choices=known, default=list(known))
    chosen = parser.parse_args().sets
    shown = Table("recording", "majority", "logistic", "boosted", "needed for 70%", "any right", "ROC area")
    for name in chosen:
        table = columns(known[name].load())
        answers = Answers(table)
        models = [answers.held_out(make) for make in (linear, boosted)]
        majority, top = answers.accuracy(answers.votes), answers.any_right()
        first = np.asarray([table["correct"][table.offsets[q]] for q in range(len(table))]).mean()
        singles = [
            table["correct"][table["model"] == code].sum() / len(table)
            for code in range(len(table.texts["model"]))
            if (np.bincount(table.owner[table["model"] == code], minlength=len(table)) <= 1).all()
        ]
        static = max([majority, float(first), *map(float, singles)])
        figures = [majority, *map(answers.accuracy, models), static + AREA * (top - static), top]
        area = max(float(roc_auc_score(answers.right, score)) for score in models)
        shown.add_row(known[name].name, *(f"{v:.3f}" for v in figures), f"{area:.2f}")
    Console(width=120).print(shown)


if __name__ == "__main__":
    main()
