"""The one error tree: what went wrong, what the caller reads, and whether trying again can help.

A class says what the caller can do (house rules, "Errors"); a `Code` says exactly which case it is. Foreign
exceptions are translated once, at the edge that knows them.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Code(enum.IntEnum):
    """Public failure codes: the HTTP status followed by a three-digit serial; never reused."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Code:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    BODY_INVALID = 400001, "The request body is not valid; `details` names each field."
    PARAMETER_INVALID = 400002, "A path, query or header parameter is not valid."
    REQUEST_UNREADABLE = 400003, "The request is no HTTP, or its address and headers are larger than 64 KiB."
    BOTH_MODES = 400077, "`simulate` and `dustTest` exclude each other."
    RUN_ID_MALFORMED = 400078, "`runId` must be `run_` and 1 to 64 of `[A-Za-z0-9_-]`."
    RUN_ID_USED = 400079, "`runId` is already used in this organisation."
    WORKFLOW_ARCHIVED = 400080, "The workflow is archived."
    PAYLOAD_INVALID = 400081, "The payload does not satisfy the trigger's input schema."
    CHAT_MESSAGE_UNKNOWN = 400082, "`chatMessageId` names no message of this organisation."
    TRIGGER_NODE_UNKNOWN = 400083, "`triggerNodeId` names no trigger of that version."
    ACTION_INPUT_INVALID = 400084, "The inputs of an action do not satisfy its schema."
    RUN_TOO_LARGE_FOR_SYNC = 400085, "A synchronous run may have at most 20 nodes."
    NODE_NOT_RESUMABLE = 400086, "Only a `wait` or an `approve` can be resumed, and a node in a loop needs its items."
    VARIABLE_INVALID = 400087, "The value does not fit the variable's type or the limits."
    CHAIN_UNKNOWN = 400050, "The server knows no such chain."
    CHAIN_NOT_SERVED = 400051, "The chain is known, but the server's operator has named no endpoint of it."
    FUNDS_INSUFFICIENT = 400052, "The sender has not enough native coin for the value and the gas."
    UNPRICED = 400060, "No price source knows the asset; the message says what to set."
    AMOUNT_BELOW_MINIMUM = 400061, "The venue accepts no amount as small as this one."
    TABLE_INVALID = 400130, "The columns, rows or filter do not fit the table; `details` names each field."
    DEFINITION_INVALID = 400228, "The workflow definition does not validate; `details` lists every problem."
    TRIGGER_NOT_MANUAL = 400229, "An inline run needs a node `root` of type `manual`."
    KEY_INVALID = 401001, "No valid API key was sent."
    LINK_INVALID = 401002, "The link's token is not one of this node."
    PERMISSION_MISSING = 403001, "The key lacks the permission that this call needs."
    REFUSED = 403002, "A policy or safety rule refused it."
    SIGNER_DISAGREES = 403040, "A signer returned something else than it was asked to sign; it was thrown away."
    DUST_UNPRICED = 403060, "Nobody prices an amount of a dust test; set a price, or `dustAmount` on the node."
    DUST_UNSCALABLE = 403061, "An amount of a dust test cannot be scaled; set `dustAmount` or `dust: skip` on the node."
    DUST_BELOW_MINIMUM = 403062, "A venue accepts no amount as small as the dust; the message has its minimum."
    DUST_OVER_CAP = 403063, "The least that could be spent is worth more than a dust test may spend."
    WORKFLOW_UNKNOWN = 404001, "No such workflow in the caller's organisation."
    VERSION_UNKNOWN = 404002, "The workflow has no such version."
    RUN_UNKNOWN = 404003, "No such run in the caller's organisation."
    ROUTE_UNKNOWN = 404004, "No such route."
    NODE_UNKNOWN = 404005, "The run has no such node."
    CONVERSATION_UNKNOWN = 404006, "No such conversation in the caller's organisation."
    MESSAGE_UNKNOWN = 404007, "No such message in that conversation."
    TYPE_UNKNOWN = 404008, "The catalogue has no such action or trigger type."
    DRAFT_UNKNOWN = 404009, "The workflow has no draft version."
    LIVE_UNKNOWN = 404010, "The workflow has no live version."
    KEY_UNKNOWN = 404011, "No such API key in the caller's organisation."
    ORGANIZATION_UNKNOWN = 404012, "The caller belongs to no such organisation."
    VARIABLE_UNKNOWN = 404013, "The workflow has no such variable."
    CONNECTOR_UNKNOWN = 404030, "No such connector in the caller's organisation."
    APPROVAL_UNKNOWN = 404014, "No such approval in the caller's organisation."
    WALLET_UNKNOWN = 404040, "No such wallet in the caller's organisation."
    TABLE_UNKNOWN = 404130, "No such table in the caller's organisation."
    TABLE_ROW_UNKNOWN = 404131, "The table has no such row."
    TRANSACTION_UNKNOWN = 404070, "No such transaction in the caller's organisation."
    SIGNATURE_UNKNOWN = 404071, "No such signature in the caller's organisation."
    METHOD_NOT_ALLOWED = 405001, "The route does not allow this method."
    VERSION_MOVED = 409001, "The workflow is at another version than the caller expected."
    RUN_NOT_OPEN = 409002, "The run is neither running nor waiting."
    RUN_NOT_RETRYABLE = 409003, "Only a failed, partial or cancelled run can be retried."
    NODE_NOT_UNCERTAIN = 409004, "The node is not in `uncertain`."
    NO_LIVE_VERSION = 409005, "The draft is the workflow's only version and cannot be discarded."
    STATE_CONFLICT = 409006, "The workflow's status does not allow this."
    IDEMPOTENCY_KEY_REUSED = 409007, "The Idempotency-Key was used with another request, or by another kind of key."
    IDEMPOTENCY_NOT_STORED = (
        409008,
        "The first answer bore a secret and was not stored; `details` has the id.",
    )
    APPROVAL_DECIDED = 409009, "The approval is no longer open."
    REHEARSAL_MISSING = 409010, "Publishing needs a passed rehearsal of exactly this version."
    KEY_LAST_ADMIN = 409020, "The organisation's last key that administers it cannot be revoked."
    WALLET_ADDRESS_TAKEN = 409040, "A wallet of this server already signs with that key."
    WALLET_IN_USE = 409041, "The default wallet, or one with open transactions, cannot be archived."
    WALLET_CANNOT_SIGN = 409042, "The wallet only watches an address, or is archived."
    POLICY_VERSION_MOVED = 409043, "The policy is at another version than the caller expected."
    TABLE_VALUE_TAKEN = 409130, "Another row has this primary key or this value of a unique column."
    TABLE_LIMIT = 409131, "The organisation's tables would grow beyond their limits."
    CONNECTOR_IN_USE = 409030, "Workflows use the connector; `details` names them, and `force=true` deletes it anyway."
    TRANSACTION_OPEN = 409070, "A transaction of the run or its retries is signed, and its end is not known yet."
    TRANSACTION_NOT_OPEN = 409071, "The transaction's state does not allow this."
    TRANSACTION_AT_CEILING = 409072, "The transaction bids the most that it, its approval or the policy allows."
    BODY_TOO_LARGE = 413001, "The request body is larger than the limit."
    CONTENT_TYPE_UNSUPPORTED = 415001, "The body must be `application/json`."
    RATE_LIMITED = 429001, "Too many requests for this key; wait as `Retry-After` says."
    TOO_MANY_STREAMS = 429002, "Too many waiting streams for this key."
    INTERNAL = 500001, "A defect of the server; quote the request id to its operator."
    SECRET_UNREADABLE = 500002, "A stored secret cannot be opened: it was changed, or sealed under another key."
    UPSTREAM_FAILED = 502001, "An outside system failed for good."
    CALL_REVERTED = 502050, "A contract reverted the call; `details` has the decoded reason."
    CHAIN_MISMATCH = 502051, "An endpoint serves another chain than its configuration says; nothing was signed."
    SIM_FORK_LOST = 502052, "The block that a simulation stands on is no longer to be had from any endpoint."
    SIM_UNAVAILABLE = 502053, "No endpoint of the chain offers what this simulation needs."
    UNAVAILABLE = 503001, "Nothing was started; wait as `Retry-After` says and send again."
    OUTCOME_UNKNOWN = 503002, "The outcome is unknown; look up the id in `details` before sending again."
    CHAIN_UNREACHABLE = 503050, "No endpoint of the chain answers usefully; nothing was done."
    VAULT_LOCKED = 503003, "The master key cannot be used; the server's operator must mend its file."

    @property
    def status(self) -> int:
        """The HTTP status: the first three digits."""
        return self.value // 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about one field: `field` is a path like `nodes.pay.payload.amount`."""

    field: str
    message: str
    code: str | None = None
    node_id: str | None = None
    severity: str = "error"

    def public(self) -> dict[str, Any]:
        """The finding as it goes over the wire."""
        found: dict[str, Any] = {"field": self.field, "message": self.message}
        if self.code is not None:
            found["code"] = self.code
        if self.node_id is not None:
            found["nodeId"] = self.node_id
        return found


