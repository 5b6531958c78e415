"""The secret that signs webhooks (Standard Webhooks).

The action `send-webhook` signs with it; the receiver verifies the signature with the same secret.
"""

from __future__ import annotations

from pydantic import field_validator

from dustrun.core.text import standard_webhooks
from dustrun.sdk.connector import secret_connector
from dustrun.sdk.fields import Fields, secret


class Data(Fields):
    """The secret."""

    secret: str = secret(description="`whsec_` followed by 24 to 64 bytes in base64.", min_length=8, max_length=200)

    @field_validator("secret")
    @classmethod
    def _check_secret(cls, value: str) -> str:
        standard_webhooks.key_of(value)
        return value


@secret_connector(
    data=Data, example={"secret": "whsec_ZXhhbXBsZSBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXRlcw"}, tags=["http", "webhook"]
)
def webhook_secret(data: Data) -> None:
    """Checks nothing more than the model: only a receiver knows whether the secret is right."""
