"""Reports of several runs as one table: lines that belong together, dashes where a run has none, sums, warnings."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from dustrun.cli.render.side_by_side import WIDTH, draw

DEMO, SHOP, POOL, ROUTER = (f"0x{digit * 40}" for digit in "1234")
USDC, WETH = (f"eip155:1/erc20:0x{digit * 40}" for digit in "ab")
NAMES = {DEMO: "demo", SHOP: "shop", POOL: "pool"}


def of(units: int, formatted: str | None, asset: str = USDC, usd: str | None = None) -> dict[str, Any]:
    shown: dict[str, Any] = {"asset": asset, "amount": str(units), "symbol": "USDC" if asset == USDC else "WETH"}
    return shown | ({} if formatted is None else {"amountFormatted": formatted}) | {"usd": usd}


def change(address: str, *amount: Any) -> dict[str, Any]:
    return {"address": address, **of(*amount)}


def transaction(path: str, item: str, status: str = "final", **more: Any) -> dict[str, Any]:
    return {"path": path, "item": item, "status": status, "from": DEMO, "to": SHOP, "movements": [], **more}


def paid(units: int, formatted: str, usd: str, **more: Any) -> dict[str, Any]:
    loss = change(DEMO, -units, f"-{formatted}", USDC, f"-{usd}")
    gain = change(SHOP, units, formatted, USDC, usd)
    return transaction("share", "send", balanceChanges=[loss, gain], **more)


def drawn(*reports: dict[str, Any], width: int = WIDTH) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(*draw(reports, NAMES), sep="\n")
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().rstrip("\n").split("\n"))


def test_three_runs_stand_beside_each_other() -> None:
    fee = {"address": DEMO, **of(1, "0.1", WETH, "0.823")}
    request = {"path": "tell", "request": {"method": "POST", "url": "https://example.com/x?key=1"}}
    allowed = {"path": "share", "outcome": "allow"}
    simulated = {
        "mode": "simulate",
        "status": "success",
        "transactions": [paid(62_354_503, "62.354503", "62.354503", status="simulated")],
        "requests": [{**request, "sent": False}],
        "assumed": [{"path": "tell", "why": "not sent"}],
        "policyVerdicts": [allowed],
        "totalFees": [fee],
    }
    dust = {
        "mode": "dust",
        "status": "success",
        "transactions": [paid(1993, "0.001993", "0.001993")],
        "requests": [{**request, "sent": True}],
        "policyVerdicts": [allowed, allowed],
        "totalFees": [fee, fee],
        "warnings": [{"path": "tell", "code": "X", "message": "It went out as it is."}],
        "approvals": [{"owner": DEMO, "spender": POOL, **of(5, "5", WETH)}],
    }
    live = {"mode": "live", "status": "failure", "policyVerdicts": [{"path": "share", "outcome": "deny"}]}
    assert drawn(simulated, dust, live) == (
        """\
                          simulated             dust, about a cent    live
node                      success               success               failure
─────────────────────────────────────────────────────────────────────────────────
share  demo → shop  USDC  62.354503     $62.35  0.001993   $0.001993  –
tell   POST example.com   would send, assumed   sent                  –
─────────────────────────────────────────────────────────────────────────────────
       network fees       $0.82                 $1.65                 –
       remains approved   –                     pool may take 5 WETH  –
       was not sent       1 transaction, tell   –                     –
       was assumed        tell                  –                     –
       warnings           –                     tell                  –
       policy             1 allowed             2 allowed             1 denied
