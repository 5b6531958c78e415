"""What may differ between a simulation and its run, and why: everything else is a failure of the proof of fidelity."""

from __future__ import annotations

from typing import Final

FIELDS: Final = {
    **dict.fromkeys(("hash", "blockNumber", "explorerUrl", "approvalHash"), "only a real transaction has it"),
    **dict.fromkeys(
        ("gasUsed", "fee", "feeFormatted", "totalFee"), "gas is an estimate; its price changes from block to block"
    ),
    "triggeredAt": "the moment at which the run started",
    "runId": "each run calls runs of its own",
}
"""Fields of a result that are not compared, with the reason."""

TEXTS: Final = {
    r"has [0-9.]+ ETH": "what a wallet has left depends on the fees that it paid",
    r"\b(run|tx)_[0-9A-Za-z]+": "each run calls runs of its own",
    r"[Tt]he fee of [0-9]+ per unit of gas": "the price of gas changes from block to block",
    r"It was (simulated|spent \(0x[0-9a-f]{64}\))|[Tt]he (simulated transaction|transaction 0x[0-9a-f]{64})": (
        "only a real transaction has a hash"
    ),
}
"""Parts of a text that are not compared, with the reason."""

OTHER_BLOCK: Final = (
    "a transfer of a token whose fee depends on the block, when it came into another block than simulated: a "
    "transaction that would revert takes a block in a simulation, and is not sent in a live run. Its gas differs too, "
    "so a ceiling on gas may refuse what was simulated: no ceiling is drawn for a wallet that sends the token"
)
UNSEEN_HOLDER: Final = (
    "a balance of a rebasing token that changed without an event, of a holder at whom the transaction does not point"
)
# What `compare` says of the first case: what arrived, and what the token kept.
OF_THE_BLOCK: Final = r"amountReceived|Event \d+(:|, Transfer value)|CLOCK"
PRICES: Final = (
    "a warning that depends on a price: prices are read from the real chain at the moment, and a run may itself change "
    "the feed that they come from"
)
PRICED_WARNINGS: Final = ("LARGE_VALUE", "SLIPPAGE")
STARTED: Final = (
    "a call that is only started counts as assumed when what it started did not pass: a live run does not wait for it, "
    "but a rehearsal must not pass then"
)
