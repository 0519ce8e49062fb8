"""What a learned policy is worth, on recordings of real systems: accuracy against tokens, against everything static.

    python benchmarks/policy_worth.py --json docs/results/policy-worth.json --report /tmp/worth

For each recording a policy is fitted on some databases and replayed on others (the recorded split, or every database in
turn by cross-validation), at a range of prices, beside every static strategy, Adaptive-Consistency, ESC, PETS, random
stopping and two oracles, all on the same cards. Nothing on the test side is tuned for the policy; the best static
mixture is chosen with hindsight, which favours it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import numpy as np
import replay_sets
from rich.console import Console
from rich.table import Table

from tta_langgraph.decision import Policy, Utility
from tta_langgraph.traces.export import read_pools
from tta_langgraph.traces.fit import fit, split
from tta_langgraph.traces.frontier import frontier
from tta_langgraph.traces.metrics_intervals import Interval, paired_difference
from tta_langgraph.traces.model import Pool
from tta_langgraph.traces.plain import plain as finite
from tta_langgraph.traces.replay_columns import Columns, Measure, columns
from tta_langgraph.traces.replay_evaluate import Evaluation, cross_evaluate, evaluate
from tta_langgraph.traces.replay_result import Outcomes
from tta_langgraph.traces.report import write_report
from tta_langgraph.traces.strategies_pets import pets_sweep

LADDER = tuple(f"escalate:{name}" for name in ("neural_12", "graphix", "chatgpt_zeroshot", "dail_gpt4", "c3_chatgpt"))
"""One or two systems per class of price, to keep plans quick; statics and the oracle may use all thirteen."""
FOLDS = 4
READING = Path(__file__).parent / "policy_worth_reading.md"
"""What the figures mean, by hand: appended to the page."""
RECORDINGS = Path(__file__).parent / "recordings"
MEASURES: dict[Measure, str] = {"completion": "written tokens", "uncached": "uncached tokens", "tokens": "all tokens"}
"""What a token may mean, and how figures call it."""


@dataclass(frozen=True)
class Recording:
    """One recording to measure on."""

    name: str
    """For headings."""
    load: Callable[[], Sequence[Pool]]
    """Reads it."""
    repeats: int
    """Episodes per question."""
    measure: Measure = "completion"
    """What counts as a token."""
    openings: tuple[int, ...] = (1,)
    """Answers that the policy's first request draws."""
    actions: tuple[str, ...] | None = None
    """What the policy may do; by default all that was recorded."""


def recordings() -> dict[str, Recording]:
    """What there is to measure on."""
    found = {
        "ladder": Recording("Spider dev, ladder of 13 recorded systems", replay_sets.spider_ladder, 1, actions=LADDER),
        "last_letters": Recording(
            "Last letters, 40 samples of GPT-3.5", replay_sets.last_letters, 4, actions=("resample(1)",)
        ),
        "two_models": Recording("GSM8K, Mixtral then GPT-4", replay_sets.two_models, 1),
    }
    for path in sorted(RECORDINGS.glob("*.jsonl.gz")):
        name = path.name.removesuffix(".jsonl.gz")
        for measure, label in MEASURES.items():
            # Where the prompt costs as much as a written token, samples belong into the first request.
            openings = (1,) if measure == "completion" else (1, 2, 3, 4, 5, 6, 7, 8)
            found[f"{name}-{measure}"] = Recording(
                f"Live: {name}, {label}", lambda path=path: list(read_pools(path)), 6, measure, openings
            )
    return found


