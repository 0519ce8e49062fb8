"""Fits prefill(prompt) + output · τ on an idle engine and reports the error of the fit.

python benchmarks/vllm_latency.py --model smollm2-135m --json latency.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tta_langgraph.latency import LatencyModel, fit_latency
from tta_langgraph.models.vllm import ChatVLLM
from tta_langgraph.models.vllm_latency import measure_latency


def table(model: LatencyModel) -> Table:
    """The fitted model for a reader."""
    made = Table(title=f"Idle engine, {model.observations} calls, each predicted by a fit on the others")
    made.add_column("quantity")
    made.add_column("value", justify="right")
    made.add_row("overhead per call", f"{model.overhead * 1000:.1f} ms")
    made.add_row("prefill per 1,000 tokens", f"{model.prefill * 1e6:.0f} ms")
    made.add_row("attention per 1,000 × 1,000 tokens", f"{model.attention * 1e9:.0f} ms")
    made.add_row("per generated token", f"{model.per_token * 1000:.1f} ms")
    made.add_row("mean error", f"{model.mean_error:.1%}")
    made.add_row("worst error", f"{model.worst_error:.1%}")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--prompt-tokens", type=int, nargs="+", default=[64, 256, 768])
    parser.add_argument("--completion-tokens", type=int, nargs="+", default=[1, 16, 48])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--max-model-len", type=int, default=1024)
    parser.add_argument("--json", type=Path, help="write the fitted model to this file")
    args = parser.parse_args()
    with ChatVLLM(model=args.model, engine_kwargs={"max_model_len": args.max_model_len}) as model:
        lengths = {"prompt_tokens": args.prompt_tokens, "completion_tokens": args.completion_tokens}
        fitted = fit_latency(measure_latency(model, **lengths, repeats=args.repeats))
    Console(width=110).print(table(fitted))
    if args.json:
        args.json.write_text(fitted.to_json())


if __name__ == "__main__":
    main()
