"""The recorded pools that a command was given: one recording, one side, and a word on what does not fit together."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape

from tta_langgraph.decision import Policy
from tta_langgraph.errors import TraceError

if TYPE_CHECKING:
    from tta_langgraph.traces.manifest import Manifest
    from tta_langgraph.traces.model import Pool
    from tta_langgraph.traces.replay_columns import Columns


def read_columns(pools: str, measure: str, recording: str | None = None) -> Columns:
    """Reads pools from an export or a store.

    Raises:
        TraceError: there are none, or a question comes from several recordings.
    """
    from tta_langgraph.traces.export import read_manifests, read_pools
    from tta_langgraph.traces.replay_columns import columns
    from tta_langgraph.traces.store import TraceStore

    if measure not in ("tokens", "uncached", "completion"):
        raise typer.BadParameter("use tokens, uncached or completion", param_hint="--measure")
    counted: Any = measure
    if "://" not in pools and not Path(pools).exists():
        raise TraceError("there are no recorded pools", where=pools, remedy="Record some with `tta record`")
    if pools.endswith((".jsonl", ".jsonl.gz", ".parquet")):
        if recording is not None:
            raise typer.BadParameter("an export holds one recording; give a store", param_hint="--recording")
        found = list(read_pools(pools))
        manifests = read_manifests(pools)
        known: Mapping[str, int] = {}
    else:
        with TraceStore(pools, create=False) as store:
            known = store.recordings()
            need_recording(recording, known, pools)
            found = list(store.pools(recording))
            manifests = store.manifests()
    if not any(pool.attempts for pool in found):
        raise TraceError("no pools are recorded here yet", where=pools, remedy="Record some with `tta record`")
    _refuse_twice(found, known, pools)
    _warn_of_mixture(found, manifests)
    return columns(found, measure=counted)


def one_side(table: Columns, side: str) -> Columns:
    """The questions of `--side`."""
    from tta_langgraph.traces.fit import side_of

    if side not in ("fit", "test", "all"):
        raise typer.BadParameter("use fit, test or all", param_hint="--side")
    return table if side == "all" else side_of(table, side)


def warn_of_measure(policy: Policy, measure: str) -> None:
    """A price per token means nothing where a token is counted otherwise."""
    fitted = (policy.notes.get("fitted_on") or {}).get("measure")
    if fitted is not None and fitted != measure:
        warn(f"the policy {policy.name!r} was fitted with --measure {fitted}, and its prices are used on {measure}")


def warn_of_overlap(policy: Policy, table: Columns) -> None:
    """Figures on the questions that a policy was fitted on are better than it will do on others."""
    fitted = set((policy.notes.get("fitted_on") or {}).get("databases") or ())
    here = set(table.db_ids)
    if fitted & here:
        rest = "" if here <= fitted else "; --side test shows those that `tta fit` leaves out"
        warn(
            f"the policy {policy.name!r} was fitted on {len(fitted & here)} of the {len(here)} databases here: these "
            f"figures flatter it{rest}"
        )


def warn(message: str) -> None:
    """One line on standard error."""
    Console(stderr=True, soft_wrap=True).print(f"[yellow]warning:[/yellow] {escape(message)}", highlight=False)


def need_recording(recording: str | None, known: Mapping[str, int], where: str) -> None:
    """Refuses a recording that the store does not have.

    Raises:
        TraceError: there is none of this name; says which there are.
    """
    if recording is not None and recording not in known:
        names = ", ".join(repr(name) for name in known) or "none"
        raise TraceError(f"there is no recording {recording!r}", where=where, remedy=f"Recorded are {names}")


def _refuse_twice(pools: list[Pool], known: Mapping[str, int], where: str) -> None:
    seen: set[str] = set()
    for pool in pools:
        if pool.question_id in seen:
            names = ", ".join(repr(name) for name in known)
            raise TraceError(
                f"the question {pool.question_id!r} was recorded more than once",
                where=where,
                remedy=f"Choose one with --recording: {names}" if len(known) > 1 else "Export one recording at a time",
            )
        seen.add(pool.question_id)


def _warn_of_mixture(pools: list[Pool], manifests: Mapping[str, Manifest]) -> None:
    used = [manifests[key] for key in dict.fromkeys(pool.manifest_id for pool in pools) if key in manifests]
    for other in islice(used, 1, None):
        found = used[0].differences(other)
        if found:
            warn(f"these pools were not all recorded alike: in some {'; '.join(found)}. Choose one with --recording")
            return
