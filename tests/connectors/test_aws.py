"""Requests are signed as AWS publishes it, and as its own library does."""

from __future__ import annotations

import pytest

from dustrun.connectors.aws import Data, aws
from dustrun.sdk import HttpRequest

KEY = {"accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}


AT = {"X-Amz-Date": "20150830T123600Z"}


@pytest.mark.parametrize(
    ("request_", "service", "names", "signature"),
    [
        (
            HttpRequest("GET", "https://example.amazonaws.com/", AT),
            "service",
            "host;x-amz-date",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            HttpRequest(
                "GET",
                "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
                {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", **AT},
            ),
            "iam",
            "content-type;host;x-amz-date",
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        ),
        (  # signed by botocore 1.44.8
            HttpRequest(
                "POST",
                "http://127.0.0.1:9324/a%20b/c+d?z=1&a=2&a=1&e",
                {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.X", **AT},
                b'{"a": 1}',
            ),
            "service",
            "content-type;host;x-amz-date;x-amz-target",
            "0db5e6ce1273dcd1fe2a3c8e22bfd78de74e9d5ef7ee187aa29036c68bb106f7",
        ),
    ],
)
def test_requests_have_the_signatures_of_others(
    request_: HttpRequest, service: str, names: str, signature: str
) -> None:
    data = Data.model_validate({**KEY, "region": "us-east-1", "service": service})
    assert aws.run(data, request_).headers["Authorization"] == (
        f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


def test_a_temporary_key_sends_its_token_and_signs_it() -> None:
    data = Data.model_validate({**KEY, "region": "eu-west-1", "sessionToken": "token-0123456789"})
    sent = aws.run(data, HttpRequest("POST", "https://sqs.eu-west-1.amazonaws.com/", {}, b"{}"))
    assert sent.headers["X-Amz-Security-Token"] == "token-0123456789"
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token," in sent.headers["Authorization"]
