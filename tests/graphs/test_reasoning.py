"""The reasoning graph: parse, vote, look again where there is feedback, and stop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tta_langgraph import Budget, BudgetError, Policy
from tta_langgraph.graphs.reasoning import create_reasoning_graph
from tta_langgraph.parsers import Label, boxed, normal_expression, normal_number, number
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, scripted_chat_model


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer([]) as running:
        yield running


def run(server: ScriptedServer, budget: Any = None, **settings: Any) -> Any:
    graph = create_reasoning_graph(scripted_chat_model(server), **settings).compile()
    return graph.invoke({"question": "What is 5 + 5?", "budget": Budget(**(budget or {"tokens": 9_000}))})


def test_samples_vote_by_the_normal_form_of_their_answers(server: ScriptedServer) -> None:
    server.use([Reply("#### 11"), Reply(texts=["It is 10.", "\\boxed{10.0}"])])
    state = run(server, parse=number, normalise=normal_number, policy=Policy.static("best_of", 3))
    assert state["answer"] == "10"
    assert state["budget"].usage.tokens == server.total
    assert state["stop_reason"] == "stop"


def test_a_latex_answer_is_parsed_from_its_box(server: ScriptedServer) -> None:
    server.use([r"So \boxed{\dfrac{1}{2}}."])
    state = run(server, parse=boxed, normalise=normal_expression, policy=Policy.one_shot())
    assert state["answer"] == r"\dfrac{1}{2}"
    assert state["best"].key == r"\frac{1}{2}"


def test_the_instruction_is_the_system_message_of_every_call(server: ScriptedServer) -> None:
    server.use([Reply("a"), Reply("b")])
    run(server, instruction="Think.", policy=Policy.static("best_of", 2))
    assert [request.messages[0] for request in server.log] == [{"role": "system", "content": "Think."}] * 2


def test_what_the_evaluator_found_is_told_in_the_second_look(server: ScriptedServer) -> None:
    server.use([Reply("Answer: ten"), Reply("Answer: 10")])
    state = run(
        server,
        evaluator=lambda answer: (answer.isdigit(), "Use digits."),
        policy=Policy.static("reflect", 1),
    )
    assert "Use digits." in server.log[1].last_message
    assert state["answer"] == "10"
    assert all(check.passed for check in state["best"].evidence.checks)


def test_a_judge_is_asked_where_the_policy_judges(server: ScriptedServer) -> None:
    def script(request: LoggedRequest) -> Reply:
        if "You review answers" in request.text:
            return Reply("CONTINUE\nCRITIQUE: Add again.")
        return Reply("10" if "Add again." in request.text else "11")

    server.use(script)
    model = scripted_chat_model(server)
    state = run(server, judge=model, policy=Policy.static("reflect", 1, action="reflect:judge"))
    assert state["answer"] == "10"
    assert state["budget"].usage.tokens == server.total


def test_a_larger_model_is_called_in_where_the_policy_escalates(server: ScriptedServer) -> None:
    server.use([Reply("11"), Reply("10")])
    large = scripted_chat_model(server, model="large")
    state = run(server, escalate_to=large, policy=Policy.static("reflect", 1, action="escalate"))
    assert state["answer"] == "10"
    assert server.log[1].params["model"] == "large"


def test_the_default_policy_stops_by_itself_and_within_the_budget(server: ScriptedServer) -> None:
    server.use(lambda request: Reply(f"Answer: {request.index}"))
    state = run(server, {"tokens": 600}, parse=number)
    assert state["answer"] is not None
    assert server.total <= 600
    assert state["stop_reason"]


@pytest.mark.parametrize("reply", ["", "%%%", "I cannot answer that.", "word " * 600])
def test_useless_replies_end_in_no_answer_and_not_in_an_error(server: ScriptedServer, reply: str) -> None:
    server.use(lambda _: Reply(reply))
    state = run(server, {"tokens": 1_500}, parse=Label("positive", "negative"), max_tokens=40)
    assert state["answer"] is None
    assert server.total <= 1_500


def test_a_budget_below_the_first_prompt_is_refused_before_a_token_is_spent(server: ScriptedServer) -> None:
    with pytest.raises(BudgetError, match="first prompt"):
        run(server, {"tokens": 10})
    assert server.requests == 0


async def test_the_async_twin_does_the_same(server: ScriptedServer) -> None:
    server.use([Reply("11"), Reply(texts=["10", "10"])])
    graph = create_reasoning_graph(
        scripted_chat_model(server), parse=number, policy=Policy.static("best_of", 3), budget=Budget(tokens=900)
    ).compile()
    state = await graph.ainvoke({"question": "What is 5 + 5?"})
    assert state["answer"] == "10"
    assert state["budget"].budget.tokens == 900
