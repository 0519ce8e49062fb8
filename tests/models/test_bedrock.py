"""Bedrock's clients on a server that speaks its protocol: a failed call is asked for as often as the budget allows."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest

from tests.models.canned import Canned, serving
from tta_langgraph import Budget, budget_scope, budgeted
from tta_langgraph.models.bedrock_retries import without_boto_retries
from tta_langgraph.models.failures import Retries

aws = pytest.importorskip(
    "langchain_aws", reason="langchain-aws is not installed; pip install langchain-aws to run these"
)

CLAUDE = "anthropic.claude-3-5-sonnet-20241022-v2:0"
PROMPT, WRITTEN = 11, 5


class Bedrock(Canned):
    """Answers requests of both of its protocols, or with its status."""

    asked: list[str]
    status: list[int]

    def do_POST(self) -> None:
        self.body()
        path = unquote(self.path)
        self.asked.append(path.rpartition("/")[2])
        usage = {"inputTokens": PROMPT, "outputTokens": WRITTEN, "totalTokens": PROMPT + WRITTEN}
        message = {"role": "assistant", "content": [{"text": "fine"}]}
        answer: dict[str, Any] = {
            "output": {"message": message},
            "stopReason": "end_turn",
            "usage": usage,
            "metrics": {},
        }
        if self.asked[-1] == "invoke":
            text = [{"type": "text", "text": "fine"}]
            counts = {"input_tokens": PROMPT, "output_tokens": WRITTEN}
            answer = {"id": "m", "type": "message", "role": "assistant", "content": text, "usage": counts}
        status = self.status[0]
        headers = {"x-amzn-bedrock-input-token-count": PROMPT, "x-amzn-bedrock-output-token-count": WRITTEN}
        if status == 429:
            headers = {"retry-after": 0}
        text = json.dumps(answer if status == 200 else {"message": "no"})
        self.answer(status, "application/json", text, **{name: str(value) for name, value in headers.items()})


@pytest.fixture
def server() -> Iterator[Any]:
    with serving(Bedrock, asked=[], status=[200]) as running:
        yield running


def made(kind: str, url: str, **options: Any) -> Any:
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    return getattr(aws, kind)(model=CLAUDE, endpoint_url=url, disable_streaming=True, **keys, **options)


def with_own_client(url: str) -> Any:
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    client = boto3.client(
        "bedrock-runtime", region_name="us-east-1", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b"
    )
    return aws.ChatBedrockConverse(model=CLAUDE, client=client, bedrock_client=client, disable_streaming=True)


MAKERS: list[Callable[[str], Any]] = [
    lambda url: made("ChatBedrockConverse", url),
    lambda url: made("ChatBedrockConverse", url, max_retries=3),
    lambda url: made("ChatBedrock", url),
    lambda url: made("ChatBedrock", url, beta_use_converse_api=True),
    with_own_client,
]
MADE = pytest.mark.parametrize(
    "make", MAKERS, ids=["converse", "retrying", "invoke", "invoke by converse", "own client"]
)


@MADE
@pytest.mark.parametrize("status", [500, 429])
async def test_a_call_that_fails_is_sent_as_often_as_it_is_charged(
    server: Any, make: Callable[[str], Any], status: int
) -> None:
    server.status[0] = status
    inner = make(server.url)
    model = budgeted(inner, retries=Retries(attempts=2, backoff=0.001))
    for seconds in (None, 60):
        for call in (model.ainvoke, None):
            server.asked.clear()
            with budget_scope(Budget(tokens=50_000, seconds=seconds)) as scope, pytest.raises(Exception, match="no"):
                await call("x") if call else model.invoke("x")
            assert len(server.asked) == scope.tracker.usage.model_calls == 2
            assert (scope.tracker.usage.tokens == 0) == (status == 429), "what was turned away was not written"
    server.asked.clear()
    with pytest.raises(Exception, match="no"):
        inner.invoke("x")
    assert len(server.asked) > 1, "outside of any budget, the user's client goes on as it was made"


@MADE
def test_a_call_is_charged_what_the_server_says(server: Any, make: Callable[[str], Any]) -> None:
    with budget_scope(Budget(tokens=5_000)) as scope:
        assert budgeted(make(server.url)).invoke("x").text == "fine"
    assert (scope.tracker.usage.prompt_tokens, scope.tracker.usage.completion_tokens) == (PROMPT, WRITTEN)


def test_a_client_whose_retries_cannot_be_found_is_left_as_it_is_and_said_so(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = made("ChatBedrockConverse", server.url)
    model.client._endpoint._event_emitter = None
    with caplog.at_level(logging.WARNING):
        assert without_boto_retries(model) is model
    assert 'config=botocore.config.Config(retries={"total_max_attempts": 1})' in caplog.text


def test_a_server_that_cannot_be_reached_is_tried_again_and_costs_nothing() -> None:
    model = budgeted(made("ChatBedrockConverse", "http://127.0.0.1:9"), retries=Retries(attempts=2, backoff=0.001))
    with budget_scope(Budget(tokens=50_000)) as scope, pytest.raises(Exception, match=r"127\.0\.0\.1:9"):
        model.invoke("x")
    assert (scope.tracker.usage.model_calls, scope.tracker.usage.tokens) == (2, 0)
