"""Fits the policy that comes with the package for the embedded model, and measures it. Deterministic; half a minute.

    python benchmarks/shipped_policy.py            # writes the policy file, the demonstration's table and the page
    python benchmarks/shipped_policy.py --choose   # what was chosen from: cross-validation by database, fit side alone

Fitted on the recorded answers to Spider questions. Settings were chosen on its fit side alone and tested on its test
side; the file that ships is then fitted on both. The music shop of the demonstration is a test of its own: nothing was
chosen on it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tta_langgraph.decision import Action, Policy, Utility
from tta_langgraph.latency import LatencyModel
from tta_langgraph.traces.export import read_pools
from tta_langgraph.traces.fit import fit, split
from tta_langgraph.traces.model import Attempt, Pool
from tta_langgraph.traces.replay import replay
from tta_langgraph.traces.replay_columns import Columns, columns
from tta_langgraph.traces.replay_draws import order
from tta_langgraph.traces.replay_result import Outcomes

ROOT = Path(__file__).parents[1]
MODEL = "qwen2.5-coder-0.5b"
SPIDER = ROOT / "benchmarks" / "recordings" / f"spider_{MODEL}.jsonl.gz"
MUSIC_SHOP = ROOT / "benchmarks" / "recordings" / "demo" / f"music_shop_{MODEL}.jsonl.gz"
SHIPPED = ROOT / "tta_langgraph" / "decision" / "shipped" / f"{MODEL}.json"
TABLE = ROOT / "tta_langgraph" / "demo" / "recorded.json"
PAGE = ROOT / "docs" / "results" / "shipped-policy.md"
READING = Path(__file__).parent / "shipped_policy_reading.md"

ACTIONS = ("reflect:execution.repair", "resample(2)", "resample(4)", "resample(8)")
PREDICTOR: Any = "panel"
LOCAL = Utility(per_token=0.0, per_second=0.02)
"""On a machine of one's own a token costs the time it takes, and a prompt that is in the cache hardly any: seconds have
a price, tokens none. Half a second of waiting must buy one more right answer in a hundred."""
LATENCY = LatencyModel(overhead=0.0, prefill=1 / 130, per_token=1 / 38, batch=0.56)
"""The embedded engine on two quiet cores: 130 tokens/s read, 38 written, 62 by eight samples together (docs/results).
An episode measures its own contention, so that only the ratios matter to the policy."""
KNOWN_LIVE = ("prompt_tokens", "question_chars")
"""What a graph tells its policy before the first call; a recording knows more."""
NEW = 20
"""Prompt tokens that no cache holds when a question follows another one about the same database."""
REPEATS = 20
"""Episodes per question in replay, each with the samples in another order."""


def as_live(pools: Iterable[Pool]) -> Iterator[Pool]:
    """The pools as the graph on the embedded engine would see them: no log-probabilities, which nobody asked for, no
    figures about the schema, and the seconds of a single call on the idle engine that has read the schema before."""
    for pool in pools:
        features = {name: value for name, value in pool.features.items() if name in KNOWN_LIVE}

        def live(attempt: Attempt) -> Attempt:
            read = attempt.prompt_tokens
            cached = max(attempt.cached_tokens, read - NEW)
            seconds = LATENCY.predict(read, attempt.completion_tokens, cached)
            return replace(attempt, logprobs=None, cached_tokens=cached, seconds=seconds)

        yield replace(pool, features={**features, "prefix_caching": 1.0}, attempts=tuple(map(live, pool.attempts)))


def recorded(path: Path) -> Columns:
    """A recording, as the live graph would see it."""
    return columns(as_live(read_pools(path)))


def fitted(table: Columns, *, predictor: Any = PREDICTOR, actions: Any = ACTIONS) -> Policy:
    """The policy learned from these questions, on the embedded engine."""
    policy = fit(table, predictor=predictor, actions=actions, utility=LOCAL, episodes=4)
    origin = {
        "model": MODEL,
        "source": f"recorded answers of {MODEL} to Spider questions; statistics only",
        "data_set": "Spider (Yu et al. 2018), CC BY-SA 4.0",
        "made_by": "python benchmarks/shipped_policy.py",
    }
    name = f"fitted({MODEL}, {len(table)} recorded questions)"
    return replace(policy.with_latency(LATENCY), name=name, notes={**policy.notes, **origin})


def played(table: Columns, policy: Policy, *, repeats: int = REPEATS) -> Outcomes:
    """Replays a policy; what samples of one request add to each other is the engine's."""
    cards = order(table, repeats=repeats)
    return replay(table, policy, cards=cards, sharing=LATENCY.per_token * LATENCY.batch)


