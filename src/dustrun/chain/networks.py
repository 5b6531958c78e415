"""Loads network definitions: the JSON files of this package, and the operator's own, which add or override."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from dustrun.core.evm.network import Network
from dustrun.core.text.wording import explain
from dustrun.core.values.addresses import read_address
from dustrun.errors import Code, Invalid, Problem

_FOLDER: Final = Path(__file__).parent / "networks"


class NetworkFileError(Invalid):
    """An unusable network file; the message names the file and the field."""


def load_networks(own_folder: Path | None, endpoints: Mapping[int, Sequence[str]]) -> dict[int, Network]:
    """All networks by id. A file in `own_folder` for a known chain needs only `chainId` and what differs; `endpoints`
    of the settings replace those of files. Raises `NetworkFileError`.
    """
    ours = _of_package()
    described = {chain_id: (path, fields) for chain_id, (path, fields, _) in ours.items()}
    own = [] if own_folder is None else list(_read_folder(own_folder.expanduser()))
    for path, fields in own:
        chain_id = fields.get("chainId")
        if not isinstance(chain_id, int):
            raise NetworkFileError(f"{path}: chainId: must be the number of the chain")
        before = described.get(chain_id, (path, {}))[1]
        described[chain_id] = (path, {**before, **fields})
    networks = {chain_id: network for chain_id, (_, _, network) in ours.items()}
    for chain_id in dict.fromkeys(fields["chainId"] for _, fields in own):
        networks[chain_id] = _network(*described[chain_id])
    _check_names(networks.values())
    for chain_id, urls in endpoints.items():
        if chain_id not in networks:
            known = ", ".join(str(known) for known in sorted(networks))
            raise NetworkFileError(f"chain_endpoints: {chain_id}: no file describes that chain; known are {known}")
        networks[chain_id] = networks[chain_id].model_copy(update={"endpoints": tuple(urls)})
    return dict(sorted(networks.items()))


@functools.cache
def _of_package() -> Mapping[int, tuple[Path, dict[str, Any], Network]]:
    """The networks of this package, by id, with their files."""
    return {fields["chainId"]: (path, fields, _network(path, fields)) for path, fields in _read_folder(_FOLDER)}


def _read_folder(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    if not folder.is_dir():
        raise NetworkFileError(f"networks_dir: {folder} is not a folder")
    for path in sorted(folder.glob("*.json")):
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise NetworkFileError(f"{path}: {error}") from None
        if not isinstance(fields, dict):
            raise NetworkFileError(f"{path}: must be one JSON object")
        yield path, fields


def _network(path: Path, fields: Mapping[str, Any]) -> Network:
    try:
        network = Network.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise NetworkFileError(f"{path}: {where}: {explain(first['type'], first['msg'])}") from None
    for place, url in enumerate(network.endpoints):  # not shown in the message: it may contain a secret
        if not url.startswith(("http://", "https://")):
            raise NetworkFileError(f"{path}: endpoints.{place}: must be an http:// or https:// URL")
    for field, address in network.addresses():
        try:
            if read_address(address) != address:
                raise ValueError(f'"{address}" needs its EIP-55 checksum: {read_address(address)}')
        except ValueError as error:
            raise NetworkFileError(f"{path}: {field}: {error}") from None
    return network


def _check_names(networks: Iterable[Network]) -> None:
    taken: dict[str, int] = {}
    for network in networks:
        if network.short_name in taken:
            both = f"{taken[network.short_name]} and {network.chain_id}"
            raise NetworkFileError(f"the chains {both} have the same shortName {network.short_name!r}")
        taken[network.short_name] = network.chain_id


def get_network(networks: Mapping[int, Network], wanted: int | str) -> Network:
    """A network by id, short name or name; raises `Invalid` with similar names."""
    for network in networks.values():
        if str(wanted).casefold() in (str(network.chain_id), network.short_name, network.name.casefold()):
            return network
    names = {name: network for network in networks.values() for name in (network.short_name, str(network.chain_id))}
    near = [names[name] for name in difflib.get_close_matches(str(wanted).casefold(), names, n=3)]
    shown = near or list(networks.values())
    listed = ", ".join(f"{network.chain_id} ({network.name})" for network in dict.fromkeys(shown))
    asked = "Did you mean" if near else "Known chains:"
    message = (
        f'There is no chain "{wanted}". {asked} {listed}{"?" if near else "."} An operator adds chains by '
        "files in `networks_dir`."
    )
    raise Invalid(message, code=Code.CHAIN_UNKNOWN, details=[Problem("chainId", message)])
