"""Experience from recorded pools: random actions to random depths, so that a policy learns what it never tried live."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tta_langgraph.decision import Action
from tta_langgraph.decision.experience import Experience
from tta_langgraph.traces.replay_columns import Columns
from tta_langgraph.traces.replay_draws import order
from tta_langgraph.traces.replay_episode import Episode, Hand


def explore(
    table: Columns,
    actions: Sequence[Action],
    *,
    episodes: int = 8,
    stop: float = 0.1,
    max_steps: int = 12,
    seed: int = 0,
) -> Iterator[Experience]:
    """Plays random actions on every recorded question.

    Args:
        table: the recorded pools.
        actions: what may be played; those without a recorded outcome are skipped.
        episodes: episodes per question, each with its own order of the samples.
        stop: chance to end an episode after each step.
        max_steps: steps at most.
        seed: of the dealing and the play; the same seed plays the same games.

    Yields:
        Every step taken, in order.
    """
    cards = order(table, repeats=episodes, seed=seed)
    rng = np.random.default_rng(seed + 1)
    hands: dict[int, Hand] = {}
    for index in range(cards.episodes):
        question = int(cards.question[index])
        if question not in hands:
            hands = {question: Hand.of(table, question)}
        hand = hands[question]
        drawn, rungs = cards.samples[index], cards.ladder[index]
        episode = Episode(
            hand,
            int(cards.first[index]) - hand.start,
            (drawn[drawn >= 0] - hand.start).tolist(),
            (rungs[rungs >= 0] - hand.start).tolist(),
        )
        for _ in range(max_steps):
            before = episode.snapshot(None)
            best = before.tally.best
            target = best.id if best is not None else episode.candidates[0].id
            possible = [action for action in actions if episode.can(action, target)]
            if not possible:
                break
            action = possible[int(rng.integers(len(possible)))]
            episode.play(action, target)
            after = episode.snapshot(None)
            yield Experience(
                snapshot=before,
                action=action,
                after=after,
                right=frozenset(c.id for c in after.candidates if hand.correct(episode.positions[c.id])),
                tokens=after.spent_tokens - before.spent_tokens,
                seconds=after.spent_seconds - before.spent_seconds,
                question=table.question_ids[question],
                group=table.db_ids[question],
            )
            if rng.random() < stop:
                break


def recorded_actions(table: Columns, *, sizes: Sequence[int] = (1, 2, 4, 8)) -> tuple[Action, ...]:
    """The actions that a recording can answer: samples in these sizes, kinds of reflection, the judge, escalation.

    A reflection's name says the form that was recorded (`reflect:execution.repair`): a live graph takes the same.

    On a ladder of three models or more each model is an action of its own (`escalate:name`), so that a policy can go
    straight to the one that is worth it.
    """
    found: list[Action] = []
    kinds = table["action"]
    samples = order(table).samples.shape[1]
    found += [Action("resample", n) for n in sizes if n <= samples]
    reflected = kinds == table.code("action", "reflect")
    for feedback in np.unique(table["feedback"][reflected]):
        told = table.texts["feedback"][feedback]
        forms = np.unique(table["form"][reflected & (table["feedback"] == feedback)])
        if len(forms) > 1 and not _compete(table, feedback):
            # One chain whose form changed with what was seen: the model's default, as a live graph chooses it.
            found.append(Action(f"reflect:{told}"))
            continue
        for form in forms:
            put = table.texts["form"][form]
            found.append(Action(f"reflect:{told}.{put}" if put else f"reflect:{told}"))
    if not np.isnan(table["verdict"]).all():
        found.append(Action("judge"))
    models = np.unique(table["model"][kinds == table.code("action", "escalate")])
    if len(models) == 1:
        found.append(Action("escalate"))
    found += [Action(f"escalate:{table.texts['model'][m]}") for m in models] if len(models) > 1 else []
    return tuple(found)


def _compete(table: Columns, feedback: int) -> bool:
    """Whether some attempt was looked at again in more than one form with this feedback."""
    looks = (table["action"] == table.code("action", "reflect")) & (table["feedback"] == feedback)
    pairs = np.unique(np.stack([table["parent"][looks], table["form"][looks]]), axis=1)
    return bool((np.unique(pairs[0], return_counts=True)[1] > 1).any())
