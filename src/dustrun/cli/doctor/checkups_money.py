"""`dustrun doctor`: checks of chains and wallets of published workflows, and of the outbox."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from dustrun import clock
from dustrun.chain.networks import NetworkFileError, load_networks
from dustrun.cli.doctor.finding import Finding
from dustrun.cli.http.client import Client
from dustrun.cli.http.failures import CliError
from dustrun.core.money.policy.document import read_policy
from dustrun.core.values.amounts import format_units
from dustrun.core.values.exact_json import loads
from dustrun.core.workflow.definition import ANY_WALLET, WALLET, ConnectorReference
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.db.ledger_tables import transactions, wallets
from dustrun.storage.db.statement import Statement
from dustrun.storage.db.tables import workflow_versions, workflows
from dustrun.storage.money.wallets import find_policy

_MINUTE_MS = 60_000
_LATE = 10
"""A transaction is late after this many times `transaction_stuck_s`: raising its fee has not helped."""
_MOST_NAMED = 5

_LIVE = Statement(
    sa.select(workflows.c.id, workflows.c.name, workflows.c.org_id, workflow_versions.c.definition)
    .join(
        workflow_versions,
        sa.and_(
            workflow_versions.c.workflow_id == workflows.c.id, workflow_versions.c.version == workflows.c.live_version
        ),
    )
    .where(workflows.c.status == "active")
    .order_by(workflows.c.id)
)
_DISPLACED = Statement(sa.select(transactions.c.id).where(transactions.c.state == "displaced").order_by("id"))
_OPEN = Statement(
    sa.select(transactions.c.id, transactions.c.state, transactions.c.planned_at, transactions.c.signed_at)
    .where(
        sa.or_(
            transactions.c.state.in_(("signed", "sent")),
            sa.and_(transactions.c.state == "planned", transactions.c.approval_id.is_(None)),
        )
    )
    .order_by(transactions.c.planned_at)
)
_WALLETS = Statement(
    sa.select(wallets.c.id, wallets.c.org_id, wallets.c.name, wallets.c.kind, wallets.c.is_default).where(
        wallets.c.archived_at.is_(None)
    )
)


def local(settings: Settings, database: Database) -> list[Finding]:
    """Runs every check that needs only the store and the settings."""
    used = _spends_of_live(database)
    return [*chains(settings, used), *policies(database, used), outbox(settings, database)]


def _spends_of_live(database: Database) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Every node of the published workflows: organisation, workflow name and id, node."""
    found = database.read_now(lambda tx: tx.all(_LIVE))
    return [
        (org_id, name, workflow_id, node)
        for workflow_id, name, org_id, text in found
        for node in loads(text).get("nodes", {}).values()
    ]


def _chain_of(node: dict[str, Any]) -> int | None:
    """The chain id that a node names; None if it is an expression."""
    said = (node.get("payload") or {}).get("chainId")
    return int(said) if isinstance(said, int) or (isinstance(said, str) and said.isdecimal()) else None


def chains(settings: Settings, used: list[tuple[str, str, str, dict[str, Any]]]) -> list[Finding]:
    """Whether the chain files are valid and every chain of a published workflow has an endpoint."""
    try:
        networks = load_networks(settings.networks_dir, settings.chain_endpoints)
    except NetworkFileError as error:
        return [Finding("chains", "bad", f"{error}", "Fix the file; the server cannot start with it.")]
    served = {chain_id for chain_id, network in networks.items() if network.endpoints}
    missing: dict[int, set[str]] = {}
    for _, name, workflow_id, node in used:
        chain_id = _chain_of(node)
        if chain_id is not None and chain_id not in served:
            missing.setdefault(chain_id, set()).add(f'"{name}" ({workflow_id})')
    if not missing:
        return [Finding("chains", "ok", f"{len(served)} have endpoints; published workflows need no others")]
    return [_not_served(chain_id, networks.get(chain_id), names) for chain_id, names in sorted(missing.items())]


def _not_served(chain_id: int, network: Any, names: set[str]) -> Finding:
    says = f"{_some(names)} needs chain {chain_id}" + (
        f" ({network.name})" if network else ", which no chain file describes"
    )
    mend = f'Set DUSTRUN_CHAIN_ENDPOINTS=\'{{"{chain_id}": ["https://…"]}}\'; see docs/guides/chains.md.'
    return Finding("chains", "bad", f"{says}, but no endpoint is configured for it", mend)