def strategies(own: Policy, look: str = ACTIONS[0]) -> dict[str, Policy]:
    """What is compared: fixed strategies, the priors at the same prices, and the fitted policy.

    Args:
        own: the fitted policy.
        look: the second look that was recorded.
    """
    priors = Policy.default("sql", utility=own.utility, actions=(look, *ACTIONS[1:])).with_latency(LATENCY)
    return {
        "one shot": Policy.one_shot(),
        "best of 4": Policy.static("best_of", 4),
        "best of 8": Policy.static("best_of", 8),
        "reflect 2": Policy.static("reflect", 2, action=look),
        "unfitted policy": priors,
        "fitted policy": own,
    }


def figures(table: Columns, own: Policy, look: str = ACTIONS[0]) -> dict[str, dict[str, float]]:
    """Per strategy: right answers, and the means per question of seconds and requests."""
    found = {}
    for name, policy in strategies(own, look).items():
        outcomes = played(table, policy)
        found[name] = {
            "right": round(outcomes.accuracy * len(table), 2),
            "seconds": round(outcomes.mean_seconds, 3),
            "requests": round(float(outcomes.calls.mean()), 3),
        }
    return found


def taken(table: Columns, own: Policy) -> dict[str, float]:
    """How often the policy takes each action, per question."""
    cards = order(table, repeats=4)
    found = replay(table, own, cards=cards, sharing=LATENCY.per_token * LATENCY.batch, keep=True)
    steps = Counter(str(Action(step.action, step.n)) for steps in found.decisions for step in steps)
    return {name: round(count / len(found), 3) for name, count in sorted(steps.items()) if name != "stop"}


