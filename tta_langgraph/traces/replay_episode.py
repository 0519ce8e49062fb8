"""One replayed episode: it sees what a live one would see, and pays what was recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from tta_langgraph.budget import Budget
from tta_langgraph.decision import Action, Snapshot
from tta_langgraph.decision.second_looks import best_form, seen_of
from tta_langgraph.evidence import Evidence, Verdict
from tta_langgraph.state import Candidate, Decision
from tta_langgraph.traces.replay_columns import Block, Columns


class Hand:
    """The recorded attempts of one question, ready to be played: candidates, costs, and who corrects whom.

    Built once per question and shared by all its episodes; candidates are made when they first come up. Positions
    count within the question's attempts.
    """

    __slots__ = ("_block", "_made", "children", "context", "judge", "start")

    def __init__(self, block: Block, start: int, stop: int, context: Mapping[str, float]) -> None:
        self._block = block
        self._made: dict[int, Candidate] = {}
        self.start = start
        self.context = context
        self.children: dict[int, list[tuple[str, str, int]]] = {}
        self.judge: dict[int, tuple[float, int, float]] = {}
        value, shift = block.value, start - block.start
        for position in range(stop - start):
            i = shift + position
            if value["parent"][i] >= 0 and value["action"][i] == "reflect":
                told = (value["feedback"][i], value["form"][i], position)
                self.children.setdefault(value["parent"][i] - start, []).append(told)
            score = value["verdict"][i]
            if score == score:  # not NaN
                tokens = value["judge_prompt"][i] + value["judge_completion"][i]
                self.judge[position] = (score, tokens, value["judge_seconds"][i])

    @classmethod
    def of(cls, table: Columns, question: int) -> Hand:
        """The hand of one question, on its own."""
        start, stop = int(table.offsets[question]), int(table.offsets[question + 1])
        return cls(table.block(question, question + 1), start, stop, table.features[question])

    def candidate(self, position: int) -> Candidate:
        """The candidate a live episode would hold."""
        made = self._made.get(position)
        if made is None:
            made = self._made[position] = self._block.candidate(self.start + position)
        return made

    def opener(self, position: int) -> Candidate:
        """The same of an attempt in an episode's first request, which finds the cache as the recording's first did."""
        made, i, value = self.candidate(position), self.start + position - self._block.start, self._block.value
        tokens, seconds = value["spared_tokens"][i], value["spared_seconds"][i]
        if not tokens and not seconds:
            return made
        used = replace(
            made.usage,
            prompt_tokens=made.usage.prompt_tokens + value["repaid_tokens"][i],
            cached_tokens=max(0, made.usage.cached_tokens - tokens),
            seconds=made.usage.seconds + seconds,
        )
        return replace(made, usage=used)

    def cost(self, position: int, *, opens: bool = False) -> tuple[int, int, float]:
        """Prompt tokens, completion tokens and seconds (execution included) of an attempt.

        Args:
            position: of the attempt.
            opens: it is made in the first request of an episode.
        """
        i, value = self.start + position - self._block.start, self._block.value
        prompt, seconds = value["prompt_tokens"][i], value["seconds"][i] + value["execution_seconds"][i]
        if opens:
            prompt += value["repaid_tokens"][i]
            seconds += value["spared_seconds"][i]
        return prompt, value["completion_tokens"][i], seconds

    def greedy(self, position: int) -> bool:
        """Whether an attempt is a greedy first answer rather than a sample."""
        made: str = self._block.value["action"][self.start + position - self._block.start]
        return made == "generate"

    def model(self, position: int) -> str:
        """The model that made an attempt."""
        name: str = self._block.value["model"][self.start + position - self._block.start]
        return name

    def correct(self, position: int) -> bool:
        """Whether an attempt is right: for the score only, never shown to a policy."""
        return bool(self._block.value["correct"][self.start + position - self._block.start])


class Episode:
    """The state of one episode in replay. Positions count within the question's recorded attempts."""

    __slots__ = (
        "calls", "candidates", "decisions", "hand", "ladder", "next_sample", "positions", "revealed",
        "samples", "seconds", "sharing", "spent", "step", "used",
    )  # fmt: skip

    def __init__(
        self,
        hand: Hand,
        first: int,
        samples: list[int],
        ladder: list[int],
        opening: int = 1,
        budget: Budget | None = None,
        sharing: float = 0.0,
    ) -> None:
        self.hand = hand
        self.sharing = sharing
        self.samples = samples
        self.ladder = ladder
        self.positions: dict[str, int] = {}
        self.revealed: set[int] = set()
        self.candidates: tuple[Candidate, ...] = ()
        self.spent = 0.0
        self.seconds = 0.0
        self.calls = 0
        self.step = 0
        self.used: dict[str, int] = {}
        self.decisions: list[Decision] = []
        opened = self._opened(first, opening, budget)
        self.next_sample = sum(position != first for position in opened)
        self._add(opened)

    def _opened(self, first: int, opening: int, budget: Budget | None) -> list[int]:
        """What the first request gave: the first answer, or several samples, as many as the budget has room for.

        One request has one temperature, so none of several is the greedy answer.
        """
        pool = self.samples if self.hand.greedy(first) else [first, *self.samples]
        n = min(opening, len(pool))
        while n > 1 and budget is not None and not _fits(*self._cost_of(pool[:n], opens=True), budget):
            n -= 1
        return pool[:n] if n > 1 else [first]

    def _add(self, positions: list[int]) -> None:
        """Reveals attempts made together: one prompt, all that was written, the slowest's seconds."""
        hand, opens = self.hand, not self.calls
        found = tuple(hand.opener(p) if opens else hand.candidate(p) for p in positions)
        for candidate, position in zip(found, positions, strict=True):
            self.positions[candidate.id] = position
        self.revealed.update(positions)
        self.candidates = (*self.candidates, *found)
        tokens, seconds = self._cost_of(positions, opens=opens)
        self.spent += tokens
        self.seconds += seconds
        self.calls += 1

    def _cost_of(self, positions: list[int], *, opens: bool) -> tuple[int, float]:
        """Tokens and seconds of attempts made in one request: one prompt, all that was written, the slowest.

        `sharing` is what each token beyond the longest answer's adds in seconds, on an engine that batches poorly.
        """
        costs = [self.hand.cost(p, opens=opens) for p in positions]
        written = sum(cost[1] for cost in costs)
        seconds = max(cost[2] for cost in costs)
        if self.sharing and len(costs) > 1:
            seconds += self.sharing * (written - max(cost[1] for cost in costs))
        return max(cost[0] for cost in costs) + written, seconds

    @property
    def seen(self) -> tuple[object, ...]:
        """What the episode has met so far: equal values are equal moments, and hold equal futures to choose from."""
        left = len(self.samples) - self.next_sample
        return (id(self.hand), *self.positions, self.spent, self.seconds, self.step, self.calls, left)

    def snapshot(self, budget: Budget | None) -> Snapshot:
        """What the policy sees now."""
        tokens_left = seconds_left = math.inf
        if budget is not None:
            if budget.tokens is not None:
                tokens_left = max(0.0, budget.tokens - budget.reserve.tokens - self.spent)
            if budget.seconds is not None:
                seconds_left = max(0.0, budget.seconds - budget.reserve.seconds - self.seconds)
        return Snapshot.quick(
            candidates=self.candidates,
            budget=budget,
            tokens_left=tokens_left,
            seconds_left=seconds_left,
            spent_tokens=self.spent,
            spent_seconds=self.seconds,
            step=self.step,
            used=self.used,
            context=self.hand.context,
        )

    def can(self, action: Action, best: str | None) -> bool:
        """Whether the recording knows what this action would have given here."""
        kind = action.kind
        if kind == "resample":
            return self.next_sample + action.n <= len(self.samples)
        if kind == "reflect":
            return self._child(action.detail, best) is not None
        if kind == "judge":
            position = self.positions.get(best or "")
            return position in self.hand.judge and not self._candidate(best).evidence.verdicts
        if kind == "escalate":
            return self._rung(action.detail) is not None
        return False

    def play(self, action: Action, best: str | None) -> None:
        """Takes an action that `can` be taken: pays for it and reveals what it gave."""
        self.step += 1
        self.used = {**self.used, action.name: self.used.get(action.name, 0) + 1}
        if action.kind == "resample":
            drawn = self.samples[self.next_sample : self.next_sample + action.n]
            self.next_sample += action.n
            self._add(drawn)
        elif action.kind == "reflect":
            child = self._child(action.detail, best)
            assert child is not None
            self._add([child])
        elif action.kind == "escalate":
            rung = self._rung(action.detail)
            assert rung is not None
            self._add([rung])
        else:
            assert best is not None
            score, tokens, seconds = self.hand.judge[self.positions[best]]
            verdict = Verdict(score=score, label="SUCCESS" if score >= 0.5 else "CONTINUE")
            self.candidates = tuple(
                replace(c, evidence=c.evidence.merged(Evidence(verdicts=(verdict,)))) if c.id == best else c
                for c in self.candidates
            )
            self.spent += tokens
            self.seconds += seconds
            self.calls += 1

    def _candidate(self, identity: str | None) -> Candidate:
        return next(c for c in self.candidates if c.id == identity)

    def _child(self, detail: str, best: str | None) -> int | None:
        """The recorded correction of the best candidate: by feedback, by form, or by `feedback.form`.

        Where no form is asked for it is the one that a live graph takes, if the recording says which it was.
        """
        position = self.positions.get(best or "")
        if position is None:
            return None
        for feedback, form, child in self.hand.children.get(position, ()):
            if child in self.revealed:
                continue
            if form and detail in (form, f"{feedback}.{form}"):
                return child
            if detail in ("", feedback) and form in ("", self._form(position, feedback)):
                return child
        return None

    def _form(self, position: int, feedback: str) -> str:
        return best_form(self.hand.model(position), feedback, seen=seen_of(self.hand.candidate(position)))

    def _rung(self, model: str) -> int | None:
        """The next model of the ladder that was not asked yet, or the one named."""
        for rung in self.ladder:
            if rung not in self.revealed and (not model or self.hand.model(rung) == model):
                return rung
        return None


def _fits(tokens: float, seconds: float, budget: Budget) -> bool:
    """Whether a cost stays within the limits, after the reserve."""
    held = budget.reserve
    return (budget.tokens is None or tokens <= budget.tokens - held.tokens) and (
        budget.seconds is None or seconds <= budget.seconds - held.seconds
    )
