"""Documents, patches and filters of directories: as RFC 7643 has them, and as Okta and Entra send them."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun.services.access.scim.documents import (
    ENTERPRISE,
    PATCH,
    USER,
    Members,
    ScimGroup,
    ScimInvalid,
    ScimUser,
    patch_group,
    patch_user,
    read_filter,
    read_user,
)

_ADA = {
    "userName": "ada",
    "externalId": "x1",
    "active": True,
    "name": {"givenName": "Ada", "familyName": "King"},
    "emails": [{"value": "ada@example.com", "type": "work", "primary": True}],
}
_KNOWN = {"username": "userName", "id": "id", "emails.value": "emails.value"}


def _patched(*operations: dict[str, Any], **named: Any) -> ScimUser:
    return read_user(patch_user(_ADA, {"schemas": [PATCH], named.get("name", "Operations"): list(operations)}))


def test_a_user_keeps_what_this_server_needs() -> None:
    sent = {
        **_ADA,
        "schemas": [USER, ENTERPRISE],
        "title": "Countess",
        "phoneNumbers": [{"value": "1"}],
        "emails": [{"value": "home@example.com", "type": "home"}, {"value": "ADA@example.com", "primary": True}],
        ENTERPRISE: {"department": "Engines"},
    }
    expected = ScimUser("ada", "x1", "ada@example.com", "Ada King", {"name": _ADA["name"]}, True)
    assert read_user(sent) == expected
    assert read_user({"USERNAME": "ada@example.com"}) == ScimUser(
        "ada@example.com", None, "ada@example.com", "ada@example.com", {}, None
    )


@pytest.mark.parametrize(
    ("sent", "says", "scim_type"),
    [
        ({**_ADA, "shoeSize": 40}, 'There is no attribute "shoeSize".', "invalidSyntax"),
        ({**_ADA, "usernam": "x"}, 'There is no attribute "usernam". Did you mean "userName"?', "invalidSyntax"),
        ({**_ADA, "userName": ""}, '"userName" must be a text of 1 to 254 printable characters.', "invalidValue"),
        ({**_ADA, "userName": "a\x00b"}, '"userName" must be a text', "invalidValue"),
        ({**_ADA, "emails": []}, "A user needs an e-mail address", "invalidValue"),
        ({**_ADA, "emails": [{"value": "nobody"}]}, "A user needs an e-mail address", "invalidValue"),
        ({**_ADA, "active": "maybe"}, '"active" must be true or false.', "invalidValue"),
        ({**_ADA, "name": "Ada"}, '"name" must be an object', "invalidValue"),
        ([], "The body must be a JSON object.", "invalidSyntax"),
    ],
)
def test_what_a_user_cannot_be_is_said(sent: Any, says: str, scim_type: str) -> None:
    with pytest.raises(ScimInvalid) as refused:
        read_user(sent)
    assert (refused.value.message.startswith(says), refused.value.scim_type) == (True, scim_type), refused.value.message


@pytest.mark.parametrize(
    ("operation", "changed"),
    [
        ({"op": "replace", "value": {"active": False}}, {"active": False}),
        ({"op": "Replace", "path": "active", "value": "False"}, {"active": False}),
        ({"op": "replace", "path": f"{USER}:active", "value": False}, {"active": False}),
        ({"op": "Add", "path": "name.givenName", "value": "Augusta"}, {"display": "Augusta King"}),
        ({"op": "replace", "value": {"name.givenName": "Augusta"}}, {"display": "Augusta King"}),
        ({"op": "replace", "value": {"name": {"formatted": "The Countess"}}}, {"display": "The Countess"}),
        ({"op": "replace", "path": "displayName", "value": "Countess"}, {"display": "Countess"}),
        ({"op": "remove", "path": "externalId"}, {"external_id": None}),
        (
            {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "king@example.com"},
            {"email": "king@example.com"},
        ),
        (
            {"op": "add", "path": "emails", "value": [{"value": "b@example.com", "primary": True}]},
            {"email": "b@example.com"},
        ),
        ({"op": "add", "path": "emails", "value": [{"value": "b@example.com"}]}, {}),
        ({"op": "replace", "value": {f"{ENTERPRISE}:department": "Engines"}}, {}),
        ({"op": "add", "path": f"{ENTERPRISE}:manager", "value": "x"}, {}),
        ({"op": "add", "path": "title", "value": "x"}, {}),
    ],
)
def test_patches_of_users_in_the_shapes_of_directories(operation: dict[str, Any], changed: dict[str, Any]) -> None:
    before, after = read_user(_ADA), _patched(operation)
    named = {name: getattr(after, name) for name in ("active", "display", "external_id", "email")}
    assert named == {name: getattr(before, name) for name in named} | changed


@pytest.mark.parametrize(
    ("operation", "scim_type"),
    [
        ({"op": "move", "path": "active"}, "invalidSyntax"),
        ({"op": "remove"}, "noTarget"),
        ({"op": "replace", "path": "id", "value": "x"}, "mutability"),
        ({"op": "replace", "path": "shoeSize", "value": 1}, "invalidPath"),
        ({"op": "replace", "path": "name.nick", "value": "x"}, "invalidPath"),
        ({"op": "replace", "path": "emails[type eq", "value": "x"}, "invalidPath"),
        ({"op": "replace", "path": "urn:other:active", "value": "x"}, "invalidPath"),
        ({"op": "replace", "value": "active"}, "invalidValue"),
        ({"op": "remove", "path": "userName"}, "invalidValue"),
    ],
)
def test_a_patch_that_cannot_be_is_refused(operation: dict[str, Any], scim_type: str) -> None:
    with pytest.raises(ScimInvalid) as refused:
        _patched(operation)
    assert refused.value.scim_type == scim_type


@pytest.mark.parametrize(
    ("operation", "change"),
    [
        ({"op": "add", "path": "members", "value": [{"value": "a"}, {"value": "a"}]}, Members("add", ["a"])),
        ({"op": "Add", "value": {"members": [{"value": "a"}]}}, Members("add", ["a"])),
        ({"op": "remove", "path": 'members[value eq "a"]'}, Members("remove", ["a"])),
        ({"op": "Remove", "path": "members", "value": [{"value": "a"}]}, Members("remove", ["a"])),
        ({"op": "remove", "path": "members"}, Members("replace", [])),
        ({"op": "replace", "path": "members", "value": [{"value": "b"}]}, Members("replace", ["b"])),
    ],
)
def test_patches_of_members_in_the_shapes_of_directories(operation: dict[str, Any], change: Members) -> None:
    sent = {"schemas": [PATCH], "Operations": [operation]}
    assert patch_group(ScimGroup("traders", None, None), sent) == (ScimGroup("traders", None, None), [change])


def test_a_group_is_renamed_by_a_patch_that_repeats_its_id() -> None:
    sent = {"schemas": [PATCH], "Operations": [{"op": "replace", "value": {"id": "g", "displayName": "sellers"}}]}
    assert patch_group(ScimGroup("traders", None, None), sent) == (ScimGroup("sellers", None, None), [])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ('userName eq "Ada"', {"username": "Ada"}),
        ('USERNAME EQ "a \\"b\\" and c"', {"username": 'a "b" and c'}),
        (f'{USER}:userName eq "ada"', {"username": "ada"}),
        ('emails[type eq "work"].value eq "a@b"', {"emails.value": "a@b"}),
        ('emails eq "a@b"', {"emails.value": "a@b"}),
        ('id eq "1" and userName eq "b"', {"id": "1", "username": "b"}),
    ],
)
def test_filters_that_directories_ask_by(text: str, found: dict[str, str]) -> None:
    assert read_filter(text, _KNOWN) == found


@pytest.mark.parametrize(
    "text", ['userName sw "a"', "userName eq ada", 'title eq "x"', 'id eq "1" or id eq "2"', "(", 'id eq "\\u0000"']
)
def test_a_filter_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(ScimInvalid) as refused:
        read_filter(text, _KNOWN)
    assert refused.value.scim_type == "invalidFilter"
