"""What must hold at the end of every world, whatever went wrong in it. Each names the promise that it holds us to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from testkit.simulation import flows
from testkit.simulation.attacks import roads
from testkit.simulation.chain import START_UNITS
from testkit.simulation.world import CONFIRMATIONS, EPOCH_MS, HOUR, World

Check = Callable[[World], Iterable[str]]
INVARIANTS: Final[dict[str, tuple[str, Check]]] = {}
_ENDED: Final = ("success", "partial", "failure", "cancelled")
_LATE_MS: Final = 600_000
"""A run that began so shortly before the end may still be on its way."""
_BOOKED_WITHIN_MS: Final = 60_000
_TOLD_OF_REORGS: Final = "a reorg removed a final transaction"
_TOLD_OF_DISK: Final = frozenset({"commit failed", "pruning failed"})
"""The log's errors that belong to a world: nobody can prevent them, and people must know of them."""
_TOLD_OF_CUTS: Final = frozenset({"the store is unavailable"})


def _promises(promise: str) -> Callable[[Check], Check]:
    """Registers an invariant under its function's name; `promise` is the page and what it says."""

    def register(check: Check) -> Check:
        INVARIANTS[check.__name__] = promise, check
        return check

    return register


def broken(world: World) -> list[str]:
    """What does not hold: the invariant's name, and what was seen."""
    return [f"{name}: {found}" for name, (_, check) in INVARIANTS.items() for found in check(world)]


def _runs(world: World) -> dict[str, dict[str, Any]]:
    names = ("id", "pk", "status", "workflow_name", "payload", "started_at", "last_seq")
    return {row[0]: dict(zip(names, row, strict=True)) for row in world.rows(f"SELECT {', '.join(names)} FROM runs")}


def _body(run: dict[str, Any]) -> Any:
    payload = json.loads(run["payload"])
    return payload.get("body", payload)


def _paths(world: World, run_id: str) -> Counter[str]:
    return Counter({path: count for path, count in world.sink.posts.items() if run_id in path.split("/")})


def _is_unpaid(world: World, run: dict[str, Any]) -> bool:
    """Whether a payment failed because the limit or a person refused it, gas cost more than its node may pay, or no
    endpoint had an answer; `payments_arrive_once` sees that nothing was paid."""
    query = f"SELECT error FROM executions WHERE run_pk = {run['pk']} AND path = 'pay' AND error IS NOT NULL"
    errors = world.rows(f"{query} ORDER BY attempt")
    last = json.loads(errors[-1][0]) if errors else {"code": ""}
    return last["code"] in ("REFUSED", "TEMPORARY", "REJECTED", "APPROVAL_EXPIRED", "PRICE_TOO_HIGH")


@_promises("concepts/journal.md: the database is never damaged by a crash")
def store_is_whole(world: World) -> Iterable[str]:
    """The store passes SQLite's own check."""
    return [row[0] for row in world.rows("PRAGMA integrity_check") if row[0] != "ok"]


@_promises("guides/operating.md: the server starts after a crash, and nothing that callers do is answered 500")
def server_is_sound(world: World) -> Iterable[str]:
    """No start fails, no request is answered by a defect, no callback fails, and the log has no error."""
    lines = [json.loads(line) for line in world.server.log.getvalue().splitlines()]
    may_say = {_TOLD_OF_REORGS} if world.chain.counts["deep reorgs"] else set[str]()
    may_say |= _TOLD_OF_DISK if world.commits.counts else set()
    may_say |= _TOLD_OF_CUTS if world.server.counts["servers cut off"] else set()
    errors = [
        f"{line['event']} {line.get('error', '')} {line.get('exception', '')[-300:]}"
        for line in lines
        if line["level"] == "error" and line["event"] not in may_say
    ]
    return [*world.server.troubles, *world.loop.errors, *errors]


@_promises("guides/run-call.md: a run that was answered is on disk; a key starts one run")
def acknowledged_runs_exist(world: World) -> Iterable[str]:
    """Each call has exactly one run: the acknowledged one."""
    assert world.people is not None
    runs = _runs(world)
    by_tag = Counter(
        _body(run).get("tag")
        for run in runs.values()
        if run["workflow_name"] in ("call", "ask", "hurry", "loop", "lured", "calling", "pay")
    )
    for tag, run_id in world.people.told.runs.items():
        if run_id not in runs:
            yield f"the run {run_id} of {tag} is lost"
        own = 1 + sum(1 for run in runs.values() if run["workflow_name"] == "calling" and _body(run)["tag"] == tag)
        if by_tag[tag] not in (1, own):
            yield f"{by_tag[tag]} runs of {tag}"


