"""What a search finds runs by that ended with an error or a message."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0053"
down_revision = "0052"


def upgrade() -> None:
    """Applies it, also for the runs that there are."""
    op.create_table(
        "run_words",
        sa.Column("run_pk", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=False, nullable=False),
        sa.Column("words", sa.Text(), nullable=False, comment="what a search finds it by"),
        sa.PrimaryKeyConstraint("run_pk", name=op.f("pk_run_words")),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute("CREATE VIRTUAL TABLE run_search USING fts5(words, content='run_words', content_rowid='run_pk')")
        op.execute(
            "CREATE TRIGGER run_search_insert AFTER INSERT ON run_words BEGIN"
            " INSERT INTO run_search (rowid, words) VALUES (new.run_pk, new.words); END"
        )
        op.execute(
            "CREATE TRIGGER run_search_delete AFTER DELETE ON run_words BEGIN"
            " INSERT INTO run_search (run_search, rowid, words) VALUES ('delete', old.run_pk, old.words); END"
        )
    else:
        op.execute(
            "CREATE INDEX ix_run_words_words ON run_words"
            " USING gin (to_tsvector('simple', translate(words, './:@_-', '      ')))"
        )
    op.execute(
        "INSERT INTO run_words (run_pk, words) SELECT pk, substr(replace(org_id, '_', '') || ' ' || id || ' ' ||"
        " workflow_name || ' ' || coalesce(summary, '') || ' ' || coalesce(error, ''), 1, 2000) FROM runs"
        " WHERE error IS NOT NULL OR summary IS NOT NULL"
    )
