"""Reading RSS and Atom."""

from __future__ import annotations

import pytest

from dustrun.errors import Invalid
from dustrun.triggers.polled.rss import read_feed

RSS = b"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" "http://my.netscape.com/publish/formats/rss-0.91.dtd">
<rss version="2.0"><channel><title>News</title><link>/home</link>
<item><guid>n2</guid><title>Second &amp; last</title><link>posts/2</link><description>&lt;b&gt;x&lt;/b&gt;</description>
<pubDate>Tue, 03 Feb 2026 10:00:00 +0100</pubDate><category>a</category>
<enclosure url="/f.mp3" type="audio/mpeg" length="1"/></item>
<item><guid isPermaLink="false">n1</guid><title>First</title><link>javascript:alert(1)</link>
<pubDate>Mon, 02 Feb 2026 10:00:00 GMT</pubDate></item>
</channel></rss>"""

ATOM = b"""<?xml version="1.0" encoding="ISO-8859-1"?><feed xmlns="http://www.w3.org/2005/Atom"><title>F\xe4den</title>
<entry><id>urn:1</id><title>one</title><updated>2026-02-01T00:00:00Z</updated><content type="html">&lt;p&gt;hi</content>
<author><name>Ann</name></author></entry>
<entry><id>urn:0</id><title>zero</title><updated>2026-01-01T00:00:00Z</updated></entry></feed>"""


def test_rss_is_read_oldest_first() -> None:
    feed, items = read_feed(RSS, "https://example.com/feed/all.xml")
    assert feed == {"title": "News", "link": "https://example.com/home"}
    assert [key for key, _ in items] == ["n1", "n2"]
    assert items[0][1]["link"] is None
    assert items[1][1] == {
        "id": "n2",
        "title": "Second & last",
        "link": "https://example.com/feed/posts/2",
        "summary": "<b>x</b>",
        "content": None,
        "author": None,
        "published": "2026-02-03T09:00:00.000Z",
        "updated": None,
        "categories": ["a"],
        "enclosures": [{"url": "https://example.com/f.mp3", "type": "audio/mpeg"}],
    }


def test_atom_is_read_in_its_own_encoding() -> None:
    feed, items = read_feed(ATOM, "https://example.com/")
    assert feed["title"] == "Fäden"
    assert [(key, item["author"], item["content"], item["updated"]) for key, item in items] == [
        ("urn:0", None, None, "2026-01-01T00:00:00.000Z"),
        ("urn:1", "Ann", "<p>hi", "2026-02-01T00:00:00.000Z"),
    ]


def test_items_without_a_date_run_in_reverse_and_are_known_by_what_they_have() -> None:
    text = (
        b"<rss version='2.0'><channel><item><title>b</title><link>http://e.com/b</link></item>"
        b"<item><title>a</title></item></channel></rss>"
    )
    _, items = read_feed(text, "http://e.com/")
    assert [item["title"] for _, item in items] == ["a", "b"]
    assert items[0][0].startswith("sha256:")
    assert items[1][0] == "http://e.com/b"


BOMB = (
    b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b"<rss version='2.0'><channel><title>&b;</title></channel></rss>"
)
FILE = (
    b'<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    b"<rss version='2.0'><channel><title>&a;</title></channel></rss>"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "declares XML entities"),
        (FILE, "declares XML entities"),
        (b"<rss><channel>", "not well-formed XML"),
        (b"http://127.0.0.1/feed", "not well-formed XML"),
        (b"/etc/passwd", "not well-formed XML"),
        (b"", "not well-formed XML"),
        (b'<?xml version="1.0" encoding="no-such"?><rss/>', "not well-formed XML"),
        (b"<html><body>hello</body></html>", "not an RSS or Atom feed"),
        (b'{"items": []}', "not well-formed XML"),
    ],
)
def test_what_is_no_feed_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        read_feed(text, "https://example.com/")


def test_texts_are_cut() -> None:
    text = b"<rss version='2.0'><channel><item><guid>%s</guid><description>%s</description></item></channel></rss>"
    ((key, item),) = read_feed(text % (b"g" * 5000, b"d" * 50_000), "https://example.com/")[1]
    assert (len(key), len(item["summary"])) == (2000, 20_000)
