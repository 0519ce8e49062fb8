"""One answer."""

from __future__ import annotations

from dataclasses import dataclass

from tta_langgraph.episode import Ask, Steps
from tta_langgraph.nodes.reading import State, settled
from tta_langgraph.nodes.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class Generate(Strategy):
    """Asks the question once and adds one candidate.

    Costs one call: the prompt (with a database, its schema) and one reply. Greedy unless `options` say
    otherwise.

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

    final: bool = False
    """Whether the call may use what the budget holds in reserve for a final answer."""

    def steps(self, state: State) -> Steps:
        """Asks, and adds the candidate."""
        messages = yield from self.opening(state)
        completions = yield Ask(
            messages=messages,
            model=self.model,
            max_tokens=self.max_tokens,
            final=self.final,
            source="generate",
            options={"temperature": 0.0, **self.options},
        )
        found = [self.candidate(completion, action="generate") for completion in completions]
        return settled(state, found, self.selection)