def measure(recording: Recording, *, predictor: str, quick: bool) -> Evaluation:
    """Fits on some databases and replays the others: the recorded split, or every database in turn."""
    table = columns(recording.load(), measure=recording.measure)
    kinds: Any = predictor if predictor == "auto" else predictor.split(",")

    def make(side: Columns) -> Policy:
        cheap = Utility(per_second=0.0)
        return fit(side, predictor=kinds, actions=recording.actions, utility=cheap, episodes=2 if quick else 4)

    notes = {"predictor": predictor, "command": "python benchmarks/policy_worth.py"}
    shared: dict[str, Any] = {
        "name": recording.name,
        "repeats": max(1, recording.repeats // 2) if quick else recording.repeats,
        "openings": recording.openings,
    }
    if set(table.splits) >= {"fit", "test"}:
        fit_side, test_side = split(table)
        notes["split"] = f"{len(fit_side)} questions to fit on, {len(test_side)} to test on, no database on both sides"
        shared["extra"] = [lambda bench: pets_sweep(bench, fit_side)]
        return evaluate(test_side, make(fit_side), keep=False, notes=notes, **shared)
    notes["split"] = f"{FOLDS}-fold cross-validation, no database (or group) in two folds"
    # PETS needs no gold answers: its curves may see the questions it is replayed on.
    shared["extra"] = [lambda bench: pets_sweep(bench, table)]
    return cross_evaluate(table, make, folds=FOLDS, notes=notes, **shared)


def never_below(ev: Evaluation, *, budgets: int = 12) -> tuple[bool, Interval, float]:
    """Whether the policy is below the best static strategy at some budget by more than chance.

    At each budget the most accurate static strategy that fits is set beside the policy's most accurate point that fits
    (both chosen with hindsight), paired by question.

    Returns:
        Whether it never is, the worst difference with its interval, and the budget of that.
    """
    fixed = [o for o in ev.statics if o.family not in ("adaptive_consistency", "esc", "pets", "random")]
    low, high = min(o.mean_tokens for o in fixed), max(o.mean_tokens for o in fixed)
    worst, at, fine = Interval(value=0.0, low=0.0, high=0.0), low, True
    for budget in np.geomspace(low, high, budgets):
        rival, own = _best(fixed, budget), _best(ev.curve, budget)
        if rival is None or own is None:
            continue
        gap = paired_difference(
            own.per_question(own.correct), rival.per_question(rival.correct), clusters=own.question_clusters, draws=1000
        )
        fine &= gap.high >= 0
        if gap.value < worst.value:
            worst, at = gap, float(budget)
    return fine, worst, at


def _best(outcomes: Sequence[Outcomes], budget: float) -> Outcomes | None:
    fitting = [o for o in outcomes if o.mean_tokens <= budget * 1.0001]
    return max(fitting, key=lambda o: (o.accuracy, -o.mean_tokens)) if fitting else None


def verdict(ev: Evaluation) -> dict[str, Any]:
    """The targets and whether they are met."""
    plain, stops = ev.comparison(), ev.comparison(oracle="oracle stop")
    static, own, gap = ev.gap_at_best()
    fine, worst, at = never_below(ev)
    tolerated = ev.frontier("policy").cost_of(plain.static_best - max(0.0, -gap.low) - 1e-9)
    return {
        "never_below_static": {
            "met": fine,
            "worst_difference": worst.value,
            "worst_interval": [worst.low, worst.high],
            "at_tokens": at,
        },
        "third_of_tokens": {
            "met": plain.cost_ratio <= 1 / 3,
            "static": static,
            "static_accuracy": plain.static_best,
            "static_tokens": plain.static_cost,
            "policy_tokens": plain.policy_cost,
            "ratio": plain.cost_ratio,
            "policy_point": own,
            "difference": gap.to_dict(),
            "ratio_within_interval": tolerated / plain.static_cost,
        },
        "area": {"met": plain.area_share >= 0.7, "share": plain.area_share, "share_of_voting_oracle": stops.area_share}
        | {"why_none": plain.no_area, "why_none_voting": stops.no_area},
        "against_stop_rules": vars(ev.comparison(against="static"))
        | {"cost_ratio": ev.comparison(against="static").cost_ratio},
    }


def print_table(ev: Evaluation, found: dict[str, Any], console: Console) -> None:
    """The strategies that matter, cheap to dear, and the verdicts."""
    table = Table(title=f"{ev.name} — {len(ev.table)} test questions")
    for column in ("strategy", "accuracy", "95% interval", "tokens", "seconds"):
        table.add_column(column, justify="left" if column == "strategy" else "right")
    hull = {name for kind in ("fixed", "rules") if ev.points(kind) for name in ev.frontier(kind).names}
    chosen = [o for o in ev.statics if o.name in hull or o.name in ("adaptive_consistency(0.95)", "random(0.4)")]
    own = set(ev.frontier("policy").names)
    chosen += [o for o in ev.curve if o.name in own]
    for ends in (ev.stop_oracles, ev.oracles):
        chosen.append(ends[-1])
    for o in sorted(chosen, key=lambda o: (o.mean_tokens, o.accuracy)):
        p = o.point(draws=400)
        style = "bold cyan" if o in ev.curve else "magenta" if o.family.startswith("oracle") else None
        table.add_row(
            p.name,
            f"{p.accuracy:.3f}",
            f"{p.low:.3f}–{p.high:.3f}",
            f"{p.cost:,.0f}",
            f"{p.extra['seconds']:.2f}",
            style=style,
        )
    console.print(table)
    third, area, below = found["third_of_tokens"], found["area"], found["never_below_static"]
    worst = _worst(below)
    rival = f"{third['static']} ({third['static_accuracy']:.3f})"
    voting = f"{_percent(area['share_of_voting_oracle'])} of a voting one's"
    for met, text in (
        (below["met"], f"never below the best static strategy by more than its interval: {worst}"),
        (third["met"], f"at most a third of the tokens of {rival}: {_percent(third['ratio'])}"),
        (area["met"], f"70% of the area to the oracle: {_percent(area['share'])} ({voting})"),
    ):
        console.print(f"  [{'green' if met else 'red'}]{'met   ' if met else 'missed'}[/] {text}")


def page(results: dict[str, Any]) -> str:
    """The figures as a page: one row per recording and target, then every frontier point."""
    heads = ("recording", "questions", "best static", "its tokens", "policy's", "share", "area", "area, voting")
    lines = [HEAD, _line(heads), "|---" * len(heads) + "|"]
    for found in results.values():
        v = found["verdict"]
        third, area = v["third_of_tokens"], v["area"]
        own = "not reached" if third["policy_tokens"] is None else f"{third['policy_tokens']:,.0f}"
        ratio = _percent(third["ratio"])
        shares = [_percent(area[key]) for key in ("share", "share_of_voting_oracle")]
        static = f"{third['static']} {third['static_accuracy']:.3f}"
        numbers = (str(found["questions"]), static, f"{third['static_tokens']:,.0f}", own, ratio, *shares)
        lines.append(_line((found["name"], *numbers)))
    targets = (
        "recording",
        "never below static by more than its 95% interval",
        "at most a third of the tokens",
        "70% of the area",
    )
    lines += ["", _line(targets), "|---" * len(targets) + "|"]
    for found in results.values():
        v = found["verdict"]
        marks = ["met" if v[k]["met"] else "missed" for k in ("never_below_static", "third_of_tokens", "area")]
        low = v["never_below_static"]
        marks[0] += f" ({_worst(low)})"
        lines.append(_line((found["name"], *marks)))
    for found in results.values():
        lines += ["", f"## {found['name']}", "", f"{found['notes'].get('split', '')}.", ""]
        lines += [_line(("strategy", "accuracy", "95% interval", "tokens", "seconds")), "|---" * 5 + "|"]
        for kind, points in found["strategies"].items():
            hull = set(frontier([(p["cost"], p["accuracy"]) for p in points]).cost.tolist())
            shown = [p for p in points if p["cost"] in hull]
            for p in sorted(shown, key=lambda p: p["cost"])[-8:]:
                name = p["name"] if kind != "policy" else f"**{p['name']}**"
                band = f"{p['low']:.3f}–{p['high']:.3f}"
                lines.append(_line((name, f"{p['accuracy']:.3f}", band, f"{p['tokens']:,.0f}", f"{p['seconds']:.1f}")))
    return "\n".join(lines) + "\n"


def _worst(found: dict[str, Any]) -> str:
    """The largest difference, whatever the target says of it: within its interval it may still be a loss."""
    if found["worst_difference"] >= 0:
        return "no difference below 0"
    low, high = found["worst_interval"]
    at = f"at {found['at_tokens']:,.0f} tokens"
    return f"worst {found['worst_difference']:+.3f}, interval {low:+.3f} to {high:+.3f}, {at}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


HEAD = """# What the policy is worth

    python benchmarks/policy_worth.py --quick --json docs/results/policy-worth.json --page docs/results/policy-worth.md

The policy is `fit(..., predictor="panel")`, swept over prices and tested on databases it was not fitted on. Static
strategies are one-shot, majority of n, reflection, one model alone and votes of models; the best of them, and the
best mixture by a coin, are chosen with hindsight on the test questions. *Policy's* are the tokens at which the
policy reaches the best static strategy's accuracy, *share* is what part of that strategy's they are. *Area* is the
part of the area between the best static mixture and an oracle that knows the pool that the policy covers, on the
linear scale of tokens; *voting* sets it against an oracle that only knows when to stop and must vote. Both oracles draw
one by one or in one request, whichever is cheaper; no share is given where a static strategy beats them. *Never below
static* is met where no difference lies below zero with its whole 95% interval; the largest one is stated with its
interval, which is what this recording can and cannot tell. Points shown are corners of each frontier.
"""


def main() -> None:
    """Measures, prints, and writes what was asked for."""
    known = recordings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=[*known, "all"], default=["all"])
    parser.add_argument("--predictor", default="panel", help="auto, or kinds to choose from: panel,learned,…")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--report", type=Path, help="write a report page per recording into this folder")
    parser.add_argument("--page", type=Path, help="write the figures of the JSON file as a page here")
    parser.add_argument("--no-run", action="store_true", help="only write the page, from the figures that are there")
    parser.add_argument("--quick", action="store_true", help="fewer episodes, for a look")
    options = parser.parse_args()
    console = Console(width=110)
    names = list(known) if "all" in options.sets else options.sets
    results: dict[str, Any] = {}
    if options.json and options.json.exists():
        results = finite(json.loads(options.json.read_text(encoding="utf-8")))
    for name in [] if options.no_run else names:
        ev = measure(known[name], predictor=options.predictor, quick=options.quick)
        found = finite(verdict(ev))
        print_table(ev, found, console)
        results[name] = {"verdict": found, **ev.to_dict()}
        if options.report:
            write_report(ev, options.report / f"{name}.html", title=ev.name)
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if options.page:
        results = {name: results[name] for name in known if name in results}
        reading = READING.read_text(encoding="utf-8") if READING.exists() else ""
        options.page.write_text(page(results) + reading, encoding="utf-8")


if __name__ == "__main__":
    main()
