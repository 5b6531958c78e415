"""Requests that carry a connector's credential, and whose responses show none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dustrun.core.text.masking import Mask
from dustrun.sdk.context import Http, HttpRequest, HttpResponse
from dustrun.sdk.threads import run_sized
from dustrun.services.connectors.connections import OpenConnector

_UNAUTHORIZED = 401


class MaskedHttp:
    """`ctx.http` of a run with connectors, and of a trigger's look: adds the node's credential when a request is sent,
    and masks the whole response before a part of it can be extracted."""

    def __init__(self, http: Http, mask: Mask, opened: OpenConnector | None) -> None:
        self._http = http
        self._mask = mask
        self._opened = opened if opened is not None and opened.type.attaches else None

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Sends one request; sends it again with a fresh token after 401, which means that nothing was done, unless it
        is the result of a write that is refused."""
        opened = self._opened
        if request.is_prompt and request.body is not None:
            request = replace(request, body=await run_sized(request.body, self._mask.bytes, request.body))
        if opened is None:
            return await self._masked(await self._http.request(request))
        carried = await opened.current_token()
        sent = replace(request, authorize=opened.authorize)
        if carried is None:
            return await self._masked(await opened.send(self._http, sent))
        answer = await self._http.request(sent)
        if answer.status == _UNAUTHORIZED and not answer.was_taken and await opened.renew(carried):
            return await self._masked(await opened.send(self._http, sent))
        await opened.heard(request.url, answer.status)
        return await self._masked(answer)

    async def _masked(self, answer: HttpResponse) -> HttpResponse:
        return await run_sized(answer.body, self._mask_all, answer)

    def _mask_all(self, answer: HttpResponse) -> HttpResponse:
        headers: Mapping[str, str] = self._mask.value(dict(answer.headers))
        body, url = self._mask.bytes(answer.body), self._mask.text(answer.url)
        return replace(answer, headers=headers, body=body, url=url)
