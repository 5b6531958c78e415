from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.actions.data.parse_xml import parse_xml
from dustrun.core.values import exact_json
from dustrun.errors import Invalid
from dustrun.sdk.testing import perform


async def run(text: str, **payload: Any) -> dict[str, Any]:
    return await perform(parse_xml, {"text": text, **payload})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<a/>", None),
        ("<a> 1.10 </a>", "1.10"),
        ("<a x='1'/>", {"@x": "1"}),
        ("<a x='1'>t</a>", {"@x": "1", "#text": "t"}),
        ("<a><b>1</b><c/></a>", {"b": "1", "c": None}),
        ("<a><b>1</b><b>2</b></a>", {"b": ["1", "2"]}),
        ("<a>one<b/>two</a>", {"b": None, "#text": "onetwo"}),
        ("<a><![CDATA[<b>&]]></a>", "<b>&"),
        ("<a><!-- no --><?no no?><b>&lt;&#233;</b></a>", {"b": "<é"}),
        ("<n:a xmlns:n='urn:x' n:k='1'><n:b>1</n:b></n:a>", {"@k": "1", "b": "1"}),
        ("<?xml version='1.0' encoding='utf-16'?><a>é</a>", "é"),
        ("\ufeff<a>1</a>", "1"),
    ],
)
async def test_an_element_becomes_a_value(text: str, value: Any) -> None:
    assert await run(text) == {"root": "a", "value": value}


async def test_named_elements_are_always_lists() -> None:
    assert (await run("<a><b/></a>", lists=["b"]))["value"] == {"b": [None]}
    assert (await run("<a><b/><b>1</b></a>", lists=["b"]))["value"] == {"b": [None, "1"]}


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE a><a/>",
        '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        '<!DOCTYPE a SYSTEM "http://example.com/a.dtd"><a/>',
        '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><a>&b;</a>',
    ],
)
async def test_a_document_type_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="has a DTD or entities"):
        await run(text)


@pytest.mark.parametrize("text", ["", "a", "<a>", "<a></b>", "<a>&x;</a>", "<a/><b/>", "<a \0/>", "<a x='1' x='2'/>"])
async def test_what_is_no_xml_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="It is not valid XML: "):
        await run(text)


async def test_depth_has_a_limit_that_json_can_hold() -> None:
    deep = "<a>" * 46 + "<b/><b/>" + "</a>" * 46
    with pytest.raises(Invalid, match="is nested deeper than 45 levels"):
        await run(deep)
    with pytest.raises(Invalid, match="is nested deeper than 45 levels"):
        await run("<a>" * 100_000 + "</a>" * 100_000)
    found = await run("<a>" * 45 + "<b/><b/>" + "</a>" * 45, lists=["a"])
    assert exact_json.loads(exact_json.dumps({"result": found})) == {"result": found}


@given(st.text("<>/ab='\"&;! -", max_size=30))
async def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        await run(f"<a>{text}</a>")
    except Invalid:
        return
