"""Random choices that come out the same on every machine and every version of Python."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date, timedelta
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Draws from `random.random()` alone, the one method whose sequence Python promises to keep for a seed.

    Args:
        seed: of the sequence.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def below(self, limit: int) -> int:
        """Returns an integer from 0 to `limit` - 1, each as likely."""
        return int(self._random() * limit)

    def between(self, low: int, high: int) -> int:
        """Returns an integer from `low` to `high`, each as likely."""
        return low + self.below(high - low + 1)

    def chance(self, probability: float) -> bool:
        """Returns True with a probability."""
        return self._random() < probability

    def pick(self, items: Sequence[T]) -> T:
        """Returns one item, each as likely."""
        return items[self.below(len(items))]

    def pick_early(self, items: Sequence[T]) -> T:
        """Returns one item, the first ones up to four times as often as the average, as bestsellers are."""
        share = self._random()
        return items[int(share * (1 + 3 * share) / 4 * len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """Returns `count` different items in random order."""
        rest = list(items)
        return [rest.pop(self.below(len(rest))) for _ in range(count)]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Returns all items in random order."""
        return self.some(items, len(items))

    def day(self, first: date, last: date) -> date:
        """Returns a day from `first` to `last`, each as likely."""
        return first + timedelta(days=self.below((last - first).days + 1))
