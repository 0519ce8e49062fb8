"""Who holds an engine, and when it ends; with a stand-in for vLLM, so that no engine has to start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tta_langgraph.models import vllm_engine
from tta_langgraph.models.vllm_engine import Engine, EngineLease


class StandIn:
    """What `Engine` needs of vLLM's `AsyncLLM` to start and to stop."""

    output_handler = None
    vllm_config = SimpleNamespace()

    def __init__(self) -> None:
        self.shut_down = 0

    def get_tokenizer(self) -> None:
        return None

    def shutdown(self, timeout: float) -> None:
        self.shut_down += 1


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[StandIn]:
    """Every engine that was started, in order."""
    made: list[StandIn] = []

    async def start(self: Engine) -> Any:
        made.append(StandIn())
        return made[-1]

    monkeypatch.setattr(Engine, "_start", start)
    monkeypatch.setattr(vllm_engine, "_engines", {})
    monkeypatch.setattr(vllm_engine, "_holders", {})
    return made


def test_equal_options_share_an_engine_and_others_do_not(started: list[StandIn]) -> None:
    first, second = EngineLease("m", {"a": 1, "b": 2}), EngineLease("m", {"b": 2, "a": 1})
    other = EngineLease("m", {"a": 2, "b": 2})
    assert first.engine() is second.engine() is not other.engine()
    assert len(started) == 2


def test_the_last_to_let_go_shuts_the_engine_down(started: list[StandIn]) -> None:
    first, second = EngineLease("m", {}), EngineLease("m", {})
    engine = first.engine()
    second.engine()
    first.release()
    assert started[0].shut_down == 0
    assert first.running() is None
    assert second.running() is engine
    second.release()
    second.release()
    assert started[0].shut_down == 1
    assert engine.closed


def test_a_call_after_closing_starts_a_new_engine(started: list[StandIn]) -> None:
    lease = EngineLease("m", {})
    before = lease.engine()
    lease.release()
    assert lease.engine() is not before
    assert len(started) == 2


def test_an_engine_left_open_is_shut_down_when_the_program_ends(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout.split() == ["answered", "shut", "down"], done.stderr


PROGRAM = """
import time
from tta_langgraph.models.vllm_engine import Engine, EngineLease

class StandIn:
    output_handler = None

    def __init__(self):
        import multiprocessing  # as late as vLLM does; at the end Python waits for such a process
        self.worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
        self.worker.start()

    def get_tokenizer(self): return None

    def shutdown(self, timeout):
        self.worker.kill()
        self.worker.join()
        print("shut down", flush=True)

async def start(self): return StandIn()

Engine._start = start
EngineLease("m", {}).engine()
print("answered", flush=True)
"""
