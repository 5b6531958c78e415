"""The tables of the money: wallets, their policies, what they have spent. As in `tables.py`; amounts are texts of decimal digits, since no
integer of either dialect is wide enough."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text, text

from dustrun.storage.tables import metadata

wallets = Table(
    "wallets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("kind", Text, nullable=False, comment="local, remote, env, watch"),
    Column("address", Text, nullable=False, comment="EIP-55 checksummed"),
    Column(
        "held_address",
        Text,
        unique=True,
        comment="the address while this wallet can sign, else null: one key has one writer in the whole store",
    ),
    Column("is_default", Integer, nullable=False, server_default="0"),
    Column("signer", Text, comment="name of the remote signer or of the environment variable"),
    Column("sealed", Text, comment="of a local wallet: keystore and its password"),
    Column("created_by", Text, nullable=False, comment="id of the key"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("archived_at", BigInteger),
    Index("ix_wallets_org_id_id", "org_id", "id"),
    Index(
        "ix_wallets_default",
        "org_id",
        unique=True,
        sqlite_where=text("is_default = 1"),
        postgresql_where=text("is_default = 1"),
    ),
)

wallet_policies = Table(
    "wallet_policies",
    metadata,
    Column("wallet_id", Text, ForeignKey("wallets.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Text, nullable=False, comment="JSON"),
    Column("is_looser", Integer, nullable=False, comment="1: it allows something that the one in force before did not"),
    Column("effective_at", BigInteger, nullable=False),
    Column("cancelled_at", BigInteger, comment="when another version took its place before it came into force"),
    Column("created_by", Text, nullable=False, comment="id of the key"),
    Column("created_at", BigInteger, nullable=False),
    comment="in force is the highest version that is effective and not cancelled",
)

reservations = Table(
    "reservations",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("wallet_id", Text, nullable=False),
    Column("subject_id", Text, nullable=False, comment="the transaction or signature that it belongs to"),
    Column("measure", Text, nullable=False, comment="what is counted: an asset, usd, count, gas:eip155:1, gasUsd"),
    Column("units", Text, nullable=False, comment="digits; US dollars in units of 1e-18"),
    Column("state", Text, nullable=False, comment="open, settled, released"),
    Column("price", Text, comment="JSON of the price at that time"),
    Column("opened_at", BigInteger, nullable=False),
    Column("settled_at", BigInteger, comment="never before that of an earlier position"),
    Column("position", BigInteger, comment="rises by one with each settled one of the wallet and measure"),
    Column("total", Text, comment="digits: units of all settled ones up to this position"),
    Index("ix_reservations_subject_id_measure", "subject_id", "measure", unique=True),
    Index("ix_reservations_spent", "wallet_id", "measure", "state", "settled_at", "position"),
    comment="what counts against the limits of a wallet's policy: one row a transaction and measure",
)

wallet_recipients = Table(
    "wallet_recipients",
    metadata,
    Column("wallet_id", Text, primary_key=True),
    Column("address", Text, primary_key=True, comment="lower case"),
    Column("first_seen_at", BigInteger, nullable=False, comment="named by a policy, or first asked for"),
)
