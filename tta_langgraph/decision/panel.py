"""A panel of answerers: who agrees with whom, how good each of them is, and what asking one more would tell.

Every attempt comes from a source (the greedy answer, a sample, a larger model). A question belongs to one of a few
hidden classes, from easy to hopeless; given its class, each source is right with its own probability, fails with its
own, and otherwise gives a wrong answer, which repeats an earlier wrong one as in a Chinese restaurant process. The
posterior over "this answer is right", "none of them is" and the class follows from Bayes' rule. Asking a source is
worth what it is expected to add to the best answer's posterior, now and with the best plan after it: the value of
information.

Sources: Dawid & Skene 1979 (answerers of different skill); Howard 1966 (value of information); Aldous 1985 (process).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.costs import CostModel
from tta_langgraph.decision.forecasts import Ahead, Assessment, Forecast
from tta_langgraph.decision.predictor import register
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.decision.tally import Group
from tta_langgraph.decision.utility import Utility
from tta_langgraph.errors import PolicyError
from tta_langgraph.state import Candidate

State = tuple[tuple[tuple[tuple[int, ...], int], ...], tuple[int, ...]]
"""Answers as (sources that gave it, evidence bucket), sorted, and the sources that failed, sorted."""
Plan = tuple[float, float, float, float]
"""Value, P(correct), tokens and seconds at the end of the best plan."""


@register("panel")
@dataclass(frozen=True, kw_only=True)
class Panel:
    """Forecasts fresh samples and further models by the value of information.

    Single samples and models are forecast with the best plan after them, several samples at once by their own gain.
    Actions it has no model for (`reflect`, …) are forecast to change nothing: wrap it in `Transitions` for those.
    Built by `fit_panel`. With `Policy.selection="predictor"` it answers with the most probable answer, not the most
    frequent one.
    """

    sources: tuple[str, ...]
    """Names of the sources: `generate`, `resample`, `escalate:model`."""
    weights: tuple[float, ...]
    """Share of questions per class, shape (classes,)."""
    skill: tuple[tuple[float, ...], ...]
    """P(right) per source and class."""
    failing: tuple[tuple[float, ...], ...]
    """P(no answer, or an error | not right) per source and class."""
    spread: tuple[float, ...]
    """How readily wrong answers differ, per class."""
    scores: tuple[float, ...] = (0.0,)
    """Bias and weights of an answer's own evidence (see `evidence`)."""
    edges: tuple[float, ...] = ()
    """Scores between evidence buckets, ascending."""
    log_right: tuple[float, ...] = (0.0,)
    """log P(bucket | right), per bucket."""
    log_wrong: tuple[float, ...] = (0.0,)
    """log P(bucket | wrong), per bucket."""
    usual_length: float = 0.0
    """Median of log(1 + characters) of the answers it was fitted on."""
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Mean tokens and seconds per source."""
    first_tokens: float = 1.0
    """Mean tokens of a first answer: sets the scale of a question's costs."""
    costs: CostModel = field(default_factory=CostModel)
    """For what must fit in the budget."""
    depth: int = 4
    """Steps that plans look ahead."""

    @property
    def name(self) -> str:
        """`panel`."""
        return "panel"

    def assess(self, snapshot: Snapshot, actions: Sequence[Action]) -> Assessment:
        """Forecasts all actions."""
        groups = snapshot.tally.groups
        state, place = self._state(snapshot, groups)
        beliefs = self._beliefs(state)
        best, p_now, at = snapshot.chosen or snapshot.tally.fallback, 0.0, -1
        for i, group in enumerate(groups):
            p = beliefs[place[i]]
            chosen = snapshot.chosen
            if (chosen is None and p > p_now + 1e-12) or (chosen is not None and group.key == chosen.key):
                best, p_now, at = group.best, p, i
        if best is not None and at < 0:
            p_now = NOBODY
        scale = self.costs.scale(snapshot)
        ratio = _ratio(snapshot, self.first_tokens)
        rates = snapshot.utility or Utility()
        price = (rates.per_token * ratio / rates.value, rates.per_second * ratio / rates.value)
        forecasts: dict[Action, Forecast] = {}
        sources = [self._source(action) for action in actions]
        sizes: dict[int, list[int]] = {}
        for action, source in zip(actions, sources, strict=True):
            if source is not None and self._open(state, source):
                sizes.setdefault(source, []).append(action.n)
        for action, source in zip(actions, sources, strict=True):
            tokens, seconds = self.costs.of(action, scale)
            if source is None:  # no model of it: forecast to change nothing; see `Transitions`
                forecasts[action] = Forecast(action, p_now, tokens, seconds, self.name)
                continue
            if source not in sizes:  # a model is asked once
                continue
            lift = p_now - max(beliefs, default=0.0)  # a rule that does not take the most probable answer lags behind
            p_next = self._expected(state, source, sizes[source])[action.n]
            if action.n > 1:
                p = min(1.0, max(0.0, p_next + lift))
                forecasts[action] = Forecast(action, p, tokens, seconds, self.name)
                continue
            # Late in an episode one more answer changes little: shorter plans find the same.
            depth = max(1, self.depth - len(snapshot.candidates) // 4)
            _, p_end, t_end, s_end = self._after(state, source, depth, price)
            forecasts[action] = Forecast(
                action,
                min(1.0, max(0.0, p_next + lift)),
                tokens,
                seconds,
                self.name,
                ahead=Ahead(min(1.0, max(0.0, p_end + lift)), t_end * ratio, s_end * ratio),
            )
        features = {"answers": float(len(groups)), "failed": float(len(state[1])), "hopeless": 1.0 - sum(beliefs)}
        if at >= 0:
            features["votes"] = float(groups[at].votes)
        return Assessment(p_now, forecasts, self.name, features, best.id if best is not None else None)

    def truth(self, snapshot: Snapshot, right: AbstractSet[str]) -> float:
        """What it believed of what turned out to be true: the right answer, or that there is none."""
        groups = snapshot.tally.groups
        state, place = self._state(snapshot, groups)
        joint = self._joint(state)
        for i, group in enumerate(groups):
            if group.best.id in right:
                return sum(joint[place[i]])
        return sum(joint[-1])

    def _state(self, snapshot: Snapshot, groups: Sequence[Group]) -> tuple[State, list[int]]:
        """The state, and where each group of the tally stands in it."""
        voting: set[str] = set()
        made = []
        for i, group in enumerate(groups):
            members = tuple(sorted(self._index(c) for c in group.members))
            voting.update(c.id for c in group.members)
            made.append((members, self._bucket(group.members[0], snapshot), i))
        made.sort()
        place = [0] * len(made)
        for position, (_, _, i) in enumerate(made):
            place[i] = position
        failed = tuple(sorted(self._index(c) for c in snapshot.tally.standing if c.id not in voting))
        return (tuple((members, bucket) for members, bucket, _ in made), failed), place

    def _index(self, candidate: Candidate) -> int:
        found = self._positions.get(source_of(candidate))
        return found if found is not None else self._positions.get("resample", 0)

    def _source(self, action: Action) -> int | None:
        if action.kind == "resample":
            return self._positions.get("resample")
        if action.name == "escalate" and self._escalations:
            return self._escalations[0]
        return self._positions.get(action.name)

    def _open(self, state: State, source: int) -> bool:
        """A model is asked once; samples can be drawn again."""
        if self.sources[source] == "resample":
            return True
        return source not in state[1] and all(source not in members for members, _ in state[0])

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.sources)}

    @cached_property
    def _escalations(self) -> list[int]:
        return [i for i, name in enumerate(self.sources) if name.startswith("escalate")]

    @cached_property
    def _asked(self) -> list[int]:
        return [i for i, name in enumerate(self.sources) if name != "generate" and name in self.prices]

    @cached_property
    def _logs(self) -> list[tuple[list[float], list[float], list[float]]]:
        """Per source: log P(right), log P(a wrong answer), log P(failure), by class."""
        return [
            ([math.log(a) for a in skill], [math.log((1 - a) * (1 - f)) for a, f in zip(skill, fails, strict=True)],
             [math.log((1 - a) * f) for a, f in zip(skill, fails, strict=True)])
            for skill, fails in zip(self.skill, self.failing, strict=True)
        ]  # fmt: skip

    @cached_property
    def _log_weights(self) -> list[float]:
        return [math.log(weight) for weight in self.weights]

    @cached_property
    def _sayings(self) -> dict[tuple[tuple[int, ...], int], tuple[list[float], list[float]]]:
        return {}

    def _said(self, members: tuple[int, ...], bucket: int) -> tuple[list[float], list[float]]:
        """log P(these sources give one answer with this evidence) if it is right, and if it is wrong, by class.

        The second holds the answer's own part of the Chinese restaurant process: a new table, and who joined it.
        """
        known = self._sayings.get((members, bucket))
        if known is None:
            logs = self._logs
            r, w = (self.log_right[bucket], self.log_wrong[bucket]) if bucket >= 0 else (0.0, 0.0)
            table = w + math.lgamma(len(members))
            known = (
                [r + sum(logs[m][0][z] for m in members) for z in range(len(self.weights))],
                [table + math.log(s) + sum(logs[m][1][z] for m in members) for z, s in enumerate(self.spread)],
            )
            _remember(self._sayings, (members, bucket), known)
        return known

    @cached_property
    def _seatings(self) -> dict[int, list[float]]:
        return {}

    def _tables(self, seated: int) -> list[float]:
        """The common part of the Chinese restaurant process for so many wrong answers, by class."""
        known = self._seatings.get(seated)
        if known is None:
            known = self._seatings[seated] = [math.lgamma(s + seated) - math.lgamma(s) for s in self.spread]
        return known

    @cached_property
    def _memo(self) -> tuple[dict[Any, Any], dict[Any, Any], dict[Any, Any]]:
        return {}, {}, {}

    def _bucket(self, candidate: Candidate, snapshot: Snapshot) -> int:
        if not self.edges:
            return 0
        score = self.scores[0]
        seen = evidence(candidate, snapshot.context, self.usual_length)
        for weight, value in zip(self.scores[1:], seen, strict=True):
            score += weight * value
        return bisect_right(self.edges, score)

    def _joint(self, state: State) -> list[list[float]]:
        """P(hypothesis, class): one row per answer being right, the last for none of them."""
        known = self._memo[0].get(state)
        if known is not None:
            return known  # type: ignore[no-any-return]
        groups, failed = state
        logs = self._logs
        base = self._log_weights
        for source in failed:
            base = [b + f for b, f in zip(base, logs[source][2], strict=True)]
        said = [self._said(members, bucket) for members, bucket in groups]
        seated = sum(len(members) for members, _ in groups)
        for _, wrong in said:
            base = [b + w for b, w in zip(base, wrong, strict=True)]
        rows = []
        for (members, _), (right, wrong) in zip(groups, said, strict=True):  # this one is right, all others are wrong
            tables = self._tables(seated - len(members))
            rows.append([b + r - w - t for b, r, w, t in zip(base, right, wrong, tables, strict=True)])
        rows.append([b - t for b, t in zip(base, self._tables(seated), strict=True)])
        top = max(max(row) for row in rows)
        rows = [[math.exp(v - top) for v in row] for row in rows]
        whole = sum(sum(row) for row in rows)
        found = [[v / whole for v in row] for row in rows]
        _remember(self._memo[0], state, found)
        return found

    def _beliefs(self, state: State) -> list[float]:
        """P(right) per answer of the state."""
        return [sum(row) for row in self._joint(state)[:-1]]

    def _outcomes(self, state: State, source: int) -> list[tuple[float, State]]:
        """Chances of what a source may say next, and the states that follow."""
        key = (state, source)
        known = self._memo[1].get(key)
        if known is not None:
            return known  # type: ignore[no-any-return]
        groups, failed = state
        joint = self._joint(state)
        n = len(groups)
        joins, new, fails = [0.0] * n, 0.0, 0.0
        sizes = [len(members) for members, _ in groups]
        heads = sum(sizes)
        skill, failing, spread = self.skill[source], self.failing[source], self.spread
        seats = [0.0] * (n + 1)  # P(the answer repeats a certain wrong one) per hypothesis
        for h, row in enumerate(joint):
            others = heads - (sizes[h] if h < n else 0)
            agrees = seat = 0.0
            for p, a, f, s in zip(row, skill, failing, spread, strict=True):
                agrees += p * a
                wrong = p * (1 - a)
                fails += wrong * f
                each = wrong * (1 - f) / (s + others)
                new += each * s
                seat += each
            if h < n:
                joins[h] += agrees
            else:
                new += agrees
            seats[h] = seat
        anywhere = sum(seats)
        for j, size in enumerate(sizes):
            joins[j] += size * (anywhere - seats[j])
        found = []
        for j, chance in enumerate(joins):
            if chance > LEAST:
                members, bucket = groups[j]
                grown = (tuple(sorted((*members, source))), bucket)
                found.append((chance, (tuple(sorted((*groups[:j], grown, *groups[j + 1 :]))), failed)))
        if new > LEAST:
            found.append((new, (tuple(sorted((*groups, ((source,), -1)))), failed)))
        if fails > LEAST:
            found.append((fails, (groups, tuple(sorted((*failed, source))))))
        whole = sum(chance for chance, _ in found)
        found = [(chance / whole, after) for chance, after in found]
        _remember(self._memo[1], key, found)
        return found

    def _expected(self, state: State, source: int, sizes: Sequence[int]) -> dict[int, float]:
        """Expected posterior of the best answer after asking a source so many times at once, by how many times."""
        memo = self._memo[1]
        found = {n: memo.get((state, source, n)) for n in sizes}
        if None in found.values():
            reached = {state: 1.0}
            for n in range(1, max(sizes) + 1):  # eight samples are four, and four more
                after: dict[State, float] = {}
                for here, chance in reached.items():
                    for p, there in self._outcomes(here, source):
                        if chance * p > LEAST / 10:
                            after[there] = after.get(there, 0.0) + chance * p
                reached = after
                if n in found:
                    whole = sum(reached.values())
                    best = sum(p * max(self._beliefs(s), default=0.0) for s, p in reached.items()) / whole
                    found[n] = best
                    _remember(memo, (state, source, n), best)
        return found  # type: ignore[return-value]  # none is missing now

    def _after(self, state: State, source: int, depth: int, price: tuple[float, float]) -> Plan:
        """The best plan that starts with asking a source."""
        tokens, seconds = self.prices[self.sources[source]]
        value, p_end = -price[0] * tokens - price[1] * seconds, 0.0
        for chance, after in self._outcomes(state, source):
            v, p, t, s = self._plan(after, depth - 1, price)
            value += chance * v
            p_end += chance * p
            tokens += chance * t
            seconds += chance * s
        return value, p_end, tokens, seconds

    def _plan(self, state: State, depth: int, price: tuple[float, float]) -> Plan:
        """The best of stopping and of every plan of at most `depth` steps."""
        key = (state, depth, price)
        known = self._memo[2].get(key)
        if known is not None:
            return known  # type: ignore[no-any-return]
        p_now = max(self._beliefs(state), default=0.0)
        best: Plan = (p_now, p_now, 0.0, 0.0)
        if depth > 0:
            for source in self._asked:
                tokens, seconds = self.prices[self.sources[source]]
                dearest = price[0] * tokens + price[1] * seconds
                if dearest < 1.0 - p_now and self._open(state, source):  # dearer than certainty is worth: never
                    found = self._after(state, source, depth, price)
                    if found[0] > best[0]:
                        best = found
        _remember(self._memo[2], key, best)
        return best

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        plain = {name: value for name, value in asdict(self).items() if name != "costs"}
        plain["prices"] = {name: list(pair) for name, pair in self.prices.items()}
        return {**plain, "costs": self.costs.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Panel:
        """Reads `to_dict`'s output.

        Raises:
            PolicyError: shapes that do not fit together.
        """
        flat = {name: tuple(map(float, data[name])) for name in _FLAT}
        nested = {name: tuple(tuple(map(float, row)) for row in data[name]) for name in ("skill", "failing")}
        sources, classes = tuple(map(str, data["sources"])), len(flat["weights"])
        sound = all(len(rows) == len(sources) and all(len(r) == classes for r in rows) for rows in nested.values())
        buckets = len(flat["edges"]) + 1
        if (
            not sound
            or len(flat["spread"]) != classes
            or any(len(flat[n]) != buckets for n in ("log_right", "log_wrong"))
        ):
            raise PolicyError("a panel whose parts do not fit together", where="panel", remedy="Fit the policy again")
        prices = {str(name): (float(pair[0]), float(pair[1])) for name, pair in data["prices"].items()}
        return cls(
            sources=sources,
            prices=prices,
            first_tokens=float(data["first_tokens"]),
            costs=CostModel.from_dict(data["costs"]),
            depth=int(data["depth"]),
            usual_length=float(data["usual_length"]),
            weights=flat["weights"],
            spread=flat["spread"],
            scores=flat["scores"],
            edges=flat["edges"],
            log_right=flat["log_right"],
            log_wrong=flat["log_wrong"],
            skill=nested["skill"],
            failing=nested["failing"],
        )


def source_of(candidate: Candidate) -> str:
    """The source of a candidate: its action, with the model's name for an escalation."""
    return f"escalate:{candidate.model}" if candidate.action == "escalate" else candidate.action


def source_name(action: Action) -> str:
    """The source that an action asks."""
    return action.kind if action.kind == "resample" else action.name


def evidence(candidate: Candidate, context: Mapping[str, float], usual_length: float) -> tuple[float, ...]:
    """What an answer says of itself: log-probabilities, result, length and shape, and the question's size."""
    found = candidate.evidence
    stats, ran = found.logprobs, found.execution
    length = math.log1p(candidate.length)
    return (
        stats.mean if stats is not None else 0.0,
        stats.tail if stats is not None else 0.0,
        stats.first_entropy if stats is not None else 0.0,
        1.0 if ran is not None and ran.empty else 0.0,
        math.log1p(ran.n_rows) if ran is not None else 0.0,
        math.log1p(candidate.usage.completion_tokens),
        length,
        abs(length - usual_length),  # longer or shorter than answers usually are: something was dropped or added
        math.log1p(context.get("question_chars", 0.0)),
        math.log1p(context.get("n_tables", 0.0)),
    )


def _remember(memo: dict[Any, Any], key: Any, value: Any) -> None:
    """Keeps what was worked out; a process that runs for months must not keep it all."""
    if len(memo) > MEMO:
        memo.clear()
    memo[key] = value


def _ratio(snapshot: Snapshot, mean: float) -> float:
    """How much dearer this question is than others, in steps of √2, so that plans are shared."""
    first = snapshot.candidates[0].usage.tokens if snapshot.candidates else 0
    if first <= 0 or mean <= 0:
        return 1.0
    return float(2 ** (round(2 * math.log2(first / mean)) / 2))


_FLAT = ("weights", "spread", "scores", "edges", "log_right", "log_wrong")
NOBODY = 0.01
"""P(correct) of an answer without a vote."""
LEAST = 0.004
"""Chances below this are not followed."""
MEMO = 400_000
"""States, outcomes and plans remembered, each."""
