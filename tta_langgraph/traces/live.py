"""Live traffic into a trace store: wrap the graph, and every run leaves its trace."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig

from tta_langgraph.errors import TraceError
from tta_langgraph.traces.manifest import Manifest
from tta_langgraph.traces.model import Trace
from tta_langgraph.traces.store import TraceStore

Label = Callable[[Mapping[str, Any]], bool | None]
"""From the final state to whether the answer is right; None where that is not known."""


class Traced(Runnable[Any, dict[str, Any]]):
    """A graph whose runs are stored as traces. Made by `traced`."""

    def __init__(
        self,
        graph: Runnable[Any, Any],
        store: TraceStore,
        *,
        strategy: str,
        db_id: str,
        label: Label | None,
        labels: Mapping[str, str],
        manifest: Manifest | None,
    ) -> None:
        self._graph, self._store = graph, store
        self._label, self._manifest = label, manifest
        self._fields: dict[str, Any] = {
            "strategy": strategy,
            "db_id": db_id,
            "labels": dict(labels),
            "manifest_id": "" if manifest is None else manifest.id,
        }
        self._stored_manifest = manifest is None

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """Runs the graph and stores the trace."""
        clock = time.perf_counter()
        state: dict[str, Any] = self._graph.invoke(input, config, **kwargs)
        self._keep(state, time.perf_counter() - clock)
        return state

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """Runs the graph and stores the trace, without blocking the event loop."""
        clock = time.perf_counter()
        state: dict[str, Any] = await self._graph.ainvoke(input, config, **kwargs)
        await asyncio.to_thread(self._keep, state, time.perf_counter() - clock)
        return state

    def _keep(self, state: Mapping[str, Any], seconds: float) -> None:
        """Stores the trace. A store that fails is logged: nobody's answer is lost for it."""
        if "__interrupt__" in state:
            return  # not over: the run that resumes it stores the episode
        correct = None if self._label is None else self._label(state)
        try:
            trace = Trace.of(state, seconds=seconds, correct=correct, **self._fields)
            self._store.add(trace, None if self._stored_manifest else self._manifest)
            self._stored_manifest = True
        except TraceError as error:
            _log.warning("a trace was not stored: %s", error)


def traced(
    graph: Runnable[Any, Any],
    store: TraceStore,
    *,
    strategy: str = "policy",
    db_id: str = "",
    label: Label | None = None,
    labels: Mapping[str, str] | None = None,
    manifest: Manifest | None = None,
) -> Traced:
    """Wraps a compiled graph so that every finished run is stored as a trace.

    A run that stops at an interrupt is stored when it is resumed. Streams are not recorded: call `Trace.of` on the
    final state there.

    Args:
        graph: a compiled graph whose state has the channels of `EpisodeState`.
        store: where to.
        strategy: name under which `tta stats` groups it.
        db_id: the database it is asked of.
        label: says of the final state whether the answer is right, where that can be known.
        labels: free labels: team, release, experiment.
        manifest: the backend, from `manifest_for(model)`.

    Example:
        ```python
        agent = traced(builder.compile(), TraceStore("traces.sqlite"), manifest=manifest_for(model))
        agent.invoke({"question": "How many singers are there?", "budget": {"tokens": 4_000}})
        ```
    """
    return Traced(graph, store, strategy=strategy, db_id=db_id, label=label, labels=labels or {}, manifest=manifest)


_log = logging.getLogger(__name__)
