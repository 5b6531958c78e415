"""The contract of a trigger, which starts runs.

A trigger is one decorated function in one file. Its kind says who calls that function:

- `manual`: a caller of the API; `webhook`: an inbound request. The function accepts a payload.
- `timed`: the clock. The function says when it fires next.
- `polled`: a loop asks the function for news.
- `streamed`: a connection that stays open. The function says what comes over it.
- `chain`: a chain. The function says which of its logs, blocks or moves of coin are events.
- `internal`: the server itself, when a run has ended.

What a trigger remembers between two calls is its cursor, which commits together with the runs that it starts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final, Literal, Protocol

from pydantic import BaseModel, Field

from dustrun.core.triggers.chain.watch import ChainWatch
from dustrun.core.triggers.schedules.due import Policy
from dustrun.core.values.fields import Fields
from dustrun.errors import DustrunError
from dustrun.records import dataclass
from dustrun.sdk.chain import Block, Chain, ChainCall, Prices
from dustrun.sdk.context import Connection, StreamingHttp
from dustrun.sdk.package import Package
from dustrun.sdk.tables import WatchedTables

ARMED_KINDS: Final = frozenset(["webhook", "timed", "polled", "streamed", "chain", "internal"])
"""Kinds that publishing arms; a `manual` trigger fires only when somebody calls it."""


class TriggerConfig(Fields):
    """Settings of every trigger that fires by itself."""

    mode: Literal["live", "simulate", "dust"] = Field(
        "live",
        description="Mode of its runs: `simulate` and `dust` only rehearse each event, until the trigger goes live.",
        json_schema_extra={"x-group": "Delivery"},
    )
    catch_up: bool = Field(
        False,
        description="Whether a resumed workflow also handles events from while it was paused, if they can be found.",
        json_schema_extra={"x-group": "Delivery"},
    )


class PolledConfig(TriggerConfig):
    """Settings of every trigger that is asked for news."""

    poll_ms: int = Field(
        60_000,
        ge=100,
        le=86_400_000,
        description="Milliseconds between two polls. After failures, the interval grows.",
    )
    fire_on_first: bool = Field(
        False,
        description="Whether the first poll also starts runs, instead of only recording what is there.",
        json_schema_extra={"x-group": "Delivery"},
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a trigger could not run: a field of its config, by path, and what to do."""

    field: str
    message: str
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True, slots=True)
class Credential:
    """The connector of a trigger's node, as far as a trigger may know it. `version` changes with whatever a person
    changes of the connector."""

    connector_id: str
    version: int


