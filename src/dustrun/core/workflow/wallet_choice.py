"""Checks which wallet the expression of a node's connector gives."""

from __future__ import annotations

import re
from typing import Any, Final

from dustrun.core.workflow.definition import WALLET, ConnectorReference
from dustrun.errors import Invalid, Problem

_WALLET_ID: Final = re.compile(r"wal_[0-9A-Za-z]{1,64}")
_FIELD: Final = "connector.id"


def choose(reference: ConnectorReference, value: Any) -> ConnectorReference:
    """The reference with the id that its expression gave; raises `Invalid` if that is no wallet's id, or none that
    `oneOf` lists."""
    if not isinstance(value, str) or _WALLET_ID.fullmatch(value) is None:
        # not quoted: it may be any value of the run
        raise _invalid("The expression does not give the id of a wallet (wal_…); GET /v1/wallets lists the ids.")
    if reference.one_of is not None and value not in reference.one_of:
        raise _invalid(f'The expression gives the wallet "{value}", which connector.oneOf does not list.')
    return ConnectorReference(type=WALLET, id=value)


def _invalid(message: str) -> Invalid:
    return Invalid(f"{_FIELD}: {message}", details=[Problem(_FIELD, message)])
