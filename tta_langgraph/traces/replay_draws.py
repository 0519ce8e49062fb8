"""The draws of replayed episodes: in which order recorded attempts come up, and what a vote over them says.

Everything is computed for all episodes and all stopping points at once: one table from which every strategy that
takes answers one by one and stops (majority of n, Adaptive-Consistency, ESC, random, oracle) is a lookup.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tta_langgraph.errors import TraceError
from tta_langgraph.traces.replay_columns import Columns

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which recorded rows an episode meets, and in which order. Padded with −1, shapes (episodes, width)."""

    question: Ints
    """The question of each episode, shape (episodes,)."""
    first: Ints
    """The first answer of each episode, shape (episodes,): the greedy one, else the first sample."""
    samples: Ints
    """Fresh samples after the first answer, in random order."""
    ladder: Ints
    """Answers of further models, in recorded order (cheap to strong)."""

    @property
    def episodes(self) -> int:
        """How many episodes there are."""
        return len(self.question)

    def take(self, episodes: slice | Ints) -> Order:
        """Some of the episodes."""
        return Order(
            question=self.question[episodes],
            first=self.first[episodes],
            samples=self.samples[episodes],
            ladder=self.ladder[episodes],
        )


def order(table: Columns, *, repeats: int = 1, seed: int = 0, shuffle: bool = True) -> Order:
    """Deals the recorded attempts to episodes: `repeats` per question, each with its own order of the samples.

    Args:
        table: the recorded pools.
        repeats: episodes per question.
        seed: the same seed deals the same cards, so strategies can be compared pair by pair.
        shuffle: False keeps the recorded order of the samples.

    Raises:
        TraceError: a question has neither a first answer nor a sample.
    """
    generate, resample, escalate = (table.code("action", name) for name in ("generate", "resample", "escalate"))
    rng = np.random.default_rng(seed)
    kinds, fresh = table["action"], table["parent"] < 0
    greedy_rows, sample_rows, ladder_rows = [], [], []
    for q in range(len(table)):
        rows = np.arange(table.offsets[q], table.offsets[q + 1])
        greedy_rows.append(rows[kinds[rows] == generate][:1])
        sample_rows.append(rows[(kinds[rows] == resample) & fresh[rows]])
        ladder_rows.append(rows[kinds[rows] == escalate])
        if not len(greedy_rows[-1]) and not len(sample_rows[-1]):
            raise TraceError(
                "a question has no first answer",
                where=f"pool {table.question_ids[q]}",
                remedy="Record the actions generate or resample for every question",
            )
    samples = np.repeat(_padded(sample_rows), repeats, axis=0)
    if shuffle and samples.shape[1]:
        luck = np.where(samples < 0, 2.0, rng.random(samples.shape))
        samples = np.take_along_axis(samples, np.argsort(luck, axis=1, kind="stable"), axis=1)
    first = np.repeat(_padded(greedy_rows, width=1)[:, 0], repeats)
    if samples.shape[1] and (first < 0).any():  # without a greedy answer the first sample takes its place
        moved = first < 0
        first = np.where(moved, samples[:, 0], first)
        shifted = np.concatenate([samples[:, 1:], np.full((len(samples), 1), -1)], axis=1)
        samples = np.where(moved[:, None], shifted, samples)
        samples = samples[:, : samples.shape[1] - 1] if moved.all() else samples
    return Order(
        question=np.repeat(np.arange(len(table)), repeats),
        first=first,
        samples=samples,
        ladder=np.repeat(_padded(ladder_rows), repeats, axis=0),
    )


