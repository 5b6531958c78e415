"""Takes inbound requests: whose they are, whether they are good, which event they are, and what they are answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import partial
from typing import Any, Final

from dustrun import clock, ids, log
from dustrun.core.expression import ExpressionError, parse_template
from dustrun.core.triggers import webhook_body, webhook_senders
from dustrun.core.triggers.event import REFUSED, TriggerEvent
from dustrun.core.triggers.limits import Skip
from dustrun.core.triggers.webhook_auth import Bad, Good
from dustrun.core.triggers.webhook_body import WrongType
from dustrun.core.triggers.webhook_senders import Handshake
from dustrun.errors import Code, DustrunError, Invalid, NotFound, Temporary, Unauthenticated
from dustrun.records import dataclass
from dustrun.sdk.context import Http, HttpRequest
from dustrun.sdk.threads import run_beside, run_sized
from dustrun.services.runs.runs import Conclusion, Runs
from dustrun.services.triggers.inbound.webhook_targets import Target, WebhookTargets
from dustrun.services.triggers.intake import FireOptions, Intake
from dustrun.services.triggers.recording import CursorMoved, EventFailure, EventOutcome
from dustrun.services.triggers.subscriptions import Subscription

# What senders publish: the keys that some of them sign with, and addresses that they want to be asked for.


_FRESH_S: Final = 600.0
_MOST_KEPT: Final = 32
_MOST_BYTES: Final = 65_536
_TIMEOUT_S: Final = 10.0


class SenderKeys:
    """Asks senders, through the outbound guard and without following redirects. Their keys are kept for ten minutes."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._kept: dict[str, tuple[str, float]] = {}

    async def read(self, url: str) -> str:
        """The key at an address that `webhook_senders.key_url` allows; raises `Temporary` without it."""
        kept = self._kept.get(url)
        if kept is not None and clock.monotonic_s() < kept[1]:
            return kept[0]
        text = await self._get(url)
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[url] = text, clock.monotonic_s() + _FRESH_S
        return text

    async def visit(self, url: str) -> None:
        """Asks for an address that a sender has signed; raises `Temporary` if it does not answer 200."""
        await self._get(url)

    async def _get(self, url: str) -> str:
        asked = HttpRequest("GET", url, timeout_s=_TIMEOUT_S, max_redirects=0, max_bytes=_MOST_BYTES)
        try:
            answer = await self._http.request(asked)
        except DustrunError as error:
            raise Temporary(f"The sender of the webhook cannot be asked: {error.message}") from None
        if answer.status != 200:
            raise Temporary(f"The sender of the webhook answers with status {answer.status}.")
        return answer.body.decode("utf-8", "replace")


_TRIES = 5


@dataclass(frozen=True, slots=True)
class Inbound:
    """A request as it came; names of headers in lower case."""

    method: str
    headers: Mapping[str, str]
    query: str
    address: str
    url: str = field(default="", repr=False)
    """As its sender called it: it has the secret."""


@dataclass(frozen=True, slots=True)
class WebhookResult:
    """The outcome of a request; `conclusion`, if its sender waits for the run; `handshake`, if it was no event."""

    fired: EventOutcome
    conclusion: Conclusion | None = None
    handshake: Handshake | None = None


class WebhookRefusal(Exception):
    """The request is refused, and that is to be recorded: a word for programs, and the answer."""

    def __init__(self, reason: str, error: DustrunError) -> None:
        super().__init__(error.message)
        self.reason = reason
        self.error = error


