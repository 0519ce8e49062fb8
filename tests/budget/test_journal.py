"""What a dead process charged is taken over once, and not given up when the checkpointer fails."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.sqlite import SqliteSaver

from tta_langgraph.budget import Budget, BudgetTracker, Usage
from tta_langgraph.journal import Journal
from tta_langgraph.ledger import Ledger, Request, Reservation


@pytest.fixture
def journal() -> Iterator[Journal]:
    with SqliteSaver.from_conn_string(":memory:") as saver:
        address: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        address = saver.put(address, empty_checkpoint(), {}, {})
        yield Journal(saver, address)


def killed_call(journal: Journal) -> str:
    """Sixty tokens that a dead process had reserved; the reservation's id."""
    killed = ledger().try_reserve(Request(prompt_tokens=10, completion_tokens=50, model_calls=1), object())
    assert isinstance(killed, Reservation)
    journal.opened(killed)
    return killed.id


def ledger() -> Ledger:
    """The episode's account in a new process."""
    return Ledger(dataclasses.replace(BudgetTracker.start(Budget(tokens=1_000)), episode="the one"))


def test_a_killed_call_is_charged_even_if_the_first_look_at_the_journal_fails(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = killed_call(journal)

    def down(_: Any) -> None:
        raise ConnectionError("the database is down")

    elsewhere = ledger()
    with monkeypatch.context() as broken, pytest.raises(ConnectionError):
        broken.setattr(journal.checkpointer, "get_tuple", down)
        journal.recover_once(elsewhere)
    journal.recover_once(elsewhere)
    assert elsewhere.spent.tokens == 60
    assert elsewhere.charges[killed].estimated


def test_no_call_is_admitted_before_the_killed_ones_are_known(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_call(journal)
    resumed, reading, go_on = ledger(), threading.Event(), threading.Event()
    read = journal.checkpointer.get_tuple

    def slowly(config: Any) -> Any:
        reading.set()
        assert go_on.wait(60)
        return read(config)

    monkeypatch.setattr(journal.checkpointer, "get_tuple", slowly)

    def begin() -> int:
        journal.recover_once(resumed)
        return resumed.spent.tokens

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(begin)
        assert reading.wait(60)
        sister = threads.submit(begin)
        async_sister = threads.submit(asyncio.run, journal.arecover_once(resumed))
        time.sleep(0.2)
        assert not sister.done()
        assert not async_sister.done()
        go_on.set()
        assert first.result(60) == sister.result(60) == 60
        async_sister.result(60)


async def test_a_sync_call_on_the_event_loop_does_not_wait_for_the_loop_itself(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = killed_call(journal)
    resumed, read = ledger(), journal.checkpointer.get_tuple

    async def slowly(config: Any) -> Any:
        journal.recover_once(resumed)  # what a sync call does that the loop comes to meanwhile
        mine = resumed.try_reserve(Request(prompt_tokens=10, completion_tokens=5, model_calls=1), object())
        assert isinstance(mine, Reservation)
        journal.opened(mine)
        return read(config)

    monkeypatch.setattr(journal.checkpointer, "aget_tuple", slowly)
    await journal.arecover_once(resumed)
    assert resumed.charges.keys() == {killed}, "what is in flight here was not killed"


async def test_a_call_that_was_turned_away_costs_elsewhere_what_it_cost_here(journal: Journal) -> None:
    here = ledger()
    held = here.try_reserve(Request(prompt_tokens=10, completion_tokens=50, model_calls=1), object())
    assert isinstance(held, Reservation)
    journal.opened(held)
    charge = held.settle(Usage(model_calls=1), "failed: 503")
    assert charge is not None
    journal.closed(charge, here)
    await journal.aclosed(charge, here)  # again, and by the other way: harmless
    elsewhere = ledger()
    journal.recover_once(elsewhere)
    assert elsewhere.charges == {held.id: charge}


def test_a_call_that_was_written_down_and_never_began_is_no_killed_one_for_its_own_process(journal: Journal) -> None:
    here = ledger()
    held = here.try_reserve(Request(prompt_tokens=10, completion_tokens=50, model_calls=1), object())
    assert isinstance(held, Reservation)
    journal.opened(held)
    held.release()
    journal.recover_once(here)
    assert here.spent.tokens == 0
