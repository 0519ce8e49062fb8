"""llama.cpp's server inside this process, reached over a private loopback port.

The server gives what a binding to the library does not: continuous batching, `n` samples that share one
prefill, a prefix cache, and a request that stops generating as soon as its connection is closed.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from tta_langgraph.errors import ModelError
from tta_langgraph.models.counting_text import CountCache
from tta_langgraph.models.embedded_limits import Deadline
from tta_langgraph.models.errors import ContextOverflowError, ModelTimeoutError, WeightsError

Body = Mapping[str, Any]
"""A request in the OpenAI chat-completions shape."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What makes two engines the same engine."""

    path: Path
    """The GGUF file."""
    context: int
    """Size of the key-value cache, shared by all requests in flight (tokens)."""
    parallel: int
    """Sequences decoded together."""
    threads: int | None
    """Compute threads; None leaves the choice to llama.cpp, or takes the cores this process may use."""


class EmbeddedEngine:
    """One loaded model. Starts on first use, can be closed and starts again when it is needed again.

    Thread-safe. After a fork the child starts an engine of its own.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        """What was asked for."""
        self._lock = threading.Lock()
        self._server: Any = None
        self._address = ""
        self._key = ""
        self._pid = 0
        self._client: httpx.Client | None = None

    @property
    def name(self) -> str:
        """How errors call this model."""
        return self.settings.path.name

    @property
    def running(self) -> bool:
        """Whether the model is loaded in this process."""
        return self._server is not None and self._pid == os.getpid()

    def start(self) -> None:
        """Loads the model unless it is loaded.

        Raises:
            ModelError: xllamacpp is not installed.
            WeightsError: the file cannot be loaded.
        """
        with self._lock:
            if self.running:
                return
            started = time.monotonic()
            self._key = secrets.token_urlsafe(24)
            self._server = _start_server(self.settings, self._key)
            self._address = self._server.listening_address
            self._pid = os.getpid()
            self._client = httpx.Client(timeout=_QUICK, **self._connection())
            _ENGINES.add(self)
            logger.info("loaded %s in %.1f s", self.name, time.monotonic() - started)

    def close(self) -> None:
        """Stops the engine and frees its memory; the next request starts it again."""
        with self._lock:
            server, self._server = self._server, None
            client, self._client = self._client, None
            if client is not None:
                client.close()
            del server  # its destructor stops the loop and joins the threads

    def post(self, route: str, body: Body) -> dict[str, Any]:
        """A quick request: counting, tokenising. Not for generation."""
        self.start()
        client = self._client
        assert client is not None
        with self._translated(None):
            reply = client.post(route, json=body)
        return self._checked(reply)

    async def apost(self, route: str, body: Body) -> dict[str, Any]:
        """The same without blocking the event loop."""
        await self.astart()
        # A client of its own per request: kept-alive connections would belong to one event loop.
        async with httpx.AsyncClient(timeout=_QUICK, **self._connection()) as client:
            with self._translated(None):
                reply = await client.post(route, json=body)
        return self._checked(reply)

    async def astart(self) -> None:
        """`start` on another thread, so that the event loop goes on while the model loads."""
        if not self.running:
            await asyncio.to_thread(self.start)

    def events(self, body: Body, deadline: Deadline) -> Generator[dict[str, Any]]:
        """Generates; yields the server's events as they come. Closing the iterator stops the generation.

        Args:
            body: the request; `stream` is set here.
            deadline: when the call, of which this request may be a part, must have ended.

        Raises:
            ModelTimeoutError: it took longer.
            ContextOverflowError: the prompt does not fit.
            ModelError: the server refused or broke off.
        """
        self.start()
        if (left := deadline.left) == 0:
            raise self._late(deadline.seconds)
        patience = httpx.Timeout(None, read=left, connect=_QUICK)
        with (
            self._translated(deadline.seconds),
            httpx.Client(timeout=patience, **self._connection()) as client,
            client.stream("POST", _CHAT, json=_streamed(body)) as reply,
        ):
            if reply.status_code != 200:
                reply.read()
                self._checked(reply)
            for line in reply.iter_lines():
                if deadline.passed:
                    raise self._late(deadline.seconds)
                if (event := self._event(line)) is not None:
                    yield event

    async def aevents(self, body: Body, deadline: Deadline) -> AsyncGenerator[dict[str, Any]]:
        """`events` for an event loop; cancelling the task stops the generation."""
        await self.astart()
        if deadline.passed:
            raise self._late(deadline.seconds)
        async with httpx.AsyncClient(timeout=httpx.Timeout(None), **self._connection()) as client:
            request = client.build_request("POST", _CHAT, json=_streamed(body))
            reply = await self._before(deadline, client.send(request, stream=True))
            try:
                if reply.status_code != 200:
                    await self._before(deadline, reply.aread())
                    self._checked(reply)
                lines = reply.aiter_lines()
                while (line := await self._before(deadline, anext(lines, None))) is not None:
                    if (event := self._event(line)) is not None:
                        yield event
            finally:
                await reply.aclose()

    async def _before(self, deadline: Deadline, step: Awaitable[T]) -> T:
        """Awaits one step. The timeout must not span a `yield`: it would cancel whatever the consumer awaits."""
        try:
            async with asyncio.timeout(deadline.left):
                with self._translated(deadline.seconds):
                    return await step
        except ModelTimeoutError:
            raise
        except TimeoutError as error:
            raise self._late(deadline.seconds) from error

    def metrics(self) -> dict[str, float]:
        """The engine's own counters since it was started, e.g. `tokens_predicted_total`."""
        self.start()
        assert self._client is not None
        text = self._client.get("/metrics").text
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {key.removeprefix("llamacpp:"): float(value) for key, value in pairs}

    def properties(self) -> dict[str, Any]:
        """What the server says about the loaded model."""
        self.start()
        assert self._client is not None
        return self._checked(self._client.get("/props"))

    def _connection(self) -> dict[str, Any]:
        # trust_env=False: a proxy of the environment must not see, or swallow, loopback requests.
        headers = {"Authorization": f"Bearer {self._key}"}
        return {"base_url": self._address, "headers": headers, "trust_env": False, "verify": False}

    def _event(self, line: str) -> dict[str, Any] | None:
        """One line of the event stream, or None for separators, keep-alives and the end mark."""
        kind, _, data = line.partition(": ")
        if kind not in ("data", "error") or data == "[DONE]":
            return None
        event: dict[str, Any] = json.loads(data)
        if kind == "error" or "error" in event:
            raise self._refusal(event.get("error", event))
        return event

    def _checked(self, reply: httpx.Response) -> dict[str, Any]:
        try:
            content = reply.json()
        except ValueError as error:
            raise ModelError(f"the engine answered HTTP {reply.status_code}", where=self.name) from error
        if reply.status_code != 200:
            raise self._refusal(content.get("error", {}))
        return dict(content)

    def _refusal(self, error: Mapping[str, Any]) -> ModelError:
        message = str(error.get("message", "no reason given"))
        kind = str(error.get("type", ""))
        if kind == "exceed_context_size_error":
            return ContextOverflowError(error.get("n_prompt_tokens"), error.get("n_ctx"), self.name)
        remedy = "Check the arguments of the call" if kind == "invalid_request_error" else None
        if _FULL in message.lower():  # after work was done, so this is no ContextOverflowError, which costs nothing
            remedy = (
                f"All samples of all calls at one time share a window of {self.settings.context:,} tokens: "
                "raise `context`, or lower max_tokens or n"
            )
        return ModelError(f"the engine refused: {message}", where=self.name, remedy=remedy)

    def _late(self, timeout: float | None) -> ModelTimeoutError:
        return ModelTimeoutError(
            f"no complete answer within {timeout:g} s" if timeout is not None else "timed out",
            where=self.name,
        )

    @contextmanager
    def _translated(self, timeout: float | None) -> Iterator[None]:
        """Turns transport errors into errors of this package."""
        try:
            yield
        except httpx.TimeoutException as error:
            raise self._late(timeout) from error
        except httpx.HTTPError as error:
            raise ModelError(
                f"the engine broke off: {error or type(error).__name__}",
                where=self.name,
                remedy="It was closed while a request was running, or it ran out of memory",
            ) from error


