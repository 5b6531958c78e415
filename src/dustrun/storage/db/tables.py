"""The tables, one definition for SQLite and PostgreSQL.

Times are integer milliseconds UTC, flags integers 0 or 1, JSON exact text: no types that the databases treat
differently. Runs have an internal integer id, so that `runId` must be unique only within its organisation.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    case,
    event,
    false,
    true,
)

from dustrun.storage.db import catalog_tables as catalog_tables  # registers its tables in the same metadata
from dustrun.storage.db import ledger_tables as ledger_tables  # the same
from dustrun.storage.db import trigger_tables as trigger_tables  # the same
from dustrun.storage.db.metadata import ROW_ID, partial_index
from dustrun.storage.db.metadata import metadata as metadata

organizations = Table(
    "organizations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("retention_days", Integer, comment="days to keep ended runs; null: the server's setting; 0: forever"),
    Column("single_person", Integer, comment="1: whoever administers it may approve what their own runs ask"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("hash", Text, nullable=False, unique=True, comment="hex SHA-256 of the key"),
    Column("permissions", Text, nullable=False, comment="JSON list"),
    Column("workflow_ids", Text, comment="JSON list: the only workflows that the key can access; null: all"),
    Column("wallet_ids", Text, comment="JSON list: the only wallets that the key can use; null: all"),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("last_used_at", BigInteger, comment="accurate to about a minute"),
    Column("created_by", Text, comment="the key that created it; null: the server's operator"),
    Column("person_id", Text, comment="whose it is; null: nobody's, or nobody has said"),
    Column(
        "workflow_scope",
        Text,
        comment="JSON list of folders, tags and ids that workflow_ids is made of; null: it is given as it is",
    ),
    Column("service_account_id", Text, comment="the account whose it is; null: no service account's"),
    Column("connector_ids", Text, comment="JSON list: the only connectors that the key can use; null: all"),
    Index("ix_api_keys_org_id_id", "org_id", "id"),
    partial_index("ix_api_keys_person_id", "person_id", where="person_id IS NOT NULL"),
    partial_index("ix_api_keys_service_account_id", "service_account_id", where="service_account_id IS NOT NULL"),
)

roles = Table(
    "roles",
    metadata,
    Column("org_id", Text, ForeignKey("organizations.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("description", Text),
    Column("permissions", Text, nullable=False, comment="JSON list"),
    Column("created_at", BigInteger, nullable=False),
)

people = Table(
    "people",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("email", Text, nullable=False, comment="in lower case"),
    Column("key_id", Text, ForeignKey("api_keys.id"), nullable=False, comment="what sessions of the person stand for"),
    Column("invited_by", Text, nullable=False, comment="id of the key"),
    Column("created_at", BigInteger, nullable=False),
    Column("joined_at", BigInteger, comment="when a link of theirs was first used"),
    Column("role", Text, comment="null: permissions of their own"),
    UniqueConstraint("org_id", "email"),
    Index("ix_people_org_id_id", "org_id", "id"),
)

service_accounts = Table(
    "service_accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("role", Text, comment="null: permissions of its own"),
    Column("permissions", Text, nullable=False, comment="JSON list"),
    Column("workflow_ids", Text, comment="JSON list, as of its keys; null: all"),
    Column("workflow_scope", Text, comment="JSON list of folders and tags, as of its keys"),
    Column("wallet_ids", Text, comment="JSON list, as of its keys; null: all"),
    Column("owner_id", Text, ForeignKey("people.id"), comment="the person who answers for it"),
    Column("created_by", Text, nullable=False, comment="id of the key"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
    Column("deleted_at", BigInteger, comment="rows stay: who stood behind its keys is not lost"),
    Column(
        "past_owners",
        Text,
        nullable=False,
        server_default="[]",
        comment="JSON list of [person, until]: they may know the keys of that time",
    ),
    Column("connector_ids", Text, comment="JSON list, as of its keys; null: all"),
    partial_index("ix_service_accounts_org_id_name", "org_id", "name", where="deleted_at IS NULL", unique=True),
)

workflows = Table(
    "workflows",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("status", Text, nullable=False, comment="draft, active, paused, archived"),
    Column("paused_reason", Text),
    Column("latest_version", Integer, nullable=False),
    Column("draft_version", Integer),
    Column("live_version", Integer),
    Column("max_runs", Integer),
    Column("remain_runs", Integer),
    Column("cooldown_ms", BigInteger),
    Column("require_rehearsal", Text, nullable=False, server_default="none"),
    Column("concurrency", Text, comment="JSON: {max, key, onLimit}"),
    Column("enforce_rehearsal", Text, comment="JSON: {tolerancePercent, maxAgeMs}"),
    Column("acceptances", Integer, nullable=False, server_default="0", comment="how many must accept each version"),
    Column("ui_metadata", Text, comment="JSON: editor layout"),
    Column("owner", Text, nullable=False, comment="id of the key that created it"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("last_triggered_at", BigInteger, comment="when a trigger last started a live run"),
    Column("failures_in_row", Integer, nullable=False, server_default="0", comment="of live runs by triggers"),
    Column("autosave", Text, comment="of a draft that nothing has used, JSON: {version, key, session, since, at}"),
    Column("folder", Text, comment="a path, like payroll/europe"),
    Column(
        "tags",
        Text,
        nullable=False,
        server_default="",
        comment="space-separated, with leading and trailing space; empty: none",
    ),
    Index("ix_workflows_org_id_updated_at", "org_id", "updated_at"),
)

workflow_versions = Table(
    "workflow_versions",
    metadata,
    Column("workflow_id", Text, ForeignKey("workflows.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("definition", Text, nullable=False, comment="JSON, keys in the caller's order"),
    Column(
        "definition_hash", Text, nullable=False, comment="SHA-256 of the canonical JSON; equal means no new version"
    ),
    Column("trigger_type", Text, nullable=False, comment="for the list filter"),
    Column("node_types", Text, nullable=False, comment="space-separated, with leading and trailing space"),
    Column("connector_types", Text, nullable=False, comment="space-separated, with leading and trailing space"),
    Column("node_count", Integer, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("published_at", BigInteger),
    Column("published_by", Text),
    Column("author_wallets", Text, comment="what its author could spend from: null: nothing; *: all; else JSON list"),
)

version_acceptances = Table(
    "version_acceptances",
    metadata,
    Column("workflow_id", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", Text, primary_key=True, comment="of the version's closure as it was accepted"),
    Column("key_id", Text, primary_key=True),
    Column("members", Text, nullable=False, comment="JSON: [workflow, version] of everything in that closure"),
    Column("accepted_at", BigInteger, nullable=False),
    Column("seen", Text, comment="JSON: by source and key, the number of writes that it had seen"),
    ForeignKeyConstraint(["workflow_id", "version"], ["workflow_versions.workflow_id", "workflow_versions.version"]),
)

workflow_templates = Table(
    "workflow_templates",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("source_workflow_id", Text, nullable=False, comment="what it was made from"),
    Column("current", Integer, nullable=False, comment="the version that is used"),
    Column("created_by", Text, nullable=False, comment="id of the key"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_workflow_templates_org_id_id", "org_id", "id"),
    comment="an organisation's own; those that come with the server are files",
)

template_versions = Table(
    "template_versions",
    metadata,
    Column("template_id", Text, ForeignKey("workflow_templates.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("tags", Text, nullable=False, comment="as of workflows"),
    Column("definition", Text, nullable=False, comment="JSON, without secrets, connectors, wallets and pinned results"),
    Column("trigger_type", Text, nullable=False),
    Column("node_types", Text, nullable=False, comment="as of versions of workflows"),
    Column("node_count", Integer, nullable=False),
    Column("version_by", Text, nullable=False, comment="id of the key"),
    Column("version_at", BigInteger, nullable=False),
)

template_uses = Table(
    "template_uses",
    metadata,
    Column("workflow_id", Text, ForeignKey("workflows.id"), primary_key=True),
    Column("template_id", Text, ForeignKey("workflow_templates.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("used_at", BigInteger, nullable=False),
    Index("ix_template_uses_template_id", "template_id"),
    comment="workflows that were made from an own template",
)

hands = Table(
    "hands",
    metadata,
    Column("org_id", Text, ForeignKey("organizations.id"), primary_key=True),
    Column("kind", Text, primary_key=True, comment="connector, table, variable, webhook, setting, name"),
    Column("object", Text, primary_key=True),
    Column("key_id", Text, primary_key=True, comment="empty: nobody known"),
    Column("wallets", Text, comment="what the key could spend from, as in versions"),
    Column("writes", BigInteger, nullable=False, comment="those that were not good for every wallet"),
    Column("changed_at", BigInteger, nullable=False),
)

STARTED_BY_HAND = "trigger_source IN ('api', 'retry', 'launch', 'action-test')"
"""Whether whoever started a run asked for it, and no trigger or other run of theirs."""

runs = Table(
    "runs",
    metadata,
    Column("pk", ROW_ID, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False),
    Column("org_id", Text, nullable=False),
    Column("workflow_id", Text, comment="null for an inline run"),
    Column("workflow_name", Text, nullable=False),
    Column("version", Integer),
    Column("definition", Text, comment="of an inline run; otherwise in workflow_versions"),
    Column("mode", Text, nullable=False, comment="live, simulate, dust"),
    Column("status", Text, nullable=False),
    Column("trigger_node_id", Text, nullable=False),
    Column("trigger_source", Text, nullable=False),
    Column("triggered_by", Text, nullable=False, comment="id of the key"),
    Column("payload", Text, nullable=False, comment="JSON"),
    Column("prop_values", Text, nullable=False, comment="JSON"),
    Column("chat_message_id", Text),
    Column("source_run_id", Text, comment="the run that this one retries"),
    Column("root_run_id", Text, nullable=False, comment="first run of the retry chain"),
    Column("concurrency_key", Text),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("last_seq", Integer, nullable=False, server_default="0"),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("wake_at", BigInteger),
    Column("cancel_requested_at", BigInteger),
    Column(
        "passed",
        Integer,
        comment="1 if nothing failed and nothing that matters was assumed; counts as a rehearsal of the version",
    ),
    Column("nodes_executed", Integer, nullable=False, server_default="0"),
    Column("parent_pk", BigInteger, comment="the run that called this one"),
    Column("parent_run_id", Text),
    Column("parent_path", Text, comment="path of the call-workflow node"),
    Column("callers", Text, comment="of a called run, JSON: {topPk, workflowIds, waits}"),
    Column("error", Text, comment="JSON: the failure that ended the run"),
    Column("summary", Text, comment="the message of the `stop` node that ended it"),
    Column("closure", Text, comment="digest of its closure, if that can spend"),
    Column("trace", Text, comment="JSON: {parent, link}, W3C traceparents of the caller and of the retried run"),
    Column("as_of", Text, comment="of a back-test, JSON: {at, blocks}, the past moment that it simulates"),
    Column("rehearsal_run_id", Text, comment="of a launch: the simulation that it repeats"),
    Column("claimed_by", Text, comment="in a shared store: the process that advances it"),
    UniqueConstraint("org_id", "id"),
    Index("ix_runs_org_id_pk", "org_id", "pk"),
    Index("ix_runs_workflow_id_pk", "workflow_id", "pk"),
    partial_index(
        "ix_runs_passed",
        "workflow_id",
        "version",
        "mode",
        where="passed = 1",
    ),
    partial_index(
        "ix_runs_retries",
        "org_id",
        "root_run_id",
        where="source_run_id IS NOT NULL",
    ),
    partial_index(
        "ix_runs_rehearsal",
        "org_id",
        "rehearsal_run_id",
        where="rehearsal_run_id IS NOT NULL",
    ),
    partial_index(
        "ix_runs_parent_pk",
        "parent_pk",
        where="parent_pk IS NOT NULL",
    ),
    *(
        # one entry per run, written at its end: lists and counts by status and mode read only this index
        partial_index(
            f"ix_runs_ended_{owner}",
            owner,
            "status",
            "mode",
            "pk",
            "finished_at",  # included so that the index alone answers the query
            where="finished_at IS NOT NULL",
        )
        for owner in ("org_id", "workflow_id")
    ),
    partial_index(
        "ix_runs_ended_version",
        "workflow_id",
        "version",
        "status",
        "mode",
        "pk",
        "passed",  # included, to find the newest passed run without reading others
        where="finished_at IS NOT NULL",
    ),
    # of those that somebody started, not a trigger of theirs; what is after the row id lets each answer by itself
    partial_index(
        "ix_runs_started_by", "org_id", "triggered_by", "pk", "workflow_id", "trigger_source", where=STARTED_BY_HAND
    ),
    partial_index(
        "ix_runs_ended_started_by",
        "org_id",
        "triggered_by",
        "status",
        "mode",
        "pk",
        "workflow_id",
        "finished_at",
        "trigger_source",
        where=f"finished_at IS NOT NULL AND {STARTED_BY_HAND}",
    ),
    partial_index(
        "ix_runs_open",
        "status",
        where="status IN ('running', 'waiting')",
    ),
    # for claims; only PostgreSQL's stores are shared
    partial_index(
        "ix_runs_claims",
        "claimed_by",
        "org_id",
        "pk",
        where="status IN ('running', 'waiting')",
    ).ddl_if(dialect="postgresql"),
    partial_index(
        "ix_runs_limited",
        "workflow_id",
        "concurrency_key",
        "pk",
        where="concurrency_key IS NOT NULL AND status IN ('running', 'waiting')",
    ),
    info={"fillfactor": 50},  # room for a row's next versions, so that they need no entries in indexes
)

org_of_found = runs.c.org_id.concat("")
"""The organisation of runs that another column finds: a planner that knows nothing of the rows may prefer an index of
the organisation's, and pass over all of its runs (seen in SQLite)."""

