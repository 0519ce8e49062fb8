"""Static strategies and published stop rules, replayed on the same cards as a policy.

Each takes the recorded columns and the order in which episodes meet them, and gives one outcome per episode, computed
for all episodes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tta_langgraph.errors import TraceError
from tta_langgraph.traces.replay_columns import Columns
from tta_langgraph.traces.replay_draws import Draws, Order, draws
from tta_langgraph.traces.replay_result import Outcomes

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bench:
    """Recorded columns and dealt cards: what every strategy is measured on."""

    table: Columns
    """The recorded pools."""
    cards: Order
    """Which rows each episode meets, and in which order."""

    @cached_property
    def sequence(self) -> Draws:
        """First answer, then fresh samples one by one (or, where a ladder was recorded, the next model)."""
        rest = self.cards.samples if self.cards.samples.shape[1] else self.cards.ladder
        return draws(self.table, np.concatenate([self.cards.first[:, None], rest], axis=1))

    @cached_property
    def sampled(self) -> Draws:
        """Fresh samples only, without the greedy first answer; the same as `sequence` where there is none."""
        if not self.cards.samples.shape[1] or not self.greedy:
            return self.sequence
        return draws(self.table, self.cards.samples)

    @cached_property
    def greedy(self) -> bool:
        """Whether first answers are greedy ones rather than samples."""
        return self.table.code("action", "generate") >= 0

    def outcome(
        self, name: str, family: str, row: Ints, tokens: Floats, seconds: Floats, calls: Ints | int = 1
    ) -> Outcomes:
        """Outcomes of episodes that answered with these rows at these costs."""
        return Outcomes(
            name=name,
            family=family,
            question=self.cards.question,
            clusters=self.table.db_ids,
            correct=np.asarray(self.table["correct"][row] & (row >= 0), dtype=bool),
            tokens=np.asarray(tokens, float),
            seconds=np.asarray(seconds, float),
            calls=np.broadcast_to(np.asarray(calls, dtype=np.int64), row.shape),
            row=row,
        )

    def stopped(self, name: str, family: str, at: Ints, found: Draws | None = None) -> Outcomes:
        """Outcomes of taking answers one by one and stopping after draw `at` (0 is the first), shape (episodes,)."""
        seq = found or self.sequence
        last = np.clip(at, 0, seq.length - 1)
        e = np.arange(self.cards.episodes)
        return self.outcome(name, family, seq.winner[e, last], seq.tokens[e, last], seq.seconds[e, last], last + 1)


def one_shot(bench: Bench) -> Outcomes:
    """The first answer, as it is."""
    return bench.stopped("one_shot", "one_shot", np.zeros(bench.cards.episodes, dtype=np.int64))


def best_of(bench: Bench, n: int) -> Outcomes:
    """Majority of the results of `n` samples, drawn together in one request. Wang et al. 2023 (arXiv 2203.11171)."""
    seq = bench.sampled
    last = np.clip(n - 1, 0, seq.length - 1)
    e = np.arange(bench.cards.episodes)
    return bench.outcome(
        f"best_of({n})", "best_of", seq.winner[e, last], seq.together_tokens[e, last], seq.together_seconds[e, last]
    )


def reflect(bench: Bench, k: int, feedback: str | None = None, form: str | None = None) -> Outcomes:
    """The first answer, corrected `k` times with one kind of feedback; the last answer with a key counts.

    *Finding the Sweet Spot* (arXiv 2510.20653). A round that was not recorded (its parent had stopped) costs nothing
    and changes nothing.
    """
    table, rows = bench.table, bench.cards.first.copy()
    kind = table.code("action", "reflect")
    wanted = table["action"] == kind
    if feedback is not None:
        wanted &= table["feedback"] == table.code("feedback", feedback)
    if form is not None:
        wanted &= table["form"] == table.code("form", form)
    child = np.full(table.n_attempts, -1, dtype=np.int64)
    found = np.flatnonzero(wanted & (table["parent"] >= 0))[::-1]
    child[table["parent"][found]] = found
    cost = (table["prompt_tokens"] + table["completion_tokens"]).astype(float)
    took = table["seconds"].astype(float) + table["execution_seconds"]
    tokens, seconds = cost[rows], took[rows]
    answer, calls = rows.copy(), np.ones(len(rows), dtype=np.int64)
    for _ in range(k):
        following = np.where(rows >= 0, child[rows], -1)
        here = following >= 0
        tokens += np.where(here, cost[following], 0.0)
        seconds += np.where(here, took[following], 0.0)
        calls += here
        answer = np.where(here & ((table["key"][following] >= 0) | (table["key"][answer] < 0)), following, answer)
        rows = following
    label = f"reflect({k}" + (f", {feedback}" if feedback else "") + (f", {form})" if form else ")")
    return bench.outcome(label, "reflect" + (f" {feedback}" if feedback else ""), answer, tokens, seconds, calls)


def model_alone(bench: Bench, position: int) -> Outcomes:
    """Always the same model of a ladder: 0 is the first answer's, 1 the next."""
    rows = bench.cards.first if position == 0 else bench.cards.ladder[:, position - 1]
    table = bench.table
    tokens = (table["prompt_tokens"][rows] + table["completion_tokens"][rows]).astype(float)
    seconds = table["seconds"][rows].astype(float) + table["execution_seconds"][rows]
    return bench.outcome(f"always {table.texts['model'][table['model'][rows[0]]]}", "one model", rows, tokens, seconds)


