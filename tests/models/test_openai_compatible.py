"""A server of one's own as a chat model: what is set up, and every way an address can be wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from langchain_core.messages import HumanMessage

from tta_langgraph.errors import ModelError
from tta_langgraph.models.openai_compatible import chat_openai_server, normalised, served_models
from tta_langgraph.testing import Reply, ScriptedServer


@contextmanager
def _answering(status: int, content_type: str, body: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def test_the_served_model_is_found_when_none_is_named() -> None:
    with ScriptedServer(["SELECT 1"], model="the-only-one") as server:
        model = chat_openai_server(server.base_url)
        assert model.model_name == "the-only-one"
        assert model.invoke("hi").content == "SELECT 1"


def test_streams_report_usage_and_the_client_does_not_retry_on_its_own() -> None:
    with ScriptedServer(["SELECT 1 FROM singer", Reply(status=500), "unused"]) as server:
        model = chat_openai_server(server.base_url)
        chunks = list(model.stream("hi"))
        reported = sum((chunk.usage_metadata or {}).get("output_tokens", 0) for chunk in chunks)
        assert reported == server.completion_tokens > 0
        with pytest.raises(Exception, match="500"):
            model.invoke("again")
        assert len(server.log) == 2


def test_several_samples_come_from_one_request() -> None:
    with ScriptedServer() as server:
        model = chat_openai_server(server.base_url)
        result = model.generate([[HumanMessage("hi")]], n=4)
        assert len(result.generations[0]) == 4
        assert len(server.log) == 1


def test_the_usual_ways_to_write_an_address_are_the_same() -> None:
    forms = ["localhost:8000", "http://localhost:8000", "http://localhost:8000/v1/", "http://localhost:8000/v1/models"]
    assert {normalised(form) for form in forms} == {"http://localhost:8000/v1"}
    assert normalised("https://gate.example/team/v1/chat/completions") == "https://gate.example/team/v1"


@pytest.mark.parametrize("address", ["ftp://host/v1", "http://", "http:///v1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ModelError, match="not the address"):
        chat_openai_server(address)


def test_a_server_that_is_down_is_named_with_its_address() -> None:
    with pytest.raises(ModelError, match=r"cannot be reached.*127\.0\.0\.1:9"):
        chat_openai_server("http://127.0.0.1:9/v1")


def test_a_wrong_model_name_is_answered_with_the_names_there_are() -> None:
    with ScriptedServer(model="qwen") as server, pytest.raises(ModelError, match=r"'llama'.*'qwen'"):
        chat_openai_server(server.base_url, "llama")


def test_a_web_page_in_place_of_a_server_is_recognised() -> None:
    with (
        _answering(200, "text/html", "<html>Please log in</html>") as address,
        pytest.raises(ModelError, match="text/html"),
    ):
        chat_openai_server(address)


@pytest.mark.parametrize(("status", "said"), [(401, "key"), (404, "404"), (503, "503")])
def test_a_refusal_is_told_with_its_status(status: int, said: str) -> None:
    with _answering(status, "application/json", "{}") as address, pytest.raises(ModelError, match=said):
        served_models(address)


def test_json_of_another_shape_is_no_model_server() -> None:
    with _answering(200, "application/json", '["pong"]') as address, pytest.raises(ModelError, match="not a model"):
        served_models(address)


def test_several_models_need_a_name() -> None:
    body = '{"data": [{"id": "small"}, {"id": "large"}]}'
    with _answering(200, "application/json", body) as address:
        with pytest.raises(ModelError, match="2 models"):
            chat_openai_server(address)
        assert chat_openai_server(address, "large").model_name == "large"
