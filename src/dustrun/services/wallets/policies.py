"""Reads and changes wallet policies. Tightening takes effect at once; loosening needs `wallet:admin` and may take
effect later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, Final

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from dustrun import clock
from dustrun.core.money.policy.compare import what_is_looser
from dustrun.core.money.policy.document import WalletPolicy, read_policy, with_defaults
from dustrun.core.money.policy.sentences import Misread, Names, WrittenPolicy, read_sentences, statements_of, tell
from dustrun.core.values import exact_json
from dustrun.core.values.amounts import Asset
from dustrun.errors import Bug, Code, Conflict, Forbidden, Invalid, Problem
from dustrun.records import dataclass
from dustrun.sdk.threads import run_sized
from dustrun.services.access import audit, idempotency
from dustrun.services.access.api_keys import need_good, principal_of
from dustrun.services.access.hands import administers, hand_of, hands_behind
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.wallets.budget import note_policy
from dustrun.services.wallets.funds import ServedChains
from dustrun.services.wallets.wallets import get_open, get_wallet
from dustrun.storage.access import keys, organizations
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.money import wallets as rows
from dustrun.storage.money.wallets import PolicyRow

_FURTHEST_MS: Final = 366 * 86_400_000


@dataclass(frozen=True, slots=True)
class Policies:
    """The policy in force, and the one that will come into force, if any. `newest` is the highest version.
    `unanswered`: why nobody could approve what the caller's own runs ask by the newest one."""

    in_force: PolicyRow
    pending: PolicyRow | None
    newest: int
    unanswered: str | None = None


class WalletPolicies:
    """The use cases of policies. `least_delay_ms` is the minimum delay of a loosening."""

    def __init__(self, database: Database, writer: Writer, least_delay_ms: int) -> None:
        self._database = database
        self._writer = writer
        self._least_delay_ms = least_delay_ms

    async def get(self, principal: Principal, wallet_id: str) -> Policies:
        """A wallet's policy; raises `NotFound`."""

        def query(tx: Tx) -> Policies:
            get_wallet(tx, principal, wallet_id)
            return _warned(tx, principal, _policies(tx, wallet_id))

        return await self._database.read(query)

    async def warn(self, principal: Principal, wallet_id: str, policy: WalletPolicy) -> list[str]:
        """Warnings about a policy that a wallet does not have yet; raises `NotFound`."""

        def query(tx: Tx) -> str | None:
            get_wallet(tx, principal, wallet_id)
            return why_nobody_approves(tx, principal, wallet_id, policy) if policy.approval_above else None

        warning = await self._database.read(query)
        return [] if warning is None else [warning]

    async def history(self, principal: Principal, wallet_id: str, paging: Paging) -> Page[PolicyRow]:
        """Every version, newest first."""

        def query(tx: Tx) -> list[PolicyRow]:
            get_wallet(tx, principal, wallet_id)
            return rows.list_policies(tx, wallet_id, limit=paging.peek, offset=paging.offset)

        return page_of(await self._database.read(query), paging)

    async def put(
        self,
        principal: Principal,
        wallet_id: str,
        policy: WalletPolicy,
        *,
        expected_version: int | None,
        effective_at: int | None,
    ) -> Policies:
        """Stores a policy as the next version, with the defaults of new policies for what it does not mention; cancels
        one that waits to come into force. Raises `Conflict` if
        `expected_version` is not the newest, `Forbidden` for a loosening without `wallet:admin`, and `Invalid` for an
        impossible instant."""
        policy = with_defaults(policy)
        document = exact_json.dumps_text(policy.model_dump(mode="json", by_alias=True))

        def unit(tx: Tx) -> Policies:
            need_good(tx, principal)
            get_open(tx, principal, wallet_id)
            principal.need_every_workflow("change a policy, which holds for other workflows too")
            before = _policies(tx, wallet_id)
            _check_version(before, expected_version)
            if before.pending is None and before.in_force.document == document:
                return _warned(tx, principal, before)
            looser = what_is_looser(read_policy(before.in_force.document), policy)
            now = clock.now_ms()
            begins = self._begin(principal, looser, effective_at, now)
            rows.cancel_pending(tx, wallet_id, now_ms=now)
            row = PolicyRow(
                wallet_id=wallet_id,
                version=before.newest + 1,
                document=document,
                is_looser=int(bool(looser)),
                effective_at=begins,
                created_by=principal.key_id,
                created_at=now,
            )
            rows.add_policy(tx, row)
            note_policy(tx, wallet_id, policy, now)
            audit.record(
                tx,
                principal,
                "wallet.policy",
                wallet_id,
                version=row.version,
                looser=_names(looser),
                effectiveAt=clock.to_rfc3339(begins),
            )
            return _warned(tx, principal, _policies(tx, wallet_id))

        return await idempotency.write(self._writer, unit)

    def _begin(self, principal: Principal, looser: list[str], wanted: int | None, now: int) -> int:
        """When a change comes into force."""
        if not looser:
            if wanted is not None and wanted > now:
                raise _invalid("effectiveAt", "must be absent: this policy loosens nothing, so it takes effect at once")
            return now
        if not principal.may("wallet:admin"):
            listed = ", ".join(_names(looser))
            raise Forbidden(
                f'This policy loosens the one in force ({listed}); that needs the permission "wallet:admin".',
                details=[Problem(f"policy.{name}", "is looser than before") for name in _names(looser)],
            )
        earliest = now + self._least_delay_ms
        if wanted is None:
            return earliest
        if wanted > now + _FURTHEST_MS:
            raise _invalid("effectiveAt", "must be within a year")
        return max(wanted, earliest)


