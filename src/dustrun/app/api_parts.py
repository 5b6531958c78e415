"""The services behind the API, grouped as the routes see them."""

from __future__ import annotations

from dustrun.app.base import Base
from dustrun.app.money import Money
from dustrun.app.triggers import Triggers, make_trigger_parts
from dustrun.assistant.conversation_turns import Turns
from dustrun.engine.node.roots import PastRoots
from dustrun.operations.declaration.parts import (
    AccessParts,
    DataParts,
    HookParts,
    MoneyParts,
    Parts,
    ServerStatus,
    WaitParts,
)
from dustrun.services.access.api_keys import Keys
from dustrun.services.access.audit import AuditExport
from dustrun.services.access.oidc.checks import Checks
from dustrun.services.access.oidc.outside_tokens import OutsideTokens
from dustrun.services.access.oidc.provider import Provider
from dustrun.services.access.oidc.sign_in import SignIns
from dustrun.services.access.organizations import Organizations
from dustrun.services.access.passkeys.passkeys import Passkeys
from dustrun.services.access.people import People
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
from dustrun.services.data.hands_of_runs import HandsOfRuns
from dustrun.services.data.managed_tables import Tables
from dustrun.services.data.variables import Keeping, Variables
from dustrun.services.imports.document_imports import DocumentImports
from dustrun.services.maintenance import Retention
from dustrun.services.outbox.operations import Operations
from dustrun.services.own_templates import OwnTemplates
from dustrun.services.preview.policy_trials import PolicyTrials
from dustrun.services.runs.approvals import Approvals
from dustrun.services.runs.engine_port import Engine
from dustrun.services.runs.expressions import Expressions
from dustrun.services.runs.launching.decision import RehearsedReach
from dustrun.services.runs.launching.launches import Launches, ProposedLaunches
from dustrun.services.runs.reporting.reports import RunReports
from dustrun.services.runs.resume import Resumes
from dustrun.services.runs.runs import Runs
from dustrun.services.runs.shaping import RunShaping
from dustrun.services.runs.start import Starts
from dustrun.services.streaming.streams import ChangedWorkflows, Streams
from dustrun.services.wallets.asked_spends import AskedSpends
from dustrun.services.wallets.contracts import Contracts
from dustrun.services.wallets.funds import WalletFunds
from dustrun.services.wallets.ledger import WalletLedger
from dustrun.services.wallets.policies import PolicySentences, WalletPolicies
from dustrun.services.workflows.acceptance import Acceptances
from dustrun.services.workflows.files import WorkflowFiles
from dustrun.services.workflows.versions import Versions
from dustrun.services.workflows.workflows import Workflows


def make_parts(
    base: Base,
    status: ServerStatus,
    data: DataParts,
    money: Money,
    engine: Engine,
    runs: Runs,
    starts: Starts,
    triggers: Triggers,
    hooks: HookParts,
) -> Parts:
    streams = Streams(base.database, base.writer, base.hub, base.settings)
    networks = base.chains.networks
    workflows = Workflows(
        base.database, base.writer, base.catalog, base.gate, base.http.guard, triggers.arming, networks
    )
    workflows.on_changed.append(ChangedWorkflows(base.hub).tell)
    access = _access(base, streams, data.mcp_sessions)
    workflows.on_moved.append(access.keys.tell_reach)
    reports = RunReports(base.database, runs, base.chains, base.slices)
    launches = Launches(base.database, base.writer, base.programs, starts, runs, reports, RehearsedReach(base.gate))
    launches.on_proposed.append(ProposedLaunches(base.hub).tell)
    launches.on_decided.append(data.turns.decided)
    return Parts(
        settings=base.settings,
        database=base.database,
        writer=base.writer,
        catalog=base.catalog,
        status=status,
        access=access,
        workflows=workflows,
        workflow_files=WorkflowFiles(base.database, base.writer, workflows, base.catalog.specs()),
        acceptances=Acceptances(base.database, base.writer, base.gate, base.catalog.specs(), base.slices),
        versions=Versions(base.database),
        own_templates=OwnTemplates(base.database, base.writer, base.catalog.specs()),
        slices=base.slices,
        runs=runs,
        starts=starts,
        action_calls=ActionCalls(base.database, base.catalog, starts),
        run_reports=reports,
        expressions=Expressions(base.database, runs, PastRoots()),
        waits=_waits(base, engine, runs, launches),
        launches=launches,
        hooks=hooks,
        streams=streams,
        money=_money_parts(base, money),
        data=data,
        triggers=make_trigger_parts(base, triggers, starts, runs, reports, workflows),
    )


