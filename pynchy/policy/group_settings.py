"""The owner's settings for one group: mounts, network, models, budgets.

Kept as JSON in `groups.settings`, written by control ops alone: no agent reaches it. The rule that keeps it so: pure,
and strict both ways. What cannot be read is an error, never a default that allows more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from pynchy.config.values import EGRESS, TIB, Money, Size
from pynchy.container.mounts.rules import MountRequest
from pynchy.limits import GROUPS
from pynchy.policy.allowance import SEARCH, SERVER_TOOLS, Budget, Egress, check_owner, check_pattern
from pynchy.text import terms
from pynchy_agent import wire
from pynchy_agent.values import (
    Choice,
    Flag,
    Items,
    Kind,
    Optional,
    Record,
    Text,
    Unfit,
    Whole,
    Wrong,
    found,
)

IMAGES: Final[Mapping[str, str | None]] = {
    "agent": None,
    "agent-browser": "localhost/pynchy-agent-browser:latest",
}
#: What becomes of messages of people who may not ask: kept as context, or ignored.
OTHERS: Final = ("context", "ignored")


@attrs.frozen
class HostPattern(Kind[str]):
    """The name of a host, or of all below one, that agents may reach."""

    @property
    def expected(self) -> str:
        return "the name of a host"

    def _take(self, value: object) -> str:
        if not isinstance(value, str):
            raise Unfit
        try:
            return check_pattern(value)
        except ValueError as error:
            raise Wrong(str(error)) from None


_BUDGET: Final[Mapping[str, Kind[Any]]] = {
    "day_dollars": Money(),
    "run_dollars": Money(),
    "day_tokens": Whole(0),
    "run_tokens": Whole(0),
}
#: The settings that take a value by name; those of the budget have names of their own.
_NAMED: Final[Mapping[str, Kind[Any]]] = {
    "egress": Optional(EGRESS),
    "hosts": Items(HostPattern()),
    "models": Items(Text(least=0)),
    "server_tools": Items(Choice(("none", *SERVER_TOOLS))),
    "image": Choice(tuple(IMAGES)),
    "disk": Optional(Size(0, 1024 * TIB)),
    "files": Optional(Whole(0)),
    "language": Optional(Choice((*terms.LANGUAGES, *terms.BY_CHARACTERS))),
}
_MOUNT: Final = Record({"path": Text(least=0), "name": Text(least=0)}, {"writable": Flag()})
_DOCUMENT: Final = Record(
    may={
        **_NAMED,
        "mounts": Items(_MOUNT, GROUPS.mounts),
        "budget": Record(may=_BUDGET),
        "others": Choice(OTHERS),
    }
)
_SETTABLE: Final = {**_NAMED, **{f"budget.{name}": kind for name, kind in _BUDGET.items()}}


# Of these 0 is no limit.
_LIMITS: Final = frozenset({"disk", "files", *(f"budget.{name}" for name in _BUDGET)})


class BadSettings(ValueError):
    """The settings of a group cannot be used; the text says which one, for the owner."""


@attrs.frozen
class Settings:
    """One group's. ``egress`` and ``server_tools`` None: as for everybody. ``budget`` has only what differs, in dollars
    and tokens."""

    mounts: tuple[MountRequest, ...] = ()
    egress: str | None = None
    hosts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    server_tools: frozenset[str] | None = None
    budget: Mapping[str, float] = attrs.field(factory=dict)
    disk: int | None = None  # bytes of all its files; 0: no limit
    files: int | None = None  # their number
    language: str | None = (
        None  # whose forms of words its searches know; None: as its messages look
    )
    image: str = "agent"  # which of `IMAGES`
    others: str = "context"  # one of `OTHERS`


CLOSED: Final = Settings(egress="none", server_tools=frozenset())
"""What a group gets whose settings cannot be read."""


def read(document: Mapping[str, Any]) -> Settings:
    """The settings that a row holds, or `BadSettings`. Names that are not ours are an error, too."""
    try:
        taken = _DOCUMENT.take(document)
    except Wrong as error:
        raise BadSettings(str(error)) from None
    mounts = tuple(MountRequest(**each) for each in taken.pop("mounts", ()))
    tools = taken.pop("server_tools", None)
    if tools is not None:
        tools = frozenset(tools) - {"none"}
    return Settings(mounts=mounts, server_tools=tools, **taken)


def egress_of(
    settings: Settings, *, default: str, mounted: bool, denied: tuple[str, ...]
) -> Egress:
    """Where a run may connect to. A group that sees more of this machine reaches less of the world, unless its
    settings say otherwise."""
    kind = settings.egress or ("allowlist" if mounted and default == "public" else default)
    return Egress(kind=kind, patterns=settings.hosts, denied=denied)


def server_tools_of(settings: Settings, egress: Egress, *, searches: bool) -> frozenset[str]:
    """The provider's tools of a run. Where the settings name none it is web search, if the internet is open to the
    group anyway and the model API has it (``searches``)."""
    if settings.server_tools is not None:
        return settings.server_tools
    return frozenset({SEARCH} if searches and egress.kind == "public" else ())


def web_of(egress: Egress, server_tools: frozenset[str], *, searches: bool) -> tuple[str, ...]:
    """What of the web a run is offered, in the wire's words: only what can work."""
    there = {
        "fetch": egress.kind in ("public", "allowlist"),
        "search": searches and SEARCH in server_tools,
    }
    return tuple(part for part in wire.WEB if there[part])


