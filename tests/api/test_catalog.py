"""`/v1/actions`, `/v1/triggers`, `/v1/connector-types`: public, searchable, with everything an editor needs."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import zlib
from dataclasses import replace
from typing import Any

import jsonschema

from dustrun.catalog import Catalog
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


async def test_the_whole_list_is_compressed_and_sent_once(server: Composition) -> None:
    http = server.client(None).http
    for path in ("/v1/actions", "/v1/triggers", "/v1/actions?summary=true"):
        plain = await http.get(path, headers={"Accept-Encoding": "identity"})
        packed = await http.get(path, headers={"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2
        assert packed.json()["data"] == plain.json()["data"]
        assert packed.json()["requestId"] == packed.headers["x-request-id"] != plain.json()["requestId"]
        assert (packed.headers["etag"], packed.headers["cache-control"]) == (plain.headers["etag"], "no-cache")
        same = await http.get(path, headers={"If-None-Match": f'"other", {plain.headers["etag"]}'})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", plain.headers["etag"])
        assert (await http.get(path, headers={"If-None-Match": '"other"'})).status_code == 200
        omitting = await http.get(path, headers={"Dustrun-Omit-Null": "true", "Accept-Encoding": "gzip"})
        assert "content-encoding" not in omitting.headers
        assert len(omitting.json()["data"]) == len(plain.json()["data"])
    etags = {(await http.get(path)).headers.get("etag") for path in ("/v1/actions", "/v1/triggers", "/v1/actions?q=if")}
    assert len(etags) == 3
    assert None in etags


async def test_a_compressed_answer_is_what_other_programs_read(server: Composition) -> None:
    packed = await server.client(None).http.send(
        server.client(None).http.build_request("GET", "/v1/actions", headers={"Accept-Encoding": "gzip"}), stream=True
    )
    raw = b"".join([part async for part in packed.aiter_raw()])
    # one member with the right checksum and size, which `gzip` itself checks
    assert json.loads(gzip.decompress(raw))["requestId"] == packed.headers["x-request-id"]
    assert zlib.decompressobj(wbits=31).decompress(raw) == gzip.decompress(raw)


class _Counted(Catalog):
    """A catalogue that notes which thread builds its actions."""

    builders: list[int] = []  # noqa: RUF012 (Catalog is frozen)

    def public_actions(self, *, summary: bool = False) -> list[dict[str, Any]]:
        self.builders.append(threading.get_ident())
        return super().public_actions(summary=summary)


async def test_requests_before_the_lists_are_built_have_them_built_once_beside_the_loop(server: Composition) -> None:
    real = server.parts.catalog
    counted = _Counted(real.actions, real.triggers, real.connectors, real.specs())
    parts = replace(server.parts, catalog=counted)
    await asyncio.gather(*(parts.await_catalogue() for _ in range(5)))
    assert len(parts.public_actions) == len(server.parts.public_actions)
    assert len(counted.builders) == 1
    assert counted.builders != [threading.get_ident()]
