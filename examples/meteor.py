"""METEOR with exact and stem matches, for the translation example: no corpus to download.

Source: Banerjee and Lavie 2005, "METEOR: An Automatic Metric for MT Evaluation with Improved Correlation with
Human Judgments". The synonym stage, which needs WordNet, is left out, so scores are slightly lower than the
full metric's. Stems come from Snowball (`pip install snowballstemmer`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import snowballstemmer

_WORD = re.compile(r"\w+")


def meteor(hypothesis: str, reference: str, *, language: str = "english") -> float:
    """The score of a translation against one reference, in [0, 1].

    F = 10PR / (R + 9P) over matched words, times 1 − ½·(chunks / matches)³: the fewer runs of adjacent
    matches, the less order was lost.

    Args:
        hypothesis: the translation.
        reference: a good one.
        language: of both; Snowball's name.
    """
    said, wanted = _words(hypothesis), _words(reference)
    pairs = _aligned(said, wanted, snowballstemmer.stemmer(language).stemWord)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(said), len(pairs) / len(wanted)
    mean = 10 * precision * recall / (recall + 9 * precision)
    return mean * (1 - 0.5 * (_chunks(pairs) / len(pairs)) ** 3)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _aligned(said: Sequence[str], wanted: Sequence[str], stem: Callable[[str], str]) -> list[tuple[int, int]]:
    """One-to-one matches by position: exact words first, then stems; a match that continues a run is
    preferred."""
    found: dict[int, int] = {}
    for form in (lambda word: word, stem):
        open_at: dict[str, list[int]] = {}
        for position, word in enumerate(wanted):
            if position not in found.values():
                open_at.setdefault(form(word), []).append(position)
        for position, word in enumerate(said):
            places = open_at.get(form(word))
            if position in found or not places:
                continue
            next_in_run = found.get(position - 1, -2) + 1
            # Of the places left, the one that goes on where the last match ended, else the nearest.
            place = min(places, key=lambda p: (p != next_in_run, abs(p - position)))
            places.remove(place)
            found[position] = place
    return sorted(found.items())


def _chunks(pairs: Sequence[tuple[int, int]]) -> int:
    """Runs of matches that are adjacent in both sentences."""
    return 1 + sum(later != (earlier[0] + 1, earlier[1] + 1) for earlier, later in pairwise(pairs))
