"""Names from which the demonstration database is put together."""

from __future__ import annotations

import json
from importlib.resources import files

CITIES = {
    "Portugal": ("Lisbon", "Porto", "Braga"),
    "Germany": ("Berlin", "Hamburg", "Leipzig", "Cologne"),
    "France": ("Paris", "Lyon", "Nantes"),
    "Spain": ("Madrid", "Valencia", "Bilbao"),
    "Italy": ("Milan", "Turin", "Bologna"),
    "Netherlands": ("Utrecht", "Rotterdam"),
    "Ireland": ("Dublin", "Cork"),
    "Sweden": ("Malmö", "Uppsala"),
    "Poland": ("Kraków", "Gdańsk"),
    "Canada": ("Toronto", "Montreal"),
    "Japan": ("Osaka", "Sapporo"),
    "Brazil": ("Recife", "Curitiba"),
}
"""Cities by country."""

STORES = (
    ("Groove Lane Lisbon", "Lisbon", "Portugal", 2009),
    ("Groove Lane Berlin", "Berlin", "Germany", 2011),
    ("Groove Lane Hamburg", "Hamburg", "Germany", 2014),
    ("Groove Lane Paris", "Paris", "France", 2012),
    ("Groove Lane Madrid", "Madrid", "Spain", 2015),
    ("Groove Lane Milan", "Milan", "Italy", 2017),
    ("Groove Lane Utrecht", "Utrecht", "Netherlands", 2018),
    ("Groove Lane Dublin", "Dublin", "Ireland", 2020),
)
"""Name, city, country and year of opening of every store."""

GENRES = (
    "Rock",
    "Jazz",
    "Pop",
    "Electronic",
    "Classical",
    "Folk",
    "Hip Hop",
    "Soul",
    "Metal",
    "Blues",
    "Ambient",
    "Reggae",
)

LABELS = (
    ("Amber Wax", "Germany"),
    ("Blue Pier", "United Kingdom"),
    ("Cassiopeia", "Sweden"),
    ("Dry Dock", "Ireland"),
    ("Estrela Sounds", "Portugal"),
    ("Fathom", "Canada"),
    ("Glasshouse", "Germany"),
    ("Harbour Tapes", "Netherlands"),
    ("Iron Orchard", "United Kingdom"),
    ("Junction 9", "United Kingdom"),
    ("Kiosk", "France"),
    ("Lantern Row", "Ireland"),
    ("Meridian", "Italy"),
    ("Night Ferry", "Sweden"),
    ("Olive Press", "Spain"),
    ("Paper Moon", "United Kingdom"),
    ("Quarry", "Canada"),
    ("Rio Verde", "Portugal"),
    ("Salt & Signal", "France"),
    ("Tramline", "Germany"),
)
"""Name and country of every label."""

TITLES = ("Sales Assistant", "Sales Assistant", "Sales Assistant", "Buyer", "Cashier")
"""Job titles below the store manager, as often as they occur."""

_LISTS: dict[str, list[str]] = json.loads(files(__package__).joinpath("words.json").read_text("utf-8"))

FIRST_NAMES = tuple(_LISTS["first_names"])
"""First names of customers, staff and artists."""
LAST_NAMES = tuple(_LISTS["last_names"])
"""Their last names."""
ADJECTIVES = tuple(_LISTS["adjectives"])
"""First halves of band names."""
NOUNS = tuple(_LISTS["nouns"])
"""Second halves of band names."""
ALBUM_OPENINGS = tuple(_LISTS["album_openings"])
"""First halves of album titles."""
ALBUM_PLACES = tuple(_LISTS["album_places"])
"""Second halves of album titles."""
TRACK_OPENINGS = tuple(_LISTS["track_openings"])
"""First halves of track titles."""
TRACK_OBJECTS = tuple(_LISTS["track_objects"])
"""Second halves of track titles."""
PLAYLISTS = tuple(_LISTS["playlists"])
"""Names of playlists."""
REVIEW_BODIES = tuple(_LISTS["review_bodies"])
"""Texts of reviews."""
