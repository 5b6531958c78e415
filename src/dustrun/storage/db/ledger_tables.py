"""The money tables: wallets, policies, reservations, transactions and signatures.

Conventions as in `tables.py`; amounts are texts of decimal digits, because no integer type is wide enough.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text

from dustrun.storage.db.metadata import metadata, partial_index

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
        comment="the address if this wallet can sign, else null: one wallet per key in the whole store",
    ),
    Column("is_default", Integer, nullable=False, server_default="0"),
    Column("signer", Text, comment="name of the remote signer or environment variable"),
    Column("sealed", Text, comment="of a local wallet: keystore and password"),
    Column("created_by", Text, nullable=False, comment="id of the key"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("archived_at", BigInteger),
    Index("ix_wallets_org_id_id", "org_id", "id"),
    partial_index(
        "ix_wallets_default",
        "org_id",
        unique=True,
        where="is_default = 1",
    ),
)

wallet_policies = Table(
    "wallet_policies",
    metadata,
    Column("wallet_id", Text, ForeignKey("wallets.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Text, nullable=False, comment="JSON"),
    Column("is_looser", Integer, nullable=False, comment="1 if it allows something that the previous policy did not"),
    Column("effective_at", BigInteger, nullable=False),
    Column("cancelled_at", BigInteger, comment="when a newer version replaced it before it took effect"),
    Column("created_by", Text, nullable=False, comment="id of the key"),
    Column("created_at", BigInteger, nullable=False),
    comment="the policy in force is the highest version that is effective and not cancelled",
)

reservations = Table(
    "reservations",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("wallet_id", Text, nullable=False),
    Column("subject_id", Text, nullable=False, comment="the transaction or signature that it belongs to"),
    Column("measure", Text, nullable=False, comment="measure: an asset, usd, count, gas:eip155:1, gasUsd"),
    Column("units", Text, nullable=False, comment="digits; US dollars in units of 1e-18"),
    Column("state", Text, nullable=False, comment="open, settled, released"),
    Column("price", Text, comment="JSON of the price used"),
    Column("opened_at", BigInteger, nullable=False),
    Column("settled_at", BigInteger, comment="never before the time of an earlier position"),
    Column("position", BigInteger, comment="increases by one with each settled row of the wallet and measure"),
    Column("total", Text, comment="digits: running total of settled units up to this position"),
    Index("ix_reservations_subject_id_measure", "subject_id", "measure", unique=True),
    Index("ix_reservations_spent", "wallet_id", "measure", "state", "settled_at", "position"),
    comment="usage of a wallet's policy limits: one row per transaction and measure",
)

wallet_recipients = Table(
    "wallet_recipients",
    metadata,
    Column("wallet_id", Text, primary_key=True),
    Column("address", Text, primary_key=True, comment="lower case"),
    Column("first_seen_at", BigInteger, nullable=False, comment="when a policy named it, or first payment to it"),
)

spends = Table(
    "spends",
    metadata,
    Column("org_id", Text, primary_key=True),
    Column("root_run_id", Text, primary_key=True, comment="first run of the retry chain"),
    Column("path", Text, primary_key=True),
    Column(
        "generation", Integer, primary_key=True, comment="from 1; the next one only after the previous had no effect"
    ),
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), nullable=False),
    Column("transactions", Text, nullable=False, comment="JSON list: ids in the order of the intents"),
    Column("signatures", Text, nullable=False, comment="JSON list: ids in the order of the intents"),
    Column("notes", Text, nullable=False, comment="JSON: the action's notes, returned to it at the end"),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_spends_run_pk", "run_pk"),
    comment="all intents of a spend node as one unit",
)

transactions = Table(
    "transactions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("key", Text, nullable=False, comment="org/first run of the retry chain/path/item/generation"),
    Column("purpose", Text, nullable=False, comment="intent, or fill: fills a nonce gap and belongs to no run"),
    Column("run_pk", BigInteger, ForeignKey("runs.pk")),
    Column("run_id", Text),
    Column("root_run_id", Text),
    Column("workflow_id", Text),
    Column("path", Text),
    Column("item", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("mode", Text, nullable=False, comment="live, dust"),
    Column("wallet_id", Text, ForeignKey("wallets.id"), nullable=False),
    Column("key_id", Text, comment="the API key that started the run"),
    Column("chain_id", BigInteger, nullable=False),
    Column("sender", Text, nullable=False, comment="EIP-55 checksummed"),
    Column("nonce", BigInteger, comment="null until signed"),
    Column("intent", Text, nullable=False, comment="JSON: the unsigned intent"),
    Column(
        "state",
        Text,
        nullable=False,
        comment="planned, signed, sent, mined, final, reverted, cancelled, displaced, refused",
    ),
    Column("confirmations", Integer, nullable=False, comment="confirmations that make it final, including its block"),
    Column("gas_limit", BigInteger),
    Column("max_price", Text, comment="maximum fee per gas of any attempt"),
    Column("outlay", Text, comment="value plus the maximum network fee of the newest attempt"),
    Column("hash", Text, comment="of the mined attempt, else the newest"),
    Column("block_number", BigInteger),
    Column("block_hash", Text),
    Column("receipt", Text, comment="JSON"),
    Column("error", Text, comment="JSON: {code, message, retryable, details}"),
    Column("verdict", Text, comment="JSON: the policy's decision with its reasons"),
    Column("approval_id", Text),
    Column("refusal", Text, comment="last error of an endpoint that rejected it; null once one accepted it"),
    Column("planned_at", BigInteger, nullable=False),
    Column("signed_at", BigInteger),
    Column("mined_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_transactions_key", "key", unique=True),
    Index("ix_transactions_nonce", "chain_id", "sender", "nonce", unique=True),
    Index("ix_transactions_org_id_id", "org_id", "id"),
    Index("ix_transactions_chain", "org_id", "root_run_id", "path"),
    Index("ix_transactions_run_pk", "run_pk"),
    Index("ix_transactions_finished", "chain_id", "finished_at"),
    partial_index(
        "ix_transactions_open",
        "chain_id",
        "sender",
        "nonce",
        where="state IN ('signed', 'sent', 'mined')",
    ),
    partial_index(
        "ix_transactions_displaced",
        "chain_id",
        where="state = 'displaced'",
    ),
    comment="one nonce, including replacements",
)

transaction_attempts = Table(
    "transaction_attempts",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("transaction_id", Text, ForeignKey("transactions.id"), nullable=False),
    Column("number", Integer, nullable=False, comment="from 1"),
    Column("kind", Text, nullable=False, comment="send, replace, cancel"),
    Column("raw", Text, nullable=False, comment="signed bytes, stored before they are sent"),
    Column("gas_limit", BigInteger, nullable=False),
    Column("max_fee", Text, nullable=False),
    Column("tip", Text, nullable=False),
    Column("is_legacy", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("sent_at", BigInteger, comment="when an endpoint first accepted it"),
    Column("tried_at", BigInteger, comment="when it was last sent"),
    Column("reply", Text, comment="last reply of an endpoint"),
    Index("ix_transaction_attempts_transaction_id_number", "transaction_id", "number", unique=True),
)

signatures = Table(
    "signatures",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("key", Text, nullable=False, comment="org/first run of the retry chain/path/item/generation"),
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), nullable=False),
    Column("run_id", Text, nullable=False),
    Column("root_run_id", Text, nullable=False),
    Column("workflow_id", Text),
    Column("path", Text, nullable=False),
    Column("item", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("mode", Text, nullable=False, comment="live, dust"),
    Column("wallet_id", Text, ForeignKey("wallets.id"), nullable=False),
    Column("key_id", Text, nullable=False, comment="the API key that started the run"),
    Column("chain_id", BigInteger),
    Column("request", Text, nullable=False, comment="JSON: the intent"),
    Column("state", Text, nullable=False, comment="planned, signed, refused"),
    Column("sealed", Text, comment="the signature"),
    Column("mark", Text, nullable=False, comment="random; replaces the signature in stored run data"),
    Column("error", Text, comment="JSON: {code, message, retryable, details}"),
    Column("verdict", Text, comment="JSON: the policy's decision with its reasons"),
    Column("approval_id", Text),
    Column("planned_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Index("ix_signatures_key", "key", unique=True),
    Index("ix_signatures_org_id_id", "org_id", "id"),
    Index("ix_signatures_chain", "org_id", "root_run_id", "path"),
    Index("ix_signatures_run_pk", "run_pk"),
    Index("ix_signatures_mark", "mark", unique=True),
)

processes = Table(
    "processes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("roles", Text, nullable=False, comment="comma-separated: api, engine, triggers"),
    Column("version", Text, nullable=False, comment="of Dustrun"),
    Column("started_at", BigInteger, nullable=False),
    Column("alive_until", BigInteger, nullable=False, comment="by the database's clock; later, others take over"),
    Column("name", Text, comment="host and process id, for people"),
    Column("skew_ms", BigInteger, comment="of its clock, ahead of the database's"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True, comment="what only one process does at a time"),
    Column("holder", Text, nullable=False, comment="id of the process"),
    Column("fence", BigInteger, nullable=False, comment="rises with each new holder"),
)
