"""A wallet on the local chain that may do only what `examples/chain/take-profit.json` needs, and that workflow, saved.

`demo.json` in the chain's folder remembers which wallet belongs to which chain: with another chain, or without its
wallet, there is a new one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devchain.chain import DevChain
from devchain.market import ETHER, Builder
from devchain.node import CHAIN_ID
from devchain.parts import ROOT

from dustrun.cli.http.client import Client
from dustrun.cli.http.failures import CliError
from dustrun.core.values import exact_json
from dustrun.errors import Code

EXAMPLE = ROOT / "examples" / "chain" / "take-profit.json"
NAME = "Take profit"
_SWAP = "swapExactTokensForTokensSupportingFeeOnTransferTokens(uint256,uint256,address[],address,uint256)"
_DAY_MS = 86_400_000
_OWN = ["definition", "starter", "variable", "run", "setting"]
_MARKET = ["chain", "clock", "price"]
_SPENDS = ("sell", "share")


@dataclass(frozen=True)
class Demo:
    """What is ready to be run: `payload` is the file that `dustrun run … --payload @` takes."""

    wallet: dict[str, Any]
    workflow_id: str
    payload: Path
    treasury: str

    def names(self, chain: DevChain) -> dict[str, str]:
        """Addresses as a person calls them."""
        at = chain.addresses
        own = {self.wallet["address"]: self.wallet["name"], self.treasury: "treasury"}
        return own | {at["v2Router"]: "V2 router", at["v2Pool"]: "V2 pool"}


def prepare(client: Client, chain: DevChain, notice_url: str) -> Demo:
    """The demo wallet with coins and a policy, and the workflow that uses it."""
    example = exact_json.loads_own(EXAMPLE.read_bytes())
    at = chain.addresses
    payload = example["payload"] | {
        "chainId": CHAIN_ID,
        "router": at["v2Router"],
        "weth": at["weth"],
        "usdc": at["usdc"],
        "noticeUrl": notice_url,
    }
    wallet = _wallet(client, chain, payload["treasury"])
    _fund(chain, wallet["address"])
    path = chain.folder / "take-profit.json"
    path.write_text(json.dumps(payload, indent=2))
    return Demo(wallet, _workflow(client, example, wallet["id"]), path, payload["treasury"])


def commands(chain: DevChain) -> list[str]:
    """What to try next."""
    found = [f"dustrun run '{NAME}' --simulate --payload @{chain.folder / 'take-profit.json'}"]
    remembered = chain.folder / "demo.json"
    if remembered.exists():
        wallet = json.loads(remembered.read_text())["walletId"]
        found += [f"dustrun wallet policy {wallet}", f"dustrun wallet balances {wallet}"]
    return found


def policy(chain: DevChain, treasury: str) -> dict[str, Any]:
    """Everything else is denied."""
    at = chain.addresses
    return {
        "chains": [CHAIN_ID],
        "assets": [f"eip155:{CHAIN_ID}/erc20:{at[token]}" for token in ("weth", "usdc")],
        "recipients": [treasury],
        "contracts": [at["v2Router"]],
        "methods": [_SWAP],
        "limits": [{"maxUsd": "500"}, {"maxUsd": "25000", "windowMs": _DAY_MS}],
        "gas": [{"maxGasUsd": "10"}],
        "sources": {"recipient": {"allow": _OWN}, "amount": {"allow": [*_OWN, *_MARKET]}},
    }


def _wallet(client: Client, chain: DevChain, treasury: str) -> dict[str, Any]:
    """The wallet of this chain, else a new one; a policy that somebody changed since stays as it is."""
    remembered = chain.folder / "demo.json"
    kept = json.loads(remembered.read_text()) if remembered.exists() else {}
    if kept.get("genesis") == chain.genesis:
        found = _find_wallet(client, kept["walletId"])
        if found is not None:
            return found
    taken = {item["name"] for item in client.get("/v1/wallets", limit=100)["items"]}
    name = next(name for name in ("demo", *(f"demo {n}" for n in range(2, 1000))) if name not in taken)
    about = "Of scripts/up: may only take profit on the local chain."
    made: dict[str, Any] = client.post("/v1/wallets", {"name": name, "description": about, "kind": "local"})
    client.put(f"/v1/wallets/{made['id']}/policy", {"policy": policy(chain, treasury)})
    remembered.write_text(json.dumps({"genesis": chain.genesis, "walletId": made["id"]}))
    return made


def _find_wallet(client: Client, wallet_id: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.get(f"/v1/wallets/{wallet_id}")
    except CliError as error:
        if error.code != Code.WALLET_UNKNOWN:
            raise
        return None
    return None if found["archivedAt"] else found


def _fund(chain: DevChain, address: str) -> None:
    """One ether for fees and one WETH to sell, whenever less than half of that is left."""
    node, weth = chain.node, chain.addresses["weth"]
    if int(node.ask("eth_getBalance", address, "latest"), 16) < ETHER // 2:
        node.ask("anvil_setBalance", address, hex(ETHER))
    builder = Builder(node)
    if builder.read(weth, "balanceOf(address) returns (uint256)", address) < ETHER // 2:
        builder.send(weth, "deposit()", value=ETHER)
        builder.send(weth, "transfer(address to, uint256 value)", address, ETHER)


def _workflow(client: Client, example: dict[str, Any], wallet_id: str) -> str:
    """The example, saved once; its spends name the demo wallet, also after that was made anew."""
    definition = example["definition"]
    for node in _SPENDS:
        definition["nodes"][node]["connector"] = {"type": "wallet", "id": wallet_id}
    body = {"name": NAME, "description": example["description"], "definition": definition}
    items = client.get("/v1/workflows", q=NAME, limit=100)["items"]
    found = next((item["id"] for item in items if item["name"] == NAME), None)
    if found is None:
        return str(client.post("/v1/workflows", body)["id"])
    kept = client.get(f"/v1/workflows/{found}")["definition"]["nodes"]
    if any(kept.get(node, {}).get("connector", {}).get("id") not in (None, wallet_id) for node in _SPENDS):
        client.put(f"/v1/workflows/{found}", body)
    return str(found)