class EngineHold:
    """What one model has of its engine: the engine itself and the counts it gave. A copy or a pickle holds nothing."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held while the engine is looked for."""
        self.engine: EmbeddedEngine | None = None
        """The engine, once it was needed."""
        self.counts = CountCache()
        """Token counts by content."""

    def __reduce__(self) -> tuple[type[EngineHold], tuple[()]]:
        return type(self), ()


def shared_engine(settings: EngineSettings) -> EmbeddedEngine:
    """The engine for these settings: models that ask for the same weights share one copy in memory."""
    with _SHARED_LOCK:
        engine = _SHARED.get(settings)
        if engine is None:
            engine = _SHARED[settings] = EmbeddedEngine(settings)
        return engine


def usable_cores() -> int | None:
    """Cores this process may use when the machine has more (affinity, container quota), else None.

    llama.cpp spins while it waits, so one thread too many in a container costs more than one too few.
    """
    total = os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return cores if cores < total else None


def load_xllamacpp() -> Any:
    """Imports the engine with OpenMP told to sleep, not to spin, while a thread waits for the others.

    The default spin makes a busy machine useless: with other work on the same two cores, decoding ran at 1.0
    tokens a second, and at 8.0 with this. libgomp reads the variable once, when it is loaded.

    Raises:
        ModelError: xllamacpp is not installed.
    """
    chosen_by_user = any(key in os.environ for key in _SPIN_VARIABLES)
    if not chosen_by_user:
        os.environ[_SPIN_VARIABLES[0]] = "0"
    try:
        import xllamacpp  # type: ignore[import-untyped]
    except ImportError as error:
        raise ModelError(
            "the embedded model needs the package xllamacpp",
            remedy="Install the extra: pip install 'tta-langgraph[local]'",
        ) from error
    finally:
        if not chosen_by_user:
            del os.environ[_SPIN_VARIABLES[0]]
    return xllamacpp


