"""The workflows of a simulated world. Each writes once per run (or item) to the sink, and says so in its log."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]
SECRET: Final = "whisper-7f3a9c1b2d4e5f60718293a4"
"""What the connector of the sink holds; it may be seen by nobody but the sink."""
CRON_EVERY_S: Final = 1200
QUESTION_MS: Final = 3_600_000
HURRY_MS: Final = 400_000
"""Shorter than some of those who decide look away."""
LIMIT_UNITS: Final = 10**18
LIMIT_WINDOW_MS: Final = 3_600_000
MUCH_UNITS: Final = 3 * LIMIT_UNITS // 10
"""Of more than this people are asked."""
HANDS: Final = 2
CHAIN_ID: Final = 31337
WALLET_KEY: Final = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
WALLET: Final = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
STRANGER_KEY: Final = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"
STRANGER: Final = "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc"
RIVAL_KEY: Final = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"
RIVAL: Final = "0x90f79bf6eb2c4f870365e785982e1f101e93b906"
"""A stranger whose payments reorgs take out of their place, for one of the other."""
WATCHED: Final = "0x1111111111111111111111111111111111111111"
"""Whom strangers pay, and workflows watch."""
POLICY: Final[Json] = {
    **{"chains": ["*"], "assets": ["*"], "recipients": ["*"], "outflow": None, "sources": None},
    "limits": [
        {"asset": f"eip155:{CHAIN_ID}/native", "maxUnits": str(LIMIT_UNITS), "windowMs": LIMIT_WINDOW_MS},
    ],
    "approvalAbove": {"assets": {f"eip155:{CHAIN_ID}/native": str(MUCH_UNITS)}},
    "approval": {"quorum": HANDS, "expiresMs": QUESTION_MS},
}


def _post(path: str, *children: str, **more: Any) -> Json:
    payload = {"method": "POST", "url": f"http://sink.example/{path}", "json": {"at": path}, "timeoutMs": 20_000}
    retry = {"maxAttempts": 6, "backoffMs": 1000}  # of what certainly did not arrive
    return {"type": "http-request", "payload": payload, "children": list(children), "retry": retry, **more}


def _say(message: str, **more: Any) -> Json:
    return {"type": "log", "payload": {"message": message}, **more}


def _delay(ms: Any, *children: str) -> Json:
    return {"type": "delay", "payload": {"delayMs": ms}, "children": list(children)}


def _flow(root: Json, *children: str, **nodes: Json) -> Json:
    return {"nodes": {"root": {**root, "children": list(children)}, **nodes}, "triggerNodeIds": ["root"]}


def calls(version: int) -> Json:
    """Waits, writes, says so; an editor publishes it again and again, with another `version`. Beside it something
    waits for less, so that the run goes on while it waits."""
    return _flow(
        {"type": "manual"},
        "wait",
        "brief",
        brief=_delay("{{$trigger.body.briefMs}}"),
        wait=_delay("{{$trigger.body.delayMs}}", "post"),
        post=_post(f"call/{version}/{{{{$run.id}}}}", "say"),
        say=_say(f"posted {version}"),
    )


def flows(connector_id: str) -> dict[str, Json]:
    """The definitions by name; `connector_id` is sent with each item of the loop."""
    item = _post("loop/{{$run.id}}/{{$index}}", "note")
    item["connector"] = {"type": "http-bearer", "id": connector_id}
    loop = {"array": "{{$trigger.body.items}}", "concurrency": 2}
    cron = {"schedule": "*/20 * * * *", "onMissed": "all"}
    return {
        "call": calls(1),
        "lured": _flow(
            {"type": "manual"},
            "look",
            look={
                "type": "http-request",
                "payload": {"method": "GET", "url": "http://sink.example/lured", "timeoutMs": 20_000},
                "connector": {"type": "http-bearer", "id": connector_id},
            },
        ),
        "cron": _flow(
            {"type": "cronjob", "payload": cron},
            "wait",
            wait=_delay(300_000, "post"),
            post=_post("cron/{{$trigger.scheduledAt}}/{{$run.id}}", "say"),
            say=_say("posted cron"),
        ),
        "hook": _flow(
            {"type": "webhook", "payload": {"dedupe": {"header": "X-Event"}}},
            "wait",
            wait=_delay(60_000, "post"),
            post=_post("hook/{{$run.id}}", "say"),
            say=_say("posted hook"),
        ),
        "ask": _asking(QUESTION_MS),
        "hurry": _asking(HURRY_MS),
        "loop": _flow(
            {"type": "manual"},
            "each",
            each={"type": "for-each", "payload": loop, "loopBody": ["item", "note"], "children": ["say"]},
            item=item,
            note=_say("item {{$index}}"),
            say=_say("{{$nodes.each.result.iterationCount}} items"),
        ),
    }


def _asking(timeout_ms: int) -> Json:
    """Asks a person, and does what was decided."""
    ask = {"message": "Shall {{$trigger.body.tag}} go on?", "timeoutMs": timeout_ms, "allowStarter": True}
    return _flow(
        {"type": "manual"},
        "ask",
        ask={"type": "approve", "payload": ask, "children": ["yes", "no"]},
        yes=_post("yes/{{$run.id}}", branch="approved"),
        no=_post("no/{{$run.id}}", branch="rejected"),
    )


def watching(**config: Any) -> Json:
    """Says which transactions reach the watched address."""
    watch = {"chainId": CHAIN_ID, "address": WATCHED, "direction": "to", **config}
    return _flow({"type": "evm-transaction", "payload": watch}, "say", say=_say("{{$trigger.body.transactionHash}}"))


def paying() -> Json:
    """Sends native coin to an address that nobody else pays, and says so."""
    payload = {"chainId": CHAIN_ID, "recipient": "{{$trigger.body.to}}", "amount": "{{$trigger.body.amount}}"}
    retry = {"maxAttempts": 6, "backoffMs": 5000}
    pay = {"type": "send-native", "payload": payload, "retry": retry, "children": ["say"]}
    return _flow({"type": "manual"}, "pay", pay=pay, say=_say("paid"))


def calling(called_id: str) -> Json:
    """Calls another workflow, and says what came of it."""
    call = {
        "workflowId": called_id,
        "payload": {"tag": "{{$trigger.body.tag}}", "delayMs": 900_000, "briefMs": 300_000},
    }
    return _flow(
        {"type": "manual"},
        "call",
        call={"type": "call-workflow", "payload": call, "children": ["say"]},
        say=_say("called"),
    )
