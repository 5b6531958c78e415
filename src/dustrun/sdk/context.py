"""The services that a running action may use, all through `ctx`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from typing import Any, Protocol

from dustrun.core.money.allowances import Allowance
from dustrun.core.workflow.model_tools import ModelTool, OfferedTool
from dustrun.errors import Temporary
from dustrun.records import dataclass
from dustrun.sdk.action import Transmission
from dustrun.sdk.chain import Chain, Prices, WalletView
from dustrun.sdk.notice import Notifier
from dustrun.sdk.programs import Commands
from dustrun.sdk.tables import Tables


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One outgoing request. `body` is sent unchanged; `timeout_s` covers the whole exchange, including redirects.
    `safe`: it may be repeated without harm; None means that GET, HEAD and OPTIONS are safe. `cuts`: of a larger body
    than `max_bytes` the first bytes are read, instead of an error. `is_prompt`: a model reads the body, so the secrets
    that the run knows are masked in it. `only_reads`: it changes nothing, so that a simulated write sends it too."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout_s: float = 30.0
    max_redirects: int = 5
    max_bytes: int | None = None
    safe: bool | None = None
    cuts: bool = False
    is_prompt: bool = False
    only_reads: bool = False
    authorize: Callable[[HttpRequest], Awaitable[HttpRequest]] | None = field(default=None, repr=False, compare=False)
    """Set by the server: adds a connector's credential to each request of a redirect chain, or raises `Refused` for a
    host that the connector does not allow."""
    heard: Callable[[bytes], None] | None = field(default=None, repr=False, compare=False)
    """Called with each piece of an event stream as it arrives; the response has the whole."""
    transmission: Transmission | None = field(default=None, repr=False, compare=False)
    """Set by the server: where the client notes how far the request has come, also if it raises."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A decrypted connector. `data` is an instance of its type's model; keep it out of results and messages. `tools`:
    what its owner has looked at, of a server of tools."""

    id: str
    type: str
    name: str
    data: Any = field(repr=False)
    moves_money: bool = False
    tools: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response of any status; header names are lower case, `url` is the last one of the redirects. `was_taken`: a
    write was answered with a redirect to its result, and this is the answer to reading that."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    was_taken: bool = False


class NoConnection(Temporary):
    """A peer of another protocol than HTTP could not be connected to. `status`: how HTTP would say why: 401 if it
    refuses the credential; None if it does not answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class TooLarge(Temporary):
    """A message is larger than is read; its connection has ended."""


class Http(Protocol):
    """The guarded HTTP client. Raises `Invalid` (malformed or forbidden address), `Temporary` (certainly not sent),
    `Uncertain` (sent, outcome unknown) or `Permanent`."""

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Sends one request, following redirects as the request allows."""
        ...


class CheckingHttp(Http, Protocol):
    """A client that can also do all but send."""

    async def check(self, request: HttpRequest) -> None:
        """Raises what `request` would raise before it sends; a name without an address may have one later."""
        ...


class Incoming(Protocol):
    """The answer to a request whose body is read as it comes."""

    @property
    def status(self) -> int:
        """Its status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers, names in lower case."""
        ...

    async def read(self, within_s: float) -> bytes | None:
        """The next bytes; empty at the end, None if nothing comes in time. Raises `Temporary` if it breaks."""
        ...


class Socket(Protocol):
    """An open WebSocket."""

    async def send(self, text: str) -> None:
        """Sends a text message; raises `Temporary` if it is closed."""
        ...

    async def receive(self, within_s: float) -> str | bytes | None:
        """The next message; None if none comes in time. Raises `Temporary` once it is closed, which says why."""
        ...


class StreamingHttp(CheckingHttp, Protocol):
    """A client that also opens connections that stay open. None follows redirects; all raise `Invalid` for a forbidden
    address, `Temporary` and `Permanent`."""

    def stream(self, request: HttpRequest) -> AbstractAsyncContextManager[Incoming]:
        """Sends a request that changes nothing; `timeout_s` covers it until the answer begins."""
        ...

    def websocket(
        self, request: HttpRequest, protocols: tuple[str, ...] = (), heartbeat_s: float | None = None
    ) -> AbstractAsyncContextManager[Socket]:
        """Opens a WebSocket to an http(s) URL, which takes messages of up to `max_bytes`; with a heartbeat, one that
        answers no ping is closed."""
        ...

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses to which a connection of another protocol may be made."""
        ...


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """The return value of a script, as exact JSON, and the lines that it logged."""

    value: Any
    logs: tuple[str, ...] = ()


