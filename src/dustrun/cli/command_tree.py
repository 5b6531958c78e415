"""All subcommands of `dustrun`."""

from __future__ import annotations

from dustrun.cli.command_root import make_root
from dustrun.cli.commands import (
    actions,
    approvals,
    assistants,
    catalog,
    chain,
    connector,
    hooks,
    keys,
    new_package,
    runs,
    serve,
    triggers,
    wallet,
    workflow,
)
from dustrun.cli.commands.access import audit, organization, people, service_accounts
from dustrun.cli.commands.inbound import forms, webhook
from dustrun.cli.commands.store import backup, update, vault
from dustrun.cli.commands.templates import template
from dustrun.cli.commands.transactions import contract, ledger, tx
from dustrun.cli.doctor import command
from dustrun.cli.http import examples

app = make_root()
app.command("serve")(serve.serve)
app.command("run")(runs.run)
app.command("backtest")(triggers.backtest)
app.command("mcp")(assistants.mcp)
app.command("apply")(workflow.apply)
app.add_typer(assistants.app, name="chat")
app.add_typer(template.app, name="template")
app.add_typer(workflow.app, name="workflow")
app.add_typer(runs.app, name="runs")
app.add_typer(actions.app, name="action")
app.add_typer(triggers.app, name="triggers")
app.add_typer(approvals.app, name="approvals")
app.add_typer(webhook.app, name="webhook")
app.add_typer(forms.app, name="forms")
app.add_typer(connector.app, name="connector")
app.add_typer(catalog.app, name="catalog")
app.add_typer(hooks.app, name="hooks")
app.add_typer(vault.app, name="vault")
app.add_typer(wallet.app, name="wallet")
app.add_typer(tx.app, name="tx")
app.add_typer(ledger.app, name="ledger")
app.add_typer(contract.app, name="contract")
app.add_typer(chain.app, name="chain")
app.add_typer(keys.app, name="keys")
app.add_typer(people.app, name="people")
app.add_typer(audit.app, name="audit")
app.add_typer(service_accounts.app, name="service-accounts")
app.add_typer(organization.app, name="organization")
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("moved")(backup.moved)
app.add_typer(update.app, name="update")
app.command("doctor")(command.doctor)
app.command("new-action")(actions.new_action)
app.command("new-package")(new_package.new_package)
examples.put(app)
