"""Learning from recorded steps: exported models are exact, policies travel as JSON, copies are not asked again."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="numpy is not installed (extra learn)")
pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra learn)")

from tta_langgraph.budget import Usage  # noqa: E402
from tta_langgraph.decision import (  # noqa: E402
    Action,
    Experience,
    FittedValue,
    Policy,
    Snapshot,
    Utility,
    choose,
    choose_batch,
)
from tta_langgraph.decision.features import FEATURES, features  # noqa: E402
from tta_langgraph.decision.fitting import export_forest, folds, one_thread  # noqa: E402
from tta_langgraph.decision.forest import Forest  # noqa: E402
from tta_langgraph.decision.learning import Lesson, fit_learned  # noqa: E402
from tta_langgraph.decision.value_fitting import fit_ahead  # noqa: E402
from tta_langgraph.errors import PolicyError  # noqa: E402
from tta_langgraph.evidence import Evidence, Execution, LogprobStats  # noqa: E402
from tta_langgraph.state import Candidate  # noqa: E402

ACTIONS = [Action("resample", 1), Action("resample", 2), Action("reflect")]


def world(questions: int = 90, seed: int = 0) -> list[Experience]:
    """Easy questions are right at once, hopeless ones never, the rest half of the time; reflection repeats itself.

    Right answers have higher log-probabilities, so that a ranker can beat the vote.
    """
    rng = random.Random(seed)
    found = []
    for q in range(questions):
        chance = (0.97, 0.5, 0.02)[q % 3]
        for episode in range(3):
            made: list[Candidate] = []
            right: set[str] = set()

            def sample(
                action: str,
                prefix: str = f"{q}.{episode}",
                chance: float = chance,
                made: Any = made,
                right: Any = right,
            ) -> Candidate:
                good = rng.random() < chance
                fails = not good and rng.random() < 0.5
                key = None if fails else "good" if good else f"bad{rng.randrange(2)}"
                name = f"{prefix}.{len(made)}"
                if good:
                    right.add(name)
                return Candidate(
                    id=name,
                    text="",
                    answer="x",
                    key=key,
                    action=action,
                    usage=Usage(prompt_tokens=300, completion_tokens=20 + rng.randrange(20), seconds=1.0),
                    evidence=Evidence(
                        execution=Execution(ok=not fails, key=key, n_rows=2, error_kind="schema" if fails else None),
                        logprobs=LogprobStats(mean=rng.gauss(-0.2 if good else -0.6, 0.15), tail=-1.0, minimum=-2.0),
                    ),
                )

            made.append(sample("generate"))
            for step in range(4):
                before = Snapshot(candidates=tuple(made), step=step)
                action = ACTIONS[rng.randrange(3)]
                if action.name == "resample":
                    made.extend(sample("resample") for _ in range(action.n))
                    tokens = 300.0 + 30 * action.n
                else:
                    parent = made[0]
                    copy = sample("reflect")
                    made.append(
                        Candidate(
                            id=copy.id,
                            text="",
                            answer="x",
                            key=parent.key,
                            action="reflect",
                            usage=copy.usage,
                            evidence=parent.evidence,
                        )
                    )
                    right.discard(copy.id)
                    if parent.id in right:
                        right.add(copy.id)
                    tokens = 420.0
                after = Snapshot(candidates=tuple(made), step=step + 1)
                found.append(
                    Experience(
                        snapshot=before,
                        action=action,
                        after=after,
                        right=frozenset(right),
                        tokens=tokens,
                        seconds=1.5,
                        question=str(q),
                        group=f"db{q % 9}",
                    )
                )
    return found


@pytest.fixture(scope="module")
def steps() -> list[Experience]:
    return world()


@pytest.fixture(scope="module")
def lesson(steps: list[Experience]) -> Lesson:
    return fit_learned(steps, k=3)


@pytest.fixture(scope="module")
def ahead(lesson: Lesson, steps: list[Experience]) -> FittedValue:
    return fit_ahead(lesson, steps, iterations=2)


def fresh(snapshot: Snapshot) -> Snapshot:
    return Snapshot(candidates=snapshot.candidates, step=snapshot.step)


def test_exported_trees_say_what_scikit_learn_says() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 7)).round(1)  # ties with thresholds are where exports go wrong
    y = x[:, 0] * x[:, 1] + x[:, 2] + rng.normal(size=600)
    settings: dict[str, Any] = {"max_iter": 25, "max_leaf_nodes": 8, "max_depth": 3}
    with one_thread():
        regressor = HistGradientBoostingRegressor(**settings).fit(x, y)
        classifier = HistGradientBoostingClassifier(**settings).fit(x, y > 0)
    for model, own in ((regressor, regressor.predict(x)), (classifier, classifier.decision_function(x))):
        forest = Forest.from_dict(json.loads(json.dumps(export_forest(model, x).to_dict())))
        assert np.allclose(forest.batch(x), own, atol=1e-9)
        assert np.allclose([forest(row) for row in x.tolist()], own, atol=1e-9)


@pytest.mark.parametrize(
    "tree",
    [
        [[0], [0.5], [-1], [-1], [1.0, 2.0]],  # a leaf twice
        [[0], [0.5], [0], [-1], [1.0, 2.0]],  # a loop
        [[9], [0.5], [-1], [-2], [1.0, 2.0]],  # no such feature
        [[0], [0.5], [-1], [-2], [1.0]],  # a leaf missing
        [[0], [0.5], [-2], [-1], [1.0, 2.0]],  # leaves out of order
        [[0], [float("nan")], [-1], [-2], [1.0, 2.0]],
    ],
)
def test_trees_that_cannot_be_walked_are_refused(tree: list[Any]) -> None:
    with pytest.raises(PolicyError, match="walked"):
        Forest.from_dict({"base": 0.0, "width": 3, "trees": [tree]})


def test_folds_never_split_a_group_and_are_of_similar_size() -> None:
    groups = [f"g{i % 17}" for i in range(400)]
    fold = folds(groups, 4)
    assert all(len({int(f) for f, g in zip(fold, groups, strict=True) if g == name}) == 1 for name in set(groups))
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= 400 / 17 + 1


def test_features_are_finite_numbers_at_every_moment(steps: list[Experience]) -> None:
    moments = [e.snapshot for e in steps[:100]] + [Snapshot(), Snapshot(candidates=(Candidate(text=""),))]
    for moment in moments:
        seen = features(moment)
        assert tuple(seen) == FEATURES
        assert all(map(math.isfinite, seen.values()))


def test_p_correct_is_calibrated_on_groups_it_did_not_see(lesson: Lesson) -> None:
    unseen = world(seed=99)
    predicted, observed = [], []
    for e in unseen:
        found = lesson.predictor.assess(e.snapshot, [])
        predicted.append(found.p_now)
        observed.append(found.best in e.right)
    assert lesson.notes["now"]["auc"] > 0.8
    order = np.argsort(predicted)
    for part in np.array_split(order, 4):
        assert np.mean(np.asarray(predicted)[part]) == pytest.approx(np.mean(np.asarray(observed)[part]), abs=0.12)


def test_the_ranker_finds_right_answers_that_lose_the_vote(lesson: Lesson) -> None:
    assert lesson.predictor.ranker is not None
    assert lesson.notes["ranker"]["by_ranker"] > lesson.notes["ranker"]["split_moments_by_vote"]


def test_a_model_that_repeats_itself_is_resampled_not_asked_to_reflect(lesson: Lesson, steps: list[Experience]) -> None:
    policy = Policy(
        predictor=lesson.predictor,
        actions=ACTIONS,
        selection="predictor",
        utility=Utility(per_token=5e-5, per_second=0),
    )
    taken = [choose(e.snapshot, policy).action.name for e in steps[::3]]
    assert taken.count("reflect") < 0.1 * len(taken)
    assert taken.count("resample") > 0
    assert taken.count("stop") > 0


def test_batches_decide_as_one_by_one(lesson: Lesson, ahead: FittedValue, steps: list[Experience]) -> None:
    for predictor in (lesson.predictor, ahead):
        policy = Policy(predictor=predictor, actions=ACTIONS, selection="predictor", utility=Utility(wrong=0.4))
        moments = [fresh(e.snapshot) for e in steps[:150]] + [
            Snapshot(candidates=steps[0].snapshot.candidates, tokens_left=100.0),
            Snapshot(candidates=steps[0].snapshot.candidates, step=99),
        ]
        batch = choose_batch(moments, policy)
        for moment, choice in zip(moments, batch, strict=True):
            single, decided = choose(fresh_of(moment), policy), policy.decide(fresh_of(moment))
            assert (choice.action, choice.best) == (single.action, single.best)
            assert (str(choice.action.name), choice.action.n, choice.best) == (
                decided.action,
                decided.n,
                decided.candidate,
            )
            assert choice.p_now == single.p_now  # to the last digit, whoever else is in the batch
            assert choice.utility == single.utility


def fresh_of(moment: Snapshot) -> Snapshot:
    return Snapshot(candidates=moment.candidates, step=moment.step, tokens_left=moment.tokens_left)


def test_looking_ahead_goes_further_when_samples_are_cheap(ahead: FittedValue, steps: list[Experience]) -> None:
    policy = Policy(predictor=ahead, actions=ACTIONS, selection="predictor")
    moments = [fresh(e.snapshot) for e in steps[::4]]

    def continued(per_token: float) -> int:
        priced = policy.with_utility(per_token=per_token, per_second=0.0)
        return sum(not choice.action.ends for choice in choose_batch(moments, priced))

    assert continued(1e-6) > continued(1e-4) >= continued(1e-2)
    assert continued(1e-2) == 0


def test_a_fitted_policy_decides_without_scikit_learn_or_numpy(lesson: Lesson, tmp_path: Path) -> None:
    policy = Policy(predictor=lesson.predictor, actions=ACTIONS, selection="predictor")
    path = policy.save(tmp_path / "fitted.json")
    assert Policy.load(path) == policy
    script = """
