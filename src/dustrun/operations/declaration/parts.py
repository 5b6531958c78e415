"""The services that handlers use, grouped by domain and created by the composition root; and the call that has them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import field
from typing import Any

from dustrun.assistant.conversation_turns import Turns
from dustrun.catalog import Catalog
from dustrun.chain.chains import Chains
from dustrun.errors import Problem
from dustrun.records import dataclass
from dustrun.services.access.api_keys import Keys
from dustrun.services.access.audit import AuditExport
from dustrun.services.access.idempotency import PendingKey
from dustrun.services.access.oidc.checks import Checks
from dustrun.services.access.oidc.outside_tokens import OutsideTokens
from dustrun.services.access.oidc.sign_in import SignIns
from dustrun.services.access.organizations import Organizations
from dustrun.services.access.passkeys.passkeys import Passkeys
from dustrun.services.access.people import People
from dustrun.services.access.principal import Principal
from dustrun.services.access.rate_limits import RateLimiter, WrongKeys
from dustrun.services.access.roles import Roles
from dustrun.services.access.scim.directory import Directory
from dustrun.services.access.service_accounts import ServiceAccounts
from dustrun.services.access.sessions import ProtocolSessions, Sessions
from dustrun.services.access.usage import Usage
from dustrun.services.actions import ActionCalls
from dustrun.services.connectors.connectors import Connectors
from dustrun.services.connectors.consents import Consents
from dustrun.services.connectors.mcp_tools import McpTools
from dustrun.services.data.conversations import Conversations
from dustrun.services.data.managed_tables import Tables
from dustrun.services.data.variables import Variables
from dustrun.services.hooks.deliveries import Deliveries
from dustrun.services.hooks.hooks import Hooks
from dustrun.services.imports.document_imports import DocumentImports
from dustrun.services.maintenance import Retention
from dustrun.services.outbox.operations import Operations
from dustrun.services.own_templates import OwnTemplates
from dustrun.services.preview.dust_plans import DustPlans
from dustrun.services.preview.fund_needs import Funds
from dustrun.services.preview.policy_trials import PolicyTrials
from dustrun.services.runs.approvals import Approvals
from dustrun.services.runs.expressions import Expressions
from dustrun.services.runs.launching.launches import Launches
from dustrun.services.runs.reporting.reports import RunReports
from dustrun.services.runs.resume import Resumes
from dustrun.services.runs.runs import Runs
from dustrun.services.runs.start import Starts
from dustrun.services.search import Hit
from dustrun.services.streaming.streams import Streams
from dustrun.services.triggers.arming import Arming
from dustrun.services.triggers.backtest.backtests import Backtests
from dustrun.services.triggers.context import Contexts
from dustrun.services.triggers.events import TriggerEvents, TriggerGaps
from dustrun.services.triggers.forms.answers import FormAnswers
from dustrun.services.triggers.forms.links import FormLinks
from dustrun.services.triggers.inbound.webhook_secrets import WebhookSecrets
from dustrun.services.triggers.inbound.webhooks import Webhooks
from dustrun.services.triggers.intake import Intake
from dustrun.services.triggers.rehearsal import TriggerRehearsals
from dustrun.services.triggers.subscriptions import Subscriptions
from dustrun.services.triggers.trying import TriggerPreviews
from dustrun.services.wallets.allowances import Allowances
from dustrun.services.wallets.asked_spends import AskedSpends
from dustrun.services.wallets.contracts import Contracts
from dustrun.services.wallets.funds import WalletFunds
from dustrun.services.wallets.ledger import WalletLedger
from dustrun.services.wallets.policies import PolicySentences, WalletPolicies
from dustrun.services.wallets.wallets import Wallets
from dustrun.services.workflows.acceptance import Acceptances
from dustrun.services.workflows.files import WorkflowFiles
from dustrun.services.workflows.slices import Slices
from dustrun.services.workflows.versions import Versions
from dustrun.services.workflows.workflows import Workflows
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.db.writer import Writer

Gauges = Mapping[str, tuple[str, float]]  # by name: help and value
_SCOPE_KEY = "dustrun.parts"


@dataclass(slots=True)
class ServerStatus:
    """Readiness of the server, and the gauges of `/metrics`."""

    gauges: Callable[[], Gauges]
    is_ready: bool = False
    waits_for: Callable[[], str | None] = lambda: None
    """The work that the process cannot do for now, and why; None: there is none."""
    documented: Callable[[], Sequence[Hit]] = list
    """The operations of the API, as a search finds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessParts:
    """Organisations, API keys, rate limits and recorded requests."""

    organizations: Organizations
    keys: Keys
    people: People
    passkeys: Passkeys
    roles: Roles
    audit_export: AuditExport
    directory: Directory
    service_accounts: ServiceAccounts
    outside_tokens: OutsideTokens
    sessions: Sessions
    sign_ins: SignIns
    sign_in_checks: Checks
    limiter: RateLimiter
    wrong_keys: WrongKeys
    wrong_tokens: WrongKeys
    """The same for tokens of streams, apart: a page whose token has expired tries again and again."""
    sign_in_begins: RateLimiter
    """Sign-ins at the provider that begin, by caller."""
    webhook_guesses: RateLimiter
    """Unknown addresses of webhooks, by caller."""
    webhook_refusals: RateLimiter
    """Refused requests, by webhook."""
    form_guesses: RateLimiter
    """Unknown links to forms, by caller."""
    form_requests: RateLimiter
    """Requests to a form or to a waiting node, by link: what strangers use up is not their organisation's."""
    webhook_requests: RateLimiter
    """Requests to a webhook, by address."""
    form_submissions: RateLimiter
    """Answers to a form, by form and caller."""
    usage: Usage
    retention: Retention


