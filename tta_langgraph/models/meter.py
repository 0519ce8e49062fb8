"""What all four ways of calling a budgeted model share: the plan of a call, its options, and reading its end."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult

from tta_langgraph.budget import BudgetTracker
from tta_langgraph.errors import BudgetExceededError
from tta_langgraph.ledger import Ledger, Reservation
from tta_langgraph.models.adapter import Adapter
from tta_langgraph.models.answer_cache import is_cut
from tta_langgraph.models.asked import asked, granted
from tta_langgraph.models.call import MeteredCall, current_source
from tta_langgraph.models.client_retries import without_client_retries
from tta_langgraph.models.failures import Retries, classify, is_timeout
from tta_langgraph.models.half_close import show_lines
from tta_langgraph.models.live import publish_retry
from tta_langgraph.models.prices import Price, price_for
from tta_langgraph.models.prompt_count import Counted, PromptCounter
from tta_langgraph.models.received import Received, habits_of
from tta_langgraph.models.thinking import thinking_asked, thinking_within
from tta_langgraph.models.usage import Consumed, consumed
from tta_langgraph.pool import SharedPool
from tta_langgraph.scope import active_pools, ledger_here, running_config, tracker_in_state
from tta_langgraph.threads import bounded, in_thread
from tta_langgraph.unlimited import note_unlimited

Lost = Literal["reserve", "received"]
"""What a call is charged that was cancelled or broke: all that it could have consumed, or what is known to be."""
Unreported = Literal["count", "reserve"]
"""What a call is charged whose usage the server keeps to itself: what came back, or all that it could have consumed."""
Read = Callable[[], Consumed | None]
"""Works out what a call consumed that ended well; None where nobody knows."""


@dataclass(eq=False)
class Meter:
    """The meter of one model; what it looks up, it looks up once."""

    inner: BaseChatModel
    """The model that does the work."""
    default_cap: int
    """Completion cap (tokens per choice) where neither caller nor model sets one."""
    retries: Retries
    """How failed calls are repeated."""
    pools: tuple[SharedPool, ...]
    """Shared budgets that every call draws on."""
    lost: Lost
    """What a call is charged that was cancelled or broke."""
    unreported: Unreported
    """What a call is charged whose usage was not reported."""

    @cached_property
    def adapter(self) -> Adapter:
        """The facts about the model."""
        return Adapter.of(self.inner)

    @cached_property
    def bare(self) -> BaseChatModel:
        """The model without its client's own retries, and whole answers whole: whether to stream is decided here.

        Streams report their usage by a field, since OpenAI's Responses API takes no option for it.
        """
        bare = without_client_retries(self.inner)
        if self.lost == "received":
            show_lines(bare)
        changed: dict[str, bool] = {}
        if getattr(bare, "streaming", False) is True:
            changed["streaming"] = False
        if self.adapter.stream_usage and getattr(bare, "stream_usage", None) is not True:
            changed["stream_usage"] = True
        return bare.model_copy(update=changed) if changed else bare

    @cached_property
    def prompts(self) -> PromptCounter:
        """Counts its prompts."""
        return PromptCounter(self.inner)

    # -- before the call ----------------------------------------------------------------------------------

    def plan(self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> MeteredCall | None:
        """The call's upper bound; None outside of any budget."""
        config = running_config()
        tracker = tracker_in_state(config)
        ledger = ledger_here(tracker, config) or self._account_of_pools()
        if ledger is None:
            note_unlimited(config, self.adapter.name)
            return None
        if not self.prompts.over_network or math.isinf(left := ledger.seconds_left()):
            counted = self.prompts.count(messages, **kwargs)
        else:
            try:
                counted = bounded(lambda: self.prompts.count(messages, **kwargs), left)
            except TimeoutError as error:
                raise self._too_late(ledger) from error
        return self._bounded(ledger, counted, kwargs, config, tracker)

    async def aplan(self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> MeteredCall | None:
        """Twin of `plan`. Counting is part of the call: a server that counts slowly does not outlive the deadline."""
        config = running_config()
        tracker = tracker_in_state(config)
        ledger = ledger_here(tracker, config) or self._account_of_pools()
        if ledger is None:
            note_unlimited(config, self.adapter.name)
            return None
        left = ledger.seconds_left()
        try:
            async with asyncio.timeout(None if math.isinf(left) else max(0.0, left)):
                if "prompts" not in self.__dict__:
                    await in_thread(self._get_ready)
                counted = await self.prompts.acount(messages, **kwargs)
        except TimeoutError as error:
            raise self._too_late(ledger) from error
        return self._bounded(ledger, counted, kwargs, config, tracker)

    def _too_late(self, ledger: Ledger) -> BudgetExceededError:
        elapsed, limit = ledger.deadline()
        return BudgetExceededError("seconds", max(elapsed, limit), limit, current_source(self.adapter.name))

    def _get_ready(self) -> None:
        """What the first call needs: a counter may ask a server or load a tokenizer, and prices are a large table."""
        _ = self.bare, self.prompts, self.price()

    def price(self) -> Price | None:
        """What its provider charges, else what its maker does. Not kept: a price may be registered at any time."""
        name = self.adapter.name
        return price_for(name, self.adapter.provider) or price_for(name)

    def _account_of_pools(self) -> Ledger | None:
        """An account for calls outside of any budget that draw on a shared pool; None where there is none."""
        return Ledger(BudgetTracker.start(None)) if active_pools() or self.pools else None

    def _bounded(
        self,
        ledger: Ledger,
        counted: Counted,
        kwargs: Mapping[str, Any],
        config: Mapping[str, Any] | None,
        tracker: BudgetTracker | None,
    ) -> MeteredCall:
        adapter = self.adapter
        wanted = asked(kwargs, adapter.name)
        return MeteredCall.plan(
            ledger,
            counted,
            adapter.name,
            cap=wanted.cap or self._own_cap(kwargs),
            n=wanted.n or adapter.default_n,
            price=self.price(),
            pools=(*active_pools(), *self.pools),
            config=config,
            tracker=tracker,
        )

    def _own_cap(self, kwargs: Mapping[str, Any]) -> int:
        """Completion tokens per choice where the call sets no cap: the model's, else ours for the answer."""
        return self.adapter.default_cap or self.default_cap + (
            thinking_asked(self.inner, kwargs) if self._thinks(kwargs) else 0
        )

    def _thinks(self, options: Mapping[str, Any]) -> bool:
        """Whether the model or the call says anything of thinking. Pydantic takes long to say that a field is not."""
        return self._own_thinking is not None or "thinking" in options

    @cached_property
    def _own_thinking(self) -> Any:
        return getattr(self.inner, "thinking", None)

    def ready(self, reservation: Reservation, kwargs: Mapping[str, Any]) -> tuple[BaseChatModel, dict[str, Any]]:
        """The model to call, and the call's options, with the cap that was granted and no other.

        The model cannot write more than is reserved.
        """
        adapter, n, cap = self.adapter, reservation.request.n, reservation.completion_tokens
        options = granted(kwargs, adapter.cap, cap)
        if adapter.body is not None:
            options.setdefault("extra_body", adapter.body)
        if n != (options.get("n") or adapter.own_n):
            options["n"] = n  # said elsewhere than in the client's own option, from where it was taken
        if adapter.cap_in_pipeline:
            own = options.get("pipeline_kwargs", {})
            options["pipeline_kwargs"] = {**own, "max_new_tokens": options.pop(adapter.cap)}
        if not adapter.cap_is_field:
            if not self._thinks(options):
                return self.bare, options
            wanted = asked(kwargs, adapter.name).cap or self._own_cap(kwargs)
            return thinking_within(self.bare, options, cap, wanted)
        return self.bare.model_copy(update={adapter.cap: options.pop(adapter.cap)}), options

    def gathered(self, call: MeteredCall) -> Received | None:
        """Where a whole answer is gathered that is read as a stream underneath; None where it is not."""
        if self.lost == "reserve" or call.request.n > 1 or not (self.adapter.streams and self.adapter.stream_usage):
            return None
        return self.received()

    def received(self, *, keep: bool = True) -> Received:
        """Where a stream is gathered, with what is known of its server."""
        adapter = self.adapter
        return Received(keep=keep, habits=habits_of(adapter.name, adapter.server) if self.lost == "received" else None)

    # -- after the call -----------------------------------------------------------------------------------

    def consumed(self, call: MeteredCall, result: ChatResult | None, received: Received | None) -> Consumed | None:
        """What a call consumed that ended well; None where that was not reported and is not to be counted."""
        if received is not None:
            cap = call.request.completion_tokens
            used = received.consumed(
                call.count_text, prompt=call.counted.count, cap=cap, trusted=self.adapter.exact_usage
            )
        else:
            assert result is not None
            used = consumed(
                result,
                prompt=call.counted.count,
                count_text=call.count_text,
                exact=call.counted.counter.exact,
                trusted=self.adapter.exact_usage,
            )
        if used.note and result is not None:
            for generation in result.generations:
                generation.message.response_metadata["usage_corrected"] = True
        return None if used.unreported and self.unreported == "reserve" else used

    def cut_by_budget(
        self, reservation: Reservation, kwargs: Mapping[str, Any], ends: Sequence[str | None], used: Consumed | None
    ) -> bool:
        """Whether an answer reached a cap that is ours and not what its caller or the model's configuration set.

        Args:
            reservation: what it was granted.
            kwargs: the call's options.
            ends: why each choice ended, in the client's own word.
            used: what it consumed; where a client gives no reason, that has to tell.
        """
        adapter = self.adapter
        wanted = asked(kwargs, adapter.name).cap or adapter.default_cap
        if wanted is not None and reservation.completion_tokens >= wanted:
            return False
        if any(is_cut(end) for end in ends):
            return True
        return None in ends and (used is None or used.completion >= reservation.completion_tokens)

    def read(self, call: MeteredCall, reservation: Reservation, read: Read) -> Consumed | None:
        """Reads what was consumed; what cannot be read is charged in full, so that no reservation stays open."""
        try:
            return read()
        except BaseException as error:
            call.fail(reservation, error, 0.0, began=True)  # the answer was written, whatever failed since
            call.settled(reservation)
            raise

    async def aread(self, call: MeteredCall, reservation: Reservation, read: Read, size: int) -> Consumed | None:
        """Twin of `read`: counting so many characters may take long, and then a thread does it.

        An answer that is here does not wait beyond the deadline for somebody to count it: it is charged in full.
        """
        try:
            if self.adapter.exact_usage or self.prompts.is_quick(size):
                return read()
            async with until_deadline(call):
                return await in_thread(read)
        except TimeoutError:
            return None
        except BaseException as error:
            call.fail(reservation, error, 0.0, began=True)  # the answer was written, whatever failed since
            await call.asettled(reservation, wait=isinstance(error, Exception))
            raise

    def failed(
        self,
        call: MeteredCall,
        reservation: Reservation,
        error: BaseException,
        begun: float,
        received: Received | None = None,
    ) -> None:
        """Charges a failed attempt; turns a timeout at the deadline into running out of seconds."""
        exceeded = self._charged(call, reservation, error, begun, received)
        call.settled(reservation)
        if exceeded is not None:
            raise exceeded from error

    async def afailed(
        self,
        call: MeteredCall,
        reservation: Reservation,
        error: BaseException,
        begun: float,
        received: Received | None = None,
    ) -> None:
        """Twin of `failed`."""
        exceeded = self._charged(call, reservation, error, begun, received)
        await call.asettled(reservation, wait=isinstance(error, Exception))
        if exceeded is not None:
            raise exceeded from error

    def _charged(
        self,
        call: MeteredCall,
        reservation: Reservation,
        error: BaseException,
        begun: float,
        received: Received | None,
    ) -> BudgetExceededError | None:
        seconds = time.perf_counter() - begun
        began = received is not None and received.events > 0
        if isinstance(error, Exception) and is_timeout(error) and call.seconds_left <= 0.02:
            return call.fail_at_deadline(reservation, seconds, received)
        call.fail(reservation, error, seconds, began=began, received=received)
        return None

    def pause(self, call: MeteredCall, attempt: int, error: BaseException) -> float:
        """Seconds to wait before the next attempt; re-raises the error if there is none."""
        failure = classify(error)
        if not isinstance(error, Exception) or not failure.retryable or attempt >= self.retries.attempts:
            raise error
        pause = self.retries.pause(attempt, failure)
        if pause >= call.seconds_left or (failure.retry_after or 0.0) > self.retries.patience:
            raise error
        publish_retry(call.ledger, call.request.source, attempt, error, pause)
        return pause


@contextlib.asynccontextmanager
async def until_deadline(call: MeteredCall) -> AsyncIterator[None]:
    """Cancels what runs inside at the call's deadline.

    Raises:
        TimeoutError: it struck.
    """
    left = call.seconds_left
    async with asyncio.timeout(None if math.isinf(left) else max(0.0, left)):
        yield
