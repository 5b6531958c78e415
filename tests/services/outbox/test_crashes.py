"""The outbox is killed between any two of its steps; after the restart everything is paid exactly once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dustrun.services.outbox.outbox import Transactions
from outbox import ANYTHING, Outbox, address, open_outbox, transfer
from testkit.chain.anvil import CHAIN_ID, Anvil

STEPS = (
    "planned",
    "signed",
    "committed",
    "sending",
    "sent",
    "noted",
    "mining",
    "mined",
    "finishing",
    "replacing",
    "replaced",
)
_PAYMENTS = 6
_LOOKS = 600
_LEFT_S = 0.7


class Killed(BaseException):
    """As if the process had ended here."""


class Crash:
    """Kills the outbox at the n-th passage of a step; afterwards nothing of it moves."""

    def __init__(self, step: str, passage: int) -> None:
        self.seen: Counter[str] = Counter()
        self.is_over = False
        self._step = step
        self._passage = passage

    def __call__(self, step: str) -> None:
        self.seen[step] += 1
        if self.is_over or (step == self._step and self.seen[step] == self._passage):
            self.is_over = True
            raise Killed


async def _end(revived: Transactions) -> None:
    """What a killed process leaves: nothing runs."""
    revived.trackers._is_stopped = True
    for task in [*revived.trackers._tasks.values(), *(queue._task for queue in revived._queues.values())]:
        if task is not None:
            task.cancel()
            try:  # a group of tasks tells of it in a group, which contextlib.suppress takes from Python 3.12 on
                await task
            except* (Killed, asyncio.CancelledError):
                pass


def no_block() -> None:
    """What is to be replaced is not mined."""


async def _pay(outbox: Outbox, number: int, crash: Crash) -> None:
    """Until it is on its way, or nobody is left to send it."""
    paying = asyncio.create_task(outbox.pay(f"pay[{number}]", transfer(address(number), 5)))
    while not (paying.done() or crash.is_over):
        await asyncio.sleep(0.01)
    await asyncio.wait([paying], timeout=_LEFT_S)
    paying.cancel()
    with contextlib.suppress(Killed, asyncio.CancelledError):
        await paying


async def _pay_all(outbox: Outbox, crash: Crash, *, at_once: bool) -> None:
    """At once they share one batch of their queue, else each has its own."""
    if at_once:
        await asyncio.gather(*(_pay(outbox, number, crash) for number in range(_PAYMENTS)))
        return
    for number in range(_PAYMENTS):
        await _pay(outbox, number, crash)


async def _until_killed(crash: Crash, step: str, mine: Callable[[], object]) -> None:
    for _ in range(_LOOKS):
        if crash.is_over:
            return
        mine()
        await asyncio.sleep(0.1)
    raise AssertionError(f"{step} was passed {crash.seen[step]} times only")


@pytest.mark.parametrize(("step", "passage"), [(step, (1, 3)[place % 2]) for place, step in enumerate(STEPS)])
async def test_killed_at_any_step_pays_exactly_once(tmp_path: Path, node: Anvil, step: str, passage: int) -> None:
    async with open_outbox(tmp_path, node, transaction_stuck_s=0.3) as outbox:
        await outbox.outbox.stop()
        crash = Crash(step, passage)
        revived = outbox.reborn(crash)
        await _pay_all(outbox, crash, at_once=passage == 1)
        await _until_killed(crash, step, no_block if step in ("replacing", "replaced") else node.mine)
        await _end(revived)
        await outbox.reborn().start()
        await asyncio.gather(
            *(outbox.pay(f"pay[{number}]", transfer(address(number), 5)) for number in range(_PAYMENTS))
        )
        for number in range(_PAYMENTS):
            async with asyncio.timeout(60):
                while (await outbox.status(f"pay[{number}]")).status != "settled":
                    node.mine()
                    await asyncio.sleep(0.05)
        assert {outbox.balance(address(number)) for number in range(_PAYMENTS)} == {5}
        assert outbox.nonce() == _PAYMENTS


_LIMIT = {"asset": f"eip155:{CHAIN_ID}/native", "maxUnits": "37", "windowMs": 3_600_000}
_MANY, _FIT = 50, 7
_PASSAGES = dict.fromkeys(STEPS[:9], 1) | {"planned": 20, "signed": 2, "sending": 3, "sent": 2, "noted": 3}


_OF_A_CHANGE = ("signed", "sent", "mined")
"""One before a payment is stored, one while it is on its way and one when its limit is settled."""


@pytest.mark.parametrize(
    ("step", "passage"),
    [
        pytest.param(step, passage, marks=() if step in _OF_A_CHANGE else pytest.mark.long)
        for step, passage in _PASSAGES.items()
    ],
)
async def test_a_limit_holds_to_the_unit_wherever_it_is_killed(
    tmp_path: Path, node: Anvil, step: str, passage: int
) -> None:
    """Fifty spends of 5 against a limit of 37: seven succeed, over a restart of the outbox."""
    async with open_outbox(tmp_path, node, transaction_stuck_s=60) as outbox:
        path = f"/v1/wallets/{outbox.wallet_id}/policy"
        await outbox.composition.owner.put(path, {"policy": {**ANYTHING, "limits": [_LIMIT]}})
        await outbox.outbox.stop()
        crash = Crash(step, passage)
        revived = outbox.reborn(crash)
        # the first is signed alone: all at once may be signed together, and then nobody passes that step twice
        paying = [asyncio.create_task(_pay(outbox, 0, crash))]
        while not (crash.is_over or crash.seen["signed"] or paying[0].done()):
            await asyncio.sleep(0.01)
        paying += [asyncio.create_task(_pay(outbox, number, crash)) for number in range(1, _MANY)]
        await _until_killed(crash, step, node.mine)
        await asyncio.gather(*paying)
        await _end(revived)
        await outbox.reborn().start()
        statuses = [await outbox.pay(f"pay[{number}]", transfer(address(number), 5)) for number in range(_MANY)]
        for number, status in enumerate(statuses):
            while status.status == "open":
                node.mine()
                await asyncio.sleep(0.05)
                status = await outbox.status(f"pay[{number}]")
            statuses[number] = status
        assert Counter(status.status for status in statuses) == {"settled": _FIT, "failed": _MANY - _FIT}
        assert {status.failure.code for status in statuses if status.failure is not None} == {"REFUSED"}
        paid = [outbox.balance(address(number)) for number in range(_MANY)]
        assert Counter(paid) == {5: _FIT, 0: _MANY - _FIT}
        assert outbox.nonce() == _FIT