run_is_open = case((runs.c.status == "running", true()), (runs.c.status == "waiting", true()), else_=false())
"""Whether a run that its key finds is open. A plain condition may lead PostgreSQL to read all open runs by their index
instead, if it takes them for few; that index has every run that has ended since the last VACUUM, too."""

run_words = Table(
    "run_words",
    metadata,
    Column("run_pk", ROW_ID, primary_key=True, autoincrement=False),
    Column("words", Text, nullable=False, comment="what a search finds it by"),
)
"""Of runs that ended with an error or a message."""
RUN_WORDS = "to_tsvector('simple', translate(words, './:@_-', '      '))"
"""PostgreSQL's words of a row; without marks, else a host would be one word."""
_INDEX_WORDS = {
    "sqlite": (
        "CREATE VIRTUAL TABLE run_search USING fts5(words, content='run_words', content_rowid='run_pk')",
        "CREATE TRIGGER run_search_insert AFTER INSERT ON run_words BEGIN"
        " INSERT INTO run_search (rowid, words) VALUES (new.run_pk, new.words); END",
        "CREATE TRIGGER run_search_delete AFTER DELETE ON run_words BEGIN"
        " INSERT INTO run_search (run_search, rowid, words) VALUES ('delete', old.run_pk, old.words); END",
    ),
    "postgresql": (f"CREATE INDEX ix_run_words_words ON run_words USING gin ({RUN_WORDS})",),
}


