"""`tta replay`, `fit`, `tune`, `report`, `stats`: from recorded episodes to a policy that earns its keep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tta_langgraph.budget import Budget
from tta_langgraph.commands.arguments import limit, price
from tta_langgraph.commands.bars import bar
from tta_langgraph.commands.recorded import (
    need_recording,
    one_side,
    read_columns,
    warn,
    warn_of_measure,
    warn_of_overlap,
)
from tta_langgraph.commands.render import show_table
from tta_langgraph.decision import Policy
from tta_langgraph.errors import TraceError

NOT_MET = 3
"""Exit code of `tta tune` where no price meets the target."""

Pools = Annotated[
    str, typer.Argument(help="Recorded pools: a trace store, or an export (.jsonl, .jsonl.gz, .parquet).")
]
PolicyFile = Annotated[Path | None, typer.Option(help="A policy file; the shipped priors if not given.")]
Side = Annotated[str, typer.Option(help="Which databases to use: fit, test or all.")]
Repeats = Annotated[int, typer.Option(help="Episodes per question, each with its own order of the samples.", min=1)]
Opening = Annotated[
    int | None, typer.Option(help="Answers that the first request draws; what the policy says if not given.", min=1)
]
Recording = Annotated[str | None, typer.Option(help="Which recording of a store; all of them if not given.")]
Measure = Annotated[str, typer.Option(help="What counts as a token: tokens, uncached or completion.")]


def replay(
    pools: Pools,
    policy: PolicyFile = None,
    tokens: Annotated[int | None, typer.Option(help="Token budget per episode.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Time budget per episode, in seconds.")] = None,
    recording: Recording = None,
    side: Side = "all",
    repeats: Repeats = 4,
    measure: Measure = "tokens",
    opening: Opening = None,
    executor: Annotated[str, typer.Option(help="local, or ray.")] = "local",
    workers: Annotated[int | None, typer.Option(help="Ray tasks at a time; one per processor if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run a policy on recorded questions, without a model, beside the static strategies."""
    from tta_langgraph.traces.replay import replay as run
    from tta_langgraph.traces.replay_draws import order
    from tta_langgraph.traces.replay_ray import replay_on_ray
    from tta_langgraph.traces.strategies import Bench, statics

    if executor not in ("local", "ray"):
        raise typer.BadParameter("use local or ray", param_hint="--executor")
    if workers is not None and executor != "ray":
        raise typer.BadParameter("needs --executor ray", param_hint="--workers")
    console = Console(soft_wrap=True)
    table = one_side(read_columns(pools, measure, recording), side)
    cards = order(table, repeats=repeats)
    budget = None if tokens is None and seconds is None else Budget(tokens=tokens, seconds=seconds)
    chosen = _policy(policy, measure).with_opening(opening)
    warn_of_overlap(chosen, table)
    with bar(Console(stderr=True), "replaying", cards.episodes) as advance:

        def tell(done: int, _: int) -> None:
            advance(done, "")

        if executor == "ray":
            own = replay_on_ray(table, chosen, budget=budget, repeats=repeats, workers=workers, progress=tell)
        else:
            own = run(table, chosen, budget=budget, cards=cards, progress=tell)
    found = [own, *sorted(statics(Bench(table, cards)), key=lambda o: -o.accuracy)[:12]]
    points = [o.point() for o in found]
    if as_json:
        names = ("strategy", "accuracy", "low", "high", "tokens", "seconds")
        figures = [
            dict(zip(names, (o.name, o.accuracy, p.low, p.high, o.mean_tokens, o.mean_seconds), strict=True))
            for o, p in zip(found, points, strict=True)
        ]
        console.print_json(json.dumps({"questions": len(table), "episodes": cards.episodes, "strategies": figures}))
        return
    console.print(f"{len(table)} questions, {cards.episodes} episodes of {own.name}\n", highlight=False, markup=False)
    rows = [
        [o.name, f"{o.accuracy:.3f} [{p.low:.3f}, {p.high:.3f}]", f"{o.mean_tokens:,.0f}", f"{o.mean_seconds:.2f}"]
        for o, p in zip(found, points, strict=True)
    ]
    show_table(console, ("strategy", "accuracy [95%]", "tokens", "seconds"), rows)


