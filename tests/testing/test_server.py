"""The scripted server is the ground truth of the kit: what it logs must be what happened on the wire."""

from __future__ import annotations

import asyncio
import json
import socket
import threading

import httpx
import pytest

from tta_langgraph.testing import Reply, ScriptedServer, ToolCall, count_prompt_tokens, count_tokens

QUESTION = [{"role": "system", "content": "You write SQL."}, {"role": "user", "content": "How many albums?"}]
SQL = "SELECT count(*) FROM albums WHERE year > 1999 AND label_id IS NOT NULL"


def ask(server: ScriptedServer, **params: object) -> httpx.Response:
    body = {"model": server.model, "messages": QUESTION, **params}
    return httpx.post(f"{server.base_url}/chat/completions", json=body, timeout=10)


def events(response: httpx.Response) -> list[dict]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_reply_is_cut_at_the_cap(name: str) -> None:
    with ScriptedServer([SQL]) as server:
        body = ask(server, **{name: 5}).json()
    text = body["choices"][0]["message"]["content"]
    assert body["choices"][0]["finish_reason"] == "length"
    assert SQL.startswith(text)
    assert count_tokens(text) == 5 == body["usage"]["completion_tokens"] == server.completion_tokens


def test_a_reply_below_the_cap_is_whole() -> None:
    with ScriptedServer([SQL]) as server:
        body = ask(server, max_tokens=500).json()
    assert body["choices"][0]["message"]["content"] == SQL
    assert body["choices"][0]["finish_reason"] == "stop"
    assert server.completion_tokens == count_tokens(SQL)


def test_n_choices_share_one_prompt_and_add_their_completions() -> None:
    texts = ["SELECT 1", "SELECT count(*) FROM albums", "no"]
    with ScriptedServer([Reply(texts=texts)]) as server:
        body = ask(server, n=3).json()
    assert [choice["message"]["content"] for choice in body["choices"]] == texts
    assert body["usage"]["completion_tokens"] == sum(map(count_tokens, texts)) == server.completion_tokens
    assert body["usage"]["prompt_tokens"] == count_prompt_tokens(QUESTION) == server.prompt_tokens


def test_the_cap_holds_for_each_of_n_choices() -> None:
    with ScriptedServer([Reply(SQL)]) as server:
        ask(server, n=4, max_tokens=3)
    assert server.completion_tokens == 12


def test_a_stop_string_ends_the_text_and_its_own_tokens_are_billed() -> None:
    with ScriptedServer([Reply("SELECT 1; SELECT 2")]) as server:
        body = ask(server, stop=[";"]).json()
    assert body["choices"][0]["message"]["content"] == "SELECT 1"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert server.completion_tokens == count_tokens("SELECT 1;")


def test_hidden_reasoning_is_billed_and_cut_by_the_cap() -> None:
    with ScriptedServer([Reply("42", completion_tokens=30)] * 2) as server:
        whole = ask(server).json()
        cut = ask(server, max_tokens=20).json()
    assert whole["usage"]["completion_tokens"] == 30
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == 29
    assert cut["choices"][0]["message"]["content"] == ""
    assert cut["choices"][0]["finish_reason"] == "length"
    assert [request.completion_tokens for request in server.log] == [30, 20]


def test_a_stream_says_what_the_whole_reply_would() -> None:
    with ScriptedServer([Reply(texts=[SQL, "SELECT 1"])] * 2) as server:
        whole = ask(server, n=2).json()
        streamed = events(ask(server, n=2, stream=True, stream_options={"include_usage": True}))
    for choice in whole["choices"]:
        deltas = [
            each["choices"][0]
            for each in streamed
            if each["choices"] and each["choices"][0]["index"] == choice["index"]
        ]
        assert "".join(delta["delta"].get("content", "") for delta in deltas) == choice["message"]["content"]
        assert deltas[-1]["finish_reason"] == choice["finish_reason"]
    assert streamed[-1]["choices"] == []
    assert streamed[-1]["usage"] == whole["usage"]


