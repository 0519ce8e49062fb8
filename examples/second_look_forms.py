"""Which form of second look pays? p_fix and p_break per model, feedback and form, counted on recorded pools.

    python examples/second_look_forms.py benchmarks/recordings/*.jsonl.gz

Record pools of your own with `tta record`; give `Reflect(forms=form_table(pools))` the result.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tta_langgraph.nodes import best_form, form_table
from tta_langgraph.traces.export import read_pools

RECORDINGS = Path(__file__).parents[1] / "benchmarks" / "recordings"


def table_of(paths: Sequence[Path]) -> Table:
    """One row per model, feedback and form."""
    records = form_table(chain.from_iterable(map(read_pools, paths)))
    table = Table("model", "feedback", "form", "repairs a failure", "fixes a wrong one", "breaks a right one")
    for (model, feedback, form), record in sorted(records.items()):
        chosen = {best_form(model, feedback, failed=failed, table=records) for failed in (True, False)}
        table.add_row(
            model,
            feedback,
            f"{form} *" if form in chosen and feedback != "*" else form,
            f"{record.p_repair:.3f} ({record.repaired} of {record.failed})",
            f"{record.p_fix:.3f} ({record.fixed} of {record.wrong})",
            f"{record.p_break:.3f} ({record.broken} of {record.right})",
        )
    return table


if __name__ == "__main__":
    given = [Path(name) for name in sys.argv[1:]] or sorted(RECORDINGS.glob("*.jsonl.gz"))
    Console().print(table_of(given))
