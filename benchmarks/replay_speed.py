"""How fast replay is, and how much memory a million recorded candidates take.

    python benchmarks/replay_speed.py

Prints episodes per second of one process (by CPU time, so that a busy machine does not count against it, and by the
clock) with eight episodes per question; the same of a policy's very first replay with one episode per question, where
no two meet the same; the ratio of time for twice the episodes; and the resident memory while a million candidates are
replayed.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator

import numpy as np

from tta_langgraph.decision import Policy, Utility
from tta_langgraph.traces.model import Attempt, Pool
from tta_langgraph.traces.replay import replay
from tta_langgraph.traces.replay_columns import Columns, columns
from tta_langgraph.traces.replay_draws import order
from tta_langgraph.traces.strategies import Bench, adaptive_consistency, best_of


def pools(questions: int, samples: int, seed: int = 0) -> Iterator[Pool]:
    """Questions of mixed difficulty, made one by one."""
    rng = np.random.default_rng(seed)
    for q in range(questions):
        p = rng.beta(0.6, 0.4)
        right = rng.random(samples) < p
        wrong = rng.integers(0, 4, samples)
        tokens = rng.integers(15, 60, samples)
        yield Pool(
            question_id=f"q{q}",
            db_id=f"db{q % 40}",
            attempts=tuple(
                Attempt(
                    id=f"a{i}",
                    action="resample" if i else "generate",
                    correct=bool(right[i]),
                    key="right" if right[i] else f"wrong-{wrong[i]}",
                    executed=True,
                    prompt_tokens=500,
                    completion_tokens=int(tokens[i]),
                    seconds=float(tokens[i]) / 40,
                )
                for i in range(samples)
            ),
        )


def timed(table: Columns, policy: Policy, repeats: int) -> tuple[int, float, float]:
    """Episodes, CPU seconds and wall-clock seconds of one replay."""
    cpu, clock = time.process_time(), time.perf_counter()
    found = replay(table, policy, repeats=repeats)
    return len(found), time.process_time() - cpu, time.perf_counter() - clock


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--candidates", type=int, default=1_000_000)
    options = parser.parse_args()
    table = columns(pools(2_000, 9))
    policies = {
        "one_shot": Policy.one_shot(),
        "default(text)": Policy.default("text", utility=Utility(per_token=2e-5, per_second=0)),
    }
    try:
        from tta_langgraph.traces.fit import fit

        cheap = Utility(per_token=2e-5, per_second=0)
        for kind in ("learned", "panel"):
            policies[kind] = fit(columns(pools(300, 9, seed=1)), utility=cheap, predictor=kind, episodes=2)  # type: ignore[arg-type]
    except ImportError:
        print("scikit-learn is missing: fitted policies are left out")
    print(
        f"{'policy':16} {'episodes':>9} {'decisions':>9} {'per CPU second':>15} {'per second':>11} "
        f"{'first, one each':>16} {'2x episodes':>12}"
    )
    for name, policy in policies.items():
        fresh = Policy.from_dict(policy.to_dict())  # has met nothing yet
        once, first, _ = timed(table, fresh, 1)
        n, cpu, clock = timed(table, policy, 8)
        _, twice, _ = timed(table, policy, 16)
        steps = replay(table, policy).steps
        depth = float(steps.mean()) if steps is not None else float("nan")
        print(
            f"{name:16} {n:9,d} {depth:9.2f} {n / cpu:15,.0f} {n / clock:11,.0f} {once / first:16,.0f} "
            f"{twice / cpu:11.2f}x",
            flush=True,
        )
    cpu = time.process_time()
    bench = Bench(table, order(table, repeats=10))
    found = [best_of(bench, 5), adaptive_consistency(bench)]
    print(
        f"{'static':16} {sum(map(len, found)):9,d} {'':9} {sum(map(len, found)) / (time.process_time() - cpu):15,.0f}"
    )

    samples = 20
    cpu = time.process_time()
    large = columns(pools(options.candidates // samples, samples))
    built = time.process_time() - cpu
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cpu = time.process_time()
    result = replay(large, policies["default(text)"])
    spent = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{large.n_attempts:,} recorded candidates: columns {large.nbytes / 2**20:,.0f} MiB, read in {built:.0f} s; "
        f"{len(result):,} episodes at {len(result) / spent:,.0f} per CPU second; "
        f"peak memory {before:,.0f} MiB after reading, {peak:,.0f} MiB after replaying"
    )


if __name__ == "__main__":
    main()