SEARCHES = ("catalog_search", "run_search")
"""SQLite's indexes of words begin like this, with their own tables: they hold nothing of the store's, and triggers
keep them."""


@event.listens_for(run_words, "after_create")
def _index_words(_target: object, connection: Connection, **_: Any) -> None:
    for statement in _INDEX_WORDS[connection.dialect.name]:
        connection.exec_driver_sql(statement)


COUNTED_TOGETHER = 50_000
"""Runs with the same row id divided by this share a counter."""

run_counts = Table(
    "run_counts",
    metadata,
    Column("org_id", Text, primary_key=True),
    Column("workflow_id", Text, primary_key=True, comment="empty for inline runs"),
    Column(
        "status",
        Text,
        primary_key=True,
        comment="final statuses only; open runs are counted from their index",
    ),
    Column("mode", Text, primary_key=True),
    Column("bucket", BigInteger, primary_key=True, comment="the run's pk / 50,000, for counts since an instant"),
    Column("total", BigInteger, nullable=False),
)

run_sizes = Table(
    "run_sizes",
    metadata,
    Column("run_pk", ROW_ID, primary_key=True, autoincrement=False),
    Column("bytes", BigInteger, nullable=False, comment="of its texts in runs, executions and events"),
    comment="as measured after a run's newest start, wait or end",
)

