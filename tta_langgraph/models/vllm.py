"""`ChatVLLM`: a LangChain chat model on a vLLM engine inside this process.

Example:
    ```python
    from tta_langgraph.models.vllm import ChatVLLM

    model = ChatVLLM(model="Qwen/Qwen2.5-Coder-7B-Instruct", max_tokens=256)
    samples = model.generate([["How many singers are there?"]], n=8, temperature=0.8)  # one request, one prefill
    model.close()
    ```
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from tta_langgraph.errors import ModelError
from tta_langgraph.models.errors import ContextOverflowError
from tta_langgraph.models.json_schema import openai_tool
from tta_langgraph.models.llm_output import combined_outputs
from tta_langgraph.models.structured import Method, structured_output
from tta_langgraph.models.tool_choice import choice_of
from tta_langgraph.models.vllm_bridge import aoutputs, outputs, wait
from tta_langgraph.models.vllm_engine import Engine
from tta_langgraph.models.vllm_lease import EngineLease
from tta_langgraph.models.vllm_manifest import engine_manifest
from tta_langgraph.models.vllm_output import OutputReader, StreamReader
from tta_langgraph.models.vllm_params import CallOptions, sampling_params
from tta_langgraph.models.vllm_prompt import PromptBuilder
from tta_langgraph.models.vllm_sources import merged_options
from tta_langgraph.models.vllm_stats import EngineStats

__all__ = ["ChatVLLM"]


class ChatVLLM(BaseChatModel):
    """A chat model on vLLM's async engine in this process, usable from any thread and any event loop.

    The engine starts at the first call (or at `start`), takes tens of seconds, and is shared by every `ChatVLLM`
    with the same model and `engine_kwargs`. vllm is imported only then.

    Each field below that is an option of sampling can be given per call too, by `bind` or as a keyword argument,
    with the names of OpenAI's API and vLLM's own: `n`, `stop`, `max_tokens`, `logprobs`, `top_logprobs`,
    `response_format`, `structured_outputs`, `min_tokens`, `ignore_eos`, `chat_template_kwargs`, `timeout`, ...;
    `extra_body` is unpacked, so that a call written for a vLLM server works here unchanged. Of several completion
    caps in a call and in `model_kwargs` the smallest holds; different numbers of samples are refused. With
    `continue_final_message=True` the text of a final `AIMessage` is continued, and the answer is what follows it.

    Cancelling the calling task, closing a stream or running into `timeout` aborts the request in the engine.

    Raises:
        ModelError: on a call: vllm is missing, the engine does not start, an unknown option.
        ContextOverflowError: the prompt does not fit the window; nothing was sent.
        ModelTimeoutError: `timeout` passed; the request was aborted.
    """

    model: str = Field(alias="model_name")
    """Folder or hub name of the weights."""
    temperature: float | None = None
    """Sampling temperature; None: what the model's generation config recommends, else 1."""
    top_p: float | None = None
    """Nucleus sampling: smallest set of tokens with this total probability."""
    max_tokens: int | None = None
    """Completion cap in tokens per sample; None: what the window leaves."""
    n: int = 1
    """Samples per call, drawn in one request that computes the prompt once."""
    seed: int | None = None
    """Seed of the sampling; sample i of a call uses seed + i."""
    stop: list[str] | None = Field(default=None, alias="stop_sequences")
    """Strings that end the answer; they are not part of it."""
    logprobs: bool = False
    """Report log-probabilities: `response_metadata["logprobs"]["content"]` as OpenAI does, and
    `response_metadata["logprob_stats"]`."""
    top_logprobs: int | None = None
    """Alternatives to report per token (the engine allows 20 unless told otherwise)."""
    timeout: float | None = None
    """Seconds after which a call is aborted."""
    streaming: bool = False
    """Stream from the engine even when the caller does not ask for a stream."""
    max_retries: int = 0
    """Accepted to be interchangeable with models behind a network; there is nothing to retry in a process."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Further options sent with every call."""
    chat_template: str | None = None
    """A Jinja template that replaces the model's own."""
    tool_parser: str = "hermes"
    """How the model writes tool calls: `hermes` (Qwen, Hermes), or any name of vLLM's tool parsers."""
    engine_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of vLLM's `AsyncEngineArgs`: `max_model_len`, `gpu_memory_utilization`, `dtype`, ..."""

    prefix_caching: ClassVar[bool] = True
    """Prompts that begin alike are read once; forecasts of latency count on it."""
    supports_timeout: ClassVar[bool] = True
    """Tells the meter that `timeout` per call is honoured by aborting the request."""
    supported_options: ClassVar[frozenset[str]] = frozenset(
        {"logprobs", "top_logprobs", "seed", "response_format", "extra_body", "min_p", "top_k", "ignore_eos"}
    )
    """Tells the meter which of the rarer options may be passed."""

    _lease: EngineLease = PrivateAttr()

    model_config = ConfigDict(populate_by_name=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="after")
    def _make_lease(self) -> Self:
        return self._with_own_lease()

    def _with_own_lease(self) -> Self:
        self._lease = EngineLease(self.model, self.engine_kwargs)
        return self

    # A copy starts or shares the engine at its own first call, and closing it leaves the original's hold alone.
    # Deep copies and pickles get a new lease by themselves.

    def __copy__(self) -> Self:
        return super().__copy__()._with_own_lease()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's; the copy has a hold of its own on the engine of its own settings."""
        return super().model_copy(update=update, deep=deep)._with_own_lease()

    # --- the engine -------------------------------------------------------------------------------------------

    def start(self) -> ChatVLLM:
        """Starts the engine now (tens of seconds) instead of at the first call."""
        self._ready()
        return self

    async def astart(self) -> ChatVLLM:
        """Starts the engine now, without blocking the event loop."""
        await self._aready()
        return self

    def close(self) -> None:
        """Lets go of the engine; it shuts down when no other `ChatVLLM` holds it. A later call starts it again.

        So does the garbage collector, in the background, some time after the last reference to the model is gone.
        """
        self._lease.release()

    async def aclose(self) -> None:
        """As `close`, without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> ChatVLLM:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def engine_stats(self) -> EngineStats:
        """The engine's own counters: sequences running, tokens processed, finish reasons."""
        return self._ready()[0].stats()

    def manifest(self) -> dict[str, Any]:
        """What answers: engine and version, weights, dtype, attention backend, caching, template hash."""
        engine, prompts, _ = self._ready()
        return engine_manifest(engine, template_sha256=prompts.template_sha256)

    # --- counting ---------------------------------------------------------------------------------------------

    def count_prompt_tokens(self, messages: LanguageModelInput, **kwargs: Any) -> int:
        """Prompt tokens the call with these messages and options will use: exactly, not about.

        Args:
            messages: what would be passed to `invoke`.
            kwargs: options of the call; `tools`, `continue_final_message` and `chat_template_kwargs` matter.
        """
        engine, prompts, _ = self._ready()
        return len(self._prompt(engine, prompts, self._messages(messages), self._options(kwargs), fit=False))

    async def acount_prompt_tokens(self, messages: LanguageModelInput, **kwargs: Any) -> int:
        """As `count_prompt_tokens`; the first call may start the engine."""
        engine, prompts, _ = await self._aready()
        return len(self._prompt(engine, prompts, self._messages(messages), self._options(kwargs), fit=False))

    def count_text(self, text: str) -> int:
        """Tokens of a text by itself, without any template."""
        return len(self._ready()[1].encode(text))

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids of a text by itself."""
        return list(self._ready()[1].encode(text))

    def get_num_tokens_from_messages(self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """LangChain's name for `count_prompt_tokens`."""
        converted = [openai_tool(tool) for tool in tools] if tools else None
        return self.count_prompt_tokens(list(messages), tools=converted)

    # --- binding ----------------------------------------------------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Shows tools to the model.

        Args:
            tools: anything LangChain takes for a tool.
            tool_choice: `auto` (default); `any`, `required` or True to force a call; a name to force that tool;
                `none`; or one of these as the dictionary of OpenAI or Anthropic. A forced call is made by guided
                decoding, so its arguments follow the schema.
            kwargs: further options, such as `parallel_tool_calls=False`.
        """
        converted = [openai_tool(tool) for tool in tools]
        choice = choice_of(tool_choice, [tool["function"]["name"] for tool in converted])
        return super().bind(tools=converted, **({"tool_choice": choice} if choice else {}), **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        include_raw: bool = False,
        method: Method = "json_schema",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """An answer that follows a schema, by vLLM's guided decoding.

        Args:
            schema: a pydantic class, TypedDict, JSON schema or OpenAI function.
            include_raw: return `{"raw", "parsed", "parsing_error"}` instead of raising on a bad answer.
            method: constrain to the schema, force a tool call, or only to a JSON object.
            strict: accepted for compatibility; guided decoding is always strict.
            kwargs: unused, refused.

        Raises:
            ModelError: an unknown method or argument, or no schema.
        """
        if kwargs:
            raise ModelError(f"unknown argument {sorted(kwargs)}", where="with_structured_output")
        return structured_output(self, schema, method=method, include_raw=include_raw)

    # --- LangChain's side -------------------------------------------------------------------------------------

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return combined_outputs(llm_outputs)

    @property
    def _llm_type(self) -> str:
        return "vllm-engine"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        # What LangChain's cache knows an answer by.
        form = {"chat_template": self.chat_template, "tool_parser": self.tool_parser}
        return {"model": self.model, **self._merged({}), **form, "engine_kwargs": self.engine_kwargs}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = "vllm"
        params["ls_model_name"] = kwargs.get("model", self.model)
        return params

    def _should_stream(self, *, async_api: bool, run_manager: Any = None, **kwargs: Any) -> bool:
        # LangGraph's "messages" mode turns calls into streams, and a stream has one sample. Whoever asks for a
        # stream of several gets the error of `_submit`.
        if not kwargs.get("stream") and self._samples(kwargs) > 1:
            return False
        return super()._should_stream(async_api=async_api, run_manager=run_manager, **kwargs)

    def _should_use_protocol_streaming(self, *, async_api: bool, run_manager: Any = None, **kwargs: Any) -> bool:
        if self._samples(kwargs) > 1:
            return False
        return super()._should_use_protocol_streaming(async_api=async_api, run_manager=run_manager, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        options = self._options(kwargs, stop)
        ready = self._ready()
        output = wait(self._submit(ready, messages, options))
        return ready[2].result(output, options)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        options = self._options(kwargs, stop)
        ready = await self._aready()
        output = await asyncio.wrap_future(self._submit(ready, messages, options))
        return ready[2].result(output, options)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        options = self._options(kwargs, stop)
        ready = self._ready()
        reader = StreamReader(ready[2], options)
        with contextlib.closing(outputs(lambda emit: self._submit(ready, messages, options, emit))) as arriving:
            for chunk in (chunk for output in arriving for chunk in reader.chunks(output)):
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        options = self._options(kwargs, stop)
        ready = await self._aready()
        reader = StreamReader(ready[2], options)
        arriving = aoutputs(lambda emit: self._submit(ready, messages, options, emit))
        async with contextlib.aclosing(arriving):
            async for output in arriving:
                for chunk in reader.chunks(output):
                    if run_manager:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    # --- one call ---------------------------------------------------------------------------------------------

    def _submit(
        self,
        ready: tuple[Engine, PromptBuilder, OutputReader],
        messages: Sequence[BaseMessage],
        options: CallOptions,
        emit: Callable[[Any], None] | None = None,
    ) -> concurrent.futures.Future[Any]:
        engine, prompts, _ = ready
        if emit is not None and options.n > 1:
            raise ModelError("a stream has one sample", where="n", remedy="Use invoke or generate for n > 1")
        prompt = self._prompt(engine, prompts, messages, options)
        room = engine.max_model_len - len(prompt)
        params = sampling_params(options, engine.default_sampling(), room, stream=emit is not None)
        return engine.submit(
            engine.generate(prompt, params, timeout=options.timeout, priority=options.priority, emit=emit)
        )

    def _prompt(
        self,
        engine: Engine,
        prompts: PromptBuilder,
        messages: Sequence[BaseMessage],
        options: CallOptions,
        *,
        fit: bool = True,
    ) -> tuple[int, ...]:
        token_ids = prompts.token_ids(
            messages,
            tools=options.tools,
            continue_final_message=options.continue_final_message,
            template_kwargs=options.template_kwargs,
        )
        if fit and len(token_ids) >= engine.max_model_len:
            raise ContextOverflowError(len(token_ids), engine.max_model_len, self.model)
        return token_ids

    def _options(self, kwargs: dict[str, Any], stop: list[str] | None = None) -> CallOptions:
        return CallOptions.read(self._merged(kwargs | ({"stop": stop} if stop else {})), model=self.model)

    def _samples(self, kwargs: Mapping[str, Any]) -> int:
        return int(self._merged(kwargs).get("n") or 1)

    def _merged(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in _CALL_FIELDS if getattr(self, name) is not None}
        return merged_options(self.model_kwargs, kwargs, defaults=own)

    def _messages(self, messages: LanguageModelInput) -> list[BaseMessage]:
        return self._convert_input(messages).to_messages()

    def _ready(self) -> tuple[Engine, PromptBuilder, OutputReader]:
        return self._with(self._lease.engine())

    async def _aready(self) -> tuple[Engine, PromptBuilder, OutputReader]:
        engine = self._lease.running()
        if engine is None:
            engine = await asyncio.to_thread(self._lease.engine)
        return self._with(engine)

    def _with(self, engine: Engine) -> tuple[Engine, PromptBuilder, OutputReader]:
        made: tuple[Engine, PromptBuilder, OutputReader] | None = self._lease.tools
        if made is None or made[0] is not engine:
            prompts = PromptBuilder(engine.tokenizer, where=self.model, chat_template=self.chat_template)
            reader = OutputReader(model=self.model, tokenizer=engine.tokenizer, tool_parser=self.tool_parser)
            self._lease.tools = made = (engine, prompts, reader)
        return made


_CALL_FIELDS = (
    *("temperature", "top_p", "max_tokens", "n", "seed", "stop"),
    *("logprobs", "top_logprobs", "timeout"),
)
