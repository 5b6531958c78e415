"""Every operation of the document, asked for things that exist, by keys that may and keys that may not.

`tests/api/test_auth.py` holds every route against every permission with ids of nothing; here the same request that is
answered 2xx for a key with the declared permission alone has just been refused to everybody else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from contract.asking import DOCUMENT, ID, OPERATIONS, PERMISSION_OF, READ_PERMISSION_OF, Asked, asking
from dustrun.services.access.principal import PERMISSIONS
from testkit.conformance import Conformance
from testkit.fuzz_world import World
from testkit.server_process import ServerProcess

_DOCUMENTED = Conformance(DOCUMENT)
_LIMITED_KINDS = ("wf_", "run_", "wal_", "tx_", "sig_", "apr_", "evt_", "gap_", "sub_")
"""What a key that is limited to other workflows and wallets must see nothing of."""
_LIMITED_NOUNS = ("workflows", "runs", "wallets", "transactions", "signatures", "approvals", "backtests")
_LIMITED_PATHS = (
    *(f"/v1/{noun}/{{id}}" for noun in _LIMITED_NOUNS),
    "/v1/trigger-events/",
    "/v1/expressions/evaluate",
    "/v1/transactions/release",
    "/v1/api-keys/{id}",
    "/v1/sessions/{id}",
    "/v1/search/similar/",
    "/v1/templates/{id}/versions",
    "/v1/templates/{id}/stats",
)
"""What is named there is of a workflow or wallet, or is a wider key."""
_BEYOND_LIMITS = {"admin", "operator", "hook:read", "hook:write", "run:inline", "workflow:create"}
"""Permissions of what reaches beyond any limit."""
_FORBIDDEN = {
    "get_metrics",
    "list_quotas",
    "list_audit_keys",
    "export_audit_log",
    "rotate_key",
    "list_service_accounts",
    "get_service_account",
    "update_template",
    "delete_template",
    "rollback_template",
    "create_wallet",
    "import_wallet",
    "set_default_wallet",
} | {name for name, permission in PERMISSION_OF.items() if permission in _BEYOND_LIMITS}
"""Operations that reach beyond any limit."""
_OF_A_PERSON = {"begin_passkey", "add_passkey", "rename_passkey", "remove_passkey"}
"""What only a person may do, with a key of theirs."""
_OF_THEIR_KEY = {"stop_turn", "withdraw_acceptance"}
"""What only the key that has begun it, or an administrator's, may do."""
_OF_ADMINISTRATORS = {"admin", "operator"}
_READ_S = 0.3
_MORE = {
    "workflow:create": ["workflow:update"],
    "workflow:execute": ["approval:decide"],
    "key:write": ["run:read"],
    "workflow:publish": ["workflow:simulate"],
    "wallet:write": ["wallet:admin"],
    "wallet:spend": ["workflow:read"],
}
"""What some request needs besides the permission of its operation: a key gives only what it holds itself, and the
policy that is put loosens."""


_WRITES = {name for name, (method, _) in OPERATIONS.items() if method != "GET"}
_ANSWERS_MORE = {
    "results, to those with `run:read` alone": {
        "run_action",
        "run_inline_sync",
        "run_workflow_sync",
        "test_action",
    },
    "what its permission is to read": {
        "accept_version",
        "add_passkey",
        "rename_passkey",
        "remove_passkey",
        "rotate_key",
        "end_own_session",
        "analyze_definition_funds",
        "attribute_transactions",
        "convert_policy_sentences",
        "replay_wallet_policy",
        "try_payment",
        "evaluate_expression",
        "export_wallet",
        "plan_dust",
        "test_trigger",
        "validate_workflow",
        "withdraw_acceptance",
    },
}
"""Writes whose answers have more than what the caller has sent, ids and states, and why the caller may know that. Who
administers may know everything."""
_WORDS = PERMISSIONS | {"manual", "text", "live", "root", "create", "armed"}
"""Values that are no contents of others."""


@dataclass
class Answered:
    status: int
    text: str
    is_replay: bool = False

    @property
    def ids(self) -> set[str]:
        return set(ID.findall(self.text))


