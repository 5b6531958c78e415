"""Requests of well-known senders, as their documentation shows them, and forged ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from pydantic import TypeAdapter

from dustrun.core.triggers import webhook_senders as senders
from dustrun.core.triggers.webhook_auth import Bad, Good

AUTH: TypeAdapter[Any] = TypeAdapter(senders.Auth)
NOW = 1_700_000_000_000
TOPIC = "arn:aws:sns:us-west-2:123456789012:MyTopic"
CERTIFICATE_URL = f"https://sns.us-west-2.amazonaws.com/SimpleNotificationService-{'0a' * 16}.pem"


def auth(type: str, **fields: Any) -> Any:
    return AUTH.validate_python({"type": type, **fields})


def word(found: Good | Bad) -> str:
    return found.reason if isinstance(found, Bad) else "good"


SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
TWILIO_FORM = b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212"
VECTORS: dict[str, tuple[str, dict[str, str], bytes, str, int, str]] = {
    "github": (
        "github",
        {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
        b"Hello, World!",
        "It's a Secret to Everybody",
        NOW,
        "",
    ),
    "slack": (
        "slack",
        {
            "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            "x-slack-request-timestamp": "1531420618",
        },
        SLACK_BODY,
        "8f742231b10e8888abcd99yyyzzz85a5",
        1_531_420_618_000,
        "",
    ),
    "twilio": (
        "twilio",
        {
            "x-twilio-signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
            "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        },
        TWILIO_FORM,
        "12345",
        NOW,
        "https://mycompany.com/myapp.php?foo=1&bar=2",
    ),
}
"""What the senders' documentation gives as examples: headers, body, secret, time and address."""


@pytest.mark.parametrize("name", VECTORS)
def test_the_example_of_the_senders_documentation_is_good(name: str) -> None:
    kind, headers, body, secret, now, url = VECTORS[name]
    assert word(senders.verify(auth(kind), headers, body, [secret], now, url)) == "good"
    assert word(senders.verify(auth(kind), headers, body + b"x", [secret], now, url)) == "signature"
    assert word(senders.verify(auth(kind), headers, body, [secret + "x"], now, url)) == "signature"
    assert word(senders.verify(auth(kind), {}, body, [secret], now, url)) == "signature"


