"""The owner's settings for one group: mounts, network, models, budgets.

Kept as JSON in `groups.settings`, written by control ops alone: no agent reaches it. The rule that keeps it so: pure,
and strict both ways. What cannot be read is an error, never a default that allows more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from pynchy.container.mounts.rules import Wish
from pynchy.gateway.body import SERVER_TOOLS
from pynchy.gateway.exchange import Egress, Limits
from pynchy.gateway.hosts import check_owner, check_pattern

EGRESS: Final = ("none", "allowlist", "public")
MAX_MOUNTS: Final = 16
_BUDGET: Final = ("day_dollars", "run_dollars", "day_tokens", "run_tokens")
_KNOWN: Final = {
    "mounts",
    "egress",
    "hosts",
    "models",
    "server_tools",
    "budget",
    "disk",
    "files",
    "others",
    "image",
}
#: The images that a group can have: the one of the configuration, or the one with a browser.
IMAGES: Final[Mapping[str, str | None]] = {
    "agent": None,
    "agent-browser": "localhost/pynchy-agent-browser:latest",
}


#: What those are to a group who may not ask: heard all the same, or not even kept.
OTHERS: Final = ("context", "ignored")


class BadSettings(ValueError):
    """The settings of a group cannot be used; the text says which one, for the owner."""


@attrs.frozen
class Settings:
    """One group's. ``egress`` None: as for everybody. ``budget`` has only what differs, in dollars and tokens."""

    mounts: tuple[Wish, ...] = ()
    egress: str | None = None
    hosts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    server_tools: frozenset[str] = frozenset()
    budget: Mapping[str, float] = attrs.field(factory=dict)
    disk: int | None = None  # bytes of all its files; 0: no limit
    files: int | None = None  # their number
    image: str = "agent"  # which of `IMAGES`
    others: str = "context"  # what those are who may not ask: heard all the same, or "ignored"


CLOSED: Final = Settings(egress="none")
"""What a group gets whose settings cannot be read."""


def read(document: Mapping[str, Any]) -> Settings:
    """The settings that a row holds, or `BadSettings`. Names that are not ours are an error, too."""
    if unknown := sorted(document.keys() - _KNOWN):
        raise BadSettings(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(_KNOWN))}")
    egress = document.get("egress")
    if egress is not None and egress not in EGRESS:
        raise BadSettings(f"egress: expected {', '.join(EGRESS)}, got {egress!r}")
    mounts = tuple(_wish(each) for each in _list(document, "mounts", dict))
    if len(mounts) > MAX_MOUNTS:
        raise BadSettings(f"mounts: at most {MAX_MOUNTS}")
    try:
        hosts = tuple(check_pattern(each) for each in _list(document, "hosts", str))
    except ValueError as error:
        raise BadSettings(f"hosts: {error}") from None
    tools = frozenset(_list(document, "server_tools", str))
    if unknown := sorted(tools - SERVER_TOOLS.keys()):
        raise BadSettings(f"server_tools: expected {', '.join(SERVER_TOOLS)}, got {unknown[0]!r}")
    return Settings(
        mounts=mounts,
        egress=egress,
        hosts=hosts,
        models=tuple(_list(document, "models", str)),
        server_tools=tools,
        budget=_budget(document.get("budget", {})),
        disk=_amount(document, "disk"),
        files=_amount(document, "files"),
        others=_one_of(document, "others", OTHERS),
        image=_one_of(document, "image", IMAGES),
    )


def egress_of(
    settings: Settings, *, default: str, mounted: bool, denied: tuple[str, ...]
) -> Egress:
    """Where a run may connect to. A group that sees more of this machine reaches less of the world, unless its
    settings say otherwise."""
    kind = settings.egress or ("allowlist" if mounted and default == "public" else default)
    return Egress(kind=kind, patterns=settings.hosts, denied=denied)


def limits_of(settings: Settings, default: Limits) -> Limits:
    """What a group may spend: its own figures where it has some; 0 means no limit."""
    own = settings.budget
    return Limits(
        all_money=default.all_money,
        day_money=_money(own["day_dollars"]) if "day_dollars" in own else default.day_money,
        run_money=_money(own["run_dollars"]) if "run_dollars" in own else default.run_money,
        day_tokens=int(own["day_tokens"]) or None if "day_tokens" in own else default.day_tokens,
        run_tokens=int(own["run_tokens"]) or None if "run_tokens" in own else default.run_tokens,
    )


