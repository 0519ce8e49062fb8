"""ChatVLLM on a real engine: what a caller gets back."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Literal

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from tta_langgraph.errors import ModelError
from tta_langgraph.models.errors import ContextOverflowError
from tta_langgraph.models.vllm import ChatVLLM

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

QUESTION = [HumanMessage("Name three colours.")]


class Colour(BaseModel):
    """A colour."""

    name: Literal["red", "green", "blue"]
    warm: bool


@tool
def weather(city: str) -> str:
    """Weather in a city."""
    return f"sunny in {city}"


def test_n_samples_come_from_one_request_and_are_charged_in_full(chat_vllm: ChatVLLM) -> None:
    before = chat_vllm.engine_stats()
    result = chat_vllm.generate([QUESTION], n=4, temperature=1.0, seed=1)
    after = chat_vllm.engine_stats()
    messages = [generation.message for generation in result.generations[0]]
    assert len({message.text for message in messages}) > 1
    usage = messages[0].usage_metadata
    assert usage["input_tokens"] == chat_vllm.count_prompt_tokens(QUESTION)
    own = sum(message.response_metadata["completion_tokens"] for message in messages)
    assert usage["output_tokens"] == own == after.completion_tokens - before.completion_tokens


def test_a_seed_makes_samples_repeatable(chat_vllm: ChatVLLM) -> None:
    first = chat_vllm.invoke(QUESTION, temperature=1.0, seed=7)
    assert chat_vllm.invoke(QUESTION, temperature=1.0, seed=7).text == first.text


def test_greedy_tokens_are_their_own_likeliest_alternatives(chat_vllm: ChatVLLM) -> None:
    message = chat_vllm.invoke(QUESTION, temperature=0, logprobs=True, top_logprobs=3)
    content = message.response_metadata["logprobs"]["content"]
    assert "".join(entry["token"] for entry in content) == message.text
    for entry in content:
        assert entry["token"] == entry["top_logprobs"][0]["token"]
        assert len(entry["top_logprobs"]) == 3
    values = [entry["logprob"] for entry in content]
    stats = message.response_metadata["logprob_stats"]
    assert stats["n"] == message.response_metadata["completion_tokens"] == len(values)
    assert stats["mean"] == pytest.approx(sum(values) / len(values))
    assert stats["min"] == min(values) <= stats["tail_mean"] <= stats["mean"] < 0
    assert stats["first_token_entropy"] > 0


def test_the_completion_cap_holds_and_is_named_as_the_reason(chat_vllm: ChatVLLM) -> None:
    message = chat_vllm.invoke(QUESTION, max_tokens=5, ignore_eos=True)
    assert message.response_metadata["finish_reason"] == "length"
    assert message.usage_metadata["output_tokens"] == 5


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(chat_vllm: ChatVLLM) -> None:
    whole = chat_vllm.invoke(QUESTION, temperature=0).text
    word = whole.split()[3]
    cut = chat_vllm.invoke(QUESTION, temperature=0, stop=[word])
    assert cut.text == whole[: whole.index(word)]
    assert cut.response_metadata["finish_reason"] == "stop"


def test_structured_output_follows_the_schema_even_from_a_model_that_would_not(chat_vllm: ChatVLLM) -> None:
    answer = chat_vllm.with_structured_output(Colour).invoke("A warm colour, please.", max_tokens=60)
    assert isinstance(answer, Colour)


def test_structured_output_cut_by_the_cap_is_refused_not_repaired(chat_vllm: ChatVLLM) -> None:
    schema = {"title": "words", "type": "object", "properties": {"a": {"type": "string", "minLength": 200}}}
    with pytest.raises(OutputParserException, match="token limit"):
        chat_vllm.with_structured_output({**schema, "required": ["a"]}).invoke("Write.", max_tokens=12)


def test_a_choice_constrains_the_answer(chat_vllm: ChatVLLM) -> None:
    choices = ["left", "right"]
    assert chat_vllm.invoke("Which way?", structured_outputs={"choice": choices}).text in choices


def test_a_forced_tool_call_has_arguments_of_the_right_shape(chat_vllm: ChatVLLM) -> None:
    bound = chat_vllm.bind_tools([weather], tool_choice="weather")
    message = bound.invoke("What is the weather in Paris?", max_tokens=60, temperature=0)
    [call] = message.tool_calls
    assert call["name"] == "weather"
    assert isinstance(call["args"]["city"], str)
    assert message.text == ""


@pytest.mark.parametrize(
    "choice",
    ["any", {"type": "any"}, {"type": "tool", "name": "place"}, {"type": "function", "function": {"name": "place"}}],
    ids=str,
)
def test_a_forced_tool_call_may_be_spelled_as_any_api_does_and_refer_to_definitions(
    chat_vllm: ChatVLLM, choice: Any
) -> None:
    point = {"type": "object", "properties": {"x": {"enum": [7]}}, "required": ["x"], "additionalProperties": False}
    parameters = {
        "type": "object",
        "properties": {"p": {"$ref": "#/$defs/P"}},
        "required": ["p"],
        "$defs": {"P": point},
    }
    place = {"type": "function", "function": {"name": "place", "parameters": parameters}}
    bound = chat_vllm.bind_tools([place], tool_choice=choice)
    for forced in (bound, chat_vllm.bind(tools=[place], tool_choice=choice)):
        [call] = forced.invoke("Place it.", max_tokens=60, temperature=0).tool_calls
        assert (call["name"], call["args"]) == ("place", {"p": {"x": 7}})


def test_a_tool_the_template_ignores_still_reaches_the_model(chat_vllm: ChatVLLM) -> None:
    bare = chat_vllm.count_prompt_tokens(QUESTION)
    bound = chat_vllm.bind_tools([weather])
    assert bound.invoke(QUESTION, max_tokens=1).usage_metadata["input_tokens"] > bare + 20


def test_a_partial_answer_is_continued_as_if_it_had_never_stopped(chat_vllm: ChatVLLM) -> None:
    whole = chat_vllm.invoke(QUESTION, temperature=0, logprobs=True)
    tokens = [entry["token"] for entry in whole.response_metadata["logprobs"]["content"]]
    partial = "".join(tokens[:6])
    conversation = [*QUESTION, AIMessage(partial)]
    rest = chat_vllm.invoke(conversation, continue_final_message=True, temperature=0, max_tokens=len(tokens) - 6)
    assert partial + rest.text == whole.text
    assert rest.usage_metadata["input_tokens"] == whole.usage_metadata["input_tokens"] + 6


def test_nothing_to_continue_is_an_error(chat_vllm: ChatVLLM) -> None:
    with pytest.raises(ModelError, match="nothing to continue"):
        chat_vllm.invoke(QUESTION, continue_final_message=True)


def test_a_stream_says_the_same_as_a_call_and_ends_with_the_usage(chat_vllm: ChatVLLM) -> None:
    whole = chat_vllm.invoke(QUESTION, temperature=0)
    chunks = list(chat_vllm.stream(QUESTION, temperature=0))
    assert len(chunks) > 2
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    assert total.text == whole.text
    assert total.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]
    assert total.response_metadata["finish_reason"] == whole.response_metadata["finish_reason"]


async def test_an_async_stream_says_the_same_as_a_call(chat_vllm: ChatVLLM) -> None:
    whole = await chat_vllm.ainvoke(QUESTION, temperature=0)
    texts = [chunk.text async for chunk in chat_vllm.astream(QUESTION, temperature=0)]
    assert "".join(texts) == whole.text
    assert len(texts) > 2


def test_a_stream_of_several_samples_is_refused(chat_vllm: ChatVLLM) -> None:
    with pytest.raises(ModelError, match="one sample"):
        list(chat_vllm.stream(QUESTION, n=2))


async def test_samples_survive_langgraph_streaming_messages(chat_vllm: ChatVLLM) -> None:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph import StateGraph

    async def node(state: dict[str, Any], config: RunnableConfig) -> dict[str, Any]:
        result = await chat_vllm.agenerate([QUESTION], n=3, temperature=1.0, callbacks=config["callbacks"])
        return {"count": len(result.generations[0])}

    builder = StateGraph(dict)
    builder.add_node("sample", node)
    builder.set_entry_point("sample")
    values = [part async for part in builder.compile().astream({}, stream_mode=["messages", "values"])]
    assert values[-1] == ("values", {"count": 3})


CONVERSATIONS = {
    "one question": QUESTION,
    "system and history": [SystemMessage("Be brief."), HumanMessage("Hi"), AIMessage("Hello."), HumanMessage("?")],
    "other scripts": [HumanMessage("naïve 日本語 🚀 مرحبا \r\n\t tabs")],
    "special tokens as text": [HumanMessage("what is <|im_end|> for?")],
    "tool results": [
        HumanMessage("weather?"),
        AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Oslo"}, "id": "1"}]),
        ToolMessage("rain", tool_call_id="1"),
    ],
    "text blocks": [HumanMessage([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}])],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_the_predicted_prompt_count_equals_what_the_engine_processed(chat_vllm: ChatVLLM, name: str) -> None:
    before = chat_vllm.engine_stats()
    message = await chat_vllm.ainvoke(CONVERSATIONS[name], max_tokens=1)
    processed = chat_vllm.engine_stats().prompt_tokens - before.prompt_tokens
    predicted = await chat_vllm.acount_prompt_tokens(CONVERSATIONS[name])
    assert predicted == message.usage_metadata["input_tokens"] == processed


def test_an_image_is_refused_by_name(chat_vllm: ChatVLLM) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(ModelError, match="image_url"):
        chat_vllm.invoke([HumanMessage([image])])


def test_a_prompt_longer_than_the_window_is_refused_before_anything_is_sent(chat_vllm: ChatVLLM) -> None:
    before = chat_vllm.engine_stats()
    with pytest.raises(ContextOverflowError) as caught:
        chat_vllm.invoke("many words " * 2000)
    assert caught.value.prompt_tokens > caught.value.context == 1024
    assert chat_vllm.engine_stats().prompt_tokens == before.prompt_tokens


def test_a_repeated_prefix_is_reported_as_cached_in_whole_blocks(chat_vllm: ChatVLLM) -> None:
    schema = "Tables: " + ", ".join(f"table_{i} (id, name_{i})" for i in range(40))
    block = chat_vllm.manifest()["block_size"]
    first = chat_vllm.invoke([SystemMessage(schema), HumanMessage("How many?")], max_tokens=1)
    before = chat_vllm.engine_stats()
    second = chat_vllm.invoke([SystemMessage(schema), HumanMessage("Which one?")], max_tokens=1)
    cached = second.usage_metadata["input_token_details"]["cache_read"]
    shared = chat_vllm.count_prompt_tokens([SystemMessage(schema)])
    assert first.usage_metadata["input_token_details"]["cache_read"] == 0
    assert shared - 2 * block < cached <= shared
    assert cached % block == 0
    assert chat_vllm.engine_stats().cached_prompt_tokens - before.cached_prompt_tokens == cached


def test_threads_with_their_own_event_loops_share_the_engine(chat_vllm: ChatVLLM) -> None:
    expected = chat_vllm.invoke(QUESTION, temperature=0).text
    texts: list[str] = []

    def run() -> None:
        texts.append(asyncio.run(chat_vllm.ainvoke(QUESTION, temperature=0)).text)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [expected] * 3


def test_two_models_share_an_engine_and_closing_one_leaves_it_to_the_other(chat_vllm: ChatVLLM) -> None:
    other = ChatVLLM(model=chat_vllm.model, temperature=0.5, engine_kwargs=chat_vllm.engine_kwargs)
    before = chat_vllm.engine_stats()
    other.invoke(QUESTION, max_tokens=2, ignore_eos=True)
    assert chat_vllm.engine_stats().completion_tokens == before.completion_tokens + 2
    other.close()
    assert chat_vllm.invoke(QUESTION, max_tokens=1).usage_metadata["output_tokens"] == 1


def test_the_manifest_names_what_answered(chat_vllm: ChatVLLM) -> None:
    import vllm

    manifest = chat_vllm.manifest()
    assert manifest["engine_version"] == vllm.__version__
    assert any(manifest["weights"].values())
    assert manifest["dtype"] in ("float32", "float16", "bfloat16")
    assert manifest["prefix_caching"] is True
    assert len(manifest["chat_template_sha256"]) == 64


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"temprature": 0.5}, "temprature"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"n": 4, "temperature": 0}, "same answer"),
        ({"model": "another"}, "one model"),
        ({"top_p": 7.0}, "top_p"),
        ({"structured_outputs": {"regex": "("}}, "refused"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(chat_vllm: ChatVLLM, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        chat_vllm.invoke(QUESTION, **options)