class DustrunError(Exception):
    """The root: a public message, a code, findings by field, and an optional hint how to mend it."""

    default_code: Code = Code.INTERNAL
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        code: Code | None = None,
        details: Sequence[Problem | dict[str, Any]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.details = tuple(details)
        self.retry_after_s = retry_after_s

    def public_details(self) -> list[dict[str, Any]]:
        """The findings as plain JSON objects."""
        return [d.public() if isinstance(d, Problem) else d for d in self.details]


class Invalid(DustrunError):
    """The caller can fix it; never retried."""

    default_code = Code.BODY_INVALID


class Unauthenticated(DustrunError):
    """No valid key."""

    default_code = Code.KEY_INVALID


class Forbidden(DustrunError):
    """A valid key without the permission."""

    default_code = Code.PERMISSION_MISSING


class NotFound(DustrunError):
    """No such thing in the caller's organisation."""

    default_code = Code.ROUTE_UNKNOWN


class Conflict(DustrunError):
    """The thing is in a state that does not allow the call."""

    default_code = Code.STATE_CONFLICT


class Refused(DustrunError):
    """A policy, dust or safety rule said no."""

    default_code = Code.REFUSED


class TooMany(DustrunError):
    """A limit on rate or number; wait `retry_after_s`."""

    default_code = Code.RATE_LIMITED
    retryable = True


class Temporary(DustrunError):
    """Certainly not done; trying again may work."""

    default_code = Code.UNAVAILABLE
    retryable = True


class Permanent(DustrunError):
    """The same input will fail again."""

    default_code = Code.UPSTREAM_FAILED


class Uncertain(DustrunError):
    """It may have happened: look before sending again."""

    default_code = Code.OUTCOME_UNKNOWN


class Bug(DustrunError):
    """A defect of ours: the traceback goes to the log, an id to the caller."""

    default_code = Code.INTERNAL
