"""The tables of the demonstration database: a music shop with eight stores and a web shop."""

from __future__ import annotations

SCHEMA = """
CREATE TABLE stores (
  store_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  city TEXT NOT NULL,
  country TEXT NOT NULL,
  opened_year INTEGER NOT NULL
);
CREATE TABLE employees (
  employee_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  title TEXT NOT NULL,
  salary INTEGER,
  store_id INTEGER NOT NULL REFERENCES stores (store_id),
  manager_id INTEGER REFERENCES employees (employee_id)
);
CREATE TABLE customers (
  customer_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  email TEXT,
  city TEXT,
  country TEXT NOT NULL,
  joined TEXT NOT NULL
);
CREATE TABLE genres (
  genre_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL
);
CREATE TABLE labels (
  label_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  country TEXT NOT NULL
);
CREATE TABLE artists (
  artist_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  country TEXT,
  formed_year INTEGER
);
CREATE TABLE albums (
  album_id INTEGER PRIMARY KEY,
  title TEXT NOT NULL,
  artist_id INTEGER NOT NULL REFERENCES artists (artist_id),
  genre_id INTEGER NOT NULL REFERENCES genres (genre_id),
  label_id INTEGER REFERENCES labels (label_id),
  release_year INTEGER,
  price REAL NOT NULL
);
CREATE TABLE tracks (
  track_id INTEGER PRIMARY KEY,
  album_id INTEGER NOT NULL REFERENCES albums (album_id),
  position INTEGER NOT NULL,
  title TEXT NOT NULL,
  seconds INTEGER
);
CREATE TABLE stock (
  store_id INTEGER NOT NULL REFERENCES stores (store_id),
  album_id INTEGER NOT NULL REFERENCES albums (album_id),
  quantity INTEGER NOT NULL,
  PRIMARY KEY (store_id, album_id)
);
CREATE TABLE orders (
  order_id INTEGER PRIMARY KEY,
  customer_id INTEGER NOT NULL REFERENCES customers (customer_id),
  store_id INTEGER REFERENCES stores (store_id),
  employee_id INTEGER REFERENCES employees (employee_id),
  ordered_on TEXT NOT NULL,
  status TEXT NOT NULL
);
CREATE TABLE order_items (
  order_id INTEGER NOT NULL REFERENCES orders (order_id),
  album_id INTEGER NOT NULL REFERENCES albums (album_id),
  quantity INTEGER NOT NULL,
  unit_price REAL NOT NULL,
  PRIMARY KEY (order_id, album_id)
);
CREATE TABLE payments (
  payment_id INTEGER PRIMARY KEY,
  order_id INTEGER NOT NULL REFERENCES orders (order_id),
  method TEXT NOT NULL,
  amount REAL NOT NULL,
  paid_on TEXT
);
CREATE TABLE reviews (
  review_id INTEGER PRIMARY KEY,
  album_id INTEGER NOT NULL REFERENCES albums (album_id),
  customer_id INTEGER NOT NULL REFERENCES customers (customer_id),
  rating INTEGER,
  body TEXT,
  written_on TEXT NOT NULL
);
CREATE TABLE playlists (
  playlist_id INTEGER PRIMARY KEY,
  customer_id INTEGER NOT NULL REFERENCES customers (customer_id),
  name TEXT NOT NULL
);
CREATE TABLE playlist_tracks (
  playlist_id INTEGER NOT NULL REFERENCES playlists (playlist_id),
  track_id INTEGER NOT NULL REFERENCES tracks (track_id),
  PRIMARY KEY (playlist_id, track_id)
);
CREATE INDEX albums_by_artist ON albums (artist_id);
CREATE INDEX tracks_by_album ON tracks (album_id);
CREATE INDEX orders_by_customer ON orders (customer_id);
CREATE INDEX order_items_by_album ON order_items (album_id);
CREATE INDEX payments_by_order ON payments (order_id);
CREATE INDEX reviews_by_album ON reviews (album_id);
"""
"""DDL, in an order that satisfies the foreign keys. Orders of the web shop have no store and no employee."""
