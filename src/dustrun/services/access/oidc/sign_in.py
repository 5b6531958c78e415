"""Signing in at the identity provider: a person is a subject of the provider's, never whoever has an e-mail address.

A sign-in is bound to the browser that began it: its nonce and its PKCE verifier are made from a secret in the cookie of
that browser, of which only a hash is stored, and it is used up by the first answer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final

from dustrun import clock, ids
from dustrun.errors import Code, Conflict, NotFound
from dustrun.records import dataclass
from dustrun.services.access import audit
from dustrun.services.access.api_keys import Keys, is_good, make_key, permissions_of, principal_of
from dustrun.services.access.oidc import rights
from dustrun.services.access.oidc.admission import AdmittedPerson
from dustrun.services.access.oidc.id_token import refuse
from dustrun.services.access.oidc.provider import Provider, SignInAttempt
from dustrun.services.access.principal import Principal
from dustrun.services.access.sessions import NewSession, start_session
from dustrun.storage.access import directory, organizations, people
from dustrun.storage.access import identities as rows
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access import sessions as session_rows
from dustrun.storage.access.directory import SeenUser
from dustrun.storage.access.identities import IdentityRow
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.access.people import PersonRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets.vault import Vault

KIND: Final = "identity"
"""The vault's record kind for a refresh token."""
BY_PROVIDER: Final = "provider"
"""Stands for the key that invited a person whom nobody has invited."""
ATTEMPT_MS: Final = 600_000


@dataclass(frozen=True, slots=True)
class SignInRedirect:
    """Where to send the browser, and the secret for its cookie."""

    url: str
    browser: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInReply:
    """The parameters with which the provider sent the browser back."""

    state: str
    code: str | None = None
    issuer: str | None = None
    error: str | None = None
    description: str | None = None