@_promises("guides/webhooks.md: a delivery that was answered is stored, and a repeated one starts nothing")
def acknowledged_deliveries_ran_once(world: World) -> Iterable[str]:
    """Each delivery has at most one run; an acknowledged one has it."""
    assert world.people is not None
    by_tag = Counter(_body(run)["tag"] for run in _runs(world).values() if run["workflow_name"] == "hook")
    for tag in world.people.told.hooks | set(by_tag):
        if by_tag[tag] != 1:
            yield f"{by_tag[tag]} runs of {tag}"


@_promises("guides/schedules.md: with onMissed: all each fire has its run, once")
def schedule_fires_once_each(world: World) -> Iterable[str]:
    """One event for each time of the schedule, and one run for each event."""
    fires = "FROM trigger_events WHERE type = 'cronjob' AND run_id IS NOT NULL ORDER BY occurred_at"
    keys = [row[0] for row in world.rows(f"SELECT key {fires}")]
    times = [row[0] for row in world.rows(f"SELECT occurred_at {fires}")]
    wrong = [f"{key} fired twice" for key, count in Counter(keys).items() if count > 1]
    wrong += [
        f"no fire between {one} and {next}" for one, next in pairwise(times) if next - one != flows.CRON_EVERY_S * 1000
    ]
    end = EPOCH_MS + world.plan.hours * HOUR * 1000
    if times and end - times[-1] > flows.CRON_EVERY_S * 1000 + 60_000:
        wrong.append(f"the last fire was at {times[-1]}, the world ended at {end}")
    return wrong


@_promises("concepts/triggers.md: an event starts one run, and says which")
def every_event_has_one_run(world: World) -> Iterable[str]:
    """The run that an event names exists, and no two events name one."""
    runs = _runs(world)
    started = world.rows("SELECT id, run_id FROM trigger_events WHERE run_id IS NOT NULL")
    yield from (f"{event} names {run}, which does not exist" for event, run in started if run not in runs)
    yield from (
        f"{run} is named by {count} events" for run, count in Counter(run for _, run in started).items() if count > 1
    )


@_promises("concepts/uncertain.md: an effect happens once, or a person is asked")
def no_effect_twice(world: World) -> Iterable[str]:
    """The sink got each write at most once."""
    return [f"{count} times: {path}" for path, count in world.sink.posts.items() if count > 1]


@_promises("concepts/journal.md: what a run says happened has happened")
def reports_are_true(world: World) -> Iterable[str]:
    """A successful run wrote all that its workflow writes, and logged it once; nothing else was written."""
    logs: dict[int, list[str]] = {}
    for pk, data in world.rows("SELECT run_pk, data FROM events WHERE type = 'log' ORDER BY run_pk, seq"):
        logs.setdefault(pk, []).append(json.loads(data)["message"])
    for run in _runs(world).values():
        if run["status"] not in _ENDED:
            continue
        said, paths, kind = logs.get(run["pk"], []), _paths(world, run["id"]), run["workflow_name"]
        if (kind == "pay" and run["status"] == "failure" and _is_unpaid(world, run)) or kind.startswith("road: "):
            continue
        if run["status"] == "failure" and kind == "lured":
            continue
        if (run["status"] != "success") != (kind == "lured"):
            yield f"{run['id']} ({kind}) ended as {run['status']}"
        elif (kind == "call" and sorted(paths) != [f"call/{said[0].removeprefix('posted ')}/{run['id']}"]) or (
            kind in ("cron", "hook") and (len(paths) != 1 or said != [f"posted {kind}"])
        ):
            yield f"{run['id']} says {said}, and wrote {sorted(paths)}"
        elif kind == "loop":
            count = len(_body(run)["items"])
            if (
                sorted(said) != sorted([*(f"item {index}" for index in range(count)), f"{count} items"])
                or len(paths) != count
            ):
                yield f"{run['id']} of {count} items says {said}, and wrote {sorted(paths)}"


@_promises("guides/control-flow.md: one decision counts, and the run goes by it")
def decisions_count_once(world: World) -> Iterable[str]:
    """A question has the decision that was acknowledged, and only that branch wrote."""
    assert world.people is not None
    runs = _runs(world)
    for approval, run_id, status in world.rows("SELECT id, run_id, status FROM approvals WHERE binding IS NULL"):
        told = world.people.told.decisions.get(approval, set())
        if told - {status}:
            yield f"{approval} is {status}, but {sorted(told)} was acknowledged"
        wrote = {path.split("/")[0] for path in _paths(world, run_id)}
        ended = runs[run_id]["status"] in _ENDED
        if ended and status in ("approved", "rejected") and len(_paths(world, run_id)) != 1:
            yield f"{approval} is {status}, and its run wrote {sorted(wrote)}"
        if wrote - {{"approved": "yes", "rejected": "no"}.get(status, "")}:
            yield f"{approval} is {status}, and its run wrote {sorted(wrote)}"


