"""The panel of answerers: its posterior and its forecasts against simulation of the world it assumes."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from tta_langgraph.decision import Action, Policy, Snapshot, Utility
from tta_langgraph.decision.panel import Panel
from tta_langgraph.errors import PolicyError
from tta_langgraph.evidence import Evidence, Execution
from tta_langgraph.state import Candidate
from tta_langgraph.traces.fit_explore import explore, recorded_actions
from tta_langgraph.traces.fit_panel import fit_panel
from tta_langgraph.traces.model import Attempt, Pool
from tta_langgraph.traces.replay_columns import columns

pytest.importorskip("sklearn", reason="fitting needs scikit-learn (extra: learn)")

WORLD = Panel(
    sources=("generate", "resample", "escalate:big"),
    weights=(0.5, 0.3, 0.2),
    skill=((0.9, 0.4, 0.05), (0.85, 0.35, 0.05), (0.97, 0.8, 0.1)),
    failing=((0.2, 0.3, 0.4), (0.2, 0.3, 0.4), (0.05, 0.1, 0.2)),
    spread=(2.0, 1.0, 0.5),
    prices={"resample": (40.0, 1.0), "escalate:big": (400.0, 3.0)},
    first_tokens=40.0,
)


def draw(rng: np.random.Generator, sources: list[int]) -> tuple[list[str | None], int]:
    """Answers of some sources to one question of the world: `right`, wrong ones by number, None for a failure."""
    z = int(rng.choice(3, p=WORLD.weights))
    wrong: list[int] = []
    answers: list[str | None] = []
    for source in sources:
        if rng.random() < WORLD.skill[source][z]:
            answers.append("right")
        elif rng.random() < WORLD.failing[source][z]:
            answers.append(None)
        else:
            seats = [wrong.count(w) for w in range(max(wrong, default=-1) + 1)]
            chances = np.array([*seats, WORLD.spread[z]], dtype=float)
            w = int(rng.choice(len(chances), p=chances / chances.sum()))
            wrong.append(w)
            answers.append(f"wrong-{w}")
    return answers, z


def snapshot(answers: list[str | None], sources: list[int]) -> Snapshot:
    names = ["generate", "resample", "escalate"]
    made = [
        Candidate(
            id=f"c{i}",
            text="x",
            answer="x",
            key=answer,
            action=names[source],
            model="big" if source == 2 else "small",
            evidence=Evidence(execution=Execution(ok=answer is not None, key=answer)),
        )
        for i, (answer, source) in enumerate(zip(answers, sources, strict=True))
    ]
    return Snapshot(candidates=tuple(made), utility=Utility(per_token=1e-4, per_second=0))


def pattern(answers: list[str | None]) -> tuple[int, ...]:
    """Which answers agree, by order of first appearance; −1 for failures."""
    seen: dict[str, int] = {}
    return tuple(-1 if a is None else seen.setdefault(a, len(seen)) for a in answers)


def test_the_posterior_is_the_share_of_simulated_questions_where_the_answer_is_right() -> None:
    rng = np.random.default_rng(0)
    sources = [0, 1, 1, 2]
    outcomes: dict[tuple[int, ...], list[tuple[str | None, list[str | None]]]] = defaultdict(list)
    for _ in range(30_000):
        answers, _ = draw(rng, sources)
        outcomes[pattern(answers)].append((answers[0], answers))
    checked = 0
    for found in outcomes.values():
        if len(found) < 1500:
            continue
        moment = snapshot(found[0][1], sources)
        assessed = WORLD.assess(moment, ())
        best = int(str(assessed.best)[1:])
        share = np.mean([answers[best] == "right" for _, answers in found])
        assert assessed.p_now == pytest.approx(share, abs=4 * np.sqrt(0.25 / len(found)) + 0.01)
        checked += 1
    assert checked >= 3


def test_one_step_forecasts_are_what_simulation_gives() -> None:
    rng = np.random.default_rng(1)
    by_pattern: dict[tuple[int, ...], list[tuple[list[str | None], bool]]] = defaultdict(list)
    for _ in range(20_000):
        answers, _ = draw(rng, [0, 1, 1])
        after = WORLD.assess(snapshot(answers, [0, 1, 1]), ())
        right = after.p_now > 0.02 and answers[int(str(after.best)[1:])] == "right"
        by_pattern[pattern(answers[:2])].append((answers[:2], right))
    for found in by_pattern.values():
        if len(found) < 2000:
            continue
        forecast = WORLD.assess(snapshot(found[0][0], [0, 1]), [Action("resample")]).forecasts[Action("resample")]
        assert forecast.p_correct == pytest.approx(np.mean([right for _, right in found]), abs=0.03)


def test_looking_ahead_is_never_worth_less_than_one_step() -> None:
    for answers in (["right", "wrong-0"], ["right", None], ["right", "right"]):
        moment = snapshot(list(answers), [0, 1])
        for action in (Action("resample"), Action("escalate:big")):
            forecast = WORLD.assess(moment, [action]).forecasts[action]
            assert forecast.ahead is not None
            price = 1e-4
            one = (
                forecast.p_correct
                - price * WORLD.prices["resample" if action.kind == "resample" else "escalate:big"][0]
            )
            assert forecast.ahead.p_correct - price * forecast.ahead.tokens >= one - 0.01


def test_a_strong_model_outweighs_weak_ones_that_disagree_with_it() -> None:
    split = WORLD.assess(snapshot(["wrong-0", "wrong-1", "right"], [0, 1, 2]), ())
    assert split.best == "c2"


def test_a_model_is_asked_once() -> None:
    moment = snapshot(["wrong-0", "right"], [0, 2])
    assert Action("escalate:big") not in WORLD.assess(moment, [Action("escalate:big")]).forecasts
    assert Action("resample") in WORLD.assess(moment, [Action("resample")]).forecasts


def test_it_gives_up_on_questions_that_nobody_can_answer() -> None:
    policy = Policy(
        predictor=WORLD,
        utility=Utility(per_token=1.5e-3, per_second=0),  # a sample must add 0.06
        actions=("resample(1)", "escalate:big"),
        selection="predictor",
    )
    hopeless = policy.decide(snapshot([None, None, None, None, None], [0, 1, 1, 1, 2]))
    disputed = policy.decide(snapshot(["wrong-0", "right"], [0, 1]))
    agreed = policy.decide(snapshot(["right", "right", "right"], [0, 1, 1]))
    assert (hopeless.action, agreed.action) == ("stop", "stop")
    assert disputed.action != "stop"


def test_fitting_recovers_how_good_each_source_is() -> None:
    rng = np.random.default_rng(4)
    pools = []
    for q in range(400):
        answers, _ = draw(rng, [0, 1, 1, 1, 1, 2])
        attempts = tuple(
            Attempt(
                id=f"a{i}",
                action=("generate", "resample", "escalate")[source],
                model="big" if source == 2 else "small",
                correct=answer == "right",
                key=answer,
                executed=answer is not None,
                completion_tokens=(40, 40, 400)[source],
            )
            for i, (answer, source) in enumerate(zip(answers, [0, 1, 1, 1, 1, 2], strict=True))
        )
        pools.append(Pool(question_id=f"q{q}", db_id=f"d{q % 9}", attempts=attempts))
    table = columns(pools)
    found = fit_panel(table, list(explore(table, recorded_actions(table), episodes=1)), classes=3)
    overall = {
        name: float(np.dot(found.weights, skill)) for name, skill in zip(found.sources, found.skill, strict=True)
    }
    for name, skill in zip(WORLD.sources, WORLD.skill, strict=True):
        assert overall[name] == pytest.approx(float(np.dot(WORLD.weights, skill)), abs=0.05)
    assert found.prices == {"resample": (40.0, 0.0), "escalate:big": (400.0, 0.0)}


def test_an_answer_of_the_usual_length_beats_a_longer_one_with_more_votes() -> None:
    rng = np.random.default_rng(5)
    pools = []
    for q in range(120):
        # Two cut answers agree as often as not; what tells them from right ones is that they are too short.
        answers = ["right", "cut", "cut"] if q % 2 else ["right", "right", "cut"]
        rng.shuffle(answers)
        attempts = tuple(
            Attempt(id=f"a{i}", action="resample", correct=answer == "right", key=answer, completion_tokens=40,
                    answer_chars=20 if answer == "right" else 6, request=f"a{i}")
            for i, answer in enumerate(answers)
        )  # fmt: skip
        pools.append(Pool(question_id=f"q{q}", db_id=f"d{q % 9}", attempts=attempts))
    table = columns(pools)
    panel = fit_panel(table, list(explore(table, recorded_actions(table), episodes=2)), classes=2)

    def chosen(lengths: dict[str, int]) -> str | None:
        made = [
            Candidate(id=f"{key}{i}", text="", answer="x" * lengths[key], key=key, action="resample")
            for i, key in enumerate(["many", "many", "one"])
        ]
        return panel.assess(Snapshot(candidates=tuple(made)), [Action("stop")]).best

    assert chosen({"many": 6, "one": 20}) == "one2"
    assert chosen({"many": 20, "one": 6}) == "many0"
    assert chosen({"many": 20, "one": 20}) == "many0"


def test_a_panel_survives_its_file_and_refuses_a_broken_one(tmp_path: Path) -> None:
    policy = Policy(predictor=WORLD, actions=("resample(1)",), selection="predictor")
    again = Policy.load(policy.save(tmp_path / "policy.json"))
    assert again.predictor == WORLD
    broken = WORLD.to_dict() | {"spread": [1.0]}
    with pytest.raises(PolicyError, match="do not fit together"):
        Panel.from_dict(broken)


def test_the_more_models_can_be_asked_the_shorter_are_its_plans() -> None:
    """Plans multiply with the models: four steps among twelve of them took minutes a question."""
    rng = np.random.default_rng(0)
    depths = []
    for models in (1, 5, 12, 40):
        pools = [
            Pool(
                question_id=f"q{q}",
                db_id=f"db{q % 4}",
                attempts=tuple(
                    Attempt(
                        id=f"m{m}",
                        action="escalate" if m else "generate",
                        model=f"m{m}",
                        correct=bool(right),
                        key="right" if right else f"wrong-{m % 3}",
                        completion_tokens=10 * (m + 1),
                    )
                    for m, right in enumerate(rng.random(models + 1) < 0.6)
                ),
            )
            for q in range(24)
        ]
        table = columns(pools)
        steps = list(explore(table, recorded_actions(table), episodes=1))
        depths.append((fit_panel(table, steps).depth, models))
    assert [depth for depth, _ in depths] == sorted((depth for depth, _ in depths), reverse=True)
    assert all(models**depth <= 2_000 for depth, models in depths)
