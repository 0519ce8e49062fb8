"""Counting what second looks did, so that their form can be chosen by what was recorded."""

from __future__ import annotations

from collections.abc import Iterable

from tta_langgraph.decision.second_looks import FormRecord, Seen
from tta_langgraph.traces.model import Attempt, Pool


def form_table(pools: Iterable[Pool]) -> dict[tuple[str, str, str], FormRecord]:
    """Counts what second looks at first answers did; fresh samples count as fresh looks at the first answer.

    Looks at other attempts are left out: which of them were looked at again is no accident (a second round is only
    there where the first one changed the answer), so their rates hold for no moment that a policy meets.

    Example:
        ```python
        from tta_langgraph.traces.export import read_pools

        Reflect(model=model, database=db, forms=form_table(read_pools("pools.jsonl.gz")))
        ```
    """
    table: dict[tuple[str, str, str], FormRecord] = {}
    for pool in pools:
        first = pool.first
        if first is None:
            continue
        for attempt in pool.attempts:
            model = attempt.model.lower()
            if attempt.action == "resample":
                key = (model, "*", "fresh")
            elif attempt.action == "reflect" and attempt.parent == first.id:
                form = attempt.form or "attempt"
                key = (model, "*" if form == "fresh" else attempt.feedback, form)
            else:
                continue
            right = first.correct if attempt.reply == "confirmation" else attempt.correct
            table[key] = table.get(key, FormRecord()).plus(_seen(first), first.correct, right)
    return table


def _seen(attempt: Attempt) -> Seen:
    if attempt.executed is False or (attempt.answer is None and attempt.key is None):
        return "error"
    return "empty" if attempt.empty else "rows"
