"""The first node of our graphs: a fresh account for this question, and every complaint before a token is spent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tta_langgraph.budget import Budget, BudgetTracker
from tta_langgraph.episode import Call, Steps
from tta_langgraph.errors import BudgetError, GraphError
from tta_langgraph.models.call_options import MIN_COMPLETION
from tta_langgraph.models.metered import BudgetedChatModel, budgeted
from tta_langgraph.models.prompt_count import count_prompt
from tta_langgraph.nodes import OpenEpisode
from tta_langgraph.nodes.strategy import Strategy


@dataclass(frozen=True, kw_only=True)
class Opening(OpenEpisode):
    """Starts an episode: the default budget if none was given, an empty slate on a thread that was used before, and a
    check that the budget can cover at least the first prompt."""

    first: Strategy
    """The node that asks first."""

    def steps(self, state: Mapping[str, Any]) -> Steps:
        """Opens the account."""
        question = state.get("question")
        if isinstance(question, str) and not question.strip():
            raise GraphError("the question is empty", where="state['question']", remedy="Ask something")
        update = self.opened(state)
        messages = yield from self.first.opening(state)
        model = budgeted(self.first.model)
        # A call of its own: a server or engine that counts must not hold the event loop up.
        count = yield Call(function=count_prompt, args=(model.inner, messages), source="open")
        limits = _limits_of(update.get("budget") or state.get("budget"))
        self._check(limits, count.bound, model)
        update["context"] = {
            "prompt_tokens": float(count.count),
            "question_chars": float(len(str(question or ""))),
            "prefix_caching": float(bool(getattr(model.inner, "prefix_caching", False))),
        }
        return update

    def _check(self, budget: Budget | None, prompt: int, model: BudgetedChatModel) -> None:
        if budget is None:
            return
        needed = prompt + MIN_COMPLETION + budget.reserve.tokens
        for name in ("tokens", "prompt_tokens"):
            limit = getattr(budget, name)
            need = needed if name == "tokens" else prompt
            if limit is not None and need > limit:
                shorter = "lower schema_tokens" if self.first.database is not None else "shorten the prompt"
                raise BudgetError(
                    f"{limit} tokens cannot cover even the first prompt: it needs {need}",
                    where=f"Budget.{name}",
                    remedy=f"Allow at least {math.ceil(need * 1.5)} {name}, or {shorter}",
                )
        if budget.usd is not None and model.meter.price() is None:
            raise BudgetError(
                f"the model {model.name_in_prices!r} has no known price, so a limit in US dollars cannot be enforced",
                where="Budget.usd",
                remedy="Register one with tta_langgraph.models.prices.register_price, or limit tokens instead",
            )


def _limits_of(given: Any) -> Budget | None:
    return given.budget if isinstance(given, BudgetTracker) else None
