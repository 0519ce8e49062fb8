"""Several answers at once."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from langchain_core.messages import BaseMessage, HumanMessage

from tta_langgraph.decision import planned_samples
from tta_langgraph.episode import Ask, Completion, OutOfBudget, Steps
from tta_langgraph.models.metered import budgeted
from tta_langgraph.models.prompt_count import count_prompt
from tta_langgraph.nodes.reading import State, candidates_of, question_of, settled
from tta_langgraph.nodes.settings import check_choices, check_counts
from tta_langgraph.nodes.strategy import Strategy
from tta_langgraph.scope import active_scope

Diversity = Literal["rephrase", "temperature"]


@dataclass(frozen=True, kw_only=True)
class Sample(Strategy):
    """Asks the question `n` times and adds `n` candidates.

    Without diversity the samples share one request, hence one reading of the prompt, where the server can. If
    not all of them fit in what the budget leaves, as many are drawn as fit.

    Source: self-consistency (arXiv 2203.11171), *Large Language Monkeys* (arXiv 2407.21787); test-time
        augmentation
    for `diversify`.
    """

    n: int | None = None
    """How many; None takes the number from the router's last decision, `resample(n)`, or 1."""
    temperature: float = 0.8
    """Of every sample, or the highest one with `diversify="temperature"`."""
    diversify: Diversity | None = None
    """`rephrase` asks all but the first sample in other words (one call more); `temperature` spreads the
    temperatures evenly from 0. The first sample always sees the original question."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, {"diversify": Diversity})
        check_counts(self, "n")

    def steps(self, state: State) -> Steps:
        """Draws the samples, and adds them."""
        messages = yield from self.opening(state)
        wanted = planned_samples(state) if self.n is None else self.n
        n = affordable(self, messages, wanted, state, shared=self.diversify is None)
        if self.diversify is None:
            completions = yield from together(self._ask(messages, state, n))
        else:
            completions = yield from self._apart(messages, n, state)
        found = [self.candidate(completion, action="resample") for completion in completions]
        return settled(state, found, self.selection)

    def _ask(
        self, messages: Sequence[BaseMessage], state: State, n: int = 1, *, heat: float | None = None, skip: int = 0
    ) -> Ask:
        return Ask(
            messages=messages,
            model=self.model,
            n=n,
            max_tokens=self.max_tokens,
            source="sample",
            options=self.sampling(state, self.temperature if heat is None else heat, skip=skip),
        )

    def _apart(self, messages: Sequence[BaseMessage], n: int, state: State) -> Generator[Any, Any, list[Completion]]:
        """One request each, in parallel; those that find no budget are left out."""
        if self.diversify == "temperature":
            step = self.temperature / max(1, n - 1)
            asks = tuple(self._ask(messages, state, heat=round(i * step, 3), skip=i) for i in range(n))
        else:
            others = yield from self._rephrased(question_of(state), n - 1)
            versions = [messages, *([*messages[:-1], HumanMessage(other)] for other in others)]
            # Fewer versions than samples: the model gave too few; the original is asked again.
            asks = tuple(self._ask(versions[i] if i < len(versions) else messages, state, skip=i) for i in range(n))
        results = yield asks
        failed = [result for result in results if isinstance(result, BaseException)]
        if len(failed) == len(results):
            raise failed[0]
        return [c for result in results if not isinstance(result, BaseException) for c in result]

    def _rephrased(self, question: str, n: int) -> Generator[Any, Any, list[str]]:
        """Up to `n` other wordings, all from one call; none if the budget has no room for it."""
        if n < 1:
            return []
        try:
            completions = yield Ask(
                messages=[HumanMessage(REPHRASE.format(n=n, question=question))],
                model=self.model,
                max_tokens=min(1_024, 24 + 2 * n * max(16, len(question) // 2)),
                source="sample.rephrase",
                options={"temperature": self.temperature},
            )
        except OutOfBudget:
            return []
        lines = [_NUMBERING.sub("", line).strip() for line in completions[0].text.splitlines()]
        same = question.strip().casefold()
        return list(dict.fromkeys(line for line in lines if line and line.casefold() != same))[:n]


def affordable(node: Strategy, messages: Sequence[BaseMessage], n: int, state: State, *, shared: bool = True) -> int:
    """As many samples as can be written to their end: the meter would rather cut all of them short.

    Args:
        node: who asks.
        messages: what is asked.
        n: how many are wanted.
        state: whose candidates tell how long replies are.
        shared: whether the samples share one reading of the prompt.
    """
    scope = active_scope()
    if n <= 1 or scope is None:
        return 1
    left = scope.ledger.left("tokens", final=False)
    if left == math.inf:
        return n
    written = [c.usage.completion_tokens for c in candidates_of(state) if c.finish_reason == "stop"]
    length = min(node.max_tokens, LENGTH_MARGIN * max(written, default=node.max_tokens))
    prompt = count_prompt(budgeted(node.model).inner, list(messages)).bound
    once, each = (prompt, length) if shared else (0, length + prompt)
    return max(1, min(n, int((left - once) // max(1, each))))


def together(ask: Ask) -> Generator[Any, Any, list[Completion]]:
    """One request for all samples; for half as many while the budget refuses it."""
    while True:
        try:
            completions: list[Completion] = yield ask
            return completions
        except OutOfBudget:
            if ask.n == 1:
                raise
            ask = replace(ask, n=ask.n // 2)


LENGTH_MARGIN = 2
"""A sample is given room for this many times the longest reply so far."""
_NUMBERING = re.compile(r"^\s*(?:\d+[.):]|[-*])\s*")
REPHRASE = """\
Rewrite the question below in {n} different ways. Keep its meaning, its numbers and every name exactly. \
One rewriting per line, nothing else.

{question}"""
"""Asks for other wordings of the question."""
