"""What a policy decides is what runs: reflections of every name, live, recorded and replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tta_langgraph import Budget, Policy, Utility
from tta_langgraph.decision.second_looks import best_form
from tta_langgraph.errors import GraphError
from tta_langgraph.graphs import create_reasoning_graph, create_text_to_sql_graph
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, scripted_chat_model
from tta_langgraph.traces.fit_explore import recorded_actions
from tta_langgraph.traces.grid import Chain, Grid
from tta_langgraph.traces.questions import Question
from tta_langgraph.traces.record import record
from tta_langgraph.traces.replay import replay
from tta_langgraph.traces.replay_columns import columns
from tta_langgraph.traces.store import TraceStore

QUESTION = "What are the customers' names?"
WRONG, RIGHT = "SELECT nam FROM customers", "SELECT name FROM customers"
SMALL = "Qwen2.5-Coder-0.5B-Instruct"
CHEAP = Utility(per_token=1e-6, per_second=1e-6)


def fenced(sql: str) -> str:
    return f"```sql\n{sql}\n```"


def look(server: ScriptedServer, shop: str, action: str, *, model: str = "scripted") -> tuple[Any, LoggedRequest]:
    """The state after one second look at a query that failed, and the request that it made."""
    policy = Policy.static("reflect", 1, action=action)
    graph = create_text_to_sql_graph(scripted_chat_model(server, model=model), shop, policy=policy).compile()
    return graph.invoke({"question": QUESTION, "budget": Budget(tokens=20_000)}), server.log[-1]


@pytest.mark.parametrize(
    ("action", "shows_attempt", "tells", "form"),
    [
        ("reflect:attempt", True, "no such column", "attempt"),
        ("reflect:execution.consequences", False, "no such column", "consequences"),
        ("reflect:execution.repair", False, "Fault to avoid", "repair"),
        ("reflect:fresh", False, "", "fresh"),
        ("reflect:none.attempt", True, "", "attempt"),
    ],
)
def test_the_name_of_a_reflection_says_what_is_told_and_in_which_form(
    shop: str, action: str, shows_attempt: bool, tells: str, form: str
) -> None:
    with ScriptedServer([fenced(WRONG), fenced(RIGHT)]) as server:
        state, request = look(server, shop, action)
    assert (WRONG in request.text) is shows_attempt
    assert tells in request.last_message
    if not tells:
        assert "no such column" not in request.text
    child = state["candidates"][-1]
    assert (child.action, child.form) == ("reflect", form)
    assert state["answer"] == RIGHT
    assert state["decisions"][0].action == action


@pytest.mark.parametrize("action", ["reflect", "reflect:execution"])
def test_a_known_model_is_looked_at_in_the_form_that_its_records_speak_for(shop: str, action: str) -> None:
    with ScriptedServer([fenced(WRONG), fenced(RIGHT)]) as server:
        state, request = look(server, shop, action, model=SMALL)
    assert state["candidates"][-1].form == best_form(SMALL, "execution", seen="error")
    assert WRONG not in request.text, "this model repeats what it is shown"


@pytest.mark.parametrize("action", ["reflect:oracle", "reflect:execution.sonnet", "reflect:judge.oracle"])
def test_a_look_that_does_not_exist_is_refused_when_the_graph_is_built(shop: str, action: str) -> None:
    with ScriptedServer([]) as server:
        model = scripted_chat_model(server)
        with pytest.raises(GraphError, match=action):
            create_text_to_sql_graph(model, shop, policy=Policy.default("sql", actions=[action, "resample(1)"]))


def test_a_graph_that_executes_nothing_has_nothing_to_tell_of_an_execution() -> None:
    with ScriptedServer([]) as server, pytest.raises(GraphError, match="reflect:execution"):
        create_reasoning_graph(
            scripted_chat_model(server), policy=Policy.default("text", actions=["reflect:execution", "resample(1)"])
        )


def recorded(shop: str, folder: Path, *chains: Chain, model: str = SMALL) -> Any:
    """The pool of a question whose first answer fails and whose repair is right."""

    def replies(request: LoggedRequest) -> Reply:
        told = "Fault to avoid" in request.last_message or "no good" in request.last_message
        return Reply(texts=[fenced(RIGHT if told else WRONG)] * request.n)

    question = Question(id="q", question=QUESTION, db_id="shop", gold=(RIGHT,))
    grid = Grid(samples=2, chains=chains, judged=0, logprobs=False, schema_tokens=2_000)
    folder.mkdir(exist_ok=True)
    with ScriptedServer(replies) as server, TraceStore(folder / "traces.db") as store:
        databases = Path(shop.removeprefix("sqlite:///")).parent
        record([question], databases, scripted_chat_model(server, model=model), grid, store)
        [pool] = store.pools()
    return pool


def test_a_policy_fitted_on_recorded_looks_names_the_form_that_was_recorded(shop: str, tmp_path: Path) -> None:
    pool = recorded(shop, tmp_path, Chain(form="repair"), Chain(feedback="none", form="attempt"))
    names = [str(action) for action in recorded_actions(columns([pool])) if action.kind == "reflect"]
    assert names == ["reflect:execution.repair", "reflect:none.attempt"]


def test_a_look_without_a_form_is_replayed_only_if_the_recorded_one_is_what_would_run(
    shop: str, tmp_path: Path
) -> None:
    default = best_form(SMALL, "execution", seen="error")
    policy = Policy.static("reflect", 1)
    for form in ("repair", "consequences"):
        pool = recorded(shop, tmp_path / form, Chain(form=form))
        explicit = replay([pool], Policy.static("reflect", 1, action=f"reflect:execution.{form}"))
        assert explicit.correct.all()
        assert replay([pool], policy).correct.all() == (form == default)


def test_a_chain_without_a_form_records_what_a_live_graph_runs(shop: str, tmp_path: Path) -> None:
    pool = recorded(shop, tmp_path, Chain())
    [attempt] = pool.reflections()
    with ScriptedServer([fenced(WRONG), fenced(RIGHT)]) as server:
        state, _ = look(server, shop, "reflect", model=SMALL)
    assert attempt.form == state["candidates"][-1].form


def test_a_replayed_candidate_knows_its_form(shop: str, tmp_path: Path) -> None:
    pool = recorded(shop, tmp_path, Chain(form="repair"))
    assert [attempt.to_candidate().form for attempt in pool.reflections()] == ["repair"]
