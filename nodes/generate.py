"""The first answer, or the first few."""

from __future__ import annotations

from dataclasses import dataclass

from tta_langgraph.episode import Ask, Steps
from tta_langgraph.nodes.reading import State, settled
from tta_langgraph.nodes.sample import affordable, together
from tta_langgraph.nodes.settings import check_counts
from tta_langgraph.nodes.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class Generate(Strategy):
    """Asks the question once and adds one candidate, or `n` of them.

    Costs one call: the prompt (with a database, its schema) and its replies. A single answer is greedy unless
    `options` say otherwise. Several are samples that read the prompt once together, and fewer where the budget
    has no room for all.

    Example:
        ```python
        from tta_langgraph.nodes import Execute, Generate
        from tta_langgraph.sql import Database

        database = Database("sqlite:///shop.sqlite")
        builder.add_node("generate", Generate(model=model, database=database))
        builder.add_node("execute", Execute(database=database))
        builder.add_edge("generate", "execute")
        ```
    """

    n: int = 1
    """Answers in the one request."""
    temperature: float = 0.8
    """Of several answers; a single one is greedy."""
    final: bool = False
    """Whether the call may use what the budget holds in reserve for a final answer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "n")

    def steps(self, state: State) -> Steps:
        """Asks, and adds the candidates."""
        messages = yield from self.opening(state)
        n = affordable(self, messages, self.n, state)
        completions = yield from together(
            Ask(
                messages=messages,
                model=self.model,
                n=n,
                max_tokens=self.max_tokens,
                final=self.final,
                source="generate",
                options=self.sampling(state, 0.0 if n == 1 else self.temperature),
            )
        )
        # Predictors know the greedy answer and samples as different sources.
        action = "generate" if n == 1 else "resample"
        found = [self.candidate(completion, action=action) for completion in completions]
        return settled(state, found, self.selection)
