"""Turns of the assistant: what it is doing, what it said and called, and what a stream shows of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
_STREAMING = sa.text("status = 'streaming'")


def upgrade() -> None:
    """Applies it."""
    op.create_table(
        "turns",
        sa.Column("message_id", sa.Text(), nullable=False, comment="the assistant's message"),
        sa.Column("question_id", sa.Text(), nullable=False, comment="the person's message"),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False, comment="whose assistant it is"),
        sa.Column("status", sa.Text(), nullable=False, comment="streaming, complete, failed"),
        sa.Column("failure", sa.Text(), nullable=True, comment="BUDGET, MODEL, INTERRUPTED, TOOL_LOOP"),
        sa.Column(
            "usage", sa.Text(), nullable=False, comment="JSON: {requests, calls, inputTokens, outputTokens, costUsd}"
        ),
        sa.Column("cost", sa.Text(), nullable=False, comment="US dollars, with what the request under way may cost"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"]),
        sa.ForeignKeyConstraint(["question_id"], ["messages.id"]),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"]),
        sa.PrimaryKeyConstraint("message_id"),
    )
    op.create_index("ix_turns_key_id_created_at", "turns", ["key_id", "created_at"])
    op.create_index(
        "ix_turns_streaming",
        "turns",
        ["conversation_id"],
        unique=True,
        sqlite_where=_STREAMING,
        postgresql_where=_STREAMING,
    )
    op.create_table(
        "message_parts",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="text, tool_call, tool_result, run"),
        sa.Column("body", sa.Text(), nullable=False, comment="JSON"),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"]),
        sa.PrimaryKeyConstraint("message_id", "seq"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "turn_events",
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False, comment="JSON object without type, seq, messageId and at"),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"]),
        sa.PrimaryKeyConstraint("conversation_id", "seq"),
        sqlite_with_rowid=False,
    )
