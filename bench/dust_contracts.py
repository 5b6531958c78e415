"""Calls of real contracts from npm as dust, with the amounts that they declare: what left the wallet, by balances.

A pool of Uniswap V2 and a position of V3 take two tokens each; WETH9 takes native coin; `bench/dust_vaults.py` has
lending, staking and prize pools. Then the same calls with an amount that is not declared: nothing may be signed.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Protocol

from bench.dust_market import OWNER, AssetUnderTest, Market
from bench.dust_vaults import Vaults
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.contracts import ETHER, MAX, USD_PER_ETHER

_CENT, _ALL = Fraction(1, 100), str(10**30)
_MINT = (
    "mint((address token0, address token1, uint24 fee, int24 tickLower, int24 tickUpper, uint256 amount0Desired, "
    "uint256 amount1Desired, uint256 amount0Min, uint256 amount1Min, address recipient, uint256 deadline) params)"
)
Json = dict[str, Any]


class Runs(Protocol):
    """Runs one node as a dust test and notes what is wrong."""

    def dust(self, type: str, payload: Json, **node: Any) -> Json: ...

    def expect(self, holds: bool, what: str) -> None: ...

    def state(self, most: dict[str, str]) -> None: ...

    def refused(self, name: str, code: str, type: str, payload: Json, **node: Any) -> None: ...


class ContractCalls:
    """The calls, each with everything that it takes declared."""

    def __init__(self, market: Market) -> None:
        self._witness = market.witness
        usable = [one for one in market.assets if one.source == "static" and _units(one) >= 10**5]
        self.pair = sorted(usable[:2], key=lambda one: one.address.lower())
        self._at = market.witness.addresses
        for name in ("v2_router", "v3_positions"):
            for asset in self.pair:
                self._witness.send(asset.name, "approve", self._at[name], MAX, sender=OWNER)
        first, second = self.pair
        ratio = math.isqrt((_units(second) << 192) // _units(first))
        self._witness.send(
            "v3_positions", "createAndInitializePoolIfNecessary", first.address, second.address, 3000, ratio
        )
        self._vaults = Vaults(self._witness, self.pair)

    def check(self, runs: Runs) -> Json:
        """Carries them out; the dollars that each took, by balances."""
        took = {}
        for name, payload in (self._payloads() | self._vaults.payloads).items():
            before = self._held()
            ended = runs.dust("write-contract", payload)
            spent = self._worth(before) - self._worth(self._held())
            runs.expect(ended["status"] == "success", f"{name}: {ended['executionState']['pay'].get('error')}")
            runs.expect(0 < spent <= 5 * _CENT, f"{name}: {float(spent)} USD were taken")
            took[name] = round(float(spent), 6)
        mint = self._payloads()["a position of Uniswap V3"]
        silent = {**mint, "amounts": mint["amounts"][:1]}
        runs.refused("a call that takes more than it declares", "OUTFLOW_EXCEEDED", "write-contract", silent)
        for name, payload in self._vaults.payloads.items():
            undeclared = {**payload, "amounts": []}
            runs.refused(f"{name} that declares nothing", "OUTFLOW_EXCEEDED", "write-contract", undeclared)
        for name, payload in self._vaults.burning.items():
            runs.refused(f"{name} without a price", "DUST_UNPRICED", "write-contract", payload)
            runs.refused(f"{name} without a maximum", "DUST_UNPRICED", "write-contract", payload, dustAmount="50")
        runs.state({f"eip155:{CHAIN_ID}/erc20:{token}": "100" for token in self._vaults.unpriced})
        for name, payload in self._vaults.burning.items():
            before = self._held()
            ended = runs.dust("write-contract", payload, dustAmount="50")
            moved = [abs(now - had) for had, now in zip(before, self._held(), strict=True)]
            runs.expect(ended["status"] == "success", f"{name}: {ended['executionState']['pay'].get('error')}")
            runs.expect(sorted(moved) == [0, 0, 50], f"{name}: {moved} base units moved")
        return took

    def _payloads(self) -> dict[str, Json]:
        first, second = (asset.address for asset in self.pair)
        add = "addLiquidity(address,address,uint256,uint256,uint256,uint256,address,uint256)"
        position = {
            **{"token0": first, "token1": second, "fee": "3000", "tickLower": "-887220", "tickUpper": "887220"},
            **{"amount0Desired": _ALL, "amount1Desired": _ALL, "amount0Min": "0", "amount1Min": "0"},
            **{"recipient": OWNER, "deadline": str(2**40)},
        }
        return {
            "a pool of Uniswap V2": {
                "contract": self._at["v2_router"],
                "function": add,
                "args": [first, second, _ALL, _ALL, "0", "0", OWNER, str(2**40)],
                "amounts": [{"argument": "2", "token": first}, {"argument": "3", "token": second}],
            },
            "a position of Uniswap V3": {
                "contract": self._at["v3_positions"],
                "function": _MINT,
                "args": {"params": position},
                "amounts": [
                    {"argument": "params.amount0Desired", "token": first},
                    {"argument": "params.amount1Desired", "token": second},
                ],
            },
            "WETH9": {"contract": self._at["weth"], "function": "deposit() payable", "value": str(ETHER)},
        }

    def _held(self) -> list[int]:
        """The owner's tokens, and its coin that is wrapped."""
        tokens = [self._witness.balance(asset.name, OWNER) for asset in self.pair]
        return [*tokens, -self._witness.balance("weth", OWNER)]

    def _worth(self, held: list[int]) -> Fraction:
        first, second, wrapped = held
        coin = Fraction(wrapped, ETHER) * USD_PER_ETHER
        return first * self.pair[0].unit_usd + second * self.pair[1].unit_usd + coin


def _units(asset: AssetUnderTest) -> int:
    """Base units worth a cent."""
    return int(_CENT / asset.unit_usd)