@_promises("concepts/policy.md: what a policy asks about is approved by as many hands as it wants")
def enough_hands_approved(world: World) -> Iterable[str]:
    """What was signed above the policy's sum was approved by as many different keys as the policy wants."""
    much = "SELECT t.id, r.payload, a.status, a.votes FROM transactions t JOIN runs r ON r.pk = t.run_pk"
    for id, payload, status, votes in world.rows(
        f"{much} LEFT JOIN approvals a ON a.id = t.approval_id WHERE t.nonce IS NOT NULL"
    ):
        units, keys = int(_body({"payload": payload})["amount"]), {one["by"] for one in json.loads(votes or "[]")}
        hands = {"one hand" if key in world.facts.one_hand else key for key in keys}
        if units > flows.MUCH_UNITS and (status != "approved" or len(hands) < flows.HANDS):
            yield f"{id} of {units} is {status} by {sorted(hands)}"


@_promises("concepts/sources.md: a spend goes unasked only if every hand that shapes it may spend")
def nobody_else_spends(world: World) -> Iterable[str]:
    """After what shapes a spend was changed by who may not spend, nothing of it began or was paid unasked."""
    if world.attackers is None:
        return
    yield from world.attackers.seen.unasked
    balances = world.chain.head.balances
    if balances.get(roads.THIEF, 0):
        yield f"the thief has {balances[roads.THIEF]}"
    for road in roads.ROADS:
        has, began = balances.get(roads.shop_of(road), 0), world.attackers.seen.began.get(road, 0)
        if road != "four eyes of one key" and has > began:
            yield f"{road}: the shop has {has} of {began} runs that the owner began"


@_promises("concepts/journal.md: a run keeps the version that it began with, and its delays")
def runs_keep_their_version_and_delays(world: World) -> Iterable[str]:
    """What a run of the edited workflow wrote is of its own version, and not earlier than its delay says."""
    query = """SELECT r.id, r.payload, r.finished_at - r.started_at, v.definition FROM runs r JOIN workflow_versions v
        ON v.workflow_id = r.workflow_id AND v.version = r.version
        WHERE r.workflow_name = 'call' AND r.status = 'success'"""
    for run_id, payload, took, definition in world.rows(query):
        wrong = [path for path in _paths(world, run_id) if "/".join(path.split("/")[:2]) + "/" not in definition]
        yield from (f"{run_id} wrote {path}, which is not of its version" for path in wrong)
        if took < _body({"payload": payload})["delayMs"] - world.skew_ms:
            yield f"{run_id} ended {took} ms after its start"


@_promises("concepts/journal.md: a run ends, or says what it waits for")
def runs_end_or_say_why(world: World) -> Iterable[str]:
    """What is open at the end began shortly before, or waits for a time to come, a person, or a called run."""
    end = EPOCH_MS + world.plan.hours * HOUR * 1000
    asked = {row[0] for row in world.rows("SELECT run_pk FROM approvals WHERE status = 'pending'")}
    for run in _runs(world).values():
        if run["status"] in _ENDED or run["started_at"] > end - _LATE_MS or run["pk"] in asked:
            continue
        waits = world.rows(
            f"SELECT path, status, wake_at FROM executions WHERE run_pk = {run['pk']} AND finished_at IS NULL"
        )
        if not any(status == "uncertain" or (wake_at or 0) > end - _LATE_MS for _, status, wake_at in waits):
            yield f"{run['id']} ({run['workflow_name']}) is {run['status']} and waits for nothing: {waits}"


@_promises("concepts/transactions.md: nothing is paid twice, and a paid run says so")
def payments_arrive_once(world: World) -> Iterable[str]:
    """Each recipient has what its run paid, once; a run that succeeded has paid, one that was refused has not."""
    assert world.people is not None
    balances, runs = world.chain.head.balances, _runs(world)
    for tag, (recipient, units) in world.people.told.payments.items():
        has, run = balances.get(recipient, 0), runs.get(world.people.told.runs.get(tag, ""))
        if has not in (0, units):
            yield f"{tag} paid {has} instead of {units}"
        if run is not None and run["status"] == "success" and has != units:
            yield f"{run['id']} of {tag} succeeded, and its recipient has {has}"
        if run is not None and run["status"] in ("failure", "partial") and has:
            yield f"{run['id']} of {tag} ended as {run['status']}, and its recipient has {has}"


