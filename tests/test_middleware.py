"""BudgetMiddleware: an agent of langchain's create_agent inside a budget."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    HumanInTheLoopMiddleware,
    ModelFallbackMiddleware,
    ModelRequest,
    wrap_model_call,
)
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from tta_langgraph import (
    Budget,
    BudgetError,
    BudgetExceededError,
    BudgetMiddleware,
    EpisodeState,
    Policy,
    budgeted,
)
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, ToolCall, scripted_chat_model

ASK = {"messages": [HumanMessage("What is 2 + 3, doubled?")]}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer([]) as running:
        yield running


@tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@tool
def double(a: int) -> int:
    """Doubles."""
    return 2 * a


def calling(name: str, **arguments: Any) -> Reply:
    return Reply(tool_calls=[ToolCall(name=name, arguments=arguments)])


WORK = [calling("add", a=2, b=3), calling("double", a=5), Reply("It is 10.")]


def test_an_ample_budget_changes_nothing_and_counts_everything(server: ScriptedServer) -> None:
    server.use([*WORK, *WORK])
    model = scripted_chat_model(server)
    bare = create_agent(model, [add, double]).invoke(ASK)
    spent_bare = server.total
    guarded = create_agent(model, [add, double], middleware=[BudgetMiddleware(100_000)]).invoke(ASK)
    assert [m.text for m in guarded["messages"]] == [m.text for m in bare["messages"]]
    usage = guarded["budget"].usage
    assert usage.tokens == server.total - spent_bare == spent_bare
    assert (usage.model_calls, usage.executions) == (3, 2)
    assert guarded["stop_reason"] == ""


def test_it_never_spends_more_than_the_limit(server: ScriptedServer) -> None:
    server.use(lambda _: calling("add", a=1, b=1))
    agent = create_agent(scripted_chat_model(server), [add], middleware=[BudgetMiddleware(600)])
    state = agent.invoke(ASK, {"recursion_limit": 200})
    assert server.total <= 600
    assert state["budget"].usage.tokens >= server.total
    assert state["stop_reason"] == "exhausted: tokens"


def test_finalize_gives_a_final_answer_from_the_reserve_without_tools(server: ScriptedServer) -> None:
    def script(request: LoggedRequest) -> Reply:
        return calling("add", a=1, b=1) if request.params.get("tools") else Reply("At least 2.")

    server.use(script)
    guard = BudgetMiddleware(Budget(tokens=1_500, reserve=700))
    state = create_agent(scripted_chat_model(server), [add], middleware=[guard]).invoke(ASK, {"recursion_limit": 200})
    assert state["messages"][-1].text == "At least 2."
    assert state["stop_reason"] == "exhausted: tokens"
    assert server.total <= 1_500


@pytest.mark.parametrize(("exit_behavior", "said"), [("finalize", "At least 5."), ("end", "Let me see.")])
async def test_an_agent_does_not_end_on_a_reply_that_was_cut_before_its_first_word(
    server: ScriptedServer, exit_behavior: Any, said: str
) -> None:
    def script(request: LoggedRequest) -> Reply:
        if not request.params.get("tools"):
            return Reply("At least 5.")
        if any(message["role"] == "tool" for message in request.messages):
            return Reply("It is 10.", completion_tokens=50_000)  # thinks first, and longer than it may
        return Reply("Let me see.", tool_calls=[ToolCall(name="add", arguments={"a": 2, "b": 3})])

    server.use(script)
    for run_async in (False, True):
        guard = BudgetMiddleware(Budget(tokens=1_500, reserve=400), exit_behavior=exit_behavior)
        agent, before = create_agent(scripted_chat_model(server), [add], middleware=[guard]), server.total
        state = await agent.ainvoke(ASK) if run_async else await asyncio.to_thread(agent.invoke, ASK)
        assert state["messages"][-1].text == said
        assert state["stop_reason"] == "exhausted: tokens"
        assert server.total - before <= 1_500


def test_end_keeps_what_was_said_last(server: ScriptedServer) -> None:
    server.use([Reply("Let me see.", tool_calls=[ToolCall(name="add", arguments={"a": 1, "b": 1})]), Reply("no")])
    guard = BudgetMiddleware(Budget(model_calls=1), exit_behavior="end")
    state = create_agent(scripted_chat_model(server), [add], middleware=[guard]).invoke(ASK)
    assert state["messages"][-1].text == "Let me see."
    assert isinstance(state["messages"][-2], ToolMessage)
    assert server.requests == 1


def test_error_raises_with_the_dimension(server: ScriptedServer) -> None:
    server.use(lambda _: calling("add", a=1, b=1))
    guard = BudgetMiddleware(Budget(model_calls=2), exit_behavior="error")
    with pytest.raises(BudgetExceededError) as caught:
        create_agent(scripted_chat_model(server), [add], middleware=[guard]).invoke(ASK)
    assert caught.value.dimension == "model_calls"
    assert server.requests == 2


def test_tools_beyond_the_execution_limit_are_not_run(server: ScriptedServer) -> None:
    ran: list[int] = []

    @tool
    def note(a: int) -> str:
        """Notes."""
        ran.append(a)
        return "noted"

    both = Reply(tool_calls=[ToolCall(name="note", arguments={"a": 1}), ToolCall(name="note", arguments={"a": 2})])
    server.use([both, Reply("Done.")])
    guard = BudgetMiddleware(Budget(executions=1))
    state = create_agent(scripted_chat_model(server), [note], middleware=[guard]).invoke(ASK)
    assert len(ran) == 1
    assert state["budget"].usage.executions == 1
    refused = [m for m in state["messages"] if isinstance(m, ToolMessage) and m.status == "error"]
    assert ["executions budget is exhausted" in m.text for m in refused] == [True]


def asking(model: Any) -> Any:
    """A tool that calls a budgeted model itself, sync and async."""
    inside = budgeted(model)

    def summarise(text: str) -> str:
        """Summarises."""
        return str(inside.invoke(text).text)

    async def asummarise(text: str) -> str:
        return str((await inside.ainvoke(text)).text)

    return StructuredTool.from_function(summarise, coroutine=asummarise, name="summarise")


@pytest.mark.parametrize("twin", ["sync", "async"])
async def test_a_tool_whose_own_model_is_refused_does_not_cost_the_agent_its_answer(
    server: ScriptedServer, twin: str
) -> None:
    server.use([Reply("It is about 10.", tool_calls=[ToolCall(name="summarise", arguments={"text": "x"})])])
    model = scripted_chat_model(server)
    agent = create_agent(model, [asking(model)], middleware=[BudgetMiddleware(Budget(model_calls=1))])
    state = agent.invoke(ASK) if twin == "sync" else await agent.ainvoke(ASK)
    assert state["messages"][-1].text == "It is about 10."
    assert state["stop_reason"] == "exhausted: model_calls"
    [told] = [m for m in state["messages"] if isinstance(m, ToolMessage)]
    assert told.status == "error"
    assert "model_calls budget is exhausted" in told.text
    assert (state["budget"].usage.model_calls, state["budget"].usage.executions) == (1, 1)


@pytest.mark.parametrize(
    "guard",
    [
        BudgetMiddleware(Budget(model_calls=1), exit_behavior="error"),
        BudgetMiddleware(Budget(model_calls=1, on_exhausted="raise")),
    ],
)
def test_a_tool_whose_own_model_is_refused_raises_where_that_was_asked_for(
    server: ScriptedServer, guard: BudgetMiddleware
) -> None:
    server.use([calling("summarise", text="x")])
    model = scripted_chat_model(server)
    with pytest.raises(BudgetExceededError):
        create_agent(model, [asking(model)], middleware=[guard]).invoke(ASK)


async def test_the_deadline_cancels_a_model_call_and_an_async_tool(server: ScriptedServer) -> None:
    @tool
    async def wait() -> str:
        """Waits."""
        await asyncio.sleep(30)
        return "late"

    server.use([calling("wait"), Reply(hang=True)])
    guard = BudgetMiddleware(Budget(seconds=2), exit_behavior="end")
    state = await create_agent(scripted_chat_model(server), [wait], middleware=[guard]).ainvoke(ASK)
    assert any("stopped at the deadline" in m.text for m in state["messages"] if isinstance(m, ToolMessage))
    assert state["stop_reason"] == "exhausted: seconds"
    assert state["budget"].elapsed < 20


def test_the_model_is_shown_the_budget_last_and_the_history_is_not(server: ScriptedServer) -> None:
    server.use(WORK)
    guard = BudgetMiddleware(50_000, show_budget=True)
    state = create_agent(scripted_chat_model(server), [add, double], middleware=[guard]).invoke(ASK)
    assert all("<budget>" in request.last_message for request in server.log)
    shown = [request.messages for request in server.log]
    assert shown[1][: len(shown[0]) - 1] == shown[0][:-1]
    assert not any("<budget>" in m.text for m in state["messages"])


# -- interrupts and resumes ---------------------------------------------------------------------------------


def test_a_tool_that_interrupts_is_charged_once_and_the_limit_holds_over_resumes(server: ScriptedServer) -> None:
    @tool
    def ask_human(question: str) -> str:
        """Asks a person."""
        return str(interrupt(question))

    server.use(lambda request: calling("ask_human", question=f"{len(request.messages)}?"))
    guard = BudgetMiddleware(Budget(model_calls=3), exit_behavior="end")
    agent = create_agent(scripted_chat_model(server), [ask_human], middleware=[guard], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    state = agent.invoke(ASK, config)
    for answer in range(10):
        if "__interrupt__" not in state:
            break
        state = agent.invoke(Command(resume=str(answer)), config)
    assert server.requests == 3
    assert state["stop_reason"] == "exhausted: model_calls"
    assert state["budget"].usage.model_calls == 3
    assert state["budget"].usage.executions == 3
    assert state["budget"].usage.tokens == server.total


def test_human_approval_of_tool_calls_works_beside_it(server: ScriptedServer) -> None:
    server.use(WORK)
    agent = create_agent(
        scripted_chat_model(server),
        [add, double],
        middleware=[BudgetMiddleware(50_000), HumanInTheLoopMiddleware(interrupt_on={"add": True})],
        checkpointer=InMemorySaver(),
    )
    config: Any = {"configurable": {"thread_id": "1"}}
    assert "__interrupt__" in agent.invoke(ASK, config)
    state = agent.invoke(Command(resume={"decisions": [{"type": "approve"}]}), config)
    assert state["messages"][-1].text == "It is 10."
    assert state["budget"].usage.tokens == server.total
    assert state["budget"].usage.executions == 2


def test_the_next_question_on_a_thread_has_its_own_budget(server: ScriptedServer) -> None:
    server.use(lambda _: Reply("Ten."))
    agent = create_agent(
        scripted_chat_model(server),
        [],
        middleware=[BudgetMiddleware(Budget(model_calls=1))],
        checkpointer=InMemorySaver(),
    )
    config: Any = {"configurable": {"thread_id": "1"}}
    for _ in range(3):
        state = agent.invoke(ASK, config)
        assert state["messages"][-1].text == "Ten."
        assert state["stop_reason"] == ""
        assert state["budget"].usage.model_calls == 1


def test_a_budget_in_the_input_replaces_the_middlewares(server: ScriptedServer) -> None:
    server.use(lambda _: Reply("word " * 50))
    agent = create_agent(scripted_chat_model(server), [], middleware=[BudgetMiddleware(5)])
    state = agent.invoke({**ASK, "budget": Budget(tokens=9_000)})
    assert state["budget"].budget.tokens == 9_000
    assert state["stop_reason"] == ""


# -- reflect or stop ----------------------------------------------------------------------------------------


def texts(state: Any) -> list[tuple[str, str]]:
    return [(type(m).__name__, m.text) for m in state["messages"]]


def test_an_answer_that_fails_the_evaluator_is_looked_at_again(server: ScriptedServer) -> None:
    server.use([Reply("ten"), Reply("10")])
    guard = BudgetMiddleware(9_000, evaluator=lambda answer: (answer.isdigit(), "Use digits."))
    state = create_agent(scripted_chat_model(server), [], middleware=[guard]).invoke(ASK)
    assert "Use digits." in server.log[1].last_message
    assert texts(state) == [("HumanMessage", ASK["messages"][0].text), ("AIMessage", "10")]
    assert state["stop_reason"] == "stop"
    assert [c.answer for c in state["candidates"]] == ["ten", "10"]


def test_an_answer_that_passes_is_not_touched(server: ScriptedServer) -> None:
    server.use([Reply("10")])
    guard = BudgetMiddleware(9_000, evaluator=str.isdigit, max_reflections=3)
    state = create_agent(scripted_chat_model(server), [], middleware=[guard]).invoke(ASK)
    assert server.requests == 1
    assert state["messages"][-1].text == "10"


@pytest.mark.parametrize("reply", ["CORRECT", "Yes, the answer is right.", "", "?!"])
def test_a_confirmation_or_a_useless_second_look_leaves_the_first_answer_last(
    server: ScriptedServer, reply: str
) -> None:
    server.use([Reply("It is 10."), Reply(reply)])
    guard = BudgetMiddleware(9_000, max_reflections=1)
    state = create_agent(scripted_chat_model(server), [], middleware=[guard]).invoke(ASK)
    assert texts(state)[1:] == [("AIMessage", "It is 10.")]
    assert server.requests == 2


def test_an_earlier_answer_that_was_evaluated_better_comes_back(server: ScriptedServer) -> None:
    server.use([Reply("good"), Reply("bad"), Reply("worse")])
    scores = {"good": 0.4, "bad": 0.2, "worse": 0.1}
    guard = BudgetMiddleware(9_000, evaluator=lambda answer: scores[answer], max_reflections=2)
    state = create_agent(scripted_chat_model(server), [], middleware=[guard]).invoke(ASK)
    assert texts(state)[1:] == [("AIMessage", "good")]


def test_a_second_look_may_use_tools(server: ScriptedServer) -> None:
    server.use([Reply("11"), calling("add", a=5, b=5), Reply("10")])
    guard = BudgetMiddleware(9_000, evaluator=lambda answer: answer == "10")
    state = create_agent(scripted_chat_model(server), [add], middleware=[guard]).invoke(ASK)
    assert state["messages"][-1].text == "10"
    kinds = [type(m).__name__ for m in state["messages"]]
    assert kinds == ["HumanMessage", "AIMessage", "ToolMessage", "AIMessage"]


def test_an_exhausted_budget_ends_the_looking_with_the_best_answer(server: ScriptedServer) -> None:
    server.use(lambda request: Reply("ten" if request.index == 0 else "eleven"))
    guard = BudgetMiddleware(
        Budget(model_calls=1), evaluator=lambda answer: False, max_reflections=5, exit_behavior="end"
    )
    state = create_agent(scripted_chat_model(server), [], middleware=[guard]).invoke(ASK)
    assert texts(state)[1:] == [("AIMessage", "ten")]
    assert state["stop_reason"] == "exhausted: model_calls"


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_an_evaluator_that_finds_no_budget_ends_the_looking_with_the_answer_there_is(
    server: ScriptedServer, mode: str
) -> None:
    server.use(["ten"])
    judging = budgeted(scripted_chat_model(server))

    def judge(answer: str) -> bool:
        return judging.invoke(f"Is {answer} right?").text == "yes"

    def agent(**options: Any) -> Any:
        guard = BudgetMiddleware(Budget(model_calls=1), evaluator=judge, max_reflections=2, **options)
        return create_agent(scripted_chat_model(server), [], middleware=[guard])

    state = agent().invoke(ASK) if mode == "sync" else await agent().ainvoke(ASK)
    assert texts(state)[1:] == [("AIMessage", "ten")]
    assert state["stop_reason"] == "exhausted: model_calls"
    server.use(["ten"])
    with pytest.raises(BudgetExceededError):
        agent(exit_behavior="error").invoke(ASK)


def test_a_policy_decides_about_second_looks(server: ScriptedServer) -> None:
    server.use([Reply("ten"), Reply("CORRECT")])
    guard = BudgetMiddleware(9_000, policy=Policy.static("reflect", 1), max_reflections=5)
    state = create_agent(scripted_chat_model(server), [], middleware=[guard]).invoke(ASK)
    assert [d.action for d in state["decisions"]] == ["reflect", "stop"]
    assert state["messages"][-1].text == "ten"


async def test_the_async_twin_reviews_with_an_async_verifier(server: ScriptedServer) -> None:
    async def digits(answer: str) -> bool:
        await asyncio.sleep(0)
        return answer.isdigit()

    server.use([Reply("ten"), Reply("10")])
    agent = create_agent(scripted_chat_model(server), [], middleware=[BudgetMiddleware(9_000, evaluator=digits)])
    assert (await agent.ainvoke(ASK))["messages"][-1].text == "10"


def test_streaming_shows_the_decisions(server: ScriptedServer) -> None:
    server.use([Reply("ten"), Reply("10")])
    agent = create_agent(scripted_chat_model(server), [], middleware=[BudgetMiddleware(9_000, evaluator=str.isdigit)])
    events = list(agent.stream(ASK, stream_mode="custom"))
    assert [event["action"] for event in events if event["type"] == "decision"] == ["reflect", "stop"]
    json.dumps(events)


def test_a_node_that_hands_over_all_that_an_agent_returns_keeps_its_graphs_own_budget(server: ScriptedServer) -> None:
    class State(EpisodeState, MessagesState):
        pass

    server.use(["first", "second", "third"])
    model = budgeted(scripted_chat_model(server))
    agent = create_agent(model, [], middleware=[BudgetMiddleware(Budget(tokens=5_000))])
    builder = StateGraph(State)
    builder.add_node("before", lambda _: {"answer": model.invoke("before").text})
    builder.add_node("agent", lambda state: agent.invoke({"messages": state["messages"]}))
    builder.add_node("after", lambda _: {"answer": model.invoke("after").text})
    builder.add_edge(START, "before").add_edge("before", "agent").add_edge("agent", "after")
    state = builder.compile().invoke({"messages": [HumanMessage("Hello.")], "budget": Budget(tokens=500)})
    assert state["budget"].budget.tokens == 500
    assert state["budget"].usage.model_calls == server.requests == 3
    assert state["budget"].usage.tokens == server.total


def test_an_unknown_exit_behavior_is_refused() -> None:
    with pytest.raises(BudgetError, match="finalize"):
        BudgetMiddleware(100, exit_behavior="explode")  # type: ignore[arg-type]


def test_the_last_message_is_an_answer_of_the_assistant_whatever_happens(server: ScriptedServer) -> None:
    state = create_agent(scripted_chat_model(server), [], middleware=[BudgetMiddleware(3)]).invoke(ASK)
    assert isinstance(state["messages"][-1], AIMessage)
    assert state["messages"][-1].text
    assert server.requests == 0


def test_a_question_whose_first_call_failed_leaves_its_clock_to_nobody(server: ScriptedServer) -> None:
    server.use([Reply(status=400), Reply("Ten."), Reply("Ten.")])
    agent = create_agent(
        scripted_chat_model(server), [], middleware=[BudgetMiddleware(9_000)], checkpointer=InMemorySaver()
    )
    config: Any = {"configurable": {"thread_id": "1"}}
    with pytest.raises(Exception, match="400"):
        agent.invoke(ASK, config)
    failed = agent.get_state(config).values["budget"]
    second = agent.invoke(ASK, config)["budget"]
    assert second.episode != failed.episode
    assert second.started > failed.started
    given = agent.invoke({**ASK, "budget": Budget(tokens=8_000)}, config)["budget"]
    assert given.budget.tokens == 8_000, "the input's budget still wins"


# -- other middleware ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("kind", ["fallback", "override", "assignment"])
@pytest.mark.filterwarnings("ignore:Direct attribute assignment")
def test_a_model_that_other_middleware_puts_in_is_under_the_budget_as_well(
    server: ScriptedServer, position: str, kind: str
) -> None:
    server.use(lambda request: Reply(status=400) if request.params["model"] == "scripted" else Reply("word " * 300))
    other = scripted_chat_model(server, model="other")

    @wrap_model_call
    def override(request: ModelRequest[Any], handler: Any) -> Any:
        return handler(request.override(messages=request.messages).override(model=other))

    @wrap_model_call
    def assignment(request: ModelRequest[Any], handler: Any) -> Any:
        request.model = other
        return handler(request)

    inner = {"fallback": ModelFallbackMiddleware(other), "override": override, "assignment": assignment}[kind]
    guard = BudgetMiddleware(100)
    middleware: Any = [guard, inner] if position == "before" else [inner, guard]
    state = create_agent(scripted_chat_model(server), [], middleware=middleware).invoke(ASK)
    assert 0 < server.total <= 100
    assert state["budget"].usage.tokens == server.total