def fit(
    pools: Pools,
    out: Annotated[Path, typer.Option(help="Where to write the policy.")] = Path("policy.json"),
    predictor: Annotated[
        str, typer.Option(help="auto, fitted_value, learned, panel, transitions or vote_stability.")
    ] = "auto",
    per_token: Annotated[float | None, typer.Option(help="Price of a token, in right answers.", callback=price)] = None,
    per_second: Annotated[
        float | None, typer.Option(help="Price of a second, in right answers.", callback=price)
    ] = None,
    recording: Recording = None,
    measure: Measure = "tokens",
    everything: Annotated[bool, typer.Option("--all", help="Fit on all databases, keeping none for testing.")] = False,
    name: Annotated[str, typer.Option(help="Name of the policy, for traces and tables.")] = "fitted",
    latency: Annotated[
        Path | None, typer.Option(help="Idle latency of the engine it will run on (benchmarks/vllm_latency.py --json).")
    ] = None,
) -> None:
    """Learn a policy from recorded pools and write it to a file. Databases marked for testing are left out."""
    from tta_langgraph.commands.ask import priced
    from tta_langgraph.latency import LatencyModel
    from tta_langgraph.traces.fit import fit as run

    console = Console(stderr=True, soft_wrap=True)
    table = read_columns(pools, measure, recording)
    fitted_on = one_side(table, "all" if everything else "fit")
    if fitted_on["correct"].all() or not fitted_on["correct"].any():
        every = "right" if fitted_on["correct"].all() else "wrong"
        warn(f"all recorded answers are {every}: check how correctness was decided")
    kind: Any = predictor
    with bar(console, "fitting", 1) as advance:
        found = run(fitted_on, predictor=kind, name=name, progress=lambda done, total: advance(done, "", total))
    found = priced(found, per_token, per_second)
    if latency is not None:
        found = found.with_latency(LatencyModel.read(latency))
    found.save(out)
    databases = len(set(fitted_on.db_ids))
    console.print(
        f"policy {found.name!r} fitted on {len(fitted_on)} questions of {databases} databases: {out}", markup=False
    )
    for line in _summary(found):
        console.print(f"  {line}", highlight=False, markup=False)


def tune(
    pools: Pools,
    policy: PolicyFile = None,
    tokens: Annotated[
        float | None, typer.Option(help="Mean tokens per question to stay within.", callback=limit)
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Mean seconds per question to stay within.", callback=limit)
    ] = None,
    accuracy: Annotated[float | None, typer.Option(help="Accuracy to reach, in (0, 1].", callback=limit)] = None,
    out: Annotated[Path, typer.Option(help="Where to write the tuned policy.")] = Path("policy.json"),
    recording: Recording = None,
    side: Side = "fit",
    repeats: Repeats = 4,
    measure: Measure = "tokens",
    opening: Annotated[
        int | None,
        typer.Option(help="Answers that the first request draws; if not given, 1, 2, 4 and 8 are tried.", min=1),
    ] = None,
) -> None:
    """Find the prices (λ) at which a policy meets a mean budget or an accuracy, by replays.

    Exit codes: 0 met; 1 failed; 3 not met (the nearest policy is written all the same).
    """
    from tta_langgraph.traces.tune import OPENINGS
    from tta_langgraph.traces.tune import tune_opening as run

    if sum(target is not None for target in (tokens, seconds, accuracy)) != 1:
        raise typer.BadParameter("give exactly one of --tokens, --seconds and --accuracy")
    console = Console(stderr=True, soft_wrap=True)
    table = one_side(read_columns(pools, measure, recording), side)
    with bar(console, "tuning", 1) as advance:
        found = run(
            _policy(policy, measure),
            table,
            tokens=tokens,
            seconds=seconds,
            accuracy=accuracy,
            openings=OPENINGS if opening is None else (opening,),
            repeats=repeats,
            progress=lambda done, total: advance(done, "", total),
        )
    found.policy.save(out)
    console.print(f"{found}\nwritten to {out}", highlight=False, markup=False)
    if not found.met:
        raise typer.Exit(NOT_MET)


