"""What a dead process charged is taken over once, and not given up when the checkpointer fails."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.sqlite import SqliteSaver

from tta_langgraph.budget import Budget, BudgetTracker
from tta_langgraph.journal import Journal
from tta_langgraph.ledger import Ledger, Request, Reservation


def test_a_killed_call_is_charged_even_if_the_first_look_at_the_journal_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteSaver.from_conn_string(":memory:") as saver:
        address: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        address = saver.put(address, empty_checkpoint(), {}, {})
        tracker = BudgetTracker.start(Budget(tokens=1_000))
        journal = Journal(saver, address, tracker.episode)
        killed = Ledger(tracker).try_reserve(Request(prompt_tokens=10, completion_tokens=50, model_calls=1), object())
        assert isinstance(killed, Reservation)
        journal.opened(killed)

        def down(_: Any) -> None:
            raise ConnectionError("the database is down")

        elsewhere = Ledger(tracker)
        with monkeypatch.context() as broken, pytest.raises(ConnectionError):
            broken.setattr(saver, "get_tuple", down)
            journal.recover_once(elsewhere)
        journal.recover_once(elsewhere)
        assert elsewhere.spent.tokens == 60
        assert elsewhere.charges[killed.id].estimated
