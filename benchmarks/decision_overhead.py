"""What one routing step costs, and how many moments a replay can decide in a second.

    python benchmarks/decision_overhead.py

Prints microseconds per step (median and 99th percentile of CPU time, so that other load matters less) and writes
`benchmarks/results/decision_overhead.json`. The edge must stay under 1 ms without a learned predictor.
"""

from __future__ import annotations

import gc
import json
import platform
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tta_langgraph.budget import Budget, BudgetTracker, Charge, Usage
from tta_langgraph.decision import Choice, Policy, Snapshot, UtilityRouter, choose, choose_batch
from tta_langgraph.evidence import Evidence, Execution, LogprobStats
from tta_langgraph.state import Candidate

STEPS = 1_000


def candidate(rng: random.Random, number: int) -> Candidate:
    """A candidate with full evidence: the expensive case."""
    key = rng.choice(["a", "a", "b", "c", None])
    return Candidate(
        id=f"c{number}",
        text="SELECT 1",
        answer="SELECT 1",
        key=key,
        action="generate" if number == 0 else "resample",
        usage=Usage(prompt_tokens=640, completion_tokens=rng.randint(15, 60), seconds=1.1, model_calls=1),
        evidence=Evidence(
            execution=Execution(ok=key is not None, key=key, n_rows=rng.randint(1, 30)),
            logprobs=LogprobStats(mean=-rng.random(), tail=-2.0, minimum=-4.0, n=30),
        ),
    )


def states(count: int, candidates: int) -> list[dict[str, Any]]:
    """States of episodes in progress."""
    rng = random.Random(candidates)
    found = []
    for _ in range(count):
        made = [candidate(rng, i) for i in range(candidates)]
        charges = {c.id: Charge(id=c.id, usage=c.usage) for c in made}
        tracker = BudgetTracker.start(Budget(tokens=20_000, seconds=60, reserve=200)).with_charges(charges)
        found.append({"question": "How many singers?", "candidates": made, "decisions": [], "budget": tracker})
    return found


def measure(step: Callable[[Any], Any], inputs: list[Any]) -> dict[str, float]:
    """Microseconds of CPU per call."""
    gc.collect()
    taken = []
    for value in inputs:
        start = time.thread_time_ns()
        step(value)
        taken.append((time.thread_time_ns() - start) / 1e3)
    taken.sort()
    return {"median_us": taken[len(taken) // 2], "p99_us": taken[int(0.99 * len(taken))], "first_us_max": taken[-1]}


def learned() -> Policy | None:
    """A policy of the size that fitting gives, or None without scikit-learn."""
    try:
        import numpy as np
        from sklearn.ensemble import HistGradientBoostingClassifier

        from tta_langgraph.decision import Learned
        from tta_langgraph.decision.fitting import export_forest, one_thread
        from tta_langgraph.decision.learned import GAIN_FEATURES, NOW_FEATURES
        from tta_langgraph.decision.ranking import RANK_FEATURES
        from tta_langgraph.decision.scorers import Linear, Scorer
    except ImportError:
        return None
    rng = np.random.default_rng(0)

    def scorer(width: int, low: float) -> Scorer:
        x = rng.normal(size=(2_000, width))
        model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, max_depth=3)
        with one_thread():
            model.fit(x, x[:, 0] + x[:, 1] > 0)
        line = Linear(0.0, tuple(rng.normal(size=width).tolist()))
        return Scorer(parts=(line, export_forest(model, x)), link="logistic", low=low, high=1.0)

    gain = scorer(len(GAIN_FEATURES), -1.0)
    predictor = Learned(
        now=scorer(len(NOW_FEATURES), 0.0),
        gains={"resample": gain, "reflect": gain},
        ranker=scorer(len(RANK_FEATURES), 0.0),
    )
    return Policy(
        predictor=predictor, actions=["reflect", "resample(1)", "resample(2)", "resample(4)"], selection="predictor"
    )


def main() -> None:
    """Measures and writes the table."""
    policies = {"cold start (transitions, agreement)": Policy.default("sql")}
    fitted = learned()
    if fitted is not None:
        policies["learned"] = fitted
    result: dict[str, Any] = {"python": platform.python_version(), "steps": STEPS, "rows": {}}
    for name, policy in policies.items():
        for candidates in (1, 4, 12):
            made = states(STEPS, candidates)
            router = UtilityRouter(policy)
            row: dict[str, Any] = {"router node": measure(router, made)}
            row["choose"] = measure(lambda s, p=policy: choose(s, p), [Snapshot.of(state) for state in made])
            snapshots = [Snapshot.of(state) for state in made]
            start = time.thread_time_ns()
            choices: list[Choice] = choose_batch(snapshots, policy)
            row["batch, per moment"] = {"median_us": (time.thread_time_ns() - start) / 1e3 / len(choices)}
            result["rows"][f"{name}, {candidates} candidates"] = row
            for what, figures in row.items():
                print(f"{name:38} {candidates:3} candidates  {what:18} {figures['median_us']:8.1f} us", flush=True)
    slowest = max(
        row["router node"]["median_us"] for name, row in result["rows"].items() if name.startswith("cold start")
    )
    result["under_1_ms_without_learned"] = slowest < 1_000
    print(f"routing overhead without learned predictor: {slowest:.0f} us at most (limit 1000)")
    path = Path(__file__).parent / "results" / "decision_overhead.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
