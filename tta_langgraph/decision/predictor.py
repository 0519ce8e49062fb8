"""The one protocol behind all predictors, and the register by which policy files name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.forecasts import Assessment
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.errors import PolicyError


@runtime_checkable
class Predictor(Protocol):
    """Features of a moment and possible actions in, P(correct) and costs out. No I/O, no randomness."""

    @property
    def name(self) -> str:
        """By which decisions name it, and under which it is registered."""
        ...

    def assess(self, snapshot: Snapshot, actions: Sequence[Action]) -> Assessment:
        """Forecasts every action that it knows how to forecast; others are left out and not taken."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` of the class reads them back."""
        ...


Reader = Callable[[Mapping[str, Any]], Predictor]
P = TypeVar("P", bound=type)

_readers: dict[str, Reader] = {}


def register(name: str) -> Callable[[P], P]:
    """Class decorator: makes a predictor with a `from_dict` class method loadable from policy files under `name`.

    Example:
        ```python
        @register("coin")
        @dataclass(frozen=True)
        class Coin:
            name = "coin"
            ...
        ```

    Raises:
        PolicyError: the class has no `from_dict`.
    """

    def remember(cls: P) -> P:
        reader = getattr(cls, "from_dict", None)
        if reader is None:
            raise PolicyError(
                f"{cls.__name__} cannot be read back from a policy file",
                where=f"register({name!r})",
                remedy="Give it a class method from_dict(data), the inverse of to_dict",
            )
        _readers[name] = reader
        return cls

    return remember


def predictor_to_dict(predictor: Predictor) -> dict[str, Any]:
    """A predictor as JSON values, with the name it is registered under."""
    return {"kind": predictor.name, **predictor.to_dict()}


def predictor_from_dict(data: Any, *, where: str = "predictor") -> Predictor:
    """Rebuilds a registered predictor.

    Raises:
        PolicyError: the kind is unknown, or the data cannot be read.
    """
    if not isinstance(data, Mapping) or "kind" not in data:
        raise PolicyError("not a predictor", where=where, remedy="It must be an object with a `kind`")
    kind = data["kind"]
    reader = _readers.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise PolicyError(
            f"unknown predictor {kind!r}",
            where=where,
            remedy=f"Known here: {', '.join(sorted(_readers))}; import the module that registers yours before loading",
        )
    try:
        return reader({key: value for key, value in data.items() if key != "kind"})
    except PolicyError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise PolicyError(
            f"the {kind} predictor cannot be read: {type(error).__name__}: {error}", where=where, remedy="Fit it again"
        ) from error
