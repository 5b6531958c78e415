"""The API for actions, triggers and connectors. They may import only this and the pure core."""

from dustrun.core.workflow.specs import Origin
from dustrun.sdk.action import Action, Effect, ToolShape, action
from dustrun.sdk.context import Connection, Context, HttpRequest, HttpResponse, Script, ScriptResult
from dustrun.sdk.fields import Fields
from dustrun.sdk.notice import Notice, NoticeFormat, NoticeKind
from dustrun.sdk.tables import TableChange, TableQuery, TableRows, TableWritten
from dustrun.sdk.trigger import (
    Credential,
    Finding,
    Polled,
    PolledConfig,
    PolledEvent,
    Trigger,
    TriggerConfig,
    TriggerContext,
    manual,
)

__all__ = [
    "Action",
    "Connection",
    "Context",
    "Credential",
    "Effect",
    "Fields",
    "Finding",
    "HttpRequest",
    "HttpResponse",
    "Notice",
    "NoticeFormat",
    "NoticeKind",
    "Origin",
    "Polled",
    "PolledConfig",
    "PolledEvent",
    "Script",
    "ScriptResult",
    "TableChange",
    "TableQuery",
    "TableRows",
    "TableWritten",
    "ToolShape",
    "Trigger",
    "TriggerConfig",
    "TriggerContext",
    "action",
    "manual",
]
