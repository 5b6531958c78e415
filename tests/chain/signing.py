"""Transactions that the tests sign by themselves, past the product's signers."""

from __future__ import annotations

from eth_account import Account

from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, KEYS

BOB = ACCOUNTS[2]


def signed(nonce: int, *, value: int = 1, max_fee: int = 100 * 10**9, to: str = BOB, gas: int = 21_000) -> bytes:
    """A transfer that ALICE signed."""
    fields = {
        "type": 2,
        "chainId": CHAIN_ID,
        "nonce": nonce,
        "to": to,
        "value": value,
        "gas": gas,
        "maxFeePerGas": max_fee,
        "maxPriorityFeePerGas": 10**9,
    }
    return bytes(Account.sign_transaction(fields, KEYS[1]).raw_transaction)