def test_events_of_several_tokens_say_the_same_and_cost_the_same() -> None:
    with ScriptedServer([Reply(SQL), Reply(SQL, tokens_per_event=8)]) as server:
        fine, coarse = events(ask(server, stream=True)), events(ask(server, stream=True))
    told = ["".join(e["choices"][0]["delta"].get("content", "") for e in each) for each in (fine, coarse)]
    assert told == [SQL, SQL]
    assert len(coarse) < len(fine)
    assert len({request.completion_tokens for request in server.log}) == 1


def test_a_stream_has_no_usage_unless_asked_for() -> None:
    with ScriptedServer(["SELECT 1"]) as server:
        assert all("usage" not in event for event in events(ask(server, stream=True)))
    assert server.completion_tokens == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_without_usage_reports_none_and_logs_the_truth(stream: bool) -> None:
    with ScriptedServer([Reply(SQL, usage=False)]) as server:
        response = ask(server, stream=stream, stream_options={"include_usage": True} if stream else None)
    assert "usage" not in response.text
    assert server.completion_tokens == count_tokens(SQL)


def test_usage_can_lie_while_the_log_does_not() -> None:
    script = [Reply(SQL, usage="first_choice_only"), Reply(SQL, usage="wrong")]
    with ScriptedServer(script) as server:
        first = ask(server, n=3).json()["usage"]["completion_tokens"]
        wrong = ask(server, n=3).json()["usage"]["completion_tokens"]
    true = count_tokens(SQL) * 3
    assert first == count_tokens(SQL)
    assert 0 < wrong < true
    assert [request.completion_tokens for request in server.log] == [true, true]


def test_a_refusal_at_the_door_spends_nothing_and_keeps_its_headers() -> None:
    with ScriptedServer([Reply(status=429, headers={"Retry-After": "7"}), Reply(status=429)]) as server:
        with_header, without = ask(server), ask(server)
    assert (with_header.status_code, with_header.headers["retry-after"]) == (429, "7")
    assert "retry-after" not in without.headers
    assert server.total == 0
    assert [request.status for request in server.log] == ["error", "error"]


def test_a_failure_after_the_work_has_spent_it() -> None:
    with ScriptedServer([Reply(SQL, status=500)]) as server:
        assert ask(server).status_code == 500
    assert server.total == count_prompt_tokens(QUESTION) + count_tokens(SQL)
    assert (server.log[0].status, server.log[0].http_status) == ("error", 500)


def test_html_is_no_answer_even_with_status_200() -> None:
    with ScriptedServer([Reply(body="<html>proxy</html>"), Reply(status=502, body="<html>bad</html>")]) as server:
        page, gateway = ask(server), ask(server)
    assert (page.status_code, page.text) == (200, "<html>proxy</html>")
    assert gateway.status_code == 502
    assert page.headers["content-type"].startswith("text/html")
    assert [request.status for request in server.log] == ["error", "error"]


def test_a_context_overflow_is_refused_as_vllm_does() -> None:
    with ScriptedServer(max_model_len=40) as server:
        response = ask(server, max_tokens=30)
    assert response.status_code == 400
    assert "maximum context length is 40" in response.json()["error"]["message"]
    assert server.total == 0


@pytest.mark.parametrize("cap", [0, -5])
def test_a_cap_below_one_is_refused(cap: int) -> None:
    with ScriptedServer() as server:
        assert ask(server, max_tokens=cap).status_code == 400


LONG = Reply(SQL * 50, latency=0.01, stream_interval=0.01)


def test_a_client_that_gives_up_on_a_whole_reply_is_noticed_and_stops_the_tokens() -> None:
    with ScriptedServer([LONG]) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.base_url}/chat/completions", json={"messages": QUESTION}, timeout=0.2)
        assert_left_in_the_middle(server)


def test_a_client_that_leaves_a_stream_is_noticed_and_stops_the_tokens() -> None:
    with ScriptedServer([LONG]) as server:
        url, body = f"{server.base_url}/chat/completions", {"messages": QUESTION, "stream": True}
        with httpx.stream("POST", url, json=body) as response:
            next(text for text in response.iter_text() if server.completion_tokens > 3 and text)
        assert_left_in_the_middle(server)


