"""Every event that a stream shows, by its name, with its fields. `operations/shapes/events.py` describes the fields of
a run's events, and a test holds the two together."""

from __future__ import annotations

from typing import Final

RUN_STARTED: Final = "run_started"
RUN_WAITING: Final = "run_waiting"
RUN_RESUMED: Final = "run_resumed"
RUN_RESPONDED: Final = "run_responded"
RUN_FINISHED: Final = "run_finished"
NODE_STARTED: Final = "node_started"
NODE_PROGRESS: Final = "node_progress"
NODE_WAITING: Final = "node_waiting"
NODE_SUCCEEDED: Final = "node_succeeded"
NODE_FAILED: Final = "node_failed"
NODE_RETRYING: Final = "node_retrying"
NODE_SKIPPED: Final = "node_skipped"
NODE_CANCELLED: Final = "node_cancelled"
NODE_UNCERTAIN: Final = "node_uncertain"
TRANSACTION: Final = "transaction"
LOG: Final = "log"

TRIGGER_SKIPPED: Final = "trigger_skipped"
TRANSACTION_REORGED: Final = "transaction_reorged"
LAUNCH_PROPOSED: Final = "launch_proposed"
WORKFLOW_CHANGED: Final = "workflow_changed"

TURN_STARTED: Final = "turn_started"
TEXT_DELTA: Final = "text_delta"
TOOL_STARTED: Final = "tool_started"
TOOL_FINISHED: Final = "tool_finished"
RUN_LINKED: Final = "run_linked"
APPROVAL_REQUESTED: Final = "approval_requested"
APPROVAL_DECIDED: Final = "approval_decided"
TURN_FINISHED: Final = "turn_finished"
TURN_FAILED: Final = "turn_failed"

_NODE: Final = ("nodeId", "path", "attempt")
_OUTCOME: Final = (
    *(*_NODE, "status", "result", "resultOmitted", "resultBytes", "error", "branch", "assumed", "wakeAt"),
)
_SAID: Final = ("nodeId", "path", "message", "level", "percent", "data")

OF_RUNS: Final[dict[str, tuple[str, ...]]] = {
    RUN_STARTED: (
        *("workflowId", "workflowName", "version", "mode", "triggerNodeId", "triggerSource", "nodeCount", "dust"),
    ),
    NODE_STARTED: (*_NODE, "nodeType"),
    NODE_PROGRESS: _SAID,
    NODE_WAITING: _OUTCOME,
    NODE_SUCCEEDED: _OUTCOME,
    NODE_FAILED: _OUTCOME,
    NODE_RETRYING: _OUTCOME,
    NODE_SKIPPED: _OUTCOME,
    NODE_CANCELLED: _OUTCOME,
    NODE_UNCERTAIN: _OUTCOME,
    TRANSACTION: (
        *("nodeId", "path", "status", "item", "about", "chainId", "transactionId", "signatureId", "from", "to"),
        *("value", "nonce", "hash", "generation", "gasLimit", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas"),
        *("replaces", "blockNumber", "blockHash", "isSuccess", "gasUsed", "fee", "confirmations"),
        *("confirmationsNeeded", "approvalId", "by", "votes", "quorum", "message", "reason", "wasFinal", "error"),
    ),
    LOG: _SAID,
    RUN_WAITING: ("until", "nodes"),
    RUN_RESUMED: (),
    RUN_RESPONDED: (*_NODE, "status"),
    RUN_FINISHED: ("status", "mode", "passed", "error"),
}
"""The events of a run. Each has `type`, `seq`, `runId` and `at` besides; fields without a value are left out."""

OF_ACTIVITY: Final = (RUN_STARTED, RUN_WAITING, RUN_RESUMED, RUN_FINISHED)
"""Those that streams over many runs show, too."""

NOTICES: Final[dict[str, tuple[str, ...]]] = {
    TRIGGER_SKIPPED: ("eventId", "triggerNodeId", "triggerType", "reason", "message"),
    TRANSACTION_REORGED: (
        *("runId", "nodeId", "path", "status", "item", "about", "chainId", "transactionId", "from", "to", "value"),
        *("nonce", "hash", "blockNumber", "blockHash", "wasFinal"),
    ),
    LAUNCH_PROPOSED: ("approvalId", "message", "runId", "mode", "until"),
    WORKFLOW_CHANGED: (),
}
"""Events that streams over many runs add, once. Each has `type`, `at` and `workflowId` besides."""

OF_TURNS: Final[dict[str, tuple[str, ...]]] = {
    TURN_STARTED: ("questionId",),
    TEXT_DELTA: ("text",),
    TOOL_STARTED: ("callId", "tool", "args"),
    TOOL_FINISHED: ("callId", "ok"),
    RUN_LINKED: ("runId", "mode"),
    APPROVAL_REQUESTED: ("callId", "approvalId", "binding", "runId", "mode", "rehearsalRunId"),
    APPROVAL_DECIDED: ("approvalId", "decision"),
    TURN_FINISHED: ("usage",),
    TURN_FAILED: ("code", "message", "usage"),
}
"""The events of one turn of the assistant."""