class Everybody:
    """The keys that ask, and the world of the first organisation."""

    def __init__(self, server: ServerProcess, world: World) -> None:
        self.world = world
        self._base = server.base
        self._session = requests.Session()
        self.stranger: str = self.world.call("POST", "/v1/organizations", {"name": "Other"})["ownerKey"]
        self._note_ids()
        own = {"workflowIds": [self.world.draft()], "walletIds": [self.world.wallet()]}
        self.own = {name for names in own.values() for name in names}
        self.limited = self.key(["admin"], **own)
        self.only = {name: self.key([name, *_MORE.get(name, [])]) for name in PERMISSIONS - {"admin"}}
        self.but = {
            name: self.key(sorted(PERMISSIONS - {name, "admin", "operator"})) for name in PERMISSIONS - {"admin"}
        }

    def _note_ids(self) -> None:
        """Every id that the world is told is one that no stranger may be told."""
        call = self.world.call
        self.world_ids: set[str] = set()
        self.contents: set[str] = set()

        def noting(method: str, path: str, body: Any = None) -> Any:
            self.contents |= _texts(body)
            data = call(method, path, body)
            self.world_ids |= set(ID.findall(json.dumps(data)))
            return data

        self.world.call = noting  # type: ignore[method-assign]

    def request(self, name: str) -> Asked:
        """A request that should succeed, for things that were just made."""
        return asking(self.world, name)

    def key(self, permissions: list[str], **limits: Any) -> str:
        made = self.world.call("POST", "/v1/api-keys", {"name": "k", "permissions": permissions, **limits})
        return str(made["key"])

    def ask(self, asked: Asked, key: str | None) -> Answered:
        """The answer; of a stream what comes within a moment."""
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": asked.once} if key else {}
        headers |= asked.headers
        options: dict[str, Any] = {} if asked.body is None else {"json": asked.body}
        self._session.cookies.clear()  # signing in sets some
        timeout = (10, _READ_S) if asked.path.endswith("/stream") else 30
        with self._session.request(
            asked.method, self._base + asked.url, params=asked.query, headers=headers, stream=True, timeout=timeout,
            **options,
        ) as answer:  # fmt: skip
            kept = (answer.headers["cache-control"], answer.headers["x-content-type-options"])
            is_catalogue = asked.url in ("/v1/actions", "/v1/triggers") and answer.status_code == 200
            assert kept == ("no-cache" if is_catalogue else "no-store", "nosniff"), asked.url
            text = b""
            try:
                for chunk in answer.iter_content(None):
                    text += chunk
            except requests.exceptions.RequestException:
                assert asked.path.endswith("/stream")
            if answer.headers.get("content-type") == "application/json":
                _DOCUMENTED.check(asked.method, asked.url, answer.status_code, json.loads(text))
            return Answered(answer.status_code, text.decode(), answer.headers.get("Idempotent-Replayed") == "true")

    def close(self) -> None:
        self._session.close()


@pytest.fixture(scope="module")
def everybody(chain_server: ServerProcess, world_of_server: World) -> Iterator[Everybody]:
    found = Everybody(chain_server, world_of_server)
    yield found
    found.close()


@pytest.mark.parametrize("name", list(PERMISSION_OF))
def test_a_request_is_for_those_who_may_alone(everybody: Everybody, name: str) -> None:
    permission = PERMISSION_OF[name]
    if name in _OF_A_PERSON:
        _check_person(everybody, everybody.request(name))
        return
    if permission == "public":
        assert everybody.ask(everybody.request(name), None).status in (200, 204)
        return
    _check_limited(everybody, everybody.request(name))
    asked = everybody.request(name)
    assert everybody.ask(asked, None).status == 401
    if permission in everybody.but:
        assert everybody.ask(asked, everybody.but[permission]).status == 403
    _check_stranger(everybody, asked)
    if name == "import_wallet":  # the stranger has it now
        asked = everybody.request(name)
    key = everybody.only.get(permission, everybody.world.key)
    if name in _OF_THEIR_KEY:
        assert everybody.ask(asked, key).status == 403
        key = everybody.world.key
    answer = everybody.ask(asked, key)
    assert answer.status in (200, 204), answer.text
    if name in _WRITES:
        _check_unread(everybody, asked, answer)
    if asked.method == "POST":
        _check_replay(name, everybody.ask(asked, key), answer)
    if name == "stream_run":
        assert "event: run_finished" in answer.text


