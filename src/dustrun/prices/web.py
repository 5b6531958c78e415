"""Prices over HTTP from a source configured by the operator: a URL and a path into its JSON response (settings
`price_url` and `price_path`), with the placeholders `{chainId}`, `{address}` and `{symbol}`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

from dustrun.core.money.tokens import find_known
from dustrun.core.values import exact_json
from dustrun.core.values.exact_json import MAX_NUMBER_CHARS, JsonError
from dustrun.errors import DustrunError, Temporary
from dustrun.prices.source import PriceFault, PriceQuestion
from dustrun.sdk.chain import Price
from dustrun.sdk.context import Http, HttpRequest
from dustrun.sdk.threads import run_sized

_TIMEOUT_S: Final = 10.0
_MAX_BYTES: Final = 1_048_576
_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")
"""A price as text. Stricter than `Decimal`, which reads `1_5` as 15."""
_ZERO: Final = "0x" + "0" * 40


class WebPrices:
    """One HTTP source for all assets."""

    name = "http"

    def __init__(self, http: Http, url: str | None, path: str) -> None:
        self._http = http
        self._url = url
        self._path = path

    async def price(self, question: PriceQuestion) -> Price | None:
        """The price; None if no source is configured, it answers 404, or the URL needs an unknown symbol."""
        names = _names(question)
        if self._url is None or ("{symbol}" in self._url + self._path and names["symbol"] is None):
            return None
        url = _fill(self._url, {name: quote(value or "", safe="") for name, value in names.items()})
        body = await self._get(url)
        if body is None:
            return None
        steps = [_fill(step, {name: value or "" for name, value in names.items()}) for step in self._path.split(".")]
        value = await run_sized(body, _read, body, steps)
        return Price(value, self.name, question.now_ms, 0, {"url": self._url})

    async def _get(self, url: str) -> bytes | None:
        request = HttpRequest("GET", url, {"accept": "application/json"}, timeout_s=_TIMEOUT_S, max_bytes=_MAX_BYTES)
        try:
            response = await self._http.request(request)
        except Temporary:
            raise
        except DustrunError as error:
            raise PriceFault(f"the HTTP source cannot be used: {error.message}") from None
        if response.status == 404:
            return None
        if response.status in (408, 425, 429) or response.status >= 500:
            raise Temporary(f"The HTTP price source answers {response.status}.")
        if response.status != 200:
            raise PriceFault(f"the HTTP source answers {response.status}")
        return response.body


def _names(question: PriceQuestion) -> dict[str, str | None]:
    token, network = question.asset.token, question.network
    if token is None:
        symbol: str | None = network.native.symbol
    else:
        known = find_known(network, token)
        symbol = known.symbol if known is not None else None
    return {"chainId": str(network.chain_id), "address": (token or _ZERO).lower(), "symbol": symbol}


def _fill(template: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def _read(text: bytes, steps: list[str]) -> Decimal:
    """The number at the path `steps`: keys of objects (case-insensitive) or indices of lists. Raises `PriceFault`."""
    try:
        body = exact_json.loads(text)
    except JsonError as error:
        raise PriceFault(f"the HTTP source's answer is not JSON: {error}") from None
    shown = ".".join(steps)
    for step in steps:
        if isinstance(body, dict):
            found = {str(name).lower(): value for name, value in body.items()}
            body = body.get(step, found.get(step.lower()))
        elif isinstance(body, list) and step.isdecimal() and int(step) < len(body):
            body = body[int(step)]
        else:
            body = None
        if body is None:
            raise PriceFault(f'the HTTP source\'s answer has nothing at "{shown}" (price_path)')
    return _number(body, shown)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_NUMBER_CHARS and _NUMBER.fullmatch(value) is not None
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _number(value: Any, shown: str) -> Decimal:
    number = Decimal(value) if _is_number(value) else None
    if number is None or not number.is_finite() or number <= 0 or not -60 < number.adjusted() < 40:
        raise PriceFault(f'the HTTP source has no positive price at "{shown}" (price_path)')
    return number
