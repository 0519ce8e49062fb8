"""The tables that `tta stats` prints."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tta_langgraph.traces.alarms import Alarm
from tta_langgraph.traces.stats import GroupStats, ModelStats, Stats


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table to print: a title, a header and rows of text."""

    title: str
    """What it shows."""
    header: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """One row each."""


def stats_tables(stats: Stats) -> list[Table]:
    """The figures as tables of text; empty ones are left out."""
    one = len(stats.strategies) == 1 and stats.overall.episodes
    overall = [stats.overall] if stats.overall.episodes or not stats.strategies else []
    groups = overall if one else [*overall, *stats.strategies]
    tables = [
        Table(title="Episodes", header=_GROUP_HEADER, rows=tuple(_group_row(group) for group in groups)),
        Table(title="Models", header=_MODEL_HEADER, rows=tuple(_model_row(model) for model in stats.models)),
        Table(title="Listed cheaper, but dearer per episode", header=("model", "than"), rows=stats.reversals),
        Table(title="Unusually long outputs", header=_ALARM_HEADER, rows=tuple(_alarm_row(a) for a in stats.alarms)),
    ]
    return [table for table in tables if table.rows]


def _group_row(group: GroupStats) -> tuple[str, ...]:
    accuracy = "–" if math.isnan(group.accuracy) else f"{group.accuracy:.3f}"
    interval = "" if math.isnan(group.accuracy) else f" [{group.accuracy_low:.3f}, {group.accuracy_high:.3f}]"
    return (
        group.name,
        f"{group.episodes:,}",
        accuracy + interval,
        f"{group.tokens:,.0f}",
        f"{group.cached_share:.0%}",
        f"{group.calls:.1f}",
        _number(group.usd, "${:,.5f}"),
        f"{group.seconds_p50:.2f} / {group.seconds_p90:.2f} / {group.seconds_p99:.2f}",
        _number(group.tokens_per_right, "{:,.0f}"),
        _number(group.usd_per_right, "${:,.5f}"),
        _number(group.cost_adjusted, "{:.3f}"),
    )


def _model_row(model: ModelStats) -> tuple[str, ...]:
    listed = "–" if model.listed_prompt is None else f"${model.listed_prompt:g} / ${model.listed_completion:g}"
    return (
        model.model,
        f"{model.answers:,}",
        f"{model.usage.prompt_tokens:,}",
        f"{model.usage.completion_tokens:,}",
        listed,
        f"${model.actual:.3f}",
        f"${model.usd_per_episode:.5f}",
    )


def _alarm_row(alarm: Alarm) -> tuple[str, ...]:
    return (
        alarm.episode,
        alarm.source,
        f"{alarm.prompt_tokens:,}",
        f"{alarm.completion_tokens:,}",
        f"{alarm.ratio:.2f}",
        f"{alarm.limit:.2f}",
    )


def _number(value: float, form: str) -> str:
    return form.format(value) if math.isfinite(value) else "–" if math.isnan(value) else "∞"


_GROUP_HEADER = (
    *("strategy", "episodes", "accuracy [95%]", "tokens", "cached", "calls", "USD", "seconds p50 / p90 / p99"),
    *("tokens per right", "USD per right", "cost-adjusted"),
)
_MODEL_HEADER = (
    *("model", "answers", "prompt tokens", "completion tokens", "listed USD/Mtok in / out"),
    *("actual USD/Mtok", "USD per episode"),
)
_ALARM_HEADER = ("episode", "caller", "prompt tokens", "completion tokens", "ratio", "usual limit")