class Webhooks:
    """Use cases of inbound requests."""

    def __init__(self, targets: WebhookTargets, intake: Intake, runs: Runs, senders: SenderKeys) -> None:
        self.targets = targets
        self._intake = intake
        self._runs = runs
        self._senders = senders

    def check_method(self, target: Target, inbound: Inbound) -> None:
        """Raises `WebhookRefusal` for a method that the webhook does not take."""
        if target.sub is None:
            message = "The workflow of this address is not published."
            raise NotFound(message, code=Code.WEBHOOK_UNKNOWN)
        if inbound.method not in target.sub.config.methods:
            message = f"This webhook takes {', '.join(target.sub.config.methods)}, not {inbound.method}."
            raise WebhookRefusal("method", DustrunError(message, code=Code.METHOD_NOT_ALLOWED))

    async def receive(self, target: Target, inbound: Inbound, body: bytes) -> WebhookResult:
        """Takes a request, after `check_method`: returns once what follows from it is on disk, and the run has come as
        far as its sender waits for. Raises `WebhookRefusal`, and `Temporary` when nothing was written.

        What the request must prove is what the webhook asks for in the transaction that takes it."""
        for _ in range(_TRIES):
            try:
                return await self._receive(target, inbound, body)
            except CursorMoved:
                target = await self.targets.find_again(target)
                self.check_method(target, inbound)
        raise Temporary("The workflow changes too fast; nothing was started.", retry_after_s=1)

    async def _receive(self, target: Target, inbound: Inbound, body: bytes) -> WebhookResult:
        sub = target.sub
        assert sub is not None, "check_method has refused it"
        now, config = clock.now_ms(), sub.config
        key_url = await run_sized(body, webhook_senders.key_url, config.auth, body)
        secrets = target.signing_secrets if key_url is None else (await self._senders.read(key_url),)
        verify = partial(webhook_senders.verify, config.auth, inbound.headers, body, secrets, now, inbound.url)
        verdict = await run_sized(body, verify)
        if isinstance(verdict, Bad):
            code = Code.WEBHOOK_SIGNATURE if verdict.reason == "signature" else Code.WEBHOOK_TIMESTAMP
            raise WebhookRefusal(verdict.reason, Unauthenticated(verdict.message, code=code))
        payload = await _parsed(
            inbound, body, webhook_senders.content_type(config.auth, inbound.headers.get("content-type"))
        )
        asks = webhook_senders.handshake(config.auth, inbound.headers, payload)
        if asks is not None:
            return await self._shake_hands(sub, inbound, asks)
        made = partial(_event, sub, inbound, payload, verdict, now)
        computes = config.dedupe is not None and config.dedupe.expression is not None  # for up to 100 ms
        event = await (run_beside(made) if computes else run_sized(body, made))
        fired = await self._intake.fire(sub, event, None, FireOptions(is_exact=True, refused_key=_own_key()))
        if fired.run_ids:
            log.bind(run_id=fired.run_ids[0])
        if fired.reason == "payload":
            raise Invalid(fired.message or "", code=Code.PAYLOAD_INVALID)
        return WebhookResult(fired, await self._conclude(sub, fired))

    async def _shake_hands(self, sub: Subscription, inbound: Inbound, asks: Handshake) -> WebhookResult:
        """Does what a sender asks for before its first event; starts nothing."""
        if asks.visit is not None:
            await self._senders.visit(asks.visit)
        event = TriggerEvent(_own_key(), {}, clock.now_ms(), request=_record(sub, inbound))
        fired = await self._intake.fire(sub, event, None, FireOptions(given=Skip("handshake", asks.message)))
        return WebhookResult(fired, handshake=asks)

    async def record(self, target: Target, inbound: Inbound, refusal: WebhookRefusal) -> None:
        """Records a refused request; it never starts a run."""
        sub = target.sub
        assert sub is not None, "only an address of a published workflow refuses"
        now = clock.now_ms()
        # Not the id that the sender gave: a forged request must not stand in the way of the real one.
        event = TriggerEvent(REFUSED + ids.new_id("req"), {}, now, request=_record(sub, inbound))
        options = FireOptions(given=EventFailure(refusal.reason, refusal.error.message))
        await self._intake.fire(sub, event, None, options)

    async def _conclude(self, sub: Subscription, fired: EventOutcome) -> Conclusion | None:
        config = sub.config
        if config.respond == "202" or not fired.run_ids:
            return None
        events = fired.created.events if fired.created is not None else []
        return await self._runs.conclude(
            sub.row.org_id, fired.run_ids[0], events, config.timeout_ms / 1000, for_answer=config.respond == "respond"
        )


async def _parsed(inbound: Inbound, body: bytes, content_type: str | None) -> dict[str, Any]:
    encoding = inbound.headers.get("content-encoding", "identity").strip().lower()
    try:
        if encoding not in ("", "identity"):
            raise WrongType(f"The content encoding {encoding[:40]!r} is not accepted; send the body as it is.")
        return await run_sized(body, webhook_body.parse, body, content_type)
    except WrongType as error:
        raise WebhookRefusal("content_type", DustrunError(str(error), code=Code.CONTENT_TYPE_UNSUPPORTED)) from None
    except ValueError as error:
        raise WebhookRefusal("body", Invalid(f"The body cannot be read: {error}.")) from None


def _event(sub: Subscription, inbound: Inbound, payload: dict[str, Any], good: Good, now: int) -> TriggerEvent:
    headers = webhook_body.shown_headers(inbound.headers, webhook_senders.secret_headers(sub.config.auth))
    query = webhook_body.query_of(inbound.query)
    given = _key(sub.config.dedupe, inbound, payload, headers, query)
    key = given or webhook_senders.event_key(sub.config.auth, inbound.headers, payload) or good.key or _own_key()
    return TriggerEvent(
        key,
        payload,
        good.sent_at or now,
        headers=headers,
        query=query,
        request=_record(sub, inbound),
    )


def _own_key() -> str:
    """The key of an event that its request gives none."""
    return f"call:{ids.new_id('req')}"


def _record(sub: Subscription, inbound: Inbound) -> dict[str, Any]:
    """A request as the log shows it, without its secrets and its address."""
    headers = webhook_body.shown_headers(inbound.headers, webhook_senders.secret_headers(sub.config.auth))
    query = webhook_body.query_of(inbound.query)
    return {"method": inbound.method, "headers": headers, "query": query, "address": inbound.address}


def _key(
    dedupe: Any, inbound: Inbound, payload: dict[str, Any], headers: Mapping[str, str], query: Mapping[str, str]
) -> str | None:
    """The identity that the request gives for its event; None if the webhook does not ask for one."""
    if dedupe is None:
        return None
    if dedupe.header is not None:
        found: Any = inbound.headers.get(dedupe.header.lower())
        wanted = f"The header {dedupe.header}"
    else:
        wanted = f"`{dedupe.expression}`"
        try:
            found = parse_template(dedupe.expression).evaluate(_Roots(payload, headers, query))
        except ExpressionError as error:
            raise WebhookRefusal("dedupe", Invalid(f"{wanted}, which identifies the event: {error.message}")) from None
    if isinstance(found, dict | list) or found is None or webhook_body.text_of(found).strip() == "":
        raise WebhookRefusal("dedupe", Invalid(f"{wanted}, which identifies the event, gives nothing that does."))
    return webhook_body.key_of("given", webhook_body.text_of(found))


class _Roots:
    """The roots of the expression of `dedupe`."""

    def __init__(self, payload: Mapping[str, Any], headers: Mapping[str, str], query: Mapping[str, str]) -> None:
        request = {"body": dict(payload), "headers": dict(headers), "query": dict(query)}
        self._roots: dict[str, Any] = {"$trigger": {**payload, **request}, "$inputs": dict(payload)}

    def root(self, name: str) -> Any:
        """The value behind a root."""
        return self._roots[name]
