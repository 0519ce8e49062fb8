"""Which form of second look pays for which model: counted on recorded pools, and shipped for the models we
measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tta_langgraph.nodes.second_look import FORMS, Form
from tta_langgraph.traces.model import Attempt, Pool

PRIOR_RATE, PRIOR_WEIGHT = 0.1, 2.0
"""Every rate starts from one in ten, which is worth two observations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FormRecord:
    """What was seen of one form of second look, for one model and feedback."""

    repaired: int = 0
    """Attempts that had not run (or had no answer) and were right afterwards."""
    failed: int = 0
    """Attempts that had not run and were looked at again."""
    fixed: int = 0
    """Attempts that had run, were wrong, and were right afterwards."""
    wrong: int = 0
    """Wrong attempts that had run and were looked at again."""
    broken: int = 0
    """Right attempts that were wrong afterwards."""
    right: int = 0
    """Right attempts that were looked at again."""

    @property
    def p_fix(self) -> float:
        """P(right after | ran and was wrong)."""
        return _rate(self.fixed, self.wrong)

    @property
    def p_break(self) -> float:
        """P(wrong after | was right)."""
        return _rate(self.broken, self.right)

    @property
    def p_repair(self) -> float:
        """P(right after | did not run)."""
        return _rate(self.repaired, self.failed)

    def gain(self, p_correct: float = 0.5) -> float:
        """Expected change of P(correct) for an answer that ran and is right with probability `p_correct`."""
        return (1 - p_correct) * self.p_fix - p_correct * self.p_break

    def plus(self, before: Attempt, right_after: bool) -> FormRecord:
        """With one more observation."""
        if before.correct:
            return replace(self, right=self.right + 1, broken=self.broken + (not right_after))
        if before.executed is False or before.key is None:
            return replace(self, failed=self.failed + 1, repaired=self.repaired + right_after)
        return replace(self, wrong=self.wrong + 1, fixed=self.fixed + right_after)


FormTable = Mapping[tuple[str, str, str], FormRecord]
"""Records by (model, feedback, form). The model is a part of its name, in lower case, or `*` for any; a fresh
look tells nothing, so its feedback is `*`."""


def form_table(pools: Iterable[Pool]) -> dict[tuple[str, str, str], FormRecord]:
    """Counts what second looks did in recorded pools; fresh samples count as fresh looks at the first answer.

    Example:
        ```python
        from tta_langgraph.traces.export import read_pools

        Reflect(model=model, database=db, forms=form_table(read_pools("pools.jsonl.gz")))
        ```
    """
    table: dict[tuple[str, str, str], FormRecord] = {}
    for pool in pools:
        by_id = {attempt.id: attempt for attempt in pool.attempts}
        for attempt in pool.attempts:
            model = attempt.model.lower()
            if attempt.action == "resample" and pool.first is not None:
                key, before = (model, "*", "fresh"), pool.first
            elif attempt.action == "reflect" and attempt.parent in by_id:
                form = attempt.form or "attempt"
                key, before = (model, "*" if form == "fresh" else attempt.feedback, form), by_id[attempt.parent]
            else:
                continue
            after = attempt if attempt.reply == "answer" else before
            table[key] = table.get(key, FormRecord()).plus(before, after.correct)
    return table


def best_form(
    model: str, feedback: str, *, failed: bool = False, table: FormTable | None = None, default: Form = "attempt"
) -> Form:
    """The form with the highest expected gain for this model and feedback.

    Args:
        model: the model's name.
        feedback: what the model is told.
        failed: the attempt did not run, so there is nothing to break.
        table: records; by default those that ship with the package.
        default: without any record.
    """
    known: dict[Form, FormRecord] = {}
    named: set[Form] = set()
    for (name, told, form), record in (SHIPPED if table is None else table).items():
        if form not in FORMS or told not in (feedback, "*") or (name != "*" and name not in model.lower()):
            continue
        # A record of the model itself outranks one for any model.
        if name != "*" or form not in named:
            known[form] = record
        if name != "*":
            named.add(form)
    if not known:
        return default
    return max(known, key=lambda form: known[form].p_repair if failed else known[form].gain())


def _rate(hits: int, trials: int) -> float:
    return (hits + PRIOR_RATE * PRIOR_WEIGHT) / (trials + PRIOR_WEIGHT)


SHIPPED: FormTable = {
    # Counted by `python examples/second_look_forms.py` on benchmarks/recordings (102 questions). Shown its query, with
    # or without a critique, the small model confirms it; told the fault, it repairs few; afresh, it mends most.
    ("coder-0.5b", "*", "fresh"): FormRecord(repaired=27, failed=280, fixed=14, wrong=120, broken=42, right=416),
    ("coder-0.5b", "execution", "repair"): FormRecord(repaired=6, failed=100, fixed=0, wrong=54, broken=8, right=152),
    ("coder-0.5b", "judge", "attempt"): FormRecord(repaired=0, failed=34, fixed=0, wrong=15, broken=0, right=52),
    ("coder-0.5b", "none", "attempt"): FormRecord(repaired=0, failed=35, fixed=0, wrong=15, broken=0, right=52),
    # The 1.5B model repairs some failures when it is told the near-miss names: 2 of 9 greedily, 3 of 18 at T = 0.8.
    ("coder-1.5b", "execution", "repair"): FormRecord(repaired=5, failed=27),
}
"""Records that ship with the package; count your own with `form_table`."""