def with_mount(document: Mapping[str, Any], wish: Wish) -> dict[str, Any]:
    """The document with one more mount, in the place of one of the same name."""
    others = [each for each in document.get("mounts", []) if each.get("name") != wish.name]
    return {**document, "mounts": [*others, attrs.asdict(wish)]}


def without_mount(document: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The document without the mount of that name; None if it has none."""
    mounts = document.get("mounts", [])
    left = [each for each in mounts if each.get("name") != name]
    return None if len(left) == len(mounts) else {**document, "mounts": left}


def with_value(document: Mapping[str, Any], key: str, text: str) -> dict[str, Any]:
    """The document with one setting as a person writes it: words with commas, a number; nothing takes it away.
    Checked: raises `BadSettings`."""
    changed = dict(document)
    top, _, inner = key.partition(".")
    if top == "budget" and inner:
        budget = dict(changed.get("budget", {}))
        budget.pop(inner, None)
        if text:
            try:
                budget[inner] = float(text) if inner.endswith("dollars") else int(text)
            except ValueError:
                raise BadSettings(f"{key}: expected a number, not {text[:80]!r}") from None
        changed["budget"] = budget
    elif key in {"egress", "hosts", "models", "server_tools", "image"}:
        changed.pop(key, None)
        if text:
            one = key in {"egress", "image"}
            changed[key] = text if one else [w for w in text.split(",") if w]
        if key == "hosts":
            _check_owners(changed.get(key, ()), known=document.get(key, ()))
    elif key in {"disk", "files"}:
        changed.pop(key, None)
        if text:
            changed[key] = _read_amount(key, text)
    else:
        known = "egress, hosts, models, server_tools, image, disk, files, " + ", ".join(
            f"budget.{k}" for k in _BUDGET
        )
        raise BadSettings(f"{key[:80]!r} is no setting of a group; known: {known}")
    read(changed)
    return changed


def _check_owners(hosts: Iterable[str], *, known: Iterable[str]) -> None:
    """See that each new pattern names hosts of one owner. What a row holds already stays readable."""
    try:
        for host in hosts:
            if host not in known:
                check_owner(check_pattern(host))
    except ValueError as error:
        raise BadSettings(f"hosts: {error}") from None


def _one_of(document: Mapping[str, Any], key: str, known: Iterable[str]) -> str:
    """One of the known words; the first where nothing is said."""
    words = tuple(known)
    found = document.get(key, words[0])
    if found not in words:
        raise BadSettings(f"{key}: expected {' or '.join(words)}, got {found!r}")
    return str(found)


def _wish(item: dict[str, Any]) -> Wish:
    path, name, writable = item.get("path"), item.get("name"), item.get("writable", False)
    if item.keys() - {"path", "name", "writable"} or type(writable) is not bool:
        raise BadSettings("mounts: expected path, name and writable")
    if not isinstance(path, str) or not isinstance(name, str):
        raise BadSettings("mounts: path and name are texts")
    return Wish(path, name, writable)


def _list(document: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    values = document.get(key, [])
    if not isinstance(values, list) or any(type(value) is not kind for value in values):
        raise BadSettings(f"{key}: expected a list")
    return values


def _budget(found: object) -> Mapping[str, float]:
    if not isinstance(found, dict) or found.keys() - set(_BUDGET):
        raise BadSettings(f"budget: expected {', '.join(_BUDGET)}")
    for key, value in found.items():
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
            raise BadSettings(f"budget.{key}: expected a number, 0 for no limit")
    return dict(found)


def _amount(document: Mapping[str, Any], key: str) -> int | None:
    found = document.get(key)
    if found is not None and (type(found) is not int or found < 0):
        raise BadSettings(f"{key}: expected a whole number, 0 for no limit")
    return found


def _read_amount(key: str, text: str) -> int:
    """A whole number, of bytes with a unit if need be: 500m, 5g."""
    powers = {"k": 10, "m": 20, "g": 30, "t": 40} if key == "disk" else {}
    power = powers.get(text[-1:].lower(), 0)
    digits = text[:-1] if power else text
    if not digits.isascii() or not digits.isdigit() or len(digits) > 15:
        expected = "a size such as 500m or 5g" if key == "disk" else "a whole number"
        raise BadSettings(f"{key}: expected {expected}, not {text[:80]!r}")
    return int(digits) << power


def _money(dollars: float) -> int | None:
    return round(dollars * 1_000_000) or None
