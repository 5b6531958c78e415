"""The bundled chains, and those that operators bring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dustrun.chain.networks import NetworkFileError, get_network, load_networks
from dustrun.errors import Code, Invalid

OWN: dict[str, Any] = {
    "chainId": 4242,
    "name": "Own",
    "shortName": "own",
    "native": {"symbol": "OWN", "name": "Own"},
    "blockTimeMs": 1000,
    "confirmations": 2,
}


def write(folder: Path, **fields: Any) -> Path:
    (folder / f"{len(list(folder.iterdir()))}.json").write_text(json.dumps(fields))
    return folder


def test_bundled_chains_are_whole() -> None:
    networks = load_networks(None, {})
    mainnets = {1: 12, 10: 10, 56: 15, 137: 32, 8453: 10, 42161: 20, 43114: 3}
    testnets = {97, 43113, 80002, 84532, 421614, 11155111, 11155420, 31337}
    assert set(networks) == {*mainnets, *testnets}
    for chain_id, network in networks.items():
        assert network.is_testnet == (chain_id in testnets)
        assert network.is_local == (chain_id == 31337)
        assert network.endpoints == (), "an address is used only where the operator names it"
        known = {token.address for token in network.tokens}
        assert all(feed.token is None or feed.token in known for feed in network.feeds)
        assert len(known) == len(network.tokens)
        if chain_id in mainnets:
            assert network.confirmations == mainnets[chain_id]
            assert network.genesis_hash is not None
            assert network.wrapped_native in known
            assert {"USDC", "USDT"} <= {token.symbol for token in network.tokens}
            assert {None, network.wrapped_native} <= {feed.token for feed in network.feeds}
            assert all(value is not None for _, value in network.dex)
    assert {chain_id for chain_id, network in networks.items() if network.sequencer_feed} == {10, 8453, 42161}


def test_an_operator_adds_and_overrides(tmp_path: Path) -> None:
    write(tmp_path, **OWN, endpoints=["http://127.0.0.1:1"])
    write(tmp_path, chainId=1, confirmations=40)
    networks = load_networks(tmp_path, {8453: ("https://a.example/key", "https://b.example")})
    assert networks[4242].endpoints == ("http://127.0.0.1:1",)
    assert (networks[1].confirmations, networks[1].name) == (40, "Ethereum")
    assert networks[8453].endpoints == ("https://a.example/key", "https://b.example")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({**OWN, "confirmations": 0}, "confirmations: Must be greater"),
        ({**OWN, "gas": 1}, "gas: Unknown field"),
        ({**OWN, "shortName": "base"}, "8453 and 4242 have the same shortName 'base'"),
        ({**OWN, "wrappedNative": "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"}, "wrapped_native: .*needs its EIP-55"),
        ({**OWN, "multicall3": "0xcA11bde05977b3631167028862bE2a173976cA11"}, "multicall3: the checksum of"),
        ({**OWN, "endpoints": ["s3cret"]}, "endpoints.0: must be an http:// or https:// URL$"),
        ({"name": "No id"}, "chainId: must be the number"),
    ],
)
def test_a_bad_file_is_named_with_its_field(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(NetworkFileError, match=words):
        load_networks(write(tmp_path, **fields), {})


def test_a_folder_or_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(NetworkFileError, match="no-such-folder is not a folder"):
        load_networks(tmp_path / "no-such-folder", {})
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(NetworkFileError, match=r"broken\.json: "):
        load_networks(tmp_path, {})
    with pytest.raises(NetworkFileError, match="chain_endpoints: 5: no file describes"):
        load_networks(None, {5: ("http://x",)})


def test_a_chain_is_found_by_id_and_names_and_near_ones_are_told() -> None:
    networks = load_networks(None, {})
    for wanted in (10, "10", "optimism", "OP Mainnet", "op mainnet"):
        assert get_network(networks, wanted).chain_id == 10
    with pytest.raises(Invalid, match=r"Did you mean 1 \(Ethereum\)\?") as raised:
        get_network(networks, "etherum")
    assert raised.value.code is Code.CHAIN_UNKNOWN
    with pytest.raises(Invalid, match="Known chains"):
        get_network(networks, 999_999)
