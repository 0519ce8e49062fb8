"""What learned predictors see of a moment: one list of numbers, the same live and in replay.

Only what every candidate carries in both is used (counts, evidence, usage), never the text of a question or an answer,
which exports leave out. A missing observation has a value of its own, so nothing is NaN.
"""

from __future__ import annotations

import math

from tta_langgraph.decision.costs import CostModel, Scale
from tta_langgraph.decision.partition import PartitionModel
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.state import Candidate

FEATURES: tuple[str, ...] = (
    "candidates",  # proposed answers
    "voters",  # of those, with a vote
    "failed",  # without
    "failed_share",
    "groups",  # distinct answers
    "top_votes",
    "top_share",  # of all candidates
    "margin",  # votes of the best answer minus those of the best other one
    "vote_entropy",  # nats
    "agreement",  # posterior of the partition model under shipped priors
    "executed",  # of the best candidate: 1, 0, or -1 if nothing was run
    "empty",  # its result has no rows
    "log_rows",  # log(1 + rows)
    "empty_share",  # of the voters
    "round",  # corrections behind the best candidate
    "corrections",  # corrections in all
    "changed",  # corrections that changed the answer
    "confirmations",
    "escalated",  # answers of a larger model
    "best_escalated",
    "best_first",  # the best candidate is the very first one
    "error_schema",  # failures by kind
    "error_syntax",
    "error_other",
    "cut",  # replies cut at the token cap
    "log_completion",  # of the best candidate, log tokens
    "log_chars",  # of its answer, log characters
    "completion_ratio",  # over the mean of all
    "completion_spread",  # (max - min) / mean over all
    "logprob_mean",  # of the best candidate, nats; 0 where unknown
    "logprob_tail",
    "logprob_min",
    "first_entropy",
    "varentropy",
    "logprob_gap",  # best candidate's mean minus the mean of all
    "logprob_known",
    "verdict",  # mean score, 0.5 if unjudged
    "verdicts",
    "checks",  # share passed, 0.5 without any
    "log_prompt",  # log tokens of the prompt: the schema's size
    "log_question",  # log characters
    "tables",  # -1 if unknown
    "steps",  # decisions so far
    "tokens_left",  # in fresh calls, at most FAR
    "seconds_left",
)
"""Names of the features, in the order of `vector`."""

FAR = 20.0
"""Calls left above which a budget does not bind."""
_AGREEMENT = PartitionModel()
_COSTS = CostModel()


def features(snapshot: Snapshot) -> dict[str, float]:
    """The features of a moment by name."""
    return dict(zip(FEATURES, vector(snapshot), strict=True))


