"""Holds budgets in five ways through the conformance scenarios and prints who overshoots and who wastes.

    python benchmarks/budget_conformance.py [--branches 1,8,32,128] [--kinds plain,retries] [--markdown]

Overshoot, use and uncharged tokens are measured by the log of the scripted server, not by what the enforcement says.
"""

from __future__ import annotations

import argparse
import asyncio

from rich.console import Console
from rich.table import Table

from tta_langgraph.testing.conformance import Enforcement, Measurement, measure
from tta_langgraph.testing.ours import Ours
from tta_langgraph.testing.peers import PEERS
from tta_langgraph.testing.scenarios import BRANCHES, KINDS, all_scenarios

ENFORCEMENTS: tuple[Enforcement, ...] = (Ours(), Ours(name='ours, lost="reserve"', lost="reserve"), *PEERS)
"""Ours twice: lost calls charged by what arrived, as the scripted server allows, and in full, as is the default."""
COLUMNS = ("scenario", "branches", "enforcement", "overshoot %", "usable %", "uncharged", "calls", "requests", "s")


def row(measured: Measurement) -> tuple[str, ...]:
    """Returns one line of the table."""
    return (
        measured.scenario.kind,
        str(measured.scenario.branches),
        measured.enforcement,
        f"{100 * measured.overshoot:.1f}",
        f"{100 * measured.usable:.1f}",
        str(measured.uncharged),
        str(measured.calls),
        str(measured.requests),
        f"{measured.seconds:.1f}",
    )


async def run(branches: tuple[int, ...], kinds: tuple[str, ...]) -> list[Measurement]:
    """Measures every enforcement in every scenario, one after the other."""
    chosen = tuple(kind for kind in KINDS if kind in kinds)
    return [
        await measure(enforcement, scenario)
        for scenario in all_scenarios(branches, chosen)
        for enforcement in ENFORCEMENTS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--branches", default=",".join(map(str, BRANCHES)), help="parallel branches, with commas")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of scenario, with commas")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args()
    unknown = set(options.kinds.split(",")) - set(KINDS)
    if unknown:
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    branches = tuple(map(int, options.branches.split(",")))
    rows = [row(measured) for measured in asyncio.run(run(branches, tuple(options.kinds.split(","))))]
    if options.markdown:
        print("| " + " | ".join(COLUMNS) + " |")
        print("|" + "---|" * len(COLUMNS))
        for cells in rows:
            print("| " + " | ".join(cells) + " |")
        return
    table = Table(*COLUMNS)
    for cells in rows:
        table.add_row(*cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
