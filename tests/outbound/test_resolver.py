"""The guarded resolver hands the connector only what the guard has seen."""

from __future__ import annotations

import pytest

from dustrun.errors import Invalid
from dustrun.outbound.guard import Guard
from dustrun.outbound.resolver import GuardedResolver, SystemResolver
from outbound.loopback import FailingResolver, ScriptedResolver


async def test_resolve_drops_forbidden_answers() -> None:
    inner = ScriptedResolver(["10.0.0.1", "8.8.8.8", "::1", "2606:4700::1111"])
    found = await GuardedResolver(inner, Guard()).resolve("example.com", 80)
    assert [(item["host"], item["port"]) for item in found] == [("8.8.8.8", 80), ("2606:4700::1111", 80)]
    assert inner.asked == ["example.com"]


@pytest.mark.parametrize("answer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1%2", "64:ff9b::a00:1", "0.0.0.0"])
async def test_resolve_of_a_name_with_only_forbidden_answers(answer: str) -> None:
    with pytest.raises(Invalid, match=r'"example\.com".*outbound_allow'):
        await GuardedResolver(ScriptedResolver([answer]), Guard()).resolve("example.com", 80)


@pytest.mark.parametrize("resolver", [ScriptedResolver([]), FailingResolver()])
async def test_resolve_of_a_name_without_answers(resolver: ScriptedResolver) -> None:
    with pytest.raises(OSError, match=r"example\.com"):
        await GuardedResolver(resolver, Guard()).resolve("example.com", 80)


async def test_system_resolver_knows_localhost() -> None:
    assert "127.0.0.1" in await SystemResolver().resolve("localhost")
