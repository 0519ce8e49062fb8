"""`budgeted(model)`: the one door through which every model call goes, and where the deadline cancels it.

Four ways in (sync and async, whole and streamed), one account (`call.py`). Outside of any budget it is the bare model.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from functools import cached_property, partial
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding, RunnableSequence
from langchain_core.runnables.base import RunnableParallel
from pydantic import ConfigDict

from tta_langgraph.budget import BudgetTracker
from tta_langgraph.errors import BudgetExceededError, ModelError
from tta_langgraph.ledger import Ledger, Reservation
from tta_langgraph.models.adapter import Adapter, without_client_retries
from tta_langgraph.models.call import MeteredCall, current_source, publish_retry
from tta_langgraph.models.counting import TokenCounter, counter_for
from tta_langgraph.models.failures import Retries, classify, is_timeout
from tta_langgraph.models.prices import price_for
from tta_langgraph.models.prompt_count import Counted, PromptCounter
from tta_langgraph.models.sync_loop import run_in_background
from tta_langgraph.models.usage import Consumed, consumed, from_metadata, written
from tta_langgraph.pool import SharedPool
from tta_langgraph.scope import active_pools, current_ledger, running_config, tracker_in_state

DEFAULT_CAP = 1024
"""Completion cap (tokens per choice) of a call where neither the call nor the model sets one."""


def budgeted(
    model: BaseChatModel | Runnable[LanguageModelInput, Any],
    *,
    max_completion_tokens: int = DEFAULT_CAP,
    retries: Retries | None = None,
    pools: Sequence[SharedPool] = (),
) -> BudgetedChatModel:
    """Wraps a chat model so that its calls draw on the budget around them; outside of any budget it is the bare model.

    Every attempt is admitted with an upper bound, cancelled at the deadline, and charged, failed ones included. The
    client's own retries are switched off in favour of metered ones.

    Args:
        model: any LangChain chat model; one that is wrapped already is returned as it is.
        max_completion_tokens: completion cap of calls for which neither caller nor model sets one.
        retries: how failed calls are repeated inside the deadline; three attempts by default.
        pools: budgets shared with other processes that every call draws on.

    Example:
        ```python
        from tta_langgraph import Budget, budget_scope, budgeted

        model = budgeted(chat_model)
        with budget_scope(Budget(tokens=500, seconds=30)) as scope:
            model.invoke("Why is the sky blue?")
        print(scope.tracker.usage)
        ```

    Raises:
        ModelError: this is not a chat model.
    """
    if isinstance(model, BudgetedChatModel):
        return model
    if isinstance(model, RunnableBinding):
        inner = budgeted(model.bound, max_completion_tokens=max_completion_tokens, retries=retries, pools=pools)
        return cast(BudgetedChatModel, inner.bind(**model.kwargs))
    if not isinstance(model, BaseChatModel):
        raise ModelError(
            f"a {type(model).__name__} is not a chat model",
            where="budgeted(model)",
            remedy="Pass a LangChain chat model; a chain or graph is budgeted by wrapping the models inside it",
        )
    return BudgetedChatModel(
        inner=model,
        max_completion_tokens=max_completion_tokens,
        retries=retries or Retries(),
        pools=tuple(pools),
        cache=model.cache,
        rate_limiter=model.rate_limiter,
        disable_streaming=model.disable_streaming,
        profile=model.profile,
    )


class BudgetedChatModel(BaseChatModel):
    """A chat model whose calls are admitted, cancelled at the deadline and charged. Made by `budgeted`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    inner: BaseChatModel
    """The model that does the work."""
    max_completion_tokens: int = DEFAULT_CAP
    """Completion cap where neither caller nor model sets one."""
    retries: Retries = Retries()
    """How failed calls are repeated."""
    pools: tuple[SharedPool, ...] = ()
    """Shared budgets that every call draws on."""

    # Needed by every call, and pydantic's private attributes are slow to look up: hence cached properties.

    @cached_property
    def adapter(self) -> Adapter:
        """What the meter knows of the inner model."""
        return Adapter.of(self.inner)

    @cached_property
    def bare(self) -> BaseChatModel:
        """The inner model without its client's own retries."""
        return without_client_retries(self.inner)

    @cached_property
    def prompts(self) -> PromptCounter:
        """Counts prompts for the inner model."""
        return PromptCounter(self.inner)

    @property
    def name_in_prices(self) -> str:
        """The model's name as prices, counters and traces know it."""
        return self.adapter.name

    def _streaming_disabled(self, **kwargs: Any) -> bool:
        """A listener for tokens must not turn several samples into one: streams carry a single choice."""
        return int(kwargs.get("n") or 1) > 1 or super()._streaming_disabled(**kwargs)

    # -- what it passes on ------------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return self.inner._llm_type

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return self.inner._identifying_params

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return self.inner._get_ls_params(stop=stop, **kwargs)

    def get_num_tokens(self, text: str) -> int:
        return counter_for(self.inner).count_text(text)

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        return cast(Runnable[LanguageModelInput, AIMessage], self._rebound(self.inner.bind_tools(tools, **kwargs)))

    def with_structured_output(
        self, schema: Any, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        chain = self.inner.with_structured_output(schema, include_raw=include_raw, **kwargs)
        return cast(Runnable[LanguageModelInput, Any], self._rebound(chain))

    def _rebound(self, runnable: Any) -> Any:
        """The same chain with this model in the place of the inner one."""
        if runnable is self.inner:
            return self
        if isinstance(runnable, RunnableBinding):
            return runnable.model_copy(update={"bound": self._rebound(runnable.bound)})
        if isinstance(runnable, RunnableSequence):
            return RunnableSequence(*(self._rebound(step) for step in runnable.steps), name=runnable.name)
        if isinstance(runnable, RunnableParallel):
            return RunnableParallel({key: self._rebound(step) for key, step in runnable.steps__.items()})
        return runnable

    # -- whole answers ------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = self._plan(messages, kwargs)
        if call is None:
            return self.inner._generate(messages, stop=stop, run_manager=run_manager, **kwargs)
        attempt = 0
        while True:
            attempt += 1
            reservation = call.admit()
            begun = time.perf_counter()
            try:
                result = self._call(call, reservation, messages, stop, kwargs)
            except BaseException as error:
                self._failed(call, reservation, error, begun)
                time.sleep(self._pause(call, attempt, error))
                continue
            used = self._read(call, reservation, partial(self._consumed, call, result))
            call.succeed(reservation, used, time.perf_counter() - begun)
            return result

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = await self._aplan(messages, kwargs)
        if call is None:
            return await self.inner._agenerate(messages, stop=stop, run_manager=run_manager, **kwargs)
        attempt = 0
        while True:
            attempt += 1
            reservation = await call.aadmit()
            begun = time.perf_counter()
            try:
                async with _deadline(call):
                    result = await self.bare._agenerate(messages, stop=stop, **self._capped(reservation, kwargs))
            except BaseException as error:
                self._failed(call, reservation, error, begun)
                await asyncio.sleep(self._pause(call, attempt, error))
                continue
            used = self._read(call, reservation, partial(self._consumed, call, result))
            await call.asucceed(reservation, used, time.perf_counter() - begun)
            return result

    def _call(
        self,
        call: MeteredCall,
        reservation: Reservation,
        messages: list[BaseMessage],
        stop: list[str] | None,
        kwargs: Mapping[str, Any],
    ) -> ChatResult:
        """A sync call that ends at the deadline: by the client's own timeout, else by cancelling its async twin."""
        capped = self._capped(reservation, kwargs)
        left = call.seconds_left
        if math.isinf(left):
            return self.bare._generate(messages, stop=stop, **capped)
        if self.adapter.takes_timeout:
            return self.bare._generate(messages, stop=stop, **{**capped, "timeout": max(0.001, left)})
        if self.adapter.native_async:
            return run_in_background(self.bare._agenerate(messages, stop=stop, **capped), timeout=left)
        # Neither can be cancelled: the answer is awaited in a thread and, at the deadline, no longer waited for.
        context = copy_context()
        thread = asyncio.to_thread(context.run, lambda: self.bare._generate(messages, stop=stop, **capped))
        return run_in_background(thread, timeout=left)

    # -- streams ------------------------------------------------------------------------------------------

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        if not self.adapter.streams:
            yield from _as_chunks(self._generate(messages, stop, run_manager, **kwargs))
            return
        call = self._plan(messages, kwargs)
        if call is None:
            yield from self.inner._stream(messages, stop=stop, run_manager=run_manager, **kwargs)
            return
        reservation = call.admit()
        begun = time.perf_counter()
        options = self._capped(reservation, kwargs, stream=True)
        if self.adapter.takes_timeout and not math.isinf(call.seconds_left):
            options["timeout"] = max(0.001, call.seconds_left)
        seen = _Seen()
        try:
            with contextlib.closing(cast(Any, self.bare._stream(messages, stop=stop, **options))) as chunks:
                for chunk in chunks:
                    seen.add(chunk)
                    if call.seconds_left <= 0:
                        raise TimeoutError("the deadline passed while streaming")
                    yield chunk
        except BaseException as error:
            self._failed(call, reservation, error, begun)
            raise
        used = self._read(call, reservation, partial(seen.consumed, call, self.inner))
        call.succeed(reservation, used, time.perf_counter() - begun)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        if not self.adapter.streams:
            for chunk in _as_chunks(await self._agenerate(messages, stop, run_manager, **kwargs)):
                yield chunk
            return
        call = await self._aplan(messages, kwargs)
        if call is None:
            async for chunk in self.inner._astream(messages, stop=stop, run_manager=run_manager, **kwargs):
                yield chunk
            return
        reservation = await call.aadmit()
        begun = time.perf_counter()
        options = self._capped(reservation, kwargs, stream=True)
        seen = _Seen()
        chunks = cast(Any, self.bare._astream(messages, stop=stop, **options))
        try:
            async with contextlib.aclosing(chunks):
                while True:
                    # The time that the consumer takes between chunks is its own; only waiting is cut short.
                    async with _deadline(call):
                        try:
                            chunk = await anext(chunks)
                        except StopAsyncIteration:
                            break
                    seen.add(chunk)
                    yield chunk
        except BaseException as error:
            self._failed(call, reservation, error, begun)
            raise
        used = self._read(call, reservation, partial(seen.consumed, call, self.inner))
        await call.asucceed(reservation, used, time.perf_counter() - begun)

    # -- shared by the four -------------------------------------------------------------------------------

    def _plan(self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> MeteredCall | None:
        """The call's upper bound; None outside of any budget."""
        config = running_config()
        tracker = tracker_in_state(config)
        ledger = self._account(config, tracker)
        if ledger is None:
            return None
        return self._bounded(ledger, self.prompts.count(messages, **kwargs), kwargs, config, tracker)

    async def _aplan(self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> MeteredCall | None:
        """Twin of `_plan`. Counting is part of the call: a server that counts slowly does not outlive the deadline."""
        config = running_config()
        tracker = tracker_in_state(config)
        ledger = self._account(config, tracker)
        if ledger is None:
            return None
        left = ledger.seconds_left()
        try:
            async with asyncio.timeout(None if math.isinf(left) else max(0.0, left)):
                if "prompts" not in self.__dict__:  # choosing a counter may ask a server or load a tokenizer
                    await asyncio.to_thread(getattr, self, "prompts")
                counted = await self.prompts.acount(messages, **kwargs)
        except TimeoutError:
            elapsed, limit = ledger.deadline()
            raise BudgetExceededError(
                "seconds", max(elapsed, limit), limit, current_source(self.adapter.name)
            ) from None
        return self._bounded(ledger, counted, kwargs, config, tracker)

    def _account(self, config: Mapping[str, Any] | None, tracker: BudgetTracker | None) -> Ledger | None:
        """The ledger to draw on; None outside of any budget."""
        return current_ledger(tracker, config) or (_unlimited() if active_pools() or self.pools else None)

    def _bounded(
        self,
        ledger: Ledger,
        counted: Counted,
        kwargs: Mapping[str, Any],
        config: Mapping[str, Any] | None,
        tracker: BudgetTracker | None,
    ) -> MeteredCall:
        adapter = self.adapter
        wanted = kwargs.get(adapter.cap) or adapter.default_cap or self.max_completion_tokens
        return MeteredCall.plan(
            ledger,
            counted,
            adapter.name,
            cap=int(wanted),
            n=int(kwargs.get("n") or adapter.default_n),
            price=price_for(adapter.name),
            pools=(*active_pools(), *self.pools),
            config=config,
            tracker=tracker,
        )

    def _capped(self, reservation: Reservation, kwargs: Mapping[str, Any], *, stream: bool = False) -> dict[str, Any]:
        """The call's options with the cap that was granted: the model cannot write more than is reserved."""
        capped = {**kwargs, self.adapter.cap: reservation.completion_tokens}
        if stream and self.adapter.stream_usage:
            capped.setdefault("stream_usage", True)
        return capped

    def _consumed(self, call: MeteredCall, result: ChatResult) -> Consumed:
        counter = call.counted.counter
        trusted = self.adapter.exact_usage
        count_text = counter.count_text if counter.exact else _on_the_safe_side(call.counted, counter)
        used = consumed(result, prompt=call.counted.count, count_text=count_text, exact=counter.exact, trusted=trusted)
        if used.note:
            for generation in result.generations:
                generation.message.response_metadata["usage_corrected"] = True
        return used

    def _read(self, call: MeteredCall, reservation: Reservation, read: Callable[[], Consumed]) -> Consumed:
        """What was consumed; a report that cannot be read is charged in full, so that no reservation stays open."""
        try:
            return read()
        except BaseException as error:
            call.fail(reservation, error, 0.0)
            raise

    def _failed(self, call: MeteredCall, reservation: Reservation, error: BaseException, begun: float) -> None:
        """Charges a failed attempt; turns a timeout at the deadline into running out of seconds."""
        seconds = time.perf_counter() - begun
        if isinstance(error, Exception) and is_timeout(error) and call.seconds_left <= 0.02:
            raise call.fail_at_deadline(reservation, seconds) from error
        call.fail(reservation, error, seconds)

    def _pause(self, call: MeteredCall, attempt: int, error: BaseException) -> float:
        """Seconds to wait before the next attempt; re-raises the error if there is none."""
        failure = classify(error)
        if not isinstance(error, Exception) or not failure.retryable or attempt >= self.retries.attempts:
            raise error
        pause = self.retries.pause(attempt, failure)
        if pause >= call.seconds_left:
            raise error
        publish_retry(call, attempt, error, pause)
        return pause


class _Seen:
    """What came out of a stream so far."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reported: Mapping[str, Any] | None = None
        self.cut = False

    def add(self, chunk: ChatGenerationChunk) -> None:
        message = chunk.message
        reason = (chunk.generation_info or {}).get("finish_reason")
        self.cut = self.cut or reason == "length"
        self.text.append(written(message))
        if isinstance(message, AIMessageChunk):
            self.text += [part.get("args") or "" for part in message.tool_call_chunks]
            if message.usage_metadata:
                self.reported = message.usage_metadata

    def consumed(self, call: MeteredCall, model: BaseChatModel) -> Consumed:
        if self.reported is not None:
            return from_metadata(self.reported)
        counted = counter_for(model).count_text("".join(self.text))
        if self.cut:
            # It wrote up to its cap, whatever of that was shown.
            counted = max(counted, call.request.completion_tokens)
        return Consumed(call.counted.count, counted, 0, "usage not streamed: counted here")


@contextlib.asynccontextmanager
async def _deadline(call: MeteredCall) -> AsyncIterator[None]:
    left = call.seconds_left
    async with asyncio.timeout(None if math.isinf(left) else max(0.0, left)):
        yield


def _as_chunks(result: ChatResult) -> Iterator[ChatGenerationChunk]:
    for generation in result.generations:
        message = generation.message
        fields = message.model_dump(exclude={"type"})
        yield ChatGenerationChunk(message=AIMessageChunk(**fields), generation_info=generation.generation_info)


def _on_the_safe_side(counted: Counted, counter: TokenCounter) -> Callable[[str], int]:
    """An estimate with its margin: what is charged instead of a report must not be too little."""
    return lambda text: counted.margin.bound(counter.count_text(text))


def _unlimited() -> Ledger:
    """An account for calls that draw on a shared pool only."""
    return Ledger(BudgetTracker.start(None))