run_values = Table(
    "run_values",
    metadata,
    Column("run_pk", ROW_ID, primary_key=True, autoincrement=False),
    Column("digest", Text, primary_key=True, comment="SHA-256 of the content, in hexadecimal"),
    Column("content", Text, nullable=False, comment="JSON, maybe with marks of further values"),
    Column("bytes", BigInteger, nullable=False, comment="size of the whole value as JSON"),
    comment="large values, in whose place payload, input, result and facts have U+0001 and the digest",
)

stored_bytes = Table(
    "stored_bytes",
    metadata,
    Column("org_id", Text, ForeignKey("organizations.id"), primary_key=True),
    Column("bytes", BigInteger, nullable=False, comment="the sum of run_sizes of its runs"),
)

model_tokens = Table(
    "model_tokens",
    metadata,
    Column("org_id", Text, ForeignKey("organizations.id"), primary_key=True),
    Column("hour", BigInteger, primary_key=True, autoincrement=False, comment="since the Unix epoch"),
    Column("tokens", BigInteger, nullable=False, comment="that models of nodes used in it, read and written"),
)

executions = Table(
    "executions",
    metadata,
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), primary_key=True),
    Column("path", Text, primary_key=True, comment="like each_user[3].pay"),
    Column("attempt", Integer, primary_key=True),
    Column("node_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("branch", Text, comment="branch taken by the result"),
    Column("input", Text, comment="JSON: the resolved payload"),
    Column("result", Text, comment="JSON"),
    Column("error", Text, comment="JSON: {code, message, retryable}"),
    Column("facts", Text, comment="JSON: read only by the engine, e.g. a loop's items"),
    Column("assumed", Integer, nullable=False, server_default="0"),
    Column("wake_at", BigInteger),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    sqlite_with_rowid=False,
    info={"fillfactor": 60},  # see `runs`
)

events = Table(
    "events",
    metadata,
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("type", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("data", Text, nullable=False, comment="JSON object without type, seq, runId and at"),
    sqlite_with_rowid=False,
)

activity = Table(
    "activity",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("org_id", Text, nullable=False),
    Column("workflow_id", Text),
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), nullable=False),
    Column("seq", Integer, nullable=False, comment="the run's event: a start, a wait or an end"),
    Index("ix_activity_org_id_id", "org_id", "id"),
    Index("ix_activity_run_pk", "run_pk"),
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("title", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_conversations_org_id_updated_at", "org_id", "updated_at"),
)

messages = Table(
    "messages",
    metadata,
    Column("id", Text, primary_key=True),
    Column("conversation_id", Text, ForeignKey("conversations.id"), nullable=False),
    Column("org_id", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_messages_conversation_id_id", "conversation_id", "id"),
)

message_runs = Table(
    "message_runs",
    metadata,
    Column("message_id", Text, ForeignKey("messages.id"), primary_key=True),
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), primary_key=True),
    Index("ix_message_runs_run_pk", "run_pk"),
)

turns = Table(
    "turns",
    metadata,
    Column("message_id", Text, ForeignKey("messages.id"), primary_key=True, comment="the assistant's message"),
    Column("question_id", Text, ForeignKey("messages.id"), nullable=False, comment="the person's message"),
    Column("conversation_id", Text, ForeignKey("conversations.id"), nullable=False),
    Column("org_id", Text, nullable=False),
    Column("key_id", Text, nullable=False, comment="whose assistant it is"),
    Column("status", Text, nullable=False, comment="streaming, complete, failed"),
    Column("failure", Text, comment="BUDGET, MODEL, INTERRUPTED, TOOL_LOOP"),
    Column("usage", Text, nullable=False, comment="JSON: {requests, calls, inputTokens, outputTokens, costUsd}"),
    Column("cost", Text, nullable=False, comment="US dollars, with what the request under way may cost"),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("connector_id", Text, comment="whose model is asked"),
    Column("model", Text),
    Column("workflow_id", Text, comment="what the person looks at"),
    Index("ix_turns_key_id_created_at", "key_id", "created_at"),
    partial_index("ix_turns_open", "conversation_id", unique=True, where="finished_at IS NULL"),
)

