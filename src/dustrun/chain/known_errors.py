"""Signatures of common contract errors, so that a revert can be named without the contract's ABI.

ERC-6093 (tokens), EIP-2612 and OpenZeppelin Contracts 5 (access, proxies, cryptography, …), Permit2, Uniswap's routers
and V4. Cryptic short reasons of older contracts are explained in words.
"""

from __future__ import annotations

from typing import Final

SIGNATURES: Final = """
ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed)
ERC20InvalidSender(address sender)
ERC20InvalidReceiver(address receiver)
ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed)
ERC20InvalidApprover(address approver)
ERC20InvalidSpender(address spender)
ERC721InvalidOwner(address owner)
ERC721NonexistentToken(uint256 tokenId)
ERC721IncorrectOwner(address sender, uint256 tokenId, address owner)
ERC721InvalidSender(address sender)
ERC721InvalidReceiver(address receiver)
ERC721InsufficientApproval(address operator, uint256 tokenId)
ERC721InvalidApprover(address approver)
ERC721InvalidOperator(address operator)
ERC1155InsufficientBalance(address sender, uint256 balance, uint256 needed, uint256 tokenId)
ERC1155InvalidSender(address sender)
ERC1155InvalidReceiver(address receiver)
ERC1155MissingApprovalForAll(address operator, address owner)
ERC1155InvalidApprover(address approver)
ERC1155InvalidOperator(address operator)
ERC1155InvalidArrayLength(uint256 idsLength, uint256 valuesLength)
ERC2612ExpiredSignature(uint256 deadline)
ERC2612InvalidSigner(address signer, address owner)
ERC20ExceededSafeSupply(uint256 increasedSupply, uint256 cap)
ERC20ExceededCap(uint256 increasedSupply, uint256 cap)
ERC4626ExceededMaxDeposit(address receiver, uint256 assets, uint256 max)
ERC4626ExceededMaxMint(address receiver, uint256 shares, uint256 max)
ERC4626ExceededMaxWithdraw(address owner, uint256 assets, uint256 max)
ERC4626ExceededMaxRedeem(address owner, uint256 shares, uint256 max)
SafeERC20FailedOperation(address token)
SafeERC20FailedDecreaseAllowance(address spender, uint256 currentAllowance, uint256 requestedDecrease)
OwnableUnauthorizedAccount(address account)
OwnableInvalidOwner(address owner)
AccessControlUnauthorizedAccount(address account, bytes32 neededRole)
AccessControlBadConfirmation()
AccessManagedUnauthorized(address caller)
EnforcedPause()
ExpectedPause()
ReentrancyGuardReentrantCall()
InvalidInitialization()
NotInitializing()
AddressEmptyCode(address target)
AddressInsufficientBalance(address account)
FailedInnerCall()
FailedCall()
FailedDeployment()
InsufficientBalance(uint256 balance, uint256 needed)
ERC1967InvalidImplementation(address implementation)
ERC1967NonPayable()
UUPSUnauthorizedCallContext()
UUPSUnsupportedProxiableUUID(bytes32 slot)
ECDSAInvalidSignature()
ECDSAInvalidSignatureLength(uint256 length)
ECDSAInvalidSignatureS(bytes32 s)
InvalidAccountNonce(address account, uint256 currentNonce)
MathOverflowedMulDiv()
SafeCastOverflowedUintDowncast(uint8 bits, uint256 value)
SafeCastOverflowedIntToUint(int256 value)
SafeCastOverflowedUintToInt(uint256 value)
StringsInsufficientHexLength(uint256 value, uint256 length)
CheckpointUnorderedInsertion()
TimelockUnexpectedOperationState(bytes32 operationId, bytes32 expectedStates)
GovernorUnexpectedProposalState(uint256 proposalId, uint8 current, bytes32 expectedStates)
AllowanceExpired(uint256 deadline)
ExcessiveInvalidation()
InsufficientAllowance(uint256 amount)
InvalidNonce()
SignatureExpired(uint256 signatureDeadline)
InvalidSigner()
InvalidSignature()
InvalidSignatureLength()
InvalidContractSignature()
LengthMismatch()
InvalidAmount(uint256 maxAmount)
V2TooLittleReceived()
V2TooMuchRequested()
V2InvalidPath()
V3TooLittleReceived()
V3TooMuchRequested()
V3InvalidSwap()
V3InvalidAmountOut()
V3InvalidCaller()
V4TooLittleReceived(uint256 minAmountOutReceived, uint256 amountReceived)
V4TooMuchRequested(uint256 maxAmountInRequested, uint256 amountRequested)
TransactionDeadlinePassed()
ExecutionFailed(uint256 commandIndex, bytes message)
InvalidCommandType(uint256 commandType)
InsufficientETH()
InsufficientToken()
PoolNotInitialized()
PoolAlreadyInitialized()
CurrencyNotSettled()
PriceLimitAlreadyExceeded(uint160 sqrtPriceCurrentX96, uint160 sqrtPriceLimitX96)
PriceLimitOutOfBounds(uint160 sqrtPriceLimitX96)
SwapAmountCannotBeZero()
TransferFailed()
TransferFromFailed()
ApproveFailed()
ETHTransferFailed()
"""

REASONS: Final = {
    "K": "the Uniswap V2 pair would lose value (its product K decreases)",
    "LOK": "the Uniswap V3 pool is locked: it was called from within itself, or not initialised",
    "AS": "the amount of the Uniswap V3 swap is zero",
    "SPL": "the Uniswap V3 price limit is on the wrong side of the price",
    "IIA": "the Uniswap V3 pool was not paid what the swap owes (a token with a fee on transfer?)",
    "STF": "transferFrom failed: no balance or no allowance",
    "ST": "transfer failed",
    "SA": "approve failed",
    "STE": "sending native coin failed",
    "TF": "transfer failed",
    "M0": "token0 was not paid to the Uniswap V3 pool",
    "M1": "token1 was not paid to the Uniswap V3 pool",
}
