"""Which form of second look pays, for whom, and for what kind of attempt: records, and the choice that they speak for.

The nodes put a second look in the form that is chosen here, and the shipped transition rates are those of the same
form: what a policy expects of `reflect` is what `reflect` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.rates import NO_COUNTS, Counts, Rates
from tta_langgraph.state import Candidate

Form = Literal["attempt", "consequences", "repair", "fresh"]
"""`attempt`: the attempt is shown, then what was observed. `consequences`: only what was observed. `repair`:
a named fault to avoid. `fresh`: asked again at a higher temperature, nothing shown."""
FORMS: tuple[Form, ...] = ("attempt", "consequences", "repair", "fresh")
Seen = Literal["error", "empty", "rows"]
"""What was seen of an attempt: it did not run, it found nothing, or it gave an answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FormRecord:
    """What second looks of one form did, by what was seen of the attempt before."""

    error: Counts = NO_COUNTS
    """At attempts that did not run, or were no answer."""
    empty: Counts = NO_COUNTS
    """At attempts that ran and found nothing."""
    rows: Counts = NO_COUNTS
    """At attempts that ran and found something, or that nothing could run."""

    def of(self, seen: Seen) -> Counts:
        """The counts for one kind of attempt."""
        counts: Counts = getattr(self, seen)
        return counts

    @property
    def looks(self) -> float:
        """How many second looks were counted."""
        return sum(counts.wrong + counts.right for counts in (self.error, self.empty, self.rows))

    def plus(self, seen: Seen, before: bool, after: bool) -> FormRecord:
        """With one more look, at an attempt that was right before (or not) and is right after (or not)."""
        return replace(self, **{seen: self.of(seen).plus(before, after)})


FormTable = Mapping[tuple[str, str, str], FormRecord]
"""Records by (model, feedback, form). The model is a part of its name, in lower case, or `*` for any; a fresh
look tells nothing, so its feedback is `*`."""


def best_form(
    model: str, feedback: str, *, seen: Seen = "rows", table: FormTable | None = None, default: Form = "attempt"
) -> Form:
    """The form that surely gains most for this model, feedback and kind of attempt: expected gain less its deviation.

    The gain is taken at the share of such attempts that are right, so that a form which breaks answers is not chosen
    for attempts that are mostly right, and breaking costs nothing where there is nothing to break.

    Args:
        model: the model's name.
        feedback: what the model is told.
        seen: what was seen of the attempt.
        table: records; by default those that ship with the package.
        default: without any record.
    """
    known = _known(model, feedback, SHIPPED if table is None else table)
    if not known:
        return default
    pooled = sum((record.of(seen) for record in known.values()), NO_COUNTS)
    share = (pooled.right + 1) / (pooled.right + pooled.wrong + 2) if seen != "error" else 0.0
    around = _drawn(pooled, ANYBODY, ANYBODY_WEIGHT)
    return max(known, key=lambda form: _cautious_gain(known[form].of(seen), around, share))


@lru_cache(maxsize=1024)
def form_rates(action: Action, *, model: str, seen: Seen) -> Rates | None:
    """The rates of the form that a reflection runs in, from the shipped records; None where nobody measured it.

    Args:
        action: `reflect`, `reflect:feedback`, `reflect:form` or `reflect:feedback.form`.
        model: who would look again.
        seen: what was seen of the attempt.
    """
    if action.kind != "reflect":
        return None
    feedback, form = look_of(action)
    known = _known(model, feedback or "execution", SHIPPED)
    if not known:
        return None
    form = form or best_form(model, feedback or "execution", seen=seen)
    if form not in known:
        return None
    pooled = sum((record.of(seen) for record in known.values()), NO_COUNTS)
    rates = _drawn(known[form].of(seen), _drawn(pooled, ANYBODY, ANYBODY_WEIGHT), WEIGHT)
    return Rates(rates.p_fix, 0.0) if seen == "error" else rates  # there is nothing to break


