"""Rows of the assistant's turns: their state, the parts of their messages, and the events of their streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import api_keys, messages
from dustrun.storage.db.tables import message_parts as p
from dustrun.storage.db.tables import turn_events as e
from dustrun.storage.db.tables import turns as t

STREAMING, WAITING = "streaming", "waiting"


@dataclass(frozen=True, slots=True)
class TurnRow:
    """One turn; times in milliseconds."""

    message_id: str
    question_id: str
    conversation_id: str
    org_id: str
    key_id: str
    status: str
    failure: str | None
    usage: dict[str, Any]
    cost: str
    created_at: int
    finished_at: int | None
    connector_id: str | None
    model: str | None
    workflow_id: str | None


@dataclass(frozen=True, slots=True)
class TurnEvent:
    """One event of a conversation's stream; `data` is a JSON object."""

    seq: int
    message_id: str
    type: str
    at: int
    data: str


_TURN = (
    t.c.message_id,
    t.c.question_id,
    t.c.conversation_id,
    t.c.org_id,
    t.c.key_id,
    t.c.status,
    t.c.failure,
    t.c.usage,
    t.c.cost,
    t.c.created_at,
    t.c.finished_at,
    t.c.connector_id,
    t.c.model,
    t.c.workflow_id,
)
_OF: sa.BindParameter[str] = b("of_message")
_INSERT = Statement(sa.insert(t))
_FIND = Statement(sa.select(*_TURN).where(t.c.message_id == _OF))
_OPEN = Statement(
    sa.select(t.c.message_id).where(t.c.conversation_id == b("conversation_id"), t.c.finished_at.is_(None))
)
_LIST_OPEN = Statement(sa.select(*_TURN).where(t.c.finished_at.is_(None)))
_QUESTIONS = Statement(
    sa.select(messages.c.content)
    .join(t, t.c.question_id == messages.c.id)
    .where(t.c.conversation_id == b("conversation_id"), t.c.key_id == b("key_id"))
    .order_by(messages.c.id.desc())
    .limit(50)
)
_COSTS = Statement(
    sa.select(t.c.cost).where(t.c.key_id == b("key_id"), t.c.created_at >= b("since"), t.c.message_id != b("but"))
)
_USED = Statement(  # by the index of turns of keys
    sa.select(t.c.usage).where(
        t.c.key_id.in_(sa.select(api_keys.c.id).where(api_keys.c.org_id == b("org_id"))), t.c.created_at >= b("since")
    )
)
_UPDATE = Statement(
    sa.update(t)
    .where(t.c.message_id == _OF, t.c.finished_at.is_(None))
    .values(
        status=b("new_status"),
        failure=b("new_failure"),
        usage=b("new_usage"),
        cost=b("new_cost"),
        finished_at=b("new_finished_at"),
    )
)
_GO_ON = Statement(sa.update(t).where(t.c.message_id == _OF, t.c.finished_at.is_(None)).values(status=b("new_status")))
_SET_CONTENT = Statement(sa.update(messages).where(messages.c.id == _OF).values(content=b("new_content")))
_INSERT_PART = Statement(sa.insert(p))
_LAST_PART = Statement(sa.select(sa.func.max(p.c.seq)).where(p.c.message_id == _OF))
_SET_PART = Statement(sa.update(p).where(p.c.message_id == _OF, p.c.seq == b("of_seq")).values(body=b("new_body")))
_PARTS = Statement(sa.select(p.c.seq, p.c.body).where(p.c.message_id == _OF).order_by(p.c.seq))
_INSERT_EVENT = Statement(sa.insert(e))
_LAST_EVENT = Statement(sa.select(sa.func.max(e.c.seq)).where(e.c.conversation_id == b("conversation_id")))
_EVENTS = Statement(
    sa.select(e.c.seq, e.c.message_id, e.c.type, e.c.at, e.c.data)
    .where(e.c.conversation_id == b("conversation_id"), e.c.seq > b("after"))
    .order_by(e.c.seq)
    .limit(b("limit", type_=sa.Integer))
)


def insert(tx: Tx, row: TurnRow) -> None:
    """Inserts a turn."""
    tx.do(
        _INSERT,
        message_id=row.message_id,
        question_id=row.question_id,
        conversation_id=row.conversation_id,
        org_id=row.org_id,
        key_id=row.key_id,
        status=row.status,
        failure=row.failure,
        usage=dumps_text(row.usage),
        cost=row.cost,
        created_at=row.created_at,
        finished_at=row.finished_at,
        connector_id=row.connector_id,
        model=row.model,
        workflow_id=row.workflow_id,
    )


