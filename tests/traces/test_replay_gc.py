"""Replay has Python look for reference cycles less often, and leaves the process as it found it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from tta_langgraph.decision import Policy
from tta_langgraph.errors import TraceError
from tta_langgraph.traces.model import Attempt, Pool
from tta_langgraph.traces.replay import replay
from tta_langgraph.traces.replay_gc import OBJECTS, fewer_collections

POOLS = [Pool(question_id="q", attempts=(Attempt(id="a0", action="generate", key="k"),))]


@pytest.fixture(autouse=True)
def own_threshold() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    gc.set_threshold(701, 11, 12)
    yield (701, 11, 12)
    gc.set_threshold(*before)


def test_replay_gives_the_collector_back_as_it_was() -> None:
    frozen = gc.get_freeze_count()  # from Python 3.12 on, some objects are before anybody asks for it
    replay(POOLS, Policy.one_shot())
    assert gc.get_threshold() == (701, 11, 12)
    assert gc.get_freeze_count() == frozen


def test_the_callers_own_code_runs_with_its_own_threshold() -> None:
    seen = []
    replay(POOLS, Policy.one_shot(), progress=lambda done, of: seen.append(gc.get_threshold()))
    assert seen == [(701, 11, 12)]


def test_an_error_gives_it_back_too() -> None:
    with pytest.raises(TraceError), fewer_collections():
        assert gc.get_threshold()[0] == OBJECTS
        raise TraceError("broken", where="here")
    assert gc.get_threshold() == (701, 11, 12)


def test_blocks_that_overlap_count_as_one() -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with fewer_collections():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with fewer_collections():
        thread.start()
        assert inside.wait(10)
    assert gc.get_threshold()[0] == OBJECTS  # the other one is still in its block
    leave.set()
    thread.join(10)
    assert gc.get_threshold() == (701, 11, 12)


@pytest.mark.parametrize("own", [0, 10 * OBJECTS])
def test_who_collects_less_or_never_is_left_alone(own: int) -> None:
    gc.set_threshold(own, 5, 5)
    with fewer_collections():
        assert gc.get_threshold() == (own, 5, 5)
    assert gc.get_threshold() == (own, 5, 5)


def test_a_threshold_set_meanwhile_stays() -> None:
    with fewer_collections():
        gc.set_threshold(5_000, 5, 5)
    assert gc.get_threshold() == (5_000, 5, 5)