def _policies(tx: Tx, wallet_id: str) -> Policies:
    now = clock.now_ms()
    in_force, newest = rows.find_policy(tx, wallet_id, now), rows.find_newest_policy(tx, wallet_id)
    if in_force is None or newest is None:
        raise Bug(f'The wallet "{wallet_id}" has no policy.')
    return Policies(in_force, newest if newest.is_pending(now) else None, newest.version)


def _warned(tx: Tx, principal: Principal, found: Policies) -> Policies:
    newest = found.pending or found.in_force
    policy = read_policy(newest.document)
    if policy.approval_above is None:
        return found
    return replace(found, unanswered=why_nobody_approves(tx, principal, newest.wallet_id, policy))


def why_nobody_approves(tx: Tx, principal: Principal, wallet_id: str, policy: WalletPolicy) -> str | None:
    """Why what the policy asks of the caller's own runs could not be approved: too few hands besides theirs may."""
    rules, hands = policy.approval, set[str]()
    now = clock.now_ms()
    for row in keys.list_all(tx, principal.org_id):
        if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
            continue
        who = principal_of(row)
        is_named = not rules.approvers or row.id in rules.approvers
        if is_named and row.service_account_id is None and who.may("approval:decide") and who.may_use_wallet(wallet_id):
            hands.add(hand_of(tx, principal.org_id, row.id))
    own = hands_behind(tx, principal.org_id, principal.key_id)
    org, key = organizations.find(tx, principal.org_id), keys.find(tx, principal.org_id, principal.key_id)
    if org is None or not org.single_person or key is None or not administers(key):
        hands -= own
    if len(hands) >= rules.quorum:
        return None
    needed = "another key" if rules.quorum == 1 else f"{rules.quorum} other keys, no two of them one hand,"
    return (
        f"Nobody could approve what your own runs ask: {needed} with the permission approval:decide must, and there "
        f"{'is' if len(hands) == 1 else 'are'} {len(hands) or 'none'}. Make a key for another person; an organisation "
        "of one person can approve its own runs (singlePersonApproves)."
    )


def _check_version(before: Policies, expected: int | None) -> None:
    if expected is not None and expected != before.newest:
        message = f"The policy is at version {before.newest}, not {expected}; read it again."
        raise Conflict(message, code=Code.POLICY_VERSION_MOVED)


def _names(looser: list[str]) -> list[str]:
    return [to_camel(name) for name in looser]


def _invalid(field: str, message: str) -> Invalid:
    return Invalid("The request body is not valid.", details=[Problem(field, message)])


# Policies as sentences, with the names of this server's chains, tokens and exchanges; the API and the command line use
# it alike.


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A policy and what it says; without a policy, the lines that are not understood. `statements`: which sentence says
    what a verdict names."""

    policy: WalletPolicy | None
    told: WrittenPolicy
    problems: tuple[Misread, ...] = ()
    warnings: tuple[str, ...] = ()
    statements: Mapping[str, str] = field(default_factory=dict)


class PolicySentences:
    """Turns sentences into policies, and policies into sentences."""

    def __init__(self, chains: ServedChains) -> None:
        self._chains = chains

    async def read(self, text: str, rest: Mapping[str, Any]) -> PolicyText:
        """The policy that lines say, read back; `rest` is what sentences cannot say. Raises `Invalid` if that is no
        part of a policy."""
        try:
            return await run_sized(text * 10, self._read, text, rest)
        except ValidationError as fault:
            problems = [Problem(".".join(map(str, one["loc"])), one["msg"]) for one in fault.errors()]
            raise Invalid("The rest of the policy is not valid.", details=problems) from None

    async def tell(self, policy: WalletPolicy) -> PolicyText:
        """A policy in sentences."""
        return await run_sized(policy.model_dump(mode="json"), self._tell, policy)

    async def statements_of(self, policy: WalletPolicy) -> Mapping[str, str]:
        """Which sentence says each statement that a verdict may name."""
        return (await self.tell(policy)).statements

    def _tell(self, policy: WalletPolicy) -> PolicyText:
        names = self._names()
        told = tell(policy, names)
        return PolicyText(policy, told, statements=statements_of(policy, names, told))

    def _read(self, text: str, rest: Mapping[str, Any]) -> PolicyText:
        found = read_sentences(text, self._names(), rest)
        if found.policy is None:
            return PolicyText(None, WrittenPolicy((), dict(rest)), found.problems)
        return replace(self._tell(found.policy), problems=found.problems)

    def _names(self) -> Names:
        """The words of the served chains; of all known ones if none is served."""
        known = self._chains.networks.values()
        networks = [one for one in known if self._chains.is_served(one.chain_id)] or list(known)
        assets: dict[str, list[str]] = {}
        contracts: dict[str, list[str]] = {}
        units: dict[str, tuple[str, int]] = {}
        for one in networks:
            coins = [(Asset(one.chain_id).key, one.native.symbol, one.native.decimals)]
            coins += [(Asset(one.chain_id, token.address).key, token.symbol, token.decimals) for token in one.tokens]
            for key, symbol, decimals in coins:
                assets.setdefault(symbol.lower(), []).append(key)
                units[key.lower()] = (symbol, decimals)
            routers = [router for router in (one.dex.v2_router, one.dex.v3_router) if router is not None]
            if routers:
                contracts.setdefault("uniswap", []).extend(f"eip155:{one.chain_id}:{router}" for router in routers)
        chains = {name: one.chain_id for one in networks for name in (one.short_name.lower(), one.name.lower())}
        return Names(chains, _fixed(assets), _fixed(contracts), units)


def _fixed(found: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(entries) for name, entries in found.items()}
