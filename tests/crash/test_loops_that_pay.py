"""A server that is killed between judging a loop whole and paying its first or a middle item: after the restart nothing
is paid twice, an answer stays given, amounts stay as asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from crash.test_called_runs_that_pay import ANYTHING, Json, Killed
from dustrun.errors import Code
from testkit.chain.anvil import CHAIN_ID, KEYS, Anvil
from testkit.chain.faulty_node import SEND, ChainProxy, Lie, pretending, refusing
from testkit.outbox_world import Api, recipient, server_of

NOT_SENT, SENT = refusing("nobody hears it"), pretending("nobody hears it")
NATIVE = f"eip155:{CHAIN_ID}/native"
ESTIMATE = "eth_estimateGas"
UNITS = (4, 5, 6)
CENT = 4 * 10**12
_WORTH_MORE = [str(10**18)] * 3


def _prices(usd: int) -> str:
    return json.dumps({NATIVE: str(usd)})


class Assassin:
    """Kills the server at a request to the chain, of which it never reads the answer."""

    def __init__(self, proxy: ChainProxy) -> None:
        self.killed = asyncio.Event()
        self.server: Any = None
        self.signed: set[str] = set()
        self._at: tuple[str, Lie] | None = None
        proxy.rule = self._look

    def aim(self, method: str, lie: Lie = NOT_SENT) -> None:
        """The next request of a method is the last that the server makes."""
        self.killed.clear()
        self._at = (method, lie)

    def _look(self, method: str, params: list[Any]) -> Lie | None:
        if method == SEND:
            self.signed.add(params[0])
        if self._at is None or method != self._at[0]:
            return None
        lie, self._at = self._at[1], None
        self.server.kill()
        self.killed.set()
        return lie


class Loop(Killed):
    """A server that dies at a chosen request, and one run that pays three rows, of which a person approves the sum."""

    def __init__(self, server: Any, node: Anvil, api: Api, assassin: Assassin) -> None:
        super().__init__(server, node, api)
        self.assassin = assassin
        assassin.server = server
        self.run_id = "run_loop"

    async def begin(self, amounts: list[str], **body: Any) -> None:
        """Starts the run; its loop is not judged yet."""
        send = {"chainId": CHAIN_ID, "recipient": "{{$item.to}}", "amount": "{{$item.units}}"}
        rows = [{"to": recipient(number), "units": units} for number, units in enumerate(amounts)]
        nodes = {
            "root": {"type": "manual", "children": ["each"]},
            "each": {"type": "for-each", "payload": {"array": rows}, "loopBody": ["pay"]},
            "pay": {"type": "send-native", "payload": send},
        }
        path = f"/v1/workflows/{await self.store('loop', nodes)}/run"
        await self.api.call("POST", path, {"runId": self.run_id, **body}, (Code.RUN_ID_USED,))  # its answer may be lost

    async def reborn(self, method: str | None = None, lie: Lie = NOT_SENT) -> None:
        """After the kill: another life, which ends with its first request of a method."""
        async with asyncio.timeout(60):
            while not self.assassin.killed.is_set():
                self.node.mine()
                await asyncio.sleep(0.05)
        if method is None:
            self.server.start()
            await self.server.wait_ready()
        else:
            self.assassin.aim(method, lie)
            self.server.start()

    async def questions(self) -> list[Json]:
        """All questions of the run, open or not."""
        found = (await self.call("GET", "/v1/approvals?status=pending,approved,rejected,cancelled"))["items"]
        return [one for one in found if one["runId"] == self.run_id]

    async def asked(self) -> Json:
        """The one question, once it is open."""
        async with asyncio.timeout(60):
            while not (found := await self.questions()):
                await asyncio.sleep(0.02)
        (one,) = found
        return await self.call("GET", f"/v1/approvals/{one['id']}")

    async def ask(self, amounts: list[str], **body: Any) -> Json:
        """Starts the run, kills the server while it judges the loop, and gives the question of its next life."""
        self.assassin.aim(ESTIMATE)
        await self.begin(amounts, **body)
        await self.reborn()
        question = await self.asked()
        assert (question["nodeId"], self.assassin.signed) == ("each", set())
        return question

    async def decide(self, question: Json, decision: str) -> None:
        """Answers the question about its loop."""
        body = {"binding": question["binding"]} if decision == "approve" else {}
        path = f"/v1/approvals/{question['id']}/{decision}"
        await self.api.call("POST", path, body, (Code.APPROVAL_DECIDED,))  # its answer may be lost

    async def check(self, question: Json, paid: list[int], status: str) -> None:
        """The run ended so, each row was paid once, and nobody was asked twice."""
        ended = await self.until(self.run_id, "success", "failure", "partial")
        assert ended["status"] == status, ended["error"]
        count = sum(map(bool, paid))
        assert (self.paid(), self.sent(), len(self.assassin.signed)) == (paid, (count, 0), count)
        answer = "approved" if count else "rejected"
        assert [(one["id"], one["status"]) for one in await self.questions()] == [(question["id"], answer)]

    def paid(self) -> list[int]:
        """What the recipients have."""
        return [self.received(number) for number in range(3)]


@pytest.fixture
def node() -> Iterator[Anvil]:
    """A chain that makes blocks only when it is told to."""
    with Anvil("--no-mining") as node:
        yield node


@asynccontextmanager
async def mortal(folder: Path, node: Anvil, url: str) -> AsyncIterator[Loop]:
    async with ChainProxy(node.url) as proxy:
        server = server_of(folder, proxy.url, 1, 200, database_url=url, log_level="error", static_prices=_prices(2500))
        server.start()
        await server.wait_ready()
        api = Api(server)
        loop = Loop(server, node, api, Assassin(proxy))
        try:
            wallet = await loop.wallet("payer", KEYS[1], is_default=True)
            above = {"totals": [{"per": "run", "asset": NATIVE, "units": "10"}]}
            policy = {"policy": {**ANYTHING, "approvalAbove": above}}
            await loop.call("PUT", f"/v1/wallets/{wallet}/policy", policy)
            organization = (await loop.call("GET", "/v1/me"))["organizationId"]
            await loop.call("PATCH", f"/v1/organizations/{organization}", {"singlePersonApproves": True})
            yield loop
        finally:
            await api.close()
            await server.stop()


@pytest.mark.parametrize("store_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
async def test_an_approved_loop_is_paid_once_wherever_it_is_killed(tmp_path: Path, node: Anvil, store_url: str) -> None:
    async with mortal(tmp_path, node, store_url) as loop:
        question = await loop.ask([*map(str, UNITS)])
        loop.assassin.aim(ESTIMATE)  # approved, and the first item is judged in its turn
        await loop.decide(question, "approve")
        await loop.reborn(SEND)  # the first is signed and not sent
        assert loop.assassin.signed == set()
        await loop.reborn(SEND, SENT)  # it is sent, and the chain's answer is lost
        await loop.reborn(ESTIMATE)  # the second is judged in its turn
        await loop.reborn(SEND)  # it is signed and not sent
        assert loop.paid() == [4, 0, 0]
        await loop.reborn()
        await loop.check(question, [*UNITS], "success")


async def test_a_dust_test_pays_what_was_approved_though_the_price_is_another_after_the_kill(
    tmp_path: Path, node: Anvil, store_url: str
) -> None:
    async with mortal(tmp_path, node, store_url) as loop:
        question = await loop.ask(_WORTH_MORE, dustTest=True)
        loop.assassin.aim(ESTIMATE)
        await loop.decide(question, "approve")
        loop.server.settings["static_prices"] = _prices(5000)
        await loop.reborn(SEND, SENT)
        await loop.reborn(ESTIMATE)
        await loop.reborn()
        await loop.check(question, [CENT] * 3, "success")


@pytest.mark.long
async def test_a_rejected_loop_pays_nothing_after_a_kill(tmp_path: Path, node: Anvil, store_url: str) -> None:
    async with mortal(tmp_path, node, store_url) as loop:
        question = await loop.ask([*map(str, UNITS)])
        await loop.decide(question, "reject")
        await loop.die()
        await loop.check(question, [0] * 3, "failure")
        again = (await loop.call("POST", f"/v1/runs/{loop.run_id}/retry"))["runId"]
        loop.run_id = again
        await loop.decide(await loop.asked(), "approve")
        await loop.die()
        await loop.until(again, "success", "failure", "partial")
        assert loop.paid() == [*UNITS]
