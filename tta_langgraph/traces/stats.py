"""`tta stats`: what episodes cost, how long they took, how often they were right, and which calls look wrong."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any

from tta_langgraph.budget import Usage
from tta_langgraph.models.prices import price_for
from tta_langgraph.traces.alarms import Alarm, CallSize, output_alarms
from tta_langgraph.traces.model import Trace
from tta_langgraph.traces.stats_models import ModelCalls, ModelsSeen

Listed = Callable[[str], tuple[float, float] | None]
"""From a model's name to its list price in US dollars per million prompt and completion tokens, or None."""


@dataclass(frozen=True, kw_only=True)
class GroupStats:
    """Figures of one strategy (or of all episodes)."""

    name: str
    """The strategy, or `all`."""
    episodes: int
    """How many."""
    labelled: int
    """How many of them are known to be right or wrong."""
    accuracy: float
    """Share of the labelled ones that are right; NaN without any."""
    accuracy_low: float
    """Lower end of its 95% interval (Wilson)."""
    accuracy_high: float
    """Upper end."""
    tokens: float
    """Mean tokens per episode."""
    cached_share: float
    """Share of the prompt tokens that a prefix cache served."""
    calls: float
    """Mean model calls per episode."""
    usd: float
    """Mean US dollars per episode."""
    seconds_p50: float
    """Median latency of an episode in seconds."""
    seconds_p90: float
    """Latency that nine of ten episodes stay below."""
    seconds_p99: float
    """Latency that 99 of 100 stay below."""
    usd_per_right: float
    """Cost-of-pass: US dollars per right answer; infinite if none was right, NaN without labels."""
    tokens_per_right: float
    """The same in tokens."""
    cost_adjusted: float
    """Accuracy minus what an episode costs at the exchange rates given; NaN without labels."""
    stop_reasons: Mapping[str, int] = field(default_factory=dict)
    """Why episodes ended, the most frequent first."""


@dataclass(frozen=True, kw_only=True)
class ModelStats:
    """Figures of one model over all its calls: answers, second looks, verdicts, failed attempts."""

    model: str
    """Its name."""
    answers: int
    """Candidates it wrote."""
    episodes: int
    """Episodes that it was called in."""
    usage: Usage
    """What all its calls consumed."""
    usd_per_episode: float
    """US dollars per episode that it was called in."""
    actual: float
    """US dollars per million tokens as paid, cached and uncached, prompt and completion together."""
    listed_prompt: float | None
    """List price per million prompt tokens, US dollars, or None."""
    listed_completion: float | None
    """List price per million completion tokens, US dollars, or None."""

    @property
    def listed(self) -> float | None:
        """The list price of one prompt and one completion token in equal parts: how price tables are compared."""
        if self.listed_prompt is None or self.listed_completion is None:
            return None
        return (self.listed_prompt + self.listed_completion) / 2


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Everything that `tta stats` shows."""

    overall: GroupStats
    """All episodes, but for recordings: each of those ran the whole grid on a question."""
    strategies: tuple[GroupStats, ...]
    """By strategy, the most frequent first."""
    models: tuple[ModelStats, ...]
    """By model, the dearest per episode first, over the same episodes (a store of recordings alone: over those);
    `unknown` has the calls of which the trace does not say whose they are."""
    reversals: tuple[tuple[str, str], ...]
    """Pairs of models (a, b) where a is listed cheaper than b and costs more per episode, since it writes more.
    Models of which some calls are `unknown` are left out."""
    alarms: tuple[Alarm, ...]
    """Calls that wrote far more than their prompt warrants."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; numbers that are not finite are None, as JSON has no others."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def stats(
    traces: Iterable[Trace],
    *,
    per_token: float = 0.0,
    per_second: float = 0.0,
    per_usd: float = 0.0,
    listed: Listed | None = None,
    alarm_ratio: float | None = None,
) -> Stats:
    """Sums up episodes in one pass.

    Args:
        traces: for example `store.traces()`.
        per_token: exchange rate of `cost_adjusted`: right answers that one token is worth.
        per_second: right answers that one second is worth.
        per_usd: right answers that one US dollar is worth.
        listed: list prices; by default those of `genai-prices` and the registered ones.
        alarm_ratio: completion tokens per prompt token from which a call is reported; None finds the usual ratio of
            each caller and reports what is far beyond it.

    Returns:
        The figures; all zero or NaN if there are no episodes.
    """
    rates = (per_token, per_second, per_usd)
    groups: dict[str, _Group] = defaultdict(_Group)
    everything = _Group()
    live, recorded = ModelsSeen(), ModelsSeen()
    sizes: list[CallSize] = []
    for trace in traces:
        groups[trace.strategy or "live"].add(trace)
        if trace.strategy == RECORD:
            recorded.add(trace)
        else:
            everything.add(trace)
            live.add(trace)
        sizes += [CallSize.of(trace.id, charge) for charge in trace.charges if charge.usage.model_calls]
    models = live if everything.episodes else recorded
    rows = [_model_stats(name, model, listed or listed_price) for name, model in models.by_name.items()]
    sure = [row for row in rows if row.listed is not None and row.model not in models.unsure]
    return Stats(
        overall=everything.stats("all", rates),
        strategies=tuple(
            group.stats(name, rates) for name, group in sorted(groups.items(), key=lambda item: -item[1].episodes)
        ),
        models=tuple(sorted(rows, key=lambda row: (-row.usd_per_episode, row.model))),
        reversals=_reversals(sure),
        alarms=tuple(output_alarms(sizes, ratio=alarm_ratio)),
    )