@_promises("concepts/transactions.md: the generation increases only when the previous one certainly failed")
def plans_follow_failures(world: World) -> Iterable[str]:
    """What a node plans to pay again was planned when its earlier plan had come to nothing, not beside it."""
    earlier = "later.root_run_id = t.root_run_id AND later.path = t.path AND later.item = t.item"
    query = f"""SELECT t.id, t.state, later.id FROM transactions t JOIN transactions later ON {earlier}
        AND later.generation > t.generation WHERE t.finished_at IS NULL OR t.finished_at > later.planned_at"""
    for id, state, later in world.rows(query):
        yield f"{later} was planned while {id} was under way, which is {state} now"


@_promises("concepts/transactions.md: the nonces of a sender are used one after another, each once")
def nonces_have_no_holes(world: World) -> Iterable[str]:
    """Transactions on disk have the nonces 0, 1, 2 …, as many as the chain counts."""
    nonces = [row[0] for row in world.rows("SELECT nonce FROM transactions WHERE nonce IS NOT NULL ORDER BY nonce")]
    on_chain = world.chain.head.nonces.get(flows.WALLET, 0)
    if nonces != list(range(len(nonces))) or len(nonces) != on_chain:
        yield f"nonces on disk are {nonces}, the chain has counted {on_chain}"


@_promises("concepts/reorgs.md: a transaction is final once its block has the confirmations that it was signed with")
def final_means_confirmed(world: World) -> Iterable[str]:
    """No transaction was called final before its block was so deep as it had to be."""
    columns = "id, confirmations, block_number, finished_at"
    for id, needs, number, at in world.rows(f"SELECT {columns} FROM transactions WHERE state IN ('final', 'reverted')"):
        has = world.chain.height_at((at + world.skew_ms - EPOCH_MS) / 1000) - number + 1
        if has < needs:
            yield f"{id} was final with {has} confirmations instead of {needs}"


@_promises("guides/chain-triggers.md: an event is told once its block has its confirmations")
def events_are_confirmed(world: World) -> Iterable[str]:
    """No event of a chain was recorded before so many blocks were upon its own as its trigger waits for."""
    query = "SELECT workflow_id, payload, received_at FROM trigger_events WHERE type = 'evm-transaction'"
    for workflow_id, payload, received_at in world.rows(query):
        body, needs = json.loads(payload), 1 if workflow_id == world.facts.workflows["soon"] else CONFIRMATIONS
        has = world.chain.height_at((received_at + world.skew_ms - EPOCH_MS) / 1000) - int(body["blockNumber"])
        if body["reorg"] != "retracted" and has < needs:
            yield f"{body['transactionHash']} was told with {has} confirmations instead of {needs}"


@_promises("guides/chain-triggers.md: every event starts one run, and a retraction is told once")
def chain_events_are_the_chain(world: World) -> Iterable[str]:
    """Of each payment to the watched address, what runs were told ends as the chain does."""
    chain = world.chain
    there = {one.hash for block in chain.branch for one in block.body if one.to == flows.WATCHED}
    for name in ("soon", "sure"):
        told: Counter[str] = Counter()
        query = "SELECT payload, run_id FROM trigger_events WHERE type = 'evm-transaction' AND workflow_id ="
        for payload, run_id in world.rows(f"{query} '{world.facts.workflows[name]}'"):
            body = json.loads(payload)
            told[body["transactionHash"]] += (-1 if body["reorg"] == "retracted" else 1) if run_id else 0
        for hash in sorted(there | set(told)):
            if told[hash] != (hash in there):
                yield f"{name}: {hash} was told {told[hash]} times; on the chain is {int(hash in there)}"


@_promises("concepts/transactions.md: the ledger is what the chain says")
def ledger_is_the_chain(world: World) -> Iterable[str]:
    """What the ledger says went out of the wallet, fees too, is what the chain says; what is not final, or has been for
    less than a minute, is neither's yet."""
    end = EPOCH_MS + world.plan.hours * HOUR * 1000
    late = f"SELECT id FROM transactions WHERE finished_at IS NULL OR finished_at > {end - _BOOKED_WITHIN_MS}"
    entries = world.rows(f"SELECT kind, units FROM ledger_entries WHERE transaction_id NOT IN ({late})")
    said = sum(int(units) for _, units in entries)
    hashes = [row[0] for row in world.rows(f"SELECT hash FROM transaction_attempts WHERE transaction_id IN ({late})")]
    gone = START_UNITS - world.chain.head.balances[flows.WALLET] - sum(world.chain.cost_of(hash) for hash in hashes)
    if abs(said) != gone:
        yield f"the ledger has {said}: {entries}, the chain {gone}"