class WatchedChain(Chain, Protocol):
    """A chain whose past can be read."""

    async def call(self, call: ChainCall, at: str = "latest") -> bytes:
        """The return data of a call at a block (tag, number or hash); raises `Permanent` with the decoded reason when
        it reverts, and `Temporary` if the endpoint does not know the block."""
        ...

    async def finalized(self) -> Block | None:
        """The newest block that the chain reports as final; None if it reports none."""
        ...


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened at `at` (milliseconds): `key` identifies it for good, `what` says what it is. `data` is
    the payload of its event. `depth` and `through`: how many runs in a row, by such events, had led to it, and the
    workflows of these runs. `number`: its place among all facts, in commit order; 0: it is not written down."""

    key: str
    what: str
    at: int
    data: dict[str, Any]
    depth: int = 0
    through: tuple[str, ...] = ()
    number: int = 0


@dataclass(frozen=True, slots=True)
class FailingTrigger:
    """A trigger that cannot look for events: `failures` in a row, and why the last one failed."""

    id: str
    failures: int
    data: dict[str, Any]


FactKind = Literal["transaction", "approval", "connector"]


class Facts(Protocol):
    """The view of its organisation for the key that published a trigger, without what the trigger's own workflow does.
    Raises `Refused` without the permission."""

    @property
    def workflow_id(self) -> str | None:
        """The workflow whose trigger asks; None in a test."""
        ...

    async def newest(self) -> int:
        """The number of the newest fact."""
        ...

    async def happened(self, kind: FactKind, after: int) -> tuple[Sequence[Fact], int, bool]:
        """The next facts after a number, the number up to which they were read, and whether there may be more.
        Transactions became `final`, `reverted`, `cancelled`, `displaced` or `refused`, or were `reorged`; approvals
        were `asked`, `decided`, `expired` or `cancelled`; connectors were `refused`, must `reconnect`, are
        `unreachable`, or have `recovered`."""
        ...

    async def latest(self, kind: FactKind) -> Sequence[Fact]:
        """Some of the newest facts, newest first."""
        ...

    async def stuck(self, stuck_ms: int) -> Sequence[Fact]:
        """Transactions that are `stuck` now: sent for so long without being mined."""
        ...

    async def by_time(self, kind: FactKind, since: int) -> Sequence[Fact]:
        """Facts by their time, also of when they were not numbered yet."""
        ...

    async def failing_triggers(self) -> Sequence[FailingTrigger]:
        """Triggers whose looks fail now."""
        ...

    async def failed_events(self, after: int) -> tuple[Sequence[Fact], int]:
        """Events of triggers that should have started a run and could not, after a cursor, and the cursor after
        them."""
        ...


class TriggerContext(Protocol):
    """The parts that a trigger may use when it is checked or polled; it reads only."""

    @property
    def now_ms(self) -> int:
        """The current time."""
        ...

    @property
    def http(self) -> StreamingHttp:
        """The guarded HTTP client; its `check` says what it would refuse. With a connector it adds the credential to
        each request, and masks the secrets in each response; whoever listens masks what comes over a stream."""
        ...

    @property
    def connection(self) -> Connection | None:
        """The connector of a trigger that reads its data itself, as one of a kind that HTTP does not know does."""
        ...

    @property
    def credential(self) -> Credential | None:
        """The identity that `http` authenticates with: who asks may see other data than somebody else."""
        ...

    async def bearer(self, host: str, port: int, *, encrypts: bool, not_this: str | None = None) -> str | None:
        """The access token of an OAuth 2 connector, for a server of another protocol than HTTP; None with a connector
        of another kind. `not_this`: it was refused, so another one. Raises `Refused` for a server that the connector
        does not allow, and what asking for a token raises."""
        ...

    @property
    def prices(self) -> Prices:
        """Token prices in US dollars."""
        ...

    @property
    def tables(self) -> WatchedTables:
        """The managed tables."""
        ...

    @property
    def facts(self) -> Facts:
        """The events of the organisation."""
        ...

    @property
    def min_interval_ms(self) -> int:
        """The shortest time between two fires or polls that the operator allows."""
        ...

    def chain(self, chain_id: int) -> WatchedChain:
        """Read access to one chain; raises `Invalid` for one that the server does not know or serve."""
        ...


@dataclass(frozen=True, slots=True)
class NoRun:
    """Why an event is only recorded: a word for programs, a sentence for people. `is_failure`: it should have started
    a run, but cannot."""

    reason: str
    message: str
    is_failure: bool = False


@dataclass(frozen=True, slots=True)
class PolledEvent:
    """One event that a poll found; `key` identifies it for good. `cursor`: where to go on after this event, of a source
    that shows the later ones again; without it, those of a poll that are not taken yet are stored. `no_run`: it starts
    none, and why. `formerly`: the key under which it is on record if an older version took it, with the same
    `message`."""

    key: str
    payload: dict[str, Any]
    occurred_at: int
    cursor: Any = None
    no_run: NoRun | None = None
    formerly: str | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """A range that a source does not have any more, or had not kept, and why nobody saw it. It becomes a gap."""

    range: dict[str, Any]
    reason: str


@dataclass(frozen=True, slots=True)
class Polled:
    """A poll's findings, oldest first, and the cursor for the next one. `after_ms`: when to poll again, if not at the
    usual interval; `is_over`: never again; `lost`: came before these, and cannot be had. `error`: the source could not
    be asked, and these were known before; it counts as a failure if there are none."""

    events: Sequence[PolledEvent]
    cursor: Any
    after_ms: int | None = None
    is_over: bool = False
    lost: Lost | None = None
    error: DustrunError | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A connection's messages, oldest first, and the cursor after them. Nothing and the cursor from before: the
    connection works. `lost`: came before these, and cannot be had. `acknowledge` is called once all of it is on disk:
    for a source that sends again what nobody acknowledges. Until then, nothing more is asked for."""

    events: Sequence[PolledEvent] = ()
    cursor: Any = None
    lost: Lost | None = None
    acknowledge: Callable[[], Awaitable[None]] | None = None


Check = Callable[[TriggerContext, Any], Awaitable[list[Finding]]]
NextFire = Callable[[Any, int, Any], int | None]
Poll = Callable[[TriggerContext, Any, Any], Awaitable[Polled]]
Listen = Callable[[TriggerContext, Any, Any], AsyncIterator[Received]]
Recent = Callable[[TriggerContext, Any], Awaitable[dict[str, Any] | None]]
Match = Callable[[Any, Mapping[str, Any]], dict[str, Any] | None]


async def _no_findings(_: TriggerContext, __: Any) -> list[Finding]:
    return []


def _default_policy(_: Any) -> Policy:
    return Policy()


