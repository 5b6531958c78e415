"""Parses XML text into objects.

An element becomes an object: attributes under `@name`, its text under `#text`, child elements under their names, as a
list where a name occurs more than once. An element with only text becomes that text, an empty one null. List the
elements that may occur once or many times in `lists`: they always become lists, so that one result has the same shape
as two. All values are texts. Namespace prefixes are dropped: `{uri}name` becomes `name`.

Documents with a DTD or entities are rejected: they can expand without bound or read local files.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from dustrun.actions.data.items import refuse
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.threads import run_in_thread

_MOST_CHARS: Final = 1_048_576
_MOST_LEVELS: Final = 45  # each level may be an object in a list, so this stays below the nesting limit of stored JSON


class Input(Fields):
    """The document."""

    text: str = Field(max_length=_MOST_CHARS, description="The XML document.")
    lists: list[str] = Field([], description="Names of elements that always become a list.")


class Output(Fields):
    """The parsed document."""

    root: str = Field(description="The name of the root element.")
    value: Any = Field(description="The content of the root element.")


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"text": '<rates day="1"><rate for="USD">1.08</rate></rates>', "lists": ["rate"]},
    example_output={"root": "rates", "value": {"@day": "1", "rate": [{"@for": "USD", "#text": "1.08"}]}},
    idempotent=True,
    tags=("text", "xml"),
)
async def parse_xml(input: Input, ctx: Context) -> Output:
    """Parses without external access or entity expansion."""
    return await run_in_thread(lambda _: _parse(input), len(input.text))


def _parse(input: Input) -> Output:
    from xml.etree.ElementTree import ParseError  # slow import

    from defusedxml import DefusedXmlException, ElementTree  # type: ignore[import-untyped]

    try:
        root = ElementTree.fromstring(input.text.removeprefix("\ufeff"), forbid_dtd=True)
    except DefusedXmlException:
        raise refuse("The document has a DTD or entities, which are not supported", "text") from None
    except (ParseError, ValueError) as error:
        raise refuse(f"It is not valid XML: {error}", "text") from None
    return Output(root=_name(root.tag), value=_value(root, frozenset(input.lists), 0))


def _name(tag: str) -> str:
    return tag.rpartition("}")[2]


def _value(element: Any, lists: frozenset[str], level: int) -> Any:
    if level > _MOST_LEVELS:
        raise refuse(f"The document is nested deeper than {_MOST_LEVELS} levels", "text")
    found: dict[str, Any] = {f"@{_name(name)}": value for name, value in element.attrib.items()}
    for child in element:
        _add(found, _name(child.tag), _value(child, lists, level + 1), lists)
    text = "".join([element.text or "", *(child.tail or "" for child in element)]).strip()
    if not found:
        return text or None
    return {**found, "#text": text} if text else found


def _add(found: dict[str, Any], name: str, value: Any, lists: frozenset[str]) -> None:
    """Values are strings, objects or null, so an existing list means that the name occurred before."""
    if name not in found:
        found[name] = [value] if name in lists else value
    elif isinstance(found[name], list):
        found[name].append(value)
    else:
        found[name] = [found[name], value]
