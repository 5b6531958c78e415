"""Transactions signed a second: a local wallet's signer, and eth_account on the same transactions.

    scripts/bench signing [--scale 20000] [--seed 1]

eth_account runs twice, in a process of its own each: with its own elliptic curve in Python, as it comes, and with
coincurve beside it. Every signed transaction of ours is compared byte for byte with theirs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from typing import Any

from dustrun.core.values.addresses import checksum
from dustrun.wallets.local import Keyring, LocalSigner
from dustrun.wallets.secp256k1 import SecretKey
from dustrun.wallets.signer import UnsignedTransaction

DEFAULT_SCALE = 20_000
_PEER_SHARE = {"python": 20, "coincurve": 4}
_BACKENDS = {
    "python": "eth_keys.backends.native.NativeECCBackend",
    "coincurve": "eth_keys.backends.coincurve.CoinCurveECCBackend",
}
_ROUNDS = 3


def run(scale: int | None = None, seed: int = 1) -> dict[str, Any]:
    """Transactions a second, medians of three rounds; the peers sign a part of the same ones."""
    count = scale or DEFAULT_SCALE
    key, unsigned = _work(count, seed)
    ours = [asyncio.run(_ours(key, unsigned)) for _ in range(_ROUNDS)]
    found: dict[str, Any] = {
        "transactions": count,
        "local signer, a second": round(statistics.median(rate for rate, _ in ours)),
        "python": platform.python_version(),
        "coincurve": version("coincurve"),
        "eth_account": version("eth-account"),
    }
    digests = ours[0][1]
    for backend, share in _PEER_SHARE.items():
        part = max(20, count // share)
        theirs = [_peer(backend, part, seed, count) for _ in range(_ROUNDS)]
        if any(peer["digests"] != digests[:part] for peer in theirs):
            raise AssertionError(f"eth_account with {backend} signs other bytes")
        found[f"eth_account with {backend}, a second"] = round(statistics.median(peer["rate"] for peer in theirs))
    found["times as fast as it comes"] = round(
        found["local signer, a second"] / found["eth_account with python, a second"], 1
    )
    return found


def _work(count: int, seed: int) -> tuple[bytes, list[UnsignedTransaction]]:
    """Transfers of a token, every fourth a plain one, half of them legacy."""
    draw = random.Random(seed)
    unsigned = []
    for nonce in range(count):
        to = checksum("0x" + draw.randbytes(20).hex())
        data = b"" if nonce % 4 == 0 else bytes.fromhex("a9059cbb") + draw.randbytes(64)
        fee = draw.randrange(10**9, 10**11)
        tip = draw.randrange(1, 10**9)
        unsigned.append(
            UnsignedTransaction(1, nonce, to, draw.randrange(10**20), data, 65_000, fee, tip, bool(nonce % 2))
        )
    return draw.randbytes(32), unsigned


async def _ours(key: bytes, unsigned: list[UnsignedTransaction]) -> tuple[float, list[str]]:
    ring = Keyring(3600)
    address = SecretKey(key).address()

    async def unlock() -> SecretKey:
        return SecretKey(key)

    signer = LocalSigner(address, lambda: ring.key("wal_bench", unlock))
    await signer.sign_transaction(unsigned[0])
    began = time.perf_counter()
    signed = [await signer.sign_transaction(each) for each in unsigned]
    taken = time.perf_counter() - began
    ring.close()
    return len(signed) / taken, [hashlib.sha256(each.raw).hexdigest() for each in signed]


def _peer(backend: str, part: int, seed: int, count: int) -> dict[str, Any]:
    environment = {**os.environ, "ECC_BACKEND_CLASS": _BACKENDS[backend]}
    words = [sys.executable, "-m", "bench.bench_signing", str(part), str(seed), str(count)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _serve_as_peer(part: int, seed: int, count: int) -> None:
    from eth_account import Account  # slow import

    key, unsigned = _work(count, seed)
    account = Account.from_key(key)
    asked = []
    for each in unsigned[:part]:
        fees: dict[str, Any] = {"type": 2, "maxFeePerGas": each.max_fee_units, "maxPriorityFeePerGas": each.tip_units}
        if each.is_legacy:
            fees = {"gasPrice": each.max_fee_units}
        call = {"to": each.to, "value": each.value_units, "data": each.data, "gas": each.gas_limit}
        asked.append({"chainId": each.chain_id, "nonce": each.nonce, **call, **fees})
    account.sign_transaction(asked[0])
    began = time.perf_counter()
    signed = [account.sign_transaction(each) for each in asked]
    taken = time.perf_counter() - began
    digests = [hashlib.sha256(each.raw_transaction).hexdigest() for each in signed]
    print(json.dumps({"rate": part / taken, "digests": digests}))


if __name__ == "__main__":
    _serve_as_peer(*map(int, sys.argv[1:]))
