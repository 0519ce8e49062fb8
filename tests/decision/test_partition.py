"""The agreement model against simulation of the process it describes."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from tta_langgraph.decision.partition import PartitionModel, fit_partition
from tta_langgraph.errors import PolicyError

MODEL = PartitionModel(alpha=0.7, beta=0.5, spread=1.1, fail=0.4)
RIGHT = 0


def draw(rng: random.Random, model: PartitionModel, n: int) -> list[int | None]:
    """Samples of one question: RIGHT, a wrong answer's number from 1, or None for a failure."""
    theta = rng.betavariate(model.alpha, model.beta)
    wrong: list[int | None] = []
    found: list[int | None] = []
    for _ in range(n):
        if rng.random() < theta:
            found.append(RIGHT)
            continue
        seats = rng.random() * (model.spread + model.fail + len(wrong))
        if seats < len(wrong):
            pick: int | None = wrong[int(seats)]
        elif seats < len(wrong) + model.fail:
            pick = None
        else:
            pick = 1 + max((w for w in wrong if w is not None), default=0)
        wrong.append(pick)
        found.append(pick)
    return found


def counted(samples: list[int | None]) -> tuple[dict[int, int], int]:
    votes: dict[int, int] = defaultdict(int)
    for sample in samples:
        if sample is not None:
            votes[sample] += 1
    return dict(votes), samples.count(None)


def test_the_posterior_is_the_share_of_simulated_questions_where_the_group_is_right() -> None:
    rng = random.Random(5)
    right: dict[tuple[tuple[int, ...], int], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for _ in range(60_000):
        votes, failed = counted(draw(rng, MODEL, 3))
        if votes:
            top = max(votes.values())
            leaders = [answer for answer, v in votes.items() if v == top]
            cell = right[tuple(sorted(votes.values())), failed]
            cell[0] += RIGHT in leaders
            cell[1] += 1
    checked = 0
    for (pattern, failed), (hits, total) in right.items():
        if total < 2_000:
            continue
        beliefs = MODEL.posterior(tuple((v, 0.0) for v in pattern), failed)
        ties = sum(b for b, v in zip(beliefs, pattern, strict=True) if v == pattern[-1])
        assert ties == pytest.approx(hits / total, abs=4 * (0.25 / total) ** 0.5)
        checked += 1
    assert checked >= 5


def test_the_forecast_of_more_samples_is_what_simulation_gives() -> None:
    rng = random.Random(6)
    total = hits = 0.0
    for _ in range(40_000):
        samples = draw(rng, MODEL, 4)
        votes, failed = counted(samples[:2])
        if sorted(votes.values()) != [1, 1] or failed:
            continue
        votes, failed = counted(samples)
        ordered = sorted(votes.items(), key=lambda pair: pair[1])
        beliefs = MODEL.posterior(tuple((v, 0.0) for _, v in ordered), failed)
        hits += ordered[max(range(len(beliefs)), key=beliefs.__getitem__)][0] == RIGHT
        total += 1
    expected = MODEL.expected_best(((1, 0.0), (1, 0.0)), 0, 2)
    assert total > 3_000
    assert expected == pytest.approx(hits / total, abs=4 * (0.25 / total) ** 0.5)


def test_patterns_of_a_size_have_probability_one_in_all() -> None:
    import math

    # Set partitions of three labelled samples, failures included, each pattern times its number of labellings.
    patterns = {
        ((3,), 0): 1, ((2, 1), 0): 3, ((1, 1, 1), 0): 1, ((2,), 1): 3, ((1, 1), 1): 3, ((1,), 2): 3, ((), 3): 1,
    }  # fmt: skip
    total = sum(times * math.exp(MODEL.log_likelihood(votes, failed)) for (votes, failed), times in patterns.items())
    assert total == pytest.approx(1.0, abs=1e-9)


def test_more_samples_never_lower_the_expected_best_and_agreement_raises_belief() -> None:
    pattern = ((1, 0.0), (2, 0.0))
    values = [round(MODEL.expected_best(pattern, 1, n), 12) for n in range(13)]
    assert values == sorted(values)
    assert values[-1] <= 1
    beliefs = [MODEL.posterior(((n, 0.0),))[0] for n in range(1, 6)]
    assert beliefs == sorted(beliefs)


def test_repeated_failure_makes_a_question_hopeless() -> None:
    gains = [MODEL.expected_best((), failed, 2) for failed in range(6)]
    assert gains == sorted(gains, reverse=True)
    assert gains[5] < gains[0] / 3


def test_other_evidence_counts_as_odds() -> None:
    import math

    plain = MODEL.posterior(((1, 0.0),))[0]
    doubled = MODEL.posterior(((1, math.log(2)),))[0]
    assert doubled / (1 - doubled) == pytest.approx(2 * plain / (1 - plain))


def test_without_failures_in_the_model_one_still_counts_as_wrong() -> None:
    assert PartitionModel(fail=0.0).posterior(((1, 0.0),), 2)[0] < PartitionModel(fail=0.0).posterior(((1, 0.0),))[0]


def test_the_prior_is_recovered_from_agreement_alone() -> None:
    rng = random.Random(7)
    truth = PartitionModel(alpha=2.0, beta=0.4, spread=6.0, fail=0.3)
    patterns = []
    for _ in range(1_500):
        votes, failed = counted(draw(rng, truth, 8))
        patterns.append((tuple(votes.values()), failed))
    fitted = fit_partition(patterns)
    assert fitted.prior == pytest.approx(truth.prior, abs=0.08)
    assert fitted.spread > 2 * PartitionModel().spread
    with pytest.raises(PolicyError, match="no patterns"):
        fit_partition([])


@pytest.mark.parametrize("wrong", [{"alpha": 0}, {"beta": -1}, {"spread": float("nan")}, {"fail": float("inf")}])
def test_parameters_that_are_no_counts_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(PolicyError):
        PartitionModel(**wrong)
