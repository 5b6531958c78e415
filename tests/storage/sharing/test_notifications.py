"""Notifications between the processes of a shared store."""

from __future__ import annotations

import sqlalchemy as sa

from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Statement
from dustrun.storage.sharing import notifications
from testkit.postgres import Cluster

_SYNCS = Statement(sa.text("SHOW synchronous_commit"))


def test_a_notification_does_not_wait_for_the_disk_and_what_follows_does(cluster: Cluster) -> None:
    url = cluster.fresh()
    database = Database(url, is_shared=True)
    try:
        tx = database.begin()
        notifications.send(tx, "[]")
        within = tx.one(_SYNCS)
        database.commit()
        after = database.read_now(lambda tx: tx.one(_SYNCS))
        tx = database.begin()
        next_one = tx.one(_SYNCS)
        database.commit()
    finally:
        database.close()
        cluster.drop(url)
    assert (within, after, next_one) == (("off",), ("on",), ("on",))
