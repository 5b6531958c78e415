"""Lending, staking and prize pools, deployed from the bytecode of their npm packages (`bench/vaults`), and the calls
that people make there with the amounts that they declare.

Aave V2's lending pool and its staked token, the prize pool of PoolTogether V4, and Uniswap's staker of V3 positions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from web3 import Web3

from bench.dust_market import OWNER, AssetUnderTest
from testkit.chain.contracts import MAX, RICH, Witness
from testkit.e2e.node import npm_install

FOLDER = Path(__file__).parent / "vaults"
_AAVE, _STAKE = "@aave/protocol-v2/artifacts/contracts", "@aave/aave-stake/artifacts/contracts"
_PRIZE, _STAKER = "@pooltogether/v4-core/artifacts/contracts", "@uniswap/v3-staker/artifacts/contracts"
_NOBODY = f"0x{0:040x}"
_ALL = str(10**30)
_RAY = 10**27
_CREATE = (
    "createIncentive((address rewardToken, address pool, uint256 startTime, uint256 endTime, address refundee) key, "
    "uint256 reward)"
)
Json = dict[str, Any]


def install() -> None:
    """Installs the packages, if they are not there yet."""
    npm_install(FOLDER)


class Packages:
    """Deploys and calls contracts of the installed packages with the node's own accounts, by web3.py."""

    def __init__(self, witness: Witness) -> None:
        self.web3 = witness.web3

    def deploy(self, path: str, *arguments: Any, **libraries: str) -> str:
        """A contract by its file's path without `.json`; libraries by name. Gives its address."""
        found = self._read(path)
        code = _link(found, libraries)
        made = self.web3.eth.contract(abi=found["abi"], bytecode=code).constructor(*arguments)
        return str(self._mined(made.transact({"from": Web3.to_checksum_address(RICH)}))["contractAddress"])

    def send(self, path: str, at: str, function: str, *arguments: Any, sender: str = RICH) -> None:
        """Calls a function in a transaction that must succeed."""
        self._mined(self._function(path, at, function, arguments).transact({"from": Web3.to_checksum_address(sender)}))

    def read(self, path: str, at: str, function: str, *arguments: Any) -> Any:
        """What a function returns."""
        return self._function(path, at, function, arguments).call()

    def _function(self, path: str, at: str, function: str, arguments: tuple[Any, ...]) -> Any:
        contract = self.web3.eth.contract(address=Web3.to_checksum_address(at), abi=self._read(path)["abi"])
        return contract.get_function_by_name(function)(*arguments)

    def _read(self, path: str) -> Json:
        folder, _, name = path.rpartition("/")
        found: Json = json.loads((FOLDER / "node_modules" / folder / f"{name}.sol" / f"{name}.json").read_text())
        return found

    def _mined(self, hash: Any) -> Any:
        receipt = self.web3.eth.wait_for_transaction_receipt(hash, timeout=30, poll_latency=0.005)
        assert receipt["status"] == 1, f"transaction {hash.hex()} of the fixture failed"
        return receipt


def _link(found: Json, libraries: dict[str, str]) -> str:
    """The creation code with the addresses of its libraries."""
    code = found["bytecode"].removeprefix("0x")
    for names in found["linkReferences"].values():
        for name, places in names.items():
            for place in places:
                first, last = 2 * place["start"], 2 * (place["start"] + place["length"])
                code = code[:first] + libraries[name][2:].lower() + code[last:]
    return f"0x{code}"


