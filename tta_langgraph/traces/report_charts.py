"""The figures of a report: frontiers, transitions, coverage, calibration, cost of pass and budget use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tta_langgraph.traces.frontier import Frontier, Point
from tta_langgraph.traces.metrics import cost_of_pass, coverage_curve, fit_coverage, fit_vote
from tta_langgraph.traces.metrics_calibration import auc, brier, calibration_error, reliability
from tta_langgraph.traces.metrics_intervals import wilson
from tta_langgraph.traces.replay_columns import Columns
from tta_langgraph.traces.replay_evaluate import Evaluation
from tta_langgraph.traces.replay_result import Outcomes
from tta_langgraph.traces.report_figures import (
    BAD,
    FAINT,
    FIXED,
    GOOD,
    INK,
    ORACLE,
    POLICY,
    RULE,
    STOP,
    Cell,
    Figure,
    legend_above,
)
from tta_langgraph.traces.report_summary import seen_before
from tta_langgraph.traces.strategies import best_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]


def frontier_figure(ev: Evaluation, cost: str) -> Figure | None:
    """Accuracy against mean cost: the policy with its band, static strategies, stop rules and the oracle."""
    unit = {"tokens": "tokens", "seconds": "seconds"}[cost]
    kinds = ("fixed", "rules", "policy", "oracle", "oracle stop")
    points = {kind: ev.points(kind, cost, draws=600) for kind in kinds}
    if max(p.cost for found in points.values() for p in found) <= 0:
        return None
    comparison = ev.comparison(cost)
    reach = (points["policy"][0].accuracy, max(p.accuracy for p in points["policy"]))
    rows: list[list[Cell]] = [
        [kind, p.name, p.cost, p.accuracy, p.low, p.high] for kind, found in points.items() for p in found
    ]

    def draw(axes: Axes, narrow: bool) -> None:
        for kind, colour, style, label in (
            ("oracle", ORACLE, "--", "oracle that knows the pool"),
            ("oracle stop", STOP, ":", "oracle that only knows when to stop"),
        ):
            line = ev.frontier(kind, cost)
            axes.plot(*mixtures(line.cost, line.accuracy), style, color=colour, lw=1.6, label=label)
        fixed = ev.frontier("fixed", cost)
        axes.plot(*mixtures(fixed.cost, fixed.accuracy), "-", color=FIXED, lw=1.2, alpha=0.8)
        _scatter(axes, points["fixed"], FIXED, "o", "static strategies")
        _scatter(axes, points["rules"], RULE, "^", "published stop rules, random")
        hull = set(ev.frontier("policy", cost).names)  # several openings make a cloud: its upper edge is the policy's
        curve = sorted((p for p in points["policy"] if p.name in hull), key=lambda p: p.cost)
        x = [p.cost for p in curve]
        between, lower = mixtures(x, [p.low for p in curve])
        axes.fill_between(between, lower, mixtures(x, [p.high for p in curve])[1], color=POLICY, alpha=0.16, lw=0)
        corners = np.searchsorted(between, x).tolist()
        own = mixtures(x, [p.accuracy for p in curve])
        axes.plot(*own, "-o", color=POLICY, ms=4, markevery=corners, label="policy, 95% band")
        every = [p for kind in ("fixed", "rules", "policy") for p in points[kind]]
        low = min(p.cost for found in points.values() for p in found if p.cost > 0)
        if max(p.cost for p in every) > 6 * low:
            axes.set_xscale("log")
            axes.set_xlim(left=low * 0.9, right=max(p.cost for p in every) * 1.08)
            round_ticks(axes, narrow)
        if not narrow:
            _name_corners(axes, fixed)
        axes.set_xlabel(f"mean {unit} per question")
        axes.set_ylabel("accuracy")
        legend_above(axes, narrow, 2)

    share = f", and covers {comparison.area_share:.0%} of the area between the best static mixture and the oracle"
    if comparison.area_share < 0:
        share = "; on the whole its curve lies below the best static mixture"
    if comparison.no_area:
        share = f"; no area is given, because {comparison.no_area}"
    best = comparison.policy_cost
    reached = _amount(best, unit) if np.isfinite(best) else "no price tried"
    return Figure(
        id=f"frontier-{cost}",
        title=f"Accuracy against {unit}",
        caption=(
            f"Each point is one strategy on the same {len(ev.table)} questions. The best static strategy reaches "
            f"{comparison.static_best:.3f} for {_amount(comparison.static_cost, unit)}; the policy reaches that with "
            f"{reached}{share}. Lines join what a coin between two points would give."
        ),
        alt=(
            f"Chart of accuracy against mean {unit}. The policy's curve runs from {reach[0]:.3f} to {reach[1]:.3f}; "
            f"the best static strategy is at {comparison.static_best:.3f}."
        ),
        header=["kind", "strategy", f"mean {unit}", "accuracy", "low", "high"],
        rows=rows,
        draw=draw,
        height=4.8,
    )


def mixtures(cost: ArrayLike, accuracy: ArrayLike) -> tuple[Floats, Floats]:
    """What coins between neighbouring points give: straight lines over cost, which a logarithmic axis bends.

    Args:
        cost: of the points, ascending, shape (points,).
        accuracy: of the points, shape (points,).

    Returns:
        Costs and accuracies along the lines, the points among them.
    """
    x, y = np.asarray(cost, float), np.asarray(accuracy, float)
    between = np.geomspace(x[0], x[-1], 100) if x[0] > 0 else np.linspace(x[0], x[-1], 100)
    along = np.unique(np.concatenate([x, between.clip(x[0], x[-1])]))
    return along, np.interp(along, x, y)


def _amount(value: float, unit: str) -> str:
    return f"{value:,.{1 if unit == 'seconds' and value < 100 else 0}f} {unit}"


def _name_corners(axes: Axes, line: Frontier) -> None:
    """Names at the corners of a frontier, the best strategy's first; none where it would cover another."""
    axes.autoscale_view()
    taken: list[tuple[float, float, float]] = []
    corners = list(zip(line.cost.tolist(), line.accuracy.tolist(), line.names, strict=True))
    for at, right, whole in (corners[-1], *corners[:-1]):
        name = elided(whole, 32)
        x, y = axes.transData.transform((at, right))
        width = 7.0 * len(name)  # pixels; a little more than these letters take
        if all(x + width < other or x > other + wide or abs(y - height) > 14 for other, height, wide in taken):
            axes.annotate(name, (at, right), textcoords="offset points", xytext=(4, -11), size=8, color=FAINT)
            taken.append((x, y, width))


