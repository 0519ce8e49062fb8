"""Several first answers in one request: what is asked, what it costs, and that replay counts the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tta_langgraph import Budget, Policy
from tta_langgraph.errors import PolicyError
from tta_langgraph.graphs import create_reasoning_graph, create_text_to_sql_graph
from tta_langgraph.parsers import number
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, scripted_chat_model
from tta_langgraph.traces.grid import Grid
from tta_langgraph.traces.questions import Question
from tta_langgraph.traces.record import record
from tta_langgraph.traces.replay import replay
from tta_langgraph.traces.store import TraceStore

QUESTION = "How many customers are there?"
RIGHT, OTHER, BROKEN = "SELECT count(*) FROM customers", "SELECT max(id) + 4 FROM customers", "SELECT n FROM customers"
TEXTS = [f"```sql\n{sql}\n```" for sql in (OTHER, RIGHT, BROKEN, "SELECT count(id) FROM customers")]


def answers(request: LoggedRequest) -> Reply:
    return Reply(texts=TEXTS[: request.n])


def asked(server: ScriptedServer, shop: str, **options: Any) -> Any:
    budget = options.pop("limits", Budget(tokens=9_000))
    policy = options.pop("policy", Policy.one_shot())
    graph = create_text_to_sql_graph(scripted_chat_model(server), shop, policy=policy, **options).compile()
    return graph.invoke({"question": QUESTION, "budget": budget})


def test_the_first_request_draws_several_samples_and_the_vote_chooses(shop: str) -> None:
    with ScriptedServer(answers) as server:
        state = asked(server, shop, opening=4)
        [request] = server.log
        assert (request.n, request.params["temperature"]) == (4, 0.8)
        assert state["answer"] == RIGHT, "two of three results agree"
        assert [c.action for c in state["candidates"]] == ["resample"] * 4
        usage = state["budget"].usage
        assert usage.tokens == server.total
        assert usage.prompt_tokens == request.prompt_tokens, "the prompt is read and charged once"
        assert usage.model_calls == 1


def test_a_single_first_answer_stays_greedy(shop: str) -> None:
    with ScriptedServer(answers) as server:
        state = asked(server, shop)
    assert (server.log[0].n, server.log[0].params["temperature"]) == (1, 0.0)
    assert state["candidates"][0].action == "generate"


@pytest.mark.parametrize("room", [1, 2, 3])
def test_there_are_as_many_as_the_budget_can_pay_to_their_end(shop: str, room: int) -> None:
    with ScriptedServer(answers) as server:
        prompt = asked(server, shop)["budget"].usage.prompt_tokens
        server.reset()
        limit = prompt + 40 * room + 30
        state = asked(server, shop, opening=4, max_tokens=40, limits=Budget(tokens=limit))
        assert server.log[0].n == room
        assert len(state["candidates"]) == room
        assert state["budget"].usage.tokens == server.total <= limit
    assert server.log[0].params["temperature"] == (0.0 if room == 1 else 0.8)


def test_a_policy_file_carries_its_opening_and_an_argument_outranks_it(shop: str, tmp_path: Path) -> None:
    path = Policy.one_shot().with_opening(3).save(tmp_path / "policy.json")
    policy = Policy.load(path)
    assert policy.opening == 3
    with ScriptedServer(answers) as server:
        asked(server, shop, policy=policy)
        asked(server, shop, policy=policy, opening=2)
        assert [request.n for request in server.log] == [3, 2]


@pytest.mark.parametrize("opening", [0, -1, True, 1.5])
def test_an_opening_is_a_whole_number_of_at_least_one(opening: Any) -> None:
    with pytest.raises(PolicyError, match="opening"):
        Policy.one_shot().with_opening(opening)


def test_samples_that_are_missing_after_the_opening_are_drawn_later(shop: str) -> None:
    with ScriptedServer(answers) as server:
        state = asked(server, shop, opening=2, policy=Policy.static("best_of", 4))
        assert [request.n for request in server.log] == [2, 2]
        assert len(state["candidates"]) == 4


async def test_the_reasoning_graph_opens_likewise() -> None:
    with ScriptedServer([Reply(texts=["It is 11.", "10", "\\boxed{10}"])]) as server:
        graph = create_reasoning_graph(
            scripted_chat_model(server), parse=number, opening=3, policy=Policy.one_shot(), options={"seed": 5}
        ).compile()
        state = await graph.ainvoke({"question": "5 + 5?", "budget": Budget(tokens=2_000)})
        [request] = server.log
        assert (request.n, request.params["temperature"], request.params["seed"]) == (3, 0.8, 5)
        assert state["answer"] == "10"
        assert state["budget"].usage.tokens == server.total


@pytest.mark.parametrize("opening", [1, 2, 4])
def test_a_replayed_opening_costs_what_the_live_one_does(shop: str, tmp_path: Path, opening: int) -> None:
    question = Question(id="q", question=QUESTION, db_id="shop", gold=(RIGHT,))
    grid = Grid(samples=4, chains=(), judged=0, logprobs=False, schema_tokens=2_000)
    with ScriptedServer(answers) as server, TraceStore(tmp_path / "traces.db") as store:
        record([question], Path(shop.removeprefix("sqlite:///")).parent, scripted_chat_model(server), grid, store)
        live = asked(server, shop, opening=opening)
        # The replayed samples come in random order: replayed often, their mean is that of all of equal length.
        played = replay(list(store.pools()), Policy.one_shot(), opening=opening, repeats=64)
    written = [c.usage.completion_tokens for c in live["candidates"]]
    prompt = live["budget"].usage.prompt_tokens
    assert set(played.calls.tolist()) == {1}
    if opening in (1, 4):  # every sample is drawn, in whatever order
        assert set(played.tokens.tolist()) == {float(live["budget"].usage.tokens)}
        assert live["budget"].usage.tokens == prompt + sum(written)
    else:
        assert float(live["budget"].usage.tokens) in played.tokens.tolist()
        assert played.tokens.min() > prompt


def test_a_replayed_opening_keeps_within_the_budget(shop: str, tmp_path: Path) -> None:
    question = Question(id="q", question=QUESTION, db_id="shop", gold=(RIGHT,))
    grid = Grid(samples=4, chains=(), judged=0, logprobs=False)
    with ScriptedServer(answers) as server, TraceStore(tmp_path / "traces.db") as store:
        record([question], Path(shop.removeprefix("sqlite:///")).parent, scripted_chat_model(server), grid, store)
        [pool] = store.pools()
    all_of_them = replay([pool], Policy.one_shot(), opening=4).tokens[0]
    cramped = replay([pool], Policy.one_shot(), opening=4, budget=Budget(tokens=int(all_of_them) - 1), repeats=20)
    assert cramped.tokens.max() < all_of_them
    alone = replay([pool], Policy.one_shot()).tokens[0]
    assert replay([pool], Policy.one_shot(), opening=4, budget=Budget(tokens=int(alone))).tokens[0] == alone
