"""A user's own verifier: unit tests, a schema, a regular expression, an exact rule."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tta_langgraph.episode import BudgetNode, Call, Steps
from tta_langgraph.errors import GraphError
from tta_langgraph.evidence import CheckOutcome, Evidence
from tta_langgraph.nodes.reading import State, candidates_of, settled
from tta_langgraph.selection import Rule

Verifier = Callable[..., Any]
"""`(answer)` or `(answer, state)` to a bool, a score in [0, 1], a `CheckOutcome`, or `(passed, detail)`; sync
or async. An `AssertionError` or `ValueError` (pydantic's included) is a failed check with that detail; any
other exception is an error of the verifier and ends the run."""


@dataclass(frozen=True, kw_only=True)
class Check(BudgetNode):
    """Runs a verifier of your own on every candidate and records its outcome as evidence.

    Models that the verifier calls are charged to the episode if they were wrapped with `budgeted`.

    Example:
        ```python
        Check(verifier=re.compile(r"[A-Z]{3}-\\d+"))                          # must match the whole answer
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
    """Rule by which the best answer so far is kept up to date."""

    def __post_init__(self) -> None:
        if not callable(self.verifier) and not isinstance(self.verifier, re.Pattern):
            raise GraphError(
                f"a verifier of type {type(self.verifier).__name__}",
                where="Check.verifier",
                remedy="Give a callable of the answer, or a compiled regular expression",
            )

    def steps(self, state: State) -> Steps:
        """Checks every candidate that has an answer and was not checked yet."""
        waiting = [
            c
            for c in candidates_of(state)
            if c.answer is not None and all(check.name != self._name for check in c.evidence.checks)
        ]
        found = []
        for candidate in waiting:
            try:
                returned = yield Call(
                    function=self._function, args=self._arguments(candidate.answer, state), source=self._name
                )
                outcome = self._outcome(returned)
            except (AssertionError, ValueError) as error:
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                outcome = CheckOutcome(name=self._name, passed=False, detail=first)
            found.append(candidate.observed(Evidence(checks=(outcome,))))
        return settled(state, found, self.selection)

    @property
    def _name(self) -> str:
        if self.name:
            return self.name
        if isinstance(self.verifier, re.Pattern):
            return f"matches {self.verifier.pattern}"
        return getattr(self.verifier, "__name__", type(self.verifier).__name__)

    @property
    def _function(self) -> Callable[..., Any]:
        if isinstance(self.verifier, re.Pattern):
            pattern = self.verifier
            return lambda answer: pattern.fullmatch(answer) is not None
        return self.verifier

    def _arguments(self, answer: str | None, state: State) -> tuple[Any, ...]:
        return (answer, state) if _takes_state(self._function) else (answer,)

    def _outcome(self, returned: Any) -> CheckOutcome:
        detail = ""
        if isinstance(returned, CheckOutcome):
            return returned
        if self.passed_unless_raised:
            return CheckOutcome(name=self._name, passed=True, score=1.0)
        if isinstance(returned, tuple) and len(returned) == 2:
            returned, detail = returned[0], str(returned[1])
        if isinstance(returned, bool):
            return CheckOutcome(name=self._name, passed=returned, score=float(returned), detail=detail)
        if isinstance(returned, int | float) and 0 <= returned <= 1:
            return CheckOutcome(name=self._name, passed=returned >= 0.5, score=float(returned), detail=detail)
        raise GraphError(
            f"the verifier returned {returned!r}",
            where=f"Check {self._name!r}",
            remedy="Return a bool, a score in [0, 1], (passed, detail) or a CheckOutcome; "
            "or set passed_unless_raised for a validator",
        )


def _takes_state(function: Callable[..., Any]) -> bool:
    """Whether it has room for a second positional argument that it needs."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    needed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return len(needed) >= 2
