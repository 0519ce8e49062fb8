"""Charging what an agent on an event loop runs in threads: its sync tools, and the models that sync nodes call.

LangChain tells a handler of such calls by sync means. Of an async handler it then only logs the errors, so that a
refusal would be no more than a line in the log, and the call would be made all the same. Hence this sync one beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from tta_langgraph.budget import Charge
from tta_langgraph.graphs.wrap_meter import POLL_SECONDS, AsyncForeignMeter
from tta_langgraph.journal_saver import answers, on_event_loop
from tta_langgraph.reservation import Reservation


class ThreadMeter(BaseCallbackHandler):
    """Stands before an `AsyncForeignMeter`: admits and charges on its account what runs in threads.

    On an event loop it only refuses: there the other one is told as well, and can wait. It is not heard, though, where
    the call itself is a sync one that blocks the loop.
    """

    raise_error = True
    run_inline = True

    def __init__(self, meter: AsyncForeignMeter) -> None:
        self._meter = meter

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Admits a model call, waiting while others hold the budget."""
        request = self._meter.model_request(serialized, messages, kwargs) if self._is_mine(run_id) else None
        while request is not None:
            outcome = self._meter.try_reserve(request)
            if isinstance(outcome, Reservation):
                self._begin(run_id, outcome)
                return
            if on_event_loop():
                return
            time.sleep(POLL_SECONDS)

    def on_tool_start(self, serialized: dict[str, Any], input_str: str, *, run_id: UUID, **kwargs: Any) -> None:
        """Admits a tool call."""
        held = self._meter.admit_tool(serialized) if self._is_mine(run_id) else None
        if held is not None:
            self._begin(run_id, held)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Settles a model call."""
        if not on_event_loop():
            self._write(self._meter.model_ended(response, run_id))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Settles a model call that failed."""
        if not on_event_loop():
            self._write(self._meter.model_failed(error, run_id))

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """Settles a tool call."""
        if not on_event_loop():
            self._write(self._meter.tool_ended(run_id))

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Settles a tool call that failed, or gives back one that was interrupted."""
        if not on_event_loop():
            self._write(self._meter.tool_ended(run_id, error))

    def _is_mine(self, run_id: UUID) -> bool:
        """Whether it is to admit or refuse a call; the handlers are told in any order."""
        if not on_event_loop():
            self._meter.in_threads.add(run_id)
            return True
        return run_id not in self._meter.open

    def _begin(self, run_id: UUID, held: Reservation) -> None:
        """Writes a call down; one that cannot be is not made, and not charged."""
        if on_event_loop():
            held.release()
            return
        journal = self._meter.journal
        if journal is not None:
            try:
                self._write_at_home(journal.aopened(held), wait=answers(self._meter.home))
            except BaseException:
                held.release()
                self._write_at_home(journal.awithdrawn(held))
                raise
        self._meter.note(run_id, held)

    def _write(self, outcome: Charge | Reservation | None) -> None:
        journal = self._meter.journal
        if isinstance(outcome, Charge) and journal is not None:
            self._write_at_home(journal.aclosed(outcome, self._meter.ledger))
        elif isinstance(outcome, Reservation) and journal is not None:
            self._write_at_home(journal.awithdrawn(outcome))

    def _write_at_home(self, writing: Coroutine[Any, Any, None], *, wait: bool = False) -> None:
        """A checkpointer knows no other loop than the agent's."""
        written = asyncio.run_coroutine_threadsafe(writing, self._meter.home)
        if wait:
            written.result()
        else:
            self._meter.late.append(written)
