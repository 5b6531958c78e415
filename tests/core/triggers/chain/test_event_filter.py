"""Filters over an event's arguments: exact, checked when published, and asked of the node where it can filter."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun.core.evm.abi import AbiFault
from dustrun.core.expression import ExpressionError
from dustrun.core.triggers.chain.event_filter import TRANSFER, FilterFault, compile_filter, read_event, word_of

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
LOG: dict[str, Any] = {"address": ADDRESS, "blockNumber": 7, "transactionHash": f"0x{'1' * 64}"}
ARGS: dict[str, Any] = {"from": ADDRESS, "to": f"0x{'0' * 40}", "value": 2**200}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("value >= 1000000", True),
        (f"value == {2**200}", True),
        (f"value == {2**200 + 1}", False),
        (f'from == "{ADDRESS.lower()}" && value > 1', True),
        (f'to != "{ADDRESS}"', True),
        (f'to in ["{ADDRESS.lower()}", "0x0000000000000000000000000000000000000000"]', True),
        ("args.value > 1", True),
        ("log.blockNumber == 8", False),
    ],
)
def test_filter(text: str, holds: bool) -> None:
    assert compile_filter(text, TRANSFER).holds(ARGS, LOG) is holds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("valu > 1", 'the event Transfer has no field "valu". Did you mean "value"?'),
        ("args.amount > 1", 'the event Transfer has no field "amount". Its fields are from, to, value.'),
        ("$trigger.body.value > 1", 'has no field "$trigger"'),
        ("log.index > 1", '"log" has no "index"; it has address, blockNumber, transactionHash'),
        ("value >", "does not parse"),
        ("value", "must be true or false"),
        ("from > 5", "does not fit the event's types"),
        ('from == "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"', "checksum"),
    ],
)
def test_filter_that_cannot_work_is_refused(text: str, reason: str) -> None:
    with pytest.raises(FilterFault) as fault:
        compile_filter(text, TRANSFER)
    assert reason in str(fault.value)


def test_filter_that_fails_on_a_value_says_so() -> None:
    condition = compile_filter("10 / value > 1", TRANSFER)
    with pytest.raises(ExpressionError):
        condition.holds({**ARGS, "value": 0}, LOG)


@pytest.mark.parametrize(
    ("text", "topics"),
    [
        (f'to == "{ADDRESS.lower()}"', (None, word_of(ADDRESS))),
        (f'"{ADDRESS}" == from && value > 1', (word_of(ADDRESS), None)),
        (f'from == "{ADDRESS}" || value > 1', (None, None)),
        (f'to != "{ADDRESS}"', (None, None)),
        ("value > 1", (None, None)),
    ],
)
def test_topics_that_a_filter_demands(text: str, topics: tuple[str | None, ...]) -> None:
    assert compile_filter(text, TRANSFER).topics == topics


def test_topic_of_a_number_and_of_bytes() -> None:
    event = read_event("event Set(uint256 indexed id, bytes32 indexed key, bool indexed isOn)")
    key = "ab" * 32
    assert compile_filter(f'id == 255 && key == "0x{key}" && isOn == true', event).topics == (
        f"0x{255:064x}",
        f"0x{key}",
        f"0x{1:064x}",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Transfer", "is not a signature"),
        ("Transfer(address indexed, address to)", "has no name"),
        ("Transfer(addres from)", "addres"),
        ("Two(uint256 a, uint8 a)", 'two arguments of Two are named "a"'),
        ("Many(uint8 indexed a, uint8 indexed b, uint8 indexed c, uint8 indexed d)", "more than 3 indexed"),
    ],
)
def test_signature_that_does_not_parse_is_refused(text: str, reason: str) -> None:
    with pytest.raises(AbiFault) as fault:
        read_event(text)
    assert reason in fault.value.message
