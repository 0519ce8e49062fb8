"""Rows about music: genres, labels, artists, albums, tracks."""

from __future__ import annotations

from collections.abc import Iterator

from tta_langgraph.demo.dice import Dice
from tta_langgraph.demo.people import Row
from tta_langgraph.demo.words import (
    ADJECTIVES,
    ALBUM_OPENINGS,
    ALBUM_PLACES,
    CITIES,
    FIRST_NAMES,
    GENRES,
    LABELS,
    LAST_NAMES,
    NOUNS,
    TRACK_OBJECTS,
    TRACK_OPENINGS,
)

ARTISTS = 420
ALBUMS = 1_500


def genres() -> Iterator[Row]:
    """Yields `genres`."""
    yield from enumerate(GENRES, 1)


def labels() -> Iterator[Row]:
    """Yields `labels`."""
    for label_id, (name, country) in enumerate(LABELS, 1):
        yield label_id, name, country


def artists(dice: Dice) -> Iterator[Row]:
    """Yields `artists`: bands and people, some entered twice with and without "The", some from nowhere."""
    bands = dice.shuffled([f"{adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS])
    people = dice.shuffled([f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES])
    previous = ""
    for artist_id in range(1, ARTISTS + 1):
        if previous and dice.chance(0.03):
            name = previous.removeprefix("The ") if previous.startswith("The ") else f"The {previous}"
            previous = ""
        elif dice.chance(0.65):
            name = bands.pop()
            name = f"The {name}" if dice.chance(0.45) else name
            previous = name
        else:
            name, previous = people.pop(), ""
        country = None if dice.chance(0.06) else dice.pick_early(list(CITIES))
        formed = None if dice.chance(0.08) else dice.between(1961, 2019)
        yield artist_id, name, country, formed


def albums(dice: Dice, artist_rows: list[Row]) -> Iterator[Row]:
    """Yields `albums`; self-released ones have no label, a few no year; about one artist in ten has none."""
    recording = [row for row in artist_rows if dice.chance(0.9)]
    for album_id in range(1, ALBUMS + 1):
        artist_id, _, _, formed = dice.pick_early(recording)
        title = f"{dice.pick(ALBUM_OPENINGS)} {dice.pick(ALBUM_PLACES)}"
        if dice.chance(0.5):
            title = f"{dice.pick(ADJECTIVES)} {dice.pick(ALBUM_OPENINGS)}"
        label = None if dice.chance(0.14) else 1 + dice.below(len(LABELS))
        first = formed if isinstance(formed, int) else 1985
        year = None if dice.chance(0.03) else dice.between(first, 2024)
        price = (699 + 100 * dice.below(22)) / 100
        yield album_id, title, artist_id, 1 + dice.below(len(GENRES)), label, year, price


def tracks(dice: Dice) -> Iterator[Row]:
    """Yields `tracks`, 6 to 14 an album; the length of a few is unknown."""
    track_id = 0
    for album_id in range(1, ALBUMS + 1):
        for position in range(1, dice.between(6, 14) + 1):
            track_id += 1
            title = f"{dice.pick(TRACK_OPENINGS)} {dice.pick(TRACK_OBJECTS)}"
            seconds = None if dice.chance(0.015) else 95 + dice.below(260) + dice.below(120)
            yield track_id, album_id, position, title, seconds
