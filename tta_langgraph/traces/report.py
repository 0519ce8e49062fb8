"""One self-contained page that shows what a policy is worth; the same figures as CSV and PNG."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from tta_langgraph.errors import TraceError
from tta_langgraph.traces.replay_evaluate import Evaluation
from tta_langgraph.traces.report_charts import figures
from tta_langgraph.traces.report_episodes import episodes_html
from tta_langgraph.traces.report_figures import Cell, Figure, table_rows
from tta_langgraph.traces.report_summary import summary_html

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written."""

    page: Path
    """The HTML page; it needs no other file and makes no request."""
    figures: tuple[Path, ...]
    """The figures as CSV and PNG."""
    data: Path
    """Every strategy's figures as JSON."""


def write_report(
    evaluations: Evaluation | Sequence[Evaluation],
    out: str | Path,
    *,
    title: str = "What the policy is worth",
    lead: str = "",
    pages_only: bool = False,
    episodes: int = 36,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Writes a report on one or more data sets.

    Args:
        evaluations: from `evaluate(...)`.
        out: the page's path; a name without `.html` is a folder that gets `report.html`. Figures go beside it.
        title: heading of the page.
        lead: a sentence under it.
        pages_only: leave out the CSV and PNG files.
        episodes: episodes in the viewer, per data set.
        progress: called with (figures drawn, figures in all).

    Returns:
        The paths written.

    Raises:
        TraceError: nothing to report, matplotlib is missing (extra `report`), or the path cannot be written.
    """
    found = [evaluations] if isinstance(evaluations, Evaluation) else list(evaluations)
    if not found:
        raise TraceError("nothing to report", where="write_report", remedy="Evaluate a policy on recorded pools first")
    page = Path(out)
    page = page if page.suffix.lower() == ".html" else page / "report.html"
    folder = page.with_name(page.stem + "_files")
    drawn = [(evaluation, figures(evaluation)) for evaluation in found]
    total, done = sum(len(f) for _, f in drawn), 0
    sections, paths = [], []
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        for number, (evaluation, charts) in enumerate(drawn):
            prefix = f"s{number + 1}-" if len(drawn) > 1 else ""
            parts = []
            for chart in charts:
                parts.append(_figure(chart, prefix))
                if not pages_only:
                    paths += _files(chart, folder, prefix)
                done += 1
                if progress is not None:
                    progress(done, total)
            heading = "Summary" if len(drawn) == 1 else evaluation.name
            sections.append(_section(evaluation, heading, charts, parts, prefix, episodes))
        data = page.with_suffix(".json")
        data.write_text(
            json.dumps([ev.to_dict() for ev in found], indent=1, default=str, allow_nan=False), encoding="utf-8"
        )
        page.write_text(_page(found, sections, title, lead), encoding="utf-8")
    except OSError as error:
        raise TraceError(f"cannot write the report: {error}", where=str(page), remedy="Choose another path") from None
    _log.info("report written to %s", page)
    return Report(page=page, figures=tuple(paths), data=data)


def _page(found: Sequence[Evaluation], sections: Sequence[str], title: str, lead: str) -> str:
    if len(found) == 1:
        links = [("summary", "Summary"), ("figures", "Figures"), ("strategies", "All strategies")]
        links += [("episodes", "Episodes")] if found[0].headline is not None else []
        links += [("made", "How it was made")]
    else:
        links = [(f"s{i + 1}-summary", ev.name) for i, ev in enumerate(found)]
    nav = "".join(f'<li><a href="#{anchor}">{escape(label)}</a></li>' for anchor, label in links)
    told = lead or (
        "Recorded attempts were replayed without a model: the policy, every static strategy, published stop rules "
        "and an oracle met the same answers in the same order."
    )
    return Template(_asset("report.html")).substitute(
        title=escape(title),
        lead=escape(told),
        nav=nav,
        body="\n".join(sections),
        css=_asset("report.css"),
        script=_asset("report.js"),
        footer="Made by tta-langgraph. This page holds all of its data and makes no request.",
    )


def _section(
    ev: Evaluation, heading: str, charts: Sequence[Figure], parts: Sequence[str], prefix: str, episodes: int
) -> str:
    small = {"calibration", "coverage", "budget", "actions"}
    body, row = [], []
    for chart, html in zip(charts, parts, strict=True):
        if chart.id in small:
            row.append(html)
        else:
            body += [_pair(row), html]
            row = []
    body.append(_pair(row))
    viewer = ""
    if ev.headline is not None and ev.headline.decisions:
        shown = episodes_html(ev.table, ev.headline, name=prefix + "episode-list", most=episodes)
        viewer = (
            f'<section id="{prefix}episodes"><h2>Episodes, decision by decision</h2><p class="lead">What the policy '
            "saw, what it expected of every action, and why it went on or stopped. The costliest and the surest "
            f"mistakes come first.</p>{shown}</section>"
        )
    return (
        f'<section id="{prefix}summary"><h2>{escape(heading)}</h2>{summary_html(ev)}</section>'
        f'<section id="{prefix}figures"><h2>Figures</h2>{"".join(body)}</section>'
        f'<section id="{prefix}strategies"><h2>All strategies</h2>{_strategies(ev)}</section>{viewer}'
        f'<section id="{prefix}made"><h2>How it was made</h2>{_made(ev)}</section>'
    )


def _strategies(ev: Evaluation) -> str:
    rows: list[list[Cell]] = []
    for kind, label in (
        ("policy", "policy"),
        ("fixed", "static"),
        ("rules", "stop rule"),
        ("oracle stop", "oracle"),
        ("oracle", "oracle"),
    ):
        found = ev.points(kind, draws=300)
        if kind.startswith("oracle"):
            found = found[:: max(1, len(found) // 3)]
        rows += [
            [p.name, label, p.accuracy, p.low, p.high, p.extra["tokens"], p.extra["seconds"], p.extra["calls"]]
            for p in sorted(found, key=lambda p: p.cost)
        ]
    header = ["strategy", "kind", "accuracy", "low", "high", "tokens", "seconds", "requests"]
    return f"<figure>{_table(header, rows, 'Every strategy on the same questions')}</figure>"


def _made(ev: Evaluation) -> str:
    groups, actions = len(set(ev.table.db_ids)), ", ".join(str(o.action) for o in ev.policy.options)
    facts = {
        "data": ev.name,
        "questions": f"{len(ev.table):,} on {groups:,} databases or groups",
        "episodes": f"{ev.bench.cards.episodes:,}, {ev.table.n_attempts:,} recorded attempts",
        "policy": f"{ev.policy.name}: {actions}; selection {ev.policy.selection}",
        "prices": f"{ev.policy.utility.per_token:.3g} per token, {ev.policy.utility.per_second:.3g} per second",
        **ev.notes,
    }
    return (
        '<figure><dl class="made">'
        + "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
        + "</dl></figure>"
    )


def _figure(chart: Figure, prefix: str) -> str:
    identity = prefix + chart.id
    wide, narrow = chart.svg(prefix=prefix), chart.svg(narrow=True, prefix=prefix)
    return (
        f'<figure id="{identity}" aria-labelledby="{identity}-t"><h3 id="{identity}-t">{escape(chart.title)}</h3>'
        f"<figcaption>{escape(chart.caption)}</figcaption>"
        f'<div role="img" aria-label="{escape(chart.alt, quote=True)}">'
        f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div></div>'
        f"<details><summary>The numbers</summary>{_table(chart.header, chart.rows, chart.title)}</details></figure>"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[Cell]], label: str) -> str:
    head = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in header)
    body = "".join(
        f"<tr{' class=own' if 'policy' in row[:2] else ''}>"
        + "".join(f"<td>{escape(str(cell))}</td>" for cell in row)
        + "</tr>"
        for row in table_rows(rows)
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label, quote=True)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _pair(parts: Sequence[str]) -> str:
    if not parts:
        return ""
    return f'<div class="pair">{"".join(parts)}</div>' if len(parts) > 1 else parts[0]


def _files(chart: Figure, folder: Path, prefix: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    image, numbers = folder / f"{prefix}{chart.id}.png", folder / f"{prefix}{chart.id}.csv"
    chart.png(image)
    numbers.write_text(chart.csv(), encoding="utf-8")
    return [image, numbers]


def _asset(name: str) -> str:
    return (resources.files("tta_langgraph.traces") / name).read_text(encoding="utf-8")
