"""Promise 3: failed attempts, retries, cancelled calls, streams, wrong reports: each is in the account."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from tta_langgraph import Budget, BudgetError, BudgetExceededError, budget_scope, budgeted, events
from tta_langgraph.budget import Usage
from tta_langgraph.models.errors import ContextOverflowError
from tta_langgraph.models.failures import Retries
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model

QUICK = Retries(attempts=3, backoff=0.01)


def test_a_retried_call_charges_every_attempt() -> None:
    script = [Reply(status=500), Reply(status=429, headers={"retry-after": "0"}), Reply(text="there")]
    with ScriptedServer(script=script) as server:
        model = budgeted(scripted_chat_model(server), retries=QUICK, max_completion_tokens=20)
        with budget_scope(Budget(tokens=1_000)) as scope:
            assert model.invoke("anyone?").content == "there"
        notes = [charge.note for charge in scope.tracker.charges.values()]
        assert notes == ["failed: 500", "failed: 429", ""]
        lost, refused, answered = [charge.usage for charge in scope.tracker.charges.values()]
        assert lost.completion_tokens == 20, "nobody knows what the failed attempt wrote: charged in full"
        assert (refused.tokens, refused.model_calls) == (0, 1), "a request that was turned away wrote nothing"
        assert answered.tokens == server.log[-1].prompt_tokens + server.log[-1].completion_tokens


def test_the_client_does_not_retry_behind_the_meter() -> None:
    with ScriptedServer(script=lambda _: Reply(status=500)) as server:
        model = budgeted(scripted_chat_model(server, max_retries=5), retries=Retries(attempts=1))
        with budget_scope(Budget(tokens=10_000)) as scope, pytest.raises(Exception, match="500"):
            model.invoke("x")
        assert server.requests == len(scope.tracker.charges) == 1


def test_retry_after_is_honoured_inside_the_deadline_and_not_beyond_it() -> None:
    with ScriptedServer(script=lambda _: Reply(status=429, headers={"retry-after": "30"})) as server:
        model = budgeted(scripted_chat_model(server), retries=QUICK)
        with budget_scope(Budget(tokens=1_000, seconds=10)), pytest.raises(Exception, match="429"):
            model.invoke("x")
        assert server.requests == 1, "thirty seconds do not fit into ten"


def test_retries_are_reported_to_those_who_watch() -> None:
    heard: list[object] = []
    unsubscribe = events.subscribe(lambda event: heard.append(event["type"]))
    try:
        with ScriptedServer(script=[Reply(status=503), "fine"]) as server, budget_scope(Budget(tokens=1_000)):
            budgeted(scripted_chat_model(server), retries=QUICK).invoke("x")
    finally:
        unsubscribe()
    assert heard == ["charge", "retry", "charge"]


async def test_a_cancelled_call_is_charged_in_full_and_its_request_ends() -> None:
    with ScriptedServer(script=lambda _: Reply(hang=True)) as server:
        model = budgeted(scripted_chat_model(server), max_completion_tokens=70)
        with budget_scope(Budget(tokens=1_000)) as scope:
            task = asyncio.create_task(model.ainvoke("x"))
            while not server.in_flight:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        [charge] = scope.tracker.charges.values()
        assert (charge.note, charge.usage.completion_tokens) == ("cancelled", 70)
        for _ in range(200):
            if server.disconnects:
                break
            await asyncio.sleep(0.02)
        assert server.disconnects == 1


@pytest.mark.parametrize("usage", [True, False])
def test_a_stream_is_charged_with_or_without_reported_usage(usage: bool) -> None:
    with ScriptedServer(script=lambda _: Reply(text="one two three four", usage=usage)) as server:
        with budget_scope(Budget(tokens=1_000)) as scope:
            text = "".join(str(chunk.content) for chunk in budgeted(scripted_chat_model(server)).stream("count"))
        assert text == "one two three four"
        [charge] = scope.tracker.charges.values()
        assert charge.usage.tokens == server.total
        assert ("not streamed" in charge.note) is not usage


def test_a_stream_that_is_left_early_is_charged_in_full() -> None:
    with ScriptedServer(script=lambda _: Reply(text="word " * 50, stream_interval=0.01)) as server:
        model = budgeted(scripted_chat_model(server), max_completion_tokens=60)
        with budget_scope(Budget(tokens=1_000)) as scope:
            stream = model.stream("talk")
            next(stream)
            stream.close()
        [charge] = scope.tracker.charges.values()
        assert charge.estimated
        assert charge.usage.completion_tokens == 60


def test_a_stream_that_dies_is_charged_in_full() -> None:
    with ScriptedServer(script=lambda _: Reply(text="word " * 50, die_after_tokens=5)) as server:
        model = budgeted(scripted_chat_model(server), max_completion_tokens=60)
        with budget_scope(Budget(tokens=1_000)) as scope, pytest.raises(Exception):  # noqa: B017 - the client's own
            list(model.stream("talk"))
        [charge] = scope.tracker.charges.values()
        assert charge.usage.completion_tokens == 60


def test_a_server_that_reports_only_the_first_choice_is_caught() -> None:
    reply = Reply(texts=["alpha beta gamma"] * 4, usage="first_choice_only")
    with ScriptedServer(script=lambda _: reply) as server:
        model = budgeted(scripted_chat_model(server))
        with budget_scope(Budget(tokens=5_000)) as scope:
            result = model.generate([[HumanMessage("four please")]], n=4)
        assert len(result.generations[0]) == 4
        [charge] = scope.tracker.charges.values()
        assert charge.usage.tokens == server.total
        assert "counted" in charge.note


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("usage", ["zeros", "empty"])
def test_a_report_of_nothing_is_not_believed(usage: Any, streaming: bool) -> None:
    with ScriptedServer(script=lambda _: Reply(text="word " * 40, usage=usage)) as server:
        model = budgeted(scripted_chat_model(server))
        with budget_scope(Budget(tokens=1_000)) as scope:
            list(model.stream("x")) if streaming else model.invoke("x")
        [charge] = scope.tracker.charges.values()
        assert charge.usage.tokens >= server.total
        assert "not" in charge.note, "and it says that this was counted here"


@pytest.mark.parametrize("wait", ["soon", "60s", "Fri, 99 Foo 2026 00:00:00 GMT", "nan", "1e999"])
def test_a_retry_after_that_says_nothing_neither_hides_the_failure_nor_keeps_its_reservation(wait: str) -> None:
    script = [Reply(status=429, headers={"retry-after": wait}), "fine"]
    with ScriptedServer(script=script) as server:
        model = budgeted(scripted_chat_model(server), retries=QUICK, max_completion_tokens=900)
        with budget_scope(Budget(tokens=1_000)) as scope:
            assert model.invoke("x").text == "fine"
        assert scope.tracker.usage.tokens == server.total
        assert scope.ledger.reserved == Usage()


def test_a_server_that_sends_its_callers_away_for_an_hour_is_not_waited_for() -> None:
    with ScriptedServer(script=lambda _: Reply(status=429, headers={"retry-after": "3600"})) as server:
        with budget_scope(Budget(tokens=1_000)), pytest.raises(Exception, match="429"):
            budgeted(scripted_chat_model(server), retries=QUICK).invoke("x")
        assert server.requests == 1


async def test_a_stream_that_is_turned_away_is_tried_again_as_long_as_nothing_was_handed_out() -> None:
    refused = Reply(status=429, headers={"retry-after": "0"})
    with ScriptedServer(
        script=[refused, "one two", refused, "three four", Reply(text="five", die_after_tokens=1)]
    ) as server:
        model = budgeted(scripted_chat_model(server), retries=QUICK)
        with budget_scope(Budget(tokens=10_000)) as scope:
            assert "".join(chunk.text for chunk in model.stream("x")) == "one two"
            assert "".join([chunk.text async for chunk in model.astream("x")]) == "three four"
            with pytest.raises(Exception, match=r"peer closed connection|incomplete|error"):
                list(model.stream("x"))
        assert server.requests == len(scope.tracker.charges) == 5


def test_a_prompt_that_is_known_not_to_fit_costs_nothing() -> None:
    class Small(BaseChatModel):
        """A model with a window of its own."""

        @property
        def _llm_type(self) -> str:
            return "small"

        def _generate(self, *_: Any, **__: Any) -> Any:
            raise ContextOverflowError(3_031, 2_048, "small")

    with budget_scope(Budget(tokens=10_000)) as scope, pytest.raises(ContextOverflowError):
        budgeted(Small()).invoke("a long story")
    assert scope.tracker.usage.tokens == 0


def test_tools_and_structured_output_are_metered_like_any_call() -> None:
    class Answer(BaseModel):
        """An answer."""

        value: int

    @tool
    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    with ScriptedServer(script=lambda _: '{"value": 4}') as server:
        model = budgeted(scripted_chat_model(server))
        with budget_scope(Budget(tokens=5_000)) as scope:
            model.bind_tools([add]).invoke("2 + 2?")
            found = model.with_structured_output(Answer, method="json_mode").invoke("2 + 2? As JSON.")
        assert found == Answer(value=4)
        assert len(scope.tracker.charges) == server.requests == 2
        assert scope.tracker.usage.tokens == server.total


def test_outside_of_any_budget_it_is_the_bare_model() -> None:
    with ScriptedServer(script=lambda _: "hello") as server:
        assert budgeted(scripted_chat_model(server)).invoke("hi").content == "hello"
        assert "max_completion_tokens" not in server.log[0].params


def test_a_limit_in_dollars_for_a_model_without_a_price_is_refused_before_any_call() -> None:
    with ScriptedServer(script=lambda _: "hello") as server:
        with budget_scope(Budget(usd=1.0)), pytest.raises(BudgetError, match="no known price"):
            budgeted(scripted_chat_model(server)).invoke("hi")
        assert server.requests == 0


def test_an_exhausted_budget_makes_no_further_call() -> None:
    with ScriptedServer(script=lambda _: "hello") as server:
        model = budgeted(scripted_chat_model(server))
        with budget_scope(Budget(model_calls=1)):
            model.invoke("one")
            with pytest.raises(BudgetExceededError) as caught:
                model.invoke("two")
        assert (caught.value.dimension, caught.value.spent, caught.value.limit) == ("model_calls", 1, 1)
        assert server.requests == 1


@pytest.mark.parametrize("error", [ValueError("no such shape"), ConnectionRefusedError("no such counter")], ids=repr)
def test_a_result_that_cannot_be_read_is_charged_in_full_and_nothing_stays_reserved(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("tta_langgraph.models.meter.consumed", unreadable)
    with ScriptedServer(script=lambda _: "hello") as server:
        model = budgeted(scripted_chat_model(server), max_completion_tokens=30)
        with budget_scope(Budget(tokens=1_000)) as scope, pytest.raises(type(error), match="no such"):
            model.invoke("x")
        [charge] = scope.tracker.charges.values()
        assert charge.usage.completion_tokens == 30
        assert scope.ledger.in_flight == ()
