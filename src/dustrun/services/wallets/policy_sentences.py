"""Policies as sentences, with the names of this server's chains, tokens and exchanges; the API and the command line use
it alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from dustrun.core.money.policy.document import WalletPolicy
from dustrun.core.money.policy.sentences import Misread, Names, Told, read_sentences, tell
from dustrun.core.values.amounts import Asset
from dustrun.errors import Invalid, Problem
from dustrun.records import dataclass
from dustrun.sdk.threads import run_sized
from dustrun.services.wallets.funds import ServedChains


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A policy and what it says; without a policy, the lines that are not understood."""

    policy: WalletPolicy | None
    told: Told
    problems: tuple[Misread, ...] = ()


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
        told = await run_sized(policy.model_dump(mode="json"), tell, policy, self._names())
        return PolicyText(policy, told)

    def _read(self, text: str, rest: Mapping[str, Any]) -> PolicyText:
        names = self._names()
        found = read_sentences(text, names, rest)
        told = Told((), dict(rest)) if found.policy is None else tell(found.policy, names)
        return PolicyText(found.policy, told, found.problems)

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
