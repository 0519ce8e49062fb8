"""The real embedded model: samples, counts, cancellation, structure, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel, Field

from tta_langgraph.errors import ModelError
from tta_langgraph.models.embedded import EmbeddedChatModel, create_embedded_model
from tta_langgraph.models.embedded_tools import calls_in_text
from tta_langgraph.models.embedded_wire import request_body
from tta_langgraph.models.errors import ContextOverflowError, ModelTimeoutError, WeightsError

from .conftest import gguf_bytes

PROMPT: list[BaseMessage] = [SystemMessage("You write SQLite."), HumanMessage("How many singers are there?")]
ENDLESS: dict[str, Any] = {"max_tokens": 3000, "extra_body": {"ignore_eos": True}}


class Answer(BaseModel):
    """An answer to a question about a database."""

    sql: str = Field(description="The query")
    confident: bool


def run_sql(query: str) -> str:
    """Runs a query against the database of singers."""
    return query


def _produced(model: EmbeddedChatModel) -> float:
    return model.engine.metrics()["tokens_predicted_total"]


pytestmark = pytest.mark.model


@pytest.mark.parametrize("n", [1, 5, 20])
def test_every_sample_is_charged_exactly_what_the_engine_produced(small_model: EmbeddedChatModel, n: int) -> None:
    small_model.warm_up()
    before = _produced(small_model)
    result = small_model._generate(PROMPT, n=n, temperature=0.9, seed=1, max_tokens=12)
    usage = (result.llm_output or {})["token_usage"]
    assert len(result.generations) == n
    assert usage["completion_tokens"] == _produced(small_model) - before
    assert usage["prompt_tokens"] == small_model.count_prompt_tokens(PROMPT)  # once, not n times
    shares = [generation.message.response_metadata["completion_tokens"] for generation in result.generations]
    assert sum(shares) == usage["completion_tokens"]


def test_usage_can_be_read_off_the_first_message_or_added_up_over_all(small_model: EmbeddedChatModel) -> None:
    generations = small_model.generate([PROMPT], n=3, temperature=0.9, max_tokens=6).generations[0]
    usages = [generation.message.usage_metadata for generation in generations]  # type: ignore[union-attr]
    assert usages[0] is not None
    assert usages[1:] == [None, None]
    assert generations[0].message.response_metadata["usage_corrected"] is True  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "messages",
    [
        PROMPT,
        [HumanMessage("Zählt: 数える 🎉")],
        [*PROMPT, AIMessage("SELECT"), HumanMessage("Go on.")],
        [*PROMPT, AIMessage("SELECT count(")],
        [*PROMPT, AIMessage("", tool_calls=[{"name": "run_sql", "args": {"query": "x"}, "id": "1"}]),
         ToolMessage("[(3,)]", tool_call_id="1")],
    ],
    ids=["system", "unicode", "turns", "continuation", "tools"],
)  # fmt: skip
def test_the_prompt_count_before_the_call_equals_the_charge(
    small_model: EmbeddedChatModel, messages: list[BaseMessage]
) -> None:
    counted = small_model.count_prompt_tokens(messages)
    reply = small_model.invoke(messages, max_tokens=2)
    assert reply.usage_metadata is not None
    assert counted == reply.usage_metadata["input_tokens"]
    assert asyncio.run(small_model.acount_prompt_tokens(messages)) == counted


def test_the_count_includes_tools_and_equals_the_charge(embedded_model: EmbeddedChatModel) -> None:
    for choice in (None, "any"):
        bound: Any = embedded_model.bind_tools([run_sql], tool_choice=choice)
        counted = embedded_model.count_prompt_tokens(PROMPT, **bound.kwargs)
        reply = bound.invoke(PROMPT, max_tokens=4)
        assert counted == reply.usage_metadata["input_tokens"]
        assert counted > embedded_model.count_prompt_tokens(PROMPT)


def test_a_repeated_prompt_is_served_from_the_prefix_cache_and_says_so(small_model: EmbeddedChatModel) -> None:
    messages = [HumanMessage("Tell me about the sea and the land. " * 12)]
    small_model.invoke(messages, max_tokens=2)
    again = small_model.invoke(messages, max_tokens=2).usage_metadata
    assert again is not None
    assert again["input_token_details"]["cache_read"] == again["input_tokens"] - 1


def test_other_prompts_with_many_samples_do_not_push_a_prompt_out_of_the_cache(
    small_model: EmbeddedChatModel,
) -> None:
    messages = [HumanMessage("A schema that comes back for every question. " * 8)]
    small_model.invoke(messages, max_tokens=2)
    small_model.generate([PROMPT], n=8, temperature=0.9, max_tokens=2)
    usage = small_model.invoke(messages, max_tokens=2).usage_metadata
    assert usage is not None
    assert usage["input_token_details"]["cache_read"] > usage["input_tokens"] // 2


def test_the_same_seed_gives_the_same_samples_and_they_differ_among_themselves(
    small_model: EmbeddedChatModel,
) -> None:
    def texts() -> list[str]:
        result = small_model.generate([PROMPT], n=4, temperature=1.0, seed=7, max_tokens=12)
        return [generation.text for generation in result.generations[0]]

    first = texts()
    assert len(set(first)) > 1
    assert texts() == first


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(small_model: EmbeddedChatModel) -> None:
    whole = str(small_model.invoke(PROMPT, max_tokens=12).content)
    stop = whole.split()[1]
    cut = small_model.invoke(PROMPT, max_tokens=12, stop=[stop])
    assert stop not in cut.content
    assert whole.startswith(str(cut.content))


def test_log_probabilities_come_in_the_openai_shape_with_alternatives(small_model: EmbeddedChatModel) -> None:
    reply = small_model.invoke(PROMPT, max_tokens=3, logprobs=True, top_logprobs=2)
    content = reply.response_metadata["logprobs"]["content"]
    assert len(content) == 3
    assert "".join(entry["token"] for entry in content) == reply.content
    for entry in content:
        assert entry["logprob"] <= 0
        assert len(entry["top_logprobs"]) == 2
        assert entry["logprob"] == pytest.approx(max(top["logprob"] for top in entry["top_logprobs"]))  # greedy
        assert sum(math.exp(top["logprob"]) for top in entry["top_logprobs"]) <= 1.0001


async def test_a_stream_says_the_same_as_a_call_and_reports_usage_at_its_end(small_model: EmbeddedChatModel) -> None:
    whole = await small_model.ainvoke(PROMPT, max_tokens=8)
    total = None
    async for chunk in small_model.astream(PROMPT, max_tokens=8, logprobs=True):
        total = chunk if total is None else total + chunk
    assert total is not None
    assert total.content == whole.content
    assert total.usage_metadata is not None
    assert whole.usage_metadata is not None
    assert total.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]
    assert len(total.response_metadata["logprobs"]["content"]) == total.usage_metadata["output_tokens"]
    assert total.response_metadata["model_name"] == small_model.model_name


async def test_samples_survive_a_streaming_callback(small_model: EmbeddedChatModel) -> None:
    """LangGraph's `stream_mode="messages"` attaches one, at which LangChain would stream a single answer."""
    from langgraph.graph import END, START, MessagesState, StateGraph

    texts: list[int] = []

    async def sample(state: MessagesState) -> dict[str, Any]:
        result = await small_model.agenerate([state["messages"]], n=3, temperature=0.9, max_tokens=4)
        texts.append(len(result.generations[0]))
        return {}

    graph = StateGraph(MessagesState).add_node("sample", sample).add_edge(START, "sample").add_edge("sample", END)
    async for _ in graph.compile().astream({"messages": PROMPT}, stream_mode="messages"):
        pass
    assert texts == [3]


