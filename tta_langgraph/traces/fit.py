"""From recorded pools to a policy file: what `tta fit` does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tta_langgraph.decision import Action, Option, Policy, Utility
from tta_langgraph.decision.policy import BY_PREDICTOR
from tta_langgraph.errors import TraceError
from tta_langgraph.traces.fit_candidates import SELECTION, Kind, Learner, candidates, choose
from tta_langgraph.traces.fit_explore import explore, recorded_actions
from tta_langgraph.traces.model import Pool
from tta_langgraph.traces.questions import sides_of
from tta_langgraph.traces.replay import Progress
from tta_langgraph.traces.replay_columns import Columns, Measure, columns

FIT, TEST = "fit", "test"
DECISIONS = 48
"""Decisions per episode after which a fitted policy stops whatever it forecasts."""


def split(table: Columns, *, test_share: float = 0.5, seed: int = 0) -> tuple[Columns, Columns]:
    """Splits questions into fit and test, never a database between them.

    Databases are dealt so that both sides get their share of questions; where any question was recorded with a side,
    the recorded sides are taken and nothing is dealt (a database without one is fitted on).

    Args:
        table: the recorded pools.
        test_share: share of the questions for the test side, in (0, 1).
        seed: of the dealing.

    Raises:
        TraceError: fewer than two databases, a database recorded for both sides, or nothing recorded for one of them.
    """
    return side_of(table, FIT, test_share=test_share, seed=seed), side_of(table, TEST, test_share=test_share, seed=seed)


def side_of(table: Columns, side: str, *, test_share: float = 0.5, seed: int = 0) -> Columns:
    """One side of `split`, also where nothing was recorded for the other.

    Raises:
        TraceError: as for `split`.
    """
    marks = sides_of(zip(table.db_ids, table.splits, strict=True), where="the recorded pools")
    if marks:
        in_test = np.asarray([marks.get(name) == TEST for name in table.db_ids])
        found = np.flatnonzero(in_test == (side == TEST))
        if not len(found):
            raise TraceError(
                f"none of the {len(table)} recorded questions is marked {side}",
                where="split",
                remedy=f"Use the other side or all of them, or record databases marked {side}",
            )
        return table.select(found)
    return table.select(np.flatnonzero(_dealt(table, test_share, seed) == (side == TEST)))


def _dealt(table: Columns, test_share: float, seed: int) -> NDArray[np.bool_]:
    """Whether each question is for testing, shape (questions,)."""
    names, index, counts = np.unique(np.asarray(table.db_ids), return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise TraceError(
            f"{len(names)} database cannot be split into fit and test",
            where="split",
            remedy="Record questions of at least two databases: a policy must be tested on databases it never saw; "
            "`tta fit --all` fits on what there is and keeps nothing for testing",
        )
    luck = np.random.default_rng(seed).random(len(names))
    in_test, room = np.zeros(len(names), dtype=bool), test_share * len(table)
    for g in np.argsort(luck):
        if counts[g] <= room + counts.min() / 2 or not in_test.any():
            in_test[g] = True
            room -= counts[g]
    if in_test.all():
        in_test[np.argmin(counts)] = False
    dealt: NDArray[np.bool_] = in_test[index]
    return dealt


def fit(
    pools: Columns | Iterable[Pool],
    *,
    utility: Utility | None = None,
    actions: Sequence[Option | Action | str] | None = None,
    predictor: Kind | Sequence[Kind] | Literal["auto"] = "auto",
    selection: str | None = None,
    episodes: int = 6,
    max_steps: int = 10,
    folds: int = 5,
    seed: int = 0,
    measure: Measure = "tokens",
    name: str = "fitted",
    progress: Progress | None = None,
) -> Policy:
    """Learns a policy from recorded pools: which answer to give, when it is right, and what each action adds.

    Random actions are played on every question, several times with the samples in another order; models are fitted on
    the steps. Give it the `fit` side only (see `split`); where a choice has to be made, it is made on databases held
    out within that side (on questions where there is one database alone; `notes["held_out_by"]` says which).

    Args:
        pools: recorded questions, or their columns.
        utility: the exchange rates the policy starts with; `tune` finds those of a budget.
        actions: what it may do; by default all that were recorded.
        predictor: `fitted_value` (learned, looking ahead), `learned` (one step), `transitions` (counts and agreement),
            `panel` (who agrees, how good each source is, the value of asking one more), `vote_stability` (samples
            only), several of these, or `auto` for all that suit the amount of data: the one with the best frontier on
            held-out databases is kept.
        selection: how the answer is chosen: `predictor` or a preset of `select`; by default what suits the predictor.
        episodes: random episodes per question.
        max_steps: steps per random episode at most.
        folds: for the held-out figures; a database is never in two.
        seed: of everything random.
        measure: what counts as a token.
        name: of the policy.
        progress: called with (stages done, stages in all).

    Returns:
        A policy that can be saved, loaded, tuned and replayed; its `notes` hold the held-out figures.

    Raises:
        TraceError: nothing was recorded, or nothing beyond first answers.
        PolicyError: scikit-learn is missing (extra `learn`).

    Example:
        ```python
        fit_side, test_side = split(columns(read_pools("pools.jsonl.gz")))
        policy = tune(fit(fit_side), fit_side, tokens=800).policy
        policy.save("policy.json")
        print(replay(test_side, policy).accuracy)
        ```
    """
    table = pools if isinstance(pools, Columns) else columns(pools, measure=measure)
    databases = sorted(set(table.db_ids))
    alone = len(databases) < 2
    table = _divisible(table)
    options = [Option.coerce(a) for a in (actions if actions is not None else recorded_actions(table))]
    rates, done, stages = utility or Utility(), 0, 2 if isinstance(predictor, str) and predictor != "auto" else 4

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, stages)

    def make(side: Columns, kinds: Sequence[Kind]) -> dict[Kind, Policy]:
        side = _divisible(side)  # half of two or three databases may be one
        played = [o.action for o in options]
        steps = list(explore(side, played, episodes=episodes, max_steps=max_steps, seed=seed))
        if not steps:
            raise TraceError(
                "nothing but first answers was recorded",
                where="fit",
                remedy="Record samples, reflections, verdicts or a larger model's answers: tta record --help",
            )
        tell()
        seen = {str(step.action) for step in steps}
        found = {}
        rank = selection in (None, BY_PREDICTOR)
        for kind, (made, notes) in Learner(side, steps, folds, seed).predictors(kinds, rank=rank).items():
            found[kind] = Policy(
                predictor=made,
                utility=rates,
                actions=[option for option in options if str(option.action) in seen],
                selection=selection or SELECTION[kind],
                max_steps=DECISIONS,
                name=name,
                notes={"predictor": kind, "held_out": notes, "seed": seed},
            )
        return found

    scores: dict[str, float] = {}
    kinds = candidates(predictor, len(table))
    kind = kinds[0]
    if len(kinds) > 1:
        a, b = split(replace(table, splits=("",) * len(table)), seed=seed)
        kind, scores = choose([(a, b), (b, a)], make, kinds, seed=seed)
    policy = make(table, [kind])[kind]
    tell()
    fitted_on = {"questions": len(table), "databases": databases, "measure": table.measure}
    held_out_by = "question" if alone else "database"
    notes = {**policy.notes, "held_out_by": held_out_by, "fitted_on": fitted_on, "chosen_by_replay": scores}
    return replace(policy, notes=notes)


def _divisible(table: Columns) -> Columns:
    """Where there is one database alone, its questions are held out of each other: better than no held-out figure."""
    return table if len(set(table.db_ids)) > 1 else replace(table, db_ids=table.question_ids)
