"""The server's description of itself for directories: RFC 7643, sections 5 to 7."""

from __future__ import annotations

from typing import Any, Final

from dustrun.services.access.scim.documents import GROUP, USER

Json = dict[str, Any]
_CORE: Final = "urn:ietf:params:scim:schemas:core:2.0"
_NO: Final = {"supported": False}
SERVICE_PROVIDER: Final[Json] = {
    "schemas": [f"{_CORE}:ServiceProviderConfig"],
    "patch": {"supported": True},
    "bulk": {**_NO, "maxOperations": 0, "maxPayloadSize": 0},
    "filter": {"supported": True, "maxResults": 200},
    "changePassword": _NO,
    "sort": _NO,
    "etag": _NO,
    "authenticationSchemes": [
        {
            "type": "oauthbearertoken",
            "name": "API key",
            "description": 'An API key with the permission "people:provision" alone, as a bearer token.',
            "primary": True,
        }
    ],
    "meta": {"resourceType": "ServiceProviderConfig", "location": "/ServiceProviderConfig"},
}


def _kind(name: str, endpoint: str, schema: str) -> Json:
    about = {"id": name, "name": name, "endpoint": endpoint, "schema": schema, "description": name}
    meta = {"resourceType": "ResourceType", "location": f"/ResourceTypes/{name}"}
    return {"schemas": [f"{_CORE}:ResourceType"], **about, "meta": meta}


RESOURCE_TYPES: Final[dict[str, Json]] = {
    "User": _kind("User", "/Users", USER),
    "Group": _kind("Group", "/Groups", GROUP),
}


def _attribute(name: str, description: str, type_: str = "string", **more: Any) -> Json:
    usual = {"multiValued": False, "required": False, "mutability": "readWrite", "returned": "default"}
    text = {"caseExact": False, "uniqueness": "none"} if type_ in ("string", "reference") else {}
    return {"name": name, "type": type_, "description": description, **usual, **text, **more}


def _schema(schema: str, name: str, attributes: list[Json]) -> Json:
    meta = {"resourceType": "Schema", "location": f"/Schemas/{schema}"}
    about = {"id": schema, "name": name, "description": name, "attributes": attributes}
    return {"schemas": [f"{_CORE}:Schema"], **about, "meta": meta}


_NAMES: Final = [
    _attribute("formatted", "The whole name."),
    _attribute("familyName", "The family name."),
    _attribute("givenName", "The given name."),
]
_EMAIL: Final = [
    _attribute("value", "The address, of ASCII characters; kept in lower case.", required=True),
    _attribute("type", "Always work.", canonicalValues=["work"]),
    _attribute("primary", "Always true: one address is kept.", "boolean"),
]
_GROUPS: Final = [
    _attribute("value", "Id of the group.", mutability="readOnly"),
    _attribute("display", "Name of the group.", mutability="readOnly"),
    _attribute("type", "Always direct.", mutability="readOnly", canonicalValues=["direct"]),
]
_MEMBERS: Final = [
    _attribute("value", "Id of a user.", mutability="immutable"),
    _attribute("type", "Always User.", mutability="immutable", canonicalValues=["User"]),
    _attribute("$ref", "Address of the user.", "reference", mutability="immutable", referenceTypes=["User"]),
]
SCHEMAS: Final[dict[str, Json]] = {
    USER: _schema(
        USER,
        "User",
        [
            _attribute("userName", "What the directory calls the user.", required=True, uniqueness="server"),
            _attribute("name", "The parts of the name.", "complex", subAttributes=_NAMES),
            _attribute("displayName", "What the person is called here."),
            _attribute("active", "False: the person can do nothing here.", "boolean"),
            _attribute("emails", "The address.", "complex", multiValued=True, required=True, subAttributes=_EMAIL),
            _attribute(
                "groups",
                "Groups that the user is in.",
                "complex",
                multiValued=True,
                mutability="readOnly",
                subAttributes=_GROUPS,
            ),
        ],
    ),
    GROUP: _schema(
        GROUP,
        "Group",
        [
            _attribute("displayName", "By it sign_in_groups gives permissions.", required=True, uniqueness="server"),
            _attribute("members", "The users.", "complex", multiValued=True, subAttributes=_MEMBERS),
        ],
    ),
}
