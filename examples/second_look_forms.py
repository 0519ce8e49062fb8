"""Which form of second look pays? P(fix) and P(break) by model, feedback, form and what was seen, from recorded pools.

    python examples/second_look_forms.py                                  # the recordings of this repository
    python examples/second_look_forms.py pools.jsonl.gz --split test      # yours, on the databases to test

Record pools of your own with `tta record`; give `Reflect(forms=form_table(pools))` the result.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table
from scipy.stats import beta

from tta_langgraph.decision.rates import Counts
from tta_langgraph.decision.second_looks import FORMS, Seen
from tta_langgraph.nodes import FormRecord, best_form, form_table
from tta_langgraph.traces.export import read_pools

RECORDINGS = Path(__file__).parents[1] / "benchmarks" / "recordings"
Records = dict[tuple[str, str, str], FormRecord]


def records_of(paths: Sequence[Path], split: str = "") -> Records:
    """The records in some files; where two of them measured the same form, the one with more looks counts.

    They are not added up: a question may be in both.
    """
    found: Records = {}
    for path in paths:
        for key, record in form_table(pool for pool in read_pools(path) if split in ("", pool.split)).items():
            found[key] = max(found.get(key, record), record, key=lambda known: known.looks)
    return found


def table_of(records: Records) -> Table:
    """One row per model, feedback, form and kind of attempt; what is chosen has a star."""
    table = Table("model", "feedback", "form", "seen", "fixes a wrong one", "breaks a right one")
    for (model, feedback, form), record in sorted(records.items()):
        for seen in get_args(Seen):
            counts = record.of(seen)
            if not counts.wrong + counts.right:
                continue
            told = feedback if feedback != "*" else "execution"
            star = " *" if form == best_form(model, told, seen=seen, table=records) else ""
            table.add_row(
                model,
                feedback,
                form + star,
                seen,
                _rate(counts.fixed, counts.wrong),
                _rate(counts.broken, counts.right),
            )
    return table


def shipped(records: Records, model: str) -> str:
    """The records as `tta_langgraph.decision.second_looks` ships them."""

    def written(counts: Counts) -> str:
        numbers = [counts.fixed, counts.wrong, counts.broken, counts.right]
        return f"Counts({', '.join(f'{number:g}' for number in numbers)})"

    lines = []
    for (_, feedback, form), record in sorted(records.items()):
        if form not in FORMS:
            continue
        kinds = [f"{seen}={written(record.of(seen))}" for seen in get_args(Seen) if record.of(seen) != Counts()]
        lines.append(f'    ("{model}", "{feedback}", "{form}"): FormRecord({", ".join(kinds)}),')
    return "\n".join(lines)


def _rate(hits: float, trials: float) -> str:
    """The share with its central 95% interval under Jeffreys' prior, Beta(1/2, 1/2)."""
    if not trials:
        return "-"
    low, high = beta.ppf([0.025, 0.975], hits + 0.5, trials - hits + 0.5)
    return f"{hits / trials:.3f} [{low:.3f}, {high:.3f}] ({hits:g} of {trials:g})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pools", nargs="*", type=Path)
    parser.add_argument("--split", default="", choices=("", "fit", "test"))
    parser.add_argument("--ship", metavar="MODEL", help="print the records as source under this part of a model's name")
    options = parser.parse_args()
    given = options.pools or [
        *sorted(RECORDINGS.glob("*.jsonl.gz")),
        *sorted(RECORDINGS.glob("second_looks/*.jsonl.gz")),
    ]
    found = records_of(given, options.split)
    console = Console(width=180)
    console.print(table_of(found))
    if options.ship:
        console.print(shipped(found, options.ship), highlight=False, markup=False, soft_wrap=True)
