"""What a running action may reach: the world through `ctx`, and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from dustrun.sdk.chain import Chain, Prices, WalletView
from dustrun.sdk.notice import Notifier
from dustrun.sdk.tables import Tables


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One outgoing request. `body` is sent as it is; `timeout_s` covers the whole exchange, redirects included.
    `safe`: it only looks, so that sending it again does no harm; without it, GET, HEAD and OPTIONS are safe."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout_s: float = 30.0
    max_redirects: int = 5
    max_bytes: int | None = None
    safe: bool | None = None
    authorize: Callable[[HttpRequest], Awaitable[HttpRequest]] | None = field(default=None, repr=False, compare=False)
    """Set by the server: puts a connector's credential on each request of a chain of redirects as it is sent, or
    raises `Refused` for a host that is not the connector's."""


@dataclass(frozen=True, slots=True)
class Connection:
    """An opened connector. `data` is an instance of its type's data model; keep it out of results and messages."""

    id: str
    type: str
    name: str
    data: Any = field(repr=False)
    moves_money: bool = False


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer of any status; header names are lower case, `url` is the last one of a chain of redirects."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Http(Protocol):
    """The one way out. Raises `Invalid` (bad or forbidden address), `Temporary` (certainly not sent),
    `Uncertain` (sent, no answer) or `Permanent`."""

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Sends one request, following redirects as the request allows."""
        ...


class CheckingHttp(Http, Protocol):
    """A client that can also do all but send."""

    async def check(self, request: HttpRequest) -> None:
        """Raises what `request` would raise before it sends; a name without an address may have one later."""
        ...


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """What a script returned, as exact JSON, and the lines it logged."""

    value: Any
    logs: tuple[str, ...] = ()


class Script(Protocol):
    """JavaScript in a separate, limited process. The same code and input give the same answer: its clock stands at
    the node's start and its chance comes from the node. Raises `Invalid` (the script or a limit) or `Temporary`."""

    async def run(self, code: str, input: Any, timeout_ms: int | None = None) -> ScriptResult:
        """Runs the body of an async function of `input`; `timeout_ms` can only lower the server's time limit."""
        ...


class Context(Protocol):
    """Handed to an action with its input."""

    @property
    def http(self) -> Http:
        """Guarded HTTP client."""
        ...

    @property
    def script(self) -> Script:
        """Runs JavaScript in the sandbox."""
        ...

    @property
    def connection(self) -> Connection:
        """The node's connector, opened; raises `Invalid` when the node has none. For actions that declare `connector`
        of a type that attaches nothing itself: a credential for HTTP is put on the requests of `ctx.http` unasked."""
        ...

    @property
    def tables(self) -> Tables:
        """The organisation's managed tables."""
        ...

    @property
    def notify(self) -> Notifier:
        """Hands messages to messaging services."""
        ...

    def chain(self, chain_id: int) -> Chain:
        """Reads of one chain; in a simulation they see what earlier nodes did there. Raises `Invalid` for a chain
        that the server does not know."""
        ...

    @property
    def prices(self) -> Prices:
        """What tokens are worth in US dollars."""
        ...

    @property
    def wallet(self) -> WalletView:
        """The wallet of the node's connector, else the organisation's default one; only for actions that declare
        `needs_wallet`."""
        ...

    @property
    def idempotency_key(self) -> str:
        """Stable for this node of this run over attempts and restarts; send it to whoever takes one."""
        ...

    @property
    def now_ms(self) -> int:
        """The node's start in milliseconds since the epoch, on the simulated clock in a simulation."""
        ...

    def log(self, message: str, *, level: str = "info", data: Any = None) -> None:
        """Adds a `log` event to the run."""
        ...

    def progress(self, message: str, *, percent: int | None = None) -> None:
        """Adds a `node_progress` event to the run."""
        ...