async def test_cancelling_the_task_stops_the_engine(small_model: EmbeddedChatModel) -> None:
    small_model.warm_up()
    before = _produced(small_model)
    task = asyncio.create_task(small_model.ainvoke(PROMPT, **ENDLESS))
    while not (await asyncio.to_thread(small_model.engine.metrics))["requests_processing"]:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(500):
        if not (await asyncio.to_thread(small_model.engine.metrics))["requests_processing"]:
            break
        await asyncio.sleep(0.02)
    assert _produced(small_model) - before < ENDLESS["max_tokens"]
    assert not small_model.engine.metrics()["requests_processing"]


@pytest.mark.parametrize("how", ["sync", "async", "stream"])
def test_a_timeout_is_one_error_and_leaves_the_engine_free(small_model: EmbeddedChatModel, how: str) -> None:
    small_model.warm_up()
    with pytest.raises(ModelTimeoutError, match=r"0\.3 s"):
        if how == "sync":
            small_model.invoke(PROMPT, timeout=0.3, **ENDLESS)
        elif how == "async":
            asyncio.run(small_model.ainvoke(PROMPT, timeout=0.3, **ENDLESS))
        else:
            list(small_model.stream(PROMPT, timeout=0.3, **ENDLESS))
    assert small_model.invoke(PROMPT, max_tokens=1).content


async def test_a_slow_reader_of_a_stream_is_not_cancelled_by_its_timeout(small_model: EmbeddedChatModel) -> None:
    with pytest.raises(ModelTimeoutError):
        async for _ in small_model.astream(PROMPT, timeout=0.5, **ENDLESS):
            await asyncio.sleep(1.0)  # must end by itself: the timeout is the model's, not the reader's


def test_many_threads_can_use_one_model(small_model: EmbeddedChatModel) -> None:
    prompts = [[HumanMessage(f"Say {index}")] for index in range(12)]
    replies = small_model.bind(max_tokens=3).batch(prompts, {"max_concurrency": 6})
    assert len(replies) == 12
    assert all(reply.usage_metadata for reply in replies)


def test_a_prompt_longer_than_the_window_is_refused_not_cut(small_model: EmbeddedChatModel) -> None:
    messages = [HumanMessage("word " * 6000)]
    with pytest.raises(ContextOverflowError) as caught:
        small_model.invoke(messages)
    assert caught.value.context == small_model.context_window
    assert caught.value.prompt_tokens == small_model.count_prompt_tokens(messages)


