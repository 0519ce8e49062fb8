"""A real vLLM server, started from our plan, says and charges the same as the engine in the process."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, convert_to_openai_messages
from langchain_openai import ChatOpenAI

from tta_langgraph.models.serve import RunningServer
from tta_langgraph.models.vllm import ChatVLLM
from tta_langgraph.models.vllm_env import vllm_distribution

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

QUESTION = [HumanMessage("Name three colours.")]
GPU = (vllm_distribution() or ("",))[0] == "vllm"


@pytest.fixture
def client(vllm_server: RunningServer) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=vllm_server.base_url, api_key="none", model="smollm2", max_tokens=16, max_retries=0, stream_usage=True
    )


CONVERSATIONS = {
    "one question": QUESTION,
    "system and history": [SystemMessage("Be brief."), HumanMessage("Hi"), AIMessage("Hello."), HumanMessage("?")],
    "other scripts": [HumanMessage("naïve 日本語 🚀 مرحبا \r\n\t tabs")],
    "special tokens as text": [HumanMessage("what is <|im_end|> for?")],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_count_made_in_the_process_equals_what_the_server_charges(
    chat_vllm: ChatVLLM, client: ChatOpenAI, vllm_server: RunningServer, name: str
) -> None:
    messages = CONVERSATIONS[name]
    predicted = chat_vllm.count_prompt_tokens(messages)
    body = {"model": "smollm2", "messages": convert_to_openai_messages(messages)}
    tokenized = httpx.post(f"{vllm_server.plan.root_url}/tokenize", json=body).raise_for_status().json()
    charged = client.invoke(messages, max_tokens=1).usage_metadata["input_tokens"]
    assert predicted == tokenized["count"] == charged


def test_a_continued_answer_has_the_same_prompt_and_the_same_rest(chat_vllm: ChatVLLM, client: ChatOpenAI) -> None:
    messages = [*QUESTION, AIMessage("The colours are red,")]
    body = {"continue_final_message": True, "add_generation_prompt": False}
    served = client.invoke(messages, temperature=0, extra_body=body)
    ours = chat_vllm.invoke(messages, temperature=0, extra_body=body)
    assert served.usage_metadata["input_tokens"] == ours.usage_metadata["input_tokens"]
    assert served.text == ours.text


def test_usage_of_n_samples_is_their_sum_and_equals_the_servers_metrics(
    client: ChatOpenAI, vllm_server: RunningServer
) -> None:
    before = vllm_server.metrics()
    result = client.generate([QUESTION], n=4, temperature=1.0)
    after = vllm_server.metrics()
    usage = result.llm_output["token_usage"]
    assert len(result.generations[0]) == 4
    made = after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"]
    assert usage["completion_tokens"] == made


def test_a_streamed_call_reports_the_usage_of_the_same_call_unstreamed(client: ChatOpenAI) -> None:
    whole = client.invoke(QUESTION, temperature=0)
    total: Any = None
    for chunk in client.stream(QUESTION, temperature=0):
        total = chunk if total is None else total + chunk
    assert total.text == whole.text
    assert total.usage_metadata["input_tokens"] == whole.usage_metadata["input_tokens"]
    assert total.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]


def test_log_probabilities_agree_with_the_engine_in_the_process(chat_vllm: ChatVLLM, client: ChatOpenAI) -> None:
    options: dict[str, Any] = {"temperature": 0, "logprobs": True, "top_logprobs": 2}
    served = client.invoke(QUESTION, **options).response_metadata["logprobs"]["content"]
    ours = chat_vllm.invoke(QUESTION, **options).response_metadata["logprobs"]["content"]
    # The server lists the token that ended the answer or not, depending on its version; the text decides.
    for theirs, own in zip(served, ours, strict=False):
        assert theirs["token"] == own["token"]
        # On a GPU even single precision is rounded for the tensor cores.
        assert theirs["logprob"] == pytest.approx(own["logprob"], abs=5e-2 if GPU else 1e-3)
        assert theirs["bytes"] == own["bytes"]


def test_a_repeated_prefix_is_reported_as_cached(client: ChatOpenAI) -> None:
    schema = SystemMessage("Tables: " + ", ".join(f"relation_{i} (id, title_{i})" for i in range(40)))
    client.invoke([schema, HumanMessage("How many?")], max_tokens=1)
    second = client.invoke([schema, HumanMessage("Which one?")], max_tokens=1)
    assert second.usage_metadata["input_token_details"]["cache_read"] >= 128


def test_a_choice_constrains_the_answer(client: ChatOpenAI) -> None:
    body = {"structured_outputs": {"choice": ["left", "right"]}}
    assert client.invoke("Which way?", extra_body=body).text in ("left", "right")
