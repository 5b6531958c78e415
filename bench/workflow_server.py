"""A real server over HTTP for the proofs of simulation: its chain, its wallets, its runs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from bench.load import cpu_s_of
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, KEYS
from testkit.chain.contracts import World
from testkit.server_process import ServerProcess

POLICY = {
    **{name: ["*"] for name in ("chains", "assets", "recipients", "contracts", "methods")},
    "allowUnverifiedCalldata": True,
    "allowUnpricedAssets": True,
    "allowDeploy": True,
    "signatures": {"messages": True, "typedData": "any"},
    "outflow": None,
    "sources": None,
}
_TIME_LIMIT_S = 120
_POLL_S = 0.1
Json = dict[str, Any]


class Server:
    """The product over HTTP: wallets that may do anything, workflows, runs to their end."""

    def __init__(self, process: ServerProcess) -> None:
        self._base = process.base
        self._process = process
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {process.owner_key}"
        self.wallets: dict[str, str] = {}
        """Their ids by address."""
        self._approver = requests.Session()
        self.asked = 0
        """Questions that were approved."""

    def cpu_s(self) -> float:
        """Processor time that the server has used so far."""
        return cpu_s_of(self._process.server_pid)

    def import_wallets(self, places: Iterable[int]) -> None:
        """Wallets of the node's accounts, by their keys; the first is the default."""
        for place in places:
            body = {"name": f"wallet {place}", "privateKey": KEYS[place], "isDefault": not self.wallets}
            self._allow(self.call("POST", "/v1/wallets/import", body), ACCOUNTS[place])

    def add_wallet(self, address: str, **how: Any) -> None:
        """A wallet that somebody else signs for."""
        body = {"name": f"wallet of {address[-4:]}", "address": address, **how}
        self._allow(self.call("POST", "/v1/wallets", body), address)

    def _allow(self, wallet: Json, address: str) -> None:
        self.let(wallet["id"], POLICY)
        self.wallets[address] = wallet["id"]

    def let(self, wallet_id: str, policy: Json) -> None:
        """Gives a wallet a policy."""
        self.call("PUT", f"/v1/wallets/{wallet_id}/policy", {"policy": policy})

    def add_approver(self) -> None:
        """Another key, which approves whatever a run asks."""
        made = self.call("POST", "/v1/api-keys", {"name": "approver", "permissions": ["admin"]})
        self._approver.headers["Authorization"] = f"Bearer {made['key']}"

    def approve_all(self) -> None:
        """Approves every open question with the other key."""
        for question in self.call("GET", "/v1/approvals?status=pending&limit=100")["items"]:
            self.call("POST", f"/v1/approvals/{question['id']}/approve", session=self._approver)
            self.asked += 1

    def call(self, method: str, path: str, body: Any = None, *, session: requests.Session | None = None) -> Any:
        """A call that must succeed; its `data`."""
        answer = (session or self._session).request(method, self._base + path, json=body, timeout=60)
        if answer.status_code != 200:
            raise RuntimeError(f"{method} {path} was answered {answer.status_code}: {answer.text}")
        return answer.json()["data"]

    def create(self, name: str, definition: Json) -> str:
        """Stores a workflow; its id."""
        document = {"name": name, "description": "", "definition": definition}
        return str(self.call("POST", "/v1/workflows", document)["id"])

    def run(self, workflow_id: str, **body: Any) -> Json:
        """Runs it to its end; the run with its nodes."""
        run_id = self.call("POST", f"/v1/workflows/{workflow_id}/run", body)["runId"]
        until = time.monotonic() + _TIME_LIMIT_S
        while time.monotonic() < until:
            if self.call("GET", f"/v1/runs/{run_id}?summary=true")["finishedAt"] is not None:
                found: Json = self.call("GET", f"/v1/runs/{run_id}")
                return found
            if self._approver.headers.get("Authorization"):
                self.approve_all()
            time.sleep(_POLL_S)
        raise RuntimeError(f"{run_id} did not end: {self.call('GET', f'/v1/runs/{run_id}')}")

    def settled(self, run: Json) -> Json:
        """The report of a run, once every run that it started has ended too."""
        until = time.monotonic() + _TIME_LIMIT_S
        while time.monotonic() < until:
            report = self.effects(run)
            if not any(child["isOpen"] for child in report["children"]):
                return report
            if self._approver.headers.get("Authorization"):
                self.approve_all()
            time.sleep(_POLL_S)
        raise RuntimeError(f"a run that {run['id']} called did not end")

    def effects(self, run: Json) -> Json:
        """The report of a run."""
        found: Json = self.call("GET", f"/v1/runs/{run['id']}/effects")
        return found


@contextmanager
def open_server(
    folder: Path, world: World, url: str, *, before: Sequence[str] = (), **settings: str
) -> Iterator[ServerProcess]:
    """A server process on that endpoint."""
    networks = folder / "networks"
    networks.mkdir()
    fields = world.network().model_dump(by_alias=True, mode="json", exclude={"endpoints"})
    (networks / "local.json").write_text(json.dumps({**fields, "blockTimeMs": 100, "confirmations": 1}))
    given = {
        "networks_dir": str(networks),
        "chain_endpoints": json.dumps({str(CHAIN_ID): [url]}),
        "chain_requests_per_second": "0",
        "outbound_allow": "127.0.0.1",
        "rate_limit_per_second": "0",
        "price_keep_ms": "0",  # a simulation asks anew once a pool moves; a live run uses a price of seconds ago
        **settings,
    }
    process = ServerProcess(folder / "data", given, before=before)
    try:
        process.start()
        asyncio.run(process.wait_ready(180))
        yield process
    finally:
        asyncio.run(process.stop())