def _start_server(settings: EngineSettings, key: str) -> Any:
    xllamacpp = load_xllamacpp()
    params = xllamacpp.CommonParams()
    params.model.path = str(settings.path)
    params.model_alias = {settings.path.stem}
    params.n_ctx = settings.context
    params.n_parallel = settings.parallel
    params.kv_unified = True  # one pool: a request may use all of it, samples of one prompt share its cells
    params.cache_ram_mib = _PREFIX_CACHE_MIB
    threads = settings.threads or usable_cores()
    if threads is not None:
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.cors_origins = "http://127.0.0.1"
    params.ui = False
    params.endpoint_metrics = True
    params.n_threads_http = _HTTP_THREADS
    params.verbosity = 3 if logger.isEnabledFor(logging.DEBUG) else -1
    try:
        return xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(
            "the model could not be loaded",
            where=str(settings.path),
            remedy="The file may be damaged or of an unknown architecture, or memory is short; "
            f"set the logger {__name__!r} to DEBUG to see what llama.cpp says",
        ) from error


def _streamed(body: Body) -> dict[str, Any]:
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


@atexit.register
def _close_all() -> None:
    """Threads of C++ must end before the interpreter does."""
    for engine in list(_ENGINES):
        if engine.running:
            engine.close()


_FULL: Final = "context size has been exceeded"
_CHAT: Final = "/v1/chat/completions"
_QUICK: Final = 30.0
# Streams and counting calls hold a thread each; a count must not wait behind generations.
_HTTP_THREADS: Final = 64
_PREFIX_CACHE_MIB: Final = 1024
_SPIN_VARIABLES: Final = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
_ENGINES: Final[weakref.WeakSet[EmbeddedEngine]] = weakref.WeakSet()
_SHARED: Final[weakref.WeakValueDictionary[EngineSettings, EmbeddedEngine]] = weakref.WeakValueDictionary()
_SHARED_LOCK: Final = threading.Lock()
