"""A person's consent to what a connector may do: begun here, given at the provider, and finished here.

A consent belongs to the key that began it, to the version of the connector that it was begun for, and, if a browser's
session began it, to that browser. It is used up by the first answer, and ends after ten minutes. Whoever comes back
from the provider sees who began it before it takes effect: an address that somebody else has sent could otherwise
connect their connector to one's own account.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from dustrun import clock, ids
from dustrun.core.text.masking import Mask
from dustrun.core.values import exact_json
from dustrun.errors import Code, Conflict, DustrunError, Forbidden, Invalid, Problem
from dustrun.records import dataclass
from dustrun.sdk.connector import CONSENT
from dustrun.services.access import audit
from dustrun.services.access.api_keys import is_good, principal_of
from dustrun.services.access.principal import Principal
from dustrun.services.connectors.connections import Connections
from dustrun.services.connectors.connectors import Connectors, find_seen
from dustrun.services.connectors.oauth_tokens import DATA
from dustrun.services.connectors.token_answers import read_answer
from dustrun.settings import Settings
from dustrun.storage.access import keys
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.data import consents as rows
from dustrun.storage.data.connectors import ConnectorRow
from dustrun.storage.data.consents import AttemptRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets.vault import Vault

CALLBACK: Final = "/v1/oauth/callback"
"""Where providers send people back to."""
ATTEMPT_MS: Final = 600_000
_KIND: Final = "consent"
_MOST_SAID: Final = 300


@dataclass(frozen=True, slots=True)
class BegunConsent:
    """Where somebody consents, until when, and the secret for the cookie of a browser that began it."""

    url: str
    expires_at: int
    browser: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentReply:
    """The parameters with which a provider sends somebody back."""

    state: str
    code: str | None = None
    iss: str | None = None
    error: str | None = None
    error_description: str | None = None


@dataclass(frozen=True, slots=True)
class SeenConsent:
    """What somebody is asked to confirm: the connector, and whose key began it."""

    attempt: AttemptRow
    connector: ConnectorRow
    key: KeyRow


class Consents:
    """Use cases of consents."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        writer: Writer,
        vault: Vault,
        connectors: Connectors,
        connections: Connections,
    ) -> None:
        self._redirect_uri = settings.base_url() + CALLBACK
        self._database = database
        self._writer = writer
        self._vault = vault
        self._type = connections.catalog.connector(CONSENT)
        self._connectors = connectors
        self._connections = connections

    async def begin(self, principal: Principal, connector_id: str) -> BegunConsent:
        """Begins a consent to what a connector asks for; raises `Invalid` for one that needs none."""
        row = await self._connectors.get(principal, connector_id)
        if row.type != CONSENT:
            message = f'is of type "{row.type}", which needs no consent; connectors of type "{CONSENT}" do'
            raise Invalid("The connector cannot be connected.", details=[Problem("id", message)])
        data = await self._data(row)
        state, verifier = ids.new_secret("state"), ids.new_secret("verifier", 60)
        browser = ids.new_secret("browser") if principal.is_session else None
        now = clock.now_ms()
        await self._vault.prepare()

        def unit(tx: Tx) -> None:
            attempt = AttemptRow(
                id=ids.secret_hash(state),
                org_id=row.org_id,
                connector_id=row.id,
                connector_version=row.version,
                key_id=principal.key_id,
                browser_hash=None if browser is None else ids.secret_hash(browser),
                sealed=self._vault.seal(tx, row.org_id, _KIND, ids.secret_hash(state), verifier.encode()),
                begun_at=now,
            )
            rows.begin(tx, attempt, keep_after=now - ATTEMPT_MS)

        await self._writer.write(unit)
        return BegunConsent(self._page(data, state, verifier), now + ATTEMPT_MS, browser)

    async def look(self, reply: ConsentReply) -> SeenConsent:
        """The consent that a reply belongs to; raises `Forbidden` for one that nobody began, or that was refused."""
        seen = await self._database.read(lambda tx: self._see(tx, reply.state))
        _check_sender(await self._data(seen.connector), reply.iss)
        if reply.code is None:
            await self._writer.write(lambda tx: rows.end(tx, seen.attempt.id))
            raise _refused(_declined(reply))
        return seen

    async def finish(self, reply: ConsentReply, browser: str | None) -> ConnectorRow:
        """Gives the connector the tokens of a consent; raises `Forbidden`, or `Conflict` if it has changed since."""
        seen = await self.look(reply)
        _check_browser(seen.attempt, browser)
        if not await self._writer.write(lambda tx: rows.end(tx, seen.attempt.id)):
            raise _refused("This consent was used already.")
        row, attempt = seen.connector, seen.attempt
        verifier = await self._vault.read(self._database, row.org_id, _KIND, attempt.id, attempt.sealed)
        granted = await self._exchange(row, reply.code or "", verifier.decode())
        await self._vault.prepare()
        now = clock.now_ms()

        def unit(tx: Tx) -> ConnectorRow:
            sealed = self._connections.tokens.grants.seal(tx, row.org_id, row.id, granted, None)
            if not rows.connect(tx, row.id, attempt.connector_version, sealed, now):
                raise Conflict("The connector was changed since you began; connect it again.", code=Code.VERSION_MOVED)
            audit.record(tx, principal_of(seen.key), "connector.connect", row.id, name=row.name)
            return replace(row, version=row.version + 1, connected_at=now)

        done = await self._writer.write(unit)
        self._connections.tokens.forget(row.id)
        self._connectors.on_changed(row.id)
        return done

    async def _exchange(self, row: ConnectorRow, code: str, verifier: str) -> Any:
        type_, data = self._type, await self._data(row)
        grant = {"grant_type": "authorization_code", "redirect_uri": self._redirect_uri, "code_verifier": verifier}
        request = type_.run(data, **grant, code=code)
        mask = Mask([code, verifier, *type_.secrets(data), *(t.rpartition(" ")[2] for t in request.headers.values())])
        try:
            return read_answer(row.name, await self._connections.http.request(request), mask)
        except DustrunError as error:
            raise _refused(f"{mask.text(error.message)} Begin again once it is mended.") from None

    def _page(self, data: Any, state: str, verifier: str) -> str:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        fields = {
            **data.authorize_parameters,
            "response_type": "code",
            "client_id": data.client_id,
            "redirect_uri": self._redirect_uri,
            **({} if data.scope is None else {"scope": data.scope}),
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{data.authorize_url}{'&' if '?' in data.authorize_url else '?'}{urlencode(fields)}"

    async def _data(self, row: ConnectorRow) -> Any:
        plain = await self._vault.read(self._database, row.org_id, DATA, row.id, row.sealed)
        return self._type.data.model_validate(exact_json.loads(plain))

    def _see(self, tx: Tx, state: str) -> SeenConsent:
        attempt = rows.find(tx, ids.secret_hash(state))
        if attempt is None or attempt.begun_at < clock.now_ms() - ATTEMPT_MS:
            raise _refused("This consent was used already, or was begun more than ten minutes ago. Begin again.")
        key = keys.find(tx, attempt.org_id, attempt.key_id)
        if key is None or not is_good(key) or not principal_of(key).may("connector:write"):
            raise _refused("The key that began this consent may not change connectors any more.")
        row = find_seen(tx, principal_of(key), attempt.connector_id)
        if row is None:
            raise _refused("The connector was deleted since this consent began.")
        return SeenConsent(attempt, row, key)


def _check_sender(data: Any, iss: str | None) -> None:
    """Raises `Forbidden` if another provider answers than the one that was asked (RFC 9207)."""
    if iss is None:
        return
    wanted = data.issuer or "{0.scheme}://{0.netloc}".format(urlsplit(data.authorize_url))
    if iss.rstrip("/") != wanted.rstrip("/"):
        raise _refused(
            f"The answer came from another provider than the one that was asked: it says {iss[:200]}, but the "
            f"connector's data.issuer is {wanted}. If that is the same provider, set data.issuer to what it says."
        )


def _check_browser(attempt: AttemptRow, browser: str | None) -> None:
    wanted = attempt.browser_hash
    if wanted is not None and not hmac.compare_digest(wanted, ids.secret_hash(browser or "")):
        raise _refused("This consent was begun in another browser, or was followed by a newer one. Begin again.")


def _declined(reply: ConsentReply) -> str:
    said = "".join(one for one in reply.error_description or "" if one.isprintable())[:_MOST_SAID]
    code = reply.error if reply.error and reply.error.replace("_", "").isalnum() else "no code"
    return f"The provider does not connect it ({code[:60]}){f': {said}' if said else '.'}"


def _refused(message: str) -> Forbidden:
    return Forbidden(message, code=Code.CONSENT_REFUSED)
