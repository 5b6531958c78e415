"""First schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Applies it."""
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False, comment="noun and verb, like workflow.publish"),
        sa.Column("subject", sa.Text(), nullable=False, comment="id of the changed object"),
        sa.Column("detail", sa.Text(), nullable=False, comment="JSON"),
        sa.Column(
            "hash",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="SHA-256 of the previous row's hash and this row",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_org_id_id", "audit", ["org_id", "id"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False, comment="SHA-256 of method, path and body"),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column(
            "response", sa.Text(), nullable=True, comment="body of the first response; null if it contained a secret"
        ),
        sa.Column("resource_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "key_requests",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column(
            "route", sa.Text(), nullable=False, comment="route template, like /v1/runs/{id}; empty if none matched"
        ),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_key_requests")),
    )
    op.create_table(
        "organizations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "retention_days",
            sa.Integer(),
            nullable=True,
            comment="days to keep ended runs; null: the server's setting; 0: forever",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organizations")),
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("wallet_id", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False, comment="the transaction or signature that it belongs to"),
        sa.Column("measure", sa.Text(), nullable=False, comment="measure: an asset, usd, count, gas:eip155:1, gasUsd"),
        sa.Column("units", sa.Text(), nullable=False, comment="digits; US dollars in units of 1e-18"),
        sa.Column("state", sa.Text(), nullable=False, comment="open, settled, released"),
        sa.Column("price", sa.Text(), nullable=True, comment="JSON of the price used"),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=True, comment="never before the time of an earlier position"),
        sa.Column(
            "position",
            sa.BigInteger(),
            nullable=True,
            comment="increases by one with each settled row of the wallet and measure",
        ),
        sa.Column(
            "total", sa.Text(), nullable=True, comment="digits: running total of settled units up to this position"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservations")),
        comment="usage of a wallet's policy limits: one row per transaction and measure",
    )
    op.create_index(
        "ix_reservations_spent",
        "reservations",
        ["wallet_id", "measure", "state", "settled_at", "position"],
        unique=False,
    )
    op.create_index("ix_reservations_subject_id_measure", "reservations", ["subject_id", "measure"], unique=True)
    op.create_table(
        "run_counts",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False, comment="empty for inline runs"),
        sa.Column(
            "status", sa.Text(), nullable=False, comment="final statuses only; open runs are counted from their index"
        ),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column(
            "bucket", sa.BigInteger(), nullable=False, comment="the run's pk / 50,000, for counts since an instant"
        ),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "workflow_id", "status", "mode", "bucket", name=op.f("pk_run_counts")),
    )
    op.create_table(
        "runs",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=True, comment="null for an inline run"),
        sa.Column("workflow_name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("definition", sa.Text(), nullable=True, comment="of an inline run; otherwise in workflow_versions"),
        sa.Column("mode", sa.Text(), nullable=False, comment="live, simulate, dust"),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("trigger_node_id", sa.Text(), nullable=False),
        sa.Column("trigger_source", sa.Text(), nullable=False),
        sa.Column("triggered_by", sa.Text(), nullable=False, comment="id of the key"),
        sa.Column("payload", sa.Text(), nullable=False, comment="JSON"),
        sa.Column("prop_values", sa.Text(), nullable=False, comment="JSON"),
        sa.Column("chat_message_id", sa.Text(), nullable=True),
        sa.Column("source_run_id", sa.Text(), nullable=True, comment="the run that this one retries"),
        sa.Column("root_run_id", sa.Text(), nullable=False, comment="first run of the retry chain"),
        sa.Column("concurrency_key", sa.Text(), nullable=True),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_seq", sa.Integer(), server_default="0", nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("wake_at", sa.BigInteger(), nullable=True),
        sa.Column("cancel_requested_at", sa.BigInteger(), nullable=True),
        sa.Column(
            "passed",
            sa.Integer(),
            nullable=True,
            comment="1 if nothing failed and nothing that matters was assumed; counts as a rehearsal of the version",
        ),
        sa.Column("nodes_executed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("parent_pk", sa.BigInteger(), nullable=True, comment="the run that called this one"),
        sa.Column("parent_run_id", sa.Text(), nullable=True),
        sa.Column("parent_path", sa.Text(), nullable=True, comment="path of the call-workflow node"),
        sa.Column("callers", sa.Text(), nullable=True, comment="of a called run, JSON: {topPk, workflowIds, waits}"),
        sa.Column("error", sa.Text(), nullable=True, comment="JSON: the failure that ended the run"),
        sa.Column("summary", sa.Text(), nullable=True, comment="the message of the `stop` node that ended it"),
        sa.Column("closure", sa.Text(), nullable=True, comment="digest of its closure, if that can spend"),
        sa.Column(
            "trace",
            sa.Text(),
            nullable=True,
            comment="JSON: {parent, link}, W3C traceparents of the caller and of the retried run",
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_runs")),
        sa.UniqueConstraint("org_id", "id", name=op.f("uq_runs_org_id_id")),
    )
    op.create_index(
        "ix_runs_ended_org_id",
        "runs",
        ["org_id", "status", "mode", "pk", "finished_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_runs_ended_workflow_id",
        "runs",
        ["workflow_id", "status", "mode", "pk", "finished_at"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    op.create_index(
        "ix_runs_open",
        "runs",
        ["status"],
        unique=False,
        sqlite_where=sa.text("status IN ('running', 'waiting')"),
        postgresql_where=sa.text("status IN ('running', 'waiting')"),
    )
    op.create_index("ix_runs_org_id_pk", "runs", ["org_id", "pk"], unique=False)
    op.create_index(
        "ix_runs_parent_pk",
        "runs",
        ["parent_pk"],
        unique=False,
        sqlite_where=sa.text("parent_pk IS NOT NULL"),
        postgresql_where=sa.text("parent_pk IS NOT NULL"),
    )
    op.create_index(
        "ix_runs_passed",
        "runs",
        ["workflow_id", "version", "mode"],
        unique=False,
        sqlite_where=sa.text("passed = 1"),
        postgresql_where=sa.text("passed = 1"),
    )
    op.create_index(
        "ix_runs_retries",
        "runs",
        ["org_id", "root_run_id"],
        unique=False,
        sqlite_where=sa.text("source_run_id IS NOT NULL"),
        postgresql_where=sa.text("source_run_id IS NOT NULL"),
    )
    op.create_index("ix_runs_workflow_id_pk", "runs", ["workflow_id", "pk"], unique=False)
    op.create_table(
        "store_facts",
        sa.Column("name", sa.Text(), nullable=False, comment="like restored_at"),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_store_facts")),
    )
    op.create_table(
        "table_cells",
        sa.Column("table_id", sa.Text(), nullable=False),
        sa.Column("layer", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="column name"),
        sa.Column(
            "value", sa.LargeBinary(), nullable=False, comment="encoded so that it sorts like the value; empty for null"
        ),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("table_id", "layer", "name", "value", "key", name=op.f("pk_table_cells")),
        comment="one row per comparable value, used by filters and sorting",
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_table_cells_layer",
        "table_cells",
        ["layer"],
        unique=False,
        sqlite_where=sa.text("layer > 0"),
        postgresql_where=sa.text("layer > 0"),
    )
    op.create_table(
        "table_writes",
        sa.Column(
            "write_key",
            sa.Text(),
            nullable=False,
            comment="one write per node path and retry chain, even across crashes",
        ),
        sa.Column("table_id", sa.Text(), nullable=False),
        sa.Column("run_pk", sa.BigInteger(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False, comment="JSON"),
        sa.Column("written_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("write_key", name=op.f("pk_table_writes")),
    )
    op.create_index("ix_table_writes_run_pk", "table_writes", ["run_pk"], unique=False)
    op.create_index("ix_table_writes_table_id", "table_writes", ["table_id"], unique=False)
    op.create_table(
        "wallet_recipients",
        sa.Column("wallet_id", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False, comment="lower case"),
        sa.Column(
            "first_seen_at", sa.BigInteger(), nullable=False, comment="when a policy named it, or first payment to it"
        ),
        sa.PrimaryKeyConstraint("wallet_id", "address", name=op.f("pk_wallet_recipients")),
    )
    op.create_table(
        "activity",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=True),
        sa.Column("run_pk", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False, comment="the run's event: a start, a wait or an end"),
        sa.ForeignKeyConstraint(["run_pk"], ["runs.pk"], name=op.f("fk_activity_run_pk")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activity")),
    )
    op.create_index("ix_activity_org_id_id", "activity", ["org_id", "id"], unique=False)
    op.create_index("ix_activity_run_pk", "activity", ["run_pk"], unique=False)
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("hash", sa.Text(), nullable=False, comment="hex SHA-256 of the key"),
        sa.Column("permissions", sa.Text(), nullable=False, comment="JSON list"),
        sa.Column(
            "workflow_ids",
            sa.Text(),
            nullable=True,
            comment="JSON list: the only workflows that the key can access; null: all",
        ),
        sa.Column(
            "wallet_ids",
            sa.Text(),
            nullable=True,
            comment="JSON list: the only wallets that the key can use; null: all",
        ),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True, comment="accurate to about a minute"),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_api_keys_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_keys_hash")),
    )
    op.create_index("ix_api_keys_org_id_id", "api_keys", ["org_id", "id"], unique=False)
    op.create_table(
        "approvals",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("run_pk", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=True),
        sa.Column("workflow_name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column(
            "approvers", sa.Text(), nullable=False, comment="JSON list of key ids; empty: any key with the permission"
        ),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, comment="pending, approved, rejected, timed_out, cancelled"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True, comment='id of the key, or "link'),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column(
            "binding",
            sa.Text(),
            nullable=True,
            comment="of a spend: SHA-256 of chain, from, to, value, calldata and fee ceiling",
        ),
        sa.Column(
            "barred_key",
            sa.Text(),
            nullable=True,
            comment="id of the key that started the run, where it may not decide",
        ),
        sa.ForeignKeyConstraint(["run_pk"], ["runs.pk"], name=op.f("fk_approvals_run_pk")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
    )
    op.create_index(
        "ix_approvals_org_id_status_created_at", "approvals", ["org_id", "status", "created_at"], unique=False
    )
    op.create_index("ix_approvals_run_pk", "approvals", ["run_pk"], unique=False)
    op.create_table(
        "connectors",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, comment="increases with every change of its content"),
        sa.Column("moves_money", sa.Integer(), nullable=False),
        sa.Column("allowed_hosts", sa.Text(), nullable=False, comment="JSON list"),
        sa.Column("masked", sa.Text(), nullable=False, comment="JSON of the data with secrets masked"),
        sa.Column("sealed", sa.Text(), nullable=False, comment="the data"),
        sa.Column("sealed_token", sa.Text(), nullable=True, comment="the current access token"),
        sa.Column("token_expires_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_connectors_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connectors")),
    )
    op.create_index("ix_connectors_org_id_id", "connectors", ["org_id", "id"], unique=False)
    op.create_table(
        "conversations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_conversations_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversations")),
    )
    op.create_index("ix_conversations_org_id_updated_at", "conversations", ["org_id", "updated_at"], unique=False)
    op.create_table(
        "data_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("master_id", sa.Text(), nullable=False, comment="id of the master key that wraps it"),
        sa.Column("wrapped", sa.Text(), nullable=False, comment="base64 of nonce, ciphertext and tag"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "retired_at",
            sa.BigInteger(),
            nullable=True,
            comment="when it was replaced; null for the current key",
        ),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_data_keys_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_keys")),
        comment="data keys that encrypt an organisation's secrets, wrapped by the master key",
    )
    op.create_index("ix_data_keys_org_id", "data_keys", ["org_id"], unique=False)
    op.create_table(
        "events",
        sa.Column("run_pk", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False, comment="JSON object without type, seq, runId and at"),
        sa.ForeignKeyConstraint(["run_pk"], ["runs.pk"], name=op.f("fk_events_run_pk")),
        sa.PrimaryKeyConstraint("run_pk", "seq", name=op.f("pk_events")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "executions",
        sa.Column("run_pk", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False, comment="like each_user[3].pay"),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=True, comment="branch taken by the result"),
        sa.Column("input", sa.Text(), nullable=True, comment="JSON: the resolved payload"),
        sa.Column("result", sa.Text(), nullable=True, comment="JSON"),
        sa.Column("error", sa.Text(), nullable=True, comment="JSON: {code, message, retryable}"),
        sa.Column("facts", sa.Text(), nullable=True, comment="JSON: read only by the engine, e.g. a loop's items"),
        sa.Column("assumed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("wake_at", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["run_pk"], ["runs.pk"], name=op.f("fk_executions_run_pk")),
        sa.PrimaryKeyConstraint("run_pk", "path", "attempt", name=op.f("pk_executions")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "managed_tables",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False, comment="JSON: {primaryKey, columns}"),
        sa.Column("row_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "byte_count", sa.BigInteger(), server_default="0", nullable=False, comment="bytes of JSON of all rows"
        ),
        sa.Column("created_by", sa.Text(), nullable=False, comment="id of the key"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_managed_tables_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_managed_tables")),
    )
    op.create_index("ix_managed_tables_org_id_name", "managed_tables", ["org_id", "name"], unique=True)
    op.create_table(
        "run_signals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("run_pk", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="resolve or resume"),
        sa.Column("path", sa.Text(), nullable=False, comment="path of the execution that it is for"),
        sa.Column("data", sa.Text(), nullable=False, comment="JSON"),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_pk"], ["runs.pk"], name=op.f("fk_run_signals_run_pk")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_signals")),
    )
    op.create_index("ix_run_signals_run_pk_id", "run_signals", ["run_pk", "id"], unique=False)
    op.create_table(
        "run_variables",
        sa.Column("owner_pk", sa.BigInteger(), nullable=False, comment="the run that sees the value"),
        sa.Column(
            "scope",
            sa.Text(),
            nullable=False,
            comment="run: lives as long as the run; workflow: a simulation's overlay",
        ),
        sa.Column("workflow_id", sa.Text(), nullable=False, comment="empty for an inline run"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False, comment="JSON"),
        sa.Column("assumed", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["owner_pk"], ["runs.pk"], name=op.f("fk_run_variables_owner_pk")),
        sa.PrimaryKeyConstraint("owner_pk", "scope", "workflow_id", "name", name=op.f("pk_run_variables")),
    )
    op.create_table(
        "simulation_forks",
        sa.Column("top_pk", sa.BigInteger(), nullable=False, comment="the root run of all calls"),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False, comment="number of simulated transactions; never decreases"),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="JSON: the fork block and what was simulated on it",
        ),
        sa.ForeignKeyConstraint(["top_pk"], ["runs.pk"], name=op.f("fk_simulation_forks_top_pk")),
        sa.PrimaryKeyConstraint("top_pk", "chain_id", name=op.f("pk_simulation_forks")),
    )
    op.create_table(
        "spends",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("root_run_id", sa.Text(), nullable=False, comment="first run of the retry chain"),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column(
            "generation",
            sa.Integer(),
            nullable=False,
            comment="from 1; the next one only after the previous had no effect",
        ),
        sa.Column("run_pk", sa.BigInteger(), nullable=False),
        sa.Column("transactions", sa.Text(), nullable=False, comment="JSON list: ids in the order of the intents"),
        sa.Column("signatures", sa.Text(), nullable=False, comment="JSON list: ids in the order of the intents"),
        sa.Column("notes", sa.Text(), nullable=False, comment="JSON: the action's notes, returned to it at the end"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_pk"], ["runs.pk"], name=op.f("fk_spends_run_pk")),
        sa.PrimaryKeyConstraint("org_id", "root_run_id", "path", "generation", name=op.f("pk_spends")),
        comment="all intents of a spend node as one unit",
    )
    op.create_index("ix_spends_run_pk", "spends", ["run_pk"], unique=False)
    op.create_table(
        "variable_writes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False, comment="empty for an inline run"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("op", sa.Text(), nullable=False, comment="set, increment, manual_set, manual_reset"),
        sa.Column("scope", sa.Text(), nullable=False, comment="workflow or run"),
        sa.Column("old_value", sa.Text(), nullable=True, comment="JSON; null if there was none"),
        sa.Column("new_value", sa.Text(), nullable=True, comment="JSON; null if it was deleted"),
        sa.Column("run_pk", sa.BigInteger(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("path", sa.Text(), nullable=True, comment="path of the node that wrote"),
        sa.Column("key_id", sa.Text(), nullable=True, comment="key that wrote by hand"),
        sa.Column("simulated", sa.Integer(), server_default="0", nullable=False),
        sa.Column("written_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "write_key",
            sa.Text(),
            nullable=True,
            comment="one write per node path and retry chain, even across crashes",
        ),
        sa.ForeignKeyConstraint(["run_pk"], ["runs.pk"], name=op.f("fk_variable_writes_run_pk")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_variable_writes")),
        sa.UniqueConstraint("write_key", name=op.f("uq_variable_writes_write_key")),
    )
    op.create_index("ix_variable_writes_run_pk_id", "variable_writes", ["run_pk", "id"], unique=False)
    op.create_index(
        "ix_variable_writes_workflow_id_name_id", "variable_writes", ["workflow_id", "name", "id"], unique=False
    )
    op.create_table(
        "wallets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False, comment="local, remote, env, watch"),
        sa.Column("address", sa.Text(), nullable=False, comment="EIP-55 checksummed"),
        sa.Column(
            "held_address",
            sa.Text(),
            nullable=True,
            comment="the address if this wallet can sign, else null: one wallet per key in the whole store",
        ),
        sa.Column("is_default", sa.Integer(), server_default="0", nullable=False),
        sa.Column("signer", sa.Text(), nullable=True, comment="name of the remote signer or environment variable"),
        sa.Column("sealed", sa.Text(), nullable=True, comment="of a local wallet: keystore and password"),
        sa.Column("created_by", sa.Text(), nullable=False, comment="id of the key"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("archived_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_wallets_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_wallets")),
        sa.UniqueConstraint("held_address", name=op.f("uq_wallets_held_address")),
    )
    op.create_index(
        "ix_wallets_default",
        "wallets",
        ["org_id"],
        unique=True,
        sqlite_where=sa.text("is_default = 1"),
        postgresql_where=sa.text("is_default = 1"),
    )
    op.create_index("ix_wallets_org_id_id", "wallets", ["org_id", "id"], unique=False)
    op.create_table(
        "workflows",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, comment="draft, active, paused, archived"),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.Column("latest_version", sa.Integer(), nullable=False),
        sa.Column("draft_version", sa.Integer(), nullable=True),
        sa.Column("live_version", sa.Integer(), nullable=True),
        sa.Column("max_runs", sa.Integer(), nullable=True),
        sa.Column("remain_runs", sa.Integer(), nullable=True),
        sa.Column("cooldown_ms", sa.BigInteger(), nullable=True),
        sa.Column("require_rehearsal", sa.Text(), server_default="none", nullable=False),
        sa.Column("concurrency", sa.Text(), nullable=True, comment="JSON: {max, key, onLimit}"),
        sa.Column("enforce_rehearsal", sa.Text(), nullable=True, comment="JSON: {tolerancePercent, maxAgeMs}"),
        sa.Column(
            "acceptances",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="how many must accept each version",
        ),
        sa.Column("ui_metadata", sa.Text(), nullable=True, comment="JSON: editor layout"),
        sa.Column("owner", sa.Text(), nullable=False, comment="id of the key that created it"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_workflows_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflows")),
    )
    op.create_index("ix_workflows_org_id_updated_at", "workflows", ["org_id", "updated_at"], unique=False)
    op.create_table(
        "messages",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name=op.f("fk_messages_conversation_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
    )
    op.create_index("ix_messages_conversation_id_id", "messages", ["conversation_id", "id"], unique=False)
    op.create_table(
        "signatures",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="org/first run of the retry chain/path/item/generation"),
        sa.Column("run_pk", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("root_run_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=True),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False, comment="live, dust"),
        sa.Column("wallet_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False, comment="the API key that started the run"),
        sa.Column("chain_id", sa.BigInteger(), nullable=True),
        sa.Column("request", sa.Text(), nullable=False, comment="JSON: the intent"),
        sa.Column("state", sa.Text(), nullable=False, comment="planned, signed, refused"),
        sa.Column("sealed", sa.Text(), nullable=True, comment="the signature"),
        sa.Column("mark", sa.Text(), nullable=False, comment="random; replaces the signature in stored run data"),
        sa.Column("error", sa.Text(), nullable=True, comment="JSON: {code, message, retryable, details}"),
        sa.Column("verdict", sa.Text(), nullable=True, comment="JSON: the policy's decision with its reasons"),
        sa.Column("approval_id", sa.Text(), nullable=True),
        sa.Column("planned_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_signatures_org_id")),
        sa.ForeignKeyConstraint(["run_pk"], ["runs.pk"], name=op.f("fk_signatures_run_pk")),
        sa.ForeignKeyConstraint(["wallet_id"], ["wallets.id"], name=op.f("fk_signatures_wallet_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signatures")),
    )
    op.create_index("ix_signatures_chain", "signatures", ["org_id", "root_run_id", "path"], unique=False)
    op.create_index("ix_signatures_key", "signatures", ["key"], unique=True)
    op.create_index("ix_signatures_mark", "signatures", ["mark"], unique=True)
    op.create_index("ix_signatures_org_id_id", "signatures", ["org_id", "id"], unique=False)
    op.create_index("ix_signatures_run_pk", "signatures", ["run_pk"], unique=False)
    op.create_table(
        "stream_tokens",
        sa.Column("hash", sa.Text(), nullable=False, comment="hex SHA-256 of the token"),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False, comment="path of the stream that it opens"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("first_used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_stream_tokens_key_id")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_stream_tokens")),
    )
    op.create_table(
        "table_rows",
        sa.Column("table_id", sa.Text(), nullable=False),
        sa.Column(
            "layer", sa.BigInteger(), nullable=False, comment="0: live; else the pk of the simulation that sees it"
        ),
        sa.Column(
            "key", sa.LargeBinary(), nullable=False, comment="the primary key, encoded so that it sorts like the value"
        ),
        sa.Column("data", sa.Text(), nullable=True, comment="JSON object; null if a simulation deleted the row"),
        sa.Column("assumed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["table_id"], ["managed_tables.id"], name=op.f("fk_table_rows_table_id")),
        sa.PrimaryKeyConstraint("table_id", "layer", "key", name=op.f("pk_table_rows")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_table_rows_layer",
        "table_rows",
        ["layer"],
        unique=False,
        sqlite_where=sa.text("layer > 0"),
        postgresql_where=sa.text("layer > 0"),
    )
    op.create_table(
        "transactions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="org/first run of the retry chain/path/item/generation"),
        sa.Column(
            "purpose",
            sa.Text(),
            nullable=False,
            comment="intent, or fill: fills a nonce gap and belongs to no run",
        ),
        sa.Column("run_pk", sa.BigInteger(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("root_run_id", sa.Text(), nullable=True),
        sa.Column("workflow_id", sa.Text(), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False, comment="live, dust"),
        sa.Column("wallet_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True, comment="the API key that started the run"),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False, comment="EIP-55 checksummed"),
        sa.Column("nonce", sa.BigInteger(), nullable=True, comment="null until signed"),
        sa.Column("intent", sa.Text(), nullable=False, comment="JSON: the unsigned intent"),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="planned, signed, sent, mined, final, reverted, cancelled, displaced, refused",
        ),
        sa.Column(
            "confirmations",
            sa.Integer(),
            nullable=False,
            comment="confirmations that make it final, including its block",
        ),
        sa.Column("gas_limit", sa.BigInteger(), nullable=True),
        sa.Column("max_price", sa.Text(), nullable=True, comment="maximum fee per gas of any attempt"),
        sa.Column(
            "outlay",
            sa.Text(),
            nullable=True,
            comment="value plus the maximum network fee of the newest attempt",
        ),
        sa.Column("hash", sa.Text(), nullable=True, comment="of the mined attempt, else the newest"),
        sa.Column("block_number", sa.BigInteger(), nullable=True),
        sa.Column("block_hash", sa.Text(), nullable=True),
        sa.Column("receipt", sa.Text(), nullable=True, comment="JSON"),
        sa.Column("error", sa.Text(), nullable=True, comment="JSON: {code, message, retryable, details}"),
        sa.Column("verdict", sa.Text(), nullable=True, comment="JSON: the policy's decision with its reasons"),
        sa.Column("approval_id", sa.Text(), nullable=True),
        sa.Column(
            "refusal",
            sa.Text(),
            nullable=True,
            comment="last error of an endpoint that rejected it; null once one accepted it",
        ),
        sa.Column("planned_at", sa.BigInteger(), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=True),
        sa.Column("mined_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_transactions_org_id")),
        sa.ForeignKeyConstraint(["run_pk"], ["runs.pk"], name=op.f("fk_transactions_run_pk")),
        sa.ForeignKeyConstraint(["wallet_id"], ["wallets.id"], name=op.f("fk_transactions_wallet_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transactions")),
        comment="one nonce, including replacements",
    )
    op.create_index("ix_transactions_chain", "transactions", ["org_id", "root_run_id", "path"], unique=False)
    op.create_index(
        "ix_transactions_displaced",
        "transactions",
        ["chain_id"],
        unique=False,
        sqlite_where=sa.text("state = 'displaced'"),
        postgresql_where=sa.text("state = 'displaced'"),
    )
    op.create_index("ix_transactions_key", "transactions", ["key"], unique=True)
    op.create_index("ix_transactions_nonce", "transactions", ["chain_id", "sender", "nonce"], unique=True)
    op.create_index(
        "ix_transactions_open",
        "transactions",
        ["chain_id", "sender", "nonce"],
        unique=False,
        sqlite_where=sa.text("state IN ('signed', 'sent', 'mined')"),
        postgresql_where=sa.text("state IN ('signed', 'sent', 'mined')"),
    )
    op.create_index("ix_transactions_org_id_id", "transactions", ["org_id", "id"], unique=False)
    op.create_index("ix_transactions_run_pk", "transactions", ["run_pk"], unique=False)
    op.create_table(
        "variables",
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "definition",
            sa.Text(),
            nullable=True,
            comment="JSON: declared for the workflow; null if only a definition declares it",
        ),
        sa.Column("value", sa.Text(), nullable=True, comment="JSON; null if nothing was written yet"),
        sa.Column("version", sa.Integer(), server_default="0", nullable=False, comment="number of writes"),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("last_run_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["workflow_id"], ["workflows.id"], name=op.f("fk_variables_workflow_id")),
        sa.PrimaryKeyConstraint("workflow_id", "name", name=op.f("pk_variables")),
    )
    op.create_table(
        "wallet_policies",
        sa.Column("wallet_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False, comment="JSON"),
        sa.Column(
            "is_looser",
            sa.Integer(),
            nullable=False,
            comment="1 if it allows something that the previous policy did not",
        ),
        sa.Column("effective_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "cancelled_at",
            sa.BigInteger(),
            nullable=True,
            comment="when a newer version replaced it before it took effect",
        ),
        sa.Column("created_by", sa.Text(), nullable=False, comment="id of the key"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["wallet_id"], ["wallets.id"], name=op.f("fk_wallet_policies_wallet_id")),
        sa.PrimaryKeyConstraint("wallet_id", "version", name=op.f("pk_wallet_policies")),
        comment="the policy in force is the highest version that is effective and not cancelled",
    )
    op.create_table(
        "workflow_versions",
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False, comment="JSON, keys in the caller's order"),
        sa.Column(
            "definition_hash",
            sa.Text(),
            nullable=False,
            comment="SHA-256 of the canonical JSON; equal means no new version",
        ),
        sa.Column("trigger_type", sa.Text(), nullable=False, comment="for the list filter"),
        sa.Column("node_types", sa.Text(), nullable=False, comment="space-separated, with leading and trailing space"),
        sa.Column(
            "connector_types", sa.Text(), nullable=False, comment="space-separated, with leading and trailing space"
        ),
        sa.Column("node_count", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=True),
        sa.Column("published_by", sa.Text(), nullable=True),
        sa.Column(
            "author_wallets",
            sa.Text(),
            nullable=True,
            comment="what its author could spend from: null: nothing; *: all; else JSON list",
        ),
        sa.ForeignKeyConstraint(["workflow_id"], ["workflows.id"], name=op.f("fk_workflow_versions_workflow_id")),
        sa.PrimaryKeyConstraint("workflow_id", "version", name=op.f("pk_workflow_versions")),
    )
    op.create_table(
        "version_acceptances",
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, comment="of the version's closure as it was accepted"),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column(
            "members", sa.Text(), nullable=False, comment="JSON: [workflow, version] of everything in that closure"
        ),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workflow_id", "version"],
            ["workflow_versions.workflow_id", "workflow_versions.version"],
            name=op.f("fk_version_acceptances_workflow_id"),
        ),
        sa.PrimaryKeyConstraint("workflow_id", "version", "digest", "key_id", name=op.f("pk_version_acceptances")),
    )
    op.create_table(
        "message_runs",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("run_pk", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_message_runs_message_id")),
        sa.ForeignKeyConstraint(["run_pk"], ["runs.pk"], name=op.f("fk_message_runs_run_pk")),
        sa.PrimaryKeyConstraint("message_id", "run_pk", name=op.f("pk_message_runs")),
    )
    op.create_index("ix_message_runs_run_pk", "message_runs", ["run_pk"], unique=False)
    op.create_table(
        "transaction_attempts",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="from 1"),
        sa.Column("kind", sa.Text(), nullable=False, comment="send, replace, cancel"),
        sa.Column("raw", sa.Text(), nullable=False, comment="signed bytes, stored before they are sent"),
        sa.Column("gas_limit", sa.BigInteger(), nullable=False),
        sa.Column("max_fee", sa.Text(), nullable=False),
        sa.Column("tip", sa.Text(), nullable=False),
        sa.Column("is_legacy", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True, comment="when an endpoint first accepted it"),
        sa.Column("tried_at", sa.BigInteger(), nullable=True, comment="when it was last sent"),
        sa.Column("reply", sa.Text(), nullable=True, comment="last reply of an endpoint"),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["transactions.id"], name=op.f("fk_transaction_attempts_transaction_id")
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_transaction_attempts")),
    )
    op.create_index(
        "ix_transaction_attempts_transaction_id_number",
        "transaction_attempts",
        ["transaction_id", "number"],
        unique=True,
    )
