"""What a call asks for, however it is spelled: its completion cap and its number of choices.

Clients know the cap under half a dozen names, and pass what is in `extra_body` on as it is. The meter must find every
one of them, for the cap that was granted replaces them all: a name that it overlooked would let the call write more
than is reserved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tta_langgraph.errors import BudgetError

CAPS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict", "max_new_tokens", "n_predict")
"""Names of the completion cap, per choice."""
BODIES = ("extra_body", "options", "pipeline_kwargs")
"""Options whose contents a client passes on to the server beside, or above, its own."""
_LIMITS = frozenset((*CAPS, "n"))
_LOOKED_AT = _LIMITS.union(BODIES)


@dataclass(frozen=True, slots=True)
class Asked:
    """The limits that a call, or a model's configuration, sets."""

    cap: int | None
    """Completion tokens per choice, the smallest of those given; None if none is."""
    n: int | None
    """Choices, the largest number given; None if none is."""


NOTHING = Asked(None, None)


def asked(options: Mapping[str, Any], where: str) -> Asked:
    """Finds the limits in a call's options.

    Args:
        options: the call's keyword arguments.
        where: the model, for the error.

    Raises:
        BudgetError: a cap or a number of choices that is not a positive whole number.
    """
    if _LOOKED_AT.isdisjoint(options):
        return NOTHING
    bodies = [body for name in BODIES if isinstance(body := options.get(name), Mapping)]
    return limits_of([options, *bodies], where)


def limits_of(sources: Iterable[Mapping[str, Any]], where: str) -> Asked:
    """The limits that several mappings set together."""
    caps: list[int] = []
    choices: list[int] = []
    for source in sources:
        for name in _LIMITS & source.keys():
            if source[name] is not None:
                (choices if name == "n" else caps).append(_whole(source[name], name, where))
    return Asked(min(caps, default=None), max(choices, default=None))


def granted(options: Mapping[str, Any], name: str, cap: int) -> dict[str, Any]:
    """The call's options with the granted cap under this name, and under no other."""
    if _LOOKED_AT.isdisjoint(options):
        return {**options, name: cap}
    found = {key: value for key, value in options.items() if key not in _LIMITS or key == "n"}
    found[name] = cap
    for key in BODIES:
        body = found.get(key)
        if isinstance(body, Mapping) and _LIMITS & body.keys():
            found[key] = unlimited(body)
    return found


def unlimited(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request's body without limits of its own."""
    return {key: value for key, value in body.items() if key not in _LIMITS}


def _whole(value: Any, name: str, where: str) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and float(value).is_integer():
        return int(value)
    raise BudgetError(
        f"{name} must be a positive whole number, got {value!r}",
        where=where,
        remedy="Give a number of tokens per choice, or of choices for `n`; leave it out for the default",
    )
