"""`budgeted(model)`: the one door through which every model call goes, and where the deadline cancels it.

Four ways in (sync and async, whole and streamed), one account (`call.py`). Outside of any budget it is the bare model.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Self, cast, get_args

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding
from pydantic import ConfigDict

from tta_langgraph.errors import ModelError
from tta_langgraph.models.answer_cache import UncutAnswers, ends_of
from tta_langgraph.models.call import MeteredCall
from tta_langgraph.models.caller import inside
from tta_langgraph.models.counting import counter_for
from tta_langgraph.models.failures import Retries
from tta_langgraph.models.half_close import show_lines
from tta_langgraph.models.meter import Lost, Meter, Unreported, until_deadline
from tta_langgraph.models.own_connections import on_own_connections
from tta_langgraph.models.reader import Reader, reading
from tta_langgraph.models.rebound import rebound
from tta_langgraph.models.received import Received
from tta_langgraph.models.sync_loop import run_in_background, stream_in_background
from tta_langgraph.models.timeouts import timeout_within
from tta_langgraph.models.usage import Consumed
from tta_langgraph.pool import SharedPool
from tta_langgraph.reservation import Reservation
from tta_langgraph.threads import bounded

_TAKEN_OVER = (
    "streaming",
    "callbacks",
    "tags",
    "metadata",
    "name",
    "output_version",
    "verbose",
    "custom_get_token_ids",
)
"""Fields by which LangChain treats a model in its own way, wherever it is called."""
DEFAULT_CAP = 1024
"""Completion cap (tokens per choice) of a call where neither the call nor the model sets one."""
CLOSING = 2.0
"""Seconds that a sync stream may take at its deadline to be closed and read to its end; charged in full after that."""


def budgeted(
    model: BaseChatModel | Runnable[LanguageModelInput, Any],
    *,
    max_completion_tokens: int = DEFAULT_CAP,
    retries: Retries | None = None,
    pools: Sequence[SharedPool] = (),
    lost: Lost = "reserve",
    unreported: Unreported = "count",
) -> BudgetedChatModel:
    """Wraps a chat model so that its calls draw on the budget around them; outside of any budget it is the bare model.

    Every attempt is admitted with an upper bound, cancelled at the deadline, and charged, failed ones included. The
    client's own retries are switched off in favour of metered ones.

    Args:
        model: any LangChain chat model; one that is wrapped already is returned as it is.
        max_completion_tokens: completion cap of calls for which neither caller nor model sets one.
        retries: how failed calls are repeated inside the deadline; three attempts by default.
        pools: budgets shared with other processes that every call draws on.
        lost: what a call is charged that was cancelled or broke: `"reserve"`, all that it could have consumed, or
            `"received"`, its prompt, what had arrived, and a bound on what had not. For the latter, whole answers are
            read as streams underneath. It holds for servers that send tokens as they write them and stop when their
            client leaves (vLLM, SGLang, llama.cpp), without a proxy that buffers.
        unreported: what a call is charged that ended well and whose usage the server keeps to itself: `"count"`, what
            came back, or `"reserve"`, all that it could have consumed. Choose the latter for models that reason
            without showing it.

    Example:
        ```python
        from tta_langgraph import Budget, budget_scope, budgeted

        model = budgeted(chat_model)
        with budget_scope(Budget(tokens=500, seconds=30)) as scope:
            model.invoke("Why is the sky blue?")
        print(scope.tracker.usage)
        ```

    Raises:
        ModelError: this is not a chat model, or `lost` or `unreported` is not one of the above.
    """
    for name, chosen, known in (("lost", lost, get_args(Lost)), ("unreported", unreported, get_args(Unreported))):
        if chosen not in known:
            remedy = f"Pass one of {', '.join(map(repr, known))}"
            raise ModelError(f"there is no {name}={chosen!r}", where=f"budgeted({name})", remedy=remedy)
    if isinstance(model, BudgetedChatModel):
        return model
    if isinstance(model, RunnableBinding):
        inner = budgeted(
            model.bound,
            max_completion_tokens=max_completion_tokens,
            retries=retries,
            pools=pools,
            lost=lost,
            unreported=unreported,
        )
        return cast(BudgetedChatModel, model.model_copy(update={"bound": inner}))
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
        lost=lost,
        unreported=unreported,
        cache=model.cache,
        rate_limiter=model.rate_limiter,
        disable_streaming=model.disable_streaming,
        **{name: getattr(model, name) for name in _TAKEN_OVER if name in model.model_fields_set},
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
    lost: Lost = "reserve"
    """What a call is charged that was cancelled or broke."""
    unreported: Unreported = "count"
    """What a call is charged whose usage was not reported."""
    streaming: bool = False
    """Whether `invoke` streams; as the inner model says."""

    @cached_property
    def meter(self) -> Meter:
        """Admits and charges the calls."""
        return Meter(self.inner, self.max_completion_tokens, self.retries, self.pools, self.lost, self.unreported)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's; the copy is metered by its own settings."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("meter", None)
        return copied

    @property
    def name_in_prices(self) -> str:
        """The model's name as prices, counters and traces know it."""
        return self.meter.adapter.name

    def _streaming_disabled(self, **kwargs: Any) -> bool:
        """A listener for tokens must not turn several samples into one: streams carry a single choice."""
        return int(kwargs.get("n") or 1) > 1 or super()._streaming_disabled(**kwargs)

    # -- what it passes on ------------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return self.inner._llm_type

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return self.inner._combine_llm_outputs(llm_outputs)

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return self.inner._identifying_params

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return self.inner._get_ls_params(stop=stop, **kwargs)

    def get_num_tokens(self, text: str) -> int:
        return counter_for(self.inner).count_text(text)

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        return cast(
            Runnable[LanguageModelInput, AIMessage], rebound(self.inner.bind_tools(tools, **kwargs), self.inner, self)
        )

    def with_structured_output(
        self, schema: Any, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        chain = self.inner.with_structured_output(schema, include_raw=include_raw, **kwargs)
        return cast(Runnable[LanguageModelInput, Any], rebound(chain, self.inner, self))

    # -- LangChain's cache of answers ---------------------------------------------------------------------

    def _generate_with_cache(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return BaseChatModel._generate_with_cache(self._keeping_uncut(), messages, *args, **kwargs)

    async def _agenerate_with_cache(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return await BaseChatModel._agenerate_with_cache(self._keeping_uncut(), messages, *args, **kwargs)

    def _keeping_uncut(self) -> BudgetedChatModel:
        """This model for one call, whose answer is stored in LangChain's cache unless the budget cuts it."""
        cache = UncutAnswers.of(self)
        if cache is None:
            return self
        copy = self.model_copy(update={"cache": cache})
        copy.__dict__["meter"] = self.meter  # what it has learned of the model's reports is for all calls
        return copy

    def _note_cut(
        self, reservation: Reservation, kwargs: Mapping[str, Any], said: ChatResult | Received, used: Consumed | None
    ) -> None:
        """Has an answer that was cut by the budget kept out of LangChain's cache, where there is one."""
        if self.cache is not None and isinstance(self.cache, UncutAnswers):
            ends = [said.end] if isinstance(said, Received) else ends_of(said)
            self.cache.cut = self.meter.cut_by_budget(reservation, kwargs, ends, used)

    # -- whole answers ------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        meter = self.meter
        call = meter.plan(messages, kwargs)
        if call is None:
            return self.inner._generate(messages, stop=stop, run_manager=run_manager, **kwargs)
        attempt = 0
        while True:
            attempt += 1
            reservation = call.admit()
            begun = time.perf_counter()
            received = meter.gathered(call)
            try:
                if received is None:
                    bare, options = meter.ready(reservation, kwargs)
                    result = self._call(call, bare, messages, stop, options)
                else:
                    bare, options = meter.ready(reservation, kwargs)
                    for _ in self._chunks(call, bare, messages, stop, options, received):
                        pass
                    result = generate_from_stream(iter(received.chunks))
            except BaseException as error:
                meter.failed(call, reservation, error, begun, received)
                time.sleep(meter.pause(call, attempt, error))
                continue
            used = meter.read(call, reservation, partial(meter.consumed, call, result, received))
            call.succeed(reservation, used, time.perf_counter() - begun)
            self._note_cut(reservation, kwargs, result, used)
            return result

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        meter = self.meter
        call = await meter.aplan(messages, kwargs)
        if call is None:
            return await self.inner._agenerate(messages, stop=stop, run_manager=run_manager, **kwargs)
        attempt = 0
        while True:
            attempt += 1
            reservation = await call.aadmit()
            begun = time.perf_counter()
            received = meter.gathered(call)
            try:
                async with until_deadline(call):
                    if received is None:
                        bare, options = meter.ready(reservation, kwargs)
                        result = await bare._agenerate(messages, stop=stop, **options)
                    else:
                        bare, options = meter.ready(reservation, kwargs)
                        async with Reader(bare._astream(messages, stop=stop, **options), received) as reader:
                            await reader.finish()
                        result = generate_from_stream(iter(received.chunks))
            except BaseException as error:
                await meter.afailed(call, reservation, error, begun, received)
                await asyncio.sleep(meter.pause(call, attempt, error))
                continue
            seconds = time.perf_counter() - begun
            size = sum(len(generation.text) for generation in result.generations)
            used = await meter.aread(call, reservation, partial(meter.consumed, call, result, received), size)
            await call.asucceed(reservation, used, seconds)
            self._note_cut(reservation, kwargs, result, used)
            return result

    def _call(
        self,
        call: MeteredCall,
        bare: BaseChatModel,
        messages: list[BaseMessage],
        stop: list[str] | None,
        options: dict[str, Any],
    ) -> ChatResult:
        """A sync call that ends at the deadline: by the client's own timeout, else by cancelling its async twin."""
        left, adapter = call.seconds_left, self.meter.adapter
        if math.isinf(left):
            return bare._generate(messages, stop=stop, **options)
        if adapter.takes_timeout:
            options["timeout"] = timeout_within(left, options.get("timeout") or adapter.timeout)
            if not adapter.server:
                return bare._generate(messages, stop=stop, **options)
        elif adapter.native_async:
            apart = on_own_connections(bare, self.inner)
            return run_in_background(apart._agenerate(messages, stop=stop, **options), timeout=left)
        # A client's timeout counts from each byte, and some servers send white space while they work; a model without
        # a timeout cannot be cancelled at all. At the deadline nobody waits for them any more.
        return bounded(lambda: bare._generate(messages, stop=stop, **options), left)

    # -- streams ------------------------------------------------------------------------------------------

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        meter = self.meter
        if not meter.adapter.streams:
            yield from _as_chunks(self._generate(messages, stop, run_manager, **kwargs))
            return
        call = meter.plan(messages, kwargs)
        if call is None:
            yield from self.inner._stream(messages, stop=stop, run_manager=run_manager, **kwargs)
            return
        attempt = 0
        while True:
            attempt += 1
            reservation = call.admit()
            begun = time.perf_counter()
            received = meter.received(keep=False)
            try:
                bare, options = meter.ready(reservation, kwargs)
                with (
                    inside(reservation),
                    contextlib.closing(self._chunks(call, bare, messages, stop, options, received)) as chunks,
                ):
                    yield from chunks
            except GeneratorExit as error:
                # Who leaves a sync stream may leave chunks behind that nobody has read: charged in full.
                meter.failed(call, reservation, error, begun)
                raise
            except BaseException as error:
                meter.failed(call, reservation, error, begun, received)
                if received.events:
                    raise  # what was handed out cannot be taken back
                time.sleep(meter.pause(call, attempt, error))
                continue
            used = meter.read(call, reservation, partial(meter.consumed, call, None, received))
            call.succeed(reservation, used, time.perf_counter() - begun)
            self._note_cut(reservation, kwargs, received, used)
            return

    def _chunks(
        self,
        call: MeteredCall,
        bare: BaseChatModel,
        messages: list[BaseMessage],
        stop: list[str] | None,
        options: dict[str, Any],
        received: Received,
    ) -> Generator[ChatGenerationChunk, None, None]:
        """The inner model's stream, ended at the deadline: as a task, else by timeout and between chunks."""
        adapter = self.meter.adapter
        limited = not math.isinf(call.seconds_left)
        if limited and adapter.native_async_stream:
            # A client's timeout counts from each chunk; only a task can be ended in the middle of a read.
            own, patience = on_own_connections(bare, self.inner), 0.0
            if received.habits is not None:
                show_lines(own)
                patience = CLOSING
            source = own._astream(messages, stop=stop, **options)
            with contextlib.closing(
                stream_in_background(reading(source, received), lambda: call.seconds_left, patience=patience)
            ) as background:
                yield from background
            return
        if limited and adapter.takes_timeout:
            options["timeout"] = timeout_within(call.seconds_left, options.get("timeout") or adapter.timeout)
        with contextlib.closing(cast(Any, bare._stream(messages, stop=stop, **options))) as chunks:
            for chunk in chunks:
                received.add(chunk)
                if call.seconds_left <= 0:
                    raise TimeoutError("the deadline passed while streaming")
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        meter = self.meter
        if not meter.adapter.streams:
            for chunk in _as_chunks(await self._agenerate(messages, stop, run_manager, **kwargs)):
                yield chunk
            return
        call = await meter.aplan(messages, kwargs)
        if call is None:
            async for chunk in self.inner._astream(messages, stop=stop, run_manager=run_manager, **kwargs):
                yield chunk
            return
        attempt = 0
        while True:
            attempt += 1
            reservation = await call.aadmit()
            begun = time.perf_counter()
            received = meter.received(keep=False)
            try:
                bare, options = meter.ready(reservation, kwargs)
                source = bare._astream(messages, stop=stop, **options)
                with inside(reservation):
                    async with reading(source, received) as chunks:
                        while True:
                            # The time that the consumer takes between chunks is its own; only waiting is cut short.
                            async with until_deadline(call):
                                try:
                                    chunk = await anext(chunks)
                                except StopAsyncIteration:
                                    break
                            yield chunk
            except BaseException as error:
                await meter.afailed(call, reservation, error, begun, received)
                if received.events or isinstance(error, GeneratorExit):
                    raise  # what was handed out cannot be taken back
                await asyncio.sleep(meter.pause(call, attempt, error))
                continue
            seconds = time.perf_counter() - begun
            size = received.characters
            used = await meter.aread(call, reservation, partial(meter.consumed, call, None, received), size)
            await call.asucceed(reservation, used, seconds)
            self._note_cut(reservation, kwargs, received, used)
            return


def _as_chunks(result: ChatResult) -> Iterator[ChatGenerationChunk]:
    for generation in result.generations:
        message = generation.message
        fields = message.model_dump(exclude={"type"})
        yield ChatGenerationChunk(message=AIMessageChunk(**fields), generation_info=generation.generation_info)
