"""How many answers the first request draws is a price question too: prompts that are long make many cheap."""

from __future__ import annotations

import random

from tta_langgraph.decision import Policy, Utility
from tta_langgraph.traces.model import Attempt, Pool
from tta_langgraph.traces.tune import tune, tune_opening


def pools(prompt: int, *, questions: int = 60, samples: int = 8) -> list[Pool]:
    """Questions whose samples are right six times in ten, and of many minds where they are wrong."""
    rng = random.Random(prompt)
    found = []
    for q in range(questions):
        attempts = []
        for i in range(samples + 1):
            right = rng.random() < 0.6
            attempts.append(
                Attempt(
                    id=f"a{i}",
                    action="resample" if i else "generate",
                    correct=right,
                    key="right" if right else f"wrong-{rng.randrange(9)}",
                    executed=True,
                    prompt_tokens=prompt,
                    completion_tokens=20,
                    seconds=prompt / 1000 + 0.5,
                )
            )
        found.append(Pool(question_id=f"q{q}", db_id=f"db{q % 6}", attempts=tuple(attempts)))
    return found


POLICY = Policy.default("text", utility=Utility(per_token=1e-5, per_second=0.001))


def test_long_prompts_are_read_once() -> None:
    recorded = pools(2_000)
    one = tune(POLICY, recorded, tokens=2_200, opening=1, repeats=1)
    best = tune_opening(POLICY, recorded, tokens=2_200, repeats=1)
    assert best.met
    assert best.policy.opening > 1
    assert best.outcomes.mean_tokens <= 2_200
    assert best.outcomes.accuracy > one.outcomes.accuracy
    assert f"{best.policy.opening} answers in the first request" in str(best)


def test_an_accuracy_is_reached_with_fewer_tokens() -> None:
    recorded = pools(2_000)
    one = tune(POLICY, recorded, accuracy=0.75, opening=1, repeats=1)
    best = tune_opening(POLICY, recorded, accuracy=0.75, repeats=1)
    assert one.met
    assert best.met
    assert best.outcomes.mean_tokens < one.outcomes.mean_tokens


def test_no_more_answers_than_were_recorded_are_tried() -> None:
    best = tune_opening(POLICY, pools(2_000, samples=3), tokens=4_000, repeats=1)
    assert best.policy.opening in (1, 2)


def test_a_policy_that_never_draws_again_starts_with_one_answer() -> None:
    silent = POLICY.with_actions(["judge"])
    assert tune_opening(silent, pools(2_000), tokens=4_000, repeats=1).policy.opening == 1