def elided(name: str, most: int) -> str:
    """A long name with its middle left out: models are told apart by how their names begin and end."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


def _scatter(axes: Axes, points: Sequence[Point], colour: str, marker: str, label: str) -> None:
    if points:
        axes.plot(
            [p.cost for p in points], [p.accuracy for p in points], marker, color=colour, ms=5, alpha=0.9, label=label
        )


def round_ticks(axes: Axes, narrow: bool) -> None:
    """Round numbers along a logarithmic axis, no more of them than there is room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_xlim()
    for base, subs in ((10, (1.0, 2.0, 5.0)), (10, (1.0, 3.0)), (10, (1.0,)), (100, (1.0,))):
        locator = LogLocator(base=base, subs=subs)
        if sum(low <= tick <= high for tick in locator.tick_values(low, high)) <= (5 if narrow else 9):
            break
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def transitions_figure(table: Columns) -> Figure | None:
    """What each round of reflection fixed and broke, by kind of feedback."""
    kind = table.code("action", "reflect")
    rows = np.flatnonzero((table["action"] == kind) & (table["parent"] >= 0))
    if not len(rows):
        return None
    parents = table["parent"][rows]
    found: list[list[Cell]] = []
    for feedback in np.unique(table["feedback"][rows]):
        for number in np.unique(table["round"][rows]):
            here = rows[(table["feedback"][rows] == feedback) & (table["round"][rows] == number)]
            if not len(here):
                continue
            before, after = table["correct"][table["parent"][here]], table["correct"][here]
            wrong, right = int((~before).sum()), int(before.sum())
            fixed, broken = int((~before & after).sum()), int((before & ~after).sum())
            found.append(
                [
                    table.texts["feedback"][feedback] or "none",
                    int(number),
                    len(here),
                    fixed / wrong if wrong else float("nan"),
                    broken / right if right else float("nan"),
                    (fixed - broken) / len(here),
                ]
            )
    labels = [f"{row[0]}, round {row[1]}" for row in found]

    def draw(axes: Axes, narrow: bool) -> None:
        from matplotlib.ticker import MaxNLocator

        y = np.arange(len(found))[::-1]
        fixed = [_zero(row[3]) for row in found]
        broken = [-_zero(row[4]) for row in found]
        axes.barh(y, fixed, color=GOOD, height=0.55, label="wrong answers fixed")
        axes.barh(y, broken, color=BAD, height=0.55, label="right answers broken")
        axes.plot([_zero(row[5]) for row in found], y, "D", color=INK, ms=5, label="net change, of all attempts")
        axes.axvline(0, color=FAINT, lw=0.8)
        axes.set_yticks(y, labels)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0%}")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5 if narrow else 9, steps=[1, 2, 5, 10]))
        told = ("broken", "fixed") if narrow else ("broken, of the right answers", "fixed, of the wrong answers")
        axes.set_xlabel(f"← {told[0]} | {told[1]} →")
        legend_above(axes, narrow, 3)

    if not any(_zero(row[3]) or _zero(row[4]) for row in found):
        return None
    best = max(found, key=lambda row: _zero(row[5]))
    gain = _zero(best[5])
    says = f"The best step here is {best[0]} feedback in round {best[1]}: net {gain:+.1%} of the attempts"
    says = says if gain > 0 else "No step here does"
    return Figure(
        id="transitions",
        title="What another look changes, round by round",
        caption=(
            f"Reflection pays only while it fixes more than it breaks. {says} ({len(parents)} recorded corrections)."
        ),
        alt="Bars per kind of feedback and round: share of wrong answers fixed, and of right answers broken.",
        header=["feedback", "round", "attempts", "p_fix", "p_break", "net"],
        rows=found,
        draw=draw,
        height=1.4 + 0.42 * len(found),
    )