def listed_price(model: str) -> tuple[float, float] | None:
    """List price of a model in US dollars per million prompt and completion tokens; None if nobody states one."""
    price = price_for(model)
    if price is None:
        return None
    table = price.to_dict()["usd_per_mtok"]
    return float(table["input"]), float(table["output"])


@dataclass
class _Group:
    """What is kept of one strategy's episodes while they go by."""

    episodes: int = 0
    labelled: int = 0
    right: int = 0
    labelled_usage: Usage = Usage()
    usage: Usage = Usage()
    seconds: list[float] = field(default_factory=list)
    labelled_seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, trace: Trace) -> None:
        usage = trace.usage
        self.episodes += 1
        self.usage += usage
        self.seconds.append(trace.seconds)
        self.reasons[trace.stop_reason or "unknown"] += 1
        if trace.correct is not None:
            self.labelled += 1
            self.right += trace.correct
            self.labelled_usage += usage
            self.labelled_seconds += trace.seconds

    def stats(self, name: str, rates: tuple[float, float, float]) -> GroupStats:
        n, known = max(self.episodes, 1), self.labelled
        low, high = _wilson(self.right, known)
        accuracy = self.right / known if known else math.nan
        ordered = sorted(self.seconds)
        spent = self.labelled_usage
        cost = (
            rates[0] * spent.tokens + rates[1] * self.labelled_seconds + rates[2] * spent.usd
        ) / max(known, 1)  # fmt: skip
        return GroupStats(
            name=name,
            episodes=self.episodes,
            labelled=known,
            accuracy=accuracy,
            accuracy_low=low,
            accuracy_high=high,
            tokens=self.usage.tokens / n,
            cached_share=self.usage.cached_tokens / self.usage.prompt_tokens if self.usage.prompt_tokens else 0.0,
            calls=self.usage.model_calls / n,
            usd=self.usage.usd / n,
            seconds_p50=_percentile(ordered, 0.50),
            seconds_p90=_percentile(ordered, 0.90),
            seconds_p99=_percentile(ordered, 0.99),
            # The right answer of a recording is the first one's, and its cost is the whole grid's.
            usd_per_right=math.nan if name == RECORD else _per_right(spent.usd, self.right, known),
            tokens_per_right=math.nan if name == RECORD else _per_right(spent.tokens, self.right, known),
            cost_adjusted=math.nan if name == RECORD else accuracy - cost,
            stop_reasons=dict(self.reasons.most_common()),
        )


def _model_stats(name: str, model: ModelCalls, listed: Listed) -> ModelStats:
    price = listed(name)
    prompt, completion = price if price is not None else (None, None)
    usage = model.usage
    paid = usage.usd
    if paid == 0 and prompt is not None and completion is not None:
        # Nothing was charged in dollars (a trace from before prices were known): at list price, then.
        paid = (usage.prompt_tokens * prompt + usage.completion_tokens * completion) / 1e6
    return ModelStats(
        model=name,
        answers=model.answers,
        episodes=len(model.episodes),
        usage=usage,
        usd_per_episode=paid / max(1, len(model.episodes)),
        actual=1e6 * paid / usage.tokens if usage.tokens else 0.0,
        listed_prompt=prompt,
        listed_completion=completion,
    )


def _per_right(spent: float, right: int, known: int) -> float:
    """Cost-of-Pass (arXiv 2504.13359): what was spent on labelled episodes per right one."""
    if not known:
        return math.nan
    return spent / right if right else math.inf


def _wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a proportion; NaN without observations."""
    if n == 0:
        return math.nan, math.nan
    z = NormalDist().inv_cdf(0.975)
    p, shrink = right / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Percentile of sorted values, interpolated between neighbours; NaN without values."""
    if not ordered:
        return math.nan
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


def _reversals(models: Sequence[ModelStats]) -> tuple[tuple[str, str], ...]:
    """Pairs of which the first is listed cheaper and costs more per episode."""
    return tuple(
        (a.model, b.model)
        for a in models
        for b in models
        if a.listed is not None
        and b.listed is not None
        and a.listed < b.listed
        and a.usd_per_episode > b.usd_per_episode
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


RECORD = "record"
"""Strategy of the traces that a recording leaves."""