def policies(database: Database, used: list[tuple[str, str, str, dict[str, Any]]]) -> Iterator[Finding]:
    """Whether the wallets of published workflows exist, can sign, and have a policy that allows something."""
    found = database.read_now(lambda tx: tx.all(_WALLETS))
    known = {(str(row[1]), str(row[0])): row for row in found}
    named = {
        (org_id, wallet_id): f'"{name}" ({workflow_id})'
        for org_id, name, workflow_id, node in used
        if (node.get("connector") or {}).get("type") == WALLET
        for wallet_id in ConnectorReference.model_validate(node["connector"]).wallets
        if wallet_id != ANY_WALLET
    }
    well = True
    for (org_id, wallet_id), workflow in sorted(named.items()):
        row = known.get((org_id, wallet_id))
        if row is None:
            well = False
            mend = "Use another wallet in the workflow and publish it."
            yield Finding(
                "wallets", "bad", f'{workflow} spends from "{wallet_id}", which does not exist or is archived', mend
            )
        elif row[3] == "watch":
            well = False
            mend = "A watch-only wallet has no key here. Import the key, or use another wallet."
            yield Finding("wallets", "bad", f'{workflow} spends from "{row[2]}", which is watch-only', mend)
        elif _denies_all(database, wallet_id):
            well = False
            mend = (
                f"Every spend is denied. Set a policy: dustrun wallet policy {wallet_id}, "
                f"or PUT /v1/wallets/{wallet_id}/policy."
            )
            yield Finding("wallets", "warning", f'{workflow} spends from "{row[2]}", whose policy is empty', mend)
    if well:
        yield Finding("wallets", "ok", f"{len(found)}; those of published workflows can sign and may spend")


def _denies_all(database: Database, wallet_id: str) -> bool:
    row = database.read_now(lambda tx: find_policy(tx, wallet_id, clock.now_ms()))
    policy = None if row is None else read_policy(row.document)
    return policy is None or not (policy.chains or policy.signatures.messages)


def outbox(settings: Settings, database: Database) -> Finding:
    """Whether transactions are stuck or displaced."""
    displaced = [str(row[0]) for row in database.read_now(lambda tx: tx.all(_DISPLACED))]
    if displaced:
        says = f"{len(displaced)} displaced: another transaction used their nonce, so these were never mined"
        mend = f"Check them and the chain before you send anything again: dustrun tx show {displaced[0]}"
        return Finding("outbox", "bad", says, mend)
    before = clock.now_ms() - max(int(_LATE * settings.transaction_stuck_s * 1000), _MINUTE_MS)
    waiting = database.read_now(lambda tx: tx.all(_OPEN))
    late = [row for row in waiting if int(row[3] or row[2]) < before]
    if not late:
        return Finding("outbox", "ok", f"{len(waiting)} pending, none late")
    says = f"{len(late)} pending for too long, the oldest since {clock.to_rfc3339(int(late[0][3] or late[0][2]))}"
    mend = f"See what it is waiting for: dustrun tx show {late[0][0]}"
    return Finding("outbox", "warning", says, mend)


def _some(names: set[str]) -> str:
    shown = sorted(names)[:_MOST_NAMED]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def remote(client: Client) -> list[Finding]:
    """Checks endpoints and balances through the server."""
    try:
        return [*endpoints(client), *funds(client)]
    except CliError as error:
        return [Finding("chains", "warning", f"the check failed: {error.message}", error.hint)]


def endpoints(client: Client) -> Iterator[Finding]:
    """Whether each endpoint answers and serves the right chain."""
    for chain in client.get("/v1/chains"):
        if chain["isServed"]:
            yield from _endpoints_of(client.get(f"/v1/chains/{chain['chainId']}/status"), is_local=chain["isLocal"])


def _endpoints_of(status: dict[str, Any], *, is_local: bool) -> Iterator[Finding]:
    name = f"chain {status['chainId']}"
    mend = f"Run dustrun chain check {status['chainId']}, then fix DUSTRUN_CHAIN_ENDPOINTS."
    if is_local and all(one["chainId"] is None for one in status["endpoints"]):
        yield Finding(name, "ok", f"{status['name']}, not running")
    elif status["problem"] is not None:
        yield Finding(name, "bad", status["problem"], mend)
    elif unwell := [f"{one['host']}: {one['problem']}" for one in status["endpoints"] if not one["isUsable"]]:
        yield Finding(name, "warning", "; ".join(unwell), mend)
    else:
        yield Finding(name, "ok", f"{status['name']}, all endpoints usable: {len(status['endpoints'])}")


def funds(client: Client) -> Iterator[Finding]:
    """Whether wallets hold enough for one run of each published workflow, gas included."""
    short = 0
    for workflow in client.get("/v1/workflows", status="active", limit=100)["items"]:
        version = workflow["liveVersion"]
        try:
            needs = client.get(f"/v1/workflows/{workflow['id']}/analyze-funds", version=version)
        except CliError as error:
            yield Finding("funds", "warning", f'"{workflow["name"]}": {error.message}', error.hint)
            continue
        for lacking in sorted({_lack(need["balance"]) for need in needs["requirements"] if _is_short(need)}):
            short += 1
            says = f'"{workflow["name"]}" would run out: {lacking}'
            yield Finding("funds", "warning", says, "Fund the wallet, or pause the workflow.")
    if not short:
        yield Finding("funds", "ok", "wallets hold the known cost of one run of each published workflow")


def _is_short(need: dict[str, Any]) -> bool:
    return need["balance"] is not None and need["balance"]["isInsufficient"]


def _lack(balance: dict[str, Any]) -> str:
    has = format_units(int(balance["amount"]), balance["decimals"])
    return f"{balance['walletAddress']} has {has} {balance['symbol']} on chain {balance['chainId']}"
