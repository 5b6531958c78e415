"""Waits until a transaction has a number of confirmations.

Use it for transactions that somebody else made. Transactions that a node of this server sends need no waiting: the node
succeeds only when they are final.

One attempt polls once per block for at most `pollMs` (which should stay below the node's `timeoutMs`). If that is not
enough, the attempt fails as a temporary failure, and the node's `retry` decides how long to continue: with
`{"maxAttempts": 20, "backoffMs": 10000}` the node waits for some 15 minutes, holds no connection or worker between
attempts, and continues after a restart of the server. A transaction that failed on the chain fails the node
permanently, unless `allowFailed` is set. An unknown hash is waited for too, since a new transaction takes a moment to
propagate.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from pydantic import Field

from dustrun.actions.evm.fields import ChainId
from dustrun.actions.evm.get_transaction import HASH, status_of
from dustrun.errors import Permanent, Temporary
from dustrun.sdk import Context, Effect, Fields, Origin, action
from dustrun.sdk.chain import ChainTransaction

_SHORTEST_MS: Final = 250
_LONGEST_MS: Final = 15_000


class Input(Fields):
    """The transaction and the confirmations."""

    chain_id: ChainId
    hash: str | None = Field(pattern=HASH, description="Its hash; null if there is none to wait for.")
    confirmations: int | None = Field(
        None, ge=1, le=10_000, description="Confirmations, counting its own block; default is the chain's."
    )
    poll_ms: int = Field(
        45_000, ge=0, le=3_600_000, description=("How long one attempt polls, in milliseconds; 0 polls once.")
    )
    allow_failed: bool = Field(
        False, description=("Whether to return a transaction that failed on the chain instead of failing.")
    )


class Output(Fields):
    """The transaction's result."""

    hash: str | None = Field(description="Its hash.")
    status: Literal["success", "failed", "none"] = Field(description="Its status; `none` if there was no transaction.")
    block_number: int | None = Field(description="Number of its block.")
    confirmations: int = Field(description="Confirmations, counting its own block.")


def _settle(found: ChainTransaction | None, input: Input, hash: str, needed: int) -> Output | None:
    """The result, once it has enough confirmations; raises `Permanent` for a failed transaction."""
    if found is None or found.block_number is None or found.confirmations < needed:
        return None
    status = status_of(found)
    if status != "success" and not input.allow_failed:
        raise Permanent(f"The transaction {hash} failed in block {found.block_number}.")
    return Output(
        hash=hash,
        status="success" if status == "success" else "failed",
        block_number=found.block_number,
        confirmations=found.confirmations,
    )


def _status(found: ChainTransaction | None, needed: int) -> str:
    if found is None:
        return "is not known to the chain"
    if found.block_number is None:
        return "is waiting to be included"
    return f"has {found.confirmations} of {needed} confirmations"


@action(
    effect=Effect.READ,
    input=Input,
    output=Output,
    example_input={
        "chainId": 1,
        "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "confirmations": 3,
        "pollMs": 0,
    },
    example_output={
        "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "status": "success",
        "blockNumber": 21000000,
        "confirmations": 3,
    },
    origins=[Origin("chain", "chainId")],
    tags=("evm", "transaction"),
)
async def wait_for_confirmations(input: Input, ctx: Context) -> Output:
    """Polls once per block."""
    chain = ctx.chain(input.chain_id)
    if input.hash is None:
        return Output(hash=None, status="none", block_number=None, confirmations=0)
    hash = input.hash.lower()
    needed = input.confirmations or chain.network.confirmations
    step_ms = min(max(chain.network.block_time_ms, _SHORTEST_MS), _LONGEST_MS)
    status = ""
    for attempt in range(1 + input.poll_ms // step_ms):
        if attempt:
            await asyncio.sleep(step_ms / 1000)
        found = await chain.find_transaction(hash)
        result = _settle(found, input, hash, needed)
        if result is not None:
            return result
        if (now := _status(found, needed)) != status:
            status = now
            ctx.progress(f"The transaction {status}.")
    raise Temporary(f"The transaction {hash} {status} so far.", retry_after_s=step_ms / 1000)
