from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from dustrun.actions.data.html_extract import html_extract
from dustrun.errors import Code, Invalid
from dustrun.sdk import Effect
from dustrun.sdk.testing import perform

PAGE = """<!DOCTYPE html>
<html><head><title>Rates &amp; fees</title>
<script type="application/ld+json">{"@type": "Offer", "price": 1999.95}</script>
<style>td { color: red }</style></head>
<body>
<!-- <td class="usd">0</td> -->
<table id="rates">
  <tr><th>Pair<th>USD
  <tr class="row"><td>ETH <i>ether</i><td class="usd" data-id="7">2,000.10
  <tr class="row"><td>DAI<td class="usd" title="a &quot;stable&quot; coin">1.00
</table>
<p>First paragraph<p>Second <a HREF="/more?a=1&amp;b=2">more</a>
<input disabled value=""><svg><path d="M0"/></svg>
</body></html>"""


async def extract(**payload: Any) -> dict[str, Any]:
    return await perform(html_extract, {"html": PAGE, **payload})


@pytest.mark.parametrize(
    ("payload", "values"),
    [
        ({"selector": "title"}, ["Rates & fees"]),
        ({"selector": "td.usd"}, ["2,000.10", "1.00"]),
        ({"selector": "tr.row"}, ["ETH ether 2,000.10", "DAI 1.00"]),
        ({"selector": "tr:nth-child(2) td"}, ["ETH ether", "2,000.10"]),
        ({"selector": "tr:has(td.usd) td:not(.usd)"}, ["ETH ether", "DAI"]),
        ({"selector": "#rates > tbody > tr > th"}, ["Pair", "USD"]),
        ({"selector": "p"}, ["First paragraph", "Second more"]),
        ({"selector": "td.usd", "take": "attribute", "attribute": "data-id"}, ["7", None]),
        ({"selector": "td[title]", "take": "attribute", "attribute": "TITLE"}, ['a "stable" coin']),
        ({"selector": "a", "take": "attribute", "attribute": "href"}, ["/more?a=1&b=2"]),
        ({"selector": "input", "take": "attribute", "attribute": "disabled"}, [""]),
        ({"selector": "a", "take": "html"}, ['<a href="/more?a=1&amp;b=2">more</a>']),
        ({"selector": 'script[type="application/ld+json"]'}, ['{"@type": "Offer", "price": 1999.95}']),
        ({"selector": "style, svg"}, []),
    ],
)
async def test_selector_finds(payload: dict[str, Any], values: list[str | None]) -> None:
    result = await extract(operation="all", **payload)
    first = values[0] if values else None
    assert result == {"found": bool(values), "value": first, "values": values, "count": len(values)}


async def test_first_takes_one_and_lists_none() -> None:
    assert await extract(selector="td.usd") == {"found": True, "value": "2,000.10", "values": [], "count": 1}


async def test_white_space_is_kept_when_asked() -> None:
    html = "<pre>a  b\n c</pre>"
    assert (await extract(html=html, selector="pre", collapse=False))["value"] == "a  b\n c"
    assert (await extract(html=html, selector="pre"))["value"] == "a b c"


async def test_scripts_are_no_part_of_the_text_around_them() -> None:
    html = "<div>before<script>if (a<b) {}</script>after</div>"
    assert (await extract(html=html, selector="div"))["value"] == "beforeafter"
    assert (await extract(html=html, selector="script"))["value"] == "if (a\\u003cb) {}"


async def test_no_such_element_fails_or_gives_null() -> None:
    with pytest.raises(Invalid, match=r'The page has no "td\.eur"') as caught:
        await extract(selector="td.eur")
    assert caught.value.code is Code.ACTION_INPUT_INVALID
    assert [detail["field"] for detail in caught.value.public_details()] == ["payload.html"]
    nothing: dict[str, Any] = {"found": False, "value": None, "values": [], "count": 0}
    assert await extract(selector="td.eur", onMissing="null") == nothing
    assert await extract(selector="td.eur", operation="all") == nothing


async def test_more_elements_than_allowed_fail() -> None:
    with pytest.raises(Invalid, match="more than 2 such elements"):
        await extract(html="<i>x</i>" * 3, selector="i", operation="all", maxMatches=2)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"selector": "td["}, '"td\\[" is not a CSS selector'),
        ({"selector": "td:contains('x')"}, "is not a CSS selector"),
        ({"selector": ""}, "at least 1 character"),
        ({"selector": "a" * 201}, "at most 200 characters"),
        ({"selector": "div:has(p):has(a)"}, "may be used once"),
        ({"selector": "div:has(p:nth-child(2))"}, "may be used once"),
        ({"selector": "div:has(div p)"}, "one simple selector"),
        ({"selector": "div:has(:not(p))"}, "one simple selector"),
        ({"selector": "div:\\has(div p)"}, "a backslash may only escape punctuation,"),
        ({"selector": ":h\\61s(div p)"}, "a backslash may only escape punctuation,"),
        ({"selector": "a", "take": "attribute"}, "requires `attribute`; other"),
        ({"selector": "a", "attribute": "href"}, "of `take` do not allow it"),
        ({"selector": "a", "html": "x" * 1_048_577}, "at most 1048576 characters"),
    ],
)
async def test_input_that_makes_no_sense_is_refused(payload: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        await extract(**payload)


async def test_classes_with_signs_can_be_escaped() -> None:
    assert (await extract(html='<b class="md:flex">x</b>', selector=".md\\:flex"))["value"] == "x"


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 200_000,
        pytest.param("<div><select></div></select>" * 30_000, marks=pytest.mark.long),
        "<p>" + "".join(f"<b a={i}>" for i in range(250)) + "<p>x" * 50_000,
        pytest.param("".join(f"<p><b a={i}></p>" for i in range(30_000)), marks=pytest.mark.long),
        pytest.param("<" * 400_000, marks=pytest.mark.long),
        pytest.param("<a" * 200_000 + '"', marks=pytest.mark.long),
        pytest.param("<!--" * 100_000, marks=pytest.mark.long),
        pytest.param("<svg><style><div></style></svg>" * 20_000, marks=pytest.mark.long),
        "<i>x</i>" * 49_000,
    ],
)
async def test_page_made_to_be_slow_is_read_or_refused_soon(html: str) -> None:
    begun = time.process_time()
    for selector in ("div div p", "i:nth-last-of-type(3)", "p:has(~ b)"):
        try:
            await extract(html=html, selector=selector, operation="all")
        except Invalid as error:
            assert "is nested deeper" in error.message or "elements" in error.message  # noqa: PT017
    assert time.process_time() - begun < 20  # each of them took minutes before pages were tidied


def test_it_is_pure() -> None:
    assert html_extract.effect is Effect.PURE