def look_of(action: Action) -> tuple[str, Form | None]:
    """The feedback (empty for the graph's own) and the form (None for the default) that a reflection's name asks for.

    Example:
        ```python
        assert look_of(Action("reflect:execution.fresh")) == ("execution", "fresh")
        assert look_of(Action("reflect:judge")) == ("judge", None)
        ```
    """
    told, _, put = action.detail.partition(".")
    for form in FORMS:
        if put == form:
            return told, form
        if told == form and not put:
            return "", form
    return told, None


def seen_of(candidate: Candidate) -> Seen:
    """What was seen of a candidate."""
    execution = candidate.evidence.execution
    if candidate.answer is None or (execution is not None and not execution.ok):
        return "error"
    return "empty" if execution is not None and execution.empty else "rows"


def _known(model: str, feedback: str, table: FormTable) -> dict[Form, FormRecord]:
    """The records that speak for a model; one of the model itself outranks one of any model."""
    known: dict[Form, FormRecord] = {}
    named: set[Form] = set()
    for (name, told, form), record in table.items():
        if form not in FORMS or told not in (feedback, "*") or (name != "*" and name not in model.lower()):
            continue
        if name != "*" or form not in named:
            known[form] = record
        if name != "*":
            named.add(form)
    return known


def _drawn(counts: Counts, around: Rates, weight: float) -> Rates:
    """Posterior means, drawn towards rates that are worth so many observations."""
    return Rates(
        (counts.fixed + weight * around.p_fix) / (counts.wrong + weight),
        (counts.broken + weight * around.p_break) / (counts.right + weight),
    )


def _cautious_gain(counts: Counts, around: Rates, share: float) -> float:
    """The expected gain less one standard deviation of it: a few lucky looks outrank no well-known form."""
    rates = _drawn(counts, around, WEIGHT)
    fix = rates.p_fix * (1 - rates.p_fix) / (counts.wrong + WEIGHT + 1)
    broke = rates.p_break * (1 - rates.p_break) / (counts.right + WEIGHT + 1)
    return rates.gain(share) - math.sqrt((1 - share) ** 2 * fix + share**2 * broke)


ANYBODY, ANYBODY_WEIGHT = Rates(0.1, 0.1), 2.0
"""Where all forms of a model together start from, and how many observations that is worth."""
WEIGHT = 10.0
"""Observations that what is known of all forms together is worth, for each of them: few looks claim little."""
SHIPPED: FormTable = {
    # Counted by `python examples/second_look_forms.py --split fit --ship coder-0.5b` on benchmarks/recordings.
    # This model repeats a query that it is shown, and mends no more when it is told the fault than when asked afresh.
    ("coder-0.5b", "*", "fresh"): FormRecord(
        error=Counts(50, 608, 0, 0), empty=Counts(9, 72, 2, 8), rows=Counts(25, 272, 279, 1264)
    ),
    ("coder-0.5b", "execution", "attempt"): FormRecord(
        error=Counts(0, 34, 0, 0), empty=Counts(0, 3, 0, 0), rows=Counts(0, 16, 0, 77)
    ),
    ("coder-0.5b", "execution", "consequences"): FormRecord(
        error=Counts(4, 34, 0, 0), empty=Counts(0, 3, 0, 0), rows=Counts(0, 16, 7, 77)
    ),
    ("coder-0.5b", "execution", "repair"): FormRecord(
        error=Counts(6, 76, 0, 0), empty=Counts(0, 9, 0, 1), rows=Counts(1, 34, 19, 158)
    ),
    ("coder-0.5b", "judge", "attempt"): FormRecord(
        error=Counts(0, 76, 0, 0), empty=Counts(0, 9, 0, 1), rows=Counts(0, 34, 0, 158)
    ),
    ("coder-0.5b", "none", "attempt"): FormRecord(
        error=Counts(0, 76, 0, 0), empty=Counts(0, 9, 0, 1), rows=Counts(0, 34, 0, 158)
    ),
    # The 1.5B model repairs some failures when it is told the near-miss names: 2 of 9 greedily, 3 of 18 at T = 0.8.
    ("coder-1.5b", "execution", "repair"): FormRecord(error=Counts(5, 27)),
}
"""Records that ship with the package; count your own with `tta_langgraph.nodes.form_table`."""
