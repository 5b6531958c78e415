"""How many runs an organisation keeps, and how many bytes they store: measured beside the runs, asked before a start;
and the tokens that its nodes use of models.

A start asks a figure that is at most `FIGURE_S` old, and to which the starts since then were added, so that it costs
nothing in the store; what refuses it is at most `REFUSAL_S` old. Only new runs are refused: what runs already goes on
to its end, with the runs that it calls.
"""

from __future__ import annotations

import asyncio

from dustrun import clock, log
from dustrun.errors import Code, Conflict, Temporary, Uncertain
from dustrun.records import dataclass
from dustrun.services.access.organizations import count_runs, need_tokens
from dustrun.settings import Settings
from dustrun.storage.access import stored_bytes
from dustrun.storage.data import model_tokens
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

_logger = log.get(__name__)
FIGURE_S = 10.0
"""How old a figure may be that lets a run start."""
REFUSAL_S = 1.0
"""And one that refuses it: somebody may have made room."""
_REST_S = 0.01
_FREES = (
    "Have ended runs deleted sooner (retentionDays of the organisation; runs that moved money stay), or have whoever "
    "runs the server raise the setting."
)


@dataclass(slots=True)
class _Figure:
    """What an organisation kept at a time of `clock.monotonic_s`, and the runs that it has started since then."""

    runs: int
    bytes: int
    at: float


class RunQuotas:
    """What organisations may keep of runs."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._runs, self._bytes = settings.max_runs, settings.max_run_bytes
        self._figures: dict[str, _Figure] = {}
        self._looking = asyncio.Lock()

    @property
    def are_set(self) -> bool:
        """Whether there is any limit."""
        return self._runs is not None or self._bytes is not None

    async def need_room(self, org_id: str) -> None:
        """Raises `Conflict` if the organisation keeps as many runs, or as many bytes in them, as it may; otherwise one
        more run is counted."""
        figure = await self._figure(org_id, FIGURE_S)
        if self._refusal(figure) is not None:
            figure = await self._figure(org_id, REFUSAL_S)
        if (refusal := self._refusal(figure)) is not None:
            raise Conflict(refusal, code=Code.RUN_LIMIT)
        figure.runs += 1

    def _refusal(self, figure: _Figure) -> str | None:
        if self._runs is not None and figure.runs >= self._runs:
            return _full("runs", figure.runs, self._runs, "max_runs")
        if self._bytes is not None and figure.bytes >= self._bytes:
            return _full("bytes in runs", figure.bytes, self._bytes, "max_run_bytes")
        return None

    async def _figure(self, org_id: str, oldest_s: float) -> _Figure:
        async with self._looking:  # many starts at once look once
            known = self._figures.get(org_id)
            if known is None or clock.monotonic_s() - known.at > oldest_s:
                at = clock.monotonic_s()
                kept = await self._database.read(lambda tx: _kept(tx, org_id))
                known = self._figures[org_id] = _Figure(*kept, at)
            return known


def _kept(tx: Tx, org_id: str) -> tuple[int, int]:
    return count_runs(tx, org_id), stored_bytes.of(tx, org_id)


def _full(what: str, used: int, limit: int, setting: str) -> str:
    return f"The organisation keeps {used} {what}, and may keep {limit} (setting {setting}). {_FREES}"


class TokenQuotas:
    """What organisations may use of models in their nodes."""

    def __init__(self, database: Database, writer: Writer, settings: Settings) -> None:
        self._database = database
        self._writer = writer
        self._most = settings.max_model_tokens

    def of(self, org_id: str) -> OwnTokens:
        """Those of one organisation."""
        return OwnTokens(self, org_id)

    async def need(self, org_id: str) -> None:
        """Raises `Conflict` if the organisation has used what it may."""
        if self._most is not None:
            await self._database.read(lambda tx: need_tokens(tx, org_id, self._most))

    async def add(self, org_id: str, tokens: int) -> None:
        """Counts what an answer has used. An answer that is paid for is never asked again because it was not counted:
        if the store is away, it is not."""
        try:
            await self._writer.write(lambda tx: model_tokens.add(tx, org_id, tokens, clock.now_ms()))
        except (Temporary, Uncertain) as error:
            _logger.failed("the tokens of a model were not counted", error, tokens=tokens)


class OwnTokens:
    """The `ctx.model_tokens` of a node."""

    __slots__ = ("_org_id", "_quotas")

    def __init__(self, quotas: TokenQuotas, org_id: str) -> None:
        self._quotas = quotas
        self._org_id = org_id

    async def need(self) -> None:
        """Raises `Conflict` if its organisation has used what it may."""
        await self._quotas.need(self._org_id)

    async def add(self, tokens: int) -> None:
        """Counts what an answer has used."""
        await self._quotas.add(self._org_id, tokens)


class RunSizes:
    """Measures what runs store once they have started, waited or ended."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer
        self._seen = -1

    async def measure(self) -> None:
        """Measures what was written since the last time and until it was called, in steps that let other work in
        between: what is written meanwhile is for the next time, or on a busy server this one would never end."""
        units = self._writer.units
        if units == self._seen:
            return
        newest = await self._database.read(stored_bytes.find_newest)
        while (found := await self._database.read(stored_bytes.measure)) is not None and found.after < newest:
            await self._writer.write(lambda tx, found=found: stored_bytes.keep(tx, found))  # type: ignore[misc]
            await asyncio.sleep(_REST_S)
        self._seen = units
