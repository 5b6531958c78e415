"""Triggers: what is subscribed to, where events come in, and who watches for them."""

from __future__ import annotations

from collections.abc import Mapping

from dustrun.app.base import Base
from dustrun.app.money import Money
from dustrun.operations.declaration.parts import TriggerParts
from dustrun.records import dataclass
from dustrun.services.connectors.read_hosts import ReadHosts
from dustrun.services.runs.reporting.reports import RunReports
from dustrun.services.runs.runs import Runs
from dustrun.services.runs.start import Starts
from dustrun.services.triggers.arming import Arming
from dustrun.services.triggers.backtest.backtests import BacktestReport, Backtests
from dustrun.services.triggers.backtest.backtests import Deps as BacktestDeps
from dustrun.services.triggers.backtest.past_events import FindsEvents, RecordedEvents, TimedEvents
from dustrun.services.triggers.chain_intake import ChainIntake
from dustrun.services.triggers.chain_store import ChainStore
from dustrun.services.triggers.context import Contexts, LiveContext
from dustrun.services.triggers.ended_runs import EndedRuns
from dustrun.services.triggers.events import TriggerEvents, TriggerGaps
from dustrun.services.triggers.facts import OwnFacts
from dustrun.services.triggers.forms.answers import FormAnswers
from dustrun.services.triggers.forms.links import FormLinks
from dustrun.services.triggers.inbound.webhook_secrets import WebhookSecrets
from dustrun.services.triggers.inbound.webhook_targets import WebhookTargets
from dustrun.services.triggers.inbound.webhooks import SenderKeys, Webhooks
from dustrun.services.triggers.intake import Intake, SkippedEvents
from dustrun.services.triggers.rehearsal import TriggerRehearsals
from dustrun.services.triggers.subscriptions import Subscriptions
from dustrun.services.triggers.table_changes import TableChanges
from dustrun.services.triggers.trying import FindsRecent, NextOfStreams, RecentOfSources, TriggerPreviews
from dustrun.services.workflows.workflows import Workflows
from dustrun.trigger_host.chain.past import PastChainEvents
from dustrun.trigger_host.chain.source import ChainSource
from dustrun.trigger_host.chain.watched import WatchOptions
from dustrun.trigger_host.ended_runs import EndedRunsSource
from dustrun.trigger_host.host import TriggerHost, TriggerSource
from dustrun.trigger_host.polls import Polls
from dustrun.trigger_host.streams import Streams
from dustrun.trigger_host.timers import Timers


@dataclass(frozen=True, slots=True)
class Triggers:
    """The services of triggers, and the host that watches."""

    contexts: Contexts
    subscriptions: Subscriptions
    arming: Arming
    intake: Intake
    host: TriggerHost
    polls: Polls
    streams: Streams
    past_events: Mapping[str, FindsEvents]
    """Who finds the events of the past, by kind of trigger."""

    def connector_changed(self, connector_id: str) -> None:
        """Somebody has changed a connector that triggers may use."""
        self.polls.connector_changed(connector_id)
        self.streams.connector_changed(connector_id)


def make_triggers(base: Base, money: Money, starts: Starts) -> Triggers:
    """Composes triggers; a committed change of a workflow tells the host."""
    tables = TableChanges(base.database, "")  # of no organisation
    facts = OwnFacts(base.database, "")
    pace = base.settings.min_trigger_interval_ms
    context = LiveContext(base.http, base.chains, money.spend.prices, pace, tables, facts)
    contexts = Contexts(context, base.connections, base.database)
    subscriptions = Subscriptions(base.database, base.catalog)
    arming = Arming(base.catalog, base.gate, contexts)
    intake = Intake(base.database, base.writer, starts, subscriptions)
    intake.on_skipped.append(SkippedEvents(base.hub).tell)
    chain_store = ChainStore(base.database, base.writer)
    chains = _chain_source(base, chain_store, intake, subscriptions)
    polls, streams = Polls(intake, subscriptions, contexts), Streams(intake, subscriptions, contexts)
    watching = _sources(base, intake, subscriptions)
    host = TriggerHost(subscriptions, {**watching, "polled": polls, "streamed": streams, "chain": chains})
    for part in (arming, intake, chain_store):
        part.on_changed.append(host.changed)
    past_events: Mapping[str, FindsEvents] = {"timed": TimedEvents(), "chain": PastChainEvents(base.chains)}
    return Triggers(contexts, subscriptions, arming, intake, host, polls, streams, past_events)


def _chain_source(base: Base, store: ChainStore, intake: Intake, subscriptions: Subscriptions) -> ChainSource:
    events = ChainIntake(base.database, base.writer, intake)
    options = WatchOptions(base.settings.max_catch_up_blocks, base.settings.trigger_stall_s)
    return ChainSource(base.chains, store, events, subscriptions, options)


def make_trigger_parts(
    base: Base, triggers: Triggers, starts: Starts, runs: Runs, reports: RunReports, workflows: Workflows
) -> TriggerParts:
    """The services of triggers, as routes see them."""
    database, writer, arming = base.database, base.writer, triggers.arming
    secrets = WebhookSecrets(database, writer, base.vault, base.settings.base_url(), arming)
    targets = WebhookTargets(database, secrets, triggers.subscriptions)
    return TriggerParts(
        contexts=triggers.contexts,
        subscriptions=triggers.subscriptions,
        intake=triggers.intake,
        arming=arming,
        events=TriggerEvents(database, triggers.subscriptions, triggers.intake, arming),
        gaps=TriggerGaps(database, writer, arming.committed),
        rehearsals=TriggerRehearsals(database, writer, reports, arming, base.gate),
        backtests=_backtests(base, triggers, starts, runs, reports),
        previews=_previews(base, triggers, workflows),
        form_links=FormLinks(database, writer, base.settings.base_url(), arming),
        form_answers=FormAnswers(database, starts, runs, base.programs, arming),
        webhook_secrets=secrets,
        webhooks=Webhooks(targets, triggers.intake, runs, SenderKeys(base.http)),
    )


def _previews(base: Base, triggers: Triggers, workflows: Workflows) -> TriggerPreviews:
    finders: Mapping[str, FindsRecent] = {
        "chain": PastChainEvents(base.chains),
        "polled": RecentOfSources(),
        "streamed": NextOfStreams(),
    }
    hosts = ReadHosts(base.database, base.catalog.specs(), base.settings.assistant_hosts)
    subscriptions, contexts = triggers.subscriptions, triggers.contexts
    return TriggerPreviews(base.database, base.catalog, workflows, subscriptions, contexts, finders, hosts)


def _backtests(base: Base, triggers: Triggers, starts: Starts, runs: Runs, reports: RunReports) -> Backtests:
    report = BacktestReport(reports)
    deps = BacktestDeps(base.database, base.writer, starts, runs, base.programs, report, base.holder)
    return Backtests(deps, triggers.past_events, RecordedEvents(base.database))


def _sources(base: Base, intake: Intake, subscriptions: Subscriptions) -> Mapping[str, TriggerSource]:
    """Who watches for what happens in the server."""
    ends = EndedRunsSource(
        EndedRuns(base.database, base.writer, base.catalog, subscriptions, intake, base.settings.pause_after_failures)
    )
    base.hub.on_ended.append(ends.wake)
    return {
        "internal": ends,
        "timed": Timers(intake, subscriptions),
    }
