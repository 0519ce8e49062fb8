"""A user's own verifier: unit tests, a schema, a regular expression, an exact rule."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tta_langgraph.episode import BudgetNode, Call, Steps
from tta_langgraph.errors import TTAError
from tta_langgraph.evidence import Evidence
from tta_langgraph.nodes.reading import State, candidates_of, settled
from tta_langgraph.nodes.settings import check_selection
from tta_langgraph.selection import Rule
from tta_langgraph.verifiers import (
    Verifier,
    failure_of,
    outcome_of,
    verifier_arguments,
    verifier_function,
    verifier_name,
)


@dataclass(frozen=True, kw_only=True)
class Check(BudgetNode):
    """Runs a verifier of your own on every candidate and records its outcome as evidence.

    Models that the verifier calls are charged to the episode if they were wrapped with `budgeted`.

    Example:
        ```python
        Check(verifier=re.compile(r"[A-Z]{3}-[0-9]+"))                        # must match the whole answer
        Check(verifier=lambda answer: float(answer) >= 0, name="not negative")
        Check(verifier=Invoice.model_validate_json, passed_unless_raised=True)
        ```
    """

    verifier: Verifier | re.Pattern[str]
    """What decides; a compiled pattern has to match the whole answer."""
    name: str = ""
    """The check's name in evidence and feedback; by default the verifier's own."""
    passed_unless_raised: bool = False
    """Whether anything that is returned counts as passed, for validators that raise or return a value."""
    selection: str | Rule = "execution_vote"
    """Rule by which the best answer so far is kept up to date; `best_of_n` and `weighted` use the checks."""

    def __post_init__(self) -> None:
        verifier_function(self.verifier)
        check_selection(self)

    def steps(self, state: State) -> Steps:
        """Checks every candidate that has an answer and was not checked yet."""
        name = self.name or verifier_name(self.verifier)
        function = verifier_function(self.verifier)
        found = []
        for candidate in candidates_of(state):
            if candidate.answer is None or any(check.name == name for check in candidate.evidence.checks):
                continue
            arguments = verifier_arguments(function, candidate.answer, state)
            try:
                returned = yield Call(function=function, args=arguments, source=name)
                outcome = outcome_of(returned, name, passed_unless_raised=self.passed_unless_raised)
            except (AssertionError, ValueError) as error:
                if isinstance(error, TTAError):  # an exhausted budget, say, is no verdict
                    raise
                outcome = failure_of(error, name)
            found.append(candidate.observed(Evidence(checks=(outcome,))))
        return settled(state, found, self.selection)