class Vaults:
    """The pools of two tokens, which the owner has allowed to take all of them."""

    def __init__(self, witness: Witness, pair: list[AssetUnderTest]) -> None:
        install()
        self._packages = Packages(witness)
        self._witness = witness
        self._pair = pair
        self._lending = self._deploy_lending()
        self._staking = self._deploy_staking()
        self._prizes = self._deploy_prizes()
        self._staker = self._packages.deploy(
            f"{_STAKER}/UniswapV3Staker", witness.addresses["v3_factory"], witness.addresses["v3_positions"], MAX, MAX
        )
        for asset in pair:
            for spender in (self._lending, self._staking, self._prizes, self._staker):
                witness.send(asset.name, "approve", spender, MAX, sender=OWNER)
        self._borrow()
        pool = f"{_AAVE}/protocol/lendingpool/LendingPool"
        kept, owed = (self._packages.read(pool, self._lending, "getReserveData", one.address) for one in pair)
        self._tokens = (str(kept[7]), str(owed[8]), str(owed[9]))  # receipts of the first; stable and variable debt

    @cached_property
    def payloads(self) -> dict[str, Json]:
        """The calls by name: each takes an amount far above dust."""
        first, second = (asset.address for asset in self._pair)
        now = int(self._witness.web3.eth.get_block("latest")["timestamp"])
        pool = self._witness.read("v3_factory", "getPool", first, second, 3000)
        key = {
            **{"rewardToken": second, "pool": pool, "refundee": OWNER},
            **{"startTime": str(now + 10**6), "endTime": str(now + 2 * 10**6)},
        }
        return {
            "a deposit into Aave V2": {
                "contract": self._lending,
                "function": "deposit(address,uint256,address,uint16)",
                "args": [first, _ALL, OWNER, 0],
                "amounts": [{"argument": "1", "token": first}],
            },
            "a stake in Aave's staked token": {
                "contract": self._staking,
                "function": "stake(address,uint256)",
                "args": [OWNER, _ALL],
                "amounts": [{"argument": "1", "token": first}],
            },
            "a deposit into PoolTogether V4": {
                "contract": self._prizes,
                "function": "depositTo(address,uint256)",
                "args": [OWNER, _ALL],
                "amounts": [{"argument": "1", "token": first}],
            },
            "rewards for stakers of Uniswap V3": {
                "contract": self._staker,
                "function": _CREATE,
                "args": {"key": key, "reward": _ALL},
                "amounts": [{"argument": "reward", "token": second}],
            },
        }

    @property
    def burning(self) -> dict[str, Json]:
        """Calls that burn tokens of the wallet that nobody prices: receipts of a deposit, and a debt."""
        first, second = (asset.address for asset in self._pair)
        receipts, _, debt = self._tokens
        return {
            "a withdrawal from Aave V2": {
                "contract": self._lending,
                "function": "withdraw(address,uint256,address)",
                "args": [first, "100000", OWNER],
                "amounts": [{"argument": "1", "token": receipts}],
            },
            "a repayment to Aave V2": {
                "contract": self._lending,
                "function": "repay(address asset, uint256 amount, uint256 rateMode, address onBehalfOf)",
                "args": {"asset": second, "amount": "100000", "rateMode": "2", "onBehalfOf": OWNER},
                "amounts": [{"argument": "amount", "token": second}, {"argument": "amount", "token": debt}],
            },
        }

    @property
    def unpriced(self) -> list[str]:
        """The tokens that those calls burn."""
        return [self._tokens[0], self._tokens[2]]

    def _deploy_lending(self) -> str:
        """A market of Aave V2 with both tokens as collateral."""
        deploy, send, read = self._packages.deploy, self._packages.send, self._packages.read
        addresses = f"{_AAVE}/protocol/configuration/LendingPoolAddressesProvider"
        provider = deploy(addresses, "dust")
        logic = f"{_AAVE}/protocol/libraries/logic"
        reserve = deploy(f"{logic}/ReserveLogic")
        generic = deploy(f"{logic}/GenericLogic")
        checks = deploy(f"{logic}/ValidationLogic", GenericLogic=generic)
        lending = f"{_AAVE}/protocol/lendingpool"
        pool = deploy(f"{lending}/LendingPool", ReserveLogic=reserve, ValidationLogic=checks)
        configurator = f"{lending}/LendingPoolConfigurator"
        self._oracle = deploy(f"{_AAVE}/mocks/oracle/PriceOracle")
        for function, argument in (
            ("setPoolAdmin", RICH),
            ("setEmergencyAdmin", RICH),
            ("setPriceOracle", self._oracle),
            ("setLendingRateOracle", deploy(f"{_AAVE}/mocks/oracle/LendingRateOracle")),
            ("setLendingPoolImpl", pool),
            ("setLendingPoolConfiguratorImpl", deploy(configurator)),
        ):
            send(addresses, provider, function, argument)
        at = str(read(addresses, provider, "getLendingPool"))
        admin = str(read(addresses, provider, "getLendingPoolConfigurator"))
        for asset in self._pair:
            send(configurator, admin, "initReserve", *self._reserve(asset, provider, at))
            send(configurator, admin, "configureReserveAsCollateral", asset.address, 7500, 8000, 10500)
            send(configurator, admin, "enableBorrowingOnReserve", asset.address, False)
            send(f"{_AAVE}/mocks/oracle/PriceOracle", self._oracle, "setAssetPrice", asset.address, 10**18)
        return at

    def _reserve(self, asset: AssetUnderTest, provider: str, pool: str) -> Iterator[Any]:
        """What `initReserve` takes: three tokens, decimals, and the rates."""
        tokens = f"{_AAVE}/protocol/tokenization"
        yield self._packages.deploy(f"{tokens}/AToken", pool, asset.address, RICH, "a", "a", _NOBODY)
        for name in ("StableDebtToken", "VariableDebtToken"):
            yield self._packages.deploy(f"{tokens}/{name}", pool, asset.address, "d", "d", _NOBODY)
        yield asset.decimals
        rates = (_RAY * 8 // 10, 0, _RAY // 25, _RAY, 0, 0)
        yield self._packages.deploy(
            f"{_AAVE}/protocol/lendingpool/DefaultReserveInterestRateStrategy", provider, *rates
        )

    def _borrow(self) -> None:
        """The owner owes the second token for its collateral of the first."""
        pool = f"{_AAVE}/protocol/lendingpool/LendingPool"
        first, second = self._pair
        units = [10**asset.decimals for asset in self._pair]
        self._packages.send(pool, self._lending, "deposit", first.address, 1000 * units[0], OWNER, 0, sender=OWNER)
        self._packages.send(pool, self._lending, "deposit", second.address, 1000 * units[1], OWNER, 0, sender=OWNER)
        self._packages.send(pool, self._lending, "borrow", second.address, 100 * units[1], 2, 0, OWNER, sender=OWNER)

    def _deploy_staking(self) -> str:
        """Aave's staked token over the first token; the rewards are of the second."""
        first, second = (asset.address for asset in self._pair)
        path = f"{_STAKE}/stake/StakedTokenV2"
        words = (10 * 86_400, 86_400, RICH, RICH, 10**9, "Staked", "STK", self._pair[0].decimals, _NOBODY)
        made = self._packages.deploy(path, first, second, *words)
        self._packages.send(path, made, "initialize")
        return made

    def _deploy_prizes(self) -> str:
        """A prize pool of PoolTogether that keeps the first token."""
        path = f"{_PRIZE}/prize-pool/StakePrizePool"
        made = self._packages.deploy(path, RICH, self._pair[0].address)
        ticket = self._packages.deploy(f"{_PRIZE}/Ticket", "Ticket", "TICKET", 18, made)
        self._packages.send(path, made, "setTicket", ticket)
        return made
