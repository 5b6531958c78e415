"""All errors that Dustrun raises: the public message, the code, and whether a retry can help.

The class says what the caller can do; the `Code` says exactly what happened. Exceptions of libraries are translated
once, in the module that calls the library.
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

    BODY_INVALID = 400001, "The request body is invalid; `details` lists each field."
    PARAMETER_INVALID = 400002, "A path, query or header parameter is invalid."
    REQUEST_UNREADABLE = 400003, "The request is not valid HTTP, or its URL and headers exceed 64 KiB."
    BOTH_MODES = 400077, "`simulate` and `dustTest` cannot be combined."
    RUN_ID_MALFORMED = 400078, "`runId` must be `run_` followed by 1 to 64 characters of `[A-Za-z0-9_-]`."
    RUN_ID_USED = 400079, "`runId` is already used in this organisation."
    WORKFLOW_ARCHIVED = 400080, "The workflow is archived."
    PAYLOAD_INVALID = 400081, "The payload does not satisfy the trigger's input schema."
    CHAT_MESSAGE_UNKNOWN = 400082, "`chatMessageId` does not match a message of this organisation."
    TRIGGER_NODE_UNKNOWN = 400083, "`triggerNodeId` does not match a trigger of that version."
    ACTION_INPUT_INVALID = 400084, "The inputs of an action do not satisfy its schema."
    RUN_TOO_LARGE_FOR_SYNC = 400085, "A synchronous run may have at most 20 nodes."
    NODE_NOT_RESUMABLE = 400086, "Only `wait` and `approve` nodes can be resumed; for a node in a loop, name the item."
    VARIABLE_INVALID = 400087, "The value does not match the variable's type or exceeds a limit."
    CHAIN_UNKNOWN = 400050, "The server does not know this chain."
    CHAIN_NOT_SERVED = 400051, "The chain is known, but no endpoint is configured for it."
    FUNDS_INSUFFICIENT = 400052, "The sender does not have enough native coin for the value and the gas."
    UNPRICED = 400060, "No price source covers the asset; the message says which setting to use."
    AMOUNT_BELOW_MINIMUM = 400061, "The amount is below the venue's minimum."
    TABLE_INVALID = 400130, "The columns, rows or filter do not match the table; `details` lists each field."
    DEFINITION_INVALID = 400228, "The workflow definition is invalid; `details` lists every problem."
    TRIGGER_NOT_MANUAL = 400229, "An inline run needs a `root` node of type `manual`."
    KEY_INVALID = 401001, "The API key is missing or invalid."
    WEBHOOK_SIGNATURE = 401010, "The request to the webhook has no valid signature; nothing was started."
    WEBHOOK_TIMESTAMP = 401011, "The request to the webhook was sent too long ago, or in the future."
    LINK_INVALID = 401002, "The link's token is not valid for this node."
    PERMISSION_MISSING = 403001, "The key lacks the permission required for this call."
    CROSS_SITE = 403020, "A session's cookie came from a page of another site, or for an unknown host name."
    CSRF_TOKEN_MISSING = 403021, "A write with a session's cookie lacks the session's token."
    BEARER_NEEDED = 403022, "The call needs the API key itself; a browser's session is not enough."
    SIGN_IN_REFUSED = 403023, "The identity provider's answer signs nobody in; the message says why."
    CONSENT_REFUSED = 403027, "The consent to what a connector may do has no effect; the message says why."
    PASSKEY_REFUSED = 403024, "The passkey's answer is not right; the message says why."
    PASSKEY_NEEDED = 403025, "The person has a passkey, and must just have signed in with it to do this."
    SCIM_FILTER_REFUSED = (
        403026,
        "A directory asked for a part of what the server says of itself, which is not filtered.",
    )
    REFUSED = 403002, "A policy or safety rule refused the action."
    SIGNER_DISAGREES = (
        403040,
        "A signer returned something other than what it was asked to sign; the result was discarded.",
    )
    DUST_UNPRICED = (
        403060,
        "No price source covers an amount of the dust test; set a price, or `dustAmount` on the node.",
    )
    DUST_UNSCALABLE = (
        403061,
        "An amount of the dust test cannot be scaled; list it in `amounts` of a contract call, or set `dust: skip`.",
    )
    DUST_BELOW_MINIMUM = 403062, "The dust amount is below the venue's minimum, which the message states."
    DUST_OVER_CAP = 403063, "The smallest amount that can be spent is worth more than a dust test may spend."
    OUTFLOW_EXCEEDED = (
        403064,
        "Simulated before signing, the transaction takes more from the wallet than its policy or dust test allows.",
    )
    OUTFLOW_UNKNOWN = (
        403065,
        "No endpoint can simulate the transaction, so what it takes from the wallet cannot be checked.",
    )
    MODEL_UNPRICED = 403110, "The connector has no price for the model, so its cost cannot be limited."
    MODEL_OVER_BUDGET = 403111, "The request to the model could exceed the budget, so it was not sent."
    HOST_NOT_ALLOWED = 403112, "A dry run of this key may not read from that host; the message says who may name it."
    MCP_TOOL_CHANGED = 403113, "The MCP tool has changed since the tools were listed, so it was not called."
    MCP_COMMAND_NOT_ALLOWED = 403114, "The setting `mcp_commands` does not name the command that the connector starts."
    MODEL_TOOL_LOOP = 403115, "The model called tools more often than the node allows."
    WORKFLOW_UNKNOWN = 404001, "There is no such workflow in the caller's organisation."
    VERSION_UNKNOWN = 404002, "The workflow has no such version."
    RUN_UNKNOWN = 404003, "There is no such run in the caller's organisation."
    ROUTE_UNKNOWN = 404004, "There is no such route."
    NODE_UNKNOWN = 404005, "The run has no such node."
    CONVERSATION_UNKNOWN = 404006, "There is no such conversation in the caller's organisation."
    MESSAGE_UNKNOWN = 404007, "There is no such message in the conversation."
    TYPE_UNKNOWN = 404008, "The catalogue has no such action or trigger type."
    DRAFT_UNKNOWN = 404009, "The workflow has no draft version."
    LIVE_UNKNOWN = 404010, "The workflow has no live version."
    KEY_UNKNOWN = 404011, "There is no such API key in the caller's organisation."
    PERSON_UNKNOWN = 404017, "There is no such person in the caller's organisation."
    SERVICE_ACCOUNT_UNKNOWN = 404024, "There is no such service account in the caller's organisation."
    PASSKEY_UNKNOWN = 404025, "The caller's person has no such passkey."
    ROLE_UNKNOWN = 404019, "The organisation has made no such role."
    SESSION_UNKNOWN = 404018, "There is no such open session, or it is not the caller's to end."
    ORGANIZATION_UNKNOWN = 404012, "The caller does not belong to this organisation."
    VARIABLE_UNKNOWN = 404013, "The workflow has no such variable."
    CONNECTOR_UNKNOWN = 404030, "There is no such connector in the caller's organisation."
    IMPORT_UNKNOWN = 404140, "There is no such imported document in the caller's organisation."
    SERVICE_UNKNOWN = 404141, "Dustrun does not know a service of this name."
    MCP_TOOL_UNKNOWN = 404110, "The MCP server has no such tool, or its tools were not listed yet."
    ACCEPTANCE_UNKNOWN = 404016, "Nobody has accepted that version."
    APPROVAL_UNKNOWN = 404014, "There is no such approval in the caller's organisation."
    WEBHOOK_UNKNOWN = 404022, "There is no such webhook, or its address was replaced."
    FORM_UNKNOWN = 404023, "There is no such form, or its link was revoked."
    CONTRACT_UNKNOWN = 404041, "The organisation has named no such contract."
    WALLET_UNKNOWN = 404040, "There is no such wallet in the caller's organisation."
    TRIGGER_EVENT_UNKNOWN = 404020, "There is no such trigger event in the caller's organisation."
    TRIGGER_GAP_UNKNOWN = 404021, "The workflow has no such gap."
    BACKTEST_UNKNOWN = 404120, "There is no such back-test in the caller's organisation."
    TEMPLATE_UNKNOWN = 404015, "There is no template with this id."
    TABLE_UNKNOWN = 404130, "There is no such table in the caller's organisation."
    TABLE_ROW_UNKNOWN = 404131, "The table has no such row."
    HOOK_UNKNOWN = 404090, "There is no such hook in the caller's organisation."
    DELIVERY_UNKNOWN = 404091, "There is no such delivery in the caller's organisation."
    TRANSACTION_UNKNOWN = 404070, "There is no such transaction in the caller's organisation."
    SIGNATURE_UNKNOWN = 404071, "There is no such signature in the caller's organisation."
    METHOD_NOT_ALLOWED = 405001, "The route does not allow this method."
    VERSION_MOVED = 409001, "The workflow is not at the version that the caller expected."
    RUN_NOT_OPEN = 409002, "The run has already ended."
    RUN_NOT_RETRYABLE = 409003, "Only a failed, partial or cancelled run can be retried."
    NODE_NOT_UNCERTAIN = 409004, "The node's status is not `uncertain`."
    NO_LIVE_VERSION = 409005, "The draft is the workflow's only version, so it cannot be discarded."
    STATE_CONFLICT = 409006, "The workflow's status does not allow this operation."
    IDEMPOTENCY_KEY_REUSED = (
        409007,
        "The Idempotency-Key was already used for a different request, or by a key with different permissions.",
    )
    IDEMPOTENCY_NOT_STORED = (
        409008,
        "The first response contained a secret and was not stored; `details` has the id.",
    )
    APPROVAL_DECIDED = 409009, "The approval is no longer open."
    REHEARSAL_MISSING = (
        409010,
        "A spending node of the version, or of what it calls, lacks the rehearsal that the workflow requires.",
    )
    VERSION_NOT_ACCEPTED = (
        409011,
        "The version's author may not spend from its wallets, and nobody who may has accepted it.",
    )
    REHEARSAL_MISMATCH = (
        409013,
        "The simulation does not show what the launch would do: another version or payload, too old, or already used.",
    )
    BINDING_MISMATCH = 409014, "The `binding` does not match the approval."
    NAME_TAKEN = 409012, "A workflow that is not archived already has this name."
    FORM_CLOSED = 409023, "The form is closed: it has expired or is used up, or its workflow cannot run now."
    FORM_LIMIT = 409024, "The workflow has the maximum number of open links to forms."
    REHEARSAL_ANSWER_MISSING = 409019, "The rehearsal has no model answer for this node that the run could use."
    TURN_OPEN = 409110, "The conversation has an active turn; wait until it ends."
    PERSON_EMAIL_TAKEN = 409025, "Another person of the organisation has this e-mail address."
    PERSON_DEACTIVATED = 409026, "The person is deactivated, or the key of their sessions was revoked."
    ROLE_TAKEN = 409028, "There is a role of this name, or the organisation has as many as it may."
    ROLE_IN_USE = 409029, "People have the role who are not deactivated, or service accounts have it."
    SERVICE_ACCOUNT_TAKEN = 409031, "Another service account of the organisation has this name."
    SERVICE_ACCOUNT_DISABLED = 409032, "The service account is disabled, so it gets no keys."
    PASSKEY_TAKEN = 409034, "The passkey is known already, or the person has as many as they may."
    CONNECTOR_LIMIT = 409035, "The organisation has the maximum number of connectors."
    MODEL_TOKEN_LIMIT = 409036, "The organisation has used its tokens of models of the last 24 hours."
    RUN_LIMIT = 409037, "The organisation keeps as many runs, or as many bytes in them, as it may."
    KEY_NOT_ROTATED = 409033, "Only a key of a service account that is not revoked can be rotated."
    KEY_TAKEN = 409027, "The key is another person's, or one hand with a key above it."
    KEY_LAST_ADMIN = 409020, "The organisation's last administrator key cannot be revoked."
    WALLET_ADDRESS_TAKEN = 409040, "Another wallet on this server already uses that key."
    WALLET_IN_USE = 409041, "The default wallet and wallets with open transactions cannot be archived."
    WALLET_CANNOT_SIGN = 409042, "The wallet is watch-only or archived."
    POLICY_VERSION_MOVED = 409043, "The policy is not at the version that the caller expected."
    TABLE_VALUE_TAKEN = 409130, "Another row already has this primary key or this value in a unique column."
    TEMPLATE_LIMIT = 409132, "The organisation has the maximum number of templates, or the template of versions."
    TABLE_LIMIT = 409131, "The change would exceed the limits of the organisation's tables."
    CONNECTOR_IN_USE = 409030, "Workflows use the connector; `details` lists them, and `force=true` deletes it anyway."
    IMPORT_NAME_TAKEN = 409140, "An imported document already has this name."
    IMPORT_BUSY = 409141, "The document is being imported by somebody else."
    IMPORT_IN_USE = 409142, "Workflows use operations of the imported document; `details` lists them."
    HOOK_LIMIT = 409090, "The organisation has the maximum number of hooks."
    DELIVERY_DONE = 409091, "The delivery has succeeded, or its hook is disabled or deleted; it is not retried."
    TRANSACTION_OPEN = 409070, "The run or one of its retries has a signed transaction whose outcome is not known yet."
    TRANSACTION_NOT_OPEN = 409071, "The transaction's state does not allow this operation."
    TRANSACTION_AT_CEILING = (
        409072,
        "The transaction already bids the highest fee that it, its approval or the policy allows.",
    )
    BODY_TOO_LARGE = 413001, "The request body is larger than the limit."
    CONTENT_TYPE_UNSUPPORTED = 415001, "The body must be `application/json`."
    RATE_LIMITED = 429001, "Too many requests from this organisation; wait for the time in `Retry-After`."
    TOO_MANY_STREAMS = 429002, "This key has too many streams waiting for runs that do not exist yet."
    INTERNAL = 500001, "Internal error; give the request id to the server's operator."
    SECRET_UNREADABLE = 500002, "A stored secret cannot be decrypted: it was changed, or sealed with another key."
    UPSTREAM_FAILED = 502001, "An external system failed, and a retry will not help."
    CALL_REVERTED = 502050, "A contract reverted the call; `details` has the decoded reason."
    CHAIN_MISMATCH = 502051, "An endpoint serves a different chain than configured; nothing was signed."
    SIM_FORK_LOST = 502052, "No endpoint still has the state of the simulation's block."
    SIM_UNAVAILABLE = 502053, "No endpoint of the chain supports what this simulation needs."
    LLM_OUTPUT_INVALID = 502110, "The model's answer does not match the schema, even after two attempts to repair it."
    UNAVAILABLE = 503001, "Nothing was started; wait for the time in `Retry-After` and try again."
    OUTCOME_UNKNOWN = 503002, "The outcome is unknown; look up the id in `details` before you try again."
    CHAIN_UNREACHABLE = 503050, "No endpoint of the chain gives a usable answer; nothing was done."
    VAULT_LOCKED = 503003, "The master key cannot be used; the server's operator must fix its file."

    @property
    def status(self) -> int:
        """The HTTP status: the first three digits of the code."""
        return self.value // 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem with one field; `field` is a path like `nodes.pay.payload.amount`. `span`: which characters of its
    text are meant, from the first one to before the second one."""

    field: str
    message: str
    code: str | None = None
    node_id: str | None = None
    severity: str = "error"
    span: tuple[int, int] | None = None

    def public(self) -> dict[str, Any]:
        """The problem as API JSON."""
        found: dict[str, Any] = {"field": self.field, "message": self.message}
        if self.code is not None:
            found["code"] = self.code
        if self.node_id is not None:
            found["nodeId"] = self.node_id
        if self.span is not None:
            found["start"], found["end"] = self.span
        return found


