"""10,000 random episodes: the invariant at every step, the server's log in the charges, and no deadlock."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget.random_episode import World

EPISODES = 10_000
BATCHES = 10


@pytest.mark.parametrize("batch", range(BATCHES))
def test_ten_thousand_random_episodes_hold_every_promise(batch: int) -> None:
    for seed in range(batch * EPISODES // BATCHES, (batch + 1) * EPISODES // BATCHES):
        world = World(random.Random(seed))
        try:
            world.run()
            world.check_account()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False))
def test_episodes_that_hypothesis_shrinks_hold_them_too(rng: random.Random) -> None:
    world = World(rng)
    world.run()
    world.check_account()


def test_the_episodes_are_worth_the_name() -> None:
    """They do wait, get cut off, fail and resume: an episode generator that does nothing would pass everything."""
    seen = {"waited": 0, "resumed": 0, "unknown": 0, "nested": 0}
    for seed in range(300):
        world = World(random.Random(seed))
        world.run()
        seen["resumed"] += world.epoch > 0
        seen["unknown"] += len(world.known) < len(world.served)
        seen["nested"] += len(world.ledgers) > 1
        seen["waited"] += any(branch.leave is not None for branch in world.branches)
    assert min(seen.values()) > 30, seen