def ladder_vote(bench: Bench, n: int) -> Outcomes:
    """Vote over the first `n` models of a ladder."""
    at = np.full(bench.cards.episodes, n - 1, dtype=np.int64)
    return bench.stopped(f"vote of {n} models", "ladder vote", at)


def adaptive_consistency(bench: Bench, threshold: float = 0.95, limit: int | None = None) -> Outcomes:
    """Draws one by one until the leader is likely to stay ahead: `1 − I_½(v1 + 1, v2 + 1) ≥ threshold`.

    Aggarwal et al. 2023 (arXiv 2305.11860), the Beta criterion on the two most frequent answers.
    """
    from scipy.special import betainc

    seq = bench.sequence
    confident = 1 - betainc(seq.lead + 1.0, seq.runner_up + 1.0, 0.5) >= threshold
    name = f"adaptive_consistency({threshold:g})" if limit is None else f"adaptive_consistency({threshold:g}, {limit})"
    return bench.stopped(name, "adaptive_consistency", first_true(confident, limit))


def esc(bench: Bench, window: int, limit: int | None = None) -> Outcomes:
    """Draws windows of `window` samples until one is unanimous, then votes. Li et al. 2024 (arXiv 2401.10480).

    Samples of a window are drawn together: its prompt counts once and its latency is that of the slowest.
    """
    seq = bench.sequence
    width = seq.rows.shape[1] if limit is None else min(limit, seq.rows.shape[1])
    safe = np.where(seq.valid, seq.rows, 0)
    key = np.where(seq.valid & (bench.table["executed"][safe] != 0), bench.table["key"][safe], -1)
    table, e = bench.table, np.arange(bench.cards.episodes)
    prompts = table["prompt_tokens"][safe]
    times = table["seconds"][safe].astype(float) + table["execution_seconds"][safe]
    prompts[:, :window] += table.repaid_tokens[safe[:, :window]]  # the first window reads the prompt
    times[:, :window] += table["spared_seconds"][safe[:, :window]]
    tokens, seconds = np.zeros(len(e)), np.zeros(len(e))
    calls, at, going = np.zeros(len(e), dtype=np.int64), np.zeros(len(e), dtype=np.int64), np.ones(len(e), dtype=bool)
    for start in range(0, width, window):
        block = slice(start, min(start + window, width))
        here = going & seq.valid[:, start]
        ok = seq.valid[:, block]
        written = np.where(ok, table["completion_tokens"][safe[:, block]], 0).sum(axis=1)
        prompt = np.where(ok, prompts[:, block], 0).max(axis=1)
        tokens += np.where(here, written + prompt, 0)
        seconds += np.where(here, np.where(ok, times[:, block], 0).max(axis=1), 0)
        calls += here
        at = np.where(here, start + ok.sum(axis=1) - 1, at)
        agreed = (key[:, block] == key[:, start : start + 1]).all(axis=1) & (key[:, start] >= 0) & ok.all(axis=1)
        going = here & ~agreed
    return bench.outcome(f"esc({window})", "esc", seq.winner[e, at], tokens, seconds, calls)