def report(
    pools: Pools,
    policy: PolicyFile = None,
    out: Annotated[Path, typer.Option(help="The page, or a folder for it.")] = Path("report.html"),
    tokens: Annotated[int | None, typer.Option(help="Token budget per episode.")] = None,
    recording: Recording = None,
    side: Side = "test",
    repeats: Repeats = 4,
    measure: Measure = "tokens",
    opening: Opening = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "What the policy is worth",
    page_only: Annotated[bool, typer.Option(help="Leave out the CSV and PNG files.")] = False,
) -> None:
    """Write one self-contained HTML page on what a policy is worth, with the same figures as CSV and PNG."""
    from tta_langgraph.traces.replay_evaluate import evaluate
    from tta_langgraph.traces.report import write_report

    console = Console(stderr=True, soft_wrap=True)
    table = one_side(read_columns(pools, measure, recording), side)
    notes = {"pools": pools, "policy": str(policy or "shipped priors"), "side": side, "measure": measure}
    with bar(console, "replaying", 1) as advance:
        found = evaluate(
            table,
            _policy(policy, measure).with_opening(opening),
            name=Path(pools).name,
            budget=tokens,
            repeats=repeats,
            notes=notes,
            progress=lambda done, total: advance(done, "", total),
        )
    with bar(console, "drawing", 1) as advance:
        written = write_report(
            found, out, title=title, pages_only=page_only, progress=lambda done, total: advance(done, "", total)
        )
    console.print(f"{written.page} ({len(written.figures)} figure files, {written.data.name})", highlight=False)


def stats(
    store: Annotated[str, typer.Argument(help="Trace store: a file or a SQLAlchemy URL.")],
    recording: Annotated[str | None, typer.Option(help="Only the episodes of this recording.")] = None,
    per_token: Annotated[float, typer.Option(help="Right answers that a token is worth.", callback=price)] = 0.0,
    per_second: Annotated[float, typer.Option(help="Right answers that a second is worth.", callback=price)] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Cost per task, latency percentiles, accuracy where labelled, prices, and alarms, over a trace store."""
    from tta_langgraph.traces.stats import stats as run
    from tta_langgraph.traces.stats_tables import stats_tables
    from tta_langgraph.traces.store import TraceStore

    console = Console(soft_wrap=True)
    if store.endswith((".jsonl", ".jsonl.gz", ".parquet")) and Path(store).exists():
        raise TraceError("this is an export, not a trace store", where=store, remedy="Give the store it was made from")
    with TraceStore(store, create=False) as traces:
        need_recording(recording, traces.recordings(), store)
        episodes = traces.traces()
        if recording is not None:
            episodes = (trace for trace in traces.traces(strategy="record") if trace.id.startswith(f"{recording}/"))
        found = run(episodes, per_token=per_token, per_second=per_second)
    if not found.strategies:
        raise TraceError(
            "there are no episodes here yet",
            where=store,
            remedy="Store some with TraceStore.add, or record some with `tta record`",
        )
    if as_json:
        console.print_json(json.dumps(found.to_dict()))
        return
    for shown in stats_tables(found):
        show_table(console, shown.header, shown.rows, title=shown.title)
        console.print()


def _summary(policy: Policy) -> list[str]:
    """What was chosen and why, in a few lines; the file's notes have all of it."""
    notes = policy.notes
    lines = [f"predictor: {notes['predictor']}"]
    if notes.get("chosen_by_replay"):
        scores = sorted(notes["chosen_by_replay"].items(), key=lambda item: -item[1])
        chosen = ", ".join(f"{kind} {score:.3f}" for kind, score in scores)
        lines.append(f"accuracy in replay, mean over budgets, held out by {notes['held_out_by']}: {chosen}")
    now = notes.get("held_out", {}).get("now", {})
    figures = ", ".join(f"{name} {value:.3f}" for name, value in now.items() if isinstance(value, float))
    if figures:
        lines.append(f"P(correct) held out by {notes['held_out_by']}: {figures}")
    return [*lines, "all figures are in the file, under notes"]


def _policy(path: Path | None, measure: str) -> Policy:
    if path is None:
        return Policy.default("sql")
    policy = Policy.load(path)
    warn_of_measure(policy, measure)
    return policy
