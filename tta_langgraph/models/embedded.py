"""A real small model on the processor of this machine: no GPU, no account, no compiler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import LangSmithParams  # type: ignore[attr-defined]
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from tta_langgraph.errors import ModelError
from tta_langgraph.models.embedded_counting import EmbeddedCounting, embedded_manifest
from tta_langgraph.models.embedded_engine import EmbeddedEngine, EngineHold, EngineSettings, shared_engine
from tta_langgraph.models.embedded_limits import Deadline, Limits, without_caps
from tta_langgraph.models.embedded_wire import (
    PROVIDER,
    Reply,
    chat_result,
    chunk_of,
    last_chunk,
    request_body,
)
from tta_langgraph.models.gguf_header import read_gguf_header
from tta_langgraph.models.json_schema import openai_tool
from tta_langgraph.models.llm_output import combined_outputs
from tta_langgraph.models.structured import Method, structured_output
from tta_langgraph.models.tool_choice import choice_of
from tta_langgraph.models.weights import Progress, ensure_weights
from tta_langgraph.models.weights_catalog import DEFAULT_WEIGHTS

__all__ = ["EmbeddedChatModel", "create_embedded_model"]


class EmbeddedChatModel(EmbeddedCounting, BaseChatModel):
    """A GGUF model run by llama.cpp inside this process.

    Nothing is loaded until the first call. Instances with the same weights and sizes share one engine. Every
    call accepts `n`, `temperature`, `top_p`, `top_k`, `min_p`, `seed`, `stop`, `max_tokens`, `logprobs`,
    `top_logprobs`, `tools`, `tool_choice`, `response_format`, `timeout` (seconds) and `extra_body`, also
    through `bind`. `n` samples share one prefill. A trailing assistant message is continued, not answered.

    Example:
        >>> model = EmbeddedChatModel()  # doctest: +SKIP
        >>> result = model.generate([[HumanMessage("How many planets?")]], n=4)  # doctest: +SKIP
        >>> len(result.generations[0])  # doctest: +SKIP
        4
    """

    model: str = DEFAULT_WEIGHTS
    """A name in `WEIGHTS`, the path of a `.gguf` file, or its address."""
    context: int = Field(default=16_384, ge=256)
    """Key-value cache shared by all requests in flight (tokens); a single prompt may use all of it."""
    parallel: int = Field(default=16, ge=1, le=256)
    """Sequences kept and decoded together. More samples than this in one call take turns; prompts that were
    answered before stay in the prefix cache of the sequences that are free."""
    threads: int | None = Field(default=None, ge=1)
    """Compute threads; None chooses by the cores this process may use."""
    temperature: float | None = 0.0
    """Sampling temperature; 0 is greedy."""
    top_p: float | None = None
    """Nucleus; None is the engine's default (0.95)."""
    top_k: int | None = None
    """Most likely tokens considered; None is the engine's default (40)."""
    min_p: float | None = None
    """Floor relative to the most likely token; None is the engine's default (0.05)."""
    seed: int | None = None
    """Seed of the first sample; the others follow from it."""
    max_tokens: int | None = Field(default=1024, ge=1)
    """Cap on the completion (tokens per sample)."""
    stop: list[str] | None = None
    """Strings that end the answer; they are not part of it."""
    timeout: float | None = Field(default=None, gt=0)
    """Seconds for one call, or None."""
    streaming: bool = False
    """Stream also where a caller asks for the whole answer at once."""
    progress: Progress | None = Field(default=None, exclude=True, repr=False)
    """Told about the download of the weights, if there is one."""

    _hold: EngineHold = PrivateAttr(default_factory=EngineHold)

    supports_n: ClassVar[bool] = True
    """Several samples in one request."""
    prefix_caching: ClassVar[bool] = True
    """Prompts that begin alike are read once; forecasts of latency count on it."""
    supports_timeout: ClassVar[bool] = True
    """`timeout` cancels the request in the engine."""
    reports_exact_usage: ClassVar[bool] = True
    """Usage is the engine's own count, summed over all samples."""
    supported_options: ClassVar[frozenset[str]] = frozenset(
        {"logprobs", "top_logprobs", "seed", "response_format", "extra_body", "min_p", "top_k"}
    )
    """Options beyond the common ones that a call may carry."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    @field_validator("model", mode="before")
    @classmethod
    def _path_to_text(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value

    # A copy finds the engine of its own settings at its first call. Deep copies and pickles, such as for the workers
    # of Ray, get a new hold by themselves; a pickle leaves behind whoever watches the download here.

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._hold = EngineHold()
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return super().__deepcopy__({**(memo or {}), id(self.progress): self.progress})

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        return {**state, "__dict__": {**state["__dict__"], "progress": None}}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's; the copy has the engine of its own settings."""
        copied = super().model_copy(update=update, deep=deep)
        copied._hold = EngineHold()
        return copied

    @property
    def engine(self) -> EmbeddedEngine:
        """The engine behind this model; the weights are fetched when it is first asked for."""
        with self._hold.lock:
            if self._hold.engine is None:
                path = ensure_weights(self.model, progress=self.progress)
                trained = read_gguf_header(path).context_length
                context = min(self.context, trained) if trained else self.context
                self._hold.engine = shared_engine(
                    EngineSettings(path=path, context=context, parallel=self.parallel, threads=self.threads)
                )
            return self._hold.engine

    @property
    def model_name(self) -> str:
        """What traces and prices call this model."""
        return Path(self.model).stem if self.model.endswith(".gguf") else self.model

    @property
    def context_window(self) -> int:
        """Tokens one request may use, prompt and completion together."""
        return self.engine.settings.context

    def warm_up(self) -> None:
        """Fetches and loads the model now instead of at the first call."""
        self.engine.start()

    def close(self) -> None:
        """Frees the model's memory, for all instances of the same settings; a later call loads it again."""
        if self._hold.engine is not None:
            self._hold.engine.close()

    def manifest(self) -> dict[str, Any]:
        """What a trace must say to be reproducible: engine, weights, sizes, sampling, template."""
        return embedded_manifest(self.engine.settings, self.model_name, self._defaults())

    # Tools and structure

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offers tools.

        Args:
            tools: functions, tools, pydantic classes or OpenAI tool descriptions.
            tool_choice: `"auto"`, `"none"`, `"any"` (some tool must be called) or a tool's name; or one of these as
                the dictionary of OpenAI or Anthropic.
            **kwargs: bound as they are.
        """
        offered = [openai_tool(tool) for tool in tools]
        choice = choice_of(tool_choice, [tool["function"]["name"] for tool in offered])
        return self.bind(tools=offered, **({"tool_choice": choice} if choice else {}), **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Method = "json_schema",
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Answers of a fixed shape. The schema is enforced while decoding, so even a small model keeps to it.

        Args:
            schema: a pydantic class, a `TypedDict`, or a JSON schema.
            include_raw: return `{"raw", "parsed", "parsing_error"}`.
            method: `json_schema` (a grammar), `function_calling`, `json_mode` (any JSON object).
            **kwargs: `strict` is accepted and always true.
        """
        kwargs.pop("strict", None)
        if kwargs:
            raise ModelError(f"unknown argument {sorted(kwargs)}", where="with_structured_output")
        return structured_output(self, schema, method=method, include_raw=include_raw)

    # The calls LangChain makes

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        bodies, engine = self._bodies(messages, stop, kwargs), self.engine
        engine.start()  # loading is not the call's time
        replies, deadline = [], self._deadline(kwargs)
        for body in bodies:
            reply = Reply()
            with closing(engine.events(body, deadline)) as events:
                for event in events:
                    reply.add(event)
            replies.append(reply)
        return chat_result(replies, self.model_name, _names(kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        bodies, engine = self._bodies(messages, stop, kwargs), await self._aengine()
        await engine.astart()
        replies, deadline = [], self._deadline(kwargs)
        for body in bodies:
            reply = Reply()
            async with aclosing(engine.aevents(body, deadline)) as events:
                async for event in events:
                    reply.add(event)
            replies.append(reply)
        return chat_result(replies, self.model_name, _names(kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        reply = Reply()
        (body,) = self._bodies(messages, stop, {**kwargs, "n": 1})
        engine = self.engine
        engine.start()
        with closing(engine.events(body, self._deadline(kwargs))) as events:
            for event in events:
                reply.add(event)
                if (chunk := chunk_of(event)) is not None:
                    yield chunk
        yield last_chunk(reply, self.model_name)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        reply = Reply()
        (body,) = self._bodies(messages, stop, {**kwargs, "n": 1})
        engine = await self._aengine()
        await engine.astart()
        async with aclosing(engine.aevents(body, self._deadline(kwargs))) as events:
            async for event in events:
                reply.add(event)
                if (chunk := chunk_of(event)) is not None:
                    yield chunk
        yield last_chunk(reply, self.model_name)

    def _streaming_disabled(self, **kwargs: Any) -> bool:
        # A stream has one answer. Without this, a streaming callback would silently turn n samples into one.
        # A tool call is known as such only when it is complete.
        several = Limits.read(kwargs, default=None, where=self.model_name).n > 1
        return several or bool(kwargs.get("tools")) or super()._streaming_disabled(**kwargs)

    def _bodies(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """The requests of one call: more samples than the engine decodes together take turns."""
        limits = Limits.read(kwargs, default=self.max_tokens, where=self.model_name)
        params = without_caps(
            {**self._defaults(), **kwargs, "extra_body": without_caps(kwargs.get("extra_body") or {})}
        )
        params["max_tokens"] = limits.max_tokens
        params["stop"] = stop or params.get("stop")
        if not messages:
            raise ModelError("there is no message to answer", where=self.model_name)
        bodies = []
        for first in range(0, limits.n, self.parallel):
            n = min(self.parallel, limits.n - first)
            seed = None if params.get("seed") is None else params["seed"] + first
            bodies.append(request_body(messages, {**params, "seed": seed, "n": n}))
        return bodies

    def _defaults(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SAMPLING}

    def _deadline(self, kwargs: Mapping[str, Any]) -> Deadline:
        value = kwargs.get("timeout", self.timeout)
        return Deadline.after(None if value is None else float(value))

    async def _aengine(self) -> EmbeddedEngine:
        """Finding the weights may download and hash; that is not done on the event loop."""
        if self._hold.engine is None:
            await asyncio.to_thread(getattr, self, "engine")
        return self.engine

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = PROVIDER
        params["ls_model_name"] = str(kwargs.get("model") or self.model_name)
        return params

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return combined_outputs(llm_outputs)

    @property
    def _llm_type(self) -> str:
        return "tta-embedded"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "context": self.context, **self._defaults()}


def create_embedded_model(
    name_or_path: str | Path = DEFAULT_WEIGHTS,
    *,
    context: int = 16_384,
    parallel: int = 16,
    threads: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> EmbeddedChatModel:
    """A chat model that runs here. The first call fetches the weights if they are not in the cache yet.

    Args:
        name_or_path: a name in `WEIGHTS`, the path of a `.gguf` file, or its address.
        context: key-value cache shared by all requests in flight (tokens).
        parallel: sequences decoded together.
        threads: compute threads; None chooses.
        progress: told about the download.
        **options: other fields of `EmbeddedChatModel`, such as `temperature` or `max_tokens`.

    Raises:
        ModelError: an unknown option, or one that cannot be right.

    Example:
        >>> model = create_embedded_model("qwen2.5-coder-0.5b", temperature=0.8)
        >>> model.temperature
        0.8
    """
    try:
        return EmbeddedChatModel(
            model=str(name_or_path),
            context=context,
            parallel=parallel,
            threads=threads,
            progress=progress,
            **options,
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{field}: {first['msg']}", where="create_embedded_model") from error


def _names(kwargs: Mapping[str, Any]) -> list[str]:
    return [openai_tool(tool)["function"]["name"] for tool in kwargs.get("tools") or ()]


_SAMPLING: Final = ("temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "stop")
