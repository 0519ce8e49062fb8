"""`tta serve`: what it plans, and that it takes its server along when it is told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tta_langgraph.commands.app import app
from tta_langgraph.models import serve

PROGRAM = """
import os, sys
from tta_langgraph.commands.serve import serve
from tta_langgraph.models import serve as module
from tta_langgraph.models.serve import Flag, ServerPlan

code = "import os, sys, time; print('server', os.getpid(), flush=True); time.sleep(600)"
plan = ServerPlan(model="m", served_name="m", host="127.0.0.1", port=0, entry=(sys.executable, "-c"),
                  flags=(Flag(name=code, reason="stands for a server"),))
module.plan_server = lambda *args, **options: plan
module._healthy = lambda plan: True
serve("m")
"""


@pytest.fixture(autouse=True)
def a_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "vllm_distribution", lambda: ("vllm", "0.32.0"))


@pytest.mark.parametrize("sign", ["SIGTERM", "SIGHUP"])
def test_the_server_ends_with_the_command(sign: str, tmp_path: Path) -> None:
    if not hasattr(signal, sign):
        pytest.skip(f"this system has no {sign}")
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    number = getattr(signal, sign)
    default = partial(signal.signal, number, signal.SIG_DFL)  # under `nohup`, hanging up is ignored
    command = subprocess.Popen([sys.executable, "-u", script], stdout=subprocess.PIPE, text=True, preexec_fn=default)
    assert command.stdout is not None
    lines = []
    while not ({"server", "ready:"} <= {line.split(" ")[0].strip() for line in lines}):
        lines.append(command.stdout.readline())
        assert lines[-1], lines
    server = next(int(line.split()[1]) for line in lines if line.startswith("server"))
    command.send_signal(number)
    status = command.wait(timeout=60)
    try:
        os.kill(server, 0)
    except ProcessLookupError:
        gone = True
    else:
        os.kill(server, signal.SIGKILL)
        gone = False
    assert gone
    assert status == 128 + number


def test_options_and_vllms_own_arguments_reach_the_command() -> None:
    options = ["--name", "coder", "--tool-parser", "hermes", "--max-model-len", "2048", "--port", "8123"]
    shown = CliRunner().invoke(app, ["serve", "owner/model", *options, "--dry-run", "--", "--seed", "3"])
    assert shown.exit_code == 0, shown.output
    for part in ("--served-model-name coder", "--tool-call-parser hermes", "--max-model-len 2048", "--seed 3"):
        assert part in shown.output


def test_a_dry_run_fetches_and_converts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "resolve_weights", lambda *args, **options: pytest.fail("weights were fetched"))
    shown = CliRunner().invoke(app, ["serve", "smollm2-135m", "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "smollm2-135m" in shown.output