def _accept(_: Any, payload: dict[str, Any]) -> dict[str, Any]:
    return payload


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger type. `type` is set from the file name when it is discovered.

    `accept(config, payload)` checks and shapes a payload, whoever fires; `check(ctx, config)` finds what would keep it
    from running, when it is published; `sample(config)` is the payload of an event for a test. Of `timed`:
    `next_fire(config, after_ms, cursor)`, None when it never fires again, and `policy(config)`. Of `polled`:
    `poll(ctx, config, cursor)` (cursor None: take note of what is there, without events), `interval_ms(config)` and
    `recent(ctx, config)`, the payload of a real event for a test, None if there is none. Of `streamed`:
    `listen(ctx, config, cursor)`, an async generator; a test takes the first event of one, if it `peeks`. Of `chain`:
    `watch(config)`. Of `internal`: `match(config, seen)`. `connector`: the connector types that its node may name, or
    `http` for every type that adds a credential to HTTP requests; if `connector_required`, it starts nothing without
    one."""

    kind: str
    config: type[BaseModel]
    output: type[BaseModel]
    example_config: dict[str, Any]
    example_output: dict[str, Any]
    origin: str
    """The module that declares it."""
    accept: Callable[[Any, Any], Any] = _accept
    check: Check = _no_findings
    sample: Callable[[Any], dict[str, Any]] | None = None
    next_fire: NextFire | None = None
    policy: Callable[[Any], Policy] = _default_policy
    poll: Poll | None = None
    interval_ms: Callable[[Any], int] | None = None
    recent: Recent | None = None
    listen: Listen | None = None
    peeks: bool = False
    watch: Callable[[Any], ChainWatch] | None = None
    match: Match | None = None
    connector: tuple[str, ...] = ()
    connector_required: bool = False
    type: str = ""
    summary: str = ""
    description: str = ""
    package: Package | None = None

    @property
    def is_armed(self) -> bool:
        """Whether publishing arms it: it fires by itself."""
        return self.kind in ARMED_KINDS

    def sample_of(self, config: Any) -> dict[str, Any]:
        """The payload of a sample event."""
        if self.sample is not None:
            return self.sample(config)
        body = self.example_output.get("body")
        return dict(body) if isinstance(body, Mapping) else dict(self.example_output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """The declaration that all kinds of trigger share."""

    config: type[BaseModel]
    output: type[BaseModel]
    example_config: dict[str, Any]
    example_output: dict[str, Any]
    check: Check = _no_findings
    sample: Callable[[Any], dict[str, Any]] | None = None
    accept: Callable[[Any, Any], Any] = field(default=_accept)

    def made(self, kind: str, function: Callable[..., Any], **more: Any) -> Trigger:
        """The trigger, declared by a function."""
        made = Trigger(
            kind=kind,
            config=self.config,
            output=self.output,
            example_config=self.example_config,
            example_output=self.example_output,
            origin=function.__module__,
            accept=self.accept,
            check=self.check,
            sample=self.sample,
        )
        return replace(made, **more)


Accept = Callable[[Any, Any], Any]


def manual(**declared: Any) -> Callable[[Accept], Trigger]:
    """Declares a trigger fired by a caller: `accept(config, payload)` returns the payload or raises `Invalid`."""
    return lambda accept: Declaration(**declared).made("manual", accept, accept=accept)


def webhook(**declared: Any) -> Callable[[Accept], Trigger]:
    """Declares a trigger fired by an inbound request: `accept(config, payload)` as for `manual`."""
    return lambda accept: Declaration(**declared).made("webhook", accept, accept=accept)


def timed(*, policy: Callable[[Any], Policy] = _default_policy, **declared: Any) -> Callable[[NextFire], Trigger]:
    """Declares a trigger fired by the clock: `next_fire(config, after_ms, cursor)`, and the `policy(config)` for times
    that were missed or come while a run goes on; both pure."""
    return lambda fire: Declaration(**declared).made("timed", fire, next_fire=fire, policy=policy)


def _poll_ms(config: PolledConfig) -> int:
    return config.poll_ms


def polled(
    *,
    interval_ms: Callable[[Any], int] = _poll_ms,
    recent: Recent | None = None,
    connector: str | Sequence[str] = (),
    **declared: Any,
) -> Callable[[Poll], Trigger]:
    """Declares a trigger that is asked for news: `poll(ctx, config, cursor)`, every `interval_ms(config)`; `recent`
    finds a real event for a test. `connector`: the types that a node may name, as for an action; `ctx.http` then adds
    the credential."""
    more = {"connector": (connector,) if isinstance(connector, str) else tuple(connector)}
    return lambda poll: Declaration(**declared).made(
        "polled", poll, poll=poll, interval_ms=interval_ms, recent=recent, **more
    )


def streamed(
    *, connector: str | Sequence[str] = (), connector_required: bool = False, peeks: bool = False, **declared: Any
) -> Callable[[Listen], Trigger]:
    """Declares a trigger that listens: `listen(ctx, config, cursor)` is an async generator over an open connection,
    which yields once it is open (with nothing, if nothing has come yet) and ends or raises `DustrunError` when it
    breaks; it is then called again with the newest cursor. `peeks`: a test may listen for a moment without taking
    anything away from those who listen."""
    takes = (connector,) if isinstance(connector, str) else tuple(connector)
    more = {"connector": takes, "connector_required": connector_required, "peeks": peeks}
    return lambda listen: Declaration(**declared).made("streamed", listen, listen=listen, **more)


def chain(**declared: Any) -> Callable[[Callable[[Any], ChainWatch]], Trigger]:
    """Declares a trigger fired by a chain: `watch(config)` is what it watches, with a matcher; pure."""
    return lambda watch: Declaration(**declared).made("chain", watch, watch=watch)


def internal(**declared: Any) -> Callable[[Match], Trigger]:
    """Declares a trigger fired by the server: `match(config, seen)` is the payload, or None if it is no event; pure."""
    return lambda match: Declaration(**declared).made("internal", match, match=match)
