"""Wrapping the agent you have: the same answers, under a budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from tta_langgraph import Budget, Policy, budgeted
from tta_langgraph.errors import GraphError
from tta_langgraph.graphs.wrap import WrappedState, wrap_agent
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, ToolCall, scripted_chat_model

QUESTIONS = ["What is (2 + 3) * 4?", "What is 7 - 2?", "Hello?"]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer([]) as running:
        yield running


@tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@tool
def subtract(a: int, b: int) -> int:
    """Subtracts."""
    return a - b


@tool
def multiply(a: int, b: int) -> int:
    """Multiplies."""
    return a * b


def calling(name: str, **arguments: Any) -> Reply:
    return Reply(tool_calls=[ToolCall(name=name, arguments=arguments)])


def calculator(request: LoggedRequest) -> Reply:
    """What a model would say that uses three tools."""
    results = [str(m["content"]) for m in request.messages if m["role"] == "tool"]
    match request.text, len(results):
        case text, 0 if "(2 + 3)" in text:
            return calling("add", a=2, b=3)
        case text, 1 if "(2 + 3)" in text:
            return calling("multiply", a=int(results[0]), b=4)
        case text, 0 if "7 - 2" in text:
            return calling("subtract", a=7, b=2)
        case _, 0:
            return Reply("Hello!")
        case _:
            return Reply(f"The result is {results[-1]}.")


@pytest.mark.parametrize("wrapped_model", [False, True])
def test_a_react_agent_with_three_tools_gives_the_same_answers_wrapped(
    server: ScriptedServer, wrapped_model: bool
) -> None:
    server.use(calculator)
    model = scripted_chat_model(server)
    agent = create_agent(budgeted(model) if wrapped_model else model, [add, subtract, multiply])
    graph = wrap_agent(agent).compile()
    for question in QUESTIONS:
        server.reset()
        bare = agent.invoke({"messages": [HumanMessage(question)]})
        spent = server.total
        state = graph.invoke({"question": question})
        assert [(type(m), m.text) for m in state["messages"]] == [(type(m), m.text) for m in bare["messages"]]
        assert state["answer"] == bare["messages"][-1].text
        assert state["output"]["messages"][-1].text == state["answer"]
        assert state["budget"].usage.tokens == server.total - spent == spent
        assert state["budget"].usage.executions == sum(m.type == "tool" for m in state["messages"])
        assert state["stop_reason"] == "stop"


async def test_the_async_twin_gives_the_same_answers(server: ScriptedServer) -> None:
    server.use(calculator)
    agent = create_agent(scripted_chat_model(server), [add, subtract, multiply])
    state = await wrap_agent(agent).compile().ainvoke({"question": QUESTIONS[0]})
    assert state["answer"] == "The result is 20."
    assert state["budget"].usage.tokens == server.total
    assert state["budget"].usage.executions == 2


@pytest.mark.parametrize("wrapped_model", [False, True])
def test_a_budget_stops_an_agent_that_never_ends(server: ScriptedServer, wrapped_model: bool) -> None:
    server.use(lambda _: calling("add", a=1, b=1))
    model = scripted_chat_model(server, max_tokens=64)
    agent = create_agent(budgeted(model) if wrapped_model else model, [add])
    state = (
        wrap_agent(agent)
        .compile()
        .invoke({"question": "Go on.", "budget": Budget(tokens=1_000)}, {"recursion_limit": 500})
    )
    assert server.total <= 1_000
    assert state["stop_reason"] == "exhausted: tokens"
    assert state["budget"].usage.tokens == server.total


def test_a_recursion_limit_ends_a_run_and_not_the_episode(server: ScriptedServer) -> None:
    server.use(lambda _: calling("add", a=1, b=1))
    agent = create_agent(scripted_chat_model(server), [add]).with_config(recursion_limit=4)
    state = wrap_agent(agent).compile().invoke({"messages": [HumanMessage("Go on.")]})
    assert state["answer"] is None
    assert [c.finish_reason for c in state["candidates"]] == ["length"]


def test_the_deadline_cancels_a_budgeted_agent(server: ScriptedServer) -> None:
    server.use([Reply(hang=True)])
    agent = create_agent(budgeted(scripted_chat_model(server)), [])
    state = wrap_agent(agent, budget=Budget(seconds=1)).compile().invoke({"question": "?"})
    assert state["stop_reason"] == "exhausted: seconds"


def test_an_answer_that_fails_the_evaluator_gets_a_second_look(server: ScriptedServer) -> None:
    server.use([Reply("ten"), Reply("10")])
    agent = create_agent(scripted_chat_model(server), [])
    graph = wrap_agent(agent, evaluator=lambda answer: (answer.isdigit(), "Use digits.")).compile()
    state = graph.invoke({"question": "5 + 5?"})
    assert state["answer"] == "10"
    assert "Use digits." in server.log[1].last_message
    assert [d.action for d in state["decisions"]] == ["reflect", "stop"]


def test_second_looks_end_and_the_best_evaluated_answer_is_delivered(server: ScriptedServer) -> None:
    scores = {"good": 0.4, "bad": 0.2, "worse": 0.1}
    server.use([Reply(text) for text in scores])
    agent = create_agent(scripted_chat_model(server), [])
    state = wrap_agent(agent, evaluator=lambda answer: scores[answer]).compile().invoke({"question": "?"})
    assert server.requests == 3
    assert state["answer"] == "good"
    assert [m.text for m in state["messages"]] == ["?", "good"]


def test_a_confirmation_keeps_the_answer(server: ScriptedServer) -> None:
    server.use([Reply("ten"), Reply("CORRECT"), Reply("Yes, it is right.")])
    agent = create_agent(scripted_chat_model(server), [])
    state = wrap_agent(agent, evaluator=str.isdigit).compile().invoke({"question": "5 + 5?"})
    assert state["answer"] == "ten"
    assert len(state["candidates"]) == 1
    assert state["candidates"][0].evidence.confirmations == 2


def test_a_policy_may_run_it_afresh_and_take_the_vote(server: ScriptedServer) -> None:
    server.use([Reply("11"), Reply("10"), Reply("10")])
    agent = create_agent(scripted_chat_model(server), [])
    state = wrap_agent(agent, policy=Policy.static("best_of", 3)).compile().invoke({"question": "5 + 5?"})
    assert state["answer"] == "10"
    assert state["budget"].usage.tokens == server.total
    assert [c.action for c in state["candidates"]] == ["generate", "resample", "resample"]


def test_an_interrupt_of_the_agent_reaches_the_caller_and_is_resumed(server: ScriptedServer) -> None:
    @tool
    def ask_human(question: str) -> str:
        """Asks a person."""
        return str(interrupt(question))

    server.use([calling("ask_human", question="Which?"), Reply("Then it is 42.")])
    agent = create_agent(scripted_chat_model(server), [ask_human])
    graph = wrap_agent(agent, budget=Budget(tokens=9_000)).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    state = graph.invoke({"question": "Guess."}, config)
    assert state["__interrupt__"][0].value == "Which?"
    state = graph.invoke(Command(resume="the answer"), config)
    assert state["answer"] == "Then it is 42."
    assert server.requests == 2
    assert state["budget"].usage.tokens == server.total
    assert state["budget"].usage.executions == 1


def test_the_next_question_on_a_thread_sees_the_conversation_and_has_its_own_budget(server: ScriptedServer) -> None:
    server.use(lambda request: Reply(f"{len(request.messages)} messages"))
    agent = create_agent(scripted_chat_model(server), [])
    graph = wrap_agent(agent, budget=Budget(model_calls=1)).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    assert graph.invoke({"question": "One?"}, config)["answer"] == "1 messages"
    state = graph.invoke({"messages": [HumanMessage("Two?")]}, config)
    assert state["answer"] == "3 messages"
    assert state["question"] == "Two?"
    assert state["budget"].usage.model_calls == 1
    assert graph.invoke({"question": "Three?"}, config)["answer"] == "5 messages"


def test_streaming_shows_the_agents_own_steps(server: ScriptedServer) -> None:
    server.use(calculator)
    agent = create_agent(scripted_chat_model(server), [add, subtract, multiply])
    graph = wrap_agent(agent).compile()
    seen = [
        (namespace, set(chunk))
        for namespace, chunk in graph.stream({"question": QUESTIONS[1]}, stream_mode="updates", subgraphs=True)
    ]
    assert any(namespace and "tools" in nodes for namespace, nodes in seen)
    tokens = [c.content for c, _ in graph.stream({"question": "Hello?"}, stream_mode="messages")]
    assert "Hello!" in "".join(map(str, tokens))


# -- agents of every shape ------------------------------------------------------------------------------------


class QA(TypedDict, total=False):
    question: str
    answer: str


class Odd(TypedDict):
    puzzle: str


def graph_with_a_question_field() -> Any:
    builder = StateGraph(QA)
    builder.add_node("work", lambda state: {"answer": state["question"].upper()})
    builder.add_edge(START, "work")
    builder.add_edge("work", END)
    return builder.compile()


@pytest.mark.parametrize(
    "agent",
    [
        graph_with_a_question_field(),
        RunnableLambda(lambda text: text.upper()),
        RunnableLambda(
            lambda given: {"messages": [*given["messages"], AIMessage(given["messages"][-1].text.upper())]}
        ).with_types(input_type=MessagesState),
    ],
    ids=["question field", "text", "messages"],
)
def test_agents_of_other_shapes_are_asked_their_way(agent: Any) -> None:
    state = wrap_agent(agent).compile().invoke({"question": "quiet?"})
    assert state["answer"] == "QUIET?"


def test_a_chat_model_is_an_agent_too(server: ScriptedServer) -> None:
    server.use(["Oslo"])
    state = wrap_agent(scripted_chat_model(server)).compile().invoke({"question": "Capital of Norway?"})
    assert state["answer"] == "Oslo"
    assert state["budget"].usage.tokens == server.total


@pytest.mark.parametrize(
    ("agent", "remedy"),
    [
        (lambda question: "4", "RunnableLambda"),
        (StateGraph(MessagesState), r"agent\.compile\(\)"),
        ("my agent", "compiled graph"),
    ],
)
def test_what_is_nearly_an_agent_is_refused_with_a_remedy(agent: Any, remedy: str) -> None:
    with pytest.raises(GraphError, match=remedy):
        wrap_agent(agent)


def test_an_agent_that_cannot_be_asked_is_refused_before_the_first_episode() -> None:
    agent = RunnableLambda(lambda given: given["puzzle"]).with_types(input_type=Odd)
    with pytest.raises(GraphError, match="make_input"):
        wrap_agent(agent)
    graph = wrap_agent(agent, make_input=lambda state: {"puzzle": state["question"]}).compile()
    assert graph.invoke({"question": "x"})["answer"] == "x"


def test_an_output_without_an_answer_is_refused_with_a_remedy() -> None:
    graph = wrap_agent(RunnableLambda(lambda text: {"n": len(text)})).compile()
    with pytest.raises(GraphError, match="read_output"):
        graph.invoke({"question": "x"})
    graph = wrap_agent(RunnableLambda(lambda text: {"n": len(text)}), read_output=lambda out: str(out["n"])).compile()
    assert graph.invoke({"question": "xyz"})["answer"] == "3"


def test_no_question_is_refused_with_a_remedy(server: ScriptedServer) -> None:
    with pytest.raises(GraphError, match="question"):
        wrap_agent(RunnableLambda(str)).compile().invoke({"question": "  "})


def test_a_state_of_the_users_own_keeps_its_fields() -> None:
    class Mine(WrappedState, total=False):
        customer: str
        visits: Annotated[int, lambda a, b: a + b]

    builder = wrap_agent(RunnableLambda(str.upper), state_schema=Mine)
    state = builder.compile().invoke({"question": "a", "customer": "Eve", "visits": 2})
    assert (state["customer"], state["visits"], state["answer"]) == ("Eve", 2, "A")
