"""Which wallet the expression of a node's connector may give."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun.core.workflow.definition import ANY_WALLET, ConnectorReference, choose
from dustrun.errors import Invalid

NO_ID = "The expression does not give the id of a wallet (wal_…); GET /v1/wallets lists the ids."


def reference(*one_of: str, id: str = "{{$item.wallet}}") -> ConnectorReference:
    return ConnectorReference(type="wallet", id=id, one_of=one_of or None)


def test_the_wallets_of_a_reference_are_the_listed_ones_or_all() -> None:
    assert reference(id="wal_1").wallets == ("wal_1",)
    assert reference("wal_1", "wal_2").wallets == ("wal_1", "wal_2")
    assert reference().wallets == (ANY_WALLET,)


def test_a_listed_wallet_is_chosen() -> None:
    assert choose(reference("wal_1", "wal_2"), "wal_2") == reference(id="wal_2")
    assert choose(reference(), "wal_3") == reference(id="wal_3")


@pytest.mark.parametrize("value", [None, "", 5, [], "alice", "*", "wal_", "wal_1 ", "conn_1", "wal_" + "1" * 65])
def test_what_is_no_id_is_refused_and_not_quoted(value: Any) -> None:
    with pytest.raises(Invalid) as refused:
        choose(reference(), value)
    assert refused.value.public_details() == [{"field": "connector.id", "message": NO_ID}]


def test_a_wallet_that_is_not_listed_is_refused() -> None:
    with pytest.raises(Invalid) as refused:
        choose(reference("wal_1"), "wal_2")
    expected = 'connector.id: The expression gives the wallet "wal_2", which connector.oneOf does not list.'
    assert refused.value.message == expected
