"""An example body per operation: shown in the OpenAPI document, and validated against the models by a test."""

from __future__ import annotations

from typing import Any

_HELLO = {
    "nodes": {
        "root": {"type": "manual", "children": ["say"]},
        "say": {"type": "log", "payload": {"message": "Hello, {{$trigger.body.name}}!"}},
    },
    "triggerNodeIds": ["root"],
}
_ID = "01m8brt9hae4de3w6f0w3c1rmr"
_WALLET = f"wal_{_ID}"
_ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
_POLICY = {
    "chains": [8453],
    "assets": ["eip155:8453/native"],
    "recipients": [_ADDRESS],
    "limits": [{"maxUsd": "50"}, {"maxUsd": "200", "windowMs": 86400000}],
}

BY_OPERATION: dict[str, Any] = {
    "add_rows": {"rows": [{"id": "ord_1", "amount": "12.50"}], "mode": "upsert"},
    "analyze_definition_funds": {"definition": _HELLO, "defaultWalletAddress": _ADDRESS},
    "approve_approval": {"comment": "As agreed"},
    "attribute_transactions": {"txHashes": ["0x11a63f67539e7fc52373d02ba176d43ce9ecce666d1f6ce1cb65640c6ba8d3fb"]},
    "change_rows": {"where": {"status": "open"}, "values": {"status": "late"}},
    "create_connector": {
        "type": "http-bearer",
        "name": "Orders",
        "data": {"token": "a-token-of-the-outside-system"},
        "allowedHosts": ["api.example.com"],
    },
    "create_conversation": {"title": "Invoices"},
    "create_turn": {"text": "Which workflows failed last night?"},
    "create_hook": {
        "name": "Alerts",
        "url": "https://hooks.example.com/dustrun",
        "subscribedEventTypes": ["run.failed", "transaction.*"],
    },
    "create_key": {
        "name": "shop",
        "permissions": ["workflow:execute", "run:read", "run:stream"],
        "workflowIds": [f"wf_{_ID}"],
        "expiresAt": "2027-01-01T00:00:00Z",
    },
    "create_message": {"role": "user", "content": "Pay what is open."},
    "create_organization": {"name": "Treasury"},
    "create_stream_token": {"stream": "/v1/runs/run_order-17/stream"},
    "create_table": {
        "name": "orders",
        "primaryKey": "id",
        "columns": [{"name": "id", "type": "text"}, {"name": "amount", "type": "decimal", "required": True}],
    },
    "create_wallet": {"name": "treasury", "description": "Pays invoices."},
    "create_workflow": {"name": "Hello", "description": "Says hello.", "definition": _HELLO},
    "declare_variable": {"type": "number", "default": 0, "lifetime": "persist"},
    "use_workflow_template": {"name": "Take profit, my way"},
    "update_hook": {"subscribedEventTypes": ["run.*"], "maxRetries": 5},
    "rotate_hook_secret": {"overlapHours": 48},
    "delete_rows": {"where": {"status": "late"}},
    "export_wallet": {"password": "a long password of your own"},
    "import_wallet": {"name": "hot", "privateKey": f"0x{'11' * 32}"},
    "apply_files": {
        "files": [
            {"path": "hello.yaml", "content": "name: Hello\ndefinition: {nodes: {root: {type: manual}}}\n"},
        ],
        "dryRun": True,
    },
    "import_workflow": {
        "content": "dustrunWorkflow: 1\nname: Hello\ndefinition: {nodes: {root: {type: manual}}}\n",
        "bindings": {},
    },
    "plan_dust": {"payload": {"limitUsdc": "200"}},
    "accept_version": {"expectedDigest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
    "publish_workflow": {"expectedVersion": 3},
    "redeem_sign_in_link": {"token": "signin_3Xb…"},
    "refill_workflow": {"remainRuns": 100},
    "reject_approval": {"comment": "Not to this address"},
    "release_spends": {"walletId": _WALLET, "chainId": 1},
    "resolve_node": {"outcome": "happened", "result": {"id": "n-17"}},
    "resume_node": {"data": {"amount": 20}},
    "read_connector_tools": {"effects": {"read_text_file": "read"}},
    "retry_run": {},
    "rollback_workflow": {"targetVersion": 2},
    "put_contract": {"name": "Swap router", "kind": "router"},
    "revoke_wallet_allowances": {"chainId": 1, "unlimitedOnly": True},
    "run_action": {"inputs": {"message": "hello"}},
    "test_action": {"inputs": {"message": "hello"}},
    "run_inline": {"definition": _HELLO, "payload": {"name": "Ada"}, "simulate": True},
    "run_workflow_sync": {"payload": {"name": "Ada"}, "waitMs": 5000},
    "evaluate_expression": {"template": "{{$trigger.body.amount * 2}} USDC", "runId": f"run_{_ID}", "path": "pay"},
    "create_form": {"mode": "simulate", "maxRuns": 20, "title": "Order a refund"},
    "submit_form": {"values": {"order": "17"}, "submissionId": "3f0c2e9a4b7d41c8"},
    "rotate_webhook": {"overlapMs": 86400000},
    "receive_webhook": {"orderId": 17},
    "run_inline_sync": {"definition": _HELLO, "payload": {"name": "Ada"}},
    "set_ui_metadata": {"uiMetadata": {"root": {"x": 0, "y": 0}}},
    "set_variable": {"value": 17},
    "convert_policy_sentences": {"text": f"on chain 1\npay {_ADDRESS} up to $2,000 a month, ask above $100"},
    "set_wallet_policy": {"policy": _POLICY, "expectedVersion": 1},
    "start_backtest": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-31T00:00:00Z", "limit": 100},
    "start_session": {"key": "sk_4fQ…"},
    "speed_up_transaction": {"maxFeePerGas": "90000000000"},
    "make_triggers_live": {"triggerNodeId": "root"},
    "replay_trigger_event": {"ignoreLimits": True},
    "replay_trigger_events": {
        "workflowId": "wf_01m8brt9hae4de3w6f0w3c1rmr",
        "outcome": "skipped",
        "reason": "paused",
        "mode": "preview",
    },
    "test_trigger": {"config": {"schedule": "30 2 * * *", "timezone": "Europe/Berlin"}},
    "try_connector": {"url": "https://api.example.com/me"},
    "update_connector": {"allowedHosts": ["api.example.com"], "data": {"token": "a-new-token"}, "expectedVersion": 1},
    "update_organization": {"retentionDays": 90},
    "update_wallet": {"name": "vault"},
    "update_workflow": {"definition": _HELLO, "expectedCurrentVersion": 3},
    "validate_workflow": {"definition": _HELLO},
}