@_promises("concepts/policy.md: limits hold under concurrency, restarts and retries")
def limits_hold(world: World) -> Iterable[str]:
    """In no window does the wallet plan to pay more than its policy allows, of what it signed."""
    planned = "SELECT t.planned_at, r.payload FROM transactions t JOIN runs r ON r.pk = t.run_pk"
    spends = sorted(
        (at, int(_body({"payload": payload})["amount"]))
        for at, payload in world.rows(f"{planned} WHERE t.nonce IS NOT NULL")
    )
    for place, (begin, _) in enumerate(spends):
        inside = sum(units for at, units in spends[place:] if at < begin + flows.LIMIT_WINDOW_MS - world.skew_ms)
        if inside > flows.LIMIT_UNITS:
            yield f"{inside} within an hour from {begin}, of {flows.LIMIT_UNITS}"


@_promises(
    "guides/streams.md: seq counts from 1 without gaps; a reconnect gets what follows, without duplicates or gaps"
)
def readers_see_one_story(world: World) -> Iterable[str]:
    """Each reader of a run's stream saw exactly the events on disk, in their order."""
    assert world.people is not None
    runs = _runs(world)
    for pk, count, least, most in world.rows("SELECT run_pk, count(*), min(seq), max(seq) FROM events GROUP BY run_pk"):
        if (least, most) != (1, count):
            yield f"events of run {pk}: {count} from {least} to {most}"
    for run_id, story in world.people.told.stories:
        if run_id in runs and runs[run_id]["status"] in _ENDED:
            stored = world.rows(f"SELECT seq, type, at FROM events WHERE run_pk = {runs[run_id]['pk']} ORDER BY seq")
            seen = [(seq, *_told_in(data)) for seq, data in story]
            if seen != stored:
                yield f"{run_id}: a reader saw {seen[-3:]} of {len(seen)}, on disk are {stored[-3:]} of {len(stored)}"


def _told_in(data: str) -> tuple[str, int]:
    """Type and time of an event as a reader got it."""
    told = json.loads(data)
    return told["type"], round(datetime.fromisoformat(told["at"]).timestamp() * 1000)


@_promises("concepts/secrets.md: a secret is in no row, log, event or answer")
def no_secret_leaks(world: World) -> Iterable[str]:
    """No key and no connector's secret in any file of the store, the log or an answer."""
    for secret in world.facts.secrets:
        raw = secret.encode()
        for path in sorted(world.server.data.rglob("*")):
            if path.is_file() and path.name != "owner.key" and raw in path.read_bytes():
                yield f"{secret[:10]}… is in {path.name}"
        if raw in world.server.log.getvalue().encode():
            yield f"{secret[:10]}… is in the log"
        if any(raw in answer for answer in world.server.answers):
            yield f"{secret[:10]}… is in an answer"
    uses_it = any(run["workflow_name"] == "loop" and run["status"] == "success" for run in _runs(world).values())
    if uses_it and f"Bearer {flows.SECRET}" not in world.sink.bearers:
        yield "the connector's secret did not reach the sink either"


@_promises("concepts/journal.md: the run's row agrees with its journal")
def rows_agree_with_the_journal(world: World) -> Iterable[str]:
    """`last_seq` and status of a run are those of its events; no attempt of an ended run is still running."""
    last = dict(world.rows("SELECT run_pk, max(seq) FROM events GROUP BY run_pk"))
    ends = {
        pk: json.loads(data)["status"]
        for pk, data in world.rows("SELECT run_pk, data FROM events WHERE type = 'run_finished'")
    }
    for run in _runs(world).values():
        if run["last_seq"] != last.get(run["pk"]):
            yield f"{run['id']}: last_seq is {run['last_seq']}, the newest event {last.get(run['pk'])}"
        if (run["status"] if run["status"] in _ENDED else None) != ends.get(run["pk"]):
            yield f"{run['id']} is {run['status']}, its last event says {ends.get(run['pk'])}"
    of_ended = "FROM executions e JOIN runs r ON r.pk = e.run_pk WHERE r.finished_at IS NOT NULL"
    still = world.rows(f"SELECT r.id, e.path {of_ended} AND e.status = 'running'")
    yield from (f"{run}: {path} still runs" for run, path in still)
