"""Rows about taste: reviews, playlists and their tracks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import cast

from tta_langgraph.demo.dice import Dice
from tta_langgraph.demo.people import CUSTOMERS, LAST_DAY, Row
from tta_langgraph.demo.trade import FIRST_ORDER, Trade
from tta_langgraph.demo.words import PLAYLISTS, REVIEW_BODIES

REVIEWS = 5_200
PLAYLIST_COUNT = 1_100


def reviews(dice: Dice, album_rows: Sequence[Row], sales: Trade) -> Iterator[Row]:
    """Yields `reviews`, six in ten by a buyer of the album; most have no text, a few no rating."""
    for review_id in range(1, REVIEWS + 1):
        rating = None if dice.chance(0.04) else 5 - dice.below(5) * dice.below(5) // 4
        body = " ".join(dice.some(REVIEW_BODIES, 2)) if dice.chance(0.4) else None
        day = dice.day(FIRST_ORDER, LAST_DAY).isoformat()
        album_id, customer_id = dice.pick_early(album_rows)[0], 1 + dice.below(CUSTOMERS)
        if dice.chance(0.6):
            item = dice.pick(sales.items)
            album_id, order = item[1], sales.orders[cast(int, item[0]) - 1]
            customer_id, day = cast(int, order[1]), min(_weeks_later(dice, order[4]), LAST_DAY.isoformat())
        yield review_id, album_id, customer_id, rating, body, day


def _weeks_later(dice: Dice, day: object) -> str:
    return (date.fromisoformat(cast(str, day)) + timedelta(days=3 + dice.below(60))).isoformat()


def playlists(dice: Dice) -> Iterator[Row]:
    """Yields `playlists`, some owners with several, some lists empty."""
    fans = dice.some(range(1, CUSTOMERS + 1), 800)
    for playlist_id in range(1, PLAYLIST_COUNT + 1):
        yield playlist_id, dice.pick(fans), dice.pick(PLAYLISTS)


def playlist_tracks(dice: Dice, tracks: int) -> Iterator[Row]:
    """Yields `playlist_tracks`: up to 30 different tracks a list.

    Args:
        dice: the random source.
        tracks: how many tracks there are.
    """
    for playlist_id in range(1, PLAYLIST_COUNT + 1):
        size = 0 if dice.chance(0.05) else dice.between(4, 30)
        for track_id in sorted({1 + dice.below(tracks) for _ in range(size)}):
            yield playlist_id, track_id
