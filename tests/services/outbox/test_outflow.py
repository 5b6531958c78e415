"""The outflow ceiling at the outbox: on both stores, after a crash, and where no endpoint can simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from outbox import ALICE, ANYTHING, Outbox, address, open_outbox, transfer
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.rpc_proxy import proxy

NATIVE = f"eip155:{CHAIN_ID}/native"
_SIMULATES = ("eth_simulateV1", "debug_traceCall")


async def put_outflow(outbox: Outbox, **outflow: Any) -> None:
    path = f"/v1/wallets/{outbox.wallet_id}/policy"
    reply = await outbox.composition.owner.put(path, {"policy": {**ANYTHING, "outflow": outflow}})
    assert reply.status == 200, reply.body


async def test_a_denial_takes_no_nonce_and_stays_after_a_crash(tmp_path: Path, node: Anvil, store_url: str) -> None:
    async with open_outbox(tmp_path, node, store_url) as outbox:
        await put_outflow(outbox, assets={NATIVE: "4"})
        denied = await outbox.pay("pay", transfer(address(1), 5))
        assert denied.failure is not None
        message = f"The transaction takes 5 base units of {NATIVE}, over 4."
        assert denied.failure.code == "OUTFLOW_EXCEEDED"
        assert denied.failure.details == ({"field": f"outflow.assets.{NATIVE}", "message": message},)
        await outbox.outbox.stop()
        await outbox.reborn().start()
        found = await outbox.status("pay")
        assert found.failure == denied.failure
        again = await outbox.pay("pay", transfer(address(1), 5))
        assert (again.generation, again.failure) == (2, denied.failure)
        paid = await outbox.pay("pays", transfer(address(2), 4))
        assert (paid.status, paid.transactions[0]["nonce"]) == ("open", 0)
        rows = (await outbox.composition.owner.get("/v1/transactions")).data["items"]
        assert sorted((row["status"], row["nonce"]) for row in rows if row["nonce"] is None) == [("refused", None)] * 2
        assert int(node.rpc("eth_getTransactionCount", ALICE, "pending"), 16) == 1


async def test_where_nobody_can_simulate_the_policy_decides(tmp_path: Path, node: Anvil) -> None:
    def twist(call: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if call["method"] not in _SIMULATES:
            return answer
        return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32601, "message": "the method does not exist"}}

    async with proxy(node.url) as plain:
        plain.twist = twist
        async with open_outbox(tmp_path, node, url=plain.url) as outbox:
            await put_outflow(outbox)
            denied = await outbox.pay("pay", transfer(address(1), 5))
            assert denied.failure is not None
            assert denied.failure.code == "OUTFLOW_UNKNOWN"
            await put_outflow(outbox, unsimulated="declared")
            assert (await outbox.pay("pays", transfer(address(2), 5))).status == "open"
            reply = await outbox.composition.owner.put(f"/v1/wallets/{outbox.wallet_id}/policy", {"policy": ANYTHING})
            assert reply.status == 200
            ours = await outbox.pay("ours", transfer(address(3), 1), mode="dust")
            written = await outbox.pay("written", transfer(address(3), 1, as_written=True), mode="dust")
            assert ours.status == "open"
            assert written.failure is not None
            assert written.failure.code == "OUTFLOW_UNKNOWN"
