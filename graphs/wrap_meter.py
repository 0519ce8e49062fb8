"""Charging the model and tool calls of somebody else's agent, whose models are not ours to wrap.

A callback handler sees every call of LangChain models and tools. It admits them before they start (a refusal
raises, and the call is not made) and settles what they report. It cannot clamp a completion or cancel a call
at the deadline: for that, build the agent with `budgeted(model)`, whose calls account for themselves and are
left alone here.

An agent that is interrupted writes nothing to the graph's state, and may be resumed in another process. So charges
are written to the journal in the graph's checkpointer as well, and read back before the agent runs again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langgraph.errors import GraphBubbleUp

from tta_langgraph.budget import Charge, Usage
from tta_langgraph.errors import BudgetExceededError
from tta_langgraph.journal import Journal
from tta_langgraph.journal_later import write_later
from tta_langgraph.ledger import Ledger, Refusal, Request, Reservation
from tta_langgraph.models.call_options import MIN_COMPLETION
from tta_langgraph.models.metered import DEFAULT_CAP
from tta_langgraph.models.prices import price_for
from tta_langgraph.scope import running_config, tracker_in_state

CHARS_PER_TOKEN = 3
"""For the bound before the call; the charge is what the model reports."""
MESSAGE_TOKENS = 8
"""Tokens around each message, for the bound."""
POLL_SECONDS = 0.02
"""How often a busy budget is asked again."""


class Account:
    """What the handlers share: bounds, admission and settlement."""

    raise_error = True
    run_inline = True

    def __init__(self, ledger: Ledger, source: str = "agent") -> None:
        self.ledger = ledger
        self._source = source
        self.journal = Journal.of(running_config())
        self._margin = 1.0
        self.open: dict[UUID, tuple[Reservation, float]] = {}
        """The calls that are being made, and when they began."""

    def model_request(
        self, serialized: dict[str, Any] | None, messages: Sequence[Sequence[BaseMessage]], kwargs: dict[str, Any]
    ) -> Request | None:
        """The bound of a model call; None for a budgeted model, which accounts for itself."""
        if ((serialized or {}).get("id") or [""])[-1] == "BudgetedChatModel" or self._elsewhere():
            return None
        said = kwargs.get("invocation_params") or {}
        cap = next((said[k] for k in ("max_completion_tokens", "max_tokens") if said.get(k)), DEFAULT_CAP)
        written = sum(len(str(part)) for batch in messages for m in batch for part in _parts(m))
        written += len(str(said.get("tools") or ""))
        around = MESSAGE_TOKENS * sum(map(len, messages))
        prompt = math.ceil(self._margin * (written // CHARS_PER_TOKEN + around))
        price = price_for(str(said.get("model") or said.get("model_name") or ""))
        return Request(
            prompt_tokens=prompt,
            completion_tokens=int(cap),
            n=int(said.get("n") or 1),
            min_completion=min(MIN_COMPLETION, int(cap)),
            usd=price.cost if price else None,
            model_calls=1,
            source=self._source,
        )

    def _cost(self, held: Reservation, usage: Usage) -> float:
        usd = held.request.usd
        return usd(usage.prompt_tokens, usage.completion_tokens) if usd else 0.0

    def _elsewhere(self) -> bool:
        """Whether the call belongs to a graph with an episode of its own, say of a `BudgetMiddleware`."""
        tracker = tracker_in_state(running_config())
        return tracker is not None and all(tracker.episode != own.episode for own in self.ledger.lineage)

    def try_reserve(self, request: Request) -> Reservation | Refusal:
        """The reservation, or a refusal that is worth waiting for.

        Raises:
            BudgetExceededError: the budget cannot cover it any more.
        """
        if self.ledger.seconds_left() <= 0:
            spent, limit = self.ledger.deadline()
            raise BudgetExceededError("seconds", spent, limit, request.source)
        outcome = self.ledger.try_reserve(request)
        if isinstance(outcome, Refusal) and not outcome.busy:
            raise BudgetExceededError(outcome.dimension, outcome.spent, outcome.limit, outcome.source)
        return outcome

    def note(self, run_id: UUID, held: Reservation) -> None:
        """Notes that a call begins."""
        self.open[run_id] = (held, time.perf_counter())

    def model_ended(self, response: LLMResult, run_id: UUID) -> Charge | None:
        """Settles a model call; None if it was not noted."""
        found = self.open.pop(run_id, None)
        if found is None:
            return None
        held, begun = found
        seconds = time.perf_counter() - begun
        usage = None if (cached := _is_cached(response)) else _reported(response, seconds)
        if cached:
            return held.settle(Usage(), "answered from LangChain's cache")
        if usage is not None:
            # Estimates that were too low make the next ones higher.
            self._margin = max(self._margin, self._margin * usage.prompt_tokens / max(1, held.request.prompt_tokens))
        if usage is None:
            return held.settle_unknown("usage not reported", seconds)
        return held.settle(usage + Usage(usd=self._cost(held, usage)))

    def model_failed(self, error: BaseException, run_id: UUID) -> Charge | None:
        """Settles a model call that failed; None if it was not noted."""
        found = self.open.pop(run_id, None)
        if found is None:
            return None
        held, begun = found
        return held.settle_unknown(f"failed: {type(error).__name__}", time.perf_counter() - begun)

    def tool_ended(self, run_id: UUID, error: BaseException | None = None) -> Charge | Reservation | None:
        """The charge, or what an interrupted tool has given back."""
        found = self.open.pop(run_id, None)
        if found is None:
            return None
        held, begun = found
        if isinstance(error, GraphBubbleUp):
            held.release()  # interrupted: it runs again on resume, and is paid for then
            return held
        return held.settle(Usage(executions=1, seconds=time.perf_counter() - begun), "failed" if error else "")

    def admit_tool(self, serialized: dict[str, Any] | None) -> Reservation | None:
        """Never waits: a tool is charged exactly what it reserves, so a busy budget is an exhausted one."""
        if self._elsewhere():
            return None
        source = (serialized or {}).get("name") or "tool"
        outcome = self.try_reserve(Request(executions=1, source=source))
        if isinstance(outcome, Refusal):
            raise BudgetExceededError(outcome.dimension, outcome.spent, outcome.limit, source)
        return outcome


class ForeignMeter(Account, BaseCallbackHandler):
    """Admits and charges the calls of an agent that runs synchronously."""

    def recover(self) -> None:
        """Takes over what an earlier process charged before the agent was interrupted."""
        if self.journal is not None:
            self.journal.recover_once(self.ledger)

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Admits a model call, waiting while others hold the budget."""
        request = self.model_request(serialized, messages, kwargs)
        while request is not None:
            outcome = self.try_reserve(request)
            if isinstance(outcome, Reservation):
                self._begin(run_id, outcome)
                return
            time.sleep(POLL_SECONDS)

    def on_tool_start(self, serialized: dict[str, Any], input_str: str, *, run_id: UUID, **kwargs: Any) -> None:
        """Admits a tool call."""
        held = self.admit_tool(serialized)
        if held is not None:
            self._begin(run_id, held)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Settles a model call."""
        self._write(self.model_ended(response, run_id))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Settles a model call that failed."""
        self._write(self.model_failed(error, run_id))

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """Settles a tool call."""
        self._write(self.tool_ended(run_id))

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Settles a tool call that failed, or gives back one that was interrupted."""
        self._write(self.tool_ended(run_id, error))

    def _begin(self, run_id: UUID, held: Reservation) -> None:
        """Writes a call down; one that cannot be is not made, and not charged."""
        if self.journal is not None:
            try:
                self.journal.opened(held)
            except BaseException:
                held.release()
                with contextlib.suppress(Exception):
                    self.journal.withdrawn(held)
                raise
        self.note(run_id, held)

    def _write(self, outcome: Charge | Reservation | None) -> None:
        if self.journal is None or outcome is None:
            return
        if isinstance(outcome, Charge):
            self.journal.closed(outcome, self.ledger)
        else:
            self.journal.withdrawn(outcome)


class AsyncForeignMeter(Account, AsyncCallbackHandler):
    """Admits and charges the calls of an agent that runs on an event loop.

    It heeds what it is told on that loop, and of a sync call which blocks it; `wrap_threads` has what runs in threads.
    While the loop is blocked, a checkpointer cannot be reached: what is told then is written as soon as the loop is
    free, and `flush` waits for it.
    """

    def __init__(self, ledger: Ledger, source: str = "agent") -> None:
        super().__init__(ledger, source)
        self.home = asyncio.get_running_loop()
        """The agent's loop."""
        self.late: list[Future[None]] = []
        """Entries that are being written on it."""
        self.in_threads: set[UUID] = set()
        """The calls that a `ThreadMeter` has admitted or refused."""

    async def recover(self) -> None:
        """Takes over what an earlier process charged before the agent was interrupted."""
        if self.journal is not None:
            await self.journal.arecover_once(self.ledger)

    async def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        """Admits a model call, waiting while others hold the budget."""
        request = None if run_id in self.in_threads else self.model_request(serialized, messages, kwargs)
        while request is not None:
            outcome = self.try_reserve(request)
            if isinstance(outcome, Reservation):
                await self._begin(run_id, outcome)
                return
            await asyncio.sleep(POLL_SECONDS)

    async def on_tool_start(self, serialized: dict[str, Any], input_str: str, *, run_id: UUID, **kwargs: Any) -> None:
        """Admits a tool call."""
        held = None if run_id in self.in_threads else self.admit_tool(serialized)
        if held is not None:
            await self._begin(run_id, held)

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Settles a model call."""
        await self._write(self.model_ended(response, run_id))

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Settles a model call that failed."""
        await self._write(self.model_failed(error, run_id))

    async def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        """Settles a tool call."""
        await self._write(self.tool_ended(run_id))

    async def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """Settles a tool call that failed, or gives back one that was interrupted."""
        await self._write(self.tool_ended(run_id, error))

    async def _begin(self, run_id: UUID, held: Reservation) -> None:
        """Writes a call down; one that cannot be is not made, and not charged."""
        if self.journal is not None:
            try:
                await self._at_home(self.journal.aopened(held))
            except BaseException:
                held.release()
                write_later(self.journal.awithdrawn(held))
                raise
        self.note(run_id, held)

    async def _write(self, outcome: Charge | Reservation | None) -> None:
        if self.journal is None or outcome is None:
            return
        if isinstance(outcome, Charge):
            await self._at_home(self.journal.aclosed(outcome, self.ledger))
        else:
            await self._at_home(self.journal.awithdrawn(outcome))

    async def _at_home(self, writing: Coroutine[Any, Any, None]) -> None:
        if asyncio.get_running_loop() is self.home:
            await writing
        else:
            self.late.append(asyncio.run_coroutine_threadsafe(writing, self.home))

    async def flush(self) -> None:
        """Waits until everything that was told is written."""
        while self.late:
            await asyncio.wrap_future(self.late.pop(0))


