"""A scripted OpenAI-compatible server whose log is the ground truth for what was spent."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tta_langgraph.testing.completion import ChatCompletion
from tta_langgraph.testing.http import Connection, Exchange
from tta_langgraph.testing.log import LoggedRequest
from tta_langgraph.testing.replies import Script, ScriptReader
from tta_langgraph.testing.tokens import count_prompt_tokens, tokenize


class ScriptedServer:
    """Serves `/v1/chat/completions`, `/v1/models` and vLLM's `/tokenize` on a free port of 127.0.0.1.

    Runs in a thread of its own, so that sync and async clients, and clients that block, are served alike. It
    honours `max_tokens`, `max_completion_tokens`, `n`, `stop`, `stream`, `stream_options.include_usage` and
    `logprobs`, notices clients that leave, and logs every token it produces.

    Args:
        script: what to answer: a list used up in order, a mapping from substrings of the last message, a
            function of the request, or None for deterministic filler of 16 to 64 tokens.
        latency: seconds until the first token, unless the reply says otherwise.
        stream_interval: seconds between two tokens of a choice, unless the reply says otherwise.
        model: name of the served model.
        max_model_len: context length, tokens; a longer prompt is refused with status 400, as vLLM does.
        tokenize_endpoint: whether `/tokenize` exists.
        tokenize_latency: seconds until `/tokenize` answers.
        half_open: goes on writing to a client that has shut its half of the connection, as servers on blocking
            sockets do; most take it for one that has left.

    Example:
        >>> import httpx
        >>> with ScriptedServer(["SELECT 1"]) as server:
        ...     reply = httpx.post(
        ...         f"{server.base_url}/chat/completions",
        ...         json={"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
        ...     )
        >>> server.completion_tokens
        2
    """

    def __init__(
        self,
        script: Script = None,
        *,
        latency: float = 0.0,
        stream_interval: float = 0.0,
        model: str = "scripted",
        max_model_len: int = 32_768,
        tokenize_endpoint: bool = True,
        tokenize_latency: float = 0.0,
        half_open: bool = False,
    ) -> None:
        self.latency = latency
        """Seconds until the first token."""
        self.stream_interval = stream_interval
        """Seconds between two tokens of a choice."""
        self.model = model
        """Name of the served model."""
        self.max_model_len = max_model_len
        """Context length, tokens."""
        self.tokenize_endpoint = tokenize_endpoint
        """Whether `/tokenize` exists."""
        self.tokenize_latency = tokenize_latency
        """Seconds until `/tokenize` answers."""
        self.half_open = half_open
        """Whether it goes on writing to a client that has shut its half of the connection."""
        self.port = 0
        """Port it listens on; 0 while it does not run."""
        self.peak_in_flight = 0
        """Most chat completions that were open at once."""
        self._script = ScriptReader(script)
        self._log: list[LoggedRequest] = []
        self._in_flight = 0
        self._connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # What happened

    @property
    def log(self) -> list[LoggedRequest]:
        """Every chat completion so far, in order of arrival."""
        return list(self._log)

    @property
    def requests(self) -> int:
        """Chat completions that arrived."""
        return len(self._log)

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens processed."""
        return sum(request.prompt_tokens for request in self._log)

    @property
    def completion_tokens(self) -> int:
        """Completion tokens produced."""
        return sum(request.completion_tokens for request in self._log)

    @property
    def total(self) -> int:
        """Tokens processed and produced."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def disconnects(self) -> int:
        """Chat completions whose client left before their end."""
        return sum(request.status == "disconnected" for request in self._log)

    @property
    def in_flight(self) -> int:
        """Chat completions that are open now."""
        return self._in_flight

    # What to do

    @property
    def base_url(self) -> str:
        """Address for OpenAI clients, ending in `/v1`."""
        return f"http://127.0.0.1:{self.port}/v1"

    def use(self, script: Script) -> None:
        """Replaces the script for the requests to come."""
        self._script = ScriptReader(script)

    def reset(self) -> None:
        """Forgets the log, between two scenarios on one server.

        Raises:
            RuntimeError: a request is still open.
        """
        if self.in_flight:
            raise RuntimeError(f"{self.in_flight} requests are still open; wait for them before reset()")
        self._log.clear()
        self.peak_in_flight = 0

    def wait_for(self, condition: Callable[[ScriptedServer], bool], *, timeout: float = 5.0) -> None:
        """Waits until the log says so, say `lambda s: s.disconnects == 1`. Blocks the calling thread.

        Args:
            condition: what to wait for.
            timeout: seconds.

        Raises:
            TimeoutError: it did not happen in time; the message shows the log's state.
        """
        end = time.monotonic() + timeout
        while not condition(self):
            if time.monotonic() > end:
                states = [(request.index, request.status, request.tokens) for request in self._log]
                raise TimeoutError(f"not within {timeout:g} s; the log has {states}")
            time.sleep(0.001)

    # Running

    def start(self) -> Self:
        """Starts the server and returns it once it listens."""
        if self._thread is not None:
            raise RuntimeError("the scripted server runs already")
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(ready)), name="scripted-server", daemon=True
        )
        self._thread.start()
        if not ready.wait(60):
            raise RuntimeError("the scripted server did not start within 60 s")
        return self

    def stop(self) -> None:
        """Stops the server, drops its connections, and joins its thread."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread, self._loop, self.port = None, None, 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    async def _run(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        listener = await self._loop.create_server(
            lambda: Connection(self._handle, self._connections, half_open=self.half_open), "127.0.0.1", 0, backlog=1024
        )
        self.port = listener.sockets[0].getsockname()[1]
        ready.set()
        await self._stopping.wait()
        listener.close()
        await asyncio.gather(*(connection.stop() for connection in list(self._connections)))

    async def _handle(self, exchange: Exchange) -> None:
        match exchange.method, exchange.path.removeprefix("/openai").removeprefix("/v1"):  # the former: Groq
            case "POST", "/chat/completions":
                await ChatCompletion(self, exchange).answer()
            case "GET", "/models":
                exchange.respond_json(200, {"object": "list", "data": [self._model_card()]})
            case "POST", "/tokenize" if self.tokenize_endpoint:
                await asyncio.sleep(self.tokenize_latency)
                self._tokenize(exchange)
            case "GET", "/health":
                exchange.respond(200, b"", "text/plain")
            case method, _:
                exchange.respond_json(404, {"detail": f"no {method} {exchange.path} here"})

    def _model_card(self) -> dict[str, Any]:
        return {
            "id": self.model,
            "object": "model",
            "created": 0,
            "owned_by": "scripted",
            "max_model_len": self.max_model_len,
        }

    def _tokenize(self, exchange: Exchange) -> None:
        body = exchange.json_body()
        if "messages" in body:
            count = count_prompt_tokens(body["messages"], body.get("tools"))
        else:
            count = len(tokenize(body.get("prompt", "")))
        exchange.respond_json(
            200,
            {
                "count": count,
                "max_model_len": self.max_model_len,
                "tokens": list(range(count)),
                "token_strs": None,
            },
        )

    # What a chat completion needs of its server

    def admit(self, request: LoggedRequest) -> None:
        """Enters a request into the log."""
        request.index = len(self._log)
        self._log.append(request)
        self._in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self._in_flight)

    def release(self) -> None:
        """Notes that a request has ended."""
        self._in_flight -= 1

    @property
    def script(self) -> ScriptReader:
        """What answers the requests."""
        return self._script
