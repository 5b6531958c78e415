"""Asks up to three healthy endpoints (2 s limit), so that one cannot inflate a fee."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from dustrun.chain.endpoints import Endpoint, Endpoints
from dustrun.chain.rpc import EndpointDown, Request, RpcError

_MOST: Final = 3
_WITHIN_S: Final = 2.0  # seconds; slower endpoints are ignored


async def ask_several(endpoints: Endpoints, request: Request) -> list[Any]:
    """The answers of the best endpoints, in order; endpoints without an answer are left out."""
    await endpoints.agree()
    usable = [one for one in endpoints.all if not one.is_resting and one.outlier is None]
    answers = await asyncio.gather(*(_ask(endpoint, request) for endpoint in usable[:_MOST]))
    return [answer for answer in answers if answer is not None]


async def _ask(endpoint: Endpoint, request: Request) -> Any:
    try:
        answer = await endpoint.rpc.call(request, _WITHIN_S)
    except EndpointDown as down:
        endpoint.failed(down)
        return None
    except RpcError:
        return None
    endpoint.worked()
    return answer
