"""Spans and metrics say what the charges say, and nothing of what was asked or answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tta_langgraph import events
from tta_langgraph.budget import BudgetTracker, Charge, Remaining, Usage
from tta_langgraph.nodes import Generate
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model

pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry needs the extra `otel`")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from tta_langgraph.traces.otel import TelemetryListener, instrument


class Sink:
    """Spans and metrics in memory."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def listener(self, **options: Any) -> TelemetryListener:
        return instrument(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        found = [] if data is None else [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return [point for metric in found if metric.name == name for point in metric.data.data_points]


@pytest.fixture
def sink() -> Iterator[Sink]:
    yield Sink()
    assert events._listeners == [], "a listener was left behind"


def _charge(key: str, **changes: Any) -> Charge:
    usage = Usage(prompt_tokens=100, completion_tokens=20, cached_tokens=64, seconds=2.0, usd=0.5, model_calls=1)
    return Charge(**{"id": key, "usage": usage, "source": "generate", "at": 1_000.0, **changes})


def _publish(charge: Charge, episode: str = "e", tokens: float = 880.0) -> None:
    events.publish({"type": "charge", "episode": episode, "charge": charge, "remaining": Remaining(tokens=tokens)})


def test_a_call_becomes_a_span_with_its_tokens_and_its_time(sink: Sink) -> None:
    with sink.listener(provider="vllm", model="small"):
        _publish(_charge("a"))
    call, episode = sink.spans
    assert call.attributes is not None
    assert call.name == "chat small"
    assert call.attributes["gen_ai.operation.name"] == "chat"
    assert call.attributes["gen_ai.provider.name"] == "vllm"
    assert call.attributes["gen_ai.usage.input_tokens"] == 100
    assert call.attributes["gen_ai.usage.output_tokens"] == 20
    assert call.attributes["gen_ai.usage.cache_read.input_tokens"] == 64
    assert (call.start_time, call.end_time) == (998 * 10**9, 1_000 * 10**9)
    assert call.parent is not None
    assert call.parent.span_id == episode.context.span_id


def test_an_episode_is_one_span_with_the_sums(sink: Sink) -> None:
    with sink.listener() as listener:
        _publish(_charge("a"))
        _publish(_charge("b", at=1_005.0))
        _publish(Charge(id="x", usage=Usage(executions=1, seconds=0.5), source="execute", at=1_006.0))
        listener.end("e", stop_reason="stop")
        *children, episode = sink.spans
    assert [span.name for span in children] == ["chat", "chat", "execute_tool execute"]
    assert episode.attributes is not None
    assert episode.name.startswith("invoke_agent")
    assert episode.attributes["gen_ai.usage.input_tokens"] == 200
    assert episode.attributes["tta.cost.usd"] == 1.0
    assert episode.attributes["tta.stop_reason"] == "stop"
    assert (episode.start_time, episode.end_time) == (998 * 10**9, 1_006 * 10**9)


def test_episodes_side_by_side_are_kept_apart(sink: Sink) -> None:
    with sink.listener():
        for key in ("a", "b", "c"):
            for episode in ("one", "two"):
                _publish(_charge(f"{episode}-{key}"), episode)
    roots = {s.context.span_id: s for s in sink.spans if s.name.startswith("invoke_agent")}
    assert len(roots) == 2
    for span in sink.spans:
        if span.parent is not None:
            assert span.attributes is not None
            own = roots[span.parent.span_id].attributes
            assert own is not None
            assert own["gen_ai.conversation.id"] == span.attributes["gen_ai.conversation.id"]


def test_a_cancelled_call_is_an_error(sink: Sink) -> None:
    with sink.listener():
        _publish(_charge("a", note="cancelled at the deadline", estimated=True))
        _publish(_charge("b", note="usage not reported: counted here"))
    cancelled, fine, _ = sink.spans
    assert cancelled.status.status_code is StatusCode.ERROR
    assert cancelled.attributes is not None
    assert cancelled.attributes["error.type"] == "cancelled"
    assert cancelled.attributes["tta.usage.estimated"] is True
    assert fine.status.status_code is StatusCode.UNSET


def test_metrics_add_up(sink: Sink) -> None:
    with sink.listener(provider="vllm"):
        _publish(_charge("a"), tokens=500.0)
        _publish(_charge("b"), tokens=300.0)
        events.publish({"type": "decision", "episode": "e", "action": "resample", "n": 2, "p_correct": 0.5})
        events.publish({"type": "decision", "episode": "e", "action": "stop", "p_correct": 0.75})
        events.publish({"type": "retry", "episode": "e", "source": "generate", "error": "TimeoutError: slow"})
    tokens = {point.attributes["gen_ai.token.type"]: point.sum for point in sink.points("gen_ai.client.token.usage")}
    assert tokens == {"input": 200, "output": 40}
    assert [point.value for point in sink.points("tta.cost")] == [1.0]
    assert [point.value for point in sink.points("tta.cached_tokens")] == [128]
    assert [point.sum for point in sink.points("gen_ai.client.operation.duration")] == [4.0]
    assert [point.sum for point in sink.points("tta.budget.tokens_left")] == [800.0]
    assert {p.attributes["tta.action"]: p.value for p in sink.points("tta.decisions")} == {"resample": 1, "stop": 1}
    assert [point.attributes["error.type"] for point in sink.points("tta.retries")] == ["TimeoutError"]


def test_an_unlimited_budget_has_nothing_left_to_report(sink: Sink) -> None:
    with sink.listener():
        _publish(_charge("a"), tokens=float("inf"))
    assert sink.points("tta.budget.tokens_left") == []


def test_a_silent_episode_is_closed(sink: Sink) -> None:
    with sink.listener(idle_seconds=60):
        _publish(_charge("a", at=1_000.0), "old")
        _publish(_charge("b", at=1_030.0), "young")
        _publish(_charge("c", at=1_070.0), "new")
        roots = [span for span in sink.spans if span.parent is None]
        assert [span.attributes["gen_ai.conversation.id"] for span in roots if span.attributes] == ["old"]


def test_a_span_of_the_caller_becomes_the_parent(sink: Sink) -> None:
    tracer = sink.tracers.get_tracer("app")
    with sink.listener(), tracer.start_as_current_span("request") as request:
        _publish(_charge("a"))
    episode = next(span for span in sink.spans if span.name.startswith("invoke_agent"))
    assert episode.parent is not None
    assert episode.parent.span_id == request.get_span_context().span_id


def test_a_real_node_is_reported_with_what_the_server_billed_and_no_text(sink: Sink) -> None:
    with ScriptedServer([Reply("the answer is forty-two", cached_tokens=2)]) as server, sink.listener():
        node = Generate(model=scripted_chat_model(server))
        node.invoke({"question": "a very secret question", "budget": BudgetTracker.start(None)})
        call = next(span for span in sink.spans if span.name.startswith("chat"))
        billed = (server.prompt_tokens, server.completion_tokens)
    assert call.attributes is not None
    assert (
        call.attributes["gen_ai.usage.input_tokens"],
        call.attributes["gen_ai.usage.output_tokens"],
    ) == billed
    assert all("secret" not in span.to_json() and "forty" not in span.to_json() for span in sink.spans)


def test_unknown_events_are_ignored(sink: Sink) -> None:
    with sink.listener():
        events.publish({"type": "something new", "episode": "e"})
        events.publish({})
    assert sink.spans == ()


def test_a_graphs_episode_is_closed_when_its_answer_is_delivered(sink: Sink, shop: str) -> None:
    from tta_langgraph.graphs import create_text_to_sql_graph

    with sink.listener(), ScriptedServer(lambda _: "SELECT count(*) FROM customers") as server:
        graph = create_text_to_sql_graph(scripted_chat_model(server), shop).compile()
        state = graph.invoke({"question": "How many customers?", "budget": {"tokens": 4_000}})
        (episode,) = (span for span in sink.spans if span.name.startswith("invoke_agent"))
    assert episode.attributes is not None
    assert episode.attributes["gen_ai.conversation.id"] == state["budget"].episode
    assert episode.attributes["tta.stop_reason"] == state["stop_reason"]
    assert episode.attributes["gen_ai.usage.output_tokens"] == server.completion_tokens
