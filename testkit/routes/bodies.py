"""Valid bodies as large as the routes take."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from dustrun import ids
from dustrun.wallets import keystore
from dustrun.wallets.secp256k1 import SecretKey
from testkit.chain.anvil import CHAIN_ID
from testkit.routes.stored import ROWS, Json, Stored, each, one_node, openapi

_DATA = {"rows": "{{$trigger.body.rows}}"}
TEXT = "t" * 255


def fresh(kind: str) -> str:
    """A name that nothing has."""
    return ids.new_id(kind)


def connector(_: Stored) -> Json:
    hosts = [f"{'h' * 60}{number}.{'x' * 60}.example" for number in range(50)]
    data = {"token": "t" * 4_000}
    return {"type": "http-bearer", "name": fresh("c"), "allowedHosts": hosts, "data": data, "description": "d" * 2_000}


def imported(_: Stored) -> Json:
    return {"document": openapi(), "name": f"o-{fresh('n')[2:]}"}


def hook(stored: Stored) -> Json:
    """Its receiver hangs up."""
    types = ["run.failed", "transaction.*"] * 30
    url = f"{stored.silent}?{'q' * 1_900}"
    return {"name": "h" * 255, "description": "d" * 2_000, "url": url, "subscribedEventTypes": types}


def table(_: Stored) -> Json:
    columns = [{"name": "id", "type": "integer"}, {"name": "data", "type": "json", "default": [7] * 100}]
    more = [{"name": f"c{number}", "type": "text", "default": "d" * 10} for number in range(30)]
    return {"name": fresh("t"), "primaryKey": "id", "columns": [*columns, *more]}


def policy(_: Stored) -> Json:
    address = [f"eip155:{CHAIN_ID}:0x{number:040x}" for number in range(1, 1_001)]
    assets = [f"eip155:{CHAIN_ID}/erc20:0x{number:040x}" for number in range(1, 999)]
    where = " && ".join(["to == wallet", *[f"amount <= units('{number}', 6)" for number in range(30)]])
    method = [f"f{number}(address to, uint256 amount)" for number in range(1_000)]
    limits = [{"asset": asset, "maxUnits": "1", "windowMs": 3_600_000} for asset in assets[:200]]
    policy = {"chains": ["*"], "assets": ["*", *assets], "recipients": address, "contracts": address, "limits": limits,
              "methods": [{"method": one, "where": where} for one in method[:300]] + method[300:]}  # fmt: skip
    return {"policy": policy}


def files(stored: Stored) -> Json:
    text = "definition: {nodes: {root: {type: manual, children: [n]}, n: {type: log, payload: {message: '%s'}}}}"
    return {"files": [{"path": f"{fresh('f')}.yaml", "content": text % ("x" * 700)} for _ in range(400)]}


def large_file(stored: Stored) -> str:
    lines = [f"    n{number}: {{type: log, payload: {{message: '{'y' * 900}'}}}}\n" for number in range(900)]
    names = ", ".join(f"n{number}" for number in range(900))
    head = f"name: {fresh('i')}\ndefinition:\n  nodes:\n    root: {{type: manual, children: [{names}]}}\n"
    return "dustrunWorkflow: 1\n" + head + "".join(lines)


def wrong() -> Json:
    """A definition with as many problems as there can be."""
    payload = {"x": "{{$nodes.gone}} {{1 +}}"}
    nodes = {f"n{number}": {"type": f"nope{number}", "payload": payload} for number in range(900)}
    return {"nodes": {"root": {"type": "manual", "children": [*nodes, "gone"]}, **nodes}, "triggerNodeIds": ["root"]}


def calls(workflow: str, times: int) -> Callable[[Stored], Json]:
    """A run that calls a workflow with much data, so often at a time."""

    def body(stored: Stored) -> Json:
        call = {"type": "call-workflow", "payload": {"workflowId": stored.known[workflow], "payload": _DATA}}
        return {"definition": one_node(each("call", list(range(times))), call=call), "payload": {"rows": ROWS[:30_000]}}

    return body


def fresh_keystore() -> Json:
    """An encrypted key that no wallet has."""
    key = secrets.token_bytes(32)
    return {"keystore": keystore.encrypt(SecretKey(key), "p" * 1_000, ""), "password": "p" * 1_000}