import sys
for name in ("sklearn", "numpy", "scipy", "pickle5", "skops"):
    sys.modules[name] = None
from tta_langgraph.decision import Policy, Snapshot
from tta_langgraph.state import Candidate
moment = Snapshot(candidates=(Candidate(id="c", text="", answer="x", key="k"),))
print(Policy.load(sys.argv[1]).decide(moment).p_correct)
"""
    ran = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    moment = Snapshot(candidates=(Candidate(id="c", text="", answer="x", key="k"),))
    assert float(ran.stdout) == pytest.approx(policy.decide(moment).p_correct)


def test_a_policy_fitted_on_other_features_is_refused(lesson: Lesson, tmp_path: Path) -> None:
    data = Policy(predictor=lesson.predictor).to_dict()
    data["predictor"]["features"][3] = "moon_phase"
    with pytest.raises(PolicyError, match="other features"):
        Policy.from_dict(data)


def test_costs_are_learned_per_action(lesson: Lesson, steps: list[Experience]) -> None:
    costs = lesson.predictor.costs
    for action, tokens in ((ACTIONS[0], 330.0), (ACTIONS[2], 420.0)):
        mean = np.mean([costs.of(action, costs.scale(e.snapshot))[0].mean for e in steps if e.action == action])
        assert mean == pytest.approx(tokens, rel=0.02)
    inside = [
        e.tokens <= costs.of(e.action, costs.scale(e.snapshot))[0].p90 + 1e-9 for e in steps if e.action == ACTIONS[1]
    ]
    assert np.mean(inside) >= 0.88


@pytest.mark.parametrize("bad", ["one group", "all right"])
def test_recordings_that_teach_nothing_are_refused(bad: str, steps: list[Experience]) -> None:
    from dataclasses import replace

    if bad == "one group":
        taught = [replace(e, group="db0") for e in steps[:50]]
    else:
        taught = [replace(e, right=frozenset(c.id for c in e.after.candidates)) for e in steps]
    with pytest.raises(PolicyError, match="fit_learned"):
        fit_learned(taught, k=3)