class Script(Protocol):
    """Runs JavaScript in a separate process with limits. It is deterministic: the clock is fixed at the node's start
    and random numbers are seeded by the node. Raises `Invalid` (script error or limit) or `Temporary`."""

    async def run(self, code: str, input: Any, timeout_ms: int | None = None) -> ScriptResult:
        """Runs `code` as the body of an async function with the parameter `input`; `timeout_ms` can only lower the
        server's time limit."""
        ...


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """The answer of a model's tool, as text that a model reads."""

    ok: bool
    text: str


class ModelTools(Protocol):
    """Actions that a model may call. Only what computes or reads is carried out."""

    async def offers(self, tools: Sequence[ModelTool]) -> list[OfferedTool]:
        """How a model sees them, in the same order."""
        ...

    async def call(self, tool: ModelTool, args: Any) -> ToolAnswer:
        """Calls one with a model's arguments; a failure is an answer, too."""
        ...


class ModelTokens(Protocol):
    """What the organisation may still ask models."""

    async def need(self) -> None:
        """Raises `Conflict` if it has used what it may."""
        ...

    async def add(self, tokens: int) -> None:
        """Counts what an answer has used."""
        ...


class Context(Protocol):
    """The second argument of every action."""

    @property
    def http(self) -> Http:
        """The guarded HTTP client."""
        ...

    @property
    def script(self) -> Script:
        """The JavaScript sandbox."""
        ...

    @property
    def connection(self) -> Connection:
        """The node's connector, decrypted; raises `Invalid` if the node has none. Only needed for `@secret_connector`
        types: other credentials are added to the requests of `ctx.http` automatically."""
        ...

    @property
    def tables(self) -> Tables:
        """The organisation's managed tables."""
        ...

    @property
    def notify(self) -> Notifier:
        """Sends messages through messaging services."""
        ...

    @property
    def commands(self) -> Commands:
        """Programs that the operator has named."""
        ...

    @property
    def model_tools(self) -> ModelTools:
        """Actions that a model may call."""
        ...

    @property
    def model_tokens(self) -> ModelTokens:
        """What the organisation may still ask models: asked before each request, and told of each answer."""
        ...

    def chain(self, chain_id: int) -> Chain:
        """Read access to one chain; in a simulation it includes the effects of earlier nodes. Raises `Invalid` for a
        chain that the server does not know."""
        ...

    @property
    def prices(self) -> Prices:
        """Token prices in US dollars."""
        ...

    @property
    def wallet(self) -> WalletView:
        """The wallet of the node's connector, else the organisation's default one; only for actions that declare
        `needs_wallet`."""
        ...

    async def granted(self, chain_id: int) -> list[Allowance]:
        """What the node's wallet may have allowed others to take on a chain, by what it has signed; whether it stands,
        the chain says (`sdk.chain.read_allowances`)."""
        ...

    @property
    def idempotency_key(self) -> str:
        """Stable for this node of this run across attempts and restarts; send it to APIs that support idempotency
        keys."""
        ...

    @property
    def now_ms(self) -> int:
        """The node's start in milliseconds since the epoch; in a simulation on the simulated clock."""
        ...

    def log(self, message: str, *, level: str = "info", data: Any = None) -> None:
        """Adds a `log` event to the run."""
        ...

    def progress(self, message: str, *, percent: int | None = None) -> None:
        """Adds a `node_progress` event to the run."""
        ...
