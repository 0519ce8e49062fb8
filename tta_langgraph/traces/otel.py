"""OpenTelemetry spans and metrics of episodes, in the semantic conventions for generative AI. Needs the extra `otel`.

Example:
    ```python
    from tta_langgraph.traces.otel import instrument

    listener = instrument(provider="vllm")  # the global providers; every episode of this process
    ...
    listener.close()
    ```

One span per episode (`invoke_agent`), below it one per model call (`chat`) and per query (`execute_tool`), with an
event for each decision and retry. No question, prompt or answer is ever attached.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tta_langgraph import events
from tta_langgraph.budget import Charge
from tta_langgraph.errors import MissingPackageError

try:
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
except ImportError as error:  # pragma: no cover - exercised where the extra is not installed
    raise MissingPackageError(
        "OpenTelemetry is not installed",
        where="tta_langgraph.traces.otel",
        remedy="Install it with: pip install 'tta-langgraph[otel]'",
    ) from error


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    provider: str = "",
    model: str = "",
    idle_seconds: float = 300.0,
) -> TelemetryListener:
    """Reports every episode of this process, until the listener is closed.

    Args:
        tracer_provider: where spans go; the global one by default.
        meter_provider: where metrics go; the global one by default.
        provider: value of `gen_ai.provider.name`, e.g. `vllm` or `openai`.
        model: value of `gen_ai.request.model`.
        idle_seconds: an episode from which nothing was heard for so long counts as over.
    """
    listener = TelemetryListener(
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        provider=provider,
        model=model,
        idle_seconds=idle_seconds,
    )
    listener.unsubscribe = events.subscribe(listener)
    return listener


class TelemetryListener:
    """Turns the events of episodes into spans and metrics. Made by `instrument`; safe for threads."""

    unsubscribe: Callable[[], None] | None = None
    """Ends the subscription, or None if there is none."""

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        provider: str = "",
        model: str = "",
        idle_seconds: float = 300.0,
    ) -> None:
        self._tracer = trace.get_tracer("tta_langgraph", tracer_provider=tracer_provider)
        self._instruments = _Instruments(metrics.get_meter("tta_langgraph", meter_provider=meter_provider))
        self._common = {
            name: value
            for name, value in (("gen_ai.provider.name", provider), ("gen_ai.request.model", model))
            if value
        }
        self._idle = idle_seconds
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Episode] = OrderedDict()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Takes one event of `tta_langgraph.events`; unknown types are ignored."""
        kind = event.get("type")
        if kind == "charge" and isinstance(event.get("charge"), Charge):
            self._charge(event, event["charge"])
        elif kind == "decision":
            self._decision(event)
        elif kind == "retry":
            self._retry(event)
        elif kind == "end":
            self.end(str(event.get("episode", "")), stop_reason=str(event.get("stop_reason", "")))

    def end(self, episode: str, *, stop_reason: str = "") -> None:
        """Closes the span of an episode; called when its end is known, else it ends with its last event."""
        with self._lock:
            found = self._open.pop(episode, None)
        if found is not None:
            found.close(stop_reason)

    def close(self) -> None:
        """Stops listening and closes the spans of all episodes."""
        if self.unsubscribe is not None:
            self.unsubscribe()
            self.unsubscribe = None
        with self._lock:
            left, self._open = list(self._open.values()), OrderedDict()
        for episode in left:
            episode.close("")

    def __enter__(self) -> TelemetryListener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- events -------------------------------------------------------------------------------------------

    def _charge(self, event: Mapping[str, Any], charge: Charge) -> None:
        usage, calls_model = charge.usage, charge.usage.model_calls > 0
        until = charge.at or time.time()
        episode = self._episode(str(event.get("episode", "")), until - usage.seconds, until)
        failure = _failure(charge.note)
        shared = {**self._common, "gen_ai.operation.name": "chat" if calls_model else "execute_tool"}
        if failure:
            shared["error.type"] = failure
        attributes: dict[str, Any] = {**shared, "gen_ai.conversation.id": episode.id, "tta.source": charge.source}
        if calls_model:
            attributes["gen_ai.usage.input_tokens"] = usage.prompt_tokens
            attributes["gen_ai.usage.output_tokens"] = usage.completion_tokens
            attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
            attributes["tta.cost.usd"] = usage.usd
            name = " ".join(part for part in ("chat", self._common.get("gen_ai.request.model", "")) if part)
        else:
            attributes["gen_ai.tool.name"] = charge.source or "execute"
            name = f"execute_tool {charge.source or 'execute'}"
        if charge.estimated:
            attributes["tta.usage.estimated"] = True
        span = self._tracer.start_span(
            name,
            context=episode.context,
            kind=SpanKind.CLIENT if calls_model else SpanKind.INTERNAL,
            attributes=attributes,
            start_time=_nanoseconds(until - usage.seconds),
        )
        if failure:
            span.set_status(Status(StatusCode.ERROR, charge.note))
        span.end(_nanoseconds(until))
        episode.add(charge)
        self._instruments.charge(charge, {**shared, "tta.source": charge.source})
        self._instruments.left(event.get("remaining"), self._common)

    def _decision(self, event: Mapping[str, Any]) -> None:
        now = time.time()
        episode = self._episode(str(event.get("episode", "")), now, now)
        about = {
            "tta.action": str(event.get("action", "")),
            "tta.predictor": str(event.get("predictor", "")),
        }
        episode.span.add_event(
            "tta.decision",
            {
                **about,
                "tta.reason": str(event.get("reason", "")),
                "tta.n": int(event.get("n") or 1),
                "tta.p_correct": float(event.get("p_correct") or 0.0),
            },
        )
        self._instruments.decisions.add(1, {**self._common, **about})
        self._instruments.p_correct.record(float(event.get("p_correct") or 0.0), {**self._common, **about})

    def _retry(self, event: Mapping[str, Any]) -> None:
        now = time.time()
        episode = self._episode(str(event.get("episode", "")), now, now)
        error = str(event.get("error", ""))
        source = str(event.get("source", ""))
        episode.span.add_event("tta.retry", {"tta.source": source, "exception.message": error})
        kind = error.partition(":")[0] or "error"
        self._instruments.retries.add(1, {**self._common, "tta.source": source, "error.type": kind})

    # -- episodes -----------------------------------------------------------------------------------------

    def _episode(self, key: str, begin: float, end: float) -> _Episode:
        with self._lock:
            silent = [k for k, episode in self._open.items() if end - episode.last > self._idle and k != key]
            gone = [self._open.pop(k) for k in silent]
            episode = self._open.get(key)
            if episode is None:
                attributes = {**self._common, "gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": key}
                # A span of the caller's that is open right now becomes the parent.
                span = self._tracer.start_span(
                    "invoke_agent tta_langgraph", attributes=attributes, start_time=_nanoseconds(begin)
                )
                episode = self._open[key] = _Episode(
                    id=key, span=span, context=trace.set_span_in_context(span), last=end
                )
            episode.last = max(episode.last, end)
            self._open.move_to_end(key)
        for old in gone:
            old.close("")
        return episode