def assert_left_in_the_middle(server: ScriptedServer) -> None:
    server.wait_for(lambda s: s.disconnects == 1)
    request = server.log[0]
    spent = request.completion_tokens
    assert 0 < spent < count_tokens(SQL * 50)
    assert request.finished_at is not None
    assert server.in_flight == 0
    httpx.get(f"{server.base_url}/models")  # a later round trip: the server went on working, but not on this
    assert request.completion_tokens == spent


def test_a_hanging_request_ends_when_its_client_leaves() -> None:
    with ScriptedServer([Reply(hang=True)]) as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        body = json.dumps({"messages": QUESTION}).encode()
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )
        server.wait_for(lambda s: bool(s.log) and s.log[0].status == "hanging")
        assert server.in_flight == 1
        client.close()
        server.wait_for(lambda s: s.disconnects == 1)
    assert server.in_flight == 0
    assert (server.prompt_tokens, server.completion_tokens) == (count_prompt_tokens(QUESTION), 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_dies_leaves_half_a_reply_and_a_true_log(stream: bool) -> None:
    with ScriptedServer([Reply(SQL, die_after_tokens=4)]) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            ask(server, stream=stream)
        server.wait_for(lambda s: s.in_flight == 0)
    assert (server.log[0].status, server.completion_tokens) == ("error", 4)


async def test_128_requests_are_served_at_once() -> None:
    async with (
        ScriptedServer(latency=0.3) as server,
        httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=30) as client,
    ):
        bodies = [{"messages": [{"role": "user", "content": f"question {i}"}]} for i in range(128)]
        responses = await asyncio.gather(
            *(client.post(f"{server.base_url}/chat/completions", json=body) for body in bodies)
        )
    assert server.peak_in_flight == 128
    assert sum(response.json()["usage"]["total_tokens"] for response in responses) == server.total
    assert sorted(str(request.messages[0]["content"]) for request in server.log) == sorted(
        body["messages"][0]["content"] for body in bodies
    )


def test_the_log_keeps_messages_and_parameters_exactly() -> None:
    with ScriptedServer() as server:
        ask(server, temperature=0.8, seed=7, n=2)
    request = server.log[0]
    assert request.messages == QUESTION
    assert request.params == {"model": "scripted", "temperature": 0.8, "seed": 7, "n": 2}
    assert request.n == 2


def test_scripts_answer_by_order_by_substring_and_by_function() -> None:
    def reply(server: ScriptedServer) -> str:
        return ask(server).json()["choices"][0]["message"]["content"]

    with ScriptedServer(["one", "two"]) as server:
        assert [reply(server), reply(server)] == ["one", "two"]
        server.use({"genres": "no", "albums": "yes"})
        assert reply(server) == "yes"
        server.use(lambda request: f"{request.index}: {request.last_message}")
        assert reply(server) == "3: How many albums?"


def test_a_script_without_an_answer_says_so_and_is_not_retried() -> None:
    with ScriptedServer(["one"]) as server:
        ask(server)
        used_up = ask(server)
        server.use({"genres": "no"})
        unmatched = ask(server)
    assert used_up.status_code == unmatched.status_code == 400
    assert "all 1 replies are used up" in used_up.json()["error"]["message"]
    assert "no key occurs" in unmatched.json()["error"]["message"]


def test_a_mistake_in_a_script_reaches_the_client_and_the_log() -> None:
    with ScriptedServer(lambda request: {}["missing"]) as server:
        response = ask(server)
    assert (response.status_code, server.log[0].status) == (500, "error")
    assert "KeyError" in response.json()["error"]["message"]


def test_fewer_tokens_than_the_text_has_are_refused_when_the_script_is_written() -> None:
    with pytest.raises(ValueError, match="completion_tokens=1 is less than"):
        Reply(SQL, completion_tokens=1)


