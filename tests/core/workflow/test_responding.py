"""What the answer of a workflow may contain."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from dustrun.core.workflow.responding import RespondPayload, encoded_body


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({}, (200, "application/json", b"")),
        ({"body": {"a": [1, True, None]}}, (200, "application/json", b'{"a":[1,true,null]}')),
        ({"body": "hello"}, (200, "text/plain; charset=utf-8", b"hello")),
        ({"body": "hello", "contentType": "application/json"}, (200, "application/json", b'"hello"')),
        ({"body": "<p>", "contentType": "text/html"}, (200, "text/html; charset=utf-8", b"<p>")),
        ({"body": {"a": 1}, "contentType": "application/problem+json"}, (200, "application/problem+json", b'{"a":1}')),
        ({"body": "a;b", "contentType": 'text/csv; header="present"'}, None),
        ({"body": 9007199254740993}, (200, "application/json", b'"9007199254740993"')),
        ({"status": 204}, (204, "application/json", b"")),
        ({"status": 599, "body": ""}, (599, "text/plain; charset=utf-8", b"")),
    ],
)
def test_answer(payload: dict[str, Any], expected: tuple[int, str, bytes] | None) -> None:
    found = RespondPayload.model_validate(payload)
    if expected is not None:
        assert (found.status, found.media_type, encoded_body(found.body, found.media_type)) == expected


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ({"status": 199}, "greater than or equal to 200"),
        ({"status": 600}, "less than or equal to 599"),
        ({"status": 204, "body": {}}, "has no body"),
        ({"status": 304, "body": "x"}, "has no body"),
        ({"headers": {"Set-Cookie": "a=b"}}, "set no cookies"),
        ({"headers": {"content-type": "text/html"}}, "as `contentType`"),
        ({"headers": {"Connection": "close"}}, "concerns the connection"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "concerns the connection"),
        ({"headers": {"Content-Length": "3"}}, "only the server sets it"),
        ({"headers": {"Content-Security-Policy": ""}}, "only the server sets it"),
        ({"headers": {"X-Content-Type-Options": ""}}, "only the server sets it"),
        ({"headers": {"X-Request-ID": "a"}}, "only the server sets it"),
        ({"headers": {"Access-Control-Allow-Origin": "*"}}, "only the server sets it"),
        ({"headers": {"WWW-Authenticate": "Basic"}}, "only the server sets it"),
        ({"headers": {"x y": "a"}}, "no name of a header"),
        ({"headers": {"": "a"}}, "no name of a header"),
        ({"headers": {"X-A": "a\r\nSet-Cookie: b=c"}}, "printable ASCII"),
        ({"headers": {"X-A": "ä"}}, "printable ASCII"),
        ({"headers": {"X-A": "a" * 4097}}, "printable ASCII"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "the same name"),
        ({"headers": {f"x-{i}": "1" for i in range(51)}}, "at most 50"),
        ({"contentType": "text"}, "is no content type"),
        ({"contentType": "text/plain\r\nx: y"}, "is no content type"),
        ({"contentType": "text/javascript"}, "would execute it"),
        ({"contentType": "application/ECMAScript; a=b"}, "would execute it"),
        ({"contentType": 'text/javascript; a="{{b}}"'}, "would execute it"),
        ({"contentType": "text/css"}, "would execute it"),
        ({"contentType": "multipart/x-mixed-replace"}, "would execute it"),
        ({"contentType": "text/html; charset=utf-7"}, "is sent as utf-8"),
        ({"contentType": "text/html", "body": {"a": 1}}, "must be text"),
    ],
)
def test_refused(payload: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        RespondPayload.model_validate(payload)
