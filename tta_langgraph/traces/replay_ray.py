"""Replay on a Ray cluster: episodes are dealt once and played in parts, with the same numbers as one process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tta_langgraph.budget import Budget
from tta_langgraph.decision import Policy
from tta_langgraph.errors import TraceError
from tta_langgraph.traces.model import Pool
from tta_langgraph.traces.ray_cluster import import_ray, start_cluster
from tta_langgraph.traces.replay import Progress, replay
from tta_langgraph.traces.replay_columns import Columns, Measure, columns
from tta_langgraph.traces.replay_draws import Order, order
from tta_langgraph.traces.replay_result import Outcomes, joined


def replay_on_ray(
    pools: Columns | Iterable[Pool],
    policy: Policy,
    *,
    budget: Budget | int | None = None,
    repeats: int = 1,
    seed: int = 0,
    measure: Measure = "tokens",
    opening: int | None = None,
    workers: int | None = None,
    parts: int | None = None,
    progress: Progress | None = None,
) -> Outcomes:
    """`replay` on the Ray cluster that is connected, or on a local one that is started for it.

    Args:
        pools: recorded questions, or their columns; they travel to each node once.
        policy: any policy; it travels as its file would.
        budget: limits per episode.
        repeats: episodes per question.
        seed: deals the cards, before they are parted: the same seed gives the same numbers as `replay`.
        measure: what counts as a token.
        opening: answers that the first request draws; what the policy says if not given.
        workers: tasks that run at once; by default one per processor of the cluster.
        parts: tasks in all; by default two per worker, so that none waits long for the slowest.
        progress: called with (episodes done, episodes in all).

    Raises:
        TraceError: ray is not installed, there are no workers, or a task failed.
        PolicyError: the policy cannot be written to a file, so it cannot travel.
    """
    if workers is not None and workers < 1:
        raise TraceError(f"{workers} workers", where="replay_on_ray", remedy="Give at least 1")
    ray = import_ray()
    table = pools if isinstance(pools, Columns) else columns(pools, measure=measure)
    cards = order(table, repeats=repeats, seed=seed)
    ours = not ray.is_initialized()
    if ours:
        start_cluster(ray)
    try:
        at_once = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        count = min(parts or 2 * at_once, cards.episodes)
        play = ray.remote(num_cpus=1)(_play)
        shared, limits = ray.put(table), None if budget is None else Budget.coerce(budget)
        waiting = list(np.array_split(np.arange(cards.episodes), count))
        running: dict[Any, Any] = {}
        found: list[tuple[Any, Outcomes]] = []
        done = 0
        while waiting or running:
            while waiting and len(running) < at_once:
                episodes = waiting.pop(0)
                running[play.remote(shared, policy.to_dict(), cards.take(episodes), limits, opening)] = episodes
            [task], _ = ray.wait(list(running), num_returns=1)
            episodes = running.pop(task)
            found.append((episodes, ray.get(task)))
            done += len(episodes)
            if progress is not None:
                progress(done, cards.episodes)
        return joined(found, policy.name)
    except ray.exceptions.RayError as error:
        raise TraceError(
            f"a replay task failed: {error}", where="replay_on_ray", remedy="Replay without Ray to see the error whole"
        ) from error
    finally:
        if ours:
            ray.shutdown()


def _play(table: Columns, policy: dict[str, Any], cards: Order, budget: Budget | None, opening: int | None) -> Outcomes:
    return replay(table, Policy.from_dict(policy), cards=cards, budget=budget, opening=opening)
