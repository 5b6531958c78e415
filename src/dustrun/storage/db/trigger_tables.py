"""The tables of triggers: what is subscribed to, every event that came of it, and what was not scanned.

Conventions as in `tables.py`.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text

from dustrun.storage.db.metadata import ROW_ID, metadata, partial_index

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("pk", ROW_ID, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("workflow_id", Text, ForeignKey("workflows.id"), nullable=False),
    Column("version", Integer, nullable=False, comment="the version that its events run"),
    Column("node_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("config", Text, nullable=False, comment="JSON: the node's payload"),
    Column("state", Text, nullable=False, comment="armed, paused, ended, failed"),
    Column("state_reason", Text),
    Column("mode", Text, nullable=False, comment="live, simulate, dust: how its events run"),
    Column("cursor", Text, comment="JSON: how far it has come; null: from armed_at on"),
    Column("cursor_version", BigInteger, nullable=False, server_default="0", comment="rises with each move"),
    Column("next_at", BigInteger, comment="when it is due; null: not by time"),
    Column("principal", Text, nullable=False, comment="JSON: the key in whose name it runs, as it was when published"),
    Column("failures", Integer, nullable=False, server_default="0", comment="failed attempts to watch, in a row"),
    Column("armed_at", BigInteger, nullable=False),
    Column("last_event_at", BigInteger, comment="when an event of it last started a run"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("last_error", Text, comment="why the newest attempt to watch failed; null since one went well"),
    Column("stalled_since", BigInteger, comment="when it began to stand still; null while it goes on"),
    Index("ix_subscriptions_workflow_id_node_id_type", "workflow_id", "node_id", "type", unique=True),
    partial_index("ix_subscriptions_armed", "type", "pk", where="state = 'armed'"),
    partial_index("ix_subscriptions_tables", "org_id", where="type = 'table-row' AND state <> 'ended'"),
    partial_index("ix_subscriptions_failed", "pk", where="state = 'failed'"),
    partial_index("ix_subscriptions_stalled", "org_id", where="stalled_since IS NOT NULL"),
)

trigger_events = Table(
    "trigger_events",
    metadata,
    Column("pk", ROW_ID, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("org_id", Text, nullable=False),
    Column("workflow_id", Text, nullable=False),
    Column("subscription_pk", BigInteger, ForeignKey("subscriptions.pk"), nullable=False),
    Column("node_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("key", Text, nullable=False, comment="its identity within the subscription"),
    Column("mode", Text, nullable=False, comment="live, simulate, dust"),
    Column("outcome", Text, nullable=False, comment="started, skipped, failed, orphaned"),
    Column("reason", Text, comment="a word: cooldown, exhausted, paused …; null if it started a run"),
    Column("message", Text, comment="the reason as a sentence"),
    Column("run_id", Text),
    Column("payload", Text, nullable=False, comment="JSON"),
    Column("request", Text, comment="JSON: {method, headers, query}, secrets masked"),
    Column("replay_of", Text, comment="the event that it repeats"),
    Column("occurred_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Index("ix_trigger_events_subscription_pk_key", "subscription_pk", "key", unique=True),
    Index("ix_trigger_events_org_id_pk", "org_id", "pk"),
    Index("ix_trigger_events_workflow_id_pk", "workflow_id", "pk"),
)

trigger_gaps = Table(
    "trigger_gaps",
    metadata,
    Column("pk", ROW_ID, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("org_id", Text, nullable=False),
    Column("workflow_id", Text, nullable=False),
    Column("subscription_pk", BigInteger, ForeignKey("subscriptions.pk"), nullable=False),
    Column("range", Text, nullable=False, comment="JSON: {fromBlock, toBlock} or {from, to}"),
    Column("reason", Text, nullable=False),
    Column("state", Text, nullable=False, comment="open, replaying, replayed"),
    Column("created_at", BigInteger, nullable=False),
    Column("replayed_at", BigInteger),
    Index("ix_trigger_gaps_workflow_id_pk", "workflow_id", "pk"),
)

watched_chains = Table(
    "watched_chains",
    metadata,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False),
    Column("genesis", Text, nullable=False, comment="hash of block 0: another one is another chain"),
)

chain_progress = Table(
    "chain_progress",
    metadata,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False, comment="JSON: {head, targets, behind, error}, as its watcher sees it"),
    Column("seen_at", BigInteger, nullable=False),
)

chain_headers = Table(
    "chain_headers",
    metadata,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("parent", Text, nullable=False),
    Column("is_canonical", Integer, nullable=False, comment="0: a reorg removed it"),
    Index("ix_chain_headers_chain_id_number", "chain_id", "number"),
)

chain_events = Table(
    "chain_events",
    metadata,
    Column("subscription_pk", BigInteger, ForeignKey("subscriptions.pk"), primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", Text, nullable=False),
    Column("is_live", Integer, nullable=False, comment="0: a reorg removed its block"),
    Column("retractions", Integer, nullable=False, comment="runs that told of its removal"),
    Column("was", Text, comment="JSON: the event's outcome, reason and message before it was removed"),
    Column("subject", Text, comment="the transaction that it is part of; null in rows of older versions"),
    Column("seen", Text, comment="its position in the transaction now; null: the one in its key"),
    Column("content", Text, comment="JSON: what it says, until it is recorded"),
    Index("ix_chain_events_subscription_pk_block_number", "subscription_pk", "block_number"),
    Index("ix_chain_events_subscription_pk_subject", "subscription_pk", "subject"),
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("workflow_id", Text, ForeignKey("workflows.id"), nullable=False),
    Column("node_id", Text, nullable=False),
    Column("hash", Text, nullable=False, unique=True, comment="SHA-256 of the secret part of the address"),
    Column("sealed", Text, nullable=False, comment="the signing secret, encrypted"),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, comment="another address has replaced it"),
    Index("ix_webhook_secrets_workflow_id_node_id", "workflow_id", "node_id"),
)

form_links = Table(
    "form_links",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("workflow_id", Text, ForeignKey("workflows.id"), nullable=False),
    Column("key_id", Text, ForeignKey("api_keys.id"), nullable=False, comment="in whose name its runs are"),
    Column("hash", Text, nullable=False, unique=True, comment="SHA-256 of the secret part of the link"),
    Column("title", Text, nullable=False),
    Column("description", Text),
    Column("mode", Text, nullable=False, comment="live, simulate, dust"),
    Column("max_runs", Integer, nullable=False),
    Column("runs", Integer, nullable=False, comment="that it has started"),
    Column("last_run_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Index("ix_form_links_workflow_id_created_at", "workflow_id", "created_at"),
)

backtests = Table(
    "backtests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("workflow_id", Text, ForeignKey("workflows.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("node_id", Text, nullable=False, comment="the trigger"),
    Column("type", Text, nullable=False),
    Column("key_id", Text, nullable=False, comment="in whose name its runs are simulated"),
    Column("asked", Text, nullable=False, comment="JSON: {from, to, fromBlock, toBlock, limit, propValues}"),
    Column("status", Text, nullable=False, comment="running, done, failed"),
    Column("events", Text, nullable=False, comment="JSON: [{key, payload, occurredAt, blocks, skip}]"),
    Column("is_cut", Integer, nullable=False, comment="1 if there were more events than the limit"),
    Column("report", Text, comment="JSON, once it is done"),
    Column("error", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Index("ix_backtests_workflow_id_id", "workflow_id", "id"),
    partial_index("ix_backtests_running", "status", where="status = 'running'"),
)
