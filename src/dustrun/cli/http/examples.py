"""Examples for each command's help. Tests parse every one of them."""

from __future__ import annotations

import inspect
import re

import typer

_ID = "01m8brt9hae4de3w6f0w3c1rmr"
OF: dict[str, tuple[str, ...]] = {
    "": (
        "dustrun serve",
        "dustrun workflow create hello.json --name Hello",
        "dustrun run Hello --simulate",
        "dustrun doctor",
    ),
    "serve": (
        "dustrun serve --port 9000 --data-dir /var/lib/dustrun",
        "dustrun serve --database-url postgresql://user:password@host/name",
    ),
    "run": (
        """dustrun run Hello --payload '{"name": "Ada"}'""",
        "dustrun run hello.json --payload @payload.json --simulate",
        "dustrun run Hello --detach --run-id run_order-17",
    ),
    "chat ask": (
        """dustrun chat ask "Which workflows failed last night, and why?\"""",
        f'dustrun chat ask --workflow wf_{_ID} "Pay the invoices of this table"',
    ),
    "chat list": ("dustrun chat list",),
    "chat show": (f"dustrun chat show conv_{_ID}",),
    "chat stop": (f"dustrun chat stop conv_{_ID}",),
    "action run": (
        """dustrun action run log --inputs '{"message": "hello"}'""",
        f"dustrun action run send-native --inputs @inputs.json --connector wal_{_ID} --dust",
    ),
    "action test": ("dustrun action test send-native --inputs @inputs.json",),
    "catalog import": (
        "dustrun catalog import https://api.example.com/openapi.json --name shop",
        "dustrun catalog import shop.yaml --server-url https://shop.example.com --read shop.search-orders",
    ),
    "catalog add": (
        "dustrun catalog add github",
        "dustrun catalog add jira --server-url https://example.atlassian.net",
    ),
    "catalog services": ("dustrun catalog services issues",),
    "catalog service": ("dustrun catalog service github",),
    "catalog renew": ("dustrun catalog renew shop",),
    "catalog list": ("dustrun catalog list",),
    "catalog show": ("dustrun catalog show shop",),
    "catalog search": ("dustrun catalog search list orders --api shop",),
    "catalog delete": ("dustrun catalog delete shop",),
    "backtest": (
        "dustrun backtest Refill --from 2026-01-01T00:00:00Z",
        "dustrun backtest Refill --from-block 21000000",
    ),
    "mcp": ("dustrun mcp --server http://127.0.0.1:8080",),
    "apply": ("dustrun apply workflows --dry-run", "dustrun apply workflows --prune --yes"),
    "audit list": (
        "dustrun audit list --by me",
        "dustrun audit list --action key.revoke --since 2026-01-01T00:00:00Z",
    ),
    "audit export": (
        "dustrun audit export --out audit.jsonl",
        "dustrun audit export --out audit.jsonl --continue",
        "dustrun audit export --out audit.jsonl --continue --syslog tls://logs.example.com:6514",
    ),
    "audit verify": (
        "dustrun audit verify audit.jsonl",
        "dustrun audit verify audit.jsonl --public-key 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    ),
    "audit keys": ("dustrun audit keys",),
    "backup": ("dustrun backup dustrun.backup",),
    "restore": (
        "dustrun restore dustrun.backup --data-dir elsewhere",
        "dustrun restore dustrun.backup --database-url postgresql://user:password@host/name",
    ),
    "moved": ("dustrun moved --data-dir /var/lib/dustrun",),
    "update check": ("dustrun update check releases.json", "dustrun update check /media/usb/releases.json --json"),
    "doctor": (
        "dustrun doctor",
        "dustrun doctor --data-dir /var/lib/dustrun",
        "dustrun doctor --offline --json",
    ),
    "new-action": ("dustrun new-action convert-temperature --family data",),
    "new-package": ("dustrun new-package acme-shop", "dustrun new-package acme-shop --into packages --no-test"),
    "hooks list": ("dustrun hooks list",),
    "hooks create": (
        "dustrun hooks create Alerts https://hooks.example.com/dustrun --event run.failed",
        "dustrun hooks create Ledger https://ledger.example.com/in --event 'transaction.*' --mode live",
    ),
    "hooks show": (f"dustrun hooks show hook_{_ID}",),
    "hooks enable": (f"dustrun hooks enable hook_{_ID}",),
    "hooks disable": (f"dustrun hooks disable hook_{_ID}",),
    "hooks rotate-secret": (f"dustrun hooks rotate-secret hook_{_ID} --overlap-hours 48",),
    "hooks delete": (f"dustrun hooks delete hook_{_ID}",),
    "hooks test": (f"dustrun hooks test hook_{_ID}",),
    "hooks deliveries": ("dustrun hooks deliveries --status failure", "dustrun hooks deliveries --run run_order-17"),
    "hooks retry": (f"dustrun hooks retry dlv_{_ID}",),
    "hooks replay": (f"dustrun hooks replay dlv_{_ID}",),
    "template list": ("dustrun template list", "dustrun template list price --category money"),
    "template show": ("dustrun template show sweep",),
    "template use": (
        "dustrun template use sweep --set send.recipient=0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "dustrun template use take-profit --name 'Take profit, my way' --keep-examples",
    ),
    "workflow place": (f"dustrun workflow place wf_{_ID} --folder payroll/europe --tag monthly",),
    "workflow list": (
        "dustrun workflow list --status active",
        "dustrun workflow list invoices --json",
        "dustrun workflow list --runs --sort name:asc",
    ),
    "workflow get": ("dustrun workflow get Hello",),
    "workflow create": ("dustrun workflow create hello.json --name Hello",),
    "workflow update": (
        "dustrun workflow update Hello hello.json",
        "dustrun workflow update Hello hello.json --expected-version 3",
    ),
    "workflow delete": ("dustrun workflow delete Hello",),
    "workflow validate": ("dustrun workflow validate hello.json",),
    "workflow publish": ("dustrun workflow publish Hello", "dustrun workflow publish Hello --expected-version 3"),
    "workflow pause": ("dustrun workflow pause Hello",),
    "workflow resume": ("dustrun workflow resume Hello",),
    "workflow schedule": ("dustrun workflow schedule Hello", "dustrun workflow schedule Hello --json"),
    "workflow export": ("dustrun workflow export Hello --to hello.yaml",),
    "workflow import": (
        f"dustrun workflow import hello.yaml --bind connector-1=conn_{_ID}",
        "dustrun workflow import hello.yaml --name 'Hello again'",
    ),
    "workflow ladder": ("dustrun workflow ladder Hello", "dustrun workflow ladder Hello --json"),
    "workflow accept": ("dustrun workflow accept Hello --version 3",),
    "workflow withdraw-acceptance": ("dustrun workflow withdraw-acceptance Hello --version 3",),
    "workflow sources": ("dustrun workflow sources Hello", "dustrun workflow sources Hello pay --version 3"),
    "workflow diff": ("dustrun workflow diff Hello", "dustrun workflow diff Hello 3 --against 1"),
    "webhook list": ("dustrun webhook list Hello",),
    "webhook rotate": ("dustrun webhook rotate Hello --overlap 3600",),
    "webhook revoke": ("dustrun webhook revoke Hello --node order",),
    "webhook events": ("dustrun webhook events Hello",),
    "webhook replay": (f"dustrun webhook replay evt_{_ID}",),
    "forms list": ("dustrun forms list Hello",),
    "forms create": (
        "dustrun forms create Hello --max-runs 20 --days 7",
        "dustrun forms create Hello --mode live --title 'Ask for a payout' --json",
    ),
    "forms revoke": (f"dustrun forms revoke Hello frm_{_ID}",),
    "triggers list": ("dustrun triggers list Hello",),
    "triggers events": ("dustrun triggers events", "dustrun triggers events Hello --outcome skipped --json"),
    "triggers show": (f"dustrun triggers show evt_{_ID}",),
    "triggers replay": (f"dustrun triggers replay evt_{_ID}", f"dustrun triggers replay evt_{_ID} --ignore-limits"),
    "triggers replay-all": (
        "dustrun triggers replay-all Hello --reason paused",
        "dustrun triggers replay-all Hello --reason paused --go",
    ),
    "triggers gaps": ("dustrun triggers gaps Hello", f"dustrun triggers gaps Hello --replay gap_{_ID}"),
    "triggers rehearsal": ("dustrun triggers rehearsal Hello", "dustrun triggers rehearsal Hello --json"),
    "triggers test": (
        """dustrun triggers test cronjob --config '{"schedule": "0 9 * * *"}'""",
        "dustrun triggers test erc20-receive --config @trigger.json --json",
    ),
    "triggers go-live": ("dustrun triggers go-live Hello", "dustrun triggers go-live Hello --node root"),
    "runs list": (
        "dustrun runs list --workflow Hello --status failure",
        "dustrun runs list --mode live --json",
        "dustrun runs list timeout --since 2026-01-30T00:00:00Z --until 2026-01-31T00:00:00Z",
    ),
    "runs get": (f"dustrun runs get run_{_ID}",),
    "runs effects": (f"dustrun runs effects run_{_ID}", "dustrun runs effects run_simulated run_dust run_live"),
    "runs why": (f"dustrun runs why run_{_ID}", f"dustrun runs why run_{_ID} pay"),
    "runs compare": ("dustrun runs compare run_simulated run_live",),
    "runs cancel": (f"dustrun runs cancel run_{_ID}",),
    "runs retry": (f"dustrun runs retry run_{_ID}",),
    "runs resolve": (
        f"""dustrun runs resolve run_{_ID} notify --happened --result '{{"id": "n-17"}}'""",
        f"dustrun runs resolve run_{_ID} each[3].notify --not-happened",
    ),
    "runs watch": (f"dustrun runs watch run_{_ID}",),
    "approvals list": ("dustrun approvals list", "dustrun approvals list --status rejected"),
    "approvals show": (f"dustrun approvals show apr_{_ID}",),
    "approvals approve": (f"dustrun approvals approve apr_{_ID} --comment 'As agreed'",),
    "approvals reject": (f"dustrun approvals reject apr_{_ID}",),
    "connector list": ("dustrun connector list --type http-bearer",),
    "connector create": ("dustrun connector create http-bearer Orders --host api.example.com --data secret.json",),
    "connector show": ("dustrun connector show Orders",),
    "connector update": ("dustrun connector update Orders --data secret.json",),
    "connector delete": ("dustrun connector delete Orders",),
    "connector test": ("dustrun connector test Orders",),
    "connector connect": ("dustrun connector connect Sheets", "dustrun connector connect Sheets --no-browser"),
    "connector tools": ("dustrun connector tools Files", "dustrun connector tools Files --read read_text_file"),
    "vault rotate": ("dustrun vault rotate", "dustrun vault rotate --master"),
    "vault reset": ("dustrun vault reset", "dustrun vault reset --give-up-what-is-lost"),
    "wallet create": (
        "dustrun wallet create treasury",
        "dustrun wallet create exchange --watch --address 0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    ),
    "wallet import": ("dustrun wallet import hot", "dustrun wallet import old --keystore UTC--2024.json"),
    "wallet list": ("dustrun wallet list",),
    "wallet show": ("dustrun wallet show treasury",),
    "wallet rename": ("dustrun wallet rename treasury vault",),
    "wallet default": ("dustrun wallet default treasury",),
    "wallet export": ("dustrun wallet export treasury --to treasury.json",),
    "wallet archive": ("dustrun wallet archive old",),
    "wallet policy": (
        "dustrun wallet policy treasury > policy.json",
        "dustrun wallet policy treasury --set policy.json",
        "dustrun wallet policy treasury --history",
    ),
    "wallet balances": ("dustrun wallet balances treasury --chains 1,8453",),
    "wallet allowances": ("dustrun wallet allowances treasury",),
    "wallet revoke": (
        "dustrun wallet revoke treasury --chain 1 --unlimited",
        "dustrun wallet revoke treasury --chain 1 --spender 0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D",
    ),
    "wallet spending": ("dustrun wallet spending treasury",),
    "contract list": ("dustrun contract list --chain 1",),
    "contract set": ("dustrun contract set 1 0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D 'Swap router' --kind router",),
    "contract remove": ("dustrun contract remove 1 0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D",),
    "ledger list": ("dustrun ledger list --wallet treasury --from 2026-01-01T00:00:00Z",),
    "ledger export": (
        "dustrun ledger export --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z --to-file january.csv",
        "dustrun ledger export --format jsonl --wallet treasury",
    ),
    "tx list": ("dustrun tx list --status sent --wallet treasury",),
    "tx show": (f"dustrun tx show tx_{_ID}",),
    "tx speed-up": (f"dustrun tx speed-up tx_{_ID} --max-fee 90000000000",),
    "tx cancel": (f"dustrun tx cancel tx_{_ID}",),
    "tx release": ("dustrun tx release treasury --chain 1",),
    "chain list": ("dustrun chain list",),
    "chain show": ("dustrun chain show base",),
    "chain check": ("dustrun chain check ethereum",),
    "keys list": ("dustrun keys list",),
    "keys create": (
        "dustrun keys create shop -p workflow:execute -p run:stream --workflow Hello",
        "dustrun keys create dashboard --scope read",
    ),
    "keys rotate": (f"dustrun keys rotate key_{_ID} --grace 3600",),
    "service-accounts list": ("dustrun service-accounts list",),
    "service-accounts create": (
        "dustrun service-accounts create shop -p workflow:execute -p run:read",
        f"dustrun service-accounts create reports --role viewer --owner per_{_ID}",
    ),
    "service-accounts show": (f"dustrun service-accounts show svc_{_ID}",),
    "service-accounts update": (f"dustrun service-accounts update svc_{_ID} --owner per_{_ID}",),
    "service-accounts disable": (f"dustrun service-accounts disable svc_{_ID}",),
    "service-accounts enable": (f"dustrun service-accounts enable svc_{_ID}",),
    "service-accounts delete": (f"dustrun service-accounts delete svc_{_ID}",),
    "keys show": (f"dustrun keys show key_{_ID}",),
    "keys revoke": (f"dustrun keys revoke key_{_ID}",),
    "people list": ("dustrun people list",),
    "people invite": (
        'dustrun people invite ada@example.com --name "Ada" -p workflow:read -p run:read -p approval:decide',
    ),
    "people link": (f"dustrun people link per_{_ID}",),
    "people show": (f"dustrun people show per_{_ID}",),
    "people give": (f"dustrun people give per_{_ID} key_{_ID}",),
    "people deactivate": (f"dustrun people deactivate per_{_ID}",),
    "people activate": (f"dustrun people activate per_{_ID}",),
    "people sessions": (f"dustrun people sessions per_{_ID}",),
    "people end-session": (f"dustrun people end-session web_{'0' * 26}",),
    "people remove-passkeys": (f"dustrun people remove-passkeys per_{_ID}",),
    "people set-role": (f"dustrun people set-role per_{_ID} spender",),
    "people roles": ("dustrun people roles",),
    "people add-role": ("dustrun people add-role bookkeeper -p run:read -p transaction:read",),
    "people delete-role": ("dustrun people delete-role bookkeeper",),
    "people rescue": ("dustrun people rescue", f"dustrun people rescue --organization org_{_ID} --file rescue.key"),
    "people sign-out": (f"dustrun people sign-out per_{_ID}",),
    "keys requests": (f"dustrun keys requests --of key_{_ID}",),
    "organization quotas": ("dustrun organization quotas",),
    "organization show": ("dustrun organization show",),
    "organization update": (
        "dustrun organization update --single-person-approves",
        "dustrun organization update --retention-days 90",
    ),
}


def put(app: typer.Typer, words: str = "") -> None:
    """Adds the examples to each command's help and joins its docstring's lines, so that the terminal wraps them."""
    if not words:
        app.info.epilog = _example_of("")
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        command.help = _flowing(inspect.getdoc(command.callback) or "")
        command.epilog = _example_of(f"{words} {name}".strip())
    for group in app.registered_groups:
        if group.typer_instance is not None:
            put(group.typer_instance, f"{words} {group.name}".strip())


def _example_of(words: str) -> str | None:
    shown = [line.replace("[", r"\[") for line in OF.get(words, ())]
    return "\n\n".join(["For example:", *shown]) if shown else None


def _flowing(text: str) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text)