@dataclass
class _Episode:
    """An episode whose end has not been seen yet."""

    id: str
    span: Span
    context: Context
    last: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0

    def add(self, charge: Charge) -> None:
        self.prompt_tokens += charge.usage.prompt_tokens
        self.completion_tokens += charge.usage.completion_tokens
        self.usd += charge.usage.usd

    def close(self, stop_reason: str) -> None:
        self.span.set_attribute("gen_ai.usage.input_tokens", self.prompt_tokens)
        self.span.set_attribute("gen_ai.usage.output_tokens", self.completion_tokens)
        self.span.set_attribute("tta.cost.usd", self.usd)
        if stop_reason:
            self.span.set_attribute("tta.stop_reason", stop_reason)
        self.span.end(_nanoseconds(self.last))


class _Instruments:
    """The metrics. The two histograms of the conventions have the buckets that these recommend."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Tokens of one call",
            explicit_bucket_boundaries_advisory=[4**power for power in range(14)],
        )
        self.duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="Latency of one call or query",
            explicit_bucket_boundaries_advisory=[0.01 * 2**power for power in range(14)],
        )
        self.cached = meter.create_counter(
            "tta.cached_tokens", unit="{token}", description="Prompt tokens from a cache"
        )
        self.usd = meter.create_counter("tta.cost", unit="{USD}", description="US dollars spent")
        self.calls = meter.create_counter("tta.calls", unit="{call}", description="Model calls, failed ones included")
        self.executions = meter.create_counter("tta.executions", unit="{execution}", description="Queries run")
        self.decisions = meter.create_counter("tta.decisions", unit="{decision}", description="Decisions by action")
        self.p_correct = meter.create_histogram(
            "tta.decision.p_correct",
            unit="1",
            description="P(correct) of the best answer at a decision",
            explicit_bucket_boundaries_advisory=[tenth / 10 for tenth in range(1, 10)],
        )
        self.retries = meter.create_counter("tta.retries", unit="{retry}", description="Calls tried again")
        self.tokens_left = meter.create_histogram(
            "tta.budget.tokens_left",
            unit="{token}",
            description="Tokens that an episode had left after a charge",
            explicit_bucket_boundaries_advisory=[0, *(4**power for power in range(2, 12))],
        )
        self.seconds_left = meter.create_histogram(
            "tta.budget.seconds_left", unit="s", description="Seconds that an episode had left after a charge"
        )

    def charge(self, charge: Charge, attributes: Mapping[str, Any]) -> None:
        usage = charge.usage
        self.duration.record(usage.seconds, attributes)
        if usage.executions:
            self.executions.add(usage.executions, attributes)
        if not usage.model_calls:
            return
        self.calls.add(usage.model_calls, attributes)
        self.tokens.record(usage.prompt_tokens, {**attributes, "gen_ai.token.type": "input"})
        self.tokens.record(usage.completion_tokens, {**attributes, "gen_ai.token.type": "output"})
        if usage.cached_tokens:
            self.cached.add(usage.cached_tokens, attributes)
        if usage.usd:
            self.usd.add(usage.usd, attributes)

    def left(self, remaining: Any, attributes: Mapping[str, Any]) -> None:
        for name, instrument_ in (("tokens", self.tokens_left), ("seconds", self.seconds_left)):
            value = getattr(remaining, name, None)
            if isinstance(value, int | float) and math.isfinite(value):
                instrument_.record(value, attributes)


def _failure(note: str) -> str:
    """The kind of failure that a charge's note tells of, or nothing: other notes say how usage was counted."""
    for kind in ("cancelled", "failed", "killed", "timeout"):
        if note.startswith(kind):
            return kind
    return ""


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
