"""Signers on a real node: our own keys, and a node as the signer elsewhere; and signers that lie, are slow or away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from eth_account import Account
from eth_account.messages import encode_defunct

from dustrun.errors import Code, DustrunError, Permanent, Refused, Temporary
from dustrun.wallets.keys import read_key
from dustrun.wallets.local import Keyring, LocalSigner, key_of_variable
from dustrun.wallets.remote import Remote, RemoteSigner
from dustrun.wallets.secp256k1 import SecretKey
from dustrun.wallets.signer import Signer, UnsignedTransaction
from outbound.loopback import Seen, serving
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, KEYS, Anvil
from wallets.test_typed_data import MAIL

PAY = UnsignedTransaction(CHAIN_ID, 0, ACCOUNTS[1], 10**18, b"", 21_000, 10**10, 10**9)


@pytest.fixture(scope="module")
def node() -> Iterator[Anvil]:
    with Anvil() as found:
        yield found


@pytest.fixture
async def remote(node: Anvil) -> AsyncIterator[Remote]:
    found = Remote("vault", node.url, 10)
    yield found
    await found.close()


async def _own(number: int) -> SecretKey:
    return read_key(KEYS[number])


@pytest.mark.parametrize("is_legacy", [False, True])
@pytest.mark.parametrize("kind", ["local", "remote"])
async def test_what_is_signed_is_mined_as_sent(node: Anvil, remote: Remote, kind: str, is_legacy: bool) -> None:
    address = ACCOUNTS[2]
    signer: Signer = LocalSigner(address, lambda: _own(2)) if kind == "local" else RemoteSigner(address, remote)
    nonce = int(node.rpc("eth_getTransactionCount", address, "latest"), 16)
    unsigned = replace(PAY, nonce=nonce, is_legacy=is_legacy, tip_units=PAY.max_fee_units if is_legacy else 1)
    signed = await signer.sign_transaction(unsigned)
    assert node.rpc("eth_sendRawTransaction", "0x" + signed.raw.hex()) == signed.hash
    async with asyncio.timeout(60):
        while (receipt := node.rpc("eth_getTransactionReceipt", signed.hash)) is None:
            await asyncio.sleep(0.01)
    assert (receipt["status"], receipt["from"]) == ("0x1", address.lower())
    assert signed == await LocalSigner(address, lambda: _own(2)).sign_transaction(unsigned)


async def test_both_kinds_sign_messages_and_documents_alike(remote: Remote) -> None:
    ours, theirs = LocalSigner(ACCOUNTS[1], lambda: _own(1)), RemoteSigner(ACCOUNTS[1], remote)
    message = "Grüße".encode()
    signature = await ours.sign_message(message)
    assert signature == await theirs.sign_message(message)
    assert Account.recover_message(encode_defunct(message), signature=signature) == ACCOUNTS[1]
    assert await ours.sign_typed_data(MAIL) == await theirs.sign_typed_data(MAIL)
    assert ACCOUNTS[1] in await remote.addresses()


async def test_a_signer_that_does_not_know_the_address(remote: Remote) -> None:
    stranger = RemoteSigner("0x" + "00" * 19 + "01", remote)
    for ask in (stranger.sign_transaction(PAY), stranger.sign_message(b"x"), stranger.sign_typed_data(MAIL)):
        with pytest.raises(Permanent, match='"vault" will not sign'):
            await ask


Lie = Callable[[str, list[Any]], Any]


def _answering(lie: Lie) -> Callable[[Seen], web.StreamResponse]:
    def answer(seen: Seen) -> web.StreamResponse:
        asked = json.loads(seen.body)
        found = lie(asked["method"], asked["params"])
        if isinstance(found, web.StreamResponse):
            return found
        return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "result": found})

    return answer


def _other(**change: Any) -> Lie:
    """Signs with the right key, but something else."""

    def lie(_method: str, _params: list[Any]) -> str:
        fields = {
            "chainId": PAY.chain_id,
            "nonce": PAY.nonce,
            "to": PAY.to,
            "value": PAY.value_units,
            "data": b"",
            "gas": PAY.gas_limit,
            "maxFeePerGas": PAY.max_fee_units,
            "maxPriorityFeePerGas": PAY.tip_units,
            "type": 2,
        }
        key = change.pop("key", KEYS[1])
        sent = {name: value for name, value in {**fields, **change}.items() if value is not None}
        return str(Account.sign_transaction(sent, key).raw_transaction.to_0x_hex())

    return lie


@pytest.mark.parametrize(
    "lie",
    [
        _other(to=ACCOUNTS[3]),
        _other(value=10**18 + 1),
        _other(nonce=1),
        _other(chainId=1),
        _other(gas=21_001),
        _other(maxFeePerGas=10**11),
        _other(maxPriorityFeePerGas=0),
        _other(data=b"\x01"),
        _other(accessList=[{"address": ACCOUNTS[3], "storageKeys": []}]),
        _other(key=KEYS[0]),
        _other(maxFeePerGas=None, maxPriorityFeePerGas=None, type=None, gasPrice=10**10),
        lambda _method, _params: "0x" + "00" * 100,
        lambda _method, _params: "0xzz",
        lambda _method, _params: None,
        lambda _method, _params: {"tx": {}},
        lambda _method, _params: 7,
    ],
)
async def test_a_signer_that_signs_something_else_is_refused(lie: Lie) -> None:
    async with serving(_answering(lie)) as server:
        remote = Remote("liar", server.url, 5)
        with pytest.raises(Refused) as caught:
            await RemoteSigner(ACCOUNTS[1], remote).sign_transaction(PAY)
        await remote.close()
    assert caught.value.code == Code.SIGNER_DISAGREES


async def test_the_right_transaction_of_such_a_signer_is_taken() -> None:
    async with serving(_answering(lambda method, params: {"raw": _other()(method, params), "tx": {}})) as server:
        remote = Remote("honest", server.url, 5)
        signed = await RemoteSigner(ACCOUNTS[1], remote).sign_transaction(PAY)
        await remote.close()
    assert signed == await LocalSigner(ACCOUNTS[1], lambda: _own(1)).sign_transaction(PAY)


async def test_signatures_over_other_content_are_refused() -> None:
    wrong = str(Account.sign_message(encode_defunct(b"other"), KEYS[1]).signature.to_0x_hex())
    async with serving(_answering(lambda _method, _params: wrong)) as server:
        remote = Remote("liar", server.url, 5)
        signer = RemoteSigner(ACCOUNTS[1], remote)
        for ask in (signer.sign_message(b"this"), signer.sign_typed_data(MAIL)):
            with pytest.raises(Refused):
                await ask
        await remote.close()


async def test_a_clef_speaks_its_own_names() -> None:
    def clef(method: str, params: list[Any]) -> Any:
        if not method.startswith("account_"):
            return web.json_response({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no method"}})
        if method == "account_list":
            return [ACCOUNTS[1].lower()]
        if method == "account_signData":
            message = bytes.fromhex(params[2][2:])
            return str(Account.sign_message(encode_defunct(message), KEYS[1]).signature.to_0x_hex())
        return {"raw": _other()(method, params)}

    async with serving(_answering(clef)) as server:
        remote = Remote("clef", server.url, 5)
        signer = RemoteSigner(ACCOUNTS[1], remote)
        assert await remote.addresses() == [ACCOUNTS[1]]
        assert (await signer.sign_transaction(PAY)).raw
        assert len(await signer.sign_message(b"hello")) == 65
        await remote.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda _: web.Response(status=503), Temporary),
        (lambda _: web.Response(status=429), Temporary),
        (lambda _: web.Response(status=200, text="<html>"), Permanent),
        (lambda _: web.Response(status=404, text="not here"), Permanent),
        (lambda _: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), Permanent),
        (lambda _: web.Response(status=200, text="[]"), Permanent),
        (lambda _: web.Response(status=200, body=b"1" * 2_200_000), Permanent),
        (lambda _: web.json_response({"error": {"code": -32000, "message": "denied"}}), Permanent),
        (lambda _: web.json_response({"error": "odd"}), Permanent),
    ],
)
async def test_a_signer_in_trouble(answer: Any, error: type[DustrunError]) -> None:
    async with serving(answer) as server:
        remote = Remote("vault", server.url, 5)
        with pytest.raises(error) as caught:
            await RemoteSigner(ACCOUNTS[1], remote).sign_transaction(PAY)
        await remote.close()
    assert server.url.removeprefix("http://") not in caught.value.message


async def test_a_signer_that_is_slow_or_away() -> None:
    async def slow(_seen: Seen) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async with serving(slow) as server:
        remote = Remote("slow", server.url, 0.05)
        with pytest.raises(Temporary, match="in time"):
            await RemoteSigner(ACCOUNTS[1], remote).sign_transaction(PAY)
        await remote.close()
    away = Remote("away", "http://user:hunter2@127.0.0.1:1/", 5)
    with pytest.raises(Temporary, match="cannot be reached") as caught:
        await RemoteSigner(ACCOUNTS[1], away).sign_transaction(PAY)
    assert "hunter2" not in str(caught.value)
    await away.close()


# --- keys in memory ---


async def test_keys_are_unlocked_once_and_one_at_a_time() -> None:
    ring, open_now, most, unlocked = Keyring(60), 0, 0, []

    async def unlock(name: str) -> SecretKey:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.001)
        open_now -= 1
        unlocked.append(name)
        return read_key(KEYS[0])

    names = ["a", "b", "c"] * 20
    await asyncio.gather(*(ring.key(name, lambda name=name: unlock(name)) for name in names))  # type: ignore[misc]
    assert (most, sorted(unlocked), len(ring)) == (1, ["a", "b", "c"], 3)
    ring.close()


async def test_keys_are_few_and_wiped_when_their_time_is_over() -> None:
    ring, given = Keyring(1.0, most=2), []

    async def unlock() -> SecretKey:
        given.append(read_key(KEYS[0]))
        return given[-1]

    for name in ("a", "b", "c"):
        await ring.key(name, unlock)
    assert (len(ring), given[0].reveal()) == (2, bytes(32))
    assert given[1].reveal() != bytes(32)
    ring.forget("b")
    assert given[1].reveal() == bytes(32)
    await asyncio.sleep(1.05)
    assert (len(ring), given[2].reveal()) == (0, bytes(32))


async def test_an_unlocking_that_fails_is_tried_again() -> None:
    ring, failures = Keyring(60), iter([True, False])

    async def unlock() -> SecretKey:
        if next(failures):
            raise Temporary("away")
        return read_key(KEYS[0])

    with pytest.raises(Temporary):
        await ring.key("a", unlock)
    assert (await ring.key("a", unlock)).address() == ACCOUNTS[0]
    ring.close()


def test_a_key_of_the_environment() -> None:
    assert key_of_variable("K", {"K": KEYS[0]}).address() == ACCOUNTS[0]
    for text in (None, "", "nonsense-nonsense", "0x" + "00" * 32):
        with pytest.raises(Permanent) as caught:
            key_of_variable("K", {} if text is None else {"K": text})
        assert '"K"' in caught.value.message
        assert not text or text not in caught.value.message
