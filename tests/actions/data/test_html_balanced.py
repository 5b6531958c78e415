"""Tidied pages: what they hold is still there, and a parser of the standard finds no more in them than is written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from dustrun.actions.data.html_extract import MOST_LEVELS, TooDeep, balance


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("<ul><li>a<li>b</ul>", "<ul><li>a</li><li>b</li></ul>"),
        ("<ul><li><ul><li>a</ul><li>b</ul>", "<ul><li><ul><li>a</li></ul></li><li>b</li></ul>"),
        ("<p>a<p>b<div>c", "<p>a</p><p>b</p><div>c</div>"),
        ("<dl><dt>a<dd>b<dt>c</dl>", "<dl><dt>a</dt><dd>b</dd><dt>c</dt></dl>"),
        ("<select><option>a<option>b</select>", "<select><option>a</option><option>b</option></select>"),
        (
            "<table><tr><td>a<td>b<tr><td>c</table>",
            "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>",
        ),
        ("<div><table><tr><td></div>a</table>", "<div><table><tr><td>a</td></tr></table></div>"),
        ("<b><div>a</b>b</div>c</b>d", "<b><div>ab</div>c</b>d"),
        ("<b>a<i>b</b>c</i>", "<b>a<i>b</i></b>c"),
        ("<div><ul><li>a</div>b", "<div><ul><li>a</li></ul></div>b"),
        ("<table><tr><td><b>a</tr><td>b</table>", "<table><tr><td><b>a</b></td></tr><td>b</td></table>"),
        ("</p>a</div>", "a"),
        ("<IMG SRC=a.png ALT>a<br/>b", '<img src="a.png" alt="">a<br>b'),
        ("<a href=x?a=1&amp;b title='\"'>l</a", '<a href="x?a=1&amp;b" title="&quot;">l</a>'),
        ('<a href="x"">a</a>', '<a href="x">a</a>'),
        ("<p don't>a</p>", "<p>a</p>"),
        ("<a x=1 x=2>a", '<a x="1">a</a>'),
        ("1 < 2 && 3 > 2 &lt;i>", "1 &lt; 2 &amp;&amp; 3 &gt; 2 &lt;i&gt;"),
        ("a<!-- <b> -->c<!DOCTYPE html><?php x ?>d", "acd"),
        ("<style>a<b></style>c<svg><path/></svg>", "c<path></path>"),
        ("<script>'<b>' < 1</script>c", "<script>'\\u003cb>' < 1</script>c"),
        ("<textarea><b></textarea>c", "<textarea>&lt;b&gt;</textarea>c"),
        ("a<div class='x", "a"),
        ("a<script>b", "a<script>b</script>"),
    ],
)
def test_page_is_closed_and_nothing_else(source: str, written: str) -> None:
    assert balance(source)[0] == written


def test_elements_are_counted() -> None:
    assert balance("<p>a<br>b<p>c")[1] == 3


def test_blocks_are_set_apart_when_asked() -> None:
    assert (
        balance("<tr><td>1<td>2</tr><b>x</b>", separate_blocks=True)[0] == "<tr><td>1</td>\n<td>2</td>\n</tr>\n<b>x</b>"
    )


def test_nesting_ends_at_the_limit() -> None:
    assert balance("<div>" * MOST_LEVELS)[1] == MOST_LEVELS
    with pytest.raises(TooDeep):
        balance("<div>" * (MOST_LEVELS + 1))


def test_formatting_does_not_pile_up() -> None:
    written, count = balance("<font>" * 1000 + "x")
    assert (count, written.count("x")) == (8, 1)


NAMES = [
    "div",
    "p",
    "b",
    "i",
    "a",
    "table",
    "tr",
    "td",
    "select",
    "svg",
    "math",
    "style",
    "script",
    "title",
    "li",
    "ul",
]
pieces = st.sampled_from(
    [
        *(f"<{name}>" for name in [*NAMES, "template"]),
        *(f"</{name}>" for name in [*NAMES, "template"]),
        *("<!--", "-->", "text", "<", ">", '"', "'", "<b a=1 ", "/", "=", "&lt;", "<![CDATA[", "]]>", "<br>", "\\"),
    ]
)


@given(st.lists(pieces, max_size=40).map("".join) | st.text(max_size=60))
def test_parser_finds_what_was_written_and_no_deeper(source: str) -> None:
    written, count = balance(source)
    tree = LexborHTMLParser(written)
    assert tree.root is not None
    found = tree.css("*")
    # html, head, body; a tbody and a tr around what lies in a table; open formatting, again in each block
    assert len(found) <= 3 + 12 * count
    opened, closed = re.findall(r"<[a-z]", written), re.findall(r"</[a-z]", written)
    assert len(opened) >= len(closed)


@given(st.lists(pieces, max_size=20).map("".join) | st.text(max_size=60))
def test_tidying_again_changes_nothing_but_scripts(source: str) -> None:
    once = balance(source.replace("script", "span").replace("textarea", "span"))[0]
    assert balance(once)[0] == once
