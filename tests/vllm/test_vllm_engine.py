"""Who holds an engine, and when it ends; with a stand-in for vLLM, so that no engine has to start."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tta_langgraph.errors import ModelError
from tta_langgraph.models import vllm_lease
from tta_langgraph.models.vllm import ChatVLLM
from tta_langgraph.models.vllm_engine import Engine
from tta_langgraph.models.vllm_env import engine_environment
from tta_langgraph.models.vllm_lease import EngineLease


class StandIn:
    """What `Engine` needs of vLLM's `AsyncLLM` to start and to stop."""

    output_handler = None
    vllm_config = SimpleNamespace()

    def __init__(self) -> None:
        self.shut_down = 0
        self.ended = threading.Event()

    def get_tokenizer(self) -> None:
        return None

    def shutdown(self, timeout: float) -> None:
        self.shut_down += 1
        self.ended.set()

    async def abort(self, request_id: str) -> None:
        pass


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[StandIn]:
    """Every engine that was started, in order."""
    made: list[StandIn] = []

    async def start(self: Engine) -> Any:
        made.append(StandIn())
        return made[-1]

    monkeypatch.setattr(Engine, "_start", start)
    monkeypatch.setattr(vllm_lease, "_engines", {})
    monkeypatch.setattr(vllm_lease, "_holders", {})
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


def test_an_engine_that_nobody_holds_any_more_is_shut_down(started: list[StandIn]) -> None:
    first, second = ChatVLLM(model="m"), ChatVLLM(model="m")
    first._lease.engine()
    second._lease.engine()
    del first
    gc.collect()
    assert second._lease.running() is not None
    del second
    gc.collect()
    assert started[0].ended.wait(timeout=PATIENCE)
    assert vllm_lease._engines == {}


def test_letting_go_while_the_registry_is_locked_waits_for_nothing(started: list[StandIn]) -> None:
    lease = EngineLease("m", {})
    lease.engine()
    with vllm_lease._registry_lock:  # the garbage collector may run at any line, in any thread
        del lease
        gc.collect()
        assert not started[0].shut_down
    assert started[0].ended.wait(timeout=PATIENCE)


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda model: model.model_copy(), lambda model: pickle.loads(pickle.dumps(model))],
    ids=["copy", "deepcopy", "model_copy", "pickle"],
)
def test_a_copy_has_the_settings_and_a_hold_of_its_own(started: list[StandIn], copied: Any) -> None:
    model = ChatVLLM(model="m", temperature=0.5, engine_kwargs={"a": 1})
    engine = model.start()._lease.engine()
    other = copied(model)
    assert other._identifying_params == model._identifying_params
    assert other._lease.running() is None
    assert other._lease.engine() is engine
    model.close()
    assert not started[0].shut_down
    other.close()
    assert started[0].shut_down == 1


def test_a_copy_with_other_settings_has_another_engine(started: list[StandIn]) -> None:
    model = ChatVLLM(model="m").start()
    other = model.model_copy(update={"engine_kwargs": {"a": 1}}).start()
    assert other._lease.engine() is not model._lease.engine()
    other.close()
    model.close()


def in_child(code: Any) -> int:
    """Exit status of a forked process that runs the code; 9 for an error nobody expected."""
    process = os.fork()
    if process == 0:
        status = 9
        try:
            status = code()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_is_told_that_the_engine_is_not_its_own(started: list[StandIn]) -> None:
    model = ChatVLLM(model="m").start()

    def call() -> int:
        try:
            model.invoke("hi", timeout=5)
        except ModelError as error:
            return 3 if "forked" in str(error) and error.remedy else 4
        return 5

    def close_and_start() -> int:
        model.close()
        return 3 if len(started) == 1 and model.start() is model and len(started) == 2 else 4

    def exit_handlers() -> int:
        vllm_lease._close_all()
        return started[0].shut_down + 3

    assert [in_child(call), in_child(close_and_start), in_child(exit_handlers)] == [3, 3, 3]
    assert model._lease.running() is not None
    model.close()
    assert started[0].shut_down == 1


def test_two_engines_that_start_at_once_leave_the_process_as_it_was() -> None:
    def surroundings() -> Any:
        main = sys.modules["__main__"]
        return dict(os.environ), getattr(main, "__file__", None), getattr(main, "__spec__", None)

    before = surroundings()
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with engine_environment({"TTA_TEST_ENGINE": "first"}):
            first_in.set()
            second_in.wait(timeout=0.5)  # it comes in only if nothing keeps it out
        first_out.set()

    def second() -> None:
        first_in.wait()
        with engine_environment({"TTA_TEST_ENGINE": "second"}):
            second_in.set()
            first_out.wait()

    threads = [threading.Thread(target=start) for start in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert surroundings() == before


def test_an_engine_left_open_is_shut_down_when_the_program_ends(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout.split() == ["answered", "shut", "down"], done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_ends_without_a_word_about_the_engine(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM + FORK)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout.split() == ["answered", "child", "0", "shut", "down"], done.stderr
    assert "Error" not in done.stderr


FORK = """
import os, sys

child = os.fork()
if child == 0:
    sys.exit(0)
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
PATIENCE = 60.0
PROGRAM = """
import time
from types import SimpleNamespace
from tta_langgraph.models.vllm_engine import Engine
from tta_langgraph.models.vllm_lease import EngineLease

class StandIn:
    output_handler = None

    def __init__(self):
        import multiprocessing  # as late as vLLM does; at the end Python waits for such a process
        self.worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
        self.worker.start()
        manager = SimpleNamespace(processes=[self.worker])
        self.engine_core = SimpleNamespace(resources=SimpleNamespace(engine_manager=manager))

    def get_tokenizer(self): return None

    def shutdown(self, timeout):
        self.worker.kill()
        self.worker.join()
        print("shut down", flush=True)

async def start(self): return StandIn()

Engine._start = start
lease = EngineLease("m", {})
lease.engine()
print("answered", flush=True)
"""
