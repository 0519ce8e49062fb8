"""No figure of a table is lost, however narrow the place it is printed to."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tta_langgraph.commands.render import show_table

HEADER = ("strategy", *(f"a rather long heading {i}" for i in range(9)))
ROWS = [("best_of(8)", *(f"{i}.123456789" for i in range(9))), ("policy", *(f"{i}.987654321" for i in range(9)))]


@pytest.mark.parametrize(("terminal", "width"), [(False, 80), (True, 80), (True, 40), (True, 400)])
def test_every_figure_is_printed_whole(terminal: bool, width: int) -> None:
    out = io.StringIO()
    show_table(Console(file=out, force_terminal=terminal, width=width, no_color=True), HEADER, ROWS, title="Episodes")
    lines = out.getvalue().splitlines()
    text = "\n".join(lines)
    assert all(cell in text for cell in (*HEADER[1:], *ROWS[0], *ROWS[1]))
    assert "…" not in text
    if terminal:
        assert max(map(len, lines)) <= width
    else:
        assert len(lines) == 4, "off a terminal a row stays one line, for grep and awk"
