"""This package's budget against every scenario of the conformance kit, and the kit against budgets that do not hold."""

from __future__ import annotations

import pytest

from tta_langgraph.testing.conformance import Account, Call, Measurement, Refused, measure
from tta_langgraph.testing.ours import Ours
from tta_langgraph.testing.peers import ModelCallLimit, PostHocCounter, WorstCaseReservation
from tta_langgraph.testing.scenarios import KINDS, Kind, Scenario
from tta_langgraph.testing.server import ScriptedServer

USAGE_IS_KNOWN: tuple[Kind, ...] = ("plain", "fan-out", "resumes", "n samples")
"""Kinds in which every call's usage is reported, so that nothing but the last few tokens may be left over."""

SMALLEST_CALL = 64
"""Tokens that are too few for a prompt of these scenarios and a completion worth having."""


@pytest.mark.parametrize("branches", [4, 16])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_budget_holds_and_every_token_is_charged(kind: Kind, branches: int) -> None:
    assert_holds(await measure(Ours(), Scenario(kind=kind, branches=branches)))


@pytest.mark.parametrize("kind", ["plain", "fan-out", "retries", "cancellations"])
async def test_the_budget_holds_at_128_branches(kind: Kind) -> None:
    assert_holds(await measure(Ours(), Scenario(kind=kind, branches=128)))


async def test_the_budget_holds_for_a_plain_client_that_asks_the_server_to_count() -> None:
    assert_holds(await measure(Ours(counts=False), Scenario(kind="plain", branches=8)))


@pytest.mark.parametrize("kind", ["plain", "resumes"])
async def test_the_budget_holds_where_tokens_can_only_be_estimated(kind: Kind) -> None:
    measured = await measure(Ours(counts=False), Scenario(kind=kind, branches=8, tokenize_endpoint=False))
    assert measured.used <= measured.scenario.limit
    assert measured.uncharged == 0
    assert measured.usable >= 0.9


async def test_usage_of_one_sample_in_four_is_doubted_where_tokens_can_only_be_estimated() -> None:
    scenario = Scenario(kind="partial usage", branches=8, tokenize_endpoint=False)
    assert (await measure(Ours(counts=False), scenario)).uncharged == 0


def assert_holds(measured: Measurement) -> None:
    assert measured.used <= measured.scenario.limit
    assert measured.reported <= measured.scenario.limit
    assert measured.uncharged == 0
    assert measured.answer is not None
    if measured.scenario.kind in USAGE_IS_KNOWN:
        assert measured.reported == measured.used
        assert measured.scenario.limit - measured.used <= max(0.02 * measured.scenario.limit, SMALLEST_CALL)
        assert measured.errors == ()


@pytest.mark.parametrize("kind", ["retries", "cancellations"])
async def test_cancelled_and_repeated_calls_really_happen(kind: Kind) -> None:
    measured = await measure(Ours(), Scenario(kind=kind, branches=8))
    assert measured.requests > measured.calls
    assert (measured.disconnects > 0) == (kind == "cancellations")


@pytest.mark.parametrize("branches", [1, 8])
async def test_the_kit_catches_a_counter_that_checks_after_the_call(branches: int) -> None:
    assert (await measure(PostHocCounter(), Scenario(kind="plain", branches=branches))).overshoot > 0


@pytest.mark.parametrize("kind", ["retries", "cancellations", "streaming without usage", "partial usage"])
async def test_the_kit_catches_tokens_that_a_counter_never_hears_of(kind: Kind) -> None:
    assert (await measure(PostHocCounter(), Scenario(kind=kind, branches=8))).uncharged > 0


async def test_the_kit_catches_what_a_reservation_leaves_on_the_table() -> None:
    scenario = Scenario(kind="fan-out", branches=32)
    reserved, ours = await measure(WorstCaseReservation(), scenario), await measure(Ours(), scenario)
    assert reserved.overshoot == ours.overshoot == 0
    assert reserved.usable < 0.9 < ours.usable
    assert reserved.calls < ours.calls


async def test_the_kit_catches_a_limit_on_calls_that_does_not_hear_of_retries() -> None:
    assert (await measure(ModelCallLimit(), Scenario(kind="retries", branches=8))).uncharged > 0


class Unlimited:
    """No enforcement at all."""

    name = "none"
    reported = 0

    async def start(self, server: ScriptedServer, scenario: Scenario) -> Account:
        self.server = server
        return self

    async def call(self, call: Call) -> str:
        from tta_langgraph.testing import scripted_chat_model

        message = await scripted_chat_model(self.server).ainvoke(call.prompt, max_tokens=call.max_tokens)
        return str(message.text)

    async def resume(self) -> Account:
        return self


async def test_a_run_that_nothing_holds_is_stopped_and_seen() -> None:
    measured = await measure(Unlimited(), Scenario(kind="plain", branches=8))
    assert measured.overshoot > 1
    assert measured.uncharged == measured.used


class RefusesAll(Unlimited):
    """Admits nothing."""

    async def call(self, call: Call) -> str:
        raise Refused


async def test_an_enforcement_that_refuses_everything_uses_nothing_and_answers_nothing() -> None:
    measured = await measure(RefusesAll(), Scenario(kind="resumes", branches=8))
    assert (measured.used, measured.usable, measured.answer) == (0, 0, None)


def test_no_two_calls_of_a_scenario_ask_the_same() -> None:
    scenario = Scenario(kind="plain", branches=128)
    prompts = {scenario.prompt(branch, call) for branch in range(128) for call in range(60)}
    assert len(prompts) == 128 * 60