def random_stop(bench: Bench, chance: float, seed: int = 1) -> Outcomes:
    """After each answer stops with a fixed chance, whatever it saw: the floor for every stop rule."""
    luck = np.random.default_rng(seed).random(bench.sequence.rows.shape) < chance
    return bench.stopped(f"random({chance:g})", "random", first_true(luck))


def first_true(stop: NDArray[np.bool_], limit: int | None = None, fallback: int | None = None) -> Ints:
    """Index of the first True per episode; without one, the last draw allowed or `fallback`."""
    width = stop.shape[1] if limit is None else min(limit, stop.shape[1])
    window = stop[:, :width]
    last = width - 1 if fallback is None else fallback
    return np.asarray(np.where(window.any(axis=1), window.argmax(axis=1), last), dtype=np.int64)


def statics(bench: Bench) -> list[Outcomes]:
    """Every static strategy and published stop rule that the recording allows, over its useful settings.

    PETS needs its curves fitted and is built by `tta_langgraph.traces.strategies_pets`.
    """
    found = [one_shot(bench)]
    width, table = bench.sequence.rows.shape[1], bench.table
    sizes = _sizes(width)
    if bench.cards.samples.shape[1]:
        found += [best_of(bench, n) for n in _sizes(bench.sampled.rows.shape[1]) if n > 1]
        found += [esc(bench, w) for w in (2, 3, 4, 5, 8, 10) if w <= width]
    elif bench.cards.ladder.shape[1]:
        found += [model_alone(bench, position) for position in range(1, bench.cards.ladder.shape[1] + 1)]
        found += [ladder_vote(bench, n) for n in sizes if n > 1]
    if width > 2:
        found += [adaptive_consistency(bench, t) for t in (0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99)]
    if width > 1:
        found += [random_stop(bench, chance) for chance in (0.8, 0.6, 0.4, 0.2, 0.1)]
    for feedback, form in _reflections(table):
        rounds = int(table["round"][table["feedback"] == table.code("feedback", feedback)].max())
        found += [reflect(bench, k, feedback, form) for k in range(1, rounds + 1)]
    return found


def _sizes(width: int) -> list[int]:
    return [n for n in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 40, 64, 100) if n <= width]


def _reflections(table: Columns) -> Iterable[tuple[str, str | None]]:
    reflected = table["action"] == table.code("action", "reflect")
    pairs = np.unique(np.stack([table["feedback"][reflected], table["form"][reflected]]), axis=1).T
    forms = len(np.unique(pairs[:, 1])) > 1 if len(pairs) else False
    return [(table.texts["feedback"][f], table.texts["form"][m] if forms else None) for f, m in pairs]


Strategy = Callable[[Bench], Outcomes]
"""What a user can add of their own: from dealt cards to outcomes."""


def by_name(name: str) -> Strategy:
    """A static strategy from its name: `one_shot`, `best_of(8)`, `reflect(2)`, `esc(5)`, `adaptive_consistency(0.95)`.

    Raises:
        TraceError: there is no such strategy.
    """
    kind, _, rest = name.strip().partition("(")
    argument = rest.rstrip(") ").split(",")[0]
    makers: dict[str, Callable[[Bench], Outcomes]] = {
        "one_shot": one_shot,
        "best_of": lambda bench: best_of(bench, int(argument)),
        "reflect": lambda bench: reflect(bench, int(argument)),
        "esc": lambda bench: esc(bench, int(argument)),
        "adaptive_consistency": lambda bench: adaptive_consistency(bench, float(argument or 0.95)),
        "random": lambda bench: random_stop(bench, float(argument)),
        "ladder_vote": lambda bench: ladder_vote(bench, int(argument)),
    }
    if kind not in makers or (kind not in ("one_shot", "adaptive_consistency") and not argument):
        raise TraceError(
            f"there is no static strategy {name!r}",
            where="strategies",
            remedy=f"Known: {', '.join(makers)}; e.g. best_of(8)",
        )
    return makers[kind]


RULES = frozenset({"adaptive_consistency", "esc", "pets", "random"})
"""Families that look at answers before they stop: published stop rules and the random floor, not fixed strategies."""