def test_only_writes_that_say_no_other_permission_answer_more() -> None:
    listed = [name for names in _ANSWERS_MORE.values() for name in names]
    assert [name for name in listed if name not in _WRITES or name in READ_PERMISSION_OF] == []
    assert [name for name in listed if PERMISSION_OF[name] in _OF_ADMINISTRATORS] == []


def _check_unread(everybody: Everybody, asked: Asked, answer: Answered) -> None:
    """A key that may write and not read is told nothing that others have written."""
    data: Any = json.loads(answer.text)["data"] if answer.text else {}
    if asked.name in READ_PERMISSION_OF:
        assert data["hiddenWithout"] == READ_PERMISSION_OF[asked.name]
    may_know = PERMISSION_OF[asked.name] in _OF_ADMINISTRATORS
    if not may_know and not any(asked.name in names for names in _ANSWERS_MORE.values()):
        sent = json.dumps([asked.body, asked.path_parameters])
        told = (_texts(data) & everybody.contents) - _WORDS
        assert {text for text in told if text not in sent} == set()


def _texts(value: Any) -> set[str]:
    """The texts in a document, without ids."""
    if isinstance(value, dict):
        return set().union(*map(_texts, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_texts, value))
    return {value} if isinstance(value, str) and len(value) > 3 and not ID.fullmatch(value) else set()


def _check_replay(name: str, again: Answered, first: Answered) -> None:
    """The same request under the same Idempotency-Key is answered the same, or not at all when a secret was in it."""
    assert not first.is_replay
    if name in ("run_action", "test_action", "run_inline_sync", "run_workflow_sync"):
        told = json.loads(again.text)["data"]
        assert told == {"runId": json.loads(first.text)["data"]["runId"], "status": "running"}
    elif again.status == 409:
        assert json.loads(again.text)["code"] == 409008, again.text
    else:
        assert (again.is_replay, again.text) == (True, first.text)


def _check_stranger(everybody: Everybody, asked: Asked) -> None:
    """To another organisation's owner what is named in the path is not there, and no id of ours is told."""
    answer = everybody.ask(asked, everybody.stranger)
    if asked.name == "stream_run":
        assert (answer.status, "event: " in answer.text) == (200, False)
    else:
        is_shared = asked.name in ("get_workflow_template", "use_workflow_template")  # the same for every organisation
        is_own = ("{id}" in asked.path and not is_shared) or asked.name in (
            "create_template",
            "find_template_of_workflow",
            "release_spends",
            "evaluate_expression",
            "get_operation_type",
            "replay_trigger_events",
        )
        assert (answer.status == 404) is is_own, answer.text
        assert answer.status == 404 or not answer.ids & everybody.world_ids - asked.named, answer.text


def _check_person(everybody: Everybody, asked: Asked) -> None:
    """What concerns a person alone answers nobody else, whatever their key may do."""
    key = asked.headers.pop("Authorization").removeprefix("Bearer ")
    assert everybody.ask(asked, None).status == 401
    for other in (everybody.world.key, everybody.limited, everybody.stranger):
        assert everybody.ask(asked, other).status == (404 if "{id}" in asked.path else 403)
    assert everybody.ask(asked, key).status == 200


def _check_limited(everybody: Everybody, asked: Asked) -> None:
    """Nor to a key that is limited to another workflow and another wallet, which may do everything else."""
    answer = everybody.ask(asked, everybody.limited)
    if asked.name == "stream_run":
        assert (answer.status, "event: " in answer.text) == (200, False)
    elif asked.path.startswith(_LIMITED_PATHS):
        assert answer.status == 404 or asked.name in _FORBIDDEN, answer.text
    elif asked.name in _FORBIDDEN:
        assert answer.status == 403, answer.text
    else:
        assert answer.status == 200, answer.text
        seen = {found for found in answer.ids if found.startswith(_LIMITED_KINDS)}
        assert not seen & everybody.world_ids - everybody.own - asked.named, answer.text
