"""What the router may do next."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from tta_langgraph.errors import PolicyError

STOP = "stop"
ABSTAIN = "abstain"


@dataclass(frozen=True, slots=True, order=True)
class Action:
    """One possible next step, e.g. `stop`, `reflect`, `reflect:judge`, `resample(4)`.

    Example:
        ```python
        from tta_langgraph.decision import Action

        assert str(Action("resample", 4)) == "resample(4)"
        assert Action.parse("reflect:judge").kind == "reflect"
        ```

    Raises:
        PolicyError: the name is not a lower-case word (with an optional `:detail`), or `n` is below 1.
    """

    name: str
    """The route's name: a word, with an optional detail after a colon (`reflect:judge`)."""
    n: int = 1
    """How many candidates it makes in parallel."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise PolicyError(
                f"{self.name!r} is not an action's name",
                where="Action.name",
                remedy="Use a lower-case word, with an optional detail: reflect, reflect:judge, resample",
            )
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 1:
            raise PolicyError(f"n must be a whole number of at least 1, got {self.n!r}", where=f"Action {self.name}")

    @property
    def kind(self) -> str:
        """The name without its detail: `reflect` for `reflect:judge`."""
        return self.name.partition(":")[0]

    @property
    def detail(self) -> str:
        """What follows the colon: `judge` for `reflect:judge`, else empty."""
        return self.name.partition(":")[2]

    @property
    def names(self) -> tuple[str, ...]:
        """Its name and what it is a case of, the closest first: `reflect:judge.repair`, `reflect:judge`, `reflect`."""
        return _names(self.name)

    @property
    def ends(self) -> bool:
        """Whether it ends the episode."""
        return self.name in (STOP, ABSTAIN)

    @classmethod
    def parse(cls, text: str | Action) -> Action:
        """Reads `name`, `name:detail` or `name(n)`.

        Raises:
            PolicyError: the text is none of these.
        """
        return text if isinstance(text, Action) else _parse(text)

    def __str__(self) -> str:
        return self.name if self.n == 1 and self.name != "resample" else f"{self.name}({self.n})"


_NAME = re.compile(r"[a-z][a-z0-9_]*(:[A-Za-z0-9_.\-/+]+)?")
_TEXT = re.compile(r"\s*([a-z][a-z0-9_]*(?::[A-Za-z0-9_.\-/+]+)?)\s*(?:\(\s*(\d+)\s*\))?\s*")


@lru_cache(maxsize=256)
def _names(name: str) -> tuple[str, ...]:
    kind, _, detail = name.partition(":")
    # The name of a model may have dots in it; only a second look has a form behind its feedback.
    told = f"{kind}:{detail.partition('.')[0]}" if kind == "reflect" and detail else name
    return tuple(dict.fromkeys((name, told, kind)))


@lru_cache(maxsize=256)
def _parse(text: str) -> Action:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise PolicyError(
            f"cannot read the action {text!r}",
            where="Action.parse",
            remedy="Write reflect, reflect:judge or resample(4)",
        )
    return Action(match[1], int(match[2] or 1))
