"""Boosted trees as plain numbers: read from JSON, no scikit-learn, no pickle, microseconds per moment.

Trees have at most eight leaves, so that the leaves that a moment can still reach are one byte per tree. For every
feature the thresholds of all trees are sorted; one bisection finds which conditions are false, and one prepared mask
takes away the leaves that they rule out. The leftmost leaf left is the exit.

Source: Lucchese et al. 2015, *QuickScorer: a fast algorithm to rank documents with additive ensembles of regression
trees* (doi 10.1145/2766462.2767733).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tta_langgraph.errors import PolicyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAVES = 8
"""The most leaves a tree may have."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree. Node i goes left if `x[feature[i]] <= threshold[i]`; children >= 0 are nodes, -1 - k is leaf k."""

    feature: tuple[int, ...]
    """Index of the feature per node, shape (nodes,)."""
    threshold: tuple[float, ...]
    """Shape (nodes,)."""
    left: tuple[int, ...]
    """Shape (nodes,)."""
    right: tuple[int, ...]
    """Shape (nodes,)."""
    value: tuple[float, ...]
    """Leaves from left to right, shape (leaves,)."""

    def check(self, width: int) -> None:
        """Refuses what is not a tree over `width` features.

        Raises:
            PolicyError: a reference to nothing, a wrong number of leaves, or a value that is not finite.
        """
        nodes = len(self.feature)
        sound = (
            len(self.threshold) == len(self.left) == len(self.right) == nodes
            and len(self.value) == nodes + 1 <= LEAVES
            and all(0 <= f < width for f in self.feature)
            and all(map(math.isfinite, (*self.threshold, *self.value)))
            and sorted((*self.left, *self.right)) == sorted((*range(1, nodes), *range(-nodes - 1, 0)))[: 2 * nodes]
            and all(child < 0 or child > i for i in range(nodes) for child in (self.left[i], self.right[i]))
        )
        if not sound or (nodes and self.leaves(0) != list(range(nodes + 1))):
            raise PolicyError("a tree that cannot be walked", where="forest", remedy="Fit the policy again")

    def leaves(self, node: int) -> list[int]:
        """Leaves below a child reference, from left to right."""
        if node < 0:
            return [-1 - node]
        return self.leaves(self.left[node]) + self.leaves(self.right[node])


@dataclass(frozen=True)
class Forest:
    """A sum of trees and a constant."""

    base: float
    """The constant."""
    trees: tuple[Tree, ...]
    """At most eight leaves each."""
    width: int
    """Number of features."""

    def __post_init__(self) -> None:
        for tree in self.trees:
            tree.check(self.width)

    def __call__(self, x: Sequence[float]) -> float:
        """The sum for one moment, x of shape (features,)."""
        reach = self._full
        for index, thresholds, masks in self._columns:
            i = bisect_left(thresholds, x[index])
            if i:
                reach &= masks[i]
        total = self.base
        for values, byte in zip(self._values, reach.to_bytes(len(self._values), "little"), strict=True):
            total += values[_LOWEST[byte]]
        return total

    def batch(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums of many moments.

        Args:
            x: shape (moments, features).

        Returns:
            Shape (moments,).
        """
        import numpy as np

        moments, trees = len(x), len(self.trees)
        if not trees or not moments:
            return np.full(moments, self.base)
        low, flat = np.frombuffer(_LOWEST, dtype=np.uint8).astype(np.intp), self._table
        found = np.empty(moments)
        chunk = max(1, 4_000_000 // trees)
        for start in range(0, moments, chunk):
            part = x[start : start + chunk]
            reach = np.full((len(part), trees), 0xFF, dtype=np.uint8)
            for index, thresholds, masks in self._arrays:
                reach &= masks[np.searchsorted(thresholds, part[:, index], side="left")]
            values = np.empty((len(part), trees + 1))
            values[:, 0] = self.base
            values[:, 1:] = flat[np.arange(trees) * LEAVES + low[reach]]
            # One after another, as for a single moment: NumPy's own sum goes in pairs and ends in other digits.
            found[start : start + chunk] = values.cumsum(axis=1)[:, -1]
        return found

    @cached_property
    def _values(self) -> list[tuple[float, ...]]:
        return [tree.value + (0.0,) * (LEAVES - len(tree.value)) for tree in self.trees]

    @cached_property
    def _full(self) -> int:
        return int.from_bytes(b"\xff" * len(self.trees), "little")

    @cached_property
    def _columns(self) -> list[tuple[int, list[float], list[int]]]:
        """Per feature in use: sorted thresholds, and the mask after each number of false conditions."""
        conditions: dict[int, list[tuple[float, int]]] = {}
        for t, tree in enumerate(self.trees):
            for i, feature in enumerate(tree.feature):
                gone = sum(1 << leaf for leaf in tree.leaves(tree.left[i]))
                conditions.setdefault(feature, []).append((tree.threshold[i], self._full & ~(gone << (8 * t))))
        columns = []
        for feature, found in sorted(conditions.items()):
            found.sort(key=lambda pair: pair[0])
            masks = [self._full]
            for _, mask in found:
                masks.append(masks[-1] & mask)
            columns.append((feature, [threshold for threshold, _ in found], masks))
        return columns

    @cached_property
    def _arrays(self) -> list[tuple[int, NDArray[np.float64], NDArray[np.uint8]]]:
        import numpy as np

        trees = len(self.trees)
        return [
            (
                feature,
                np.asarray(thresholds),
                np.frombuffer(b"".join(m.to_bytes(trees, "little") for m in masks), dtype=np.uint8).reshape(-1, trees),
            )
            for feature, thresholds, masks in self._columns
        ]

    @cached_property
    def _table(self) -> NDArray[np.float64]:
        import numpy as np

        return np.asarray(self._values).reshape(-1)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "base": self.base,
            "width": self.width,
            "trees": [
                [list(t.feature), list(t.threshold), list(t.left), list(t.right), list(t.value)] for t in self.trees
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Forest:
        """Reads `to_dict`'s output.

        Raises:
            PolicyError: a tree that cannot be walked.
        """
        trees = tuple(
            Tree(
                tuple(map(int, feature)),
                tuple(map(float, threshold)),
                tuple(map(int, left)),
                tuple(map(int, right)),
                tuple(map(float, value)),
            )
            for feature, threshold, left, right, value in data["trees"]
        )
        return cls(float(data["base"]), trees, int(data["width"]))


_LOWEST = bytes([0, *((byte & -byte).bit_length() - 1 for byte in range(1, 256))])
"""Index of the lowest set bit of each byte."""
