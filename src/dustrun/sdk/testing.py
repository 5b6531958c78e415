"""Fakes for testing actions without a server, network or sandbox.

    from dustrun.sdk.testing import FakeContext, json_response, perform

    async def test_rate_is_read() -> None:
        ctx = FakeContext(responses=[json_response({"usd": 2000})])
        assert await perform(my_action, {"symbol": "ETH"}, ctx) == {"usd": 2000}
        assert ctx.http.requests[0].url == "https://api.example.com/price?symbol=ETH"

The server does not import this module. The fakes implement `dustrun.sdk.Context`, which the type checker verifies, and
return only what the test scripted: an action that asks for more fails the test.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from dustrun.core.expression import compile_value
from dustrun.core.money.allowances import Allowance
from dustrun.core.money.intent import Intent, Spend, Spent
from dustrun.core.values.exact_json import dumps, loads
from dustrun.errors import Invalid
from dustrun.records import dataclass
from dustrun.sdk import Action, Connection, Context, HttpRequest, HttpResponse, ScriptResult
from dustrun.sdk.chain import Chain, Prices, WalletView
from dustrun.sdk.context import ModelTools
from dustrun.sdk.notice import Notice
from dustrun.sdk.programs import CommandLine, Program
from dustrun.sdk.tables import TableChange, TableQuery, TableRows, TableWritten

NOW_MS: Final = 1_769_860_800_000
"""2026-01-31T12:00:00Z, the default clock of a fake."""

KEY: Final = "dustrun-0123456789abcdef0123456789abcdef01234567"
"""The default idempotency key of a fake; as long as a real one."""

Answer = HttpResponse | Exception | Callable[[HttpRequest], HttpResponse]
"""Scripted result of a request: a response, an error to raise, or a function of the request."""

ScriptAnswer = ScriptResult | Exception | Callable[[str, Any], ScriptResult]
"""Scripted result of a script: a result, an error to raise, or a function of code and input."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One log entry of the action."""

    message: str
    level: str = "info"
    data: Any = None


@dataclass(frozen=True, slots=True)
class Progress:
    """One progress report of the action."""

    message: str
    percent: int | None = None


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """One script run by the action."""

    code: str
    input: Any
    timeout_ms: int | None = None


class FakeHttp:
    """Returns the scripted answers in order and records the requests in `requests`."""

    def __init__(self, answers: Iterable[Answer] = ()) -> None:
        self.requests: list[HttpRequest] = []
        self._answers = list(answers)

    async def request(self, request: HttpRequest) -> HttpResponse:
        """The next scripted answer; raises `AssertionError` if there is none."""
        self.requests.append(request)
        if not self._answers:
            raise AssertionError(f"no answer is scripted for {request.method} {request.url}")
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, HttpResponse) else answer(request)


class FakeScript:
    """Returns the scripted answers in order and records the scripts in `calls`; runs no JavaScript."""

    def __init__(self, answers: Iterable[ScriptAnswer] = ()) -> None:
        self.calls: list[ScriptCall] = []
        self._answers = list(answers)

    async def run(self, code: str, input: Any, timeout_ms: int | None = None) -> ScriptResult:
        """The next scripted answer; raises `AssertionError` if there is none."""
        self.calls.append(ScriptCall(code, input, timeout_ms))
        if not self._answers:
            raise AssertionError(f"no answer is scripted for the script {code[:60]!r}")
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, ScriptResult) else answer(code, input)


class FakeTables:
    """Returns the scripted rows in order, then no rows; records `queries` and `changes`."""

    def __init__(self, answers: Iterable[Iterable[dict[str, Any]]] = ()) -> None:
        self.queries: list[TableQuery] = []
        self.changes: list[TableChange] = []
        self._answers = [list(rows) for rows in answers]

    async def read(self, query: TableQuery) -> TableRows:
        """The next scripted rows, whatever the query."""
        self.queries.append(query)
        found = self._answers.pop(0) if self._answers else []
        return TableRows(found[: query.limit], len(found) > query.limit)

    async def write(self, change: TableChange) -> TableWritten:
        """Records the change; every row counts as new, and filters match nothing."""
        self.changes.append(change)
        return TableWritten([row.get("id") for row in change.rows], inserted=len(change.rows))


