"""DNS rebinding: a name whose answer changes between the check and the connection."""

from __future__ import annotations

import pytest
from aiohttp import web

from dustrun.errors import Invalid
from dustrun.sdk.context import HttpRequest
from outbound.loopback import ScriptedResolver, Seen, client, serving

PUBLIC, PRIVATE = "127.0.0.1", "127.0.0.2"  # the client may reach the first and not the second


def _ok(_seen: Seen) -> web.Response:
    return web.Response(text="ok")


async def test_connection_goes_to_the_answer_that_was_checked() -> None:
    resolver = ScriptedResolver([PUBLIC], [PRIVATE])
    async with serving(_ok, PUBLIC) as public, client(resolver=resolver) as http:
        await http.request(HttpRequest("GET", f"http://rebind.example:{public.port}/"))
        assert (resolver.asked, len(public.seen)) == (["rebind.example"], 1)
        assert public.seen[0].headers["host"] == f"rebind.example:{public.port}"


@pytest.mark.parametrize("answers", [[PRIVATE], ["::ffff:7f00:2"], ["64:ff9b::7f00:2"], ["169.254.169.254", PRIVATE]])
async def test_name_of_a_forbidden_address_is_never_connected_to(answers: list[str]) -> None:
    async with serving(_ok, PRIVATE) as private, client(resolver=ScriptedResolver(answers)) as http:
        for method in ("GET", "POST"):
            with pytest.raises(Invalid, match=r'"rebind\.example".*outbound_allow'):
                await http.request(HttpRequest(method, f"http://rebind.example:{private.port}/"))
        assert private.seen == []


async def test_mixed_answer_connects_only_to_the_allowed_one() -> None:
    async with serving(_ok, PRIVATE) as private:
        resolver = ScriptedResolver([PRIVATE, PUBLIC])
        async with client(resolver=resolver) as http:
            with pytest.raises(Exception, match="no connection could be made"):
                await http.request(HttpRequest("GET", f"http://rebind.example:{private.port}/"))
        assert private.seen == []


async def test_redirect_hop_is_looked_up_and_checked_anew() -> None:
    async with serving(_ok, PRIVATE) as private:
        where = f"http://rebind.example:{private.port}/"
        async with serving(lambda _: web.Response(status=302, headers={"Location": where}), PUBLIC) as public:
            resolver = ScriptedResolver([PUBLIC], [PRIVATE])
            async with client(resolver=resolver) as http:
                with pytest.raises(Invalid, match="outbound_allow"):
                    await http.request(HttpRequest("GET", f"http://rebind.example:{public.port}/"))
            assert (len(public.seen), private.seen, len(resolver.asked)) == (1, [], 2)


async def test_every_new_connection_of_a_write_is_checked() -> None:
    async with serving(_ok, PUBLIC) as public, serving(_ok, PRIVATE) as private:
        resolver = ScriptedResolver([PUBLIC], [PRIVATE])
        async with client([f"{PUBLIC}:{public.port}"], resolver=resolver) as http:
            for _ in range(3):
                await http.request(HttpRequest("POST", f"http://rebind.example:{public.port}/"))
            with pytest.raises(Invalid):
                await http.request(HttpRequest("POST", f"http://rebind.example:{private.port}/"))
        assert (len(public.seen), private.seen) == (3, [])
