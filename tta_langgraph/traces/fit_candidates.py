"""The predictors that can be learned from a recording, and the choice among them by replay on databases held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from tta_langgraph.decision import Agreement, Policy, Predictor, Transition, Transitions, TransitionTable
from tta_langgraph.decision.calibration import fit_platt
from tta_langgraph.decision.cost_fitting import fit_costs
from tta_langgraph.decision.experience import Experience
from tta_langgraph.decision.learning import Lesson, fit_learned
from tta_langgraph.decision.partition import PartitionModel, fit_partition
from tta_langgraph.decision.policy import BY_PREDICTOR, BY_VOTE
from tta_langgraph.decision.value_fitting import fit_ahead
from tta_langgraph.decision.vote_stability import VoteStability, confidence
from tta_langgraph.errors import PolicyError
from tta_langgraph.traces.fit_panel import fit_panel
from tta_langgraph.traces.frontier import frontier
from tta_langgraph.traces.replay import replay
from tta_langgraph.traces.replay_columns import Columns
from tta_langgraph.traces.replay_draws import order
from tta_langgraph.traces.replay_prices import dearest, price_grid
from tta_langgraph.traces.strategies import Bench
from tta_langgraph.traces.tune import scaled

Kind = Literal["fitted_value", "learned", "panel", "transitions", "vote_stability"]
KINDS: tuple[Kind, ...] = ("fitted_value", "learned", "panel", "transitions", "vote_stability")
"""From the most to the least that is learned; of equals the later one is kept."""


ENOUGH = 300
"""Questions from which on looking ahead with boosted models is tried."""


def candidates(asked: Kind | Sequence[Kind] | Literal["auto"], questions: int) -> tuple[Kind, ...]:
    """The kinds to choose from.

    Raises:
        PolicyError: an unknown kind.
    """
    if asked == "auto":
        return KINDS if questions >= ENOUGH else KINDS[1:]
    kinds = (asked,) if isinstance(asked, str) else tuple(asked)
    for kind in kinds:
        if kind not in KINDS:
            raise PolicyError(f"unknown predictor {kind!r}", where="fit", remedy=f"Use auto, or {', '.join(KINDS)}")
    return kinds  # type: ignore[return-value]


@dataclass(frozen=True)
class Learner:
    """Makes predictors from steps; lessons are shared between those that need them."""

    table: Columns
    """The fit side."""
    steps: Sequence[Experience]
    """What was explored on it."""
    folds: int = 5
    """For held-out figures."""
    seed: int = 0
    """Of the folds."""

    def predictors(self, kinds: Sequence[Kind], *, rank: bool) -> dict[Kind, tuple[Predictor, dict[str, Any]]]:
        """Predictors by kind with their held-out figures; kinds that the steps cannot teach are left out.

        Raises:
            PolicyError: the steps can teach none of them.
        """
        found: dict[Kind, tuple[Predictor, dict[str, Any]]] = {}
        untaught: list[PolicyError] = []
        lesson: Lesson | None = None
        for kind in kinds:
            try:
                if kind in ("learned", "fitted_value"):
                    lesson = lesson or fit_learned(self.steps, k=self.folds, seed=self.seed, rank=rank)
                    made: Predictor = lesson.predictor if kind == "learned" else fit_ahead(lesson, self.steps)
                    found[kind] = (made, lesson.notes)
                elif kind == "panel" and any(step.action.kind in ("resample", "escalate") for step in self.steps):
                    found[kind] = (self._panel(), {})
                elif kind == "transitions":
                    found[kind] = (self._transitions(), {})
                elif kind == "vote_stability" and all(step.action.kind == "resample" for step in self.steps):
                    found[kind] = (self._stability(), {})
            except PolicyError as error:
                untaught.append(error)
        if not found and untaught:
            raise untaught[0]
        if not found:
            raise PolicyError(f"nothing to learn for {', '.join(kinds)}", where="fit", remedy="Use predictor='auto'")
        return found

    def _panel(self) -> Predictor:
        panel = fit_panel(self.table, self.steps)
        if any(step.action.kind in ("reflect", "judge") for step in self.steps):
            return Transitions(table=self._counted(), belief=panel)
        return panel

    def _transitions(self) -> Transitions:
        """Counted transitions over agreement whose prior is fitted to how samples agreed."""
        deepest: dict[str, Experience] = {}
        for step in self.steps:
            known = deepest.get(step.question)
            if known is None or len(step.after.candidates) > len(known.after.candidates):
                deepest[step.question] = step
        patterns = [(step.after.tally.pattern, step.after.tally.failed) for step in deepest.values()]
        if all(sum(votes) + failed < 2 for votes, failed in patterns):  # nobody to agree with: only labels tell
            model = _by_labels(deepest.values())
        else:
            model = fit_partition(patterns)
        belief = Agreement(model=model, costs=fit_costs(self.steps))
        return Transitions(table=self._counted(), belief=belief)

    def _counted(self) -> TransitionTable:
        """How often corrections fixed and broke the answer that the vote would give."""
        counted = []
        for step in self.steps:
            if step.action.kind in ("resample", "judge"):
                continue  # agreement and verdicts speak for themselves
            before, after = step.snapshot.tally.best, step.after.tally.best
            execution = before.evidence.execution if before is not None else None
            state = "unknown" if execution is None else "ran" if execution.ok else "failed"
            counted.append(
                Transition(
                    action=step.action,
                    model=before.model if before is not None else "",
                    state=state,
                    round=before.round if before is not None else 0,
                    before=before is not None and before.id in step.right,
                    after=after is not None and after.id in step.right,
                )
            )
        return TransitionTable.fit(counted)

    def _stability(self) -> VoteStability:
        """Vote stability, calibrated to P(correct) on every moment explored."""
        scores, right = [], []
        for step in self.steps:
            for moment in (step.snapshot, step.after):
                best = moment.tally.best
                if best is not None and moment.tally.pattern:
                    scores.append(confidence(moment.tally.pattern))
                    right.append(best.id in step.right)
        return VoteStability(calibrator=fit_platt(scores, right), costs=fit_costs(self.steps))


def _by_labels(steps: Iterable[Experience]) -> PartitionModel:
    """A prior under which a single answer is as probably right as first answers were."""
    base, right, wrong, failed = PartitionModel(), 0.5, 0.5, 0.0
    for step in steps:
        first = step.snapshot.candidates[0]
        fails = first.key is None
        right += first.id in step.right
        wrong += first.id not in step.right and not fails
        failed += first.id not in step.right and fails
    alpha = (base.alpha + base.beta) * right / (right + wrong + failed)
    return replace(base, alpha=alpha, beta=base.alpha + base.beta - alpha, fail=base.spread * failed / wrong)


def choose(
    sides: Sequence[tuple[Columns, Columns]],
    make: Callable[[Columns, Sequence[Kind]], dict[Kind, Policy]],
    kinds: Sequence[Kind] = KINDS,
    *,
    seed: int = 0,
) -> tuple[Kind, dict[str, float]]:
    """Which kind of predictor has the best frontier on databases it was not fitted on.

    Args:
        sides: pairs of (fit on, replay on).
        make: fits policies of some kinds.
        kinds: the candidates.
        seed: deals the cards.

    Returns:
        The kind that is `preferred`, and per kind its mean accuracy over the range of costs from one answer to all
        recorded.
    """
    scores: dict[Kind, list[float]] = {}
    for learned_on, replayed_on in sides:
        bench = Bench(replayed_on, order(replayed_on, repeats=2, seed=seed))
        low = float(bench.sequence.tokens[:, 0].mean())
        high = dearest(bench)
        for kind, policy in make(learned_on, kinds).items():
            if not policy.utility.per_token:  # tokens are free: compared as if they alone were not
                policy = policy.with_utility(per_token=1.0, per_second=0.0)
            points = []
            for price in price_grid(bench, points=9):
                found = replay(replayed_on, scaled(policy, price / policy.utility.per_token), cards=bench.cards)
                points.append((found.mean_tokens, found.accuracy))
            line = frontier([*points, (low, float(bench.sequence.right[:, 0].mean()))])
            # On the log scale of cost: what matters is the cheap end, where budgets lie.
            grid = np.geomspace(low, max(high, low * 1.01), 60)
            scores.setdefault(kind, []).append(float(np.mean(line.at(grid))))
    means = {kind: float(np.mean(values)) for kind, values in scores.items()}
    return preferred(means), {str(kind): value for kind, value in means.items()}


def preferred(scores: Mapping[Kind, float]) -> Kind:
    """The kind with the best score; of equals the simpler one, and the panel if none leads it by more than `LUCK`."""
    best = max(scores, key=lambda kind: (round(scores[kind], 4), KINDS.index(kind)))
    return "panel" if scores.get("panel", -1.0) >= scores[best] - LUCK else best


LUCK = 0.01
"""A lead of one point in accuracy is luck where halves of a few hundred questions on a few databases were replayed. On
the ladder of 13 systems counted transitions led the panel by that much, and were far below it on other databases."""


SELECTION = {
    "fitted_value": BY_PREDICTOR,
    "learned": BY_PREDICTOR,
    "panel": BY_PREDICTOR,
    "transitions": BY_VOTE,
    "vote_stability": BY_VOTE,
}
"""How each kind chooses the answer."""
