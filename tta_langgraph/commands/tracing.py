"""`tta record`, `replay`, `fit`, `tune`, `report`, `stats`: from recorded episodes to a policy that earns its keep."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tta_langgraph.budget import Budget
from tta_langgraph.commands.models import MODEL_HELP, ready_model
from tta_langgraph.commands.render import table_of
from tta_langgraph.decision import Policy
from tta_langgraph.errors import TraceError

if TYPE_CHECKING:
    from tta_langgraph.traces.replay_columns import Columns

Pools = Annotated[
    str, typer.Argument(help="Recorded pools: a trace store, or an export (.jsonl, .jsonl.gz, .parquet).")
]
PolicyFile = Annotated[Path | None, typer.Option(help="A policy file; the shipped priors if not given.")]
Side = Annotated[str, typer.Option(help="Which databases to use: fit, test or all.")]
Repeats = Annotated[int, typer.Option(help="Episodes per question, each with its own order of the samples.")]
Opening = Annotated[
    int | None, typer.Option(help="Answers that the first request draws; what the policy says if not given.", min=1)
]
Measure = Annotated[str, typer.Option(help="What counts as a token: tokens, uncached or completion.")]


def record(
    questions: Annotated[Path, typer.Argument(help="JSON lines with id, db_id, question, gold_sql.")],
    databases: Annotated[str, typer.Argument(help="Folder of {db_id}.sqlite, or a SQLAlchemy URL with {db_id} in it.")],
    store: Annotated[str, typer.Option(help="Trace store: a file or a SQLAlchemy URL.")] = "traces.sqlite",
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "embedded",
    judge: Annotated[str | None, typer.Option(help="The judge; the model itself if not given.")] = None,
    samples: Annotated[int, typer.Option(help="Samples per question.")] = 8,
    temperature: Annotated[float, typer.Option(help="Of the samples.")] = 0.8,
    rounds: Annotated[int, typer.Option(help="Rounds of reflection with execution feedback.")] = 3,
    limit: Annotated[int | None, typer.Option(help="Most questions, spread over the databases.")] = None,
    concurrency: Annotated[
        int, typer.Option(help="Questions at a time; more of them keep a batching server busy.")
    ] = 1,
    latency: Annotated[
        Path | None, typer.Option(help="Give attempts the latency they would have had on this idle engine.")
    ] = None,
    executor: Annotated[str, typer.Option(help="local, or ray.")] = "local",
    workers: Annotated[int | None, typer.Option(help="Ray workers.")] = None,
    test_share: Annotated[float, typer.Option(help="Share of databases kept for testing.")] = 0.4,
    fresh: Annotated[bool, typer.Option(help="Record again what is there.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write the pools, without questions' texts, to this file.")
    ] = None,
) -> None:
    """Run a grid of strategies over questions and store what happened. Resumable: run it again to go on."""
    from tta_langgraph.latency import LatencyModel
    from tta_langgraph.models.resolve import resolve_model
    from tta_langgraph.traces.export import export_pools
    from tta_langgraph.traces.grid import Chain, Grid
    from tta_langgraph.traces.questions import balanced, chosen, load_questions, split_by_database
    from tta_langgraph.traces.record import Progress as Recorded
    from tta_langgraph.traces.record import record as run
    from tta_langgraph.traces.store import TraceStore

    if executor not in ("local", "ray"):
        raise typer.BadParameter("use local or ray", param_hint="--executor")
    console = Console(stderr=True, soft_wrap=True)
    idle = None if latency is None else LatencyModel.read(latency)
    listed = split_by_database(load_questions(questions), test=test_share)
    listed = balanced(listed) if limit is None else balanced(chosen(listed, n=limit))
    chains = (Chain(feedback="execution", rounds=rounds),) if rounds else ()
    grid = Grid(
        samples=samples, temperature=temperature, chains=(*chains, Chain(feedback="none"), Chain(feedback="judge"))
    )
    # On Ray each worker makes its own model, so the function is passed on, not its result.
    answering: Any = (lambda: resolve_model(model)) if executor == "ray" else ready_model(model, console)
    judging: Any = None if judge is None else ready_model(judge, console)
    with _bar(console, "recording", len(listed)) as advance:

        def report(at: Recorded) -> None:
            spent = f"{at.spent.tokens:,} tokens, {at.per_hour:.0f} an hour, {at.failed} failed"
            advance(at.skipped + at.done + at.failed, spent)

        done = run(
            listed,
            databases,
            answering,
            grid,
            store,
            judge=judging,
            executor="ray" if executor == "ray" else "local",
            concurrency=concurrency,
            workers=workers,
            resume=not fresh,
            progress=report,
            latency=idle,
        )
    console.print(
        f"{done.recorded} recorded, {done.skipped} there already, {len(done.failures)} failed; "
        f"{done.spent.tokens:,} tokens in {done.seconds:.0f} s; store {store}",
        highlight=False,
    )
    for question, why in done.failures[:5]:
        console.print(f"  {question}: {why}", highlight=False)
    if export is not None:
        with TraceStore(store) as traces:
            written = export_pools(traces.pools(), export, manifests=traces.manifests())
        console.print(f"{written} pools written to {export}", highlight=False)


def replay(
    pools: Pools,
    policy: PolicyFile = None,
    tokens: Annotated[int | None, typer.Option(help="Token budget per episode.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Time budget per episode, in seconds.")] = None,
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
    table = _side(_columns(pools, measure), side)
    cards = order(table, repeats=repeats)
    budget = None if tokens is None and seconds is None else Budget(tokens=tokens, seconds=seconds)
    chosen = _policy(policy).with_opening(opening)
    with _bar(Console(stderr=True), "replaying", cards.episodes) as advance:

        def tell(done: int, _: int) -> None:
            advance(done, "")

        if executor == "ray":
            own = replay_on_ray(table, chosen, budget=budget, repeats=repeats, workers=workers, progress=tell)
        else:
            own = run(table, chosen, budget=budget, cards=cards, progress=tell)
    found = [own, *sorted(statics(Bench(table, cards)), key=lambda o: -o.accuracy)[:12]]
    rows = [[o.name, f"{o.accuracy:.3f}", f"{o.mean_tokens:.0f}", f"{o.mean_seconds:.2f}"] for o in found]
    if as_json:
        names = ("strategy", "accuracy", "tokens", "seconds")
        figures = [dict(zip(names, (o.name, o.accuracy, o.mean_tokens, o.mean_seconds), strict=True)) for o in found]
        console.print_json(json.dumps({"questions": len(table), "episodes": cards.episodes, "strategies": figures}))
        return
    console.print(f"{len(table)} questions, {cards.episodes} episodes of {own.name}\n", highlight=False)
    console.print(table_of(("strategy", "accuracy", "tokens", "seconds"), rows))


def fit(
    pools: Pools,
    out: Annotated[Path, typer.Option(help="Where to write the policy.")] = Path("policy.json"),
    predictor: Annotated[
        str, typer.Option(help="auto, fitted_value, learned, panel, transitions or vote_stability.")
    ] = "auto",
    per_token: Annotated[float | None, typer.Option(help="Price of a token, in right answers.")] = None,
    per_second: Annotated[float | None, typer.Option(help="Price of a second, in right answers.")] = None,
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
    from tta_langgraph.traces.fit import split

    console = Console(stderr=True, soft_wrap=True)
    table = _columns(pools, measure)
    fitted_on = table if everything else split(table)[0]
    kind: Any = predictor
    with _bar(console, "fitting", 1) as advance:
        found = run(fitted_on, predictor=kind, name=name, progress=lambda done, total: advance(done, "", total))
    found = priced(found, per_token, per_second)
    if latency is not None:
        found = found.with_latency(LatencyModel.read(latency))
    found.save(out)
    databases = len(set(fitted_on.db_ids))
    console.print(f"policy {found.name!r} fitted on {len(fitted_on)} questions of {databases} databases: {out}")
    for key, value in found.notes.items():
        console.print(f"  {key}: {value}", highlight=False)


def tune(
    pools: Pools,
    policy: PolicyFile = None,
    tokens: Annotated[float | None, typer.Option(help="Mean tokens per question to stay within.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Mean seconds per question to stay within.")] = None,
    accuracy: Annotated[float | None, typer.Option(help="Accuracy to reach, in (0, 1].")] = None,
    out: Annotated[Path, typer.Option(help="Where to write the tuned policy.")] = Path("policy.json"),
    side: Side = "fit",
    repeats: Repeats = 4,
    measure: Measure = "tokens",
    opening: Opening = None,
) -> None:
    """Find the prices (λ) at which a policy meets a mean budget or an accuracy, by bisection over replays."""
    from tta_langgraph.traces.tune import tune as run

    if sum(target is not None for target in (tokens, seconds, accuracy)) != 1:
        raise typer.BadParameter("give exactly one of --tokens, --seconds and --accuracy")
    console = Console(stderr=True, soft_wrap=True)
    table = _side(_columns(pools, measure), side)
    with _bar(console, "tuning", 1) as advance:
        found = run(
            _policy(policy),
            table,
            tokens=tokens,
            seconds=seconds,
            accuracy=accuracy,
            opening=opening,
            repeats=repeats,
            progress=lambda done, total: advance(done, "", total),
        )
    found.policy.save(out)
    console.print(f"{found}\nwritten to {out}", highlight=False)


def report(
    pools: Pools,
    policy: PolicyFile = None,
    out: Annotated[Path, typer.Option(help="The page, or a folder for it.")] = Path("report.html"),
    tokens: Annotated[int | None, typer.Option(help="Token budget per episode.")] = None,
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
    table = _side(_columns(pools, measure), side)
    notes = {"pools": pools, "policy": str(policy or "shipped priors"), "side": side, "measure": measure}
    with _bar(console, "replaying", 1) as advance:
        found = evaluate(
            table,
            _policy(policy).with_opening(opening),
            name=Path(pools).name,
            budget=tokens,
            repeats=repeats,
            notes=notes,
            progress=lambda done, total: advance(done, "", total),
        )
    with _bar(console, "drawing", 1) as advance:
        written = write_report(
            found, out, title=title, pages_only=page_only, progress=lambda done, total: advance(done, "", total)
        )
    console.print(f"{written.page} ({len(written.figures)} figure files, {written.data.name})", highlight=False)


def stats(
    store: Annotated[str, typer.Argument(help="Trace store: a file or a SQLAlchemy URL.")],
    per_token: Annotated[float, typer.Option(help="Right answers that a token is worth.")] = 0.0,
    per_second: Annotated[float, typer.Option(help="Right answers that a second is worth.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Cost per task, latency percentiles, accuracy where labelled, prices, and alarms, over a trace store."""
    from tta_langgraph.traces.stats import stats as run
    from tta_langgraph.traces.stats_tables import stats_tables
    from tta_langgraph.traces.store import TraceStore

    console = Console(soft_wrap=True)
    with TraceStore(store, create=False) as traces:
        found = run(traces.traces(), per_token=per_token, per_second=per_second)
    if as_json:
        console.print_json(json.dumps(found.to_dict()))
        return
    for shown in stats_tables(found):
        console.print(table_of(shown.header, shown.rows, title=shown.title))
        console.print()