def _zero(value: Cell) -> float:
    number = float(value)
    return 0.0 if number != number else number


def coverage_figure(ev: Evaluation) -> Figure | None:
    """Whether more samples hold a right answer (coverage), and whether the vote finds it (saturation)."""
    sampled = ev.bench.sampled
    first = ev.bench.cards
    if not first.samples.shape[1]:
        return None
    one = np.unique(first.question, return_index=True)[1]
    rows = sampled.rows[one]
    right = ev.table["correct"][np.where(rows >= 0, rows, 0)] & (rows >= 0)
    counts = [(int(n), int(c)) for n, c in zip((rows >= 0).sum(axis=1), right.sum(axis=1), strict=True)]
    width = rows.shape[1]
    ks = [k for k in range(1, width + 1) if k <= 10 or k % 5 == 0]
    measured = coverage_curve(counts, ks)
    voted = np.asarray([best_of(ev.bench, k).accuracy for k in ks])
    if len(ks) < 4 or ((measured > 0) & (measured < 1)).sum() < 2:
        return None
    law, vote = fit_coverage(ks, measured), fit_vote(ks, voted)
    # A fit may be drawn where its limit may not be stated: below the last point it contradicts what was measured.
    levels = f" The vote levels off near {vote.limit:.1%}." if voted[-1] <= vote.limit <= 1 else ""
    grid = np.geomspace(1, width * 2, 60)

    def draw(axes: Axes, narrow: bool) -> None:
        axes.plot(ks, measured, "o", color=ORACLE, ms=5, label="coverage: any of k right (pass@k)")
        axes.plot(grid, law(grid), "--", color=ORACLE, lw=1.4, label=f"fit exp({law.a:.2f}·k^{law.b:.2f})")
        axes.plot(ks, voted, "s", color=FIXED, ms=4.5, label="majority of k right")
        axes.plot(
            grid,
            vote(grid),
            "-",
            color=FIXED,
            lw=1.2,
            label=f"fit {vote.limit:.2f} − {vote.limit - vote.start:.2f}·{vote.q:.2f}^(k−1)",
        )
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("samples k")
        axes.set_ylabel("share of questions")
        legend_above(axes, narrow, 2)

    return Figure(
        id="coverage",
        title="Coverage and saturation",
        caption=(
            f"Some sample is right for {measured[-1]:.1%} of the questions after {ks[-1]} samples, the vote for "
            f"{voted[-1]:.1%}: the gap is what better selection could win.{levels}"
        ),
        alt="Coverage rises with the number of samples along a fitted power law; the vote levels off below it.",
        header=["samples", "coverage", "coverage fit", "majority", "majority fit"],
        rows=[
            [k, float(m), float(law(k)), float(v), float(vote(k))] for k, m, v in zip(ks, measured, voted, strict=True)
        ],
        draw=draw,
    )