def test_tool_calls_are_answered_and_billed() -> None:
    with ScriptedServer([Reply(tool_calls=[ToolCall(name="run_sql", arguments={"sql": "SELECT 1"})])]) as server:
        choice = ask(server).json()["choices"][0]
    call = choice["message"]["tool_calls"][0]["function"]
    assert (call["name"], json.loads(call["arguments"])) == ("run_sql", {"sql": "SELECT 1"})
    assert choice["finish_reason"] == "tool_calls"
    assert server.completion_tokens > 0


def test_logprobs_come_for_every_token_where_asked() -> None:
    with ScriptedServer([Reply("SELECT 1", logprobs=[-0.1, -2.0])] * 2) as server:
        asked = ask(server, logprobs=True).json()["choices"][0]["logprobs"]["content"]
        silent = ask(server).json()["choices"][0]["logprobs"]
    assert [(each["token"], each["logprob"]) for each in asked] == [
        ("SELE", -0.1),
        ("CT", -2.0),
        (" 1", -0.1),
    ]
    assert silent is None


def test_the_tokenize_endpoint_counts_what_the_server_bills() -> None:
    with ScriptedServer(["ok"]) as server:
        root = server.base_url.removesuffix("/v1")
        counted = httpx.post(f"{root}/tokenize", json={"model": "scripted", "messages": QUESTION}).json()["count"]
        text = httpx.post(f"{root}/tokenize", json={"model": "scripted", "prompt": SQL}).json()
        ask(server)
    assert counted == server.prompt_tokens
    assert text["count"] == len(text["tokens"]) == count_tokens(SQL)


def test_the_tokenize_endpoint_can_be_missing() -> None:
    with ScriptedServer(tokenize_endpoint=False) as server:
        assert httpx.post(f"http://127.0.0.1:{server.port}/tokenize", json={"prompt": "x"}).status_code == 404


def test_the_tokenize_endpoint_can_be_slower_than_its_client_waits() -> None:
    with ScriptedServer(tokenize_latency=30) as server, pytest.raises(httpx.ReadTimeout):
        httpx.post(f"http://127.0.0.1:{server.port}/tokenize", json={"prompt": "x"}, timeout=0.1)


def test_models_are_listed() -> None:
    with ScriptedServer(model="tiny", max_model_len=512) as server:
        [card] = httpx.get(f"{server.base_url}/models").json()["data"]
    assert (card["id"], card["max_model_len"]) == ("tiny", 512)


def test_a_connection_is_reused_for_one_request_after_another() -> None:
    with ScriptedServer() as server, httpx.Client() as client:
        for _ in range(3):
            assert client.get(f"{server.base_url}/models").status_code == 200
        assert len(server._connections) == 1


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"model": "scripted"}'])
def test_what_is_no_chat_request_is_refused(body: bytes) -> None:
    with ScriptedServer() as server:
        response = httpx.post(f"{server.base_url}/chat/completions", content=body)
    assert response.status_code == 400
    assert server.total == 0


def test_stopping_leaves_no_thread_and_drops_what_hangs() -> None:
    before = threading.active_count()
    with ScriptedServer([Reply(hang=True)]) as server:
        failures: list[Exception] = []

        def hang() -> None:
            try:
                ask(server)
            except httpx.HTTPError as error:
                failures.append(error)

        client = threading.Thread(target=hang)
        client.start()
        server.wait_for(lambda s: s.in_flight == 1)
    client.join(5)
    assert len(failures) == 1
    assert threading.active_count() == before
    assert server.log[0].status == "hanging"


def test_waiting_for_what_never_happens_shows_the_log() -> None:
    with ScriptedServer(["ok"]) as server:
        ask(server)
        with pytest.raises(TimeoutError, match=r"0, 'ok'"):
            server.wait_for(lambda s: s.disconnects > 0, timeout=0.01)


def test_reset_forgets_the_log_between_scenarios() -> None:
    with ScriptedServer() as server:
        ask(server)
        server.reset()
        assert (server.requests, server.total, server.peak_in_flight) == (0, 0, 0)
