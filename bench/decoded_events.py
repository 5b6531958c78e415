"""Events as web3.py decodes them, to hold the product's decoding against."""

from __future__ import annotations

from typing import Any

from testkit.chain.contracts import Witness, artifact

_NAMES = ("weth", "usdc", "nft", "multi", "zoo", "forwarder", "factory", "v2_factory", "v2_pair", "v3_pool")
Json = dict[str, Any]


class Decoder:
    """Knows the events of the contracts of the test chain, by topic and number of indexed arguments."""

    def __init__(self, witness: Witness) -> None:
        self._events: dict[tuple[bytes, int], Any] = {}
        web3 = witness.web3
        for name in _NAMES:
            contract = web3.eth.contract(abi=artifact(name)[0])
            for entry in artifact(name)[0]:
                if entry["type"] == "event":
                    indexed = sum(part["indexed"] for part in entry["inputs"])
                    signature = f"{entry['name']}({','.join(_type(part) for part in entry['inputs'])})"
                    topic = bytes(web3.keccak(text=signature))
                    self._events[topic, indexed] = contract.get_event_by_signature(signature)

    def compare(self, event: Json, log: Any) -> str | None:
        """What is wrong with the product's decoded event; an empty text for nothing, None when it decoded nothing."""
        if "args" not in event:
            return None
        found = self._events.get((bytes(log["topics"][0]), len(log["topics"]) - 1))
        if found is None:
            return f"web3.py knows no {event['name']}"
        told = found().process_log(log)
        # parameters have other names in other contracts: they are compared in their order
        real = [_shown(value) for value in dict(told["args"]).values()]  # one may be named values
        if (event["name"], sorted(map(str, event["args"].values()))) != (told["event"], sorted(map(str, real))):
            return f"decoded as {event['name']} {event['args']}, web3.py reads {told['event']} {real}"
        return ""


def _type(part: Json) -> str:
    if not part["type"].startswith("tuple"):
        return str(part["type"])
    inner = ",".join(_type(one) for one in part["components"])
    return f"({inner}){part['type'][5:]}"


def _shown(value: Any) -> Any:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    if isinstance(value, list | tuple):
        return [_shown(one) for one in value]
    return str(value)
