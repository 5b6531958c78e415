"""Opens the page of a launch for clients that can open one (URL elicitation), in both eras of the protocol.

It shows the page, and decides nothing: what a client answers says that a person has agreed to see it, and a client can
say that alone. The decision is made on the page, by somebody who may.
"""

from __future__ import annotations

from typing import Any, Final

import mcp_types as types
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from dustrun.api.mcp.running import launch_state
from dustrun.api.parts import Parts
from dustrun.core.values.exact_json import dumps_text, loads
from dustrun.services.access.principal import Principal

_PAGE: Final = "page"
_WAIT_S: Final = 50.0
_MESSAGE: Final = "A run is proposed. See what it would do, and decide, on this page."


def opens_pages(capabilities: dict[str, Any]) -> bool:
    """Whether a client with these capabilities can open a page."""
    elicitation = capabilities.get("elicitation")
    return isinstance(elicitation, dict) and isinstance(elicitation.get("url"), dict)


def page_was_asked(params: types.CallToolRequestParams) -> bool:
    """Whether a call goes on from a page that the client was asked to open."""
    return params.request_state is not None and _PAGE in (params.input_responses or {})


async def go_on(parts: Parts, principal: Principal, params: types.CallToolRequestParams) -> str:
    """The state of the launch whose page was opened, or not."""
    assert params.request_state is not None
    answer = (params.input_responses or {}).get(_PAGE)
    found = await launch_state(parts, principal, params.request_state[:128])
    return dumps_text({**found, "pageOpened": getattr(answer, "action", None) == "accept"})


async def show_page(context: Any, text: str) -> str | types.InputRequiredResult:
    """The result of a launch, after its page was shown if the client can; else as it is."""
    capabilities = context.session.client_capabilities
    url_mode = capabilities.elicitation.url if capabilities is not None and capabilities.elicitation else None
    told = loads(text)
    if url_mode is None or told.get("started") is not False:
        return text
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        asked = types.ElicitRequest(params=types.ElicitRequestURLParams(message=_MESSAGE, url=told["page"]))
        return types.InputRequiredResult(input_requests={_PAGE: asked}, request_state=told["approvalId"])
    if not context.session.can_send_request:
        return text
    params = types.ElicitRequestURLParams(message=_MESSAGE, url=told["page"], elicitation_id=told["approvalId"])
    try:
        answer = await context.session.send_request(
            types.ElicitRequest(params=params),
            types.ElicitResult,
            request_read_timeout_seconds=_WAIT_S,
            metadata=ServerMessageMetadata(related_request_id=context.request_id),
        )
    except MCPError:  # it was not answered, or refused: the page is in the result
        return text
    return dumps_text({**told, "pageOpened": answer.action == "accept"})
