"""Signing by a remote signer over JSON-RPC (web3signer, clef).

Answers are not trusted: a transaction must equal the requested one byte for byte apart from its signature, and every
signature must recover to the wallet's address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from dustrun.core.evm import typed_data
from dustrun.core.values import exact_json
from dustrun.core.values.addresses import read_address
from dustrun.errors import Code, Permanent, Refused, Temporary
from dustrun.sdk.threads import run_sized
from dustrun.wallets import transaction
from dustrun.wallets.local import digest_of_message
from dustrun.wallets.secp256k1 import find_signer
from dustrun.wallets.signer import SignedTransaction, UnsignedTransaction

if TYPE_CHECKING:
    import aiohttp

_METHOD_UNKNOWN: Final = -32601
_MOST_BYTES: Final = 2_097_152
_SHOWN: Final = 200
Call = tuple[str, list[Any]]


class _Failed(Exception):
    """The signer answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Remote:
    """One remote signer, under the name set by the operator. Its URL may contain a password and is never shown."""

    def __init__(self, name: str, url: str, timeout_s: float) -> None:
        self.name = name
        self._url = url
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def addresses(self) -> list[str]:
        """The checksummed addresses that it signs for; raises `Temporary` or `Permanent`."""
        found = await self.ask([("eth_accounts", []), ("account_list", [])])
        try:
            return [read_address(address) for address in found]
        except (TypeError, ValueError):
            raise self._odd("its list of addresses is malformed") from None

    async def ask(self, calls: list[Call], *, on_any_failure: bool = False) -> Any:
        """The result of the first of `calls` that the signer supports; they are variants of the same request.

        `on_any_failure`: try the next variant after any error, since signers differ in the form of the parameters.
        """
        first: _Failed | None = None
        for method, parameters in calls:
            try:
                return await self._call(method, parameters)
            except _Failed as failed:
                if first is None or first.code == _METHOD_UNKNOWN:
                    first = failed
                if not on_any_failure and failed.code != _METHOD_UNKNOWN:
                    break
        message = " ".join((first.message if first else "").split())[:_SHOWN]
        raise Permanent(f'The remote signer "{self.name}" will not sign: {message or "it gives no reason"}')

    async def _call(self, method: str, parameters: list[Any]) -> Any:
        # numbers that other JSON parsers would round are sent as strings
        request = exact_json.dumps_wire({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
        answer = await self._exchange(request)
        if not isinstance(answer, dict):
            raise self._odd("its answer is not a JSON-RPC response")
        error = answer.get("error")
        if error is not None:
            code = error.get("code") if isinstance(error, dict) else None
            text = error.get("message") if isinstance(error, dict) else None
            raise _Failed(code if isinstance(code, int) else 0, text if isinstance(text, str) else "")
        return answer.get("result")

    async def _exchange(self, request: bytes) -> Any:
        import aiohttp  # slow import: only a server with remote signers needs it

        headers = {"Content-Type": "application/json"}
        try:
            async with self._open().post(self._url, data=request, headers=headers, allow_redirects=False) as response:
                body = await response.content.read(_MOST_BYTES + 1)
                while len(body) <= _MOST_BYTES and (more := await response.content.read(_MOST_BYTES)):
                    body += more
        except TimeoutError:
            raise Temporary(f'The remote signer "{self.name}" did not answer in time.') from None
        except (aiohttp.ClientError, OSError) as error:
            reason = type(error).__name__  # the message of the error may contain the URL
            raise Temporary(f'The remote signer "{self.name}" cannot be reached ({reason}).') from None
        if response.status >= 500 or response.status == 429:
            raise Temporary(f'The remote signer "{self.name}" answered {response.status}.')
        if len(body) > _MOST_BYTES:
            raise self._odd("its answer is too large")
        try:
            return await run_sized(body, exact_json.loads, body)
        except exact_json.JsonError:
            raise self._odd(f"it answered {response.status} with something that is not JSON") from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp  # slow import

            timeout = aiohttp.ClientTimeout(total=self._timeout_s)
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        return self._session

    def _odd(self, what: str) -> Permanent:
        return Permanent(f'The remote signer "{self.name}" violates the protocol: {what}.')

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()


class RemoteSigner:
    """Signs for one address of a remote signer."""

    def __init__(self, address: str, remote: Remote) -> None:
        self._address = address
        self._remote = remote

    @property
    def address(self) -> str:
        """The EIP-55 checksummed address."""
        return self._address

    async def sign_transaction(self, unsigned: UnsignedTransaction) -> SignedTransaction:
        """Requests the signature of a transaction and checks every byte of the result."""
        fields = _as_rpc(unsigned, self._address)
        found = await self._remote.ask([("eth_signTransaction", [fields]), ("account_signTransaction", [fields])])
        if isinstance(found, dict):
            found = found.get("raw")
        raw = self._bytes(found)
        try:
            return await asyncio.to_thread(transaction.check_signed, raw, unsigned, self._address)
        except ValueError as error:
            raise self._disagrees(f"transaction: {error}") from None

    async def sign_message(self, message: bytes) -> bytes:
        """Requests the signature of a message and checks it."""
        data = "0x" + message.hex()
        calls: list[Call] = [
            ("eth_sign", [self._address, data]),
            ("account_signData", ["text/plain", self._address, data]),
        ]
        return self._checked(digest_of_message(message), await self._remote.ask(calls))

    async def sign_typed_data(self, document: Mapping[str, Any]) -> bytes:
        """Requests the signature of an EIP-712 document and checks it."""
        digest = await asyncio.to_thread(typed_data.digest_of, document)
        plain = dict(document)
        calls: list[Call] = [
            # web3signer expects the document as a string, others as an object
            ("eth_signTypedData", [self._address, exact_json.dumps_wire(plain).decode()]),
            ("eth_signTypedData_v4", [self._address, plain]),
            ("account_signTypedData", [self._address, plain]),
        ]
        return self._checked(digest, await self._remote.ask(calls, on_any_failure=True))

    def _checked(self, digest: bytes, found: Any) -> bytes:
        signature = self._bytes(found)
        if len(signature) != 65:
            raise self._disagrees("signature: it does not have 65 bytes")
        r, s, v = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big"), signature[64]
        parity = v - 27 if v >= 27 else v
        if find_signer(digest, r, s, parity) != self._address:
            raise self._disagrees("signature: it is not of the wallet's key over this content")
        return signature[:64] + bytes([27 + parity])

    def _bytes(self, found: Any) -> bytes:
        try:
            if isinstance(found, str) and found.startswith("0x"):
                return bytes.fromhex(found[2:])
        except ValueError:
            pass
        raise self._disagrees("result: it is not 0x followed by hexadecimal digits")

    def _disagrees(self, what: str) -> Refused:
        message = (
            f'The remote signer "{self._remote.name}" returned another {what}. It was discarded; nothing was sent.'
        )
        return Refused(message, code=Code.SIGNER_DISAGREES)


def _as_rpc(unsigned: UnsignedTransaction, address: str) -> dict[str, Any]:
    """The transaction object of JSON-RPC, with quantities in hexadecimal."""
    fields: dict[str, Any] = {
        "from": address,
        "chainId": hex(unsigned.chain_id),
        "nonce": hex(unsigned.nonce),
        "gas": hex(unsigned.gas_limit),
        "value": hex(unsigned.value_units),
        "data": "0x" + unsigned.data.hex(),
    }
    if unsigned.to is not None:
        fields["to"] = unsigned.to
    if unsigned.is_legacy:
        return fields | {"gasPrice": hex(unsigned.max_fee_units)}
    return fields | {
        "type": "0x2",
        "maxFeePerGas": hex(unsigned.max_fee_units),
        "maxPriorityFeePerGas": hex(unsigned.tip_units),
        "accessList": [],
    }