def calibration_figure(headline: Outcomes, seen: str = "") -> Figure | None:
    """Stated against observed P(correct) of the answers given; `seen` says whether it was fitted on these questions."""
    if headline.p_correct is None:
        return None
    p, right = headline.p_correct, headline.correct
    bins = reliability(p, right, bins=10)
    error, score = calibration_error(p, right), brier(p, right)
    # Answers that are all right (or all wrong) cannot be ranked.
    ranked = f", area under the ROC curve {auc(p, right):.3f}" if 0 < right.mean() < 1 else ""

    # Episodes of one question are alike: an interval may count questions only.
    repeats = len(headline) / len(np.unique(headline.question))
    bands = [wilson(b.observed * n, n) for b in bins for n in [max(1, round(b.n / repeats))]]

    def draw(axes: Axes, narrow: bool) -> None:
        total = sum(b.n for b in bins)
        axes.bar(
            [(b.low + b.high) / 2 for b in bins],
            [b.n / total for b in bins],
            width=[0.9 * (b.high - b.low) for b in bins],
            color=FIXED,
            alpha=0.22,
            label="share of the answers",
        )
        axes.plot([0, 1], [0, 1], "--", color=FAINT, lw=1, label="perfect")
        x, y = [b.stated for b in bins], [b.observed for b in bins]
        axes.vlines(x, [band.low for band in bands], [band.high for band in bands], color=POLICY, lw=1.4, alpha=0.6)
        axes.plot(x, y, "o", color=POLICY, ms=5, label="policy, 95% interval")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("stated P(correct)")
        axes.set_ylabel("share that was right")
        legend_above(axes, narrow, 3)

    return Figure(
        id="calibration",
        title="Calibration",
        caption=(
            f"When the policy says 80%, is it right four times in five? Expected calibration error {error:.3f}, Brier "
            f"score {score:.3f}{ranked}. {seen}".rstrip()
        ),
        alt=f"Reliability diagram; expected calibration error {error:.3f}.",
        header=["from", "to", "stated", "observed", "low", "high", "answers"],
        rows=[
            [b.low, b.high, b.stated, b.observed, band.low, band.high, b.n] for b, band in zip(bins, bands, strict=True)
        ],
        draw=draw,
    )


def cost_of_pass_figure(ev: Evaluation, *, most: int = 14) -> Figure | None:
    """Tokens per right answer of every strategy, cheapest first; None where nothing is right."""
    kinds = (("policy", POLICY), ("fixed", FIXED), ("rules", RULE))
    found = sorted(
        ((cost_of_pass(p.cost, p.accuracy), p, kind, colour) for kind, colour in kinds for p in ev.points(kind)),
        key=lambda item: item[0],
    )
    found = [item for item in found if np.isfinite(item[0])]
    if not found:
        return None
    per_kind: Counter[str] = Counter()
    shown: list[tuple[float, Point, str, str]] = []
    for item in found:  # a few of each kind, or the policy's many prices would fill the chart
        same = any(kind == item[2] and abs(p.cost - item[1].cost) < 0.02 * p.cost for _, p, kind, _ in shown)
        per_kind[item[2]] += not same
        if not same and per_kind[item[2]] <= most // 2:
            shown.append(item)
    shown = shown[: most + 4]

    def draw(axes: Axes, narrow: bool) -> None:
        y = np.arange(len(shown))[::-1]
        axes.barh(y, [item[0] for item in shown], color=[item[3] for item in shown], height=0.62)
        axes.set_yticks(y, [elided(item[1].name, 18 if narrow else 44) for item in shown])
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 or not value else f"{value:g}")
        axes.set_xlabel("tokens per right answer")
        for position, item in zip(y, shown, strict=True):
            axes.annotate(
                f"{item[1].accuracy:.3f}",
                (item[0], position),
                textcoords="offset points",
                xytext=(4, 0),
                va="center",
                size=9 if narrow else 8,
                color=FAINT,
            )

    return Figure(
        id="cost-of-pass",
        title="Cost of pass",
        caption="Mean tokens divided by accuracy: what one right answer costs. The figure at each bar is its accuracy.",
        alt=f"Bars of tokens per right answer; the cheapest is {shown[0][1].name} with {shown[0][0]:,.0f}.",
        header=["kind", "strategy", "tokens per right answer", "mean tokens", "accuracy"],
        rows=[[kind, p.name, value, p.cost, p.accuracy] for value, p, kind, _ in found],
        draw=draw,
        height=1.2 + 0.32 * len(shown),
    )


