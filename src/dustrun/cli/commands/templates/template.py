"""`dustrun template`: workflows that come with the server, to start from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dustrun.cli.http.client import segment
from dustrun.cli.http.options import SERVER, AsJson, Key, Server, client_of, read_texts
from dustrun.cli.render import output
from dustrun.cli.render.tables import table

app = typer.Typer(no_args_is_help=True, help="Workflows that come with the server, to start from.")
_MOST = 60
Template = Annotated[str, typer.Argument(metavar="TEMPLATE", help="Id of the template.")]


@app.command("list")
def list_templates(
    q: Annotated[str | None, typer.Argument(metavar="[WORDS]", help="Only templates with all of these words.")] = None,
    category: Annotated[str | None, typer.Option("--category", help="money, watch, people, data or start.")] = None,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """List the templates."""
    found: list[dict[str, Any]] = client_of(server, key).get("/v1/templates", q=q, category=category)
    if as_json:
        output.write_json(found)
    else:
        table(
            ["template", "category", "starts by", "nodes", "name"],
            [[one["id"], one["category"], one["triggerType"], one["nodeCount"], one["name"]] for one in found],
        )


@app.command()
def show(template: Template, as_json: AsJson = False, server: Server = SERVER, key: Key = None) -> None:
    """Show what a template does, and its blanks."""
    found: dict[str, Any] = client_of(server, key).get(f"/v1/templates/{segment(template)}")
    if as_json:
        return output.write_json(found)
    output.say(f"{found['name']}: {found['description']}")
    rows = [
        [one["name"], one["kind"], "needed" if one["isRequired"] else "", one["example"][:_MOST], one["about"] or ""]
        for one in found["blanks"]
    ]
    table(["blank", "kind", "", "in the template", "about"], rows)


@app.command()
def use(
    template: Template,
    name: Annotated[str | None, typer.Option("--name", help="Name of the new workflow.")] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="BLANK=VALUE", help="Fills a blank; dustrun template show lists them. Repeatable."
        ),
    ] = None,
    keep_examples: Annotated[
        bool, typer.Option("--keep-examples", help="Keep the template's examples in blanks without a value.")
    ] = False,
    as_json: AsJson = False,
    server: Server = SERVER,
    key: Key = None,
) -> None:
    """Create a draft workflow from a template.

    A blank that needs a value and has none is refused by its name."""
    body: dict[str, Any] = {"values": read_texts("set", values or []), "keepExamples": keep_examples}
    body |= {"name": name} if name else {}
    found = client_of(server, key).post(f"/v1/templates/{segment(template)}/use", body)
    if as_json:
        output.write_json(found)
    else:
        output.say(f"{found['id']}  {found['name']}")
        output.note(f"Try it: dustrun run {found['id']} --simulate")
