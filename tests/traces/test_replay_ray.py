"""Replay on a local Ray cluster gives the numbers of the single process."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from replay_worlds import two_kinds

from tta_langgraph.decision import Policy
from tta_langgraph.traces.ray_cluster import start_cluster
from tta_langgraph.traces.replay import replay
from tta_langgraph.traces.replay_ray import replay_on_ray

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'tta-langgraph[ray]'")


def test_a_local_cluster_gives_the_same_numbers_as_one_process() -> None:
    ours = not ray.is_initialized()
    if ours:
        start_cluster(ray, cpus=2)
    try:
        policy = Policy.default("text", actions=("resample(1)", "resample(2)"))
        told: list[tuple[int, int]] = []
        found = replay_on_ray(
            two_kinds(30), policy, repeats=3, seed=2, parts=4, progress=lambda done, total: told.append((done, total))
        )
    finally:
        if ours:
            ray.shutdown()
    alone = replay(two_kinds(30), policy, repeats=3, seed=2)
    for name in ("question", "correct", "tokens", "seconds", "row", "p_correct"):
        np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))
    assert told[-1] == (90, 90)
    assert len(told) == 4
