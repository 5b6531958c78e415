"""Sentences as a policy, one a line: `pay 0x… up to $2,000 a month, ask above $100`.

Every word must be understood: a line with a word that is not known is a problem, and no policy comes of it. What
sentences cannot say of a policy is given as the rest of its document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field, replace
from decimal import Decimal
from typing import Any, Final, Literal

from dustrun.core.money.policy.document import HOUR_MS, WalletPolicy, with_defaults
from dustrun.core.values.addresses import read_address
from dustrun.records import dataclass

Json = dict[str, Any]
_DAY: Final = 24 * HOUR_MS
SPANS: Final = {"an hour": HOUR_MS, "a day": _DAY, "a week": 7 * _DAY, "a month": 30 * _DAY}
_AMOUNT: Final = r"\$?(?P<usd>[0-9][0-9,]*(?:\.[0-9]+)?)(?: ?(?:usd|dollars?))?"
_SPAN: Final = (
    r"(?: (?P<span>an hour|a day|a week|a month|per (?:hour|day|week|month)|at once|in one run"
    r"|in [0-9]+ (?:hours|days)))?"
)
_UP_TO: Final = re.compile(rf"(?:^| )(?:up to|at most) {_AMOUNT}{_SPAN}(?= |$)", re.I)
_ASK: Final = re.compile(rf"(?:,? and|,|;|^)? ?\bask(?: a person)? (?:above|over) {_AMOUNT}{_SPAN}(?= |,|;|$)", re.I)
_TIMES: Final = re.compile(rf"(?:up to|at most) (?P<count>[0-9]+) times{_SPAN}", re.I)
_ACTS: Final = r"pay fees|pay|swap|use|trade|call|move|spend|sign|wait|ask for fees above|never ask for fees"
_VERB: Final = re.compile(rf"(?P<verb>on|{_ACTS})\b", re.I)
_BEFORE: Final = re.compile(rf"on (?P<chains>.+?) ?[,:] ?(?P<rest>(?:it may |may |can )?(?:{_ACTS})\b.*)", re.I)
METHOD: Final = re.compile(r"[A-Za-z_$][\w$]*\([^\s]*\)|0x[0-9a-fA-F]{8}\b")
_FILLER: Final = re.compile(r"^(?:[-*•]\s*)?(?:(?:it|the wallet) )?(?:may |can )?", re.I)


@dataclass(frozen=True, slots=True)
class Names:
    """The meaning of words: chains by name in lower case, assets by symbol (keys), contracts by name (entries); and of
    an asset's key in lower case its symbol and decimals."""

    chains: Mapping[str, int] = field(default_factory=dict)
    assets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    contracts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    units: Mapping[str, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Misread:
    """A line that is not understood: its number from 1, its words, and how to say it."""

    line: int
    text: str
    message: str


@dataclass(frozen=True, slots=True)
class PolicyReading:
    """The outcome of reading sentences: a policy, or the lines that are not understood."""

    policy: WalletPolicy | None
    problems: tuple[Misread, ...] = ()


class _Fault(ValueError):
    """A line is not understood."""


def read_sentences(text: str, names: Names, rest: Mapping[str, Any] | None = None) -> PolicyReading:
    """The policy that lines say, with the defaults of new policies. `rest` is what sentences cannot say: its entries
    are added to the lists, and its other fields hold where no line says them."""
    made: Json = {name: [] for name in ("chains", "assets", "recipients", "contracts", "methods", "limits", "gas")}
    problems: list[Misread] = []
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    parts = [(number, line, _split(line, names)) for number, line in lines]
    # chains first, wherever they stand: they say which contracts a name stands for
    for is_first in (True, False):
        known = names if is_first else on_chains(names, made["chains"])
        for number, line, (where, said) in parts:
            try:
                if is_first and where:
                    _on(where, names, made)
                elif not is_first and said and number not in {one.line for one in problems}:
                    _check_chains(where, names, made)
                    _read_line(said, known, made)
            except ValueError as fault:
                problems.append(Misread(number, line, str(fault)))
    problems.sort(key=lambda one: one.line)
    if problems:
        return PolicyReading(None, tuple(problems))
    document = _merged(made, rest or {})
    if lines and not document.pop("isOnNone", False):
        document["chains"] = document["chains"] or ["*"]
    if not document.pop("movesNone", False) and (document["recipients"] or document["contracts"]):
        document["assets"] = document["assets"] or ["*"]
    return PolicyReading(with_defaults(WalletPolicy.model_validate(document)))


def _merged(made: Json, rest: Mapping[str, Any]) -> Json:
    document = {**rest, **made}
    for name, more in rest.items():
        said = made.get(name)
        if isinstance(said, list):
            document[name] = [*said, *more] if isinstance(more, list) else more
        elif isinstance(said, dict) and isinstance(more, dict):
            lists = {
                key: _unique([*said[key], *more[key]]) for key in said.keys() & more if isinstance(said[key], list)
            }
            document[name] = {**more, **said, **lists}
    return {
        name: _unique(value) if name in made and isinstance(value, list) else value for name, value in document.items()
    }


def _unique(values: list[Any]) -> list[Any]:
    return list({repr(value): value for value in values}.values())


def _split(line: str, names: Names) -> tuple[str, str]:
    """The chains that a line names, and what else it says: `On Ethereum, swap …`, `swap … on Uniswap on Ethereum`."""
    text = _FILLER.sub("", line).rstrip(". ")
    before = _BEFORE.fullmatch(text)
    if before is not None:
        return before["chains"], before["rest"]
    if re.match(r"on\b", text, re.I):
        asked = _ASK.search(text)
        return (text[3:], "") if asked is None else (text[3 : asked.start()].strip(" ,;"), text[asked.start() :])
    head, _, last = text.rpartition(" on ")
    return (last, head) if head and last.lower() in names.chains else ("", text)


def on_chains(names: Names, chains: list[Any]) -> Names:
    """The names as a policy for some chains means them: a contract's only where it holds."""
    if not chains or "*" in chains:
        return names
    starts = tuple(f"eip155:{chain_id}:" for chain_id in chains)
    there = {
        name: tuple(one for one in entries if one.startswith(starts) or not one.startswith("eip155:"))
        for name, entries in names.contracts.items()
    }
    return replace(names, contracts=there)


def _check_chains(where: str, names: Names, made: Json) -> None:
    """Chains are those of the whole policy: a sentence that names fewer would say less than it allows."""
    if where:
        own: Json = {"chains": []}
        _on(where, names, own)
        if set(own["chains"]) != set(made["chains"]):
            raise _Fault(
                "chains hold for the whole policy, and another line names others: write all of them on a line of their "
                "own, and an address for one chain as eip155:1:0x…"
            )


def _read_line(line: str, names: Names, made: Json) -> None:
    text = _FILLER.sub("", line).rstrip(". ")
    for found in _ASK.finditer(text):
        _take_ask(_usd(found["usd"]), _span(found["span"]), made.setdefault("approvalAbove", {}))
    text = _ASK.sub("", text).strip(" ,;")
    if not text:
        return
    verb = _VERB.match(text)
    if verb is None:
        raise _Fault(
            f'"{text.split()[0]}" is not known: begin with on, pay, swap, use, call, move, spend, sign, wait or ask'
        )
    _VERBS[verb["verb"].lower()](text[verb.end() :].strip(), names, made)


def _take_ask(usd: str, span: Json, above: Json) -> None:
    """Asks above an amount: of two for one transaction the smaller one holds."""
    if span:
        above["totals"] = [*above.get("totals", ()), {"usd": usd, **{"per": "window", **span}}]
    else:
        above["usd"] = min(above.get("usd", usd), usd, key=Decimal)


def _usd(text: str) -> str:
    return text.replace(",", "")


def _span(text: str | None) -> Json:
    """The window, or the run, that words name; nothing for one transaction."""
    words = (text or "at once").lower().replace("per hour", "an hour").replace("per ", "a ")
    if words == "at once":
        return {}
    if words == "in one run":
        return {"per": "run"}
    if words in SPANS:
        return {"windowMs": SPANS[words]}
    _, number, unit = words.split()
    return {"windowMs": int(number) * (HOUR_MS if unit == "hours" else _DAY)}


def _take_limit(text: str, made: Json, scope: Json | None) -> str:
    """The rest of a line without its `up to …`, which becomes a limit."""
    found = _UP_TO.search(text)
    if found is None:
        return text
    of = {"of": scope} if scope else {}
    made["limits"].append({"maxUsd": _usd(found["usd"]), **_span(found["span"]), **of})
    return f"{text[: found.start()]} {text[found.end() :]}".strip(" ,")


def _pay(text: str, names: Names, made: Json) -> None:
    who = re.sub(r"(?:^| )together(?= |$)", "", _UP_TO.sub("", text), flags=re.I).strip(" ,")
    each, count = re.subn(r"\beach\b", "", who)
    given = ["*"] if each.strip(" ,").lower() in ("anyone", "anybody") else _listed(each, _account)
    made["recipients"] += given
    limits: Json = {"limits": []}
    _take_limit(text, limits, None if given == ["*"] else {"recipients": given})
    for limit in limits["limits"]:
        made["limits"].append({**limit, "per": "recipient"} if count else limit)


def _use(text: str, names: Names, made: Json) -> None:
    where = re.sub(r"(?:^| )(?:on|with)(?= )", " ", _UP_TO.sub("", text)).strip(" ,")
    given = [one for entry in _listed(where, lambda word: _contract(word, names)) for one in entry]
    made["contracts"] += given
    made["methods"].append("*")
    _take_limit(text, made, {"contracts": given})


def _call(text: str, names: Names, made: Json) -> None:
    found = re.fullmatch(r"(?P<methods>.+?) on (?P<where>.+)", _UP_TO.sub("", text).strip())
    if found is None:
        raise _Fault("say which method of which contract: call deposit(uint256) on 0x…")
    methods = METHOD.findall(found["methods"])
    if re.sub(r",|\band\b|\s", "", METHOD.sub("", found["methods"])) or not methods:
        raise _Fault(f'"{found["methods"]}" is no method: write its signature without spaces, like deposit(uint256)')
    given = [one for entry in _listed(found["where"], lambda word: _contract(word, names)) for one in entry]
    made["contracts"] += given
    made["methods"] += methods
    _take_limit(text, made, {"contracts": given, "methods": methods})


def _on(text: str, names: Names, made: Json) -> None:
    if text.lower() == "no chain":
        made["isOnNone"] = True
        return
    made["chains"] += _listed(text, lambda word: _chain(word, names))


def _move(text: str, names: Names, made: Json) -> None:
    if text.lower() in ("any asset", "everything", "nothing"):
        made |= {"movesNone": True} if text.lower() == "nothing" else {"assets": [*made["assets"], "*"]}
        return
    made["assets"] += [key for entry in _listed(text, lambda word: _asset(word, names)) for key in entry]


def _spend(text: str, names: Names, made: Json) -> None:
    text, each = re.subn(r" for each recipient$", "", text)
    limits: Json = {"limits": []}
    left = _take_limit(text, limits, None)
    if left or not limits["limits"]:
        raise _Fault(f'"{left or text}" is not understood: spend up to $100 a day')
    made["limits"] += [{**limit, "per": "recipient"} if each else limit for limit in limits["limits"]]


def _sign(text: str, names: Names, made: Json) -> None:
    found = _TIMES.fullmatch(text)
    if found is None or not _span(found["span"]):
        raise _Fault(f'"{text}" is not understood: sign up to 20 times a day')
    made["limits"].append({"maxCount": int(found["count"]), **_span(found["span"])})


def _fees(text: str, names: Names, made: Json) -> None:
    found = _UP_TO.fullmatch(text)
    if found is None:
        raise _Fault(f'"{text}" is not understood: pay fees up to $5, or pay fees up to $50 a day')
    span = _span(found["span"])
    made["limits" if span else "gas"].append({"maxGasUsd": _usd(found["usd"]), **span})


def _fee_times(text: str, names: Names, made: Json) -> None:
    found = re.fullmatch(r"([0-9]+) times the usual(?: one)?", text, re.I)
    if found is None:
        raise _Fault(f'"{text}" is not understood: ask for fees above 10 times the usual')
    made["feeAboveUsual"] = int(found[1])


def _no_fee_question(text: str, names: Names, made: Json) -> None:
    if text:
        raise _Fault(f'"{text}" is not understood: never ask for fees')
    made["feeAboveUsual"] = None


def _wait(text: str, names: Names, made: Json) -> None:
    found = re.fullmatch(r"([0-9]+) hours? before a new recipient is paid", text, re.I)
    if found is None:
        raise _Fault(f'"{text}" is not understood: wait 24 hours before a new recipient is paid')
    made["newRecipientHours"] = int(found[1])


_VERBS: Final = {
    "pay": _pay, "swap": _use, "trade": _use, "use": _use, "call": _call, "on": _on, "move": _move, "spend": _spend,
    "sign": _sign, "pay fees": _fees, "ask for fees above": _fee_times, "never ask for fees": _no_fee_question,
    "wait": _wait,
}  # fmt: skip


def _listed(text: str, read: Any) -> list[Any]:
    words = [word.strip() for word in re.split(r",(?: and )?| and |\s+or\s+", text) if word.strip()]
    if not words:
        raise _Fault("something is missing after the verb: name whom, what or where")
    return [read(word) for word in words]


def _account(word: str) -> str:
    if word == "*" or re.fullmatch(r"eip155:[1-9][0-9]*:\*", word):
        return word
    found = re.fullmatch(r"(?:(eip155:[1-9][0-9]*):)?(0x[0-9a-fA-F]{40})", word)
    if found is None:
        raise _Fault(f'"{word}" is no address: write 0x and 40 hexadecimal digits')
    return (f"{found[1]}:" if found[1] else "") + read_address(found[2])


def _contract(word: str, names: Names) -> tuple[str, ...]:
    known = names.contracts.get(word.lower())
    if known:
        return known
    if known is not None:
        raise _Fault(f'"{word}" is not known on these chains: write its address')
    try:
        return ("*",) if word.lower() == "any contract" else (_account(word),)
    except _Fault:
        listed = f", or one of {', '.join(sorted(names.contracts))}" if names.contracts else ""
        raise _Fault(f'"{word}" is no known contract: write its address{listed}') from None


def _chain(word: str, names: Names) -> int | Literal["*"]:
    if word.lower() in ("every chain", "all chains"):
        return "*"
    number = re.fullmatch(r"(?:chain )?([1-9][0-9]{0,18})", word, re.I)
    if number:
        return int(number[1])
    if word.lower() not in names.chains:
        raise _Fault(f'"{word}" is no known chain: write its id, or one of {", ".join(sorted(names.chains))}')
    return names.chains[word.lower()]


def _asset(word: str, names: Names) -> tuple[str, ...]:
    if word == "*" or word.startswith("eip155:"):
        return (word,)
    known = names.assets.get(word.lower())
    if not known:
        listed = ", ".join(sorted(names.assets))
        raise _Fault(f'"{word}" is no known asset: write eip155:1/erc20:0x…, or one of {listed}')
    return known
