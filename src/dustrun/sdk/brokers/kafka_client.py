"""A client of Kafka whose every connection passes the outbound guard: to the servers that a connector names, and to the
brokers that these name.

It imports aiokafka, so it is imported itself only when the first connection is wanted. The library takes addresses from
`hosts` and from `cluster` alone; both know only those that the guard has allowed, so that what it should do otherwise
in another version ends without a connection.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError, SaslAuthenticationFailed, UnsupportedSaslMechanismError
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import BrokerMetadata

from dustrun.errors import DustrunError
from dustrun.sdk.brokers.refusals import unreachable
from dustrun.sdk.context import NoConnection

_REFUSED = 401
Addresses = Callable[[str, int], Awaitable[list[str]]]


class _Cluster(ClusterMetadata):  # type: ignore[misc]  # the library has no types
    """The brokers' addresses, as they give them; one only if it is allowed."""

    def __init__(self, metadata_max_age_ms: int) -> None:
        super().__init__(metadata_max_age_ms=metadata_max_age_ms)
        self.allowed: dict[Any, BrokerMetadata] = {}

    def named(self, broker_id: Any) -> BrokerMetadata | None:
        """A broker by the name that the cluster gives it."""
        found: BrokerMetadata | None = super().broker_metadata(broker_id)
        return found

    def broker_metadata(self, broker_id: Any) -> BrokerMetadata | None:
        """A broker by its allowed address."""
        return self.allowed.get(broker_id)


class GuardedClient(AIOKafkaClient):  # type: ignore[misc]  # the library has no types
    """`data` is a connector's, `addresses` the guard; `tls` makes what checks a certificate for a name."""

    def __init__(
        self, data: Any, addresses: Addresses, tls: Callable[[str], ssl.SSLContext], *, metadata_max_age_ms: int
    ) -> None:
        self._at: list[tuple[str, int, int]] = []
        self._servers = [one.rpartition(":")[::2] for one in data.servers]
        self._addresses = addresses
        self._tls = tls
        self._turn = asyncio.Lock()
        self._refusal: DustrunError | None = None
        self.made = 0
        """How many connections to brokers have been made."""
        self._encrypts = data.tls == "verify-full"
        self._login: dict[str, Any] = {
            "client_id": "dustrun",
            "request_timeout_ms": 15_000,
            "security_protocol": ("SASL_" if data.mechanism else "") + ("SSL" if self._encrypts else "PLAINTEXT"),
            "sasl_mechanism": (data.mechanism or "plain").upper(),
            "sasl_plain_username": data.user,
            "sasl_plain_password": data.password,
        }
        super().__init__(
            metadata_max_age_ms=metadata_max_age_ms, ssl_context=tls("") if self._encrypts else None, **self._login
        )
        self.cluster = _Cluster(metadata_max_age_ms)

    @property
    def hosts(self) -> list[tuple[str, int, int]]:
        """Where it begins: one allowed address at a time."""
        return self._at

    def need_connection(self) -> None:
        """Raises why the last broker that was wanted is not connected to, if it is not: the library tries again and
        again, and tells nobody."""
        if self._refusal is not None:
            raise self._refusal

    async def bootstrap(self) -> None:
        """Connects to the first server that answers."""
        refusal: DustrunError | None = None
        for host, port in self._servers:
            try:
                address = await self._allow(host.strip("[]"), int(port))
                try:
                    await super().bootstrap()
                    return
                except Exception:  # the library keeps why to itself
                    raise await self._why_not(f"{host}:{port}", address, int(port)) from None
            except DustrunError as error:
                refusal = error
        assert refusal is not None
        raise refusal

    async def _get_conn(self, node_id: Any, *, group: int = ConnectionGroup.DEFAULT, no_hint: bool = False) -> Any:
        known = self._conns.get((node_id, group))
        if known is not None and known.connected():
            return known
        async with self._turn:  # the name that a certificate is checked for is that of the next connection
            broker = self.cluster.named(node_id)
            try:
                if broker is not None:
                    address = await self._allow(broker.host, broker.port)
                    self.cluster.allowed[node_id] = broker._replace(host=address)
                found = await super()._get_conn(node_id, group=group, no_hint=no_hint)
            except DustrunError as error:
                self._refusal = error
                return None
            self._refusal = None
            self.made += found is not None
            if found is None and broker is not None:
                self._refusal = await self._why_not(f"{broker.host}:{broker.port}", address, broker.port)
            return found

    async def _why_not(self, name: str, address: str, port: int) -> NoConnection:
        """Why a broker was not connected to, by asking it once more."""
        connection = None
        try:
            connection = await create_conn(address, port, ssl_context=self._ssl_context, **self._login)
            await connection.send(MetadataRequest([]))
        except Exception as error:  # of some refusals the library cannot read the answer
            return _told(name, error, self._login, is_connected=connection is not None)
        finally:
            if connection is not None:
                connection.close()
        return NoConnection(f'The broker "{name}" could not be connected to, and now can.')

    async def _allow(self, host: str, port: int) -> str:
        (address, *_) = await self._addresses(host, port)
        self._at = [(address, port, socket.AF_UNSPEC)]
        if self._encrypts:
            self._ssl_context = self._tls(host)
        return address


def _told(name: str, error: Exception, login: dict[str, Any], *, is_connected: bool) -> NoConnection:
    """The message of a broker's refusal, and which field of the connector mends it."""
    what, encrypts = f'The broker "{name}"', login["security_protocol"].endswith("SSL")
    has_user = login["security_protocol"].startswith("SASL")
    if isinstance(error, SaslAuthenticationFailed):
        said = str(error)[:200].removesuffix(".")
        return NoConnection(f"{what} refuses the user: check `user` and `password`. It says: {said}.", _REFUSED)
    if isinstance(error, UnsupportedSaslMechanismError):
        mechanism = login["sasl_mechanism"].lower()
        return NoConnection(f'{what} takes no login by "{mechanism}": choose another `mechanism`.', _REFUSED)
    if isinstance(error, KafkaError):
        asks = "`tls`" if has_user else "`tls`, and whether it asks for a user (`mechanism`, `user`, `password`)"
        when = "once it is asked for something" if is_connected else "at once"
        return NoConnection(f"{what} ends the connection {when}: check {asks}.")
    return unreachable(what, error, where="servers", encrypts=encrypts)