@pytest.mark.parametrize(
    "wrong", [{"n": 0}, {"n": "two"}, {"max_tokens": 0}, {"max_tokens": -1}, {"temperature": "hot"}]
)
def test_a_wrong_argument_is_refused_and_never_means_without_end(
    small_model: EmbeddedChatModel, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match=next(iter(wrong))):
        small_model.invoke(PROMPT, **wrong)


def test_instances_of_the_same_settings_share_one_copy_of_the_weights(small_model: EmbeddedChatModel) -> None:
    twin = create_embedded_model(small_model.model, context=small_model.context, temperature=1.0)
    assert twin.engine is small_model.engine
    assert create_embedded_model(small_model.model, context=1024).engine is not small_model.engine


def test_a_closed_model_loads_again_when_it_is_needed_and_leaves_others_alone(small_model: EmbeddedChatModel) -> None:
    other = create_embedded_model(small_model.model, context=512, parallel=1)
    assert other.invoke("hi", max_tokens=2).usage_metadata
    other.close()
    assert not other.engine.running
    assert small_model.invoke("hi", max_tokens=2).usage_metadata
    assert other.invoke("hi", max_tokens=2).usage_metadata
    other.close()


def test_a_file_that_llama_cannot_load_is_one_clear_error(tmp_path: Any) -> None:
    pytest.importorskip("xllamacpp", reason="the embedded engine (extra `local`) is not installed")
    path = tmp_path / "nonsense.gguf"
    path.write_bytes(gguf_bytes())
    with pytest.raises(WeightsError, match=r"nonsense\.gguf"):
        create_embedded_model(path).invoke("hi")


def test_the_manifest_pins_everything_a_rerun_needs(small_model: EmbeddedChatModel) -> None:
    manifest = small_model.manifest()
    assert len(manifest["weights_sha256"]) == len(manifest["chat_template_sha256"]) == 64
    assert manifest["quantisation"] == "Q4_1"
    assert manifest["engine_version"]
    assert manifest["sampling"]["temperature"] == 0.0


def test_structured_output_keeps_to_the_schema_whatever_the_temperature(small_model: EmbeddedChatModel) -> None:
    model = create_embedded_model(small_model.model, context=small_model.context, temperature=1.2, seed=3)
    answer = model.with_structured_output(Answer).invoke(PROMPT)
    assert isinstance(answer, Answer)


def test_a_required_call_is_enforced_and_a_named_one_too(embedded_model: EmbeddedChatModel) -> None:
    reply = embedded_model.bind_tools([run_sql, Answer], tool_choice="any").invoke(PROMPT, max_tokens=80)
    assert [call["name"] in ("run_sql", "Answer") for call in reply.tool_calls] == [True]
    named = embedded_model.bind_tools([run_sql, Answer], tool_choice="run_sql").invoke(PROMPT, max_tokens=80)
    assert [call["name"] for call in named.tool_calls] == ["run_sql"]
    assert set(named.tool_calls[0]["args"]) == {"query"}


def test_a_tool_that_was_not_offered_cannot_be_required(small_model: EmbeddedChatModel) -> None:
    with pytest.raises(ModelError, match="drop_table"):
        small_model.bind_tools([run_sql], tool_choice="drop_table")


def test_an_unfinished_answer_is_continued(embedded_model: EmbeddedChatModel) -> None:
    schema = "CREATE TABLE singer (id INTEGER, name TEXT, country TEXT)"
    messages = [HumanMessage(f"{schema}\nCount the singers. SQL only."), AIMessage("SELECT count(")]
    text = str(embedded_model.invoke(messages, max_tokens=8).content)
    assert not text.lstrip().upper().startswith("SELECT")
    assert ")" in text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"name": "run_sql", "arguments": {"query": "x"}}', ["run_sql"]),
        ('```json\n{"name": "run_sql", "arguments": {}}\n```', ["run_sql"]),
        ('<tool_call>\n{"name": "run_sql", "arguments": {}}\n</tool_call>', ["run_sql"]),
        ('[{"name": "run_sql", "arguments": {}}, {"name": "run_sql", "arguments": {}}]', ["run_sql", "run_sql"]),
        ('Use {"name": "run_sql", "arguments": {}} for that', []),
        ('{"name": "rm_rf", "arguments": {}}', []),
        ('{"name": "run_sql", "arguments": "x"}', []),
        ('{"name": "run_sql"', []),
        ("SELECT 1", []),
    ],
)
def test_only_a_whole_answer_that_names_an_offered_tool_is_a_call(text: str, names: list[str]) -> None:
    assert [call["name"] for call in calls_in_text(text, ["run_sql"])] == names


def test_content_blocks_of_a_history_are_sent_as_the_protocol_knows_them() -> None:
    call = {"name": "add", "args": {"a": 1}, "id": "1", "type": "tool_call"}
    said = AIMessage([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "Let me see."}, call])
    said.tool_calls = [call]
    [sent] = request_body([said], {})["messages"]
    assert sent["content"] == "Let me see."
    assert [asked["function"]["name"] for asked in sent["tool_calls"]] == ["add"]
