"""Whom the settings let in, and with which permissions."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun.errors import Conflict, Forbidden
from dustrun.services.access.api_keys import READ
from dustrun.services.access.oidc.admission import SignInAdmission
from testkit.composition import Given

ADA = {"sub": "1", "name": " Ada ", "email": "Ada@Example.com", "email_verified": True}


def _admission(**settings: Any) -> SignInAdmission:
    return SignInAdmission(Given(sign_in_client_id="us", sign_in_issuer="https://id.example.com", **settings))


@pytest.mark.parametrize(
    ("claims", "email", "name"),
    [
        ({}, "ada@example.com", "Ada"),
        ({"email_verified": False}, None, "Ada"),
        ({"email_verified": None}, None, "Ada"),
        ({"email_verified": "true"}, None, "Ada"),
        ({"email": "ada"}, None, "Ada"),
        ({"email": "ada@ex\u0430mple.com"}, None, "Ada"),
        ({"name": None, "preferred_username": "ada"}, "ada@example.com", "ada"),
        ({"name": 7}, "ada@example.com", "ada@example.com"),
        ({"name": "A\u202ed\x00a\n"}, "ada@example.com", "Ada"),
        ({"name": "", "email": None}, None, "1"),
    ],
)
def test_an_address_counts_if_it_is_verified(claims: dict[str, Any], email: str | None, name: str) -> None:
    admitted = _admission().admit({**ADA, **claims})
    assert (admitted.subject, admitted.email, admitted.name, admitted.permissions) == ("1", email, name, None)


def test_addresses_that_are_not_said_to_be_verified_can_be_trusted() -> None:
    trusting = _admission(sign_in_trust_emails=True)
    assert trusting.admit({**ADA, "email_verified": None}).email == "ada@example.com"
    assert trusting.admit({**ADA, "email_verified": False}).email is None


@pytest.mark.parametrize("subject", ["", "x" * 256, 7, None])
def test_a_subject_is_a_short_text(subject: Any) -> None:
    with pytest.raises(Forbidden, match="who you are"):
        _admission().admit({**ADA, "sub": subject})


@pytest.mark.parametrize("claims", [{"email": "ada@example.org"}, {"email": None}, {"email_verified": False}])
def test_domains_are_of_verified_addresses(claims: dict[str, Any]) -> None:
    only = _admission(sign_in_domains=("@Example.COM", "example.net"))
    assert only.admit(ADA).email == "ada@example.com"
    with pytest.raises(Forbidden, match=r"example\.com or example\.net"):
        only.admit({**ADA, **claims})


@pytest.mark.parametrize(
    ("said", "given"),
    [
        (["traders"], {"wallet:spend", "run:read"}),
        (["traders", "approvers", "x"], {"wallet:spend", "run:read", "approval:decide"}),
        ("approvers", {"approval:decide"}),
        ({"approvers": {}}, {"approval:decide"}),
    ],
)
def test_permissions_are_those_of_the_groups(said: Any, given: set[str]) -> None:
    groups = {"traders": ("wallet:spend", "run:read"), "approvers": ("approval:decide",)}
    assert set(_admission(sign_in_groups=groups).admit({**ADA, "groups": said}).permissions or ()) == given


@pytest.mark.parametrize("said", [None, [], ["x"], [{"name": "traders"}], 7, "trad"])
def test_who_is_in_no_group_that_may_do_anything_is_not_let_in(said: Any) -> None:
    with pytest.raises(Forbidden, match="None of your groups"):
        _admission(sign_in_groups={"traders": ("read",)}).admit({**ADA, "groups": said})


def test_everybody_can_be_given_something_and_presets_are_named() -> None:
    found = _admission(sign_in_groups={"*": ("read",), "a": ("admin",)})
    assert found.admit(ADA).permissions == tuple(sorted(READ))
    assert found.admit({**ADA, "groups": ["a", "*"]}).permissions == tuple(sorted({*READ, "admin"}))


@pytest.mark.parametrize(
    ("claim", "claims"),
    [("https://a.example/roles", {"https://a.example/roles": ["t"]}), ("realm.roles", {"realm": {"roles": ["t"]}})],
)
def test_groups_are_found_under_any_name(claim: str, claims: dict[str, Any]) -> None:
    found = _admission(sign_in_groups={"t": ("run:read",)}, sign_in_groups_claim=claim)
    assert found.admit({**ADA, **claims}).permissions == ("run:read",)
    assert found.lacks(ADA, is_first=False)
    assert not found.lacks({**ADA, **claims}, is_first=False)


def test_groups_that_the_provider_leaves_out_are_not_none() -> None:
    found = _admission(sign_in_groups={"t": ("run:read",), "*": ("run:read",)})
    with pytest.raises(Forbidden, match="too many groups"):
        found.admit({**ADA, "_claim_names": {"groups": "src1"}})


def test_settings_that_give_what_is_no_permission_are_refused() -> None:
    with pytest.raises(Conflict, match=r'"a" what is no permission: "run:raed".*run:read'):
        _admission(sign_in_groups={"a": ("run:raed",)})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sign_in_issuer": "https://id.example.com"}, "sign_in_client_id"),
        ({"sign_in_client_id": "x", "sign_in_issuer": "http://id.example.com"}, "https://"),
        ({"sign_in_scopes": "email,profile"}, "openid"),
        ({"sign_in_create": True}, "sign_in_groups"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Given(**settings)
