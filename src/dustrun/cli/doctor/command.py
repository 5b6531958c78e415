"""`dustrun doctor`: checks what commonly goes wrong and says how to fix it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dustrun.cli.http.failures import Exit
from dustrun.cli.http.options import SERVER, AsJson, Key, Server
from dustrun.cli.render import output

if TYPE_CHECKING:
    from dustrun.cli.doctor.finding import Finding

_SIGNS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "bad": ("✗", "red")}


def doctor(
    offline: Annotated[
        bool, typer.Option("--offline", help="Check only this machine, without asking a server.")
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Data folder of the server.", show_default="data")
    ] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Check the installation and the server; exit status 1 if a check fails."""
    from dustrun.cli.doctor import checkups  # slow import

    findings = checkups.local(data_dir)
    if not offline:
        address, secret = checkups.server_of_folder(server, key, data_dir)
        remote_findings = checkups.remote(address, secret)
        findings += [*remote_findings, *checkups.provider()]
        if all(finding.state != "bad" for finding in remote_findings):
            findings += checkups.chains(address, secret)
    if as_json:
        output.write_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _show(finding)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(Exit.FAILURE)


def _show(finding: Finding) -> None:
    from rich.text import Text  # slow import

    sign, style = _SIGNS[finding.state]
    line = Text().append(f"{sign} ", style=style).append(finding.name, style="bold").append(f"  {finding.says}")
    output.console().print(line)
    if finding.mend:
        output.console().print(Text(f"    {finding.mend}", style="dim"))
