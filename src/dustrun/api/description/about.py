"""The head of the OpenAPI document: what it is about, where the server is, and the groups of operations."""

from __future__ import annotations

from typing import Any

INFO: dict[str, Any] = {
    "description": (
        "Workflows that move money and call APIs, on your own machine.\n\n"
        "Every answer is an envelope. An error's `code` is the HTTP status followed by three digits.\n\n"
        "With the header `Dustrun-Omit-Null: true` an answer leaves out its own fields that are null; values that "
        "people or programs wrote, such as a payload or a result, are kept as they are.\n\n"
        "Integers beyond 2^53 are sent as text, since most readers of JSON would round them. With the header "
        "`Dustrun-Exact-Numbers: true` they are numbers, so that what was read can be written back as it was."
    ),
    "contact": {"name": "The operator of this server"},
    "license_info": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
SERVERS = [{"url": "/", "description": "The server that sent this document."}]
_TAGS = {
    "Workflows": "Create, validate, publish, pause and export workflows.",
    "Versions": "Read, compare, accept and restore the versions of a workflow.",
    "Runs": "Start runs, read them and their reports, retry, resume and cancel them.",
    "Triggers": "Read what triggers saw, replay it, test it on the past, and make watching triggers live.",
    "Webhooks": "Addresses at which requests from outside start runs.",
    "Forms": "Links to forms that start runs without a key.",
    "Streams": "Follow runs as Server-Sent Events.",
    "Search": "Find workflows, runs, node types and operations of this API.",
    "Hooks": "Tell other systems what happens in runs, and see what arrived.",
    "Approvals": "Answer the questions that runs wait for.",
    "Variables": "Values that the runs of a workflow share.",
    "Tables": "Rows that workflows and callers share.",
    "Connectors": "Credentials of outside systems.",
    "Wallets": "Create wallets, limit what they may spend, and read what they spent.",
    "Transactions": "Read sent transactions and signatures, and settle those whose outcome is unknown.",
    "Chains": "The chains that this server knows.",
    "Catalogue": "The node types, triggers and connector types that this server has.",
    "Conversations": "Threads of messages about workflows.",
    "Sessions": "Sign a browser in and out, and see who the caller is.",
    "API keys": "Create, limit and revoke API keys, and read what they did.",
    "People": "Invite people, sign them out, deactivate them, and see what depends on them.",
    "Organizations": "The organisations of this server.",
    "Health": "Whether the server works, and its metrics.",
    "Schemas": "JSON Schemas of the documents that users write.",
}
TAGS = [{"name": name, "description": description} for name, description in _TAGS.items()]