def second_looks(table: Columns) -> dict[str, int]:
    """What one second look at the first answer, told what the database said, mended and broke."""
    counts = dict.fromkeys(("wrong", "mended", "right", "broken"), 0)
    look, execution = table.code("action", "reflect"), table.code("feedback", "execution")
    for row in np.flatnonzero((table["action"] == look) & (table["feedback"] == execution) & (table["round"] == 1)):
        before, after = bool(table["correct"][table["parent"][row]]), bool(table["correct"][row])
        counts["right" if before else "wrong"] += 1
        counts["broken" if before else "mended"] += before != after
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--choose", action="store_true", help="cross-validate what was chosen from, and write nothing")
    options = parser.parse_args()
    if options.choose:
        choose()
        return
    recording = recorded(SPIDER)
    fit_side, test_side = split(recording)
    held_out = fitted(fit_side)
    tested, steps = figures(test_side, held_out), taken(test_side, held_out)
    shipped = fitted(recording)
    notes = {**shipped.notes, "tested": {"fitted_on": len(fit_side), "questions": len(test_side), "strategies": tested}}
    replace(shipped, notes=notes).save(SHIPPED)
    shop = recorded(MUSIC_SHOP)
    table = {
        "model": MODEL,
        "made_by": "python benchmarks/shipped_policy.py",
        "questions": len(shop),
        "orders": REPEATS,
        "strategies": figures(shop, shipped, "reflect"),
        "reflect": second_looks(shop),
    }
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    looks = second_looks(recording)
    PAGE.write_text(page(tested, steps, len(test_side), len(fit_side), table, looks), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


def page(
    tested: Mapping[str, Mapping[str, float]],
    steps: Mapping[str, float],
    tests: int,
    fits: int,
    shop: Mapping[str, Any],
    looks: Mapping[str, int],
) -> str:
    """The page of results: both tables, and what they mean."""
    parts = [
        "# The policy that ships",
        "    python benchmarks/shipped_policy.py",
        f"## Spider, {tests} questions on databases it was not fitted on (fitted on {fits})",
        _rows(tested, tests),
        f"The fitted policy's steps per question: {', '.join(f'{count:.2f} {name}' for name, count in steps.items())}.",
        f"## The music shop of `tta demo`, all {shop['questions']} questions (fitted on Spider alone)",
        _rows(shop["strategies"], shop["questions"]),
        f"Means over {REPEATS} orders of the samples. Seconds are those of the embedded engine on two quiet cores, "
        "with the schema in its cache.",
        f"A second look at the first answer, told what the database said, mended {looks['mended']} of {looks['wrong']} "
        f"wrong answers and broke {looks['broken']} of {looks['right']} right ones on Spider, and mended "
        f"{shop['reflect']['mended']} of {shop['reflect']['wrong']} and broke {shop['reflect']['broken']} of "
        f"{shop['reflect']['right']} in the music shop.",
        READING.read_text(encoding="utf-8").strip(),
    ]
    return "\n\n".join(parts) + "\n"


def _rows(found: Mapping[str, Mapping[str, float]], questions: int) -> str:
    lines = ["| strategy | right | seconds | requests |", "|---|---|---|---|"]
    for name, row in found.items():
        right = f"{row['right']:.1f} ({row['right'] / questions:.1%})"
        lines.append(f"| {name} | {right} | {row['seconds']:.2f} | {row['requests']:.2f} |")
    return "\n".join(lines)


def choose(folds: int = 4) -> None:
    """Kinds of predictor, sets of actions and prices of a second, on databases of the fit side left out in turn."""
    side, _ = split(recorded(SPIDER))
    databases = np.unique(side.db_ids)
    fold = dict(zip(databases, np.random.default_rng(3).permutation(len(databases)) % folds, strict=True))
    at = np.asarray([fold[name] for name in side.db_ids])
    ins = [side.select(np.flatnonzero(at != k)) for k in range(folds)]
    outs = [side.select(np.flatnonzero(at == k)) for k in range(folds)]

    def show(label: str, policies: Sequence[Policy]) -> None:
        found = [played(out, policy, repeats=4) for out, policy in zip(outs, policies, strict=True)]
        right, seconds, calls, believed = (
            np.concatenate([getattr(o, name) for o in found]) for name in ("correct", "seconds", "calls", "p_correct")
        )
        brier = f"{np.mean((believed - right) ** 2):.3f}" if policies[0].rule is None else ""
        shown = f"{label:50}{right.mean():8.3f}{seconds.mean():9.2f}{calls.mean():10.2f}{brier:>8}"
        print(shown, flush=True)

    print(f"{'':50}{'right':>8}{'seconds':>9}{'requests':>10}{'Brier':>8}")
    for name, policy in strategies(Policy.default("sql", utility=LOCAL)).items():
        if name != "fitted policy":
            show(name, [policy] * folds)
    own = [fitted(table) for table in ins]
    for opening in (1, 2, 4, 8):
        show(f"as shipped, {opening} in the first request", [policy.with_opening(opening) for policy in own])
    ways = {"reflect, samples": ACTIONS, "samples": ACTIONS[1:], "reflect, 1, samples": ("resample(1)", *ACTIONS)}
    for predictor in ("panel", "learned", "transitions"):
        for label, actions in ways.items():
            made = [fitted(table, predictor=predictor, actions=actions) for table in ins]
            for rate in (0.005, 0.01, 0.02, 0.03, 0.05):
                show(f"{predictor}, {label}, {rate:g} a second", [p.with_utility(per_second=rate) for p in made])


if __name__ == "__main__":
    main()
