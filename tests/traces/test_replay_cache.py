"""The prefix cache in replay: what an episode begins with reads the prompt, as the recording's first request did."""

from __future__ import annotations

import numpy as np
import pytest

from tta_langgraph.decision import Policy
from tta_langgraph.latency import LatencyModel
from tta_langgraph.traces.model import Attempt, Pool
from tta_langgraph.traces.replay import replay
from tta_langgraph.traces.replay_columns import columns
from tta_langgraph.traces.replay_draws import order
from tta_langgraph.traces.strategies import Bench, best_of, esc, one_shot

ENGINE = LatencyModel(overhead=0.1, prefill=0.02, per_token=0.05)
"""How long the simulated recordings took."""


def recorded(questions: int = 12, samples: int = 6, *, found_by_first: int = 50, greedy: bool = True) -> list[Pool]:
    """A first answer that read most of its prompt, and samples in one request that found it in the cache."""
    rng = np.random.default_rng(1)
    pools = []
    for q in range(questions):
        prompt = int(rng.integers(300, 900))
        wrote = rng.integers(10, 60, samples + 1)
        attempts = []
        for s in range(samples + 1):
            leads = s == 0 if greedy else True
            cached = found_by_first if leads else prompt - 10
            longest = int(wrote[0] if leads else wrote[1:].max())
            attempts.append(
                Attempt(
                    id=f"a{s}",
                    action="generate" if greedy and s == 0 else "resample",
                    correct=bool(s % 2),
                    key=f"k{s % 3}",
                    prompt_tokens=prompt,
                    completion_tokens=int(wrote[s]),
                    cached_tokens=cached,
                    seconds=ENGINE.predict(prompt, longest, cached),
                    model="m",
                    request="first" if leads else "samples",
                )
            )
        pools.append(Pool(question_id=f"q{q}", db_id=f"db{q}", attempts=tuple(attempts)))
    return pools


def bench(measure: str = "tokens", **options: bool) -> Bench:
    table = columns(recorded(**options), measure=measure)  # type: ignore[arg-type]
    return Bench(table, order(table))


def test_a_majority_of_samples_waits_for_the_prompt_that_its_recording_found_in_the_cache() -> None:
    b = bench()
    found = best_of(b, 6)
    for e, pool in enumerate(recorded()):
        samples = pool.attempts[1:]
        alone = ENGINE.predict(samples[0].prompt_tokens, max(a.completion_tokens for a in samples), 50)
        assert found.seconds[e] == pytest.approx(alone, rel=0.01)
        assert found.tokens[e] == samples[0].prompt_tokens + sum(a.completion_tokens for a in samples)


def test_uncached_tokens_of_a_first_request_are_those_that_somebody_had_to_read() -> None:
    found = best_of(bench("uncached"), 6)
    for e, pool in enumerate(recorded()):
        written = sum(a.completion_tokens for a in pool.attempts[1:])
        assert found.tokens[e] == pool.attempts[0].prompt_tokens - 50 + written


def test_written_tokens_know_no_cache() -> None:
    found = best_of(bench("completion"), 6)
    assert found.tokens.tolist() == [sum(a.completion_tokens for a in p.attempts[1:]) for p in recorded()]


def test_the_first_answer_and_samples_after_it_cost_what_was_recorded() -> None:
    b = bench("uncached")
    first, both = one_shot(b), b.sequence
    for e, pool in enumerate(recorded()):
        a = pool.attempts[0]
        assert first.tokens[e] == a.prompt_tokens - 50 + a.completion_tokens
        assert first.seconds[e] == pytest.approx(a.seconds)
        row = both.rows[e, 1] - b.table.offsets[e]
        assert both.seconds[e, 1] == pytest.approx(a.seconds + pool.attempts[row].seconds)


def test_a_policy_that_opens_with_samples_pays_as_the_majority_of_as_many_does() -> None:
    for measure in ("tokens", "uncached"):
        table = columns(recorded(), measure=measure)  # type: ignore[arg-type]
        opened = replay(table, Policy.one_shot(), opening=4, seed=3)
        fixed = best_of(Bench(table, order(table, seed=3)), 4)
        assert opened.tokens.tolist() == fixed.tokens.tolist()
        assert opened.seconds.tolist() == pytest.approx(fixed.seconds.tolist())


def test_windows_after_the_first_find_the_prompt_in_the_cache() -> None:
    table = columns(recorded(greedy=False), measure="uncached")
    found = esc(Bench(table, order(table, shuffle=False)), 2)  # no two answers in a row agree: three windows and a half
    for e, pool in enumerate(recorded(greedy=False)):
        read = pool.attempts[0].prompt_tokens - 50
        assert found.tokens[e] == 4 * read + sum(a.completion_tokens for a in pool.attempts)


def test_a_recording_without_a_cache_is_replayed_as_it_is() -> None:
    table = columns(recorded(found_by_first=0, greedy=False))
    assert not table["spared_tokens"].any()
    assert not table["spared_seconds"].any()
