"""Solved questions, kept in a LangGraph store and found again by similarity."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from dataclasses import dataclass, field

from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """A store of questions with answers that are worth imitating.

    A larger model's answers are added as they prove themselves; a smaller model is shown the most similar
    ones before its question (in-context distillation). Similarity is the store's own where it has an index of
    embeddings, else shared words weighted by how rare they are.

    Example:
        ```python
        store = Demonstrations()
        small = Generate(model=small_model, database=db, demonstrations=store)
        large = Escalate(to=large_model, database=db, remember=store)
        ```
    """

    store: BaseStore = field(default_factory=InMemoryStore)
    """Any LangGraph store; in memory by default."""
    namespace: tuple[str, ...] = ("demonstrations",)
    """Where in the store they are kept; use one per database or task."""
    k: int = 3
    """How many are shown."""
    pool: int = 1_000
    """Most entries that are looked through when the store has no index."""

    def add(self, question: str, answer: str) -> None:
        """Keeps a solved question; asking it again replaces its answer."""
        key = hashlib.sha256(question.strip().encode()).hexdigest()[:16]
        self.store.put(self.namespace, key, {"question": question.strip(), "answer": answer.strip()})

    def similar(self, question: str) -> list[tuple[str, str]]:
        """At most `k` pairs of question and answer, the most similar first; never the question itself."""
        indexed = getattr(self.store, "index_config", None) is not None
        if indexed:
            items = self.store.search(self.namespace, query=question, limit=self.k + 1)
        else:
            items = self.store.search(self.namespace, limit=self.pool)
        pairs = [
            (str(item.value["question"]), str(item.value["answer"]))
            for item in items
            if item.value["question"] != question.strip()
        ]
        return pairs[: self.k] if indexed else _ranked(question, pairs)[: self.k]


def _ranked(question: str, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs that share a word with the question, by summed inverse document frequency over length."""
    bags = [set(_WORD.findall(known.casefold())) for known, _ in pairs]
    seen = Counter(word for bag in bags for word in bag)
    asked = set(_WORD.findall(question.casefold()))
    scored = [
        (sum(math.log1p(len(bags) / seen[word]) for word in asked & bag) / math.sqrt(len(bag) or 1), -i)
        for i, bag in enumerate(bags)
    ]
    return [pairs[-i] for score, i in sorted(scored, reverse=True) if score > 0]


_WORD = re.compile(r"\w+")
