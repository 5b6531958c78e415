"""Intents as actions would return them."""

from __future__ import annotations

from typing import Any

from dustrun.core.money.intent import Intent, Movement
from dustrun.core.values.amounts import Asset
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.contracts import Witness


def pay(to: str, units: int, **fields: Any) -> Intent:
    """Sends native coin."""
    movement = Movement("send", Asset(CHAIN_ID), units, to)
    return Intent("pay", CHAIN_ID, to, units, b"", (movement,), "pays", **fields)


def call(witness: Witness, name: str, function: str, *args: Any, value: int = 0, **fields: Any) -> Intent:
    """Calls a contract."""
    abi = witness.contract(name).abi
    errors = tuple(entry for entry in abi if entry["type"] == "error")
    data = witness.data(name, function, *args)
    return Intent(function, CHAIN_ID, witness.addresses[name], value, data, (), function, errors=errors, **fields)


def create(code: bytes, value: int = 0) -> Intent:
    """Creates a contract."""
    return Intent("create", CHAIN_ID, None, value, code, (), "creates")
