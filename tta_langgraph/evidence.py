"""What was observed about a candidate: the database's answer, judges' verdicts, checks, log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """What a database (or another executor) said of a candidate's answer."""

    ok: bool
    """It ran to the end without an error. Weak evidence: a query that merely runs may be wrong."""
    key: str | None = None
    """Canonical key of the result; None for an error. Equal keys mean equal results."""
    n_rows: int = 0
    """Rows returned (within the row limit)."""
    empty: bool = False
    """It ran and returned no rows."""
    truncated: bool = False
    """The result was cut at a limit."""
    error: str | None = None
    """The error in one line, or None."""
    error_kind: str | None = None
    """`refused`, `syntax`, `schema`, `timeout`, `cancelled` or `database`."""
    feedback: str = ""
    """What the model may be told about it, within a token cap."""
    seconds: float = 0.0
    """Runtime in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One judge's opinion of a candidate."""

    score: float
    """In [0, 1]; from the verdict token's log-probability where the server gives it, else 0 or 1."""
    label: Literal["SUCCESS", "CONTINUE", "PIVOT", "UNPARSED"] = "UNPARSED"
    """Accept, improve this attempt, or start afresh; UNPARSED if the judge's reply could not be read."""
    critique: str = ""
    """What is wrong, in the judge's words."""
    summary: str = ""
    """A summary of the attempt for the next one."""
    judge: str = ""
    """The judge's model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckOutcome:
    """Outcome of a user's own verifier."""

    name: str
    """The check's name."""
    passed: bool
    """Whether the candidate passed."""
    score: float = 0.0
    """In [0, 1]."""
    detail: str = ""
    """Why, in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogprobStats:
    """Compact statistics of the log-probabilities (nats) of a candidate's tokens."""

    mean: float
    """Mean log-probability per token."""
    tail: float
    """Mean of the lowest fifth."""
    minimum: float
    """The lowest one."""
    variance: float = 0.0
    """Variance of −log p over the tokens (ODAR's free energy uses it)."""
    varentropy: float = 0.0
    """Variance of −log p within the top alternatives, averaged; 0 without alternatives."""
    first_entropy: float = 0.0
    """Entropy of the first token over its top alternatives (GlimpRouter's feature); 0 without alternatives."""
    n: int = 0
    """Tokens counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Everything observed about one candidate so far. Grows; nothing is taken back."""

    execution: Execution | None = None
    """What running it gave."""
    verdicts: tuple[Verdict, ...] = ()
    """Judges' verdicts, oldest first."""
    checks: tuple[CheckOutcome, ...] = ()
    """Outcomes of users' verifiers, the latest per name."""
    logprobs: LogprobStats | None = None
    """Log-probability statistics of the candidate's own tokens."""
    confirmations: int = 0
    """How often a model that was asked to look again kept the answer (weak evidence)."""

    def merged(self, other: Evidence) -> Evidence:
        """The union of both; later observations fill gaps, equal ones are not repeated."""
        checks = {check.name: check for check in (*self.checks, *other.checks)}
        new = tuple(verdict for verdict in other.verdicts if verdict not in self.verdicts)
        return Evidence(
            execution=other.execution or self.execution,
            verdicts=(*self.verdicts, *new),  # checkpoints turn tuples into lists
            checks=tuple(checks.values()),
            logprobs=other.logprobs or self.logprobs,
            confirmations=max(self.confirmations, other.confirmations),
        )
