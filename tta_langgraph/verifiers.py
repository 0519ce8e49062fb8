"""What a user's own verifier may return, and how it becomes evidence."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from tta_langgraph.errors import GraphError
from tta_langgraph.evidence import CheckOutcome

Verifier = Callable[..., Any]
"""`(answer)` or `(answer, state)` to a bool, a score in [0, 1], a `CheckOutcome`, or `(passed, detail)`; sync or async.
An `AssertionError` or `ValueError` (pydantic's included) is a failed check with that detail; any other exception is an
error of the verifier and ends the run."""


def verifier_name(verifier: Verifier | re.Pattern[str]) -> str:
    """The name that a verifier goes by."""
    if isinstance(verifier, re.Pattern):
        return f"matches {verifier.pattern}"
    return getattr(verifier, "__name__", type(verifier).__name__)


def verifier_function(verifier: Verifier | re.Pattern[str]) -> Verifier:
    """The verifier as a function; a pattern has to match the whole answer.

    Raises:
        GraphError: it is neither callable nor a pattern.
    """
    if isinstance(verifier, re.Pattern):
        pattern = verifier
        return lambda answer: pattern.fullmatch(answer) is not None
    if not callable(verifier):
        raise GraphError(
            f"a verifier of type {type(verifier).__name__}",
            where="verifier",
            remedy="Give a callable of the answer, or a compiled regular expression",
        )
    return verifier


def verifier_arguments(verifier: Verifier, answer: str, state: Any) -> tuple[Any, ...]:
    """`(answer, state)` for a verifier that needs two positional arguments, else `(answer,)`."""
    try:
        parameters = inspect.signature(verifier).parameters.values()
    except (TypeError, ValueError):
        return (answer,)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return (answer, state) if len(needed) >= 2 else (answer,)


def outcome_of(returned: Any, name: str, *, passed_unless_raised: bool = False) -> CheckOutcome:
    """The evidence that a verifier's return value amounts to.

    Raises:
        GraphError: it is nothing that a verifier may return.
    """
    detail = ""
    if isinstance(returned, CheckOutcome):
        return returned
    if passed_unless_raised:
        return CheckOutcome(name=name, passed=True, score=1.0)
    if isinstance(returned, tuple) and len(returned) == 2:
        returned, detail = returned[0], str(returned[1])
    if isinstance(returned, bool):
        return CheckOutcome(name=name, passed=returned, score=float(returned), detail=detail)
    if isinstance(returned, int | float) and 0 <= returned <= 1:
        return CheckOutcome(name=name, passed=returned >= 0.5, score=float(returned), detail=detail)
    raise GraphError(
        f"the verifier returned {returned!r}",
        where=f"verifier {name!r}",
        remedy="Return a bool, a score in [0, 1], (passed, detail) or a CheckOutcome; "
        "or set passed_unless_raised for a validator",
    )


def failure_of(error: Exception, name: str) -> CheckOutcome:
    """The evidence that a verifier's complaint amounts to: its first line."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return CheckOutcome(name=name, passed=False, detail=first)
