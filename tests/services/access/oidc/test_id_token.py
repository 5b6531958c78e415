"""Checks of an ID token beside its signature."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun.errors import Forbidden
from dustrun.services.access.oidc.id_token import check_nonce, check_party, check_times

NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("issued", "ends", "begun", "said"),
    [
        (0, 300, 0, ""),
        (60, 300, 0, ""),
        (-60, 300, 0, ""),
        (-30, -60, None, ""),
        (300, 600, 0, "300 seconds ahead of"),
        (61, 600, None, "61 seconds ahead of"),
        (-300, 300, 0, "300 seconds behind"),
        (-300, 300, None, ""),
        (-3900, -300, None, "at least 300 seconds behind"),
    ],
)
def test_clocks_are_a_minute_apart_at_most(issued: int, ends: int, begun: int | None, said: str) -> None:
    claims = {"iat": NOW + issued, "exp": NOW + ends}
    begun_s = None if begun is None else NOW + begun
    if not said:
        check_times(claims, now_s=NOW, begun_s=begun_s)
        return
    with pytest.raises(Forbidden, match=said):
        check_times(claims, now_s=NOW, begun_s=begun_s)


@pytest.mark.parametrize("wrong", ["1800000000", True, None])
def test_a_time_that_is_no_number_is_none(wrong: Any) -> None:
    with pytest.raises(Forbidden, match="iat must be a number"):
        check_times({"iat": wrong, "exp": NOW}, now_s=NOW)


@pytest.mark.parametrize(
    ("claims", "is_ours"),
    [
        ({"aud": "us"}, True),
        ({"aud": ["us"]}, True),
        ({"aud": ["us", "them"], "azp": "us"}, True),
        ({"aud": ["us", "them"]}, False),
        ({"aud": ["us", "them"], "azp": "them"}, False),
        ({"aud": "us", "azp": "them"}, False),
    ],
)
def test_a_token_is_for_the_client_that_asked(claims: dict[str, Any], is_ours: bool) -> None:
    if is_ours:
        check_party(claims, "us")
        return
    with pytest.raises(Forbidden, match="another client"):
        check_party(claims, "us")


@pytest.mark.parametrize("said", ["other", "", None, 7, "nonc\u00e9"])
def test_a_nonce_is_that_of_the_sign_in(said: Any) -> None:
    check_nonce({"nonce": "nonce"}, "nonce")
    with pytest.raises(Forbidden, match="another sign-in"):
        check_nonce({"nonce": said}, "nonce")
