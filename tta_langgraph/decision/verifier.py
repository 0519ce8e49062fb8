"""What an imperfect verifier is worth: "it executed" and "the judge said yes" are weak evidence.

Source: *Inference Scaling fLaws: The Limits of LLM Resampling with Imperfect Verifiers* (arXiv 2411.17501).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from tta_langgraph.errors import PolicyError


@dataclass(frozen=True, slots=True)
class Verifier:
    """A test that right and wrong answers pass at different rates.

    Raises:
        PolicyError: a rate outside [0, 1].
    """

    r: float
    """P(passes | right), the true-positive rate."""
    f: float
    """P(passes | wrong), the false-positive rate."""

    def __post_init__(self) -> None:
        for name in ("r", "f"):
            rate = getattr(self, name)
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
                raise PolicyError(f"a rate must be in [0, 1], got {rate!r}", where=f"Verifier.{name}")

    def precision(self, p: float) -> float:
        """P(right | passes) = p·r / (p·r + (1−p)·f); more samples do not raise it.

        Args:
            p: P(right) before the test. Where nothing can pass, the answer is 0.
        """
        passed = self.pass_rate(p)
        return p * self.r / passed if passed > 0 else 0.0

    def pass_rate(self, p: float) -> float:
        """P(passes) of an answer that is right with probability `p`."""
        return p * self.r + (1 - p) * self.f

    def log_ratio(self, score: float) -> float:
        """log P(score | right) − log P(score | wrong) in nats, for a pass (1), a failure (0) or a share of passes."""
        return _log_ratio(self.r, self.f, min(1.0, max(0.0, score)))

    def accuracy(self, p: float, attempts: int) -> float:
        """P(a right answer is given) when sampling until one passes, at most `attempts` times, none given otherwise.

        (1 − (1 − s)^k) · precision, where s is the pass rate.
        """
        return (1 - (1 - self.pass_rate(p)) ** attempts) * self.precision(p)

    def best_attempts(self, p: float, *, wrong: float, value: float = 1.0, cost: float = 0.0, most: int = 1000) -> int:
        """The number of attempts with the highest expected reward, often below 10, and 0 where trying does not pay.

        Reward of k attempts: value for a right answer given, −wrong for a wrong one, −cost for each attempt made. Each
        attempt that is reached brings the same expected reward, so for one question of known p it is all or nothing;
        mixtures of questions (`best_attempts_mixed`) have the interior optimum of the paper.
        """
        return best_attempts_mixed([(1.0, p)], self, wrong=wrong, value=value, cost=cost, most=most)


def best_attempts_mixed(
    mixture: list[tuple[float, float]],
    verifier: Verifier,
    *,
    wrong: float,
    value: float = 1.0,
    cost: float = 0.0,
    most: int = 1000,
) -> int:
    """The best number of attempts over questions of mixed difficulty.

    Later attempts are reached mostly on hard questions, where passing means less; so the marginal reward falls and the
    best number is finite even if attempts are free.

    Args:
        mixture: pairs of (share of questions, P(a sample is right)).
        verifier: its rates.
        wrong: cost of giving a wrong answer.
        value: value of giving a right one.
        cost: cost of an attempt.
        most: the largest number considered.
    """
    total, best, best_k = 0.0, 0.0, 0
    reached = [share for share, _ in mixture]
    for k in range(1, most + 1):
        gain = 0.0
        for i, (_, p) in enumerate(mixture):
            gain += reached[i] * (value * p * verifier.r - wrong * (1 - p) * verifier.f - cost)
            reached[i] *= 1 - verifier.pass_rate(p)
        total += gain
        if total > best + 1e-15:
            best, best_k = total, k
    return best_k


@lru_cache(maxsize=4096)
def _log_ratio(r: float, f: float, score: float) -> float:
    right = score * r + (1 - score) * (1 - r)
    wrong = score * f + (1 - score) * (1 - f)
    floor = 1e-3
    return math.log(max(right, floor) / max(wrong, floor))
