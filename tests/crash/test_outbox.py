"""The small version of `scripts/soak outbox`."""

from __future__ import annotations

from bench import soak_outbox


def test_every_transfer_is_paid_exactly_once_whatever_goes_wrong() -> None:
    found = soak_outbox.run(3, seed=20_262, transfers="50", block="200", loops="0")
    assert found["failures"] == []
    assert found["counts"]["kills"] >= 3
    assert found["counts"]["nonce"] >= 50