def budget_of(settings: Settings, default: Budget) -> Budget:
    """What a group may spend: its own figures where it has some; 0 means no limit."""
    own: dict[str, int | None] = {}
    for name, value in settings.budget.items():
        period, _, unit = name.partition("_")
        if unit == "dollars":
            own[f"{period}_money"] = round(value * 1_000_000) or None
        else:
            own[name] = int(value) or None
    return attrs.evolve(default, **own)


@attrs.frozen
class Standing:
    """What holds for a group under one name: its value (None: no limit, or as each case is), where that comes from,
    and what may be written."""

    key: str
    value: object
    source: str
    expected: str


OWN: Final = "this group"
#: What holds for a group that has nothing of its own, by setting, and where that comes from.
Defaults = Mapping[str, tuple[object, str]]
_BUILT_IN: Final[Defaults] = {
    "hosts": ((), "default"),
    "models": ((), "default: any"),
    "server_tools": (None, "default: web_search where the internet is open"),
    "image": ("agent", "default"),
    "language": (None, "default: as its messages look"),
}


def standing(document: Mapping[str, Any], *, mounted: bool, defaults: Defaults) -> list[Standing]:
    """What holds for a group, setting by setting. Raises `BadSettings` if its own cannot be read."""
    mine, found = read(document), []
    otherwise = {**_BUILT_IN, **defaults}
    for key, kind in _SETTABLE.items():
        top, _, inner = key.partition(".")
        own = document.get(top, {}).get(inner) if inner else document.get(top)
        value, source = otherwise.get(key, (None, "default"))
        if own is not None:
            value, source = own, OWN
            if own == 0 and key in _LIMITS:
                value = None
        elif key == "egress" and value is not None:
            asked, value = (
                value,
                egress_of(mine, default=str(value), mounted=mounted, denied=()).kind,
            )
            source = source if asked == value else "default, since it has mounts"
        found.append(Standing(key, value, source, kind.expected))
    return found


def with_entry(document: Mapping[str, Any], key: str, entry: str) -> dict[str, Any]:
    """The document with one more in one of its lists."""
    return {**document, key: [*document.get(key, []), entry]}


def with_mount(document: Mapping[str, Any], request: MountRequest) -> dict[str, Any]:
    """The document with one more mount, in the place of one of the same name."""
    others = [each for each in document.get("mounts", []) if each.get("name") != request.name]
    return {**document, "mounts": [*others, attrs.asdict(request)]}


def without_mount(document: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The document without the mount of that name; None if it has none."""
    mounts = document.get("mounts", [])
    left = [each for each in mounts if each.get("name") != name]
    return None if len(left) == len(mounts) else {**document, "mounts": left}


def with_value(document: Mapping[str, Any], key: str, text: str) -> dict[str, Any]:
    """The document with one setting as a person writes it: words with commas, a number; nothing takes it away.
    Checked: raises `BadSettings`."""
    if (kind := _SETTABLE.get(key)) is None:
        raise BadSettings(
            f"{found(key)} is no setting of a group; known: answers, model, {', '.join(_SETTABLE)}"
        )
    changed = {**document}
    top, _, inner = key.partition(".")
    holder = changed
    if inner:
        holder = changed[top] = {**document.get(top, {})}
    holder.pop(inner or top, None)
    if text:
        try:
            value = kind.parse(text)
        except Wrong as error:
            raise BadSettings(f"{key}: {error}") from None
        holder[inner or top] = list(value) if isinstance(value, tuple) else value
    if key == "hosts":
        _check_owners(changed.get(key, ()), known=document.get(key, ()))
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