message_parts = Table(
    "message_parts",
    metadata,
    Column("message_id", Text, ForeignKey("messages.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", Text, nullable=False, comment="text, tool_call, tool_result, run"),
    Column("body", Text, nullable=False, comment="JSON"),
    sqlite_with_rowid=False,
)

turn_events = Table(
    "turn_events",
    metadata,
    Column("conversation_id", Text, ForeignKey("conversations.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("message_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("data", Text, nullable=False, comment="JSON object without type, seq, messageId and at"),
    sqlite_with_rowid=False,
)

stream_tokens = Table(
    "stream_tokens",
    metadata,
    Column("hash", Text, primary_key=True, comment="hex SHA-256 of the token"),
    Column("key_id", Text, ForeignKey("api_keys.id"), nullable=False),
    Column("org_id", Text, nullable=False),
    Column("stream", Text, nullable=False, comment="path of the stream that it opens"),
    Column("created_at", BigInteger, nullable=False),
    Column("first_used_at", BigInteger),
)

web_sessions = Table(
    "web_sessions",
    metadata,
    Column("hash", Text, primary_key=True, comment="hex SHA-256 of the id in the cookie"),
    Column("csrf_hash", Text, nullable=False, comment="hex SHA-256 of the token that writes must send"),
    Column("key_id", Text, ForeignKey("api_keys.id"), nullable=False),
    Column("org_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("by_passkey", Integer, comment="1: a passkey began it"),
)

passkeys = Table(
    "passkeys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("person_id", Text, ForeignKey("people.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("credential_id", Text, nullable=False, unique=True, comment="as the authenticator named it, in base64url"),
    Column("public_key", Text, nullable=False, comment="COSE, in base64url"),
    Column("sign_count", BigInteger, nullable=False, comment="0: the authenticator does not count"),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Index("ix_passkeys_person_id", "person_id"),
)

sign_in_links = Table(
    "sign_in_links",
    metadata,
    Column("hash", Text, primary_key=True, comment="hex SHA-256 of the token in the link"),
    Column("key_id", Text, ForeignKey("api_keys.id"), nullable=False),
    Column("org_id", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

identities = Table(
    "identities",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("person_id", Text, ForeignKey("people.id"), nullable=False),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False, comment="who it is at the issuer"),
    Column("sealed", Text, comment="refresh token; null: nothing to ask the issuer with"),
    Column("checked_at", BigInteger, nullable=False, comment="when the issuer last let them in"),
    Column("ended_at", BigInteger, comment="when the issuer, or their groups, no longer did"),
    UniqueConstraint("org_id", "issuer", "subject"),
    Index("ix_identities_person_id", "person_id"),
)

directory_users = Table(
    "directory_users",
    metadata,
    Column("person_id", Text, ForeignKey("people.id"), primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("user_name", Text, nullable=False),
    Column("user_key", Text, nullable=False, comment="user_name in lower case"),
    Column("external_id", Text, comment="who it is in the directory"),
    Column("names", Text, nullable=False, comment="JSON: displayName and the parts of name"),
    Column("by_groups", Integer, nullable=False, comment="1: groups of the directory decide what they may do"),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    UniqueConstraint("org_id", "user_key"),
    Index("ix_directory_users_org_id_external_id", "org_id", "external_id"),
)

directory_groups = Table(
    "directory_groups",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("external_id", Text, comment="what it is in the directory"),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    UniqueConstraint("org_id", "name"),
)

directory_members = Table(
    "directory_members",
    metadata,
    Column("group_id", Text, ForeignKey("directory_groups.id"), primary_key=True),
    Column("person_id", Text, ForeignKey("directory_users.person_id"), primary_key=True),
    Index("ix_directory_members_person_id", "person_id"),
)

sign_in_attempts = Table(
    "sign_in_attempts",
    metadata,
    Column("hash", Text, primary_key=True, comment="hex SHA-256 of the state that the provider sends back"),
    Column("browser_hash", Text, nullable=False, comment="hex SHA-256 of the secret in the browser's cookie"),
    Column("begun_at", BigInteger, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("org_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_hash", Text, nullable=False, comment="SHA-256 of method, path and body"),
    Column("status", Integer, nullable=False),
    Column("response", Text, comment="body of the first response; null if it contained a secret"),
    Column("resource_id", Text),
    Column("created_at", BigInteger, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("org_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("action", Text, nullable=False, comment="noun and verb, like workflow.publish"),
    Column("subject", Text, nullable=False, comment="id of the changed object"),
    Column("detail", Text, nullable=False, comment="JSON"),
    Column("hash", Text, nullable=False, server_default="", comment="SHA-256 of the previous row's hash and this row"),
    Index("ix_audit_org_id_id", "org_id", "id"),
    Index("ix_audit_org_id_key_id_id", "org_id", "key_id", "id"),
    Index("ix_audit_org_id_action_id", "org_id", "action", "id"),
    Index("ix_audit_org_id_subject_id", "org_id", "subject", "id"),
    Index("ix_audit_org_id_at_id", "org_id", "at", "id"),
)

audit_keys = Table(
    "audit_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False, comment="under whose data key it is sealed"),
    Column("public_key", Text, nullable=False, comment="Ed25519, Base64"),
    Column("sealed", Text, nullable=False, comment="private key"),
    Column("created_at", BigInteger, nullable=False),
)

run_signals = Table(
    "run_signals",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), nullable=False),
    Column("kind", Text, nullable=False, comment="resolve or resume"),
    Column("path", Text, nullable=False, comment="path of the execution that it is for"),
    Column("data", Text, nullable=False, comment="JSON"),
    Column("at", BigInteger, nullable=False),
    Index("ix_run_signals_run_pk_id", "run_pk", "id"),
)

variables = Table(
    "variables",
    metadata,
    Column("workflow_id", Text, ForeignKey("workflows.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("definition", Text, comment="JSON: declared for the workflow; null if only a definition declares it"),
    Column("value", Text, comment="JSON; null if nothing was written yet"),
    Column("version", Integer, nullable=False, server_default="0", comment="number of writes"),
    Column("updated_at", BigInteger, nullable=False),
    Column("last_run_id", Text),
)

simulation_forks = Table(
    "simulation_forks",
    metadata,
    Column("top_pk", BigInteger, ForeignKey("runs.pk"), primary_key=True, comment="the root run of all calls"),
    Column("chain_id", BigInteger, primary_key=True),
    Column("steps", Integer, nullable=False, comment="number of simulated transactions; never decreases"),
    Column("state", Text, nullable=False, comment="JSON: the fork block and what was simulated on it"),
)

run_variables = Table(
    "run_variables",
    metadata,
    Column("owner_pk", BigInteger, ForeignKey("runs.pk"), primary_key=True, comment="the run that sees the value"),
    Column("scope", Text, primary_key=True, comment="run: lives as long as the run; workflow: a simulation's overlay"),
    Column("workflow_id", Text, primary_key=True, comment="empty for an inline run"),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False, comment="JSON"),
    Column("assumed", Integer, nullable=False, server_default="0"),
)

variable_writes = Table(
    "variable_writes",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("workflow_id", Text, nullable=False, comment="empty for an inline run"),
    Column("name", Text, nullable=False),
    Column("op", Text, nullable=False, comment="set, increment, manual_set, manual_reset"),
    Column("scope", Text, nullable=False, comment="workflow or run"),
    Column("old_value", Text, comment="JSON; null if there was none"),
    Column("new_value", Text, comment="JSON; null if it was deleted"),
    Column("run_pk", BigInteger, ForeignKey("runs.pk")),
    Column("run_id", Text),
    Column("path", Text, comment="path of the node that wrote"),
    Column("key_id", Text, comment="key that wrote by hand"),
    Column("simulated", Integer, nullable=False, server_default="0"),
    Column("written_at", BigInteger, nullable=False),
    Column("write_key", Text, unique=True, comment="one write per node path and retry chain, even across crashes"),
    Index("ix_variable_writes_workflow_id_name_id", "workflow_id", "name", "id"),
    Index("ix_variable_writes_run_pk_id", "run_pk", "id"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, nullable=False),
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), nullable=False),
    Column("run_id", Text, nullable=False),
    Column("workflow_id", Text),
    Column("workflow_name", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("approvers", Text, nullable=False, comment="JSON list of key ids; empty: any key with the permission"),
    Column("mode", Text, nullable=False),
    Column("status", Text, nullable=False, comment="pending, approved, rejected, timed_out, cancelled"),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("decided_at", BigInteger),
    Column("decided_by", Text, comment='id of the key, or "link'),
    Column("comment", Text),
    Column("binding", Text, comment="of a spend: SHA-256 of chain, from, to, value, calldata and fee ceiling"),
    Column("barred_key", Text, comment="id of the key that started the run, where it may not decide"),
    Column(
        "launch",
        Text,
        comment="of a launch, JSON: {version, runId, closure, proposedBy, chatMessageId}; run_pk is its rehearsal",
    ),
    Column("quorum", Integer, comment="how many hands must approve it; null: one"),
    Column("votes", Text, comment="JSON list of approvals so far, of a quorum: {by, at, comment}"),
    Column(
        "parts",
        Text,
        comment="of a spend of several transactions, JSON: what is approved of each; binding is over them",
    ),
    Index("ix_approvals_org_id_status_created_at", "org_id", "status", "created_at"),
    Index("ix_approvals_org_id_created_at", "org_id", "created_at"),
    Index("ix_approvals_org_id_decided_at", "org_id", "decided_at"),
    Index("ix_approvals_run_pk", "run_pk"),
)

key_requests = Table(
    "key_requests",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("org_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("method", Text, nullable=False),
    Column("route", Text, nullable=False, comment="route template, like /v1/runs/{id}; empty if none matched"),
    Column("status", Integer, nullable=False),
    Column("request_id", Text, nullable=False),
)

store_facts = Table(
    "store_facts",
    metadata,
    Column("name", Text, primary_key=True, comment="like restored_at"),
    Column("value", Text, nullable=False),
)

data_keys = Table(
    "data_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("master_id", Text, nullable=False, comment="id of the master key that wraps it"),
    Column("wrapped", Text, nullable=False, comment="base64 of nonce, ciphertext and tag"),
    Column("created_at", BigInteger, nullable=False),
    Column("retired_at", BigInteger, comment="when it was replaced; null for the current key"),
    Index("ix_data_keys_org_id", "org_id"),
    comment="data keys that encrypt an organisation's secrets, wrapped by the master key",
)

connectors = Table(
    "connectors",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("type", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("version", Integer, nullable=False, comment="increases with every change of its content"),
    Column("moves_money", Integer, nullable=False),
    Column("allowed_hosts", Text, nullable=False, comment="JSON list"),
    Column("masked", Text, nullable=False, comment="JSON of the data with secrets masked"),
    Column("sealed", Text, nullable=False, comment="the data"),
    Column("sealed_token", Text, comment="the current access token"),
    Column("token_expires_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("tools", Text, comment="JSON of the tools of an MCP server, as somebody has looked at them"),
    Column("failing_since", BigInteger, comment="when its calls began to fail; null: they do not"),
    Column("failure", Text, comment="JSON {what, message}: how they fail"),
    Column("connected_at", BigInteger, comment="of the consent"),
    Column("sealed_refresh", Text, comment="the refresh token"),
    Column("renewing_since", BigInteger, comment="when the refresh token was sent, until what came of it is stored"),
    Column("rotates", Integer, comment="whether the provider answers with a new refresh token; null: not known"),
    Index("ix_connectors_org_id_id", "org_id", "id"),
)

consent_attempts = Table(
    "consent_attempts",
    metadata,
    Column("id", Text, primary_key=True, comment="hex SHA-256 of the state that the provider sends back"),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("connector_id", Text, nullable=False),
    Column("connector_version", Integer, nullable=False),
    Column("key_id", Text, nullable=False, comment="who began it"),
    Column("browser_hash", Text, comment="of the secret in the browser's cookie"),
    Column("sealed", Text, nullable=False, comment="the PKCE verifier"),
    Column("begun_at", BigInteger, nullable=False),
)

managed_tables = Table(
    "managed_tables",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("definition", Text, nullable=False, comment="JSON: {primaryKey, columns}"),
    Column("row_count", BigInteger, nullable=False, server_default="0"),
    Column("byte_count", BigInteger, nullable=False, server_default="0", comment="bytes of JSON of all rows"),
    Column("created_by", Text, nullable=False, comment="id of the key"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("change_count", BigInteger, nullable=False, server_default="0", comment="changes of rows ever recorded"),
    Index("ix_managed_tables_org_id_name", "org_id", "name", unique=True),
)

table_changes = Table(
    "table_changes",
    metadata,
    Column("table_id", Text, ForeignKey("managed_tables.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False, comment="in commit order, from 1 on"),
    Column("row_before", Text, comment="JSON; null: the row was added"),
    Column("row_after", Text, comment="JSON; null: the row was removed"),
    Column("run_id", Text, comment="the run that made it; null: a person or program, by the API"),
    Column("mode", Text, nullable=False, comment="live, dust: of that run"),
    Column("depth", Integer, nullable=False, comment="how many runs that triggers started led to it"),
    Column("changed_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    comment="of live rows of tables that a trigger watches, until it has seen them",
)

table_rows = Table(
    "table_rows",
    metadata,
    Column("table_id", Text, ForeignKey("managed_tables.id"), primary_key=True),
    Column("layer", BigInteger, primary_key=True, comment="0: live; else the pk of the simulation that sees it"),
    Column("key", LargeBinary, primary_key=True, comment="the primary key, encoded so that it sorts like the value"),
    Column("data", Text, comment="JSON object; null if a simulation deleted the row"),
    Column("assumed", Integer, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column(
        "sources",
        Text,
        comment="JSON: the sources by column of what a run wrote; empty column: whether there is such a row",
    ),
    partial_index("ix_table_rows_layer", "layer", where="layer > 0"),
    sqlite_with_rowid=False,
)

table_cells = Table(
    "table_cells",
    metadata,
    Column("table_id", Text, primary_key=True),
    Column("layer", BigInteger, primary_key=True),
    Column("name", Text, primary_key=True, comment="column name"),
    Column("value", LargeBinary, primary_key=True, comment="encoded so that it sorts like the value; empty for null"),
    Column("key", LargeBinary, primary_key=True),
    partial_index("ix_table_cells_layer", "layer", where="layer > 0"),
    sqlite_with_rowid=False,
    comment="one row per comparable value, used by filters and sorting",
)

store_sources = Table(
    "store_sources",
    metadata,
    Column("object", Text, primary_key=True, comment="id of a table, or workflow/name of a variable"),
    Column(
        "layer",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="0: live; else the pk of the simulation that sees it",
    ),
    Column("part", Text, primary_key=True, comment="a column; empty: which rows there are, or a variable"),
    Column("source", Text, primary_key=True, comment="as core/sources writes it"),
    Column("is_change", Integer, primary_key=True, comment="it changed or took away what was there"),
    Column(
        "until_run", BigInteger, comment="of a variable: pk of the newest run when it was overwritten; null: not yet"
    ),
    sqlite_with_rowid=False,
    comment="what shaped a store since its beginning",
)

table_writes = Table(
    "table_writes",
    metadata,
    Column("write_key", Text, primary_key=True, comment="one write per node path and retry chain, even across crashes"),
    Column("table_id", Text, nullable=False),
    Column("run_pk", BigInteger, nullable=False),
    Column("result", Text, nullable=False, comment="JSON"),
    Column("written_at", BigInteger, nullable=False),
    Index("ix_table_writes_run_pk", "run_pk"),
    Index("ix_table_writes_table_id", "table_id"),
)

hooks = Table(
    "hooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("url", Text, nullable=False),
    Column("event_types", Text, nullable=False, comment="JSON list of types and patterns like run.*"),
    Column("workflow_ids", Text, comment="JSON list; null: all workflows and inline runs"),
    Column("modes", Text, nullable=False, comment="JSON list: the modes of runs that it is told of"),
    Column("max_retries", Integer, nullable=False),
    Column("sealed", Text, nullable=False, comment="JSON: the signing secret, and the previous one during a rotation"),
    Column("status", Text, nullable=False, comment="active, disabled"),
    Column("disabled_at", BigInteger),
    Column("disabled_reason", Text),
    Column("failures", Integer, nullable=False, server_default="0", comment="failed attempts in a row"),
    Column("failing_since", BigInteger, comment="the first of them"),
    Column("resume_at", BigInteger, comment="nothing is sent before, while the receiver fails"),
    Column("activity_id", BigInteger, nullable=False, comment="deliveries were made of the activity up to here"),
    Column("notice_id", BigInteger, nullable=False, comment="deliveries were made of the notices up to here"),
    Column("moves", BigInteger, nullable=False, server_default="0", comment="rises with each move of the two cursors"),
    Column("created_by", Text, nullable=False, comment="id of the key"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_hooks_org_id_id", "org_id", "id"),
    comment="where events of an organisation's runs are sent",
)

hook_runs = Table(
    "hook_runs",
    metadata,
    Column("hook_id", Text, ForeignKey("hooks.id"), primary_key=True),
    Column("run_pk", BigInteger, ForeignKey("runs.pk"), primary_key=True),
    Column("seq", Integer, nullable=False, comment="deliveries were made of the run's events up to here"),
    Index("ix_hook_runs_run_pk", "run_pk"),
    comment="open runs that a hook follows",
    sqlite_with_rowid=False,
)

hook_notices = Table(
    "hook_notices",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("org_id", Text, nullable=False),
    Column("type", Text, nullable=False, comment="like workflow.paused"),
    Column("workflow_id", Text),
    Column("run_id", Text),
    Column("mode", Text, comment="of the run; null: of no run"),
    Column("at", BigInteger, nullable=False),
    Column("data", Text, nullable=False, comment="JSON object"),
    Index("ix_hook_notices_org_id_id", "org_id", "id"),
    comment="events for hooks that are not in a run's stream",
)

facts = Table(
    "facts",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True, comment="in commit order: the cursor of those who read"),
    Column("org_id", Text, nullable=False),
    Column("kind", Text, nullable=False, comment="transaction, approval, connector"),
    Column("subject_id", Text, nullable=False, comment="of what it tells: the id of the transaction, for example"),
    Column("what", Text, nullable=False, comment="like reverted, asked, refused"),
    Column("place", Text, nullable=False, comment="what tells it from another of the same name: the block's hash"),
    Column("at", BigInteger, nullable=False),
    Column("run_pk", BigInteger, comment="the run in which it happened, if the subject has none"),
    Column("data", Text, comment="JSON object: what the subject does not say"),
    Index("ix_facts_org_id_kind_id", "org_id", "kind", "id"),
    comment="what triggers for the server's own events are told; written with what it tells",
)

hook_deliveries = Table(
    "hook_deliveries",
    metadata,
    Column("pk", ROW_ID, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True, comment="also the webhook-id, of every attempt"),
    Column("org_id", Text, nullable=False),
    Column("hook_id", Text, nullable=False),
    Column(
        "queue", Text, nullable=False, comment="deliveries of one queue are sent in order: the run's id, or its own"
    ),
    Column("event_id", Text, nullable=False, comment="run id and number of the event, or notice"),
    Column("event_type", Text, nullable=False),
    Column("run_id", Text),
    Column("workflow_id", Text),
    Column("body", Text, nullable=False, comment="JSON, as sent"),
    Column("status", Text, nullable=False, comment="pending, retrying, success, failure"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_at", BigInteger, comment="of the first open delivery of a queue: when it is due"),
    Column("attempt_log", Text, nullable=False, comment="JSON list of the newest attempts"),
    Column("response", Text, comment="JSON: status, headers and first bytes of the newest answer"),
    Column("replay_of", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Index("ix_hook_deliveries_org_id_pk", "org_id", "pk"),
    Index("ix_hook_deliveries_hook_id_pk", "hook_id", "pk"),
    Index("ix_hook_deliveries_created_at", "created_at"),
    partial_index("ix_hook_deliveries_due", "hook_id", "next_at", where="next_at IS NOT NULL"),
    partial_index("ix_hook_deliveries_open", "hook_id", "queue", "pk", where="finished_at IS NULL"),
)
