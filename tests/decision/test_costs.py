"""What actions cost: sums of tokens, maxima of latencies, learned from the episode's own calls."""

from __future__ import annotations

from typing import Any

import pytest

from tta_langgraph.decision import Action, CostModel, Policy, Snapshot, Tally
from tta_langgraph.decision.calibration import Isotonic, fit_isotonic, fit_platt
from tta_langgraph.decision.cost_fitting import fit_runtime
from tta_langgraph.errors import PolicyError
from tta_langgraph.evidence import Evidence, Execution
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


def test_idle_runtime_is_found_again_and_contention_is_the_rest() -> None:
    pytest.importorskip("scipy", reason="scipy is not installed (extra learn)")
    calls = [(p, c, 0.2 + p * 1e-3 + c * 0.05) for p, c in ((100, 20), (1_000, 20), (100, 80), (900, 60))]
    runtime = fit_runtime(calls)
    assert (runtime.overhead, runtime.per_prompt_token, runtime.per_token) == pytest.approx((0.2, 1e-3, 0.05), abs=1e-6)
    mean, p90 = runtime.contention([(p, c, 2 * s) for p, c, s in calls])
    assert (mean, p90) == pytest.approx((2.0, 2.0))
    with pytest.raises(PolicyError):
        fit_runtime(calls[:2])


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
