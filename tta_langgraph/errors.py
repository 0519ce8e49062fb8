"""One family of errors. Each says what was wrong, where, and what to do about it."""

from __future__ import annotations


class TTAError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        what: what was wrong, one clause.
        where: the field, file, node or address it was found at.
        remedy: what the reader can do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.what = what
        """What was wrong."""
        self.where = where
        """Where it was found, or None."""
        self.remedy = remedy
        """What to do, or None."""
        text = what if where is None else f"{what} ({where})"
        super().__init__(text if remedy is None else f"{text}. {remedy}")


class BudgetError(TTAError, ValueError):
    """A budget that cannot mean anything, or cannot be enforced; raised before any call is made."""


class BudgetExceededError(BudgetError):
    """The budget cannot cover what is asked for.

    Nodes and graphs of this package end with the best answer so far, unless `on_exhausted="raise"`; a model that is
    called in a node of your own raises.

    Args:
        dimension: which limit struck: `tokens`, `prompt_tokens`, `completion_tokens`, `seconds`, `usd`,
            `model_calls` or `executions`.
        spent: consumed so far, in the unit of the dimension (tokens, seconds, US dollars, calls).
        limit: the limit, same unit.
        source: who asked for more: the node, model or tool.
        need: the least that would have been useful, same unit; 0 where that is not known.
    """

    def __init__(self, dimension: str, spent: float, limit: float, source: str, need: float = 0.0) -> None:
        self.dimension = dimension
        """The limit that struck."""
        self.spent = spent
        """Consumed so far (tokens, seconds, US dollars or calls)."""
        self.limit = limit
        """The limit, same unit."""
        self.source = source
        """Who asked for more."""
        self.need = need
        """The least that would have been useful, same unit; 0 where that is not known."""
        needed = f", and at least {need:g} needed" if need else ""
        super().__init__(
            f"the {dimension} budget is exhausted: {spent:g} of {limit:g} spent{needed}",
            where=source,
            remedy="Raise the limit; or catch this in a node of your own, as this package's nodes do unless "
            "on_exhausted='raise', and go on with the best answer so far",
        )

    def __reduce__(self) -> tuple[type[BudgetExceededError], tuple[str, float, float, str, float]]:
        return type(self), (self.dimension, self.spent, self.limit, self.source, self.need)


class ModelError(TTAError):
    """A model could not be found, loaded, reached or understood."""


class DatabaseError(TTAError):
    """A database could not be opened or described (never raised for what a model wrote)."""


class PolicyError(TTAError, ValueError):
    """A policy, predictor or utility that is malformed or from an unknown version."""


class TraceError(TTAError):
    """A trace store that cannot be read or written."""


class GraphError(TTAError, ValueError):
    """A graph was assembled in a way that cannot work."""


class MissingPackageError(TTAError, ImportError):
    """What was imported or used needs a package of an extra that is not installed."""
