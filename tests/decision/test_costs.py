"""What actions cost: sums of tokens, maxima of latencies, learned from the episode's own calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tta_langgraph.budget import Usage
from tta_langgraph.decision import Action, CostModel, Policy, Snapshot, Tally
from tta_langgraph.decision.batch import BatchPredictor
from tta_langgraph.decision.calibration import Isotonic, fit_isotonic, fit_platt
from tta_langgraph.errors import ModelError, PolicyError
from tta_langgraph.evidence import Evidence, Execution
from tta_langgraph.latency import LatencyModel
from tta_langgraph.selection import select


def test_samples_of_one_request_pay_the_prompt_once_and_take_as_long_as_the_slowest(snapshot: Any) -> None:
    costs = CostModel()
    scale = costs.scale(snapshot("a"))
    one, four = costs.of(Action("resample", 1), scale), costs.of(Action("resample", 4), scale)
    assert one[0].mean == pytest.approx(500 + 30)
    assert four[0].mean == pytest.approx(500 + 4 * 30)
    assert one[1].mean <= four[1].mean < 2 * one[1].mean
    assert all(q.p90 >= q.mean for q in (*one, *four))


def test_the_episodes_own_calls_replace_the_priors(snapshot: Any) -> None:
    prior = CostModel(prompt_tokens=9_000, completion_tokens=900, seconds=60)
    cold, _ = prior.of(Action("resample", 1), prior.scale(Snapshot()))
    warm, seconds = prior.of(Action("resample", 1), prior.scale(snapshot("a", "b")))
    assert cold.mean == pytest.approx(9_900)
    assert warm.mean == pytest.approx(530)
    assert seconds.mean == pytest.approx(1.5)


def test_known_schema_tokens_serve_before_the_first_call() -> None:
    costs = CostModel()
    assert costs.scale(Snapshot(context={"schema_tokens": 1_234.0})).prompt == 1_234


def test_ending_is_free(snapshot: Any) -> None:
    costs = CostModel()
    for name in ("stop", "abstain"):
        tokens, seconds = costs.of(Action(name), costs.scale(snapshot("a")))
        assert (tokens.p90, seconds.p90) == (0, 0)


IDLE = LatencyModel(overhead=0.1, prefill=0.001, per_token=0.02)


def test_with_an_idle_latency_the_seconds_follow_from_the_tokens() -> None:
    costs = CostModel().with_latency(IDLE)
    first = costs.scale(Snapshot(context={"schema_tokens": 1_000.0}))
    assert first.seconds == pytest.approx(IDLE.predict(1_000, costs.completion_tokens))
    short, long = (costs.of(Action("resample"), replace(first, completion=c))[1].mean for c in (20.0, 120.0))
    assert long - short == pytest.approx(100 * IDLE.per_token)


def test_samples_that_take_turns_on_a_processor_are_not_forecast_as_free(candidate: Any) -> None:
    usage = Usage(prompt_tokens=500, completion_tokens=30, cached_tokens=500, seconds=30 * 0.02)
    seen = Snapshot(candidates=(replace(candidate("a"), usage=usage),))

    def forecast(n: int, batch: float) -> float:
        costs = CostModel(spread=0.0).with_latency(LatencyModel(overhead=0, prefill=0, per_token=0.02, batch=batch))
        return costs.of(Action("resample", n), costs.scale(seen))[1].mean

    assert forecast(8, 0.0) == pytest.approx(forecast(1, 0.0)), "together, for nothing"
    assert forecast(8, 1.0) == pytest.approx(8 * forecast(1, 1.0)), "one after the other"
    assert forecast(8, 0.5) == pytest.approx((1 + 7 * 0.5) * forecast(1, 0.5))


def test_what_a_busy_engine_adds_is_seen_in_the_episodes_own_calls(candidate: Any) -> None:
    costs = CostModel().with_latency(IDLE)

    def forecast(load: float) -> float:
        usage = Usage(prompt_tokens=500, completion_tokens=30, seconds=load * IDLE.predict(500, 30), model_calls=1)
        seen = Snapshot(candidates=(replace(candidate("a"), usage=usage),))
        return costs.of(Action("resample"), costs.scale(seen))[1].mean

    assert forecast(1.0) == pytest.approx(IDLE.predict(500, 30))
    assert forecast(3.0) == pytest.approx(3 * forecast(1.0))


def test_what_the_prefix_cache_holds_is_not_read_again(candidate: Any) -> None:
    costs = CostModel().with_latency(IDLE)
    usage = Usage(prompt_tokens=500, completion_tokens=30, cached_tokens=400, seconds=IDLE.predict(500, 30, 400))
    seen = Snapshot(candidates=(replace(candidate("a"), usage=usage),))
    assert costs.of(Action("resample"), costs.scale(seen))[1].mean == pytest.approx(IDLE.predict(500, 30, 400))


def test_many_moments_are_priced_like_single_ones_on_a_measured_engine(candidate: Any) -> None:
    policy = Policy.default("sql", actions=("resample(1)", "resample(4)")).with_latency(replace(IDLE, batch=0.5))
    moments = []
    for cached in (0, 400):
        usage = Usage(prompt_tokens=500, completion_tokens=30, cached_tokens=cached, seconds=0.9)
        moments.append(Snapshot(candidates=(replace(candidate("a"), usage=usage),)))
    assert isinstance(policy.predictor, BatchPredictor)
    actions = [option.action for option in policy.options]
    batch = policy.predictor.assess_batch(moments, actions)
    for i, moment in enumerate(moments):
        alone = policy.predictor.assess(moment, actions).forecasts
        assert batch.seconds[0][i] == pytest.approx([alone[action].seconds.mean for action in actions])


def test_a_policy_takes_an_engines_latency_and_keeps_it_in_its_file(tmp_path: Path) -> None:
    policy = Policy.default("sql").with_latency(IDLE)
    policy.save(tmp_path / "policy.json")
    assert Policy.load(tmp_path / "policy.json") == policy
    assert policy.with_latency(None) == Policy.default("sql")
    with pytest.raises(ModelError, match="are not seconds"):
        LatencyModel(overhead=-1, prefill=0, per_token=0)


def test_the_tally_is_the_execution_vote(candidate: Any) -> None:
    import random

    rng = random.Random(8)
    for _ in range(400):
        made: list[Any] = []
        for _ in range(rng.randrange(1, 8)):
            key = rng.choice(["a", "b", "c", None])
            parent = rng.choice(made).id if made and rng.random() < 0.3 else None
            ok = key is not None and rng.random() < 0.9
            evidence = Evidence(execution=Execution(ok=ok, key=key if ok else None))
            action = rng.choice(["generate", "resample", "escalate"])
            answer = None if rng.random() < 0.1 else "x"
            made.append(candidate(key, parent=parent, action=action, evidence=evidence, answer=answer))
        mine, theirs = Tally.of(made), select(made, "execution_vote")
        assert (mine.best and mine.best.id) == (theirs.candidate and theirs.candidate.id)
        assert [g.key for g in mine.groups] == [g.key for g in theirs.groups]


def test_a_named_selection_rule_decides_the_answer(candidate: Any, snapshot: Any) -> None:
    from tta_langgraph.evidence import LogprobStats

    def sure(key: str, mean: float) -> Any:
        evidence = Evidence(
            execution=Execution(ok=True, key=key), logprobs=LogprobStats(mean=mean, tail=mean, minimum=mean)
        )
        return candidate(key, evidence=evidence)

    moment = snapshot(sure("a", -3.0), sure("a", -3.0), sure("b", -0.01))
    default = Policy.default()
    assert default.decide(moment).candidate == moment.candidates[0].id
    confident = Policy(predictor=default.predictor, selection="confidence")
    assert confident.decide(moment).candidate == moment.candidates[2].id
    assert confident.select(moment) is moment.candidates[2]


def test_platt_finds_the_sigmoid_that_made_the_labels() -> None:
    import math
    import random

    rng = random.Random(3)
    scores = [rng.uniform(-2, 2) for _ in range(6_000)]
    right = [rng.random() < 1 / (1 + math.exp(-(1.7 * s - 0.4))) for s in scores]
    fitted = fit_platt(scores, right)
    assert (fitted.slope, fitted.bias) == (pytest.approx(1.7, abs=0.15), pytest.approx(-0.4, abs=0.1))


def test_isotonic_calibration_rises_and_matches_scikit_learn_without_shrinkage() -> None:
    isotonic = pytest.importorskip("sklearn.isotonic", reason="scikit-learn is not installed (extra learn)")
    import random

    rng = random.Random(4)
    scores = [round(rng.random(), 2) for _ in range(400)]
    right = [rng.random() < s**2 for s in scores]
    mine = fit_isotonic(scores, right, strength=0.0)
    theirs = isotonic.IsotonicRegression(out_of_bounds="clip").fit(scores, right)
    grid = sorted(set(scores))
    assert [mine(s) for s in grid] == pytest.approx(list(theirs.predict(grid)))
    shrunk = fit_isotonic([0.1, 0.9], [False, True])
    assert 0 < shrunk(0.0) < shrunk(1.0) < 1


@pytest.mark.parametrize(("x", "y"), [((0.0, 0.0), (0.1, 0.2)), ((0.0, 1.0), (0.5, 0.2)), ((), ()), ((0.0,), (1.5,))])
def test_knots_that_do_not_rise_are_refused(x: tuple[float, ...], y: tuple[float, ...]) -> None:
    with pytest.raises(PolicyError):
        Isotonic(x, y)


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_calibrators_refuse_no_data_and_nan(fit: Any) -> None:
    for scores, right in (([], []), ([float("nan")], [True]), ([0.5], [True, False])):
        with pytest.raises(PolicyError):
            fit(scores, right)
