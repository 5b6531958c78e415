"""Endpoints that are down, lie, lag, limit or answer rubbish: what is asked of whom, and what is believed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from chain.signing import signed
from dustrun.chain.chains import Chains
from dustrun.chain.endpoints import Endpoint, mark_outliers
from dustrun.chain.evm import LiveChain
from dustrun.chain.failures import Kind, kind_of
from dustrun.chain.probe import Abilities, abilities_of
from dustrun.chain.rpc import EndpointDown, Pace, Rpc, RpcError, RpcRequest, host_of
from dustrun.core.values.addresses import keccak256
from dustrun.errors import Code, Permanent, Temporary
from dustrun.sdk.chain import ChainCall
from dustrun.settings import Settings
from testkit.chain.anvil import ACCOUNTS, Anvil
from testkit.chain.contracts import World
from testkit.chain.rpc_proxy import Answer, Call, proxy
from testkit.ports import free_port

ALICE = ACCOUNTS[1]


@asynccontextmanager
async def chain_of(
    world: World, *urls: str, changes: dict[str, Any] | None = None, timeout_ms: int = 5_000
) -> AsyncIterator[LiveChain]:
    """A chain over these endpoints, best first."""
    network = world.network(*urls).model_copy(update=changes or {})
    chains = Chains({network.chain_id: network}, Settings(chain_timeout_ms=timeout_ms))
    try:
        yield chains.get(network.chain_id)
    finally:
        await chains.close()


def down() -> str:
    """A URL where nobody listens; its path is a secret."""
    return f"http://127.0.0.1:{free_port()}/v3/s3cret"


def text_reply(text: str, status: int = 200, **headers: str) -> Callable[[web.Request], Any]:
    async def reply(_: web.Request) -> web.Response:
        return web.Response(text=text, status=status, headers=headers)

    return reply


async def test_a_read_goes_on_to_the_next_endpoint(world: World, anvil: Anvil) -> None:
    async with chain_of(world, down(), anvil.url) as chain:
        assert await chain.balance(ALICE) > 0
        shown = [endpoint.public() for endpoint in chain.endpoints.all]
    assert [entry["isUsable"] for entry in shown] == [False, True]
    assert shown[0]["problem"] == "no connection"


async def test_reads_that_fail_at_the_same_time_let_an_endpoint_rest_for_one(world: World) -> None:
    async with chain_of(world, down()) as chain:
        (endpoint,) = chain.endpoints.all
        reads = [chain.endpoints.batch([RpcRequest("eth_chainId"), RpcRequest("eth_blockNumber")]) for _ in range(20)]
        failed = await asyncio.gather(*reads, return_exceptions=True)
        assert all(isinstance(one, Temporary) for one in failed), failed
        assert endpoint.failures < 10, "three rounds of tries, however many reads there were"


async def test_nothing_of_a_url_but_its_host_is_told(world: World) -> None:
    async with chain_of(world, down()) as chain:
        with pytest.raises(Temporary) as raised:
            await chain.balance(ALICE)
    assert raised.value.code is Code.CHAIN_UNREACHABLE
    assert "s3cret" not in raised.value.message
    assert "127.0.0.1" in raised.value.message
    assert host_of("https://user:pa55@node.example:8545/v3/key?token=1") == "node.example:8545"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("<html>login</html>", 200),
        ("", 200),
        ("[]", 200),
        ('{"id": 1}', 200),
        ('{"id": 1, "error": "no"}', 200),
        ('{"id": 1, "error": {"message": "no code"}}', 200),
        ("bad gateway", 502),
        ('{"message": "forbidden"}', 403),
        ('{"id": 1, "result": 1e400}', 200),
    ],
)
async def test_rubbish_is_not_believed(text: str, status: int, world: World, anvil: Anvil) -> None:
    async with proxy(anvil.url, reply=text_reply(text, status)) as bad, chain_of(world, bad.url, anvil.url) as chain:
        assert await chain.balance(ALICE) == int(anvil.rpc("eth_getBalance", ALICE, "latest"), 16)
        assert chain.endpoints.all[0].is_resting


async def test_an_answer_without_end_is_cut(world: World, anvil: Anvil) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(100):
                await response.write(b" " * 2**20)
        except ConnectionError:
            pass
        return response

    async with proxy(anvil.url, reply=flood) as bad, chain_of(world, bad.url, anvil.url) as chain:
        chain.endpoints.all[0].rpc._max_bytes = 2**20
        assert await chain.balance(ALICE) > 0
        assert "larger than 1048576 bytes" in str(chain.endpoints.all[0].reason)


async def test_a_slow_endpoint_is_given_up_in_time(world: World, anvil: Anvil) -> None:
    never = 600
    async with proxy(anvil.url, delay_s=never) as slow, chain_of(world, slow.url, anvil.url, timeout_ms=2000) as chain:
        async with asyncio.timeout(never / 2):
            assert await chain.balance(ALICE) > 0
        assert chain.endpoints.all[0].reason == "no answer within 2 s"


async def test_a_rate_limit_is_waited_out(world: World, anvil: Anvil) -> None:
    left = [2]

    async def limit(_: web.Request) -> web.Response | None:
        left[0] -= 1
        return web.Response(status=429, headers={"retry-after": "1"}) if left[0] >= 0 else None

    async with proxy(anvil.url, reply=limit) as limited, chain_of(world, limited.url) as chain:
        started = time.monotonic()
        assert await chain.balance(ALICE) > 0
        assert time.monotonic() - started >= 1.8


async def test_an_answer_to_an_earlier_read_does_not_end_the_rest_that_an_endpoint_asked_for(world: World) -> None:
    refused = asyncio.Event()

    async def is_answered_late(_: Rpc) -> str:
        await refused.wait()
        return "answered"

    async def is_refused(_: Rpc) -> str:
        raise EndpointDown("rate limit reached", sent=False, wait_s=30)

    async with chain_of(world, down()) as chain:
        (endpoint,) = chain.endpoints.all
        earlier = asyncio.create_task(chain.endpoints.read(is_answered_late, "eth_getLogs"))
        await asyncio.sleep(0)
        with pytest.raises(Temporary):
            await chain.endpoints.read(is_refused, "eth_getLogs")
        refused.set()
        assert await earlier == "answered"
        assert endpoint.is_resting
        assert endpoint.public()["problem"] == "rate limit reached"


async def test_our_own_pace_is_kept() -> None:
    pace, started = Pace(50), time.monotonic()
    await asyncio.gather(*(pace.take(1) for _ in range(60)))
    assert 0.15 < time.monotonic() - started < 2


async def test_a_chain_of_another_id_is_refused_before_signing(world: World) -> None:
    with Anvil(chain_id=5) as other:
        async with chain_of(world, other.url) as chain:
            with pytest.raises(Permanent, match="serves chain 5 instead of 31337") as raised:
                await chain.verify()
    assert raised.value.code is Code.CHAIN_MISMATCH


async def test_which_chain_an_endpoint_serves_is_asked_in_one_request(world: World, anvil: Anvil) -> None:
    async with proxy(anvil.url) as node, chain_of(world, node.url) as chain:
        await chain.endpoints.verify(afresh=True)
        assert node.requests == 1
        assert chain.endpoints.all[0].genesis == anvil.rpc("eth_getBlockByNumber", "0x0", False)["hash"]


async def test_another_genesis_of_the_same_id_is_refused(world: World, anvil: Anvil) -> None:
    async with chain_of(world, anvil.url, changes={"genesis_hash": f"0x{'ab' * 32}"}) as chain:
        with pytest.raises(Permanent, match="another chain with the same id"):
            await chain.verify()
    genesis = anvil.rpc("eth_getBlockByNumber", "0x0", False)["hash"]
    async with chain_of(world, down(), anvil.url, changes={"genesis_hash": genesis}) as chain:
        await chain.verify()


async def test_an_endpoint_that_was_down_is_asked_again_which_chain_it_serves(world: World) -> None:
    with Anvil() as node:
        async with chain_of(world, node.url) as chain:
            await chain.verify()
            node.stop()
            with pytest.raises(Temporary):
                await chain.balance(ALICE)
            node._words[node._words.index("--chain-id") + 1] = "5"
            node.start()
            with pytest.raises(Permanent, match="serves chain 5"):
                await chain.verify()


def raised_by(blocks: int) -> Callable[[Call, Answer], Answer]:
    """A twist that says heights that many blocks higher."""

    def twist(call: Call, answer: Answer) -> Answer:
        if call["method"] == "eth_getBlockByNumber" and call["params"][0] == "latest":
            answer["result"]["number"] = hex(int(answer["result"]["number"], 16) + blocks)
        if call["method"] == "eth_blockNumber":
            answer["result"] = hex(int(answer["result"], 16) + blocks)
        return answer

    return twist


async def test_an_endpoint_that_lies_about_its_height_is_not_asked(world: World, anvil: Anvil) -> None:
    height = int(anvil.rpc("eth_blockNumber"), 16)
    async with proxy(anvil.url, twist=raised_by(1000)) as liar, chain_of(world, liar.url, anvil.url) as chain:
        assert (await chain.block()).number == height
        assert chain.endpoints.all[0].outlier == f"its height {height + 1000} is ahead of the others' {height}"
        asked = liar.requests
        assert (await chain.block()).number == height
        assert liar.requests == asked


def _dear(call: Call, answer: Answer) -> Answer:
    """An endpoint of somebody who earns the tips."""
    if call["method"] == "eth_feeHistory":
        answer["result"]["reward"] = [[hex(10**15)]] * 5
    return answer


def _odd(call: Call, answer: Answer) -> Answer:
    return {**answer, "result": []} if call["method"] == "eth_feeHistory" else answer


async def test_one_endpoint_of_several_cannot_name_any_fee(world: World, anvil: Anvil) -> None:
    async with chain_of(world, anvil.url) as alone:
        fees = await alone.fees()
    async with (
        proxy(anvil.url, twist=_dear) as dear,
        proxy(anvil.url, twist=_odd) as odd,
        chain_of(world, dear.url, anvil.url) as two,
        chain_of(world, dear.url, odd.url, anvil.url) as three,
        chain_of(world, odd.url, dear.url) as odd_first,
    ):
        assert await two.fees() == await three.fees() == fees
        assert (await odd_first.fees()).tip_units == 10**15  # nobody else knows


async def test_an_endpoint_that_stands_still_is_not_asked(world: World, anvil: Anvil) -> None:
    height = int(anvil.rpc("eth_blockNumber"), 16)
    async with (
        proxy(anvil.url, twist=raised_by(-500)) as lagging,
        proxy(anvil.url) as good,
        chain_of(world, lagging.url, good.url, anvil.url) as chain,
    ):
        assert (await chain.block()).number == height
        assert "is behind the others'" in str(chain.endpoints.all[0].outlier)


@pytest.mark.parametrize(
    ("heads", "usable"),
    [
        ([(100, 0)], [True]),
        ([(100, 0), (101, 0)], [True, True]),
        ([(100, 0), (900, 0)], [True, False]),
        ([(100, -3600), (900, 0)], [False, True]),
        ([(100, 0), (900, 86_400)], [True, False]),
        ([(100, 0), (101, 0), (900, 0)], [True, True, False]),
        ([(5, 0), (101, 0), (102, 0)], [False, True, True]),
        ([(100, 86_400), (101, 86_400)], [True, True]),
        ([(100, -86_400), (101, -86_400)], [True, True]),
    ],
)
def test_whose_height_is_believed(heads: list[tuple[int, int]], usable: list[bool]) -> None:
    now = int(time.time())
    endpoints = [Endpoint(None, height=number, head_time=now + age) for number, age in heads]  # type: ignore[arg-type]
    mark_outliers(endpoints, 12_000)
    assert [endpoint.outlier is None for endpoint in endpoints] == usable


async def test_a_node_that_lacks_the_block_is_not_the_last_word(world: World, anvil: Anvil) -> None:
    def lacks(call: Call, answer: Answer) -> Answer:
        if call["method"] == "eth_call":
            return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32000, "message": "header not found"}}
        return answer

    async with proxy(anvil.url, twist=lacks) as behind, chain_of(world, behind.url, anvil.url) as chain:
        assert await chain.call(ChainCall(world["usdc"], bytes.fromhex("313ce567"))) == (6).to_bytes(32)
    async with proxy(anvil.url, twist=lacks) as behind, chain_of(world, behind.url) as chain:
        with pytest.raises(Temporary, match="header not found"):
            await chain.call(ChainCall(world["usdc"], bytes.fromhex("313ce567")))


async def test_a_transaction_is_sent_once_when_its_answer_is_lost(world: World, anvil: Anvil) -> None:
    def loses(seen: list[str]) -> Callable[[web.Request], Any]:
        async def reply(request: web.Request) -> web.Response | None:
            body = await request.json()
            if isinstance(body, dict) and body["method"] == "eth_sendRawTransaction":
                seen.append(body["params"][0])
                return web.Response(text="lost", status=502)
            return None

        return reply

    first: list[str] = []
    second: list[str] = []
    async with (
        proxy(anvil.url, reply=loses(first)) as one,
        proxy(anvil.url, reply=loses(second)) as two,
        chain_of(world, one.url, two.url) as chain,
    ):
        sent = await chain.broadcast(signed(await chain.nonce(ALICE)))
    assert sent.outcome == "unknown"
    assert (len(first), len(second)) == (1, 0)


async def test_a_transaction_goes_on_when_it_certainly_did_not_arrive(world: World, anvil: Anvil) -> None:
    async with chain_of(world, down(), anvil.url) as chain:
        assert (await chain.broadcast(signed(await chain.nonce(ALICE)))).outcome == "accepted"


async def test_a_batch_is_read_in_any_order_and_its_errors_stay_apart(world: World, anvil: Anvil) -> None:
    async with chain_of(world, anvil.url) as chain:
        asked = [RpcRequest("eth_chainId"), RpcRequest("eth_noSuchThing"), RpcRequest("eth_blockNumber")]
        answers = await chain.endpoints.all[0].rpc.batch(asked * 60)
    assert len(answers) == 180
    assert answers[0] == "0x7a69"
    assert isinstance(answers[1], RpcError)
    assert kind_of(answers[1]) is Kind.NO_METHOD


async def test_what_a_node_can_do_is_found_out_once(world: World, anvil: Anvil) -> None:
    async with proxy(anvil.url) as seen, chain_of(world, seen.url) as chain:
        endpoint = chain.endpoints.all[0]
        found = await abilities_of(endpoint)
        assert found == Abilities(
            True, False, True, True, True, True, True
        )  # anvil 1.7.1 creates nothing in a simulation
        asked = seen.requests
        assert await abilities_of(endpoint) is found
        assert seen.requests == asked


async def test_a_plain_node_can_do_nothing_more(world: World, anvil: Anvil) -> None:
    def plain(call: Call, answer: Answer) -> Answer:
        if call["method"] in ("eth_simulateV1", "debug_traceCall", "eth_getBlockReceipts"):
            error = {"code": -32601, "message": "the method does not exist/is not available"}
            return {"jsonrpc": "2.0", "id": call["id"], "error": error}
        return answer

    async with proxy(anvil.url, twist=plain) as node, chain_of(world, node.url) as chain:
        assert await abilities_of(chain.endpoints.all[0]) == Abilities(call_overrides=True)
        block = await chain.block()
        assert await chain.block_receipts(block.hash) is not None


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (-32000, "insufficient funds for gas * price + value: balance 0, tx cost 1", Kind.FUNDS),
        (-32003, "Insufficient funds for gas * price + value", Kind.FUNDS),
        (-38014, "err: insufficient balance", Kind.FUNDS),
        (-32000, "nonce too low: next nonce 5, tx nonce 3", Kind.NONCE_TOO_LOW),
        (-32010, "OldNonce, Current nonce: 5, nonce of rejected tx: 3", Kind.NONCE_TOO_LOW),
        (-32000, "already known", Kind.ALREADY_KNOWN),
        (-32010, "AlreadyKnown", Kind.ALREADY_KNOWN),
        (-32000, "transaction already imported", Kind.ALREADY_KNOWN),
        (-32000, "replacement transaction underpriced", Kind.UNDERPRICED),
        (-32000, "transaction underpriced: tip needed 25000000000, tip permitted 1", Kind.UNDERPRICED),
        (-32010, "FeeTooLow, FeePerGas needs to be higher than 5 to be added to the TxPool", Kind.UNDERPRICED),
        (-32000, "max fee per gas less than block base fee: address 0x, maxFeePerGas: 1", Kind.UNDERPRICED),
        (-32000, "intrinsic gas too low", Kind.GAS),
        (-32000, "gas required exceeds allowance (0)", Kind.GAS),
        (-32000, "exceeds block gas limit", Kind.GAS),
        (3, "execution reverted: no way", Kind.REVERTED),
        (-32015, "VM execution error.", Kind.REVERTED),
        (-32000, "invalid opcode: INVALID", Kind.REVERTED),
        (-32601, "whatever", Kind.NO_METHOD),
        (-32600, "Unsupported method: debug_traceCall", Kind.NO_METHOD),
        (-32000, "missing trie node 1234 (path ) state is not available", Kind.NO_STATE),
        (-32001, "block not found: 0x12", Kind.NO_STATE),
        (-32000, "unknown block", Kind.NO_STATE),
        (-32603, "Internal error", Kind.BUSY),
        (-32000, "request timed out", Kind.BUSY),
        (-32000, "something else", Kind.OTHER),
    ],
)
def test_errors_of_nodes_are_told_apart(code: int, message: str, kind: Kind) -> None:
    assert kind_of(RpcError(code, message)) is kind


async def test_reads_of_one_moment_go_out_as_one_request(world: World, anvil: Anvil) -> None:
    async with proxy(anvil.url) as node, chain_of(world, node.url) as chain:
        found = await asyncio.gather(*(chain.balance(account) for account in ACCOUNTS * 30))
        assert node.requests == 2  # a batch has 100 at most
    wanted = [int(anvil.rpc("eth_getBalance", account, "latest"), 16) for account in ACCOUNTS]
    assert found == wanted * 30


def without_batches(answer: Callable[[], web.Response]) -> Callable[[web.Request], Any]:
    """Answers each batch by this, and passes everything else on."""

    async def reply(request: web.Request) -> web.Response | None:
        return answer() if isinstance(await request.json(), list) else None

    return reply


_REJECTION = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "batches are not allowed"}}


@pytest.mark.parametrize(
    "rejection",
    [
        lambda: web.json_response(_REJECTION),
        lambda: web.json_response(_REJECTION, status=400),
        lambda: web.json_response([_REJECTION]),
        lambda: web.json_response({**_REJECTION, "error": {"code": -32601, "message": "the method does not exist"}}),
        lambda: web.Response(text="Request Entity Too Large", status=413),
    ],
    ids=["an error", "an error with a status", "a list of one error", "an unknown method", "a status"],
)
async def test_endpoint_without_batches_is_asked_one_by_one(
    rejection: Callable[[], web.Response], world: World, anvil: Anvil
) -> None:
    witness = world.witness(anvil)
    paid = [witness.pay("0x00000000000000000000000000000000DeaDBeef", units) for units in (5, 6)]
    hashes = [one["transactionHash"].to_0x_hex() for one in paid]
    async with proxy(anvil.url, reply=without_batches(rejection)) as node, chain_of(world, node.url) as chain:
        receipts = await chain.receipts([*hashes, "0x" + "1" * 64])
        found = [receipt and (receipt.hash, receipt.block_number) for receipt in receipts]
        assert found == [*zip(hashes, [one["blockNumber"] for one in paid], strict=True), None]
        both = await asyncio.gather(chain.balance(ALICE), chain.nonce(ALICE))
        assert list(both) == [await chain.balance(ALICE), await chain.nonce(ALICE)]
        unknown, number = await chain.endpoints.batch([RpcRequest("eth_noSuchThing"), RpcRequest("eth_blockNumber")])
        assert (kind_of(unknown), number) == (Kind.NO_METHOD, hex((await chain.block()).number))
        assert chain.endpoints.all[0].public()["problem"] is None
        rejected = node.requests - len(node.methods)
    assert rejected == 1  # for a minute it is offered no other batch


async def test_endpoint_that_rejects_everything_gets_one_more_request(world: World, anvil: Anvil) -> None:
    refused = text_reply("unauthorized", 401)
    async with proxy(anvil.url, reply=refused) as node, chain_of(world, node.url, anvil.url) as chain:
        endpoints = chain.endpoints.all
        answers = await chain.endpoints.read(
            lambda rpc: rpc.batch([RpcRequest("eth_chainId")] * 50), "batch", endpoints
        )
    assert (answers, node.requests) == (["0x7a69"] * 50, 2)


async def test_rate_limit_of_a_batch_is_not_answered_with_more_requests(world: World, anvil: Anvil) -> None:
    limit = {"jsonrpc": "2.0", "id": None, "error": {"code": -32005, "message": "rate limit"}}
    busy = without_batches(lambda: web.json_response(limit))
    async with proxy(anvil.url, reply=busy) as node, chain_of(world, node.url, anvil.url) as chain:
        await chain.endpoints.agree()
        before = len(node.methods)
        assert await chain.endpoints.batch([RpcRequest("eth_chainId")] * 2) == ["0x7a69"] * 2
        assert len(node.methods) == before


async def test_one_bad_read_does_not_spoil_those_beside_it(world: World, anvil: Anvil) -> None:
    async with chain_of(world, anvil.url) as chain:
        bad = chain.call(ChainCall(world["zoo"], keccak256(b"requireString()")[:4]))
        good, failed, also = await asyncio.gather(
            chain.balance(ALICE), bad, chain.balance(ACCOUNTS[2]), return_exceptions=True
        )
    assert isinstance(failed, Permanent)
    assert failed.code is Code.CALL_REVERTED
    assert isinstance(good, int)
    assert isinstance(also, int)
    async with chain_of(world, down()) as chain:
        all_failed = await asyncio.gather(chain.balance(ALICE), chain.nonce(ALICE), return_exceptions=True)
    assert [type(error) for error in all_failed] == [Temporary, Temporary]