def _row(found: Sequence[Any]) -> TurnRow:
    values: list[Any] = [*found]
    values[7] = loads_own(values[7])
    return TurnRow(*values)


def find(tx: Tx, message_id: str) -> TurnRow | None:
    """Finds the turn of a message."""
    found = tx.one(_FIND, of_message=message_id)
    return _row(found) if found else None


def find_open(tx: Tx, conversation_id: str) -> str | None:
    """The message of the conversation's turn that has not ended."""
    found = tx.one(_OPEN, conversation_id=conversation_id)
    return found[0] if found else None


def list_open(tx: Tx) -> list[TurnRow]:
    """All turns that have not ended."""
    return [_row(found) for found in tx.all(_LIST_OPEN)]


def list_questions(tx: Tx, conversation_id: str, key_id: str) -> list[str]:
    """The requests of a key's person in the conversation, newest first, at most 50 texts."""
    return [row[0] for row in tx.all(_QUESTIONS, conversation_id=conversation_id, key_id=key_id)]


def list_costs(tx: Tx, key_id: str, since: int, but: str = "") -> list[str]:
    """The costs of a key's turns since a time, but for one, each in US dollars."""
    return [row[0] for row in tx.all(_COSTS, key_id=key_id, since=since, but=but)]


def count_tokens(tx: Tx, org_id: str, since: int) -> int:
    """The tokens that an organisation's turns have used since a time, as far as their requests have ended."""
    used = (loads_own(row[0]) for row in tx.all(_USED, org_id=org_id, since=since))
    return sum(int(one.get("inputTokens", 0)) + int(one.get("outputTokens", 0)) for one in used)


def update(
    tx: Tx, message_id: str, *, status: str, failure: str | None, usage: dict[str, Any], cost: str, at: int | None
) -> None:
    """Sets the state of a turn; one that has ended stays as it is."""
    tx.do(
        _UPDATE,
        of_message=message_id,
        new_status=status,
        new_failure=failure,
        new_usage=dumps_text(usage),
        new_cost=cost,
        new_finished_at=at,
    )


def go_on(tx: Tx, message_id: str) -> None:
    """Ends the wait of a turn."""
    tx.do(_GO_ON, of_message=message_id, new_status=STREAMING)


def set_content(tx: Tx, message_id: str, content: str) -> None:
    """Sets the text of a message."""
    tx.do(_SET_CONTENT, of_message=message_id, new_content=content)


def add_part(tx: Tx, message_id: str, part: dict[str, Any]) -> int:
    """Appends a part to a message, and returns its number; its `type` is its kind."""
    last = tx.one(_LAST_PART, of_message=message_id)
    seq: int = (last[0] or 0) + 1 if last else 1
    tx.do(_INSERT_PART, message_id=message_id, seq=seq, kind=part["type"], body=dumps_text(part))
    return seq


def set_part(tx: Tx, message_id: str, seq: int, part: dict[str, Any]) -> None:
    """Sets what a part says; it stays of its kind."""
    tx.do(_SET_PART, of_message=message_id, of_seq=seq, new_body=dumps_text(part))


def list_parts(tx: Tx, message_id: str) -> list[dict[str, Any]]:
    """The parts of a message, in order."""
    return [loads_own(body) for _, body in tx.all(_PARTS, of_message=message_id)]


def find_question(tx: Tx, message_id: str) -> tuple[int, dict[str, Any]] | None:
    """The number and the body of the part that asks a person and has no decision yet."""
    for seq, body in tx.all(_PARTS, of_message=message_id):
        part = loads_own(body)
        if part["type"] == "approval" and part["decision"] is None:
            return seq, part
    return None


def add_event(tx: Tx, conversation_id: str, message_id: str, type_: str, at: int, data: dict[str, Any]) -> None:
    """Appends an event to a conversation's stream."""
    last = tx.one(_LAST_EVENT, conversation_id=conversation_id)
    seq = (last[0] or 0) + 1 if last else 1
    tx.do(
        _INSERT_EVENT,
        conversation_id=conversation_id,
        seq=seq,
        message_id=message_id,
        type=type_,
        at=at,
        data=dumps_text(data),
    )


def list_events(tx: Tx, conversation_id: str, after: int, limit: int) -> list[TurnEvent]:
    """Events of a conversation after a number."""
    found = tx.all(_EVENTS, conversation_id=conversation_id, after=after, limit=limit)
    return [TurnEvent(*row) for row in found]
