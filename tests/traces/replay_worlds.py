"""Simulated recordings whose truth is known: what the best policy does can be worked out."""

from __future__ import annotations

import numpy as np

from tta_langgraph.traces.model import Attempt, Judgement, Pool


def two_kinds(questions: int = 80, samples: int = 8, databases: int = 8, seed: int = 0) -> list[Pool]:
    """Half of the questions are easy (every sample right), half are hopeless and their samples all disagree.

    More samples never help; the best policy stops at once. Longer answers are the wrong ones.
    """
    rng = np.random.default_rng(seed)
    pools = []
    for q in range(questions):
        easy = bool(rng.random() < 0.5)
        attempts = tuple(
            Attempt(
                id=f"a{s}",
                action="generate" if s == 0 else "resample",
                correct=easy,
                key="right" if easy else f"wrong-{s}",
                executed=True,
                prompt_tokens=100,
                completion_tokens=20 if easy else 60,
                seconds=1.0,
                request="first" if s == 0 else "rest",
            )
            for s in range(samples + 1)
        )
        pools.append(Pool(question_id=f"q{q}", db_id=f"db{q % databases}", attempts=attempts))
    return pools


def repairable(questions: int = 120, databases: int = 8, seed: int = 0, fix: float = 0.9) -> list[Pool]:
    """Half of the first answers fail to execute; a correction with the error repairs nine in ten of these.

    An answer that ran is right, and a correction of it breaks it. The best policy reflects on failures only.
    """
    rng = np.random.default_rng(seed)
    pools = []
    for q in range(questions):
        failed = bool(rng.random() < 0.5)
        repaired = not failed or rng.random() < fix
        first = Attempt(
            id="g",
            action="generate",
            correct=not failed,
            key=None if failed else "right",
            executed=not failed,
            error_kind="schema" if failed else None,
            prompt_tokens=100,
            completion_tokens=30,
            seconds=1.0,
        )
        second = Attempt(
            id="r",
            action="reflect",
            parent="g",
            feedback="execution",
            round=1,
            correct=failed and repaired,
            key="right" if failed and repaired else "broken",
            executed=True,
            prompt_tokens=150,
            completion_tokens=30,
            seconds=1.2,
        )
        judged = Judgement(
            attempt="g", score=0.0 if failed else 1.0, prompt_tokens=50, completion_tokens=5, seconds=0.4
        )
        pools.append(
            Pool(question_id=f"q{q}", db_id=f"db{q % databases}", attempts=(first, second), judgements=(judged,))
        )
    return pools
