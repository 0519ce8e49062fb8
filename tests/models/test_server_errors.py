"""What is printed when a server of one's own fails: what, where, and what to do, whichever way the model was called."""

from __future__ import annotations

import contextlib
import re
import traceback
from typing import Any

import httpx
import pytest

from tta_langgraph import Budget, budget_scope, budgeted
from tta_langgraph.cli import _bug
from tta_langgraph.errors import BudgetExceededError
from tta_langgraph.models.failures import Retries
from tta_langgraph.models.openai_compatible import chat_openai_server
from tta_langgraph.models.timeouts import timeout_within
from tta_langgraph.testing import Reply, ScriptedServer

openai = pytest.importorskip("openai", reason="openai is not installed (extra: openai)")

PAGE = "<html><body>Please log in</body></html>"
FAILURES: dict[str, tuple[Reply | None, str]] = {
    "down": (None, "cannot be reached.*tta serve"),
    "slow": (Reply(hang=True), "no answer in time.*timeout="),
    "dies at once": (Reply(text="one two three", die_after_tokens=0), "connection broke.*server's log"),
    "dies in mid-stream": (Reply(text="word " * 20, die_after_tokens=5), "connection broke.*server's log"),
    "a page": (Reply(body=PAGE), "not a model server.*login page"),
    "a page of a proxy": (Reply(status=502, body=PAGE), "502.*server failed.*its log"),
    "no such model": (Reply(status=404, body='{"error": {"message": "no model m"}}'), "404.*served_models"),
    "no key": (Reply(status=401), "401.*api_key="),
    "busy": (Reply(status=429), r"429.*turns requests away\. .*Retries"),
    "busy for long": (Reply(status=429, headers={"Retry-After": "3600"}), "429.*asks to wait 3600 s"),
    "broken": (Reply(status=500), "500.*server failed"),
    "starting": (Reply(status=503), "503.*still starting"),
    "not as it likes": (Reply(status=400), "400.*did not take the request"),
}


async def called(model: Any, way: str) -> str:
    match way:
        case "invoke":
            return str(model.invoke("x").text)
        case "ainvoke":
            return str((await model.ainvoke("x")).text)
        case "stream":
            return "".join(chunk.text for chunk in model.stream("x"))
        case _:
            return "".join([chunk.text async for chunk in model.astream("x")])


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("under", [None, Budget(tokens=5_000), Budget(tokens=5_000, seconds=60)], ids=str)
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_server_that_fails_is_named_with_what_to_do(failure: str, under: Budget | None, way: str) -> None:
    reply, said = FAILURES[failure]
    with ScriptedServer(script=lambda _: reply or "never") as server:
        url = "http://127.0.0.1:9/v1" if reply is None else server.base_url
        made = chat_openai_server(url.replace("://", "://me:secret@"), "m", check=False, timeout=0.3, max_tokens=30)
        model = budgeted(made, retries=Retries(attempts=1))
        with budget_scope(under) if under else contextlib.nullcontext(), pytest.raises(Exception) as caught:
            await called(model, way)
    assert not isinstance(caught.value, BudgetExceededError), "a model's own timeout holds under a budget, too"
    printed = "".join(traceback.format_exception_only(caught.value))
    assert re.search(said, printed, re.DOTALL), printed
    assert url.partition("//")[2] in printed
    assert "secret" not in printed
    if failure != "a page":
        assert isinstance(caught.value, openai.APIError), "caught by the class that its client raises"
    assert printed.count(url.partition("//")[2]) == 1, "said once"


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_a_connection_that_was_refused_costs_nothing(way: str) -> None:
    model = budgeted(chat_openai_server("http://127.0.0.1:9/v1", "m", check=False), retries=Retries(attempts=1))
    with budget_scope(Budget(tokens=5_000)) as scope, pytest.raises(openai.APIConnectionError):
        await called(model, way)
    assert (scope.tracker.usage.model_calls, scope.tracker.usage.tokens) == (1, 0)


@pytest.mark.parametrize(
    ("own", "there"),
    [
        (None, {"read": 9, "connect": 9}),
        (5, {"read": 5, "connect": 5}),
        (60.0, {"read": 9, "connect": 9}),
        (httpx.Timeout(60, connect=2), {"read": 9, "connect": 2}),
        (httpx.Timeout(None, connect=2), {"read": 9, "connect": 2}),
        ((2, 60), {"read": 9, "connect": 2}),
    ],
    ids=str,
)
def test_a_deadline_shortens_a_timeout_and_never_lengthens_it(own: Any, there: dict[str, float]) -> None:
    parts = httpx.Timeout(timeout_within(9, own)).as_dict()
    assert {name: parts[name] for name in there} == there


def test_the_command_does_not_take_a_failed_server_for_a_bug_of_its_own() -> None:
    with pytest.raises(openai.APIConnectionError) as caught:
        chat_openai_server("http://127.0.0.1:9/v1", "m", check=False).invoke("x")
    assert re.search(r"http://127\.0\.0\.1:9/v1.*tta serve", _bug(caught.value))
    assert "bug" not in _bug(caught.value)
    assert "This is a bug" in _bug(KeyError("x"))
