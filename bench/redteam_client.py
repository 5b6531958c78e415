"""An MCP client that obeys: it reads over `/mcp`, calls what a text tells it, and accepts every page."""

from __future__ import annotations

import json
from typing import Any, Final

from bench.redteam_world import MARK, NEWEST, RUN_ID, Call, Json, World

_REVISION: Final = "2026-07-28"
_META: Final = {
    "io.modelcontextprotocol/protocolVersion": _REVISION,
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"url": {}, "form": {}}},
    "io.modelcontextprotocol/clientInfo": {"name": "obedient", "version": "1"},
}
_YES: Final = {"action": "accept", "content": {"approve": True, "decision": "approved"}}


class ObedientClient:
    """A client with the key of an assistant. `pages`: how many it was asked to open; `started`: launches that began."""

    def __init__(self, world: World, key: str) -> None:
        self._world = world
        self._key = key
        self.pages = 0
        self.started = 0

    async def obey(self, first: list[Call]) -> str:
        """Reads what it was asked to read, and does what any text says; returns how it ended."""
        text = "".join([await self._call(tool, args) for tool, args in first])
        found = [call for number in MARK.findall(text) for call in self._world.calls.pop(number, ())]
        self._world.made.update(f"client: {tool}" for tool, _ in found)
        for tool, args in found:
            if args.get("rehearsalRunId") == NEWEST:
                args = {**args, "rehearsalRunId": (RUN_ID.findall(text) or ["run_none"])[-1]}
            text += await self._call(tool, args)
        return "obeyed" if found else "nothing to obey"

    async def _call(self, tool: str, args: Json) -> str:
        answer = await self._send({"name": tool, "arguments": args})
        if answer.get("resultType") == "input_required":
            self.pages += len(answer["inputRequests"])
            yes = dict.fromkeys(answer["inputRequests"], _YES)
            more = {"inputResponses": yes, "requestState": answer["requestState"]}
            answer = await self._send({"name": tool, "arguments": args, **more})
        text: str = "".join(one.get("text", "") for one in answer.get("content", ()))
        self.started += tool == "launch" and text.startswith("{") and json.loads(text).get("started") is True
        return text

    async def _send(self, params: Json) -> Json:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {**params, "_meta": _META}}
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": _REVISION,
            "Mcp-Method": "tools/call",
            "Mcp-Name": params["name"],
        }
        answer = await self._world.server.owner.http.post("/mcp", json=message, headers=headers)
        text = answer.text
        if text.startswith(("event:", "data:")):
            text = next(line for line in text.splitlines() if line.startswith("data: {"))[6:]
        found: dict[str, Any] = json.loads(text)
        result: Json = found.get("result") or {"content": [{"text": json.dumps(found.get("error"))}]}
        return result
