"""`/v1/actions`, `/v1/triggers`, `/v1/connector-types`: public, searchable, with everything an editor needs."""

from __future__ import annotations

import jsonschema

from testkit.composition import Composition


async def test_the_catalogue_needs_no_key_and_shows_schemas_that_fit_their_examples(server: Composition) -> None:
    anyone = server.client(None)
    actions = (await anyone.get("/v1/actions")).data
    assert {"log", "if", "for-each"} <= {shown["type"] for shown in actions}
    for shown in (*actions, *(await anyone.get("/v1/triggers")).data):
        jsonschema.Draft202012Validator(shown["payloadSchema"]).validate(shown["exampleInput"])
        jsonschema.Draft202012Validator.check_schema(shown["resultSchema"])
        assert shown["summary"], shown["type"]
        assert shown["name"], shown["type"]


async def test_one_type_and_its_summary(server: Composition) -> None:
    anyone = server.client(None)
    whole = (await anyone.get("/v1/actions/log")).data
    short = (await anyone.get("/v1/actions/log?summary=true")).data
    assert set(whole) - set(short) == {
        "description",
        "payloadSchema",
        "resultSchema",
        "exampleInput",
        "exampleOutput",
    }
    assert short == {name: whole[name] for name in short}
    assert short in (await anyone.get("/v1/actions?summary=true")).data
    assert (await anyone.get("/v1/triggers/manual")).data["type"] == "manual"
    for path in ("/v1/actions/lgo", "/v1/triggers/manua", "/v1/connector-types/none"):
        reply = await anyone.get(path)
        assert (reply.status, reply.code) == (404, 404008)
    assert '"log"' in (await anyone.get("/v1/actions/lgo")).body["message"]


async def test_tags_combine_with_and(server: Composition) -> None:
    anyone = server.client(None)

    async def types(query: str) -> set[str]:
        return {shown["type"] for shown in (await anyone.get(f"/v1/actions?{query}")).data}

    everything = await types("summary=true")
    control = await types("tags=control")
    assert {"if", "for-each"} <= control < everything
    assert await types("tags=control&tags=no-such-tag") == set()
    assert await types("tags=control,no-such-tag") == set()
    assert "if" in await types("q=IF")
    assert await types("q=zzzzzz") == set()
    types_of_connectors = {shown["type"]: shown for shown in (await anyone.get("/v1/connector-types")).data}
    assert types_of_connectors["http-bearer"]["secretFields"] == ["token"]
    one = (await anyone.get("/v1/connector-types/oauth2-refresh-token")).data
    assert one == types_of_connectors["oauth2-refresh-token"]
    assert (await anyone.get("/v1/connector-types/http-bearr")).code == 404008
    assert (await anyone.get("/v1/actions?summary=maybe")).fields == ["summary"]