def _access(base: Base, streams: Streams, mcp_sessions: ProtocolSessions) -> AccessParts:
    keys = Keys(base.database, base.writer)
    keys.on_revoked.extend((streams.end_key, mcp_sessions.end_key))
    keys.on_reach.append(streams.end_beyond)
    sessions = Sessions(base.database, base.writer, keys)
    sessions.on_ended.append(streams.end_key)
    provider = None if base.sign_in_http is None else Provider(base.settings, base.sign_in_http)
    sign_ins = SignIns(provider, base.database, base.writer, base.vault, keys)
    return AccessParts(
        organizations=Organizations(base.database, base.writer, base.settings),
        keys=keys,
        people=People(base.database, base.writer, keys, sessions, base.settings.base_url()),
        passkeys=Passkeys(base.database, base.writer, base.settings.base_url()),
        roles=Roles(base.database, base.writer),
        directory=Directory(base.database, base.writer, keys, base.settings.sign_in_groups),
        audit_export=AuditExport(base.database, base.writer, base.vault),
        service_accounts=ServiceAccounts(base.database, base.writer, keys),
        outside_tokens=OutsideTokens(base.settings, base.database, base.http),
        sessions=sessions,
        sign_ins=sign_ins,
        sign_in_checks=Checks(sign_ins, base.database, base.writer, base.vault, keys, sessions),
        limiter=RateLimiter(base.settings.rate_limit_per_second),
        wrong_keys=WrongKeys(base.settings.wrong_keys_per_second),
        wrong_tokens=WrongKeys(base.settings.wrong_keys_per_second),
        sign_in_begins=RateLimiter(base.settings.wrong_keys_per_second, burst_factor=20),
        webhook_guesses=RateLimiter(base.settings.wrong_keys_per_second, burst_factor=20),
        webhook_refusals=RateLimiter(base.settings.wrong_keys_per_second, burst_factor=20),
        form_guesses=RateLimiter(base.settings.wrong_keys_per_second, burst_factor=20),
        form_requests=RateLimiter(base.settings.requests_per_link),
        webhook_requests=RateLimiter(base.settings.requests_per_webhook),
        form_submissions=RateLimiter(base.settings.form_submissions_per_second, burst_factor=20),
        usage=Usage(base.database, base.writer, base.settings.request_audit_rows),
        retention=Retention(base.database, base.writer, base.settings.retention_days, base.settings.hook_delivery_days),
    )


def _waits(base: Base, engine: Engine, runs: Runs, launches: Launches) -> WaitParts:
    return WaitParts(
        approvals=Approvals(base.database, base.writer, engine, launches, runs.gate, base.hub),
        resumes=Resumes(base.database, base.writer, runs, base.links, engine),
    )


def _money_parts(base: Base, money: Money) -> MoneyParts:
    sentences = PolicySentences(base.chains)
    return MoneyParts(
        chains=base.chains,
        wallets=money.wallets,
        wallet_policies=WalletPolicies(base.database, base.writer, base.settings.policy_delay_s * 1000),
        policy_sentences=sentences,
        policy_trials=PolicyTrials(base.database, money.outbox.deps.budget, sentences),
        wallet_funds=WalletFunds(base.database, base.chains),
        allowances=money.allowances,
        contracts=Contracts(base.database, base.writer, base.chains),
        operations=Operations(money.outbox),
        ledger=WalletLedger(base.database, base.chains.networks),
        asked_spends=AskedSpends(base.database, base.chains.networks, money.find_value),
        dust_plans=money.dust_plans,
        fund_needs=money.fund_needs,
    )


def make_data(base: Base) -> DataParts:
    connectors = Connectors(
        base.database, base.writer, base.catalog, base.vault, base.connections, base.settings.max_connectors
    )
    hands, shaping = HandsOfRuns(base.gate.closures), RunShaping(base.gate, base.chains.networks)
    return DataParts(
        variables=Variables(base.database, base.writer, Keeping(hands, shaping)),
        tables=Tables(base.database, base.writer, base.settings, hands, shaping),
        connectors=connectors,
        consents=Consents(base.settings, base.database, base.writer, base.vault, connectors, base.connections),
        mcp_tools=McpTools(base.writer, connectors, base.connections),
        imports=DocumentImports(base.database, base.writer, base.document_http),
        mcp_sessions=ProtocolSessions(),
        conversations=Conversations(base.database, base.writer),
        turns=Turns(base.database, base.writer, base.connections, base.settings, base.holder),
    )