def budget_figure(ev: Evaluation, headline: Outcomes) -> Figure:
    """How the policy's spending is spread over questions, beside the static strategy it replaces."""
    rivals = [o for o in ev.statics if o.family not in ("random",)]
    rival = max(rivals, key=lambda o: (o.accuracy, -o.mean_tokens))
    edges = np.unique(np.quantile(np.concatenate([headline.tokens, rival.tokens]), np.linspace(0, 1, 21)))
    if len(edges) < 3:
        edges = np.asarray([edges[0] - 1, *edges, edges[-1] + 1])
    qs = np.linspace(0.05, 0.95, 19)

    def draw(axes: Axes, narrow: bool) -> None:
        for outcome, colour, label in ((headline, POLICY, "policy"), (rival, FIXED, elided(rival.name, 32))):
            ordered = np.sort(outcome.tokens)
            axes.step(ordered, np.linspace(0, 1, len(ordered)), where="post", color=colour, label=label)
            axes.plot([outcome.mean_tokens] * 2, [0, 0.06], color=colour, lw=3)
        if ev.budget is not None and ev.budget.tokens is not None:
            axes.axvline(ev.budget.tokens, color=BAD, ls="--", lw=1.2, label="budget")
        axes.set_ylim(0, 1.01)
        if edges[0] > 0 and edges[-1] > 8 * edges[0]:
            axes.set_xscale("log")
            round_ticks(axes, True)  # beside another figure it is small on every screen
        axes.set_xlabel("tokens of one episode")
        axes.set_ylabel("share of episodes that spent no more")
        legend_above(axes, narrow, 3)

    return Figure(
        id="budget",
        title="Budget use",
        caption=(
            f"The policy spends {headline.mean_tokens:,.0f} tokens on average: half of its episodes stay under "
            f"{np.median(headline.tokens):,.0f}, one in ten takes more than {np.quantile(headline.tokens, 0.9):,.0f}. "
            "The thick marks on the axis are the means."
        ),
        alt="Cumulative distribution of tokens per episode for the policy and the most accurate other strategy.",
        header=["quantile", "policy tokens", f"{rival.name} tokens"],
        rows=[[float(q), float(np.quantile(headline.tokens, q)), float(np.quantile(rival.tokens, q))] for q in qs],
        draw=draw,
    )


def actions_figure(headline: Outcomes) -> Figure | None:
    """What the policy decides at each step."""
    if not headline.decisions:
        return None
    depth = min(8, max(len(d) for d in headline.decisions))
    counts: list[Counter[str]] = [Counter() for _ in range(depth)]
    for decisions in headline.decisions:
        for step, decision in enumerate(decisions[:depth]):
            counts[step][decision.action if decision.n == 1 else f"{decision.action}({decision.n})"] += 1
    names = [name for name, _ in sum(counts, Counter()).most_common(7)]
    total = len(headline.decisions)
    # Grey is for stopping alone: a second grey would look like it.
    others = [name for name in names if name != "stop"]
    colour = {"stop": FIXED, **dict(zip(others, (POLICY, RULE, ORACLE, GOOD, BAD, STOP, INK), strict=False))}

    def draw(axes: Axes, narrow: bool) -> None:
        x = np.arange(depth)
        base = np.zeros(depth)
        for name in sorted(names, key=lambda n: n != "stop"):
            share = np.asarray([counts[step][name] / total for step in range(depth)])
            axes.bar(x, share, bottom=base, color=colour[name], width=0.7, label=elided(name, 32))
            base += share
        axes.set_xticks(x, [str(step + 1) for step in range(depth)])
        axes.set_xlabel("decision of the episode")
        axes.set_ylabel("share of all episodes")
        axes.grid(axis="x", visible=False)
        legend_above(axes, narrow, 4)

    stopped = counts[0]["stop"] / total
    return Figure(
        id="actions",
        title="What it decides",
        caption=f"{stopped:.0%} of the episodes stop after the first answer; the others go on as shown.",
        alt="Stacked bars of the actions taken at each decision.",
        header=["step", *names],
        rows=[[step + 1, *(counts[step][name] for name in names)] for step in range(depth)],
        draw=draw,
    )


def figures(ev: Evaluation) -> list[Figure]:
    """All figures that the recording allows, in reading order."""
    found: list[Any] = [frontier_figure(ev, "tokens"), frontier_figure(ev, "seconds")]
    found += [transitions_figure(ev.table), coverage_figure(ev)]
    if ev.headline is not None:
        found.append(calibration_figure(ev.headline, seen_before(ev)))
    found.append(cost_of_pass_figure(ev))
    if ev.headline is not None:
        found += [budget_figure(ev, ev.headline), actions_figure(ev.headline)]
    return [figure for figure in found if figure is not None]
