"""What people see of effects and comparisons: within 100 columns, by names and short addresses, in dollars."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from dustrun.cli.render import comparison, output, report, wording

ME, SHOP, ROUTER = (f"0x{byte * 20}" for byte in ("A1", "b2", "c3"))
WETH, USDC = (f"eip155:1/erc20:0x{byte * 20}" for byte in ("d4", "e5"))
Json = dict[str, Any]


def shown(lines: Any, width: int = 100) -> list[str]:
    """The lines as a terminal of that width has them, without space at their ends."""
    console = Console(width=width, file=io.StringIO(), highlight=False, soft_wrap=True)
    output.draw(lines, console)
    assert isinstance(console.file, io.StringIO)
    found = console.file.getvalue().splitlines()
    assert max(map(len, found)) <= width
    return [line.rstrip() for line in found]


def amount(units: int, formatted: str, asset: str, symbol: str, usd: str | None) -> Json:
    """An amount as the API gives it."""
    return {"asset": asset, "amount": str(units), "amountFormatted": formatted, "symbol": symbol, "usd": usd}


def effects(**fields: Any) -> Json:
    """A simulation that swaps, with something of everything."""
    sold = amount(10**17, "0.1", WETH, "WETH", "250.000000")
    fee = amount(178715151895176, "0.000178715151895176", "eip155:1/native", "ETH", "0.446788")
    swap = {
        "path": "sell",
        "item": "swap",
        "about": f"Swap 0.1 WETH for at least 200 USDC for {SHOP}",
        "status": "simulated",
        "movements": [{"kind": "send", "counterparty": ROUTER, **sold}],
        "feeUsd": "0.446788",
        "hash": None,
    }
    return {
        "runId": "run_1",
        "workflowName": "Take profit",
        "workflowVersion": 3,
        "mode": "simulate",
        "status": "success",
        "passed": False,
        "notPassed": [
            {"code": "ASSUMED", "path": "sell", "message": 'What it spends is assumed. Pin a result of "ask".'}
        ],
        "chains": [{"chainId": 1, "name": "Ethereum", "simulatedOn": {"blockNumber": 21, "strategy": "simulate-v1"}}],
        "transactions": [{**swap, "assumed": True}],
        "balanceChanges": [
            {"address": SHOP, **amount(249, "249.00", USDC, "USDC", "249.000000")},
            {"address": ME, **amount(-(10**17), "-0.1", WETH, "WETH", "-250.000000")},
        ],
        "approvals": [{"owner": ME, "spender": ROUTER, **amount(2**256 - 1, "1157…", WETH, "WETH", None)}],
        "totalFees": [{"address": ME, **fee}],
        "policyVerdicts": [{"path": "sell", "outcome": "ask", "reasons": [{"message": f"{SHOP} is new."}]}],
        "requests": [{"path": "tell", "sent": False, "request": {"method": "POST", "url": "https://x.example/"}}],
        "assumed": [{"path": "ask", "why": "not sent: the result is the action's example", "dependsOn": []}],
        "warnings": [{"path": "sell", "message": f"{ROUTER} may spend any amount of WETH."}],
        "names": {
            ME: {"name": "treasury", "kind": "wallet"},
            ROUTER: {"name": "Uniswap V2 router", "kind": "contract"},
        },
        **fields,
    }


def test_effects_at_a_glance() -> None:
    assert shown(report.draw(effects())) == [
        "Simulation run_1 of Take profit, version 3: success, not passed",
        "Simulated at block 21 of Ethereum (simulate-v1). Nothing was signed or sent.",
        "",
        "Transactions, in order",
        "   node  what it does                                                  worth    fee  if it were sent",
        "1  sell  Swap 0.1 WETH for at least 200 USDC for 0xb2b2…b2b2 (on     $250.00  $0.45  would succeed",
        "         assumed values)",
        "",
        "Balance changes (without network fees)",
        "who                                       change     worth",
        "treasury 0xA1A1…A1A1 (your wallet)     -0.1 WETH  -$250.00",
        "0xb2b2…b2b2                         +249.00 USDC   $249.00",
        "",
        "Network fees",
        "  treasury pays 0.00017871515… ETH ($0.45)",
        "",
        "Still approved",
        "  Uniswap V2 router 0xc3c3…c3c3 may take any amount of WETH from treasury",
        "",
        "Policy",
        "  sell: needs a person's approval: 0xb2b2…b2b2 is new.",
        "",
        "Would be sent",
        "  tell: POST https://x.example/",
        "",
        "Assumed",
        "  ask: not sent: the result is the action's example",
        "",
        "Warnings",
        "  sell: Uniswap V2 router may spend any amount of WETH.",
        "",
        "Not passed because",
        '  sell: What it spends is assumed. Pin a result of "ask".',
    ]


def test_a_transaction_that_failed_says_why() -> None:
    failed = {**effects()["transactions"][0], "status": "reverted", "revert": {"text": "STF (no allowance)"}}
    lines = shown(report.draw(effects(transactions=[failed])))
    assert "would revert: STF" in " ".join(lines)
    sent = {**failed, "hash": f"0x{'ab' * 32}"}
    assert "reverted: STF (no allowance)" in " ".join(
        shown(report.draw(effects(mode="live", transactions=[sent])), 140)
    )


def test_a_comparison_shows_money_before_details() -> None:
    def difference(kind: str, what: str, left: str, right: str, change: str | None = None) -> Json:
        return {"path": "sell", "kind": kind, "shown": {"what": what, "left": left, "right": right, "change": change}}

    details = [difference("detail", f"result field{n}", "1", "2") for n in range(9)]
    money = difference("money", f"balance of {ME}", "249 USDC", "230 USDC", "-19 USDC")
    taken = difference("course", "branch taken", "then", "else")
    run = {"mode": "simulate", "id": "run_1", "status": "success", "startedAt": "2026-11-26T10:00:00.000Z"}
    found = {
        "left": run,
        "right": {**run, "mode": "live", "id": "run_2"},
        "differences": [*details, money, taken],
        "estimates": [
            {
                "path": "sell",
                "item": "swap",
                "gasUsed": {"left": 98404, "right": 87988},
                "fee": {"left": "9", "right": "8"},
                "feeUsd": {"left": "0.25", "right": None},
            }
        ],
        "notes": [{"code": "NOT_MEASURED", "path": "sell", "message": "Balances were not compared: gone."}],
        "names": effects()["names"],
    }
    lines = shown(comparison.draw(found))
    assert lines[:3] == [
        "Differs: 11 differences.",
        "  simulation run_1: success, 2026-11-26 10:00:00",
        "  live run run_2: success, 2026-11-26 10:00:00",
    ]
    cells = [line.split() for line in lines]
    assert ["sell", "branch", "taken", "then", "else"] in cells
    assert ["balance", "of", "treasury", "249", "USDC", "230", "USDC", "-19", "USDC"] in cells
    assert ["and", "5", "more;", "--json", "shows", "all"] in cells
    assert ["sell", "swap", "98404", "87988", "$0.25", "8", "base", "units"] in cells
    assert lines[-1] == "  sell: Balances were not compared: gone."
    same = comparison.draw({**found, "differences": []})
    assert shown(same)[0] == "Same, as far as the runs could be compared: see below."
    assert shown(comparison.draw({**found, "differences": [], "notes": []}))[0].startswith(
        "Same: both runs did exactly the same"
    )


def test_amounts_and_names() -> None:
    assert wording.shorten("0.000178715151895176") == "0.00017871515…"
    assert wording.shorten("123456.123456789") == "123456.12345678…"
    assert wording.shorten("-0.1") == "-0.1"
    assert [wording.usd(text) for text in ("1234567.891", "-0.5", "0.00901", "0", "0.0000001")] == [
        "$1,234,567.89",
        "-$0.50",
        "$0.00901",
        "$0",
        "less than $0.000001",
    ]
    names = wording.Names({ME: {"name": "treasury", "kind": "wallet"}})
    assert names.inside(f"{ME} pays {SHOP} in {WETH}") == "treasury pays 0xb2b2…b2b2 in 0xd4d4…d4d4"
    piece = {"asset": f"eip155:1/erc721:{SHOP}/7", "amount": "1", "amountFormatted": "1", "symbol": "NFT"}
    assert wording.amount(piece) == "1 NFT #7"
