"""Rows about people and places: stores, employees, customers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from tta_langgraph.demo.dice import Dice
from tta_langgraph.demo.words import CITIES, FIRST_NAMES, LAST_NAMES, STORES, TITLES

CUSTOMERS = 3_000
STAFF_PER_STORE = 7
WEB_SHOP_OPENED = date(2016, 1, 1)
LAST_DAY = date(2024, 12, 31)

Row = tuple[object, ...]


def stores() -> Iterator[Row]:
    """Yields `stores`."""
    for store_id, (name, city, country, opened) in enumerate(STORES, 1):
        yield store_id, name, city, country, opened


def employees(dice: Dice) -> Iterator[Row]:
    """Yields `employees`: a managing director, under her a manager per store, under them the staff.

    A few salaries are unknown.
    """
    yield 1, _full_name(dice), "Managing Director", 98_000, 1, None
    employee_id = 1
    for store_id in range(1, len(STORES) + 1):
        employee_id += 1
        manager_id = employee_id
        yield employee_id, _full_name(dice), "Store Manager", 52_000 + 250 * dice.below(40), store_id, 1
        for _ in range(STAFF_PER_STORE - 1 + dice.below(3)):
            employee_id += 1
            salary = None if dice.chance(0.1) else 24_000 + 125 * dice.below(96)
            yield employee_id, _full_name(dice), dice.pick(TITLES), salary, store_id, manager_id


def customers(dice: Dice) -> Iterator[Row]:
    """Yields `customers`, with the dirt of a shop that has merged two systems.

    One in eight has the old system's date format (DD/MM/YYYY), one in eleven no email, one in thirty a
    trailing space after the city, one in sixty no city, and one in fifty is registered twice with her name
    spelled a little otherwise.
    """
    countries = list(CITIES)
    previous: tuple[str, str | None, str, str] | None = None
    for customer_id in range(1, CUSTOMERS + 1):
        joined = dice.day(WEB_SHOP_OPENED, LAST_DAY)
        if previous is not None and dice.chance(0.02):
            name, email, city, country = previous
            name = dice.pick((name.upper(), name.replace(" ", "  "), name + " "))
        else:
            name = _full_name(dice)
            country = dice.pick_early(countries)
            city = dice.pick_early(CITIES[country])
            email = f"{name.lower().replace(' ', '.')}{customer_id}@example.com"
        previous = (name.strip(), email, city, country)
        text = joined.strftime("%d/%m/%Y") if dice.chance(0.125) else joined.isoformat()
        shown_email = None if dice.chance(0.09) else email
        shown_city = None if dice.chance(0.017) else city + " " if dice.chance(0.033) else city
        yield customer_id, name, shown_email, shown_city, country, text


def _full_name(dice: Dice) -> str:
    return f"{dice.pick(FIRST_NAMES)} {dice.pick(LAST_NAMES)}"
