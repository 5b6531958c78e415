"""Starts a run whenever an NFT of a collection moves (ERC-721 and ERC-1155).

Mints come from the zero address, burns go to it. `address` and `direction` choose whose NFTs count, `tokenIds` which.
The kind is read from each log, so one trigger can watch collections of both. A batch of ERC-1155 starts one run, whose
`items` are those of its tokens that count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from dustrun.core.evm.abi_signatures import parse_event
from dustrun.core.triggers.chain.queries import LogQuery
from dustrun.core.triggers.chain.watch import ChainLog, ChainWatch
from dustrun.core.values.amounts import read_units
from dustrun.sdk.trigger import Finding, TriggerContext, chain
from dustrun.triggers._event_output import example_output
from dustrun.triggers.chain.chain_config import (
    BLOCK,
    HOLDER,
    OTHER,
    TRANSACTION,
    Addresses,
    ChainOutput,
    FromBlock,
    check_watched,
)

_BORED_APES: Final = "0xBC4CA0EdA7647A8aB7C2061c2E118A18a936f13D"
_ONE_OF: Final = parse_event("Transfer(address indexed from, address indexed to, uint256 indexed tokenId)")
_SINGLE: Final = parse_event(
    "TransferSingle(address indexed operator, address indexed from, address indexed to, uint256 id, uint256 value)"
)
_BATCH: Final = parse_event(
    "TransferBatch(address indexed operator, address indexed from, address indexed to, uint256[] ids, uint256[] values)"
)
_MOST_IDS: Final = 1000


def _read_ids(value: Any) -> tuple[int, ...]:
    several = value if isinstance(value, list | tuple) else [value]
    if not 1 <= len(several) <= _MOST_IDS:
        raise ValueError(f"must be a token id, or a list of 1 to {_MOST_IDS} ids")
    return tuple(dict.fromkeys(read_units(one) for one in several))


_ID: Final = {"anyOf": [{"type": "string", "pattern": "^[0-9]{1,78}$"}, {"type": "integer", "minimum": 0}]}
TokenIds = Annotated[
    tuple[int, ...],
    BeforeValidator(_read_ids),
    WithJsonSchema({"anyOf": [*_ID["anyOf"], {"type": "array", "items": _ID, "minItems": 1, "maxItems": _MOST_IDS}]}),
]


class Config(FromBlock):
    """Which transfers start a run."""

    contract: Addresses = Field(description="The collection's contract, or a list of contracts.")
    address: Addresses | None = Field(
        None, description="Whose transfers count: an address, or a list of addresses; null: everybody's."
    )
    direction: Literal["from", "to", "any"] = Field(
        "any", description="Whether the address sends (`from`), receives (`to`), or either."
    )
    token_ids: TokenIds | None = Field(None, description="The ids of the tokens that count; null: all.")


class Output(ChainOutput):
    """One transfer."""

    contract: str = Field(description="The collection.")
    standard: Literal["erc721", "erc1155"] = Field(description="What the log says that it is.")
    operator: str | None = Field(description="Who moved it, as the log says; null for ERC-721.")
    sender: str = Field(description="Who had it; the zero address: it was minted.")
    recipient: str = Field(description="Who has it now; the zero address: it was burnt.")
    token_id: str | None = Field(description="The token's id; null if `items` has several.")
    amount: str | None = Field(description="How many of it, 1 for ERC-721; null if `items` has several.")
    items: list[dict[str, str]] = Field(description="All of them, as `tokenId` and `amount`.")
    transaction_hash: str = Field(description="Its transaction.")
    transaction_index: int = Field(description="The transaction's place in the block.")
    log_index: int = Field(description="The transfer's log in the block.")
    position: int = Field(description="The log's place in its transaction when it was first seen.")


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    return await check_watched(ctx, config, [("contract", one) for one in config.contract])


def _read(log: ChainLog) -> tuple[str, dict[str, Any], list[tuple[int, int]]] | None:
    """The standard, the log's values, and ids with amounts; None for another event, such as ERC-20's `Transfer`."""
    topics = log.topic_bytes
    values = _ONE_OF.find(topics, log.data)
    if values is not None:
        return "erc721", values, [(values["tokenId"], 1)]
    values = _SINGLE.find(topics, log.data)
    if values is not None:
        return "erc1155", values, [(values["id"], values["value"])]
    values = _BATCH.find(topics, log.data)
    if values is None or len(values["ids"]) != len(values["values"]):
        return None
    return "erc1155", values, list(zip(values["ids"], values["values"], strict=True))


_EXAMPLE = {
    **BLOCK,
    **TRANSACTION,
    "logIndex": 12,
    "position": 0,
    "contract": _BORED_APES,
    "standard": "erc721",
    "operator": None,
    "sender": OTHER,
    "recipient": HOLDER,
    "tokenId": "1234",
    "amount": "1",
    "items": [{"tokenId": "1234", "amount": "1"}],
}


@chain(
    config=Config,
    output=Output,
    check=_check,
    example_config={
        "chainId": 1,
        "contract": _BORED_APES,
        "address": HOLDER,
        "direction": "to",
        "confirmations": 12,
    },
    example_output=example_output(_EXAMPLE, "nft-transfer"),
)
def watch(config: Config) -> ChainWatch:
    """Asks for the transfers of the collections. The two standards have the addresses at different places of a log, so
    they are compared here."""
    addresses = None if config.address is None else frozenset(config.address)
    ids, direction = None if config.token_ids is None else frozenset(config.token_ids), config.direction

    def match(log: ChainLog) -> Mapping[str, Any] | None:
        found = _read(log)
        if found is None:
            return None
        standard, values, moved = found
        if addresses is not None:
            is_sender = direction != "to" and values["from"] in addresses
            if not is_sender and not (direction != "from" and values["to"] in addresses):
                return None
        moved = [one for one in moved if ids is None or one[0] in ids]
        if not moved:
            return None
        items = [{"tokenId": str(token_id), "amount": str(amount)} for token_id, amount in moved]
        only = items[0] if len(items) == 1 else {"tokenId": None, "amount": None}
        parties = {"operator": values.get("operator"), "sender": values["from"], "recipient": values["to"]}
        return {"standard": standard, **parties, **only, "items": items}

    topics = frozenset(f"0x{event.topic.hex()}" for event in (_ONE_OF, _SINGLE, _BATCH))
    query = LogQuery(frozenset(one.lower() for one in config.contract), (topics,))
    return ChainWatch(**config.watched, query=query, match_log=match)
