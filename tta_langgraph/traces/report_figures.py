"""Figures of a report: drawn once, kept as inline SVG that follows the page's colours, as PNG and as rows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tta_langgraph.errors import TraceError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cell = str | float | int
Draw = Callable[["Axes", bool], None]
"""Draws on axes; the flag says whether the figure is narrow (a phone)."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure with the numbers behind it."""

    id: str
    """Anchor in the page and stem of its files."""
    title: str
    """Heading."""
    caption: str
    """What to see in it, for everyone."""
    alt: str
    """The same for those who do not see it."""
    header: Sequence[str]
    """Column names of its numbers."""
    rows: Sequence[Sequence[Cell]]
    """Its numbers."""
    draw: Draw
    """Draws it."""
    height: float = 4.0
    """Height in inches at full width."""

    def svg(self, *, narrow: bool = False, prefix: str = "") -> str:
        """Inline SVG whose colours are the page's (`var(--…)`), so that it follows dark and light."""
        size = (4.1, max(3.9, self.height)) if narrow else (8.2, self.height)
        buffer = io.StringIO()
        self._render(buffer, size, narrow, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return _inline(buffer.getvalue(), f"{prefix}{self.id}-{'n' if narrow else 'w'}")

    def png(self, path: Path) -> None:
        """Writes it as PNG on white."""
        self._render(path, (8.2, self.height), False, dpi=150, facecolor="white")

    def csv(self) -> str:
        """Its numbers as CSV."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows([[_plain(cell) for cell in row] for row in self.rows])
        return buffer.getvalue()

    def _render(self, target: Any, size: tuple[float, float], narrow: bool, **options: Any) -> None:
        matplotlib = need_matplotlib()
        from matplotlib.figure import Figure as Canvas

        # Narrow figures are as small as a phone shows them: their letters must not be smaller than the page's notes.
        style = {**STYLE, "font.size": 10.5, "svg.hashsalt": self.id}
        with matplotlib.rc_context(style):
            figure = Canvas(figsize=size, layout="constrained")
            self.draw(figure.subplots(), narrow)
            figure.savefig(target, **options)


def legend_above(axes: Axes, narrow: bool, columns: int) -> None:
    """A legend over the plot, where it covers no point."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=1 if narrow else columns,
        fontsize=9.5 if narrow else 8.5,
        borderaxespad=0.2,
    )


def need_matplotlib() -> Any:
    """matplotlib, with a clear error where it is missing."""
    try:
        import matplotlib
    except ImportError:
        raise TraceError(
            "reports need matplotlib, which is not installed",
            where="tta_langgraph.traces.report",
            remedy='pip install "tta-langgraph[report]"',
        ) from None
    return matplotlib


def table_rows(rows: Iterable[Sequence[Cell]], digits: int = 3) -> list[list[str]]:
    """Rows for people: rounded numbers, thousands separated, nothing for NaN."""
    return [[_nice(cell, digits) for cell in row] for row in rows]


def _nice(cell: Cell, digits: int) -> str:
    if isinstance(cell, str):
        return cell
    if cell != cell:
        return "–"
    if isinstance(cell, int) or abs(cell) >= 1000:
        return f"{cell:,.0f}"
    if abs(cell) >= 10:
        return f"{cell:.1f}"
    if cell and abs(cell) < 10**-digits:
        return f"{cell:.1e}"
    return f"{cell:.{digits}f}"


def _plain(cell: Cell) -> Cell:
    return round(cell, 6) if isinstance(cell, float) else cell


def _inline(svg: str, prefix: str) -> str:
    """SVG for use inside HTML: no prologue, ids unique in the page, colours as variables, size by the page."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'id="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'(xlink:href|href)="#([^"]+)"', rf'href="#{prefix}-\2"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)
    body = re.sub(r"font: ([^;\"]*?)'DejaVu Sans'[^;\"]*", r"font: \1 var(--font)", body)
    for colour, name in COLOURS.items():
        body = body.replace(colour, f"var(--{name})")
    body = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true" focusable="false">', body, count=1
    )
    return re.sub(r">\s+<", "><", body).strip()


INK, FAINT, GRID = "#1b1f24", "#66707a", "#d9dee3"
POLICY, FIXED, RULE, ORACLE, STOP = "#0a7e8c", "#5b6b7c", "#d9660a", "#7a4fd0", "#b79be8"
GOOD, BAD = "#2f9e44", "#d6336c"
COLOURS = {
    INK: "ink",
    FAINT: "faint",
    GRID: "grid",
    POLICY: "policy",
    FIXED: "fixed",
    RULE: "rule",
    ORACLE: "oracle",
    STOP: "oracle-stop",
    GOOD: "good",
    BAD: "bad",
}
"""Colours as drawn, and the page's variable that takes their place."""
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
}
