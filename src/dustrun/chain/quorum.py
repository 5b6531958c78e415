"""What several endpoints say to one question: for what one of them could make up at our cost."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from dustrun.chain.endpoints import Endpoint, Endpoints
from dustrun.chain.rpc import EndpointDown, Request, RpcError

_MOST: Final = 3
_WITHIN_S: Final = 2.0  # whoever is slower than that is not waited for


async def ask_several(endpoints: Endpoints, request: Request) -> list[Any]:
    """The answers of the best endpoints, in their order; who does not answer is left out."""
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