def _parts(message: BaseMessage) -> tuple[Any, ...]:
    """What of a message is sent."""
    return (message.content, *(message.tool_calls if isinstance(message, AIMessage) else ()))


def _is_cached(response: LLMResult) -> bool:
    """Whether LangChain's cache answered, and no model: it sets the cost of what it serves to zero."""
    messages = [getattr(each, "message", None) for generations in response.generations for each in generations]
    usages: list[Any] = [message.usage_metadata for message in messages if isinstance(message, AIMessage)]
    return bool(usages) and all(usage is not None and usage.get("total_cost") == 0 for usage in usages)


def _reported(response: LLMResult, seconds: float) -> Usage | None:
    """What the model says it consumed; None if it says nothing."""
    found = [
        generation.message.usage_metadata
        for generations in response.generations
        for generation in generations
        if isinstance(generation, ChatGeneration)
        and isinstance(generation.message, AIMessage)
        and generation.message.usage_metadata
    ]
    if not found:
        return None
    return Usage(
        prompt_tokens=max(usage["input_tokens"] for usage in found),
        completion_tokens=sum(usage["output_tokens"] for usage in found),
        cached_tokens=max((usage.get("input_token_details") or {}).get("cache_read") or 0 for usage in found),
        seconds=seconds,
        model_calls=1,
    )
