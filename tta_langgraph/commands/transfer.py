"""`tta import` and `tta export`: recordings made elsewhere come in, recorded pools and traces go out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tta_langgraph.commands.recorded import need_recording, warn
from tta_langgraph.errors import TraceError

if TYPE_CHECKING:
    from tta_langgraph.traces.foreign import Imported

EXPORTS = (".jsonl", ".jsonl.gz", ".parquet")
"""Endings of exports."""
NO_STORES = (".json", ".csv", ".tsv", ".txt", ".gz", ".zip")
"""Endings that nobody gives to a trace store; anything else is one."""


def import_(
    answers: Annotated[
        Path,
        typer.Argument(help="JSON lines, one answer each: question_id, correct, and what else is known. Or an export."),
    ],
    out: Annotated[
        str, typer.Option(help="Where the pools go: an export (.jsonl, .jsonl.gz, .parquet), or a trace store.")
    ] = "pools.jsonl.gz",
    field: Annotated[
        list[str] | None,
        typer.Option(help="What the file calls a field, OURS=THEIRS, e.g. key=result_hash. May be repeated."),
    ] = None,
    about: Annotated[
        Path | None,
        typer.Option(help="JSON lines on the questions: id, and what the answers leave out of db_id, question, split."),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(help="What a token of a model costs in tokens of the others, MODEL=RATIO. May be repeated."),
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="The order in which models may be asked, comma-separated; else cheap to dear.")
    ] = None,
    recording: Annotated[str, typer.Option(help="Name of the recording in a store.")] = "",
    questions: Annotated[bool, typer.Option(help="Keep the questions' texts in an export.")] = False,
) -> None:
    """Make pools of answers that were recorded elsewhere, to be fitted on and replayed."""
    from tta_langgraph.traces.export import check_export, export_pools, import_into, is_export
    from tta_langgraph.traces.foreign import read_answers
    from tta_langgraph.traces.store import TraceStore

    console = Console(stderr=True, soft_wrap=True)
    if out.endswith(EXPORTS) or out.endswith(NO_STORES):
        check_export(out)
    if is_export(answers):
        if out.endswith(EXPORTS) or field or about or price or models:
            raise typer.BadParameter("this is an export already: only --out STORE and --recording mean something here")
        with TraceStore(out) as store:
            count = import_into(store, answers, recording=recording)
        console.print(f"{count} from {answers}: {out}", highlight=False)
        return
    found = read_answers(
        answers,
        names=dict(_pair(item, "--field") for item in field or ()),
        about=about,
        prices={name: _ratio(value) for name, value in (_pair(item, "--price") for item in price or ())},
        models=[name.strip() for name in models.split(",")] if models else (),
    )
    if out.endswith(EXPORTS):
        export_pools(found.pools, out, questions=questions)
    else:
        with TraceStore(out) as store:
            there = {pool.question_id: pool for pool in store.pools(recording)}
            for pool in found.pools:
                if there.get(pool.question_id, pool) != pool:
                    raise TraceError(
                        f"the recording {recording!r} has other answers to the question {pool.question_id!r} already",
                        where=out,
                        remedy="Import them under another name: --recording NAME",
                    )
            for pool in found.pools:
                store.add_pool(pool, recording=recording)
    databases = len({pool.db_id for pool in found.pools})
    kind = "groups that stand for databases" if found.grouped else "databases"
    console.print(
        f"{len(found.pools)} questions of {databases} {kind}, {found.answers} answers: {out}", highlight=False
    )
    if len(found.models) > 1:
        console.print(f"  models, in the order in which they may be asked: {', '.join(found.models)}", highlight=False)
    for line in _assumed(found, ordered=bool(models or price)):
        warn(line)


def export(
    store: Annotated[str, typer.Argument(help="Trace store: a file or a SQLAlchemy URL.")],
    out: Annotated[Path, typer.Argument(help="The file to write: .jsonl, .jsonl.gz or .parquet.")],
    recording: Annotated[str | None, typer.Option(help="Which recording; all of them if not given.")] = None,
    traces: Annotated[bool, typer.Option("--traces", help="The episodes instead of the pools.")] = False,
    questions: Annotated[bool, typer.Option(help="Keep the questions' texts.")] = False,
    answers: Annotated[bool, typer.Option(help="Keep the answers' texts.")] = True,
) -> None:
    """Write what a trace store holds to a file, to send or to analyse elsewhere."""
    from tta_langgraph.traces.export import check_export, export_store
    from tta_langgraph.traces.store import TraceStore

    if traces and recording is not None:
        raise typer.BadParameter("chooses pools; episodes are exported all", param_hint="--recording")
    check_export(out)
    with TraceStore(store, create=False) as opened:
        need_recording(recording, opened.recordings(), store)
        count = export_store(
            opened,
            out,
            kind="traces" if traces else "pools",
            recording=recording,
            questions=questions,
            answers=answers,
        )
    if not count:
        what = "episodes" if traces else "pools"
        warn(f"there are no {what} in {store}: {out} is empty")
    Console(stderr=True, soft_wrap=True).print(f"{count} {'episodes' if traces else 'pools'}: {out}", highlight=False)


def _assumed(found: Imported, *, ordered: bool) -> list[str]:
    told = []
    if found.unlabelled:
        told.append(f"{found.unlabelled} answers were left out: nobody says whether they are right")
    if found.estimated:
        told.append(
            f"{found.estimated} of {found.answers} answers have no token counts: a token per four characters of the "
            "answer is assumed, and nothing for the prompt. Better: prompt_tokens and completion_tokens"
        )
        if len(found.models) > 1 and not ordered:
            told.append("what models cost is a guess, and so is their order: say --price MODEL=RATIO, or --models")
    if found.free * 2 > found.answers:
        told.append(f"{found.free} of {found.answers} answers cost nothing: every policy will ask for all of them")
    if found.unused:
        told.append(f"not used: {', '.join(found.unused)}. If one is meant, say --field OURS={found.unused[0]}")
    return told


def _pair(text: str, option: str) -> tuple[str, str]:
    left, sign, right = text.rpartition("=") if option == "--price" else text.partition("=")
    if not (left and sign and right):
        raise typer.BadParameter(f"{text!r} is not of the form NAME=VALUE", param_hint=option)
    return left, right


def _ratio(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise typer.BadParameter(f"{text!r} is not a number above 0", param_hint="--price")
    return value