def _policy(path: Path | None) -> Policy:
    return Policy.default("sql") if path is None else Policy.load(path)


def _columns(pools: str, measure: str) -> Columns:
    """Reads pools from an export or a store."""
    from tta_langgraph.traces.export import read_pools
    from tta_langgraph.traces.replay_columns import columns
    from tta_langgraph.traces.store import TraceStore

    if measure not in ("tokens", "uncached", "completion"):
        raise typer.BadParameter("use tokens, uncached or completion", param_hint="--measure")
    counted: Any = measure
    if "://" not in pools and not Path(pools).exists():
        raise TraceError("there are no recorded pools", where=pools, remedy="Record some with `tta record`")
    if pools.endswith((".jsonl", ".jsonl.gz", ".parquet")):
        return columns(read_pools(pools), measure=counted)
    with TraceStore(pools, create=False) as store:
        return columns(store.pools(), measure=counted)


def _side(table: Columns, side: str) -> Columns:
    from tta_langgraph.traces.fit import split

    if side not in ("fit", "test", "all"):
        raise typer.BadParameter("use fit, test or all", param_hint="--side")
    return table if side == "all" else split(table)[side == "test"]


@contextmanager
def _bar(console: Console, what: str, total: int) -> Iterator[Callable[..., None]]:
    """A progress bar with an ETA; in a plain log, nothing but the end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, note="")

        def advance(done: int, note: str, all_of: int | None = None) -> None:
            bar.update(task, completed=done, note=note, total=total if all_of is None else all_of)

        yield advance