def vector(snapshot: Snapshot, best: Candidate | None = None, scale: Scale | None = None) -> list[float]:
    """The features of a moment in the order of `FEATURES`, shape (features,).

    Args:
        snapshot: the moment.
        best: the candidate that would be answered; by default the snapshot's choice, else the vote's.
        scale: the size of a fresh call, if it is known already.
    """
    tally = snapshot.tally
    candidates = snapshot.candidates
    best = best or snapshot.chosen or tally.best
    scale = scale or _COSTS.scale(snapshot)
    n = len(candidates)
    standing = len(tally.standing)
    votes, own, entropy = tally.pattern, 0, 0.0
    voters = sum(votes)
    for group in tally.groups:
        if best is not None and group.key == best.key:
            own = group.votes
        share = group.votes / voters
        if share < 1.0:
            entropy -= share * math.log(share)
    other = 0
    for v in votes:
        if v != own:
            other = max(other, v)
    if own and votes.count(own) > 1:
        other = max(other, own)
    failed = standing - voters
    beliefs = _AGREEMENT.posterior(tuple((v, 0.0) for v in reversed(votes)), failed) if votes else ()
    agreement = 0.0
    if own:
        agreement = next(b for v, b in zip(reversed(votes), beliefs, strict=True) if v == own)
    seen = _Seen()
    for candidate in candidates:
        seen.add(candidate)
    evidence = best.evidence if best is not None else None
    execution = evidence.execution if evidence is not None else None
    logprobs = evidence.logprobs if evidence is not None else None
    verdicts = evidence.verdicts if evidence is not None else ()
    checks = evidence.checks if evidence is not None else ()
    written = best.usage.completion_tokens if best is not None else 0
    mean_written = seen.written / n if n else 0.0
    context = snapshot.context
    question = context.get("question_chars") or float(len(snapshot.question))
    call = scale.prompt + scale.completion
    return [
        float(n),
        float(voters),
        float(failed),
        failed / standing if standing else 0.0,
        float(len(votes)),
        float(own),
        own / standing if standing else 0.0,
        float(own - other),
        entropy,
        agreement,
        -1.0 if execution is None else float(execution.ok),
        1.0 if execution is not None and execution.empty else 0.0,
        math.log1p(execution.n_rows) if execution is not None else 0.0,
        seen.empty / voters if voters else 0.0,
        float(best.round) if best is not None else 0.0,
        float(seen.corrections),
        float(seen.changed),
        float(evidence.confirmations) if evidence is not None else 0.0,
        float(seen.escalated),
        1.0 if best is not None and best.action == "escalate" else 0.0,
        1.0 if best is not None and best is candidates[0] else 0.0,
        float(seen.schema),
        float(seen.syntax),
        float(seen.errors),
        float(seen.cut),
        math.log1p(written),
        math.log1p(best.length) if best is not None else 0.0,
        written / mean_written if mean_written else 1.0,
        (seen.longest - seen.shortest) / mean_written if mean_written else 0.0,
        logprobs.mean if logprobs is not None else 0.0,
        logprobs.tail if logprobs is not None else 0.0,
        logprobs.minimum if logprobs is not None else 0.0,
        logprobs.first_entropy if logprobs is not None else 0.0,
        logprobs.varentropy if logprobs is not None else 0.0,
        logprobs.mean - seen.logprob / seen.rated if logprobs is not None else 0.0,
        1.0 if logprobs is not None else 0.0,
        sum(v.score for v in verdicts) / len(verdicts) if verdicts else 0.5,
        float(len(verdicts)),
        sum(c.passed for c in checks) / len(checks) if checks else 0.5,
        math.log1p(scale.prompt),
        math.log1p(question),
        context.get("n_tables", -1.0),
        float(snapshot.step),
        min(FAR, snapshot.tokens_left / call) if call > 0 else FAR,
        min(FAR, snapshot.seconds_left / scale.seconds) if scale.seconds > 0 else FAR,
    ]


class _Seen:
    """Sums over the candidates, in one pass."""

    __slots__ = (
        "by_id",
        "changed",
        "corrections",
        "cut",
        "empty",
        "errors",
        "escalated",
        "logprob",
        "longest",
        "rated",
        "schema",
        "shortest",
        "syntax",
        "written",
    )

    def __init__(self) -> None:
        self.by_id: dict[str, str | None] = {}
        self.changed = self.corrections = self.cut = self.empty = self.errors = self.escalated = 0
        self.schema = self.syntax = self.rated = 0
        self.logprob = 0.0
        self.longest = self.written = 0
        self.shortest = 1 << 30

    def add(self, candidate: Candidate) -> None:
        self.by_id[candidate.id] = candidate.key
        written = candidate.usage.completion_tokens
        self.written += written
        if written > self.longest:
            self.longest = written
        if written < self.shortest:
            self.shortest = written
        if candidate.action == "escalate":
            self.escalated += 1
        if candidate.parent is not None:
            self.corrections += 1
            if candidate.key is not None and candidate.key != self.by_id.get(candidate.parent):
                self.changed += 1
        if candidate.finish_reason == "length":
            self.cut += 1
        logprobs = candidate.evidence.logprobs
        if logprobs is not None:
            self.logprob += logprobs.mean
            self.rated += 1
        execution = candidate.evidence.execution
        if execution is None:
            return
        if execution.ok:
            self.empty += execution.empty
        elif execution.error_kind == "schema":
            self.schema += 1
        elif execution.error_kind == "syntax":
            self.syntax += 1
        else:
            self.errors += 1
