"""The tables of a trace store. Bodies are JSON documents; columns are what one filters and counts by."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

meta = sa.Table(
    "tta_meta",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.String(255), nullable=False),
)

manifests = sa.Table(
    "tta_manifests",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)

traces = sa.Table(
    "tta_traces",
    metadata,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("question_id", sa.String(255), nullable=False),
    sa.Column("db_id", sa.String(255), nullable=False, index=True),
    sa.Column("strategy", sa.String(255), nullable=False, index=True),
    sa.Column("manifest_id", sa.String(64), nullable=False),
    sa.Column("correct", sa.Boolean),
    sa.Column("tokens", sa.BigInteger, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("usd", sa.Double, nullable=False),
    sa.Column("started", sa.Double, nullable=False, index=True),
    sa.Column("stop_reason", sa.String(255), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)

pools = sa.Table(
    "tta_pools",
    metadata,
    sa.Column("recording", sa.String(255), primary_key=True),
    sa.Column("question_id", sa.String(255), primary_key=True),
    sa.Column("db_id", sa.String(255), nullable=False, index=True),
    sa.Column("split", sa.String(64), nullable=False),
    sa.Column("manifest_id", sa.String(64), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("tokens", sa.BigInteger, nullable=False),
    sa.Column("started", sa.Double, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