class SignIns:
    """Use cases of signing in at the provider, if there is one."""

    def __init__(self, provider: Provider | None, database: Database, writer: Writer, vault: Vault, keys: Keys) -> None:
        self.provider = provider
        self._database = database
        self._writer = writer
        self._vault = vault
        self._keys = keys

    @property
    def name(self) -> str | None:
        """The provider's name, as people read it; None: there is no provider."""
        return None if self.provider is None else self.provider.settings.sign_in_name

    async def begin(self) -> SignInRedirect:
        """Begins a sign-in; raises `NotFound` without a provider, `Temporary` if it does not answer."""
        provider, browser, state = self._given(), ids.new_secret("browser"), ids.new_secret("state")
        now = clock.now_ms()
        url = await provider.page_for(_attempt(browser, state, now))
        hashes = {"hash": ids.secret_hash(state), "browser_hash": ids.secret_hash(browser)}
        await self._writer.write(lambda tx: rows.begin(tx, **hashes, now=now, keep_after=now - ATTEMPT_MS))
        return SignInRedirect(url, browser)

    async def finish(self, answered: SignInReply, browser: str | None) -> NewSession:
        """Starts the session of whoever the provider says it is; raises `Forbidden`, `Conflict` or `Temporary`."""
        provider = self._given()
        begun_at = await self._take(answered.state, browser)
        await provider.check_sender(answered.issuer)
        if answered.code is None:
            raise refuse(_declined(answered))
        grant = await provider.exchange(answered.code, _attempt(browser or "", answered.state, begun_at))
        token = grant.refresh_token
        if token is None:
            raise refuse(
                "The provider gives no refresh token, so this server could not notice when it lets you go. Ask it for "
                "one: sign_in_scopes with offline_access, or sign_in_parameters."
            )
        await self._vault.prepare()
        done = await self._writer.write(
            lambda tx: self._let_in(tx, provider, grant.claims, token), lambda done: self._keys.forget_all(done[1])
        )
        return done[0]

    async def page_to_leave(self, principal: Principal) -> str | None:
        """Where the caller's person signs out at the provider too; None if they do not sign in there."""
        provider = self.provider
        if provider is None:
            return None
        issuer = provider.url

        def query(tx: Tx) -> bool:
            key = key_rows.find(tx, principal.org_id, principal.key_id)
            every = [] if key is None or key.person_id is None else rows.list_of_person(tx, key.person_id)
            return any(one.issuer == issuer and one.ended_at is None for one in every)

        return await provider.page_to_leave() if await self._database.read(query) else None

    def _given(self) -> Provider:
        if self.provider is None:
            raise NotFound("People sign in here without a provider: the setting sign_in_issuer is not set.")
        return self.provider

    async def _take(self, state: str, browser: str | None) -> int:
        taken = await self._writer.write(lambda tx: rows.take(tx, ids.secret_hash(state)))
        if taken is None or taken[1] < clock.now_ms() - ATTEMPT_MS:
            raise refuse("This sign-in was used already, or was begun more than ten minutes ago. Sign in again.")
        if browser is None or not hmac.compare_digest(taken[0], ids.secret_hash(browser)):
            raise refuse("This sign-in was begun in another browser, or was followed by a newer one. Sign in again.")
        return taken[1]

    def _let_in(
        self, tx: Tx, provider: Provider, claims: Mapping[str, Any], token: str
    ) -> tuple[NewSession, list[KeyRow]]:
        org_id, now = _organization(tx, provider.settings.sign_in_organization), clock.now_ms()
        admitted = provider.admission.admit(claims, groups_decide=False)
        identity = rows.find(tx, org_id, provider.url, admitted.subject)
        user = _user_of(tx, org_id, identity, admitted)
        is_decided = user is not None and user.row.by_groups
        if not is_decided:
            admitted = provider.admission.admit(claims)
        person = self._person(tx, provider, org_id, identity, admitted, user)
        home = key_rows.find(tx, org_id, person.key_id)
        assert home is not None, "keys are never deleted"
        if not is_good(home) and (identity is None or identity.ended_at is None):
            raise Conflict(
                "You are deactivated here, or your access has expired. An administrator lets you in again.",
                code=Code.PERSON_DEACTIVATED,
            )
        if is_decided and not permissions_of(home):
            raise refuse("None of your groups in the directory may do anything here.")
        home, ended = rights.give(tx, person, home, admitted.permissions)
        identity_id = ids.new_id("idn") if identity is None else identity.id
        sealed = self._vault.seal(tx, org_id, KIND, identity_id, token.encode())
        if identity is None:
            row = IdentityRow(
                id=identity_id,
                org_id=org_id,
                person_id=person.id,
                issuer=provider.url,
                subject=admitted.subject,
                sealed=sealed,
                checked_at=now,
            )
            rows.insert(tx, row)
            audit.record(tx, principal_of(home), "person.identity", person.id, issuer=provider.url)
        else:
            rows.let_in(tx, identity_id, sealed=sealed, now=now)
        people.join(tx, home.id, now)
        return start_session(tx, org_id, home.id), ended

    def _person(
        self,
        tx: Tx,
        provider: Provider,
        org_id: str,
        identity: IdentityRow | None,
        admitted: AdmittedPerson,
        user: SeenUser | None,
    ) -> PersonRow:
        """Whose identity it is: if nobody's yet, of a person whom the directory has made and who has not signed in, of
        an open invitation, or of a new person if settings allow it. For others the directory does not vouch: it could
        say that anybody is an administrator who was here before it."""
        if identity is not None:
            known = people.find(tx, org_id, identity.person_id)
            assert known is not None, "people are never deleted"
            return known
        own = None if user is None else people.find(tx, org_id, user.row.person_id)
        if own is not None and own.invited_by == people.BY_DIRECTORY and own.joined_at is None:
            return own
        email = admitted.email
        if email is None:
            raise refuse(
                "The provider gives no verified e-mail address of yours, so that no invitation can be found. See "
                "sign_in_trust_emails."
            )
        invited = people.find_by_email(tx, org_id, email)
        if invited is None:
            return self._make(tx, provider, org_id, email, admitted)
        if any(one.issuer == provider.url for one in rows.list_of_person(tx, invited.id)):
            raise Conflict(
                f'Another account of the provider has signed in with the e-mail address "{email}" before. Two people '
                "cannot have one: an administrator decides whose it is.",
                code=Code.PERSON_EMAIL_TAKEN,
            )
        if not session_rows.has_link(tx, invited.key_id, clock.now_ms()):
            raise Conflict(
                f'There is a person with the e-mail address "{email}" who does not sign in with the provider yet. If '
                f"you are that person, ask an administrator for a new link (dustrun people link {invited.id}), and "
                "sign in here again instead of opening it.",
                code=Code.PERSON_EMAIL_TAKEN,
            )
        people.drop_links(tx, invited.key_id)
        return invited

    def _make(self, tx: Tx, provider: Provider, org_id: str, email: str, admitted: AdmittedPerson) -> PersonRow:
        if not provider.settings.sign_in_create or admitted.permissions is None:
            raise refuse(f'Nobody has invited "{email}". Ask an administrator for an invitation to this address.')
        person_id = ids.new_id("per")
        home = make_key(org_id, admitted.name, admitted.permissions, person_id=person_id).row
        key_rows.insert(tx, home)
        row = PersonRow(
            id=person_id,
            org_id=org_id,
            name=admitted.name,
            email=email,
            key_id=home.id,
            invited_by=BY_PROVIDER,
            created_at=home.created_at,
        )
        people.insert(tx, row)
        given = sorted(admitted.permissions)
        audit.record(tx, principal_of(home), "person.create", person_id, email=email, permissions=given, by="provider")
        return row


def _attempt(browser: str, state: str, begun_at: int) -> SignInAttempt:
    """The secrets of a sign-in, which only its browser and this server's stored hashes together confirm."""
    nonce, verifier = (_derived(browser, f"{what} {state}") for what in ("nonce", "verifier"))
    return SignInAttempt(state, nonce, verifier, begun_at)


def _derived(browser: str, purpose: str) -> str:
    made = hmac.new(browser.encode(), purpose.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(made).decode().rstrip("=")


def _declined(answered: SignInReply) -> str:
    """The provider's reason for a refusal, of an answer that belongs to a sign-in of this browser."""
    said = "".join(one for one in (answered.description or "") if one.isprintable())[:300]
    code = answered.error if answered.error and answered.error.replace("_", "").isalnum() else "no code"
    return f"The provider does not sign you in ({code[:60]}){f': {said}' if said else '.'}"


def _user_of(tx: Tx, org_id: str, identity: IdentityRow | None, admitted: AdmittedPerson) -> SeenUser | None:
    """The user of the directory who signs in: whose identity it is, else who has the subject as externalId, else the
    verified address."""
    wanted = [("id", identity.person_id)] if identity is not None else [("externalid", admitted.subject)]
    if identity is None and admitted.email is not None:
        wanted.append(("emails.value", admitted.email))
    found = (directory.find_user(tx, org_id, name, value, now=clock.now_ms()) for name, value in wanted)
    return next((one for one in found if one is not None), None)


def _organization(tx: Tx, wanted: str | None) -> str:
    every = [one.id for one in organizations.list_all(tx)]
    if wanted is not None and wanted not in every:
        raise refuse("The setting sign_in_organization names no organisation of this server.")
    return wanted or min(every)