@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyParts:
    """Chains, wallets and spending."""

    chains: Chains
    wallets: Wallets
    wallet_policies: WalletPolicies
    policy_sentences: PolicySentences
    policy_trials: PolicyTrials
    wallet_funds: WalletFunds
    allowances: Allowances
    contracts: Contracts
    operations: Operations
    ledger: WalletLedger
    asked_spends: AskedSpends
    dust_plans: DustPlans
    fund_needs: Funds


@dataclass(frozen=True, slots=True, kw_only=True)
class DataParts:
    """Data that outlives a run."""

    variables: Variables
    tables: Tables
    connectors: Connectors
    consents: Consents
    mcp_tools: McpTools
    imports: DocumentImports
    mcp_sessions: ProtocolSessions
    conversations: Conversations
    turns: Turns


@dataclass(frozen=True, slots=True, kw_only=True)
class HookParts:
    """Outbound hooks and their deliveries."""

    hooks: Hooks
    deliveries: Deliveries


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitParts:
    """Services that end a node's wait."""

    approvals: Approvals
    resumes: Resumes


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerParts:
    """Triggers of published workflows."""

    contexts: Contexts
    subscriptions: Subscriptions
    intake: Intake
    arming: Arming
    events: TriggerEvents
    gaps: TriggerGaps
    rehearsals: TriggerRehearsals
    previews: TriggerPreviews
    webhook_secrets: WebhookSecrets
    webhooks: Webhooks
    backtests: Backtests
    form_links: FormLinks
    form_answers: FormAnswers


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All services that routes call."""

    settings: Settings
    database: Database
    writer: Writer
    catalog: Catalog
    status: ServerStatus
    access: AccessParts
    workflows: Workflows
    workflow_files: WorkflowFiles
    acceptances: Acceptances
    versions: Versions
    own_templates: OwnTemplates
    slices: Slices
    runs: Runs
    starts: Starts
    action_calls: ActionCalls
    run_reports: RunReports
    expressions: Expressions
    waits: WaitParts
    launches: Launches
    hooks: HookParts
    streams: Streams
    money: MoneyParts
    data: DataParts
    triggers: TriggerParts

    @functools.cached_property
    def prepared(self) -> dict[Any, Any]:
        """Answers of the catalogue that have been asked for."""
        return {}

    @functools.cached_property
    def catalogue_built(self) -> asyncio.Future[None]:
        """Done once the lists below are built; who asks first has them built beside the event loop. It is one for all:
        a thousand installed types take two seconds, and each thread that did the same would take them once more."""
        return asyncio.get_running_loop().run_in_executor(None, self._build_catalogue)

    async def await_catalogue(self) -> None:
        """Returns once the lists below are built, which somebody else may wait for too."""
        if not self.catalogue_built.done():
            await asyncio.shield(self.catalogue_built)

    def _build_catalogue(self) -> None:
        for name in ("public_actions", "public_triggers", "public_connectors"):
            getattr(self, name)

    @functools.cached_property
    def public_actions(self) -> list[dict[str, Any]]:
        """All actions and control nodes; built once, since the catalogue does not change while the server runs."""
        return self.catalog.public_actions()

    @functools.cached_property
    def public_triggers(self) -> list[dict[str, Any]]:
        """All triggers; built once."""
        return self.catalog.public_triggers()

    @functools.cached_property
    def public_connectors(self) -> list[dict[str, Any]]:
        """All connector types; built once."""
        return self.catalog.public_connectors()


def put_parts(scope: MutableMapping[str, Any], parts: Parts) -> None:
    """Stores the parts in the request's scope."""
    scope[_SCOPE_KEY] = parts


def parts_of(scope: MutableMapping[str, Any]) -> Parts:
    """The parts of one request."""
    parts: Parts = scope[_SCOPE_KEY]
    return parts


@dataclass(slots=True)
class Call:
    """One request, as its handler sees it."""

    parts: Parts
    principal: Principal
    request_id: str
    headers: Sequence[tuple[bytes, bytes]] = ()
    pending: PendingKey | None = None
    ignored: list[Problem] = field(default_factory=list)
    """Fields of the request that mean nothing here; the answer names them."""

    def answer_around(self, wrap: Callable[[Any], Any]) -> None:
        """For a handler whose answer is more than the result of its write: the answer stored for replay is shaped from
        `wrap(result)`."""
        if self.pending is not None and self.pending.answer is not None:
            shape = self.pending.answer
            self.pending.answer = lambda result: shape(wrap(result))
