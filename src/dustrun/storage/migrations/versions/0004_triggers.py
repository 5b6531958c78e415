"""Subscriptions of published triggers, their events, and the gaps in what was scanned."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Applies it. Triggers of workflows that are active now were never armed: `manual` was the only one."""
    op.add_column(
        "workflows",
        sa.Column(
            "last_triggered_at", sa.BigInteger(), nullable=True, comment="when a trigger last started a live run"
        ),
    )
    op.add_column(
        "workflows",
        sa.Column(
            "failures_in_row", sa.Integer(), nullable=False, server_default="0", comment="of live runs by triggers"
        ),
    )
    _add_subscriptions()
    _add_events()
    _add_gaps()


def _add_subscriptions() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("pk", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, comment="the version that its events run"),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False, comment="JSON: the node's payload"),
        sa.Column("state", sa.Text(), nullable=False, comment="armed, paused, ended, failed"),
        sa.Column("state_reason", sa.Text(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=False, comment="live, simulate, dust: how its events run"),
        sa.Column("cursor", sa.Text(), nullable=True, comment="JSON: how far it has come; null: from armed_at on"),
        sa.Column(
            "cursor_version", sa.BigInteger(), server_default="0", nullable=False, comment="rises with each move"
        ),
        sa.Column("next_at", sa.BigInteger(), nullable=True, comment="when it is due; null: not by time"),
        sa.Column(
            "principal",
            sa.Text(),
            nullable=False,
            comment="JSON: the key in whose name it runs, as it was when published",
        ),
        sa.Column(
            "failures", sa.Integer(), server_default="0", nullable=False, comment="failed attempts to watch, in a row"
        ),
        sa.Column("armed_at", sa.BigInteger(), nullable=False),
        sa.Column("last_event_at", sa.BigInteger(), nullable=True, comment="when an event of it last started a run"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_subscriptions_org_id")),
        sa.ForeignKeyConstraint(["workflow_id"], ["workflows.id"], name=op.f("fk_subscriptions_workflow_id")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_subscriptions")),
        sa.UniqueConstraint("id", name=op.f("uq_subscriptions_id")),
    )
    op.create_index(
        "ix_subscriptions_workflow_id_node_id_type", "subscriptions", ["workflow_id", "node_id", "type"], unique=True
    )
    is_armed = sa.text("state = 'armed'")
    op.create_index(
        "ix_subscriptions_armed",
        "subscriptions",
        ["type", "pk"],
        unique=False,
        sqlite_where=is_armed,
        postgresql_where=is_armed,
    )


def _add_events() -> None:
    op.create_table(
        "trigger_events",
        sa.Column("pk", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("subscription_pk", sa.BigInteger(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="its identity within the subscription"),
        sa.Column("mode", sa.Text(), nullable=False, comment="live, simulate, dust"),
        sa.Column("outcome", sa.Text(), nullable=False, comment="started, skipped, failed, orphaned"),
        sa.Column(
            "reason",
            sa.Text(),
            nullable=True,
            comment="a word: cooldown, exhausted, paused …; null if it started a run",
        ),
        sa.Column("message", sa.Text(), nullable=True, comment="the reason as a sentence"),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("payload", sa.Text(), nullable=False, comment="JSON"),
        sa.Column("request", sa.Text(), nullable=True, comment="JSON: {method, headers, query}, secrets masked"),
        sa.Column("replay_of", sa.Text(), nullable=True, comment="the event that it repeats"),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["subscription_pk"], ["subscriptions.pk"], name=op.f("fk_trigger_events_subscription_pk")
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_trigger_events")),
        sa.UniqueConstraint("id", name=op.f("uq_trigger_events_id")),
    )
    op.create_index("ix_trigger_events_subscription_pk_key", "trigger_events", ["subscription_pk", "key"], unique=True)
    op.create_index("ix_trigger_events_org_id_pk", "trigger_events", ["org_id", "pk"], unique=False)
    op.create_index("ix_trigger_events_workflow_id_pk", "trigger_events", ["workflow_id", "pk"], unique=False)


def _add_gaps() -> None:
    op.create_table(
        "trigger_gaps",
        sa.Column("pk", _ROW_ID, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("subscription_pk", sa.BigInteger(), nullable=False),
        sa.Column("range", sa.Text(), nullable=False, comment="JSON: {fromBlock, toBlock} or {from, to}"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="open, replaying, replayed"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("replayed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["subscription_pk"], ["subscriptions.pk"], name=op.f("fk_trigger_gaps_subscription_pk")
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_trigger_gaps")),
        sa.UniqueConstraint("id", name=op.f("uq_trigger_gaps_id")),
    )
    op.create_index("ix_trigger_gaps_workflow_id_pk", "trigger_gaps", ["workflow_id", "pk"], unique=False)
