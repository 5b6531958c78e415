"""Managed tables on a real store: columns, rows, filters that compare exactly, uniqueness, limits, files."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dustrun.storage.backup.backup import back_up
from dustrun.storage.backup.restore import restore
from testkit.composition import Client, Composition, composed

COLUMNS = [
    {"name": "id", "type": "text"},
    {"name": "n", "type": "integer", "unique": True},
    {"name": "amount", "type": "decimal"},
    {"name": "open", "type": "boolean", "default": True},
    {"name": "at", "type": "timestamp"},
    {"name": "more", "type": "json"},
]


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    limits = {"max_tables": 3, "max_table_rows": 50, "max_table_bytes": 100_000}
    async with composed(tmp_path, database_url=store_url, **limits) as composition:
        yield composition


@pytest.fixture
async def orders(server: Composition) -> Client:
    await server.owner.post("/v1/tables", {"name": "orders", "columns": COLUMNS})
    return server.owner


async def add(api: Client, *rows: dict[str, Any], mode: str = "insert") -> Any:
    return await api.post("/v1/tables/orders/rows", {"rows": list(rows), "mode": mode})


async def ids(api: Client, where: dict[str, Any] | None = None, **query: Any) -> list[str]:
    words = {**query, **({"where": json.dumps(where)} if where is not None else {})}
    path = "/v1/tables/orders/rows?" + "&".join(f"{name}={quote(str(value))}" for name, value in words.items())
    return [item["values"]["id"] for item in (await api.get(path)).data["items"]]


async def count(api: Client) -> tuple[int, int]:
    table = (await api.get("/v1/tables/orders")).data
    return table["rowCount"], table["byteCount"]


async def test_row_comes_back_as_it_was_stored(orders: Client) -> None:
    row = {"id": "a", "n": 10**30, "amount": "12.50", "at": "2026-05-01T14:00:00+02:00", "more": {"x": [1, None]}}
    assert (await add(orders, row)).data == {"keys": ["a"], "inserted": 1, "updated": 0, "deleted": 0}
    answer = await orders.http.get("/v1/tables/orders/rows/a")
    assert '"amount":12.50' in answer.text
    assert answer.json()["data"]["values"] == {
        "id": "a",
        "n": str(10**30),
        "amount": 12.5,
        "open": True,
        "at": "2026-05-01T12:00:00.000Z",
        "more": {"x": [1, None]},
    }
    assert (await count(orders))[0] == 1
    assert (await orders.delete("/v1/tables/orders/rows/a")).data["deleted"] == 1
    assert (await orders.delete("/v1/tables/orders/rows/a")).code == 404131
    assert await count(orders) == (0, 0)


NUMBERS = ["-1e30", "-10.5", "-10.05", "-1", "-0.001", "0", "0.0009", "0.001", "1", "9.99", "10", "1e20", "1.5e99"]


@pytest.mark.both_stores
async def test_numbers_compare_exactly_whatever_their_size(orders: Client) -> None:
    shuffled = sorted(range(len(NUMBERS)), key=lambda number: number * 7 % len(NUMBERS))
    await add(orders, *({"id": f"{number:02}", "amount": NUMBERS[number]} for number in shuffled))
    names = [f"{number:02}" for number in range(len(NUMBERS))]
    assert await ids(orders, sort="amount") == names
    assert await ids(orders, sort="-amount") == names[::-1]
    for number, operator in itertools.product(range(len(NUMBERS)), ("$lt", "$lte", "$gt", "$gte", "$eq", "$ne")):
        wanted = {
            "$lt": names[:number],
            "$lte": names[: number + 1],
            "$gt": names[number + 1 :],
            "$gte": names[number:],
            "$eq": [names[number]],
            "$ne": names[:number] + names[number + 1 :],
        }[operator]
        assert sorted(await ids(orders, {"amount": {operator: NUMBERS[number]}})) == wanted, (number, operator)


async def test_filters_combine_and_pages_follow(orders: Client) -> None:
    await add(
        orders,
        *({"id": f"{n:02}", "n": n, "open": n % 2 == 0, "amount": None if n == 4 else str(n)} for n in range(12)),
    )
    assert await ids(orders, {"open": True, "n": {"$gte": 4, "$lt": 9}}) == ["04", "06", "08"]
    assert await ids(orders, {"id": {"$in": ["01", "03", "99"]}}) == ["01", "03"]
    assert await ids(orders, {"amount": None}) == ["04"]
    assert await ids(orders, {"amount": {"$lt": 3}}) == ["00", "01", "02"]
    assert await ids(orders, {"open": False}, sort="-n", limit=2, offset=1) == ["09", "07"]
    page = (await orders.get("/v1/tables/orders/rows?limit=5&offset=10")).data
    assert (len(page["items"]), page["hasMore"]) == (2, False)


async def test_upsert_update_and_delete(orders: Client) -> None:
    await add(orders, {"id": "a", "n": 1, "amount": "1"}, {"id": "b", "n": 2})
    written = (await add(orders, {"id": "b", "amount": "5"}, {"id": "c"}, mode="upsert")).data
    assert written == {"keys": ["b", "c"], "inserted": 1, "updated": 1, "deleted": 0}
    assert (await orders.get("/v1/tables/orders/rows/b")).data["values"]["n"] == 2
    body = {"where": {"n": {"$gt": 0}}, "values": {"open": False}}
    changed = await orders.send("PATCH", "/v1/tables/orders/rows", body)
    assert changed.data == {"keys": ["a", "b"], "inserted": 0, "updated": 2, "deleted": 0}
    assert await ids(orders, {"open": True}) == ["c"]
    gone = await orders.post("/v1/tables/orders/rows/delete", {"where": {"open": False}})
    assert gone.data["keys"] == ["a", "b"]
    assert await ids(orders) == ["c"]


async def test_taken_values_refuse_the_whole_call(orders: Client) -> None:
    await add(orders, {"id": "a", "n": 1})
    for row, field in (({"id": "a"}, "rows[1].id"), ({"id": "c", "n": 1}, "rows[1].n"), ({"id": "b"}, "rows[1].id")):
        refused = await add(orders, {"id": "b"}, row)
        assert (refused.code, refused.fields) == (409130, [field])
    assert await ids(orders) == ["a"]
    await add(orders, {"id": "b", "n": None}, {"id": "c", "n": None})
    body = {"where": {"id": {"$in": ["b", "c"]}}, "values": {"n": 7}}
    assert (await orders.send("PATCH", "/v1/tables/orders/rows", body)).code == 409130
    assert await ids(orders, {"n": 7}) == []
    # a value that its row gives up is free again
    await orders.send("PATCH", "/v1/tables/orders/rows", {"where": {"id": "a"}, "values": {"n": 2}})
    assert (await add(orders, {"id": "d", "n": 1})).data["inserted"] == 1


BAD_ROWS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "rows[0].id", "is required"),
    ({"id": "x", "nope": 1}, "rows[0].nope", "is not a column of the table;"),
    ({"id": 1}, "rows[0].id", "must be text"),
    ({"id": "x", "n": "1.5"}, "rows[0].n", "must be an integer"),
    ({"id": "x", "n": True}, "rows[0].n", "must be an integer"),
    ({"id": "x", "amount": "1e9999"}, "rows[0].amount", "must be an exact number"),
    ({"id": "x", "amount": "NaN"}, "rows[0].amount", "must be an exact number"),
    ({"id": "x", "amount": "1_5"}, "rows[0].amount", "must be an exact number"),
    ({"id": "x", "amount": " 1"}, "rows[0].amount", "must be an exact number"),
    ({"id": "x", "amount": "\u0661"}, "rows[0].amount", "must be an exact number"),
    ({"id": "x", "open": 1}, "rows[0].open", "must be true or false"),
    ({"id": "x", "at": "yesterday"}, "rows[0].at", "must be a timestamp"),
    ({"id": "x\x00"}, "rows[0].id", "NUL"),
    ({"id": "x" * 600}, "rows[0].id", "too long for a primary key"),
]


async def test_rows_that_do_not_fit_are_named(orders: Client) -> None:
    for row, field, words in BAD_ROWS:
        refused = await add(orders, row)
        assert (refused.code, refused.fields) == (400130, [field]), row
        assert words in refused.body["details"][0]["message"], row


BAD_FILTERS = [
    ('{"nope": 1}', 400130, "where.nope"),
    ('{"more": 1}', 400130, "where.more"),
    ('{"n": {"$like": 1}}', 400130, "where.n"),
    ('{"n": {"$gt": null}}', 400130, "where.n"),
    ('{"n": {"$in": []}}', 400130, "where.n"),
    ('{"n": "x"}', 400130, "where.n"),
    ("[1]", 400002, "where"),
    ("{", 400002, "where"),
]


async def test_filters_that_do_not_fit_are_named(orders: Client) -> None:
    for where, code, field in BAD_FILTERS:
        refused = await orders.get(f"/v1/tables/orders/rows?where={quote(where)}")
        assert (refused.code, refused.fields) == (code, [field]), where


@pytest.mark.both_stores
async def test_names_and_values_of_users_never_become_sql(server: Composition) -> None:
    api = server.owner
    columns = [{"name": "select", "type": "text"}, {"name": "DROP", "type": "text"}]
    await api.post("/v1/tables", {"name": "orders", "primaryKey": "select", "columns": columns})
    evil = "'; DROP TABLE table_rows; --"
    await add(api, {"select": evil, "DROP": '")) OR 1=1 --'})
    found = (await api.get(f"/v1/tables/orders/rows?where={quote(json.dumps({'select': evil}))}")).data["items"]
    assert [item["values"]["select"] for item in found] == [evil]
    assert (await api.get(f"/v1/tables/orders/rows?sort={quote('DROP; SELECT')}")).code == 400130


BAD_TABLES: list[tuple[dict[str, Any], str]] = [
    ({"name": "Bad Name"}, "name"),
    ({"columns": []}, "columns"),
    ({"columns": [{"name": "a b", "type": "text"}]}, "columns[0].name"),
    ({"columns": [{"name": "a", "type": "float"}]}, "columns[0].type"),
    ({"columns": [{"name": "a", "type": "integer", "default": "x"}]}, ""),
    ({"columns": [{"name": "a", "type": "text"}, {"name": "a", "type": "text"}]}, ""),
    ({"columns": [{"name": "a", "type": "json", "unique": True}]}, ""),
    ({"primaryKey": "a", "columns": [{"name": "a", "type": "boolean"}]}, ""),
]


async def test_tables_that_cannot_be_are_refused(server: Composition) -> None:
    for change, field in BAD_TABLES:
        refused = await server.owner.post("/v1/tables", {"name": "orders", "columns": COLUMNS, **change})
        assert refused.code == 400001, change
        assert not field or refused.fields == [field], change


async def test_limits_of_tables_rows_and_bytes(orders: Client) -> None:
    column = [{"name": "a", "type": "text"}]
    for name in ("t2", "t3"):
        await orders.post("/v1/tables", {"name": name, "columns": column})
    assert (await orders.post("/v1/tables", {"name": "t4", "columns": column})).code == 409131
    assert (await orders.post("/v1/tables", {"name": "t3", "columns": column})).code == 409130
    await add(orders, *({"id": f"{n:02}"} for n in range(50)))
    assert (await orders.post("/v1/tables/t2/rows", {"rows": [{"a": "x"}]})).code == 409131
    await orders.post("/v1/tables/orders/rows/delete", {"where": {"id": {"$gte": "10"}}})
    made = (await orders.post("/v1/tables/t2/rows", {"rows": [{"a": "x" * 60_000}]})).data
    assert made["keys"][0].startswith("row_")
    assert (await orders.post("/v1/tables/t2/rows", {"rows": [{"a": "y" * 60_000}]})).code == 409131
    assert (await orders.delete("/v1/tables/t2")).data["rowCount"] == 1
    assert (await orders.get("/v1/tables/t2")).code == 404130
    assert (await orders.post("/v1/tables/t3/rows", {"rows": [{"a": "y" * 60_000}]})).data["inserted"] == 1


async def test_other_organisations_and_weaker_keys_see_nothing(server: Composition, orders: Client) -> None:
    await add(orders, {"id": "a"})
    other = await server.other_owner()
    assert (await other.get("/v1/tables")).data["items"] == []
    assert (await other.get("/v1/tables/orders/rows")).code == 404130
    assert (await other.delete("/v1/tables/orders")).code == 404130
    reader = await server.client_with("table:read")
    assert await ids(reader) == ["a"]
    assert (await add(reader, {"id": "b"})).code == 403001


async def test_export_is_a_file_of_the_rows(orders: Client) -> None:
    await add(orders, {"id": "a,b", "n": 1, "amount": "1.50", "more": {"x": 1}}, {"id": "c", "open": False})
    found = (await orders.get("/v1/tables/orders/export")).data
    assert (found["fileName"], found["rows"], found["hasMore"]) == ("orders.csv", 2, False)
    assert found["content"].split("\r\n") == [
        "id,n,amount,open,at,more",
        '"a,b",1,1.50,true,,"{""x"":1}"',
        "c,,,false,,",
        "",
    ]
    lines = (await orders.get("/v1/tables/orders/export?format=jsonl&offset=1")).data["content"].splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["c"]


async def test_call_with_a_key_happens_once(orders: Client) -> None:
    body = {"rows": [{"id": "a"}]}
    first = await orders.post("/v1/tables/orders/rows", body, headers={"Idempotency-Key": "k"})
    again = await orders.post("/v1/tables/orders/rows", body, headers={"Idempotency-Key": "k"})
    assert first.data == again.data
    assert (await count(orders))[0] == 1


@pytest.mark.both_stores
@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.long), "postgresql"])
async def test_backup_holds_tables_and_goes_into_either_store(
    orders: Client, tmp_path: Path, store_url: str, kind: str, request: pytest.FixtureRequest
) -> None:
    await add(orders, *({"id": f"r{number}", "n": 10**number, "amount": f"-{number}.5"} for number in range(12)))
    before = await ids(orders, {"amount": {"$lt": "-3"}}, sort="amount")
    assert before[0] == "r11"
    back_up(store_url, tmp_path / "backup")
    folder = tmp_path / "restored"
    folder.mkdir(mode=0o700)
    cluster = request.getfixturevalue("cluster") if kind == "postgresql" else None
    url = cluster.empty() if cluster is not None else f"sqlite:///{folder / 'dustrun.db'}"
    shutil.copy(tmp_path / "owner.key", folder)
    restore(url, folder, tmp_path / "backup")
    async with composed(folder, database_url=url) as restored:
        assert await ids(restored.owner, {"amount": {"$lt": "-3"}}, sort="amount") == before
        assert (await add(restored.owner, {"id": "x", "n": 10**11})).code == 409130
    if cluster is not None:
        cluster.drop(url)
