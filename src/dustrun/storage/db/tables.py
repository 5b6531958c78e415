"""The tables, one definition for SQLite and PostgreSQL.

Instants are integer milliseconds UTC, flags integers 0 or 1, JSON exact text: no type that the dialects treat
differently. Runs have an internal integer id, so that a caller's `runId` need only be unique in its organisation.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from dustrun.storage.db import ledger_tables as ledger_tables  # its tables belong to the same schema
from dustrun.storage.db.metadata import ROW_ID
from dustrun.storage.db.metadata import metadata as metadata

organizations = Table(
    "organizations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("retention_days", Integer, comment="days that ended runs are kept; null: as the setting says; 0: for ever"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("hash", Text, nullable=False, unique=True, comment="SHA-256 of the key in hexadecimal"),
    Column("permissions", Text, nullable=False, comment="JSON list"),
    Column("workflow_ids", Text, comment="JSON list: the key sees only these workflows; null: all"),
    Column("wallet_ids", Text, comment="JSON list: the key uses only these wallets; null: all"),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger, comment="within about a minute"),
    Column("created_by", Text, comment="the key that made it; null: the server's operator"),
    Index("ix_api_keys_org_id_id", "org_id", "id"),
)

workflows = Table(
    "workflows",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("status", Text, nullable=False, comment="draft, active, paused, archived"),
    Column("paused_reason", Text),
    Column("latest_version", Integer, nullable=False),
    Column("draft_version", Integer),
    Column("live_version", Integer),
    Column("max_runs", Integer),
    Column("remain_runs", Integer),
    Column("cooldown_ms", BigInteger),
    Column("require_rehearsal", Text, nullable=False, server_default="none"),
    Column("concurrency", Text, comment="JSON: {max, key, onLimit}"),
    Column("enforce_rehearsal", Text, comment="JSON: {tolerancePercent, maxAgeMs}"),
    Column("ui_metadata", Text, comment="JSON: layout of the editor"),
    Column("owner", Text, nullable=False, comment="id of the key that created it"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_workflows_org_id_updated_at", "org_id", "updated_at"),
)

workflow_versions = Table(
    "workflow_versions",
    metadata,
    Column("workflow_id", Text, ForeignKey("workflows.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("definition", Text, nullable=False, comment="JSON, keys in the order that the caller gave"),
    Column(
        "definition_hash", Text, nullable=False, comment="SHA-256 of the canonical JSON: equal means no new version"
    ),
    Column("trigger_type", Text, nullable=False, comment="for the filter of the list"),
    Column("node_types", Text, nullable=False, comment="space-separated, with a space at both ends"),
    Column("connector_types", Text, nullable=False, comment="space-separated, with a space at both ends"),
    Column("node_count", Integer, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("published_at", BigInteger),
    Column("published_by", Text),
)

runs = Table(
    "runs",
    metadata,
    Column("pk", ROW_ID, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False),
    Column("org_id", Text, nullable=False),
    Column("workflow_id", Text, comment="null for an inline run"),
    Column("workflow_name", Text, nullable=False),
    Column("version", Integer),
    Column("definition", Text, comment="of an inline run; else see workflow_versions"),
    Column("mode", Text, nullable=False, comment="live, simulate, dust"),
    Column("status", Text, nullable=False),
    Column("trigger_node_id", Text, nullable=False),
    Column("trigger_source", Text, nullable=False),
    Column("triggered_by", Text, nullable=False, comment="id of the key"),
    Column("payload", Text, nullable=False, comment="JSON"),
    Column("prop_values", Text, nullable=False, comment="JSON"),
    Column("chat_message_id", Text),
    Column("source_run_id", Text, comment="the run that this one retries"),
    Column("root_run_id", Text, nullable=False, comment="first run of the retry chain"),
    Column("concurrency_key", Text),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("last_seq", Integer, nullable=False, server_default="0"),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("wake_at", BigInteger),
    Column("cancel_requested_at", BigInteger),
    Column(
        "passed",
        Integer,
        comment="1 when nothing failed and nothing was assumed where it counts; a rung of the version's ladder",
    ),
    Column("nodes_executed", Integer, nullable=False, server_default="0"),
    Column("parent_pk", BigInteger, comment="the run that called this one"),
    Column("parent_run_id", Text),
    Column("parent_path", Text, comment="path of the call-workflow node"),
    Column("callers", Text, comment="JSON: {topPk, workflowIds, waits}, of a called run"),
    Column("error", Text, comment="JSON: the first failure that ended the run"),
    Column("trace", Text, comment="JSON: {parent, link}, W3C traceparents of the caller and of the run it retries"),
    UniqueConstraint("org_id", "id"),
    Index("ix_runs_org_id_pk", "org_id", "pk"),
    Index("ix_runs_workflow_id_pk", "workflow_id", "pk"),
    Index(
        "ix_runs_passed",
        "workflow_id",
        "version",
        "mode",
        sqlite_where=text("passed = 1"),
        postgresql_where=text("passed = 1"),
    ),
    Index(
        "ix_runs_retries",
        "org_id",
        "root_run_id",
        sqlite_where=text("source_run_id IS NOT NULL"),
        postgresql_where=text("source_run_id IS NOT NULL"),
    ),
    Index(
        "ix_runs_parent_pk",
        "parent_pk",
        sqlite_where=text("parent_pk IS NOT NULL"),
        postgresql_where=text("parent_pk IS NOT NULL"),
    ),
    *(
        # one entry a run, made at its end: lists and counts by status and mode look at nothing else
        Index(
            f"ix_runs_ended_{owner}",
            owner,
            "status",
            "mode",
            "pk",
            "finished_at",  # so that the index alone tells that it holds
            sqlite_where=text("finished_at IS NOT NULL"),
            postgresql_where=text("finished_at IS NOT NULL"),
        )
        for owner in ("org_id", "workflow_id")
    ),
    Index(
        "ix_runs_open",
        "status",
        sqlite_where=text("status IN ('running', 'waiting')"),
        postgresql_where=text("status IN ('running', 'waiting')"),
    ),
)

COUNTED_TOGETHER = 50_000
"""Runs whose row ids divided by this are the same share a counter."""

run_counts = Table(
    "run_counts",
    metadata,
    Column("org_id", Text, primary_key=True),
    Column("workflow_id", Text, primary_key=True, comment="empty for inline runs"),
    Column(
        "status",
        Text,
        primary_key=True,
        comment="final statuses only; open ones are counted from their index",
    ),
    Column("mode", Text, primary_key=True),
    Column("bucket", BigInteger, primary_key=True, comment="the run's pk / 50,000, for counts since an instant"),
    Column("total", BigInteger, nullable=False),
)

executions = Table(
    "executions",
    metadata,
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), primary_key=True),
    Column("path", Text, primary_key=True, comment="like each_user[3].pay"),
    Column("attempt", Integer, primary_key=True),
    Column("node_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("branch", Text, comment="the branch that its outcome takes"),
    Column("input", Text, comment="JSON: the resolved payload"),
    Column("result", Text, comment="JSON"),
    Column("error", Text, comment="JSON: {code, message, retryable}"),
    Column("facts", Text, comment="JSON: what only the engine reads, e.g. a loop's items"),
    Column("assumed", Integer, nullable=False, server_default="0"),
    Column("wake_at", BigInteger),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("type", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("data", Text, nullable=False, comment="JSON object without type, seq, runId and at"),
    sqlite_with_rowid=False,
)

activity = Table(
    "activity",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("org_id", Text, nullable=False),
    Column("workflow_id", Text),
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), nullable=False),
    Column("seq", Integer, nullable=False, comment="the run's event: a start, a wait or an end"),
    Index("ix_activity_org_id_id", "org_id", "id"),
    Index("ix_activity_run_pk", "run_pk"),
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("title", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_conversations_org_id_updated_at", "org_id", "updated_at"),
)

messages = Table(
    "messages",
    metadata,
    Column("id", Text, primary_key=True),
    Column("conversation_id", Text, ForeignKey("conversations.id"), nullable=False),
    Column("org_id", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_messages_conversation_id_id", "conversation_id", "id"),
)

message_runs = Table(
    "message_runs",
    metadata,
    Column("message_id", Text, ForeignKey("messages.id"), primary_key=True),
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), primary_key=True),
    Index("ix_message_runs_run_pk", "run_pk"),
)

stream_tokens = Table(
    "stream_tokens",
    metadata,
    Column("hash", Text, primary_key=True, comment="SHA-256 of the token in hexadecimal"),
    Column("key_id", Text, ForeignKey("api_keys.id"), nullable=False),
    Column("org_id", Text, nullable=False),
    Column("stream", Text, nullable=False, comment="the path of the one stream it opens"),
    Column("created_at", BigInteger, nullable=False),
    Column("first_used_at", BigInteger),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("org_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_hash", Text, nullable=False, comment="SHA-256 over method, path and body"),
    Column("status", Integer, nullable=False),
    Column("response", Text, comment="the first answer's whole body; null when it bore a secret"),
    Column("resource_id", Text),
    Column("created_at", BigInteger, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("org_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("action", Text, nullable=False, comment="verb and noun, like workflow.publish"),
    Column("subject", Text, nullable=False, comment="id of what was changed"),
    Column("detail", Text, nullable=False, comment="JSON"),
    Index("ix_audit_org_id_id", "org_id", "id"),
)

run_signals = Table(
    "run_signals",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), nullable=False),
    Column("kind", Text, nullable=False, comment="resolve or resume"),
    Column("path", Text, nullable=False, comment="of the execution that it is for"),
    Column("data", Text, nullable=False, comment="JSON"),
    Column("at", BigInteger, nullable=False),
    Index("ix_run_signals_run_pk_id", "run_pk", "id"),
)

variables = Table(
    "variables",
    metadata,
    Column("workflow_id", Text, ForeignKey("workflows.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("definition", Text, comment="JSON: declared for the workflow; null when only a definition declares it"),
    Column("value", Text, comment="JSON; null when nothing was written yet"),
    Column("version", Integer, nullable=False, server_default="0", comment="writes so far"),
    Column("updated_at", BigInteger, nullable=False),
    Column("last_run_id", Text),
)

simulation_forks = Table(
    "simulation_forks",
    metadata,
    Column("top_pk", BigInteger, ForeignKey("runs.pk"), primary_key=True, comment="the run at the root of all calls"),
    Column("chain_id", BigInteger, primary_key=True),
    Column("steps", Integer, nullable=False, comment="transactions simulated so far; it never goes back"),
    Column("state", Text, nullable=False, comment="JSON: the block that it stands on, and what was simulated on it"),
)

run_variables = Table(
    "run_variables",
    metadata,
    Column("owner_pk", BigInteger, ForeignKey("runs.pk"), primary_key=True, comment="the run that sees the value"),
    Column("scope", Text, primary_key=True, comment="run: lives as long as the run; workflow: a simulation's overlay"),
    Column("workflow_id", Text, primary_key=True, comment="empty for an inline run"),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False, comment="JSON"),
    Column("assumed", Integer, nullable=False, server_default="0"),
)

variable_writes = Table(
    "variable_writes",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("workflow_id", Text, nullable=False, comment="empty for an inline run"),
    Column("name", Text, nullable=False),
    Column("op", Text, nullable=False, comment="set, increment, manual_set, manual_reset"),
    Column("scope", Text, nullable=False, comment="workflow or run"),
    Column("old_value", Text, comment="JSON; null when there was none"),
    Column("new_value", Text, comment="JSON; null when it was taken away"),
    Column("run_pk", BigInteger, ForeignKey("runs.pk")),
    Column("run_id", Text),
    Column("path", Text, comment="of the node that wrote"),
    Column("key_id", Text, comment="of a write by hand"),
    Column("simulated", Integer, nullable=False, server_default="0"),
    Column("written_at", BigInteger, nullable=False),
    Column("write_key", Text, unique=True, comment="one write per node path of a retry chain, whatever crashes"),
    Index("ix_variable_writes_workflow_id_name_id", "workflow_id", "name", "id"),
    Index("ix_variable_writes_run_pk_id", "run_pk", "id"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, nullable=False),
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), nullable=False),
    Column("run_id", Text, nullable=False),
    Column("workflow_id", Text),
    Column("workflow_name", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("approvers", Text, nullable=False, comment="JSON list of key ids; empty: whoever may decide"),
    Column("mode", Text, nullable=False),
    Column("status", Text, nullable=False, comment="pending, approved, rejected, timed_out, cancelled"),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("decided_at", BigInteger),
    Column("decided_by", Text, comment="id of the key, or link"),
    Column("comment", Text),
    Column("binding", Text, comment="of a spend: SHA-256 of chain, from, to, value, calldata and fee ceiling"),
    Column("barred_key", Text, comment="of a spend: id of the key that started the run, which cannot decide"),
    Index("ix_approvals_org_id_status_created_at", "org_id", "status", "created_at"),
    Index("ix_approvals_run_pk", "run_pk"),
)

key_requests = Table(
    "key_requests",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("org_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("method", Text, nullable=False),
    Column("route", Text, nullable=False, comment="the template, like /v1/runs/{id}; empty when none matched"),
    Column("status", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
)

store_facts = Table(
    "store_facts",
    metadata,
    Column("name", Text, primary_key=True, comment="like restored_at"),
    Column("value", Text, nullable=False),
)

data_keys = Table(
    "data_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("master_id", Text, nullable=False, comment="which master key wraps it"),
    Column("wrapped", Text, nullable=False, comment="base64 of nonce, ciphertext and tag"),
    Column("created_at", BigInteger, nullable=False),
    Column("retired_at", BigInteger, comment="when another took its place; null for the one that seals"),
    Index("ix_data_keys_org_id", "org_id"),
    comment="the keys that seal an organisation's secrets, sealed themselves",
)

connectors = Table(
    "connectors",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("type", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("version", Integer, nullable=False, comment="rises with every change of its content"),
    Column("moves_money", Integer, nullable=False),
    Column("allowed_hosts", Text, nullable=False, comment="JSON list"),
    Column("masked", Text, nullable=False, comment="JSON of the data with every secret replaced"),
    Column("sealed", Text, nullable=False, comment="the data"),
    Column("sealed_token", Text, comment="the access token in use"),
    Column("token_expires_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_connectors_org_id_id", "org_id", "id"),
)

managed_tables = Table(
    "managed_tables",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("definition", Text, nullable=False, comment="JSON: {primaryKey, columns}"),
    Column("row_count", BigInteger, nullable=False, server_default="0"),
    Column("byte_count", BigInteger, nullable=False, server_default="0", comment="JSON of all rows"),
    Column("created_by", Text, nullable=False, comment="id of the key"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_managed_tables_org_id_name", "org_id", "name", unique=True),
)

table_rows = Table(
    "table_rows",
    metadata,
    Column("table_id", Text, ForeignKey("managed_tables.id"), primary_key=True),
    Column("layer", BigInteger, primary_key=True, comment="0: what is; else the pk of the simulation that sees it"),
    Column("key", LargeBinary, primary_key=True, comment="the primary key's value; sorts as it does"),
    Column("data", Text, comment="JSON object; null where a simulation has deleted the row"),
    Column("assumed", Integer, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_table_rows_layer", "layer", sqlite_where=text("layer > 0"), postgresql_where=text("layer > 0")),
    sqlite_with_rowid=False,
)

table_cells = Table(
    "table_cells",
    metadata,
    Column("table_id", Text, primary_key=True),
    Column("layer", BigInteger, primary_key=True),
    Column("name", Text, primary_key=True, comment="of the column"),
    Column("value", LargeBinary, primary_key=True, comment="sorts as the value does; empty for null"),
    Column("key", LargeBinary, primary_key=True),
    Index("ix_table_cells_layer", "layer", sqlite_where=text("layer > 0"), postgresql_where=text("layer > 0")),
    sqlite_with_rowid=False,
    comment="one for each value of a row that can be compared: what filters and sorting look at",
)

table_writes = Table(
    "table_writes",
    metadata,
    Column("write_key", Text, primary_key=True, comment="one write per node path of a retry chain, whatever crashes"),
    Column("table_id", Text, nullable=False),
    Column("run_pk", BigInteger, nullable=False),
    Column("result", Text, nullable=False, comment="JSON"),
    Column("written_at", BigInteger, nullable=False),
    Index("ix_table_writes_run_pk", "run_pk"),
    Index("ix_table_writes_table_id", "table_id"),
)