def test_a_stripe_event_that_is_signed_again_is_the_same_event() -> None:
    """Stripe signs a redelivery at a time of its own, so the signed content differs."""
    body, secret = b'{"id":"evt_1","object":"event"}', "whsec_" + "s" * 32
    keys = set()
    for at in (NOW // 1000, NOW // 1000 + 60):
        made = hmac.new(secret.encode(), f"{at}.".encode() + body, "sha256").hexdigest()
        headers = {"stripe-signature": f"t={at},v1={'0' * 64},v1={made},v0=x"}
        assert word(senders.verify(auth("stripe"), headers, body, [secret], NOW + 60_000)) == "good"
        assert word(senders.verify(auth("stripe"), headers, body, [secret], NOW + 400_000)) == "timestamp"
        keys.add(senders.event_key(auth("stripe"), headers, json.loads(body)))
    assert keys == {"id:evt_1"}


def test_shopify() -> None:
    body, secret = b'{"id":1}', "s" * 32
    sent = base64.b64encode(hmac.new(secret.encode(), body, "sha256").digest()).decode()
    headers = {"x-shopify-hmac-sha256": sent, "x-shopify-event-id": "e1", "x-shopify-webhook-id": "w1"}
    assert word(senders.verify(auth("shopify"), headers, body, [secret], NOW)) == "good"
    assert word(senders.verify(auth("shopify"), headers, body + b" ", [secret], NOW)) == "signature"
    assert senders.event_key(auth("shopify"), headers, {"id": 1}) == "id:e1"
    assert senders.event_key(auth("shopify"), {"x-shopify-webhook-id": "w1"}, {}) == "id:w1"
    keys = [
        senders.event_key(auth("shopify"), {**headers, "x-shopify-topic": topic, "x-shopify-webhook-id": again}, {})
        for topic in ("orders/create", "orders/paid")
        for again in ("w1", "w2")
    ]
    assert keys == ["id:e1:orders/create"] * 2 + ["id:e1:orders/paid"] * 2, "one event of a shop, told by topics"


def test_discord() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    given = auth("discord", publicKey=key.public_key().public_bytes_raw().hex())
    body, at = b'{"id":"7","type":2}', str(NOW // 1000)
    headers = {"x-signature-ed25519": key.sign(at.encode() + body).hex(), "x-signature-timestamp": at}
    assert word(senders.verify(given, headers, body, [], NOW)) == "good"
    assert word(senders.verify(given, headers, body, [], NOW + 301_000)) == "timestamp"
    assert word(senders.verify(given, headers, body + b" ", [], NOW)) == "signature"
    assert word(senders.verify(given, {**headers, "x-signature-ed25519": "zz"}, body, [], NOW)) == "signature"
    assert senders.event_key(given, headers, {"id": "7"}) == "id:7"
    ping = senders.handshake(given, headers, {"type": 1})
    assert ping is not None
    assert ping.answer == {"type": 1}
    assert senders.handshake(given, headers, {"type": 1, "event": {}}) is None
    assert senders.handshake(given, headers, {"type": 2, "id": "7"}) is None


def test_an_event_without_an_id_that_is_signed_again_is_the_same_event() -> None:
    """Discord's events have none, and Slack's interactions have theirs inside a text."""
    key = ed25519.Ed25519PrivateKey.generate()
    given = auth("discord", publicKey=key.public_key().public_bytes_raw().hex())
    event = b'{"version":1,"application_id":"1","type":1,"event":{"type":"ENTITLEMENT_CREATE","timestamp":"t"}}'

    def of_discord(body: bytes, at: str) -> Any:
        headers = {"x-signature-ed25519": key.sign(at.encode() + body).hex(), "x-signature-timestamp": at}
        assert senders.event_key(given, headers, json.loads(body)) is None
        return senders.verify(given, headers, body, [], NOW)

    def of_slack(body: bytes, at: str) -> Any:
        made = hmac.new(b"secret", f"v0:{at}:".encode() + body, "sha256").hexdigest()
        headers = {"x-slack-signature": f"v0={made}", "x-slack-request-timestamp": at}
        return senders.verify(auth("slack"), headers, body, ["secret"], NOW)

    first, later = str(NOW // 1000), str(NOW // 1000 + 60)
    closed, asks = (b"payload=%7B%22type%22%3A%22" + kind + b"%22%7D" for kind in (b"view_closed", b"block_suggestion"))
    for send, body, other in ((of_discord, event, event + b" "), (of_slack, closed, closed + b"+")):
        keys = [send(*one).key for one in ((body, first), (body, later), (other, later))]
        assert keys[0] == keys[1] != keys[2]
        assert None not in keys
    assert of_slack(asks, first).key != of_slack(asks, later).key, "a question that is asked again wants its answer"


ACCOUNT = "push@project.iam.gserviceaccount.com"
CLAIMS: dict[str, Any] = {
    "iss": "https://accounts.google.com",
    "aud": "https://d.example.com/v1/webhooks/x",
    "email": ACCOUNT,
    "email_verified": True,
    "iat": NOW // 1000,
    "exp": NOW // 1000 + 3600,
}


def test_google_pubsub() -> None:
    key, other = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    known = json.dumps({"keys": [{**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": "k1"}]})
    given = auth("google-pubsub", serviceAccount=ACCOUNT)

    def check(signer: Any = key, kid: str = "k1", now: int = NOW, **claims: Any) -> str:
        token = jwt.encode({**CLAIMS, **claims}, signer, "RS256", {"kid": kid})
        return word(senders.verify(given, {"authorization": f"Bearer {token}"}, b"", [known], now, CLAIMS["aud"]))

    assert senders.key_url(given, b"") == "https://www.googleapis.com/oauth2/v3/certs"
    assert check() == "good"
    assert check(now=NOW + 3_700_000) == "timestamp"
    refused: list[dict[str, Any]] = [{"signer": other}, {"kid": "k2"}, {"aud": "https://other"}, {"iss": "x"}]
    refused += [{"email": "a@b.c"}, {"email_verified": False}]
    assert {check(**one) for one in refused} == {"signature"}
    none = jwt.encode(CLAIMS, "", "none", {"kid": "k1"})
    assert word(senders.verify(given, {"authorization": f"Bearer {none}"}, b"", [known], NOW, "x")) == "signature"
    assert senders.event_key(given, {}, {"message": {"messageId": "136"}}) == "id:136"


def _certificate() -> tuple[rsa.RSAPrivateKey, str]:
    key, name = rsa.generate_private_key(65537, 2048), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    return key, made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _message(key: rsa.RSAPrivateKey, signed: str, version: str, **fields: str) -> dict[str, Any]:
    digest: Any = hashes.SHA256() if version == "2" else hashes.SHA1()
    signature = base64.b64encode(key.sign(signed.encode(), padding.PKCS1v15(), digest)).decode()
    return {**fields, "SignatureVersion": version, "Signature": signature, "SigningCertURL": CERTIFICATE_URL}


@pytest.mark.parametrize("version", ["1", "2"])
def test_aws_sns(version: str) -> None:
    key, pem = _certificate()
    given = auth("aws-sns", topicArn=TOPIC)
    at = "2026-01-31T12:00:00.000Z"
    signed = f"Message\nhello\nMessageId\nm1\nSubject\nhi\nTimestamp\n{at}\nTopicArn\n{TOPIC}\nType\nNotification\n"
    fields = {"Type": "Notification", "MessageId": "m1", "TopicArn": TOPIC, "Message": "hello", "Subject": "hi"}
    sent = _message(key, signed, version, **fields, Timestamp=at)

    def check(message: dict[str, Any], certificates: list[str]) -> str:
        return word(senders.verify(given, {}, json.dumps(message).encode(), certificates, NOW))

    assert check(sent, [pem]) == "good"
    assert senders.key_url(given, json.dumps(sent).encode()) == CERTIFICATE_URL
    assert senders.event_key(given, {}, sent) == "id:m1"
    assert check(sent, [_certificate()[1]]) == check(sent, []) == "signature"
    assert check({**sent, "Message": "other"}, [pem]) == check({**sent, "TopicArn": TOPIC + "2"}, [pem]) == "signature"
    for url in ("https://evil.example.com/x.pem", CERTIFICATE_URL + "?x", CERTIFICATE_URL.replace("sns.", "sns.evil.")):
        assert senders.key_url(given, json.dumps({**sent, "SigningCertURL": url}).encode()) is None


def test_an_sns_subscription_is_confirmed_only_at_amazon() -> None:
    key, pem = _certificate()
    given = auth("aws-sns", topicArn=TOPIC)

    def confirmation(url: str) -> dict[str, Any]:
        fields = {"Type": "SubscriptionConfirmation", "MessageId": "m", "TopicArn": TOPIC, "Message": "?"}
        fields |= {"Token": "t", "Timestamp": "now", "SubscribeURL": url}
        names = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
        return _message(key, "".join(f"{name}\n{fields[name]}\n" for name in names), "1", **fields)

    good = "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn=x&Token=t"
    for url, wanted in ((good, "good"), ("https://evil.example.com/?Action=ConfirmSubscription&a=b", "signature")):
        message = confirmation(url)
        assert word(senders.verify(given, {}, json.dumps(message).encode(), [pem], NOW)) == wanted
    asks = senders.handshake(given, {}, confirmation(good))
    assert asks is not None
    assert asks.visit == good


def test_twilio_signs_a_body_that_is_no_form_by_its_hash() -> None:
    body, token = b'{"a":1}', "t" * 32
    url = f"https://d.example.com/v1/webhooks/x?bodySHA256={hashlib.sha256(body).hexdigest()}"
    sent = base64.b64encode(hmac.new(token.encode(), url.encode(), "sha1").digest()).decode()
    headers = {"x-twilio-signature": sent, "content-type": "application/json"}
    assert word(senders.verify(auth("twilio"), headers, body, [token], NOW, url)) == "good"
    assert word(senders.verify(auth("twilio"), headers, b'{"a":2}', [token], NOW, url)) == "signature"
    bare = url.partition("?")[0]
    sent = base64.b64encode(hmac.new(token.encode(), bare.encode(), "sha1").digest()).decode()
    assert (
        word(senders.verify(auth("twilio"), {**headers, "x-twilio-signature": sent}, body, [token], NOW, bare))
        != "good"
    )


def test_hostile_bodies_are_refused_soon() -> None:
    start = time.process_time()
    for kind, fields in (("aws-sns", {"topicArn": TOPIC}), ("twilio", {})):
        headers = {"x-twilio-signature": "x", "content-type": "application/x-www-form-urlencoded"}
        body = b"a=b&" * 250_000
        assert word(senders.verify(auth(kind, **fields), headers, body, ["k"], NOW, "https://x")) == "signature"
    assert time.process_time() - start < 0.2


def test_who_names_events() -> None:
    kinds = ["secret-url", "header", "hmac", "standard-webhooks", "stripe", "github", "slack", "shopify", "twilio"]
    found = [senders.names_events(auth(kind)) for kind in kinds]
    assert found == [False, False, False, *([True] * 6)]
