"""Hooks while the server is killed: a small cut of `scripts/soak hooks`."""

from __future__ import annotations

from bench import soak_hooks


def test_every_event_arrives_in_order_although_the_server_is_killed() -> None:
    found = soak_hooks.run(2, seed=7, runs="6", speed="3600")
    assert found["failures"] == []
    assert found["events"] >= 6 * 8
    assert all(told["arrived"] == found["events"] for told in found["receivers"].values())