class DustrunError(Exception):
    """Base class: a public message, a code, problems by field, and how long to wait before a retry."""

    default_code: Code = Code.INTERNAL
    retryable: bool = False
    is_told: bool = False
    """Whether the log tells of the trouble as a whole, so that each failure for its sake is a detail there."""

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
        """`details` as API JSON."""
        return [d.public() if isinstance(d, Problem) else d for d in self.details]


class Invalid(DustrunError):
    """The request is wrong and the caller can fix it; never retried."""

    default_code = Code.BODY_INVALID


class Unauthenticated(DustrunError):
    """The API key is missing or invalid."""

    default_code = Code.KEY_INVALID


class Forbidden(DustrunError):
    """The key is valid but lacks the permission."""

    default_code = Code.PERMISSION_MISSING


class NotFound(DustrunError):
    """The caller's organisation has no such object."""

    default_code = Code.ROUTE_UNKNOWN


class Conflict(DustrunError):
    """The object's state does not allow the call."""

    default_code = Code.STATE_CONFLICT


class Refused(DustrunError):
    """A policy, dust or safety rule refused the action."""

    default_code = Code.REFUSED


class TooMany(DustrunError):
    """A rate or concurrency limit was hit; retry after `retry_after_s` seconds."""

    default_code = Code.RATE_LIMITED
    retryable = True


class Temporary(DustrunError):
    """Nothing was done, and a retry may work."""

    default_code = Code.UNAVAILABLE
    retryable = True


class StoreUnavailable(Temporary):
    """The store cannot be reached, so nothing was done. Nothing can be recorded either until it is back."""

    is_told = True


class Permanent(DustrunError):
    """It failed, and the same input will fail again."""

    default_code = Code.UPSTREAM_FAILED


class Uncertain(DustrunError):
    """The effect may have happened: check before trying again."""

    default_code = Code.OUTCOME_UNKNOWN


class CommitUnknown(Uncertain):
    """The connection to the store died during a commit."""


class Bug(DustrunError):
    """A defect in Dustrun: the traceback is logged, the caller gets the request id."""

    default_code = Code.INTERNAL