class FakeNotifier:
    """Records messages in `sent` as (address, notice)."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Notice]] = []

    async def send(self, address: str, notice: Notice) -> str:
        """Records the message; returns the scheme of the address as the service name."""
        self.sent.append((address, notice))
        return address.partition(":")[0]


class FakeCommands:
    """Starts no program: a test that needs one fails."""

    def check(self, line: CommandLine) -> None:
        """Allows every command."""

    def start(self, line: CommandLine) -> AbstractAsyncContextManager[Program]:
        """Raises `AssertionError`."""
        raise AssertionError(f"the test has no program {line.command}")


class FakeModelTokens:
    """Allows every request; records what was used in `used`."""

    def __init__(self) -> None:
        self.used: list[int] = []

    async def need(self) -> None:
        """Allows it."""

    async def add(self, tokens: int) -> None:
        """Records it."""
        self.used.append(tokens)


class FakeContext:
    """A `ctx` that records what the action does: `logs`, `reports`, `http.requests`, `script.calls`, `tables.changes`,
    `notify.sent`, `model_tokens.used`.

    `idempotency_key` and `now_ms` (the node's start, milliseconds UTC) are constants; a test may assign others.
    """

    def __init__(
        self,
        *,
        responses: Iterable[Answer] = (),
        scripts: Iterable[ScriptAnswer] = (),
        chains: Mapping[int, Chain] | None = None,
        prices: Prices | None = None,
        wallet: WalletView | None = None,
        connection: Connection | None = None,
        tables: Iterable[Iterable[dict[str, Any]]] = (),
    ) -> None:
        self.logs: list[LogEntry] = []
        self.reports: list[Progress] = []
        self._http = FakeHttp(responses)
        self._script = FakeScript(scripts)
        self._chains = dict(chains or {})
        self._prices = prices
        self._wallet = wallet
        self._connection = connection
        self._tables = FakeTables(tables)
        self._notifier = FakeNotifier()
        self._commands = FakeCommands()
        self._model_tokens = FakeModelTokens()
        self.allowances: list[Allowance] = []
        self.idempotency_key = KEY
        self.now_ms = NOW_MS

    @property
    def http(self) -> FakeHttp:
        """The scripted HTTP client."""
        return self._http

    @property
    def script(self) -> FakeScript:
        """The scripted sandbox."""
        return self._script

    @property
    def connection(self) -> Connection:
        """The test's connector; raises `Invalid` without one, like for a node without a connector."""
        if self._connection is None:
            raise Invalid("The node has no connector.")
        return self._connection

    @property
    def tables(self) -> FakeTables:
        """The scripted tables."""
        return self._tables

    @property
    def notify(self) -> FakeNotifier:
        """The recording notifier."""
        return self._notifier

    @property
    def commands(self) -> FakeCommands:
        """Starts nothing."""
        return self._commands

    @property
    def model_tokens(self) -> FakeModelTokens:
        """The recording count of tokens."""
        return self._model_tokens

    @property
    def model_tools(self) -> ModelTools:
        """A fake has none; raises `AssertionError`."""
        raise AssertionError("the test gave no tools of models")

    def chain(self, chain_id: int) -> Chain:
        """The test's chain; raises `AssertionError` without one."""
        if chain_id not in self._chains:
            raise AssertionError(f"the test gave no chain {chain_id}")
        return self._chains[chain_id]

    @property
    def prices(self) -> Prices:
        """The test's prices; raises `AssertionError` without any."""
        if self._prices is None:
            raise AssertionError("the test gave no prices")
        return self._prices

    @property
    def wallet(self) -> WalletView:
        """The test's wallet; raises `AssertionError` without one."""
        if self._wallet is None:
            raise AssertionError("the test gave no wallet")
        return self._wallet

    async def granted(self, chain_id: int) -> list[Allowance]:
        """The test's allowances."""
        return [one for one in self.allowances if one.chain_id == chain_id]

    def log(self, message: str, *, level: str = "info", data: Any = None) -> None:
        """Records the entry in `logs`."""
        self.logs.append(LogEntry(message, level, data))

    def progress(self, message: str, *, percent: int | None = None) -> None:
        """Records the report in `reports`."""
        self.reports.append(Progress(message, percent))


@dataclass(frozen=True, slots=True)
class FakeRoots:
    """The roots that templates see: `FakeRoots({"$trigger": {"body": {"usd": 2000}}})`."""

    values: Mapping[str, Any]

    def root(self, name: str) -> Any:
        """The value of a root; raises `KeyError` if the test gave none."""
        return self.values[name]


def json_response(
    value: Any, status: int = 200, *, headers: Mapping[str, str] | None = None, url: str = "https://api.example.com/"
) -> HttpResponse:
    """A response with a JSON body; numbers stay exact."""
    return HttpResponse(status, {"content-type": "application/json", **(headers or {})}, dumps(value), url)


def text_response(
    text: str, status: int = 200, *, content_type: str = "text/plain; charset=utf-8", url: str = "https://example.com/"
) -> HttpResponse:
    """A response with a text body."""
    return HttpResponse(status, {"content-type": content_type}, text.encode(), url)


Execute = Callable[[Spend], Spent | Awaitable[Spent]]
"""Executes intents: a test's own node and signer, or `testing_chain.succeed`."""


async def perform(
    action: Action,
    payload: Mapping[str, Any],
    ctx: Context | None = None,
    roots: Mapping[str, Any] | None = None,
    execute: Execute | None = None,
) -> dict[str, Any]:
    """Runs an action as the engine does: fills templates from `roots`, checks the input, returns the node's result.

    The intents of a `spend` action are stored, read again and passed to `execute`; its result goes to `finish`.
    Raises `pydantic.ValidationError` for an input that the engine refuses, and whatever the action raises.
    """
    reach = ctx if ctx is not None else FakeContext()
    input, output = await _run(action, payload, reach, roots)
    if action.finish is not None:
        if execute is None:
            raise AssertionError("a spend action needs `execute`, which executes its intents")
        spend = _stored(_spend_of(output))
        spent = execute(spend)
        output = await action.finish(input, spend, await spent if inspect.isawaitable(spent) else spent, reach)
    if not isinstance(output, action.output):
        raise AssertionError(f"the action returned {type(output).__name__}, not its declared output")
    return output.model_dump(by_alias=True)


async def intents(
    action: Action, payload: Mapping[str, Any], ctx: Context, roots: Mapping[str, Any] | None = None
) -> Spend:
    """The `Spend` that an action returns; nothing is executed."""
    _, output = await _run(action, payload, ctx, roots)
    return _spend_of(output)


async def _run(
    action: Action, payload: Mapping[str, Any], ctx: Context, roots: Mapping[str, Any] | None
) -> tuple[Any, Any]:
    template = compile_value(dict(payload), action.raw_fields)
    input = action.input.model_validate(template.evaluate(FakeRoots(roots or {})))
    value = action.run(input, ctx)
    return input, await value if inspect.isawaitable(value) else value


def _spend_of(output: Any) -> Spend:
    if not isinstance(output, Spend):
        raise AssertionError(f"the spend action returned {type(output).__name__}, not a Spend")
    return output


def _stored(spend: Spend) -> Spend:
    """The intents as a restarted server reads them from the store."""
    stored = tuple(Intent.of(loads(dumps(intent.public()))) for intent in spend.intents)
    return Spend(stored, spend.signatures, loads(dumps(dict(spend.notes))))
