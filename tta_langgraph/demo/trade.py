"""Rows about trade: stock, orders, their items, payments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from tta_langgraph.demo.dice import Dice
from tta_langgraph.demo.people import CUSTOMERS, LAST_DAY, Row
from tta_langgraph.demo.words import STORES

ORDERS = 12_000
FIRST_ORDER = date(2019, 1, 1)
METHODS = ("card", "card", "card", "paypal", "paypal", "cash", "voucher")
"""Ways to pay, as often as they occur."""


@dataclass
class Trade:
    """Everything sold: three tables whose rows depend on each other."""

    orders: list[Row] = field(default_factory=list)
    """Rows of `orders`."""
    items: list[Row] = field(default_factory=list)
    """Rows of `order_items`."""
    payments: list[Row] = field(default_factory=list)
    """Rows of `payments`."""


def stock(dice: Dice, album_rows: Sequence[Row]) -> Iterator[Row]:
    """Yields `stock`: each store keeps about half of the albums, some of them sold out (0)."""
    for store_id in range(1, len(STORES) + 1):
        for album in album_rows:
            if dice.chance(0.45):
                yield store_id, album[0], 0 if dice.chance(0.1) else dice.between(1, 25)


def trade(dice: Dice, album_rows: Sequence[Row], employee_rows: Sequence[Row]) -> Trade:
    """Returns six years of orders.

    About 45% are web orders, without store and employee; some shop orders have lost their employee. One
    customer in six and one album in twelve never occur. Cancelled and pending orders are not paid; returned
    ones are paid back by a payment of a negative amount; a few payments have no day.
    """
    buyers = dice.shuffled(range(1, CUSTOMERS + 1))[: CUSTOMERS * 5 // 6]
    sold = [album for album in dice.shuffled(album_rows) if dice.chance(11 / 12)]
    staff = {
        store_id: [row[0] for row in employee_rows if row[4] == store_id and row[2] != "Managing Director"]
        for store_id in range(1, len(STORES) + 1)
    }
    result = Trade()
    for order_id in range(1, ORDERS + 1):
        day = dice.day(FIRST_ORDER, LAST_DAY)
        store_id = None if dice.chance(0.45) else dice.between(1, _stores_open(day))
        employee_id = None if store_id is None or dice.chance(0.04) else dice.pick(staff[store_id])
        status = _status(dice)
        result.orders.append((order_id, dice.pick_early(buyers), store_id, employee_id, day.isoformat(), status))
        cents = _add_items(dice, result, order_id, sold)
        if status in ("shipped", "returned"):
            _add_payments(dice, result, order_id, cents, day, returned=status == "returned")
    return result


def _stores_open(day: date) -> int:
    return sum(opened <= day.year for _, _, _, opened in STORES)


def _status(dice: Dice) -> str:
    roll = dice.below(100)
    return "shipped" if roll < 84 else "returned" if roll < 90 else "cancelled" if roll < 96 else "pending"


def _add_items(dice: Dice, result: Trade, order_id: int, sold: Sequence[Row]) -> int:
    """Adds one to five albums at their price or a fifth less; returns the total in cents."""
    total = 0
    chosen: dict[object, Row] = {}
    for _ in range(dice.between(1, 3) + (dice.between(0, 2) if dice.chance(0.3) else 0)):
        album = dice.pick_early(sold)
        chosen[album[0]] = album
    for album_id, album in chosen.items():
        price = album[6]
        assert isinstance(price, float)
        cents = round(price * 100)
        if dice.chance(0.12):
            cents = cents * 4 // 5
        quantity = 1 if dice.chance(0.85) else dice.between(2, 4)
        total += cents * quantity
        result.items.append((order_id, album_id, quantity, cents / 100))
    return total


def _add_payments(dice: Dice, result: Trade, order_id: int, cents: int, day: date, *, returned: bool) -> None:
    method = dice.pick(METHODS)
    parts = [cents // 2, cents - cents // 2] if dice.chance(0.03) else [cents]
    if returned:
        parts.append(-cents)
    for number, part in enumerate(parts):
        paid_on = None if dice.chance(0.01) else (day + timedelta(days=5 * number + dice.below(4))).isoformat()
        result.payments.append((len(result.payments) + 1, order_id, method, part / 100, paid_on))
