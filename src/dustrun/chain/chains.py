"""All chains of this server: one `LiveChain` each, created on first use, over one HTTP session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from dustrun.chain.endpoints import Endpoint, Endpoints
from dustrun.chain.evm import LiveChain
from dustrun.chain.networks import get_network
from dustrun.chain.rpc import Rpc
from dustrun.core.evm.network import Network
from dustrun.errors import Code, Invalid, Temporary
from dustrun.settings import Settings

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver

_CONNECTIONS_PER_HOST: Final = 100
_KEEPALIVE_S: Final = 15.0


class Addresses(Protocol):
    """Where endpoints may lead."""

    @property
    def resolver(self) -> object:
        """The resolver of their names: an `AbstractResolver` of aiohttp, at least by its methods."""
        ...

    def find_refusal(self, url: str) -> str | None:
        """Why an endpoint's URL may not be used; None if it may."""
        ...


class Chains:
    """The known networks, and a `LiveChain` for each that has a configured endpoint. `addresses` guards where endpoints
    lead; without it, whoever gives the networks answers for that."""

    def __init__(self, networks: Mapping[int, Network], settings: Settings, addresses: Addresses | None = None) -> None:
        self.networks = networks
        self._settings = settings
        self._addresses = addresses
        self._live: dict[int, LiveChain] = {}
        self._second: dict[int, LiveChain] = {}
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False
        if any(network.endpoints for network in networks.values()):
            import aiohttp  # slow import: at the start, not on the event loop with the first call  # noqa: F401

    def network(self, wanted: int | str) -> Network:
        """A network by id or name; raises `Invalid` with similar names."""
        return get_network(self.networks, wanted)

    def get(self, chain_id: int) -> LiveChain:
        """One chain; raises `Invalid` if it is unknown or has no configured endpoint. Needs a running loop."""
        if chain_id not in self._live:
            network = self.network(chain_id)
            if not network.endpoints:
                raise Invalid(
                    f"No endpoint of {network.name} is configured: set `chain_endpoints`, like "
                    f'DUSTRUN_CHAIN_ENDPOINTS=\'{{"{chain_id}": ["https://…"]}}\'.',
                    code=Code.CHAIN_NOT_SERVED,
                )
            self._live[chain_id] = LiveChain(network, Endpoints(network, self._endpoints(network)))
        return self._live[chain_id]

    def second(self, chain_id: int) -> LiveChain | None:
        """The chain as an independent endpoint sees it (setting `second_endpoints`); None without one."""
        url = self._settings.second_endpoints.get(chain_id)
        if url is None:
            return None
        if chain_id not in self._second:
            network = self.network(chain_id).model_copy(update={"endpoints": (url,)})
            self._second[chain_id] = LiveChain(network, Endpoints(network, self._endpoints(network)))
        return self._second[chain_id]

    def _endpoints(self, network: Network) -> list[Endpoint]:
        import aiohttp  # slow import: only a server with endpoints needs it

        if self._is_closed:  # whoever still works while the server stops: nobody would close another session
            raise Temporary(f"The server stops, so no endpoint of {network.name} is asked any more.")
        if self._session is None:
            resolver = None if self._addresses is None else self._addresses.resolver
            connector = aiohttp.TCPConnector(
                resolver=cast("AbstractResolver | None", resolver),
                limit=0,
                limit_per_host=_CONNECTIONS_PER_HOST,
                keepalive_timeout=_KEEPALIVE_S,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "dustrun"},
                timeout=aiohttp.ClientTimeout(total=None),
            )
        per_second = 0 if network.is_local else self._settings.chain_requests_per_second
        options: dict[str, Any] = {
            "per_second": per_second,
            "timeout_s": self._settings.chain_timeout_ms / 1000,
            "max_bytes": self._settings.chain_max_bytes,
        }
        return [Endpoint(Rpc(url, self._session, self._find_refusal(url), **options)) for url in network.endpoints]

    def _find_refusal(self, url: str) -> str | None:
        return None if self._addresses is None else self._addresses.find_refusal(url)

    def is_served(self, chain_id: int) -> bool:
        """Whether an endpoint is configured for it."""
        return chain_id in self.networks and bool(self.networks[chain_id].endpoints)

    async def close(self) -> None:
        """Closes all connections to endpoints, for good."""
        self._is_closed = True
        self._live.clear()
        self._second.clear()
        if self._session is not None:
            await self._session.close()
            self._session = None