def _padded(rows: list[Ints], width: int | None = None) -> Ints:
    size = max((len(r) for r in rows), default=0) if width is None else width
    out = np.full((len(rows), size), -1, dtype=np.int64)
    for index, found in enumerate(rows):
        out[index, : len(found)] = found[:size]
    return out


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Answers taken one by one, and the state of the vote after each; shapes (episodes, draws)."""

    rows: Ints
    """Row of each draw, −1 past the end."""
    winner: Ints
    """Row that the vote selects after each draw (the last valid one past the end)."""
    right: Bools
    """Whether the selected answer is right."""
    any_right: Bools
    """Whether any answer so far is right."""
    tokens: Floats
    """Tokens so far, if the draws were separate requests."""
    seconds: Floats
    """Seconds so far, one after the other."""
    together_tokens: Floats
    """Tokens so far, if all were sampled in one request: the prompt counts once."""
    together_seconds: Floats
    """Seconds so far, if all ran side by side: the slowest."""
    lead: Ints
    """Votes of the leading answer."""
    runner_up: Ints
    """Votes of the second answer."""
    valid: Bools
    """Whether the episode has so many draws."""

    @property
    def length(self) -> Ints:
        """Draws per episode, shape (episodes,)."""
        return np.asarray(self.valid.sum(axis=1), dtype=np.int64)


def draws(table: Columns, rows: Ints) -> Draws:
    """Votes over recorded rows, in the given order, for every prefix.

    A row votes for its key unless it failed to execute; ties go to the answer that came first, and where nobody may
    vote the earliest row stands: the rule `execution_vote` of `tta_langgraph.selection`.

    Args:
        table: the recorded pools.
        rows: the draws of each episode, −1 past its end, shape (episodes, draws).
    """
    episodes, width = rows.shape
    valid = rows >= 0
    safe = np.where(valid, rows, 0)
    key = np.where(valid & (table["executed"][safe] != 0), table["key"][safe], -1)
    slot, slots = _slots(key)
    counts = np.zeros((episodes, slots + 1), dtype=np.int64)
    first_row = np.full((episodes, slots + 1), -1, dtype=np.int64)
    index = np.arange(episodes)
    parent = np.where(valid, table["parent"][safe], -1)
    corrects = parent >= 0
    winner = np.empty_like(rows)
    lead = np.zeros_like(rows)
    runner = np.zeros_like(rows)
    for d in range(width):
        here, row = slot[:, d], rows[:, d]
        if d and corrects.any():
            _withdraw(counts, first_row, slot, rows, np.where(here < slots, parent[:, d], -1), d)
        counts[index, here] += here < slots
        unseen = first_row[index, here] < 0
        first_row[index[unseen], here[unseen]] = row[unseen]
        top = counts[:, :slots].argmax(axis=1) if slots else np.zeros(episodes, dtype=np.int64)
        votes = counts[index, top] if slots else np.zeros(episodes, dtype=np.int64)
        winner[:, d] = np.where(votes > 0, first_row[index, top], rows[:, 0])
        lead[:, d] = votes
        if slots > 1:
            runner[:, d] = np.partition(counts[:, :slots], -2, axis=1)[:, -2]
    correct = table["correct"][safe] & valid
    prompt, written = (np.where(valid, table[name][safe], 0) for name in ("prompt_tokens", "completion_tokens"))
    seconds = np.where(valid, table["seconds"][safe].astype(float) + table["execution_seconds"][safe], 0.0)
    # Whatever comes first reads the prompt: the first draw of several requests, all draws of a single one.
    anew = np.where(valid, prompt + table.repaid_tokens[safe], 0)
    longer = np.where(valid, seconds + table["spared_seconds"][safe], 0.0)
    prompt[:, :1], seconds[:, :1] = anew[:, :1], longer[:, :1]
    return Draws(
        rows=rows,
        winner=winner,
        right=table["correct"][winner] & (winner >= 0),
        any_right=np.logical_or.accumulate(correct, axis=1),
        tokens=np.cumsum(prompt + written, axis=1, dtype=float),
        seconds=np.cumsum(seconds, axis=1, dtype=float),
        together_tokens=np.maximum.accumulate(anew, axis=1) + np.cumsum(written, axis=1, dtype=float),
        together_seconds=np.maximum.accumulate(longer, axis=1),
        lead=lead,
        runner_up=runner,
        valid=valid,
    )


def _withdraw(counts: Ints, first_row: Ints, slot: Ints, rows: Ints, parent: Ints, d: int) -> None:
    """A correction that counts takes the place of what it corrects: the corrected answer's vote is taken back."""
    match = (rows[:, :d] == parent[:, None]) & (parent[:, None] >= 0)
    e = np.flatnonzero(match.any(axis=1))
    of = slot[e, match[e].argmax(axis=1)]
    counts[e, of] = np.maximum(counts[e, of] - 1, 0)
    gone = counts[e, of] == 0
    first_row[e[gone], of[gone]] = -1


def _slots(key: Ints) -> tuple[Ints, int]:
    """Numbers the keys of each episode by order of appearance; −1 (no vote) becomes the last slot."""
    episodes, width = key.shape
    slot = np.full_like(key, -1)
    used = np.zeros(episodes, dtype=np.int64)
    for d in range(width):
        if d == 0:
            slot[:, 0] = np.where(key[:, 0] >= 0, 0, -1)
            used += key[:, 0] >= 0
            continue
        same = (key[:, :d] == key[:, d : d + 1]) & (key[:, d : d + 1] >= 0)
        known = same.any(axis=1)
        new = ~known & (key[:, d] >= 0)
        slot[known, d] = slot[known, same[known].argmax(axis=1)]
        slot[new, d] = used[new]
        used += new
    slots = int(used.max(initial=0))
    return np.where(slot < 0, slots, slot), slots