Warning (dust): tell: It went out as it is."""
    )


def test_what_is_measured_has_its_real_parties_and_what_is_not_those_that_were_asked_for() -> None:
    swap = [
        change(DEMO, -10, "-10", WETH, "-20"),
        change(POOL, 10, "10", WETH, "20"),
        change(POOL, -19, "-19", USDC, "-19"),
        change(DEMO, 19, "19", USDC, "19"),
    ]
    asked = [{"kind": "send", "counterparty": ROUTER, **of(10, "10", WETH, "20")}]
    text = drawn(
        {"mode": "simulate", "transactions": [transaction("sell", "swap", movements=asked, balanceChanges=swap)]},
        {"mode": "live", "transactions": [transaction("sell", "swap", movements=asked, balanceChanges=[])]},
    )
    assert [line.split() for line in text.splitlines()[2:5]] == [
        ["sell", "demo", "→", "pool", "WETH", "10", "$20.00", "–"],
        ["pool", "→", "demo", "USDC", "19", "$19.00", "–"],
        ["demo", "→", "0x4444…4444", "WETH", "–", "10", "$20.00"],
    ]


def test_a_token_that_keeps_a_part_is_told_account_by_account() -> None:
    changes = [change(DEMO, -100, "-100"), change(SHOP, 97, "97")]
    text = drawn({"mode": "live", "transactions": [transaction("pay", "send", balanceChanges=changes)]})
    assert [line.split() for line in text.splitlines()[2:4]] == [
        ["pay", "demo", "gives", "USDC", "100"],
        ["shop", "gets", "USDC", "97"],
    ]


def test_one_who_pays_several_has_a_line_for_each() -> None:
    changes = [change(DEMO, -30, "-30"), change(SHOP, 10, "10"), change(POOL, 20, "20")]
    text = drawn({"mode": "live", "transactions": [transaction("pay", "send", balanceChanges=changes)]})
    assert [line.split() for line in text.splitlines()[2:4]] == [
        ["pay", "demo", "→", "shop", "USDC", "10"],
        ["demo", "→", "pool", "USDC", "20"],
    ]


def test_the_same_payment_twice_in_one_run_has_two_lines() -> None:
    once, twice = [paid(5, "5", "5")], [paid(5, "5", "5"), paid(6, "6", "6")]
    text = drawn({"mode": "dust", "transactions": once}, {"mode": "live", "transactions": twice})
    assert [line.split() for line in text.splitlines()[2:4]] == [
        ["share", "demo", "→", "shop", "USDC", "5", "$5.00", "5", "$5.00"],
        ["demo", "→", "shop", "USDC", "–", "6", "$6.00"],
    ]


@pytest.mark.parametrize(
    ("status", "told"),
    [("rejected", "would be rejected"), ("reverted", "reverted"), ("sent", "sent"), ("refused", "refused")],
)
def test_a_transaction_that_did_not_come_through_says_so_instead_of_an_amount(status: str, told: str) -> None:
    asked = [{"kind": "send", "counterparty": SHOP, **of(10, "10", WETH, "20")}]
    text = drawn(
        {"mode": "live", "transactions": [transaction("pay", "send", status, movements=asked)]},
        {"mode": "live", "transactions": [transaction("pay", "send", "final", movements=asked)]},
        {"mode": "live", "transactions": [transaction("pay", "call", status)]},
    )
    assert [" ".join(line.split()) for line in text.splitlines()[2:4]] == [
        f"pay demo → shop WETH {told} 10 $20.00 –",
        f"call – – {told}",
    ]


def test_what_is_uncertain_is_named() -> None:
    text = drawn({"mode": "live", "uncertain": ["pay"]}, {"mode": "live"})
    assert [line.split() for line in text.splitlines() if "uncertain" in line] == [["is", "uncertain", "pay", "–"]]


def test_writes_and_called_workflows_are_told() -> None:
    report = {
        "mode": "simulate",
        "variableWrites": [{"path": "keep", "written": False}],
        "tableWrites": [{"path": "note", "written": True}],
        "children": [{"path": "call", "status": "success"}],
    }
    assert [line.split() for line in drawn(report).splitlines()[2:5]] == [
        ["keep", "writes", "a", "variable", "not", "written"],
        ["note", "writes", "to", "a", "table", "written"],
        ["call", "calls", "a", "workflow", "success"],
    ]


@pytest.mark.parametrize(
    ("formatted", "shown"),
    [
        ("311.772519", "311.772519"),
        ("311.7725191", "311.77251…"),
        ("0.000003197525585351", "0.0000031…"),
        ("0.000000000003197525", "≈3.20e-12"),
        ("123456789012", "≈1.23e+11"),
    ],
)
def test_long_amounts_are_cut_and_marked(formatted: str, shown: str) -> None:
    change_of = [change(DEMO, -1, f"-{formatted}"), change(SHOP, 1, formatted)]
    text = drawn({"mode": "live", "transactions": [transaction("pay", "send", balanceChanges=change_of)]})
    assert text.splitlines()[2].split()[-1] == shown


def test_a_narrow_terminal_folds_and_loses_nothing() -> None:
    report = {"mode": "live", "status": "success", "transactions": [paid(62_354_503, "62.354503", "62.354503")]}
    text = drawn(report, report, report, width=72)
    assert text.count("62.354503") == 3
    assert text.count("$62.35") == 3
    assert max(len(line) for line in text.splitlines()) <= 72
