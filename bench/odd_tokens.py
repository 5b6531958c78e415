"""Tokens that behave oddly, beside those of the test chain: put onto a node of their own proof.

One moves without an event or a return value, one keeps a share that depends on the block, one raises all balances with
each transfer, and one calls hooks of sender and recipient, as ERC-777 does.
"""

from __future__ import annotations

from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import TOKENS, Witness

ODD = {"SilentToken": 6, "ClockToken": 18, "GrowingToken": 18, "HookedToken": 18}
DECIMALS = {**TOKENS, **ODD}
REBASING = ("rebasing", "GrowingToken")  # balances of others change without an event
_HOOKED = ACCOUNTS[2]


def deploy_odd_tokens(witness: Witness, heir: str) -> None:
    """A million of each for every account; one wallet and one contract have a hook, which pays the heir. Adds their
    addresses."""
    at = witness.addresses
    for name, decimals in ODD.items():
        at[name] = witness.deploy(name)
        for account in ACCOUNTS:
            witness.send(name, "mint", account, 10 ** (6 + decimals))
    at["Splitter"] = witness.deploy("Splitter", at["HookedToken"], heir)
    witness.send("HookedToken", "setHook", at["Splitter"], sender=_HOOKED)
    witness.send("HookedToken", "approve", at["Splitter"], 10**30, sender=_HOOKED)
