"""Sends an NFT (a token of an ERC-721 collection) to an address.

Use it for one token that the wallet owns. By default the recipient contract is asked whether it can hold it
(`safeTransferFrom`): a contract that cannot would lock it up forever. The policy counts one token of the collection.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from dustrun.actions.evm.contract_calls import check_code
from dustrun.actions.evm.fields import ChainId, Party, TransactionFields, Units, name_of, transaction_facts
from dustrun.core.evm.abi import AbiFault
from dustrun.core.evm.abi_signatures import error_entry, parse_event, parse_function
from dustrun.core.money.intent import FundsMovement, Intent, Movement, Spend, Spent
from dustrun.core.values.amounts import Asset
from dustrun.errors import Permanent
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.action import refuse
from dustrun.sdk.chain import Chain, ChainCall

_OWNER: Final = parse_function("ownerOf(uint256 tokenId) view returns (address)")
_SAFE: Final = parse_function("safeTransferFrom(address from, address to, uint256 tokenId)")
_PLAIN: Final = parse_function("transferFrom(address from, address to, uint256 tokenId)")
_MOVED: Final = parse_event("Transfer(address indexed from, address indexed to, uint256 indexed tokenId)")
_ERRORS: Final = tuple(
    error_entry(text)
    for text in (
        "ERC721NonexistentToken(uint256 tokenId)",
        "ERC721IncorrectOwner(address sender, uint256 tokenId, address owner)",
        "ERC721InvalidReceiver(address receiver)",
        "ERC721InsufficientApproval(address operator, uint256 tokenId)",
    )
)


class Input(Fields):
    """The token and its recipient."""

    chain_id: ChainId
    contract: Party = Field(description="Address of the collection.")
    token_id: Units = Field(description="Token id, as a string of digits.")
    recipient: Party = Field(description="Recipient address.")
    safe: bool = Field(True, description="Whether a recipient contract must confirm that it can hold it.")


class Output(TransactionFields):
    """The transfer."""

    contract: str = Field(description="The collection.")
    token_id: str = Field(description="The piece.")
    recipient: str = Field(description="Recipient address.")


async def _check_owner(chain: Chain, input: Input, sender: str) -> None:
    await check_code(chain, input.contract)
    data = await chain.call(ChainCall(input.contract, _OWNER.encode(input.token_id)))
    try:
        owner = _OWNER.decode_result(data)[0]
    except AbiFault:
        raise refuse(
            (f"the contract {input.contract} is not an ERC-721: it does not answer ownerOf()"), "contract"
        ) from None
    if owner != sender:
        raise refuse(f"the token {input.token_id} belongs to {owner}, not to the wallet {sender}", "tokenId")


async def finish(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Builds the output from the collection's event."""
    receipt = spent.receipts[0]
    wanted = {"from": ctx.wallet.address, "to": input.recipient, "tokenId": input.token_id}
    if not any(log.address == input.contract and _MOVED.find(log.topics, log.data) == wanted for log in receipt.logs):
        raise Permanent(f"{name_of(receipt)} succeeded, but {input.contract} emitted no matching Transfer event.")
    return Output(
        **transaction_facts(receipt, ctx.chain(input.chain_id).network),
        contract=input.contract,
        token_id=str(input.token_id),
        recipient=input.recipient,
    )


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={
        "chainId": 1,
        "contract": "0xBC4CA0EdA7647A8aB7C2061c2E118A18a936f13D",
        "tokenId": "1234",
        "recipient": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    },
    example_output={
        "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "blockNumber": 21000000,
        "gasUsed": "61330",
        "fee": "1226600000000000",
        "feeFormatted": "0.0012266",
        "explorerUrl": "https://etherscan.io/tx/0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "contract": "0xBC4CA0EdA7647A8aB7C2061c2E118A18a936f13D",
        "tokenId": "1234",
        "recipient": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    },
    funds_movement=[FundsMovement("send", None, token_field="contract", recipient_field="recipient", scales=False)],
    finish=finish,
    tags=("evm", "transfer", "nft"),
)
async def send_erc721(input: Input, ctx: Context) -> Spend:
    """Checks the owner, then returns the intent."""
    chain, sender = ctx.chain(input.chain_id), ctx.wallet.address
    await _check_owner(chain, input, sender)
    if input.recipient == input.contract:
        raise refuse("the recipient is the collection itself; what is sent there is lost", "recipient")
    function = _SAFE if input.safe else _PLAIN
    data = function.encode(sender, input.recipient, input.token_id)
    piece = Asset(input.chain_id, input.contract)
    intent = Intent(
        item="send",
        chain_id=input.chain_id,
        to=input.contract,
        value_units=0,
        data=data,
        movements=(Movement("send", piece, 1, input.recipient),),
        about=f"Send token {input.token_id} of {input.contract} to {input.recipient} on {chain.network.name}",
        method=function.signature,
        errors=_ERRORS,
    )
    return Spend((intent,))
