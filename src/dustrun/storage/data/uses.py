"""Which workflows use an object, told by the text of their definitions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from dustrun.storage.db.tables import workflow_versions as v
from dustrun.storage.db.tables import workflows as w


def used_by_others(org_id: str, own: Collection[str], *texts: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether the draft or live version of an unarchived workflow other than `own` contains one of the texts."""
    mentions: list[Any] = [v.c.definition.contains(text) for text in texts]
    return (
        sa.select(sa.literal(1))
        .select_from(w.join(v, v.c.workflow_id == w.c.id))
        .where(
            w.c.org_id == org_id,
            w.c.id.not_in(sorted(own)),
            w.c.status != "archived",
            sa.or_(v.c.version == w.c.draft_version, v.c.version == w.c.live_version),
            sa.or_(*mentions),
        )
        .exists()
    )
