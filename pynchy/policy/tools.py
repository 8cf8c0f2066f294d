"""Which tools an agent may call, and which need a person's approval: one table.

The rule that keeps it so: nothing here has an effect. Who asks is known from where the command
arrived and from our own rows (`Caller`); nothing that a command says about itself is looked at. A
command without a line in the table does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import attrs

from pynchy.model import ChatId, Group, GroupId, RunId, TurnId


@attrs.frozen
class Caller:
    """Who asks: the group whose folder the command came from, and what its run is at.

    ``chat`` and ``turn`` are those of the run's present turn, or of its last one if it has ended.
    ``trusted``: everybody whose messages the run has answered, in any turn, may give orders in main.
    """

    folder: GroupId
    is_main: bool
    run: RunId
    chat: ChatId
    turn: TurnId
    trusted: bool
    steps: int = 0  # from a person's word to its turn; 0: a person asked for this one
    depth: int = 0  # how many helpers stand between it and a turn of the group


class Reach(Enum):
    """How far a command reaches, and so who may give it."""

    OWN = "its own group"
    ALL = "every group: from main alone, and only in a run that nobody but people main trusts has asked"


# --- arguments -----------------------------------------------------------------------------------


@attrs.frozen
class Text:
    """A text of ``least`` to ``most`` characters."""

    most: int
    least: int = 1

    def wrong(self, value: object) -> str | None:
        if not isinstance(value, str):
            return f"is a {_kind(value)}, not a text"
        if len(value) < self.least:
            return "is empty" if not value else f"has less than {self.least} characters"
        if len(value) > self.most:
            return f"has {len(value)} characters, the limit is {self.most}"
        return None


@attrs.frozen
class Whole:
    """A whole number from ``least`` to ``most``; no text that looks like one."""

    least: int
    most: int

    def wrong(self, value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"is a {_kind(value)}, not a whole number"
        if not self.least <= value <= self.most:
            return f"is {value}, not from {self.least} to {self.most}"
        return None


@attrs.frozen
class Flag:
    """True or false."""

    def wrong(self, value: object) -> str | None:
        return None if isinstance(value, bool) else f"is a {_kind(value)}, not true or false"


@attrs.frozen
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    def wrong(self, value: object) -> str | None:
        if isinstance(value, str) and value in self.words:
            return None
        return f"is not one of: {', '.join(self.words)}"


@attrs.frozen
class Texts:
    """A list of at most ``most`` texts."""

    most: int
    item: Text

    def wrong(self, value: object) -> str | None:
        if not isinstance(value, list):
            return f"is a {_kind(value)}, not a list"
        if len(value) > self.most:
            return f"has {len(value)} items, the limit is {self.most}"
        for item in value:
            if (wrong := self.item.wrong(item)) is not None:
                return f"has an item that {wrong}"
        return None


@attrs.frozen
class When:
    """A schedule's value: a text or a whole number; which of them is right depends on its kind."""

    def wrong(self, value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, str | int):
            return f"is a {_kind(value)}, not a text or a whole number"
        if isinstance(value, str) and not 1 <= len(value) <= 256:
            return "has not 1 to 256 characters"
        return None


Field = Text | Whole | Flag | Choice | Texts | When


def _kind(value: object) -> str:
    names = {str: "text", bool: "true or false", int: "number", float: "number", list: "list"}
    return "null" if value is None else names.get(type(value), "object")


# --- the table -----------------------------------------------------------------------------------


@attrs.frozen
class Rule:
    """One command: who may give it, and exactly which arguments it has."""

    reach: Reach
    needs: Mapping[str, Field]
    may: Mapping[str, Field] = attrs.field(factory=dict)
    asks: bool = False  # a person in main is asked first, see `approvals`


_KIND: Final = Choice(("cron", "interval", "once"))
_CONTEXT: Final = Choice(("group", "isolated"))

COMMANDS: Final[Mapping[str, Rule]] = {
    "send_message": Rule(
        Reach.OWN, {"text": Text(32_000)}, {"sender": Text(64), "reply_to": Text(128)}
    ),
    "send_file": Rule(Reach.OWN, {"path": Text(1024)}, {"caption": Text(1000)}),
    "react": Rule(Reach.OWN, {"emoji": Text(32)}, {"message_id": Text(128)}),
    # For another group it takes main's authority, or a person in main: see `asks`.
    "schedule_task": Rule(
        Reach.OWN,
        {
            "prompt": Text(16_000),
            "schedule_type": _KIND,
            "schedule_value": When(),
            "context_mode": _CONTEXT,
        },
        {"target_group": Text(63), "script": Text(16_000)},
    ),
    "list_tasks": Rule(Reach.OWN, {}),
    "get_task": Rule(Reach.OWN, {"task_id": Text(64)}),
    "update_task": Rule(
        Reach.OWN,
        {"task_id": Text(64)},
        {
            "prompt": Text(16_000),
            "schedule_type": _KIND,
            "schedule_value": When(),
            "context_mode": _CONTEXT,
            "script": Text(16_000),
        },
    ),
    "pause_task": Rule(Reach.OWN, {"task_id": Text(64)}),
    "resume_task": Rule(Reach.OWN, {"task_id": Text(64)}),
    "cancel_task": Rule(Reach.OWN, {"task_id": Text(64)}),
    "run_task_now": Rule(Reach.OWN, {"task_id": Text(64)}),
    # What is for all groups: `memory_commands` asks for main's authority.
    "remember": Rule(Reach.OWN, {"text": Text(4000)}, {"scope": Choice(("group", "global"))}),
    "recall": Rule(Reach.OWN, {"query": Text(500)}, {"limit": Whole(1, 50)}),
    "forget": Rule(Reach.OWN, {"memory_id": Text(64)}),
    "search_history": Rule(Reach.OWN, {"query": Text(500)}, {"limit": Whole(1, 50)}),
    "list_groups": Rule(Reach.ALL, {}),
    "refresh_groups": Rule(Reach.ALL, {}),
    "register_group": Rule(
        Reach.ALL,
        {"chat": Text(128), "name": Text(100), "folder": Text(63)},
        {"trigger": Text(64), "requires_trigger": Flag()},
        asks=True,
    ),
    "update_group": Rule(
        Reach.ALL,
        {"folder": Text(63)},
        {
            "name": Text(100),
            "trigger": Text(64),
            "requires_trigger": Flag(),
            "allowed_senders": Texts(100, Text(128)),
            "model": Text(100),
            "paused": Flag(),
        },
    ),
    "unregister_group": Rule(Reach.ALL, {"folder": Text(63)}),
    "request_mount": Rule(
        Reach.OWN, {"path": Text(1024)}, {"name": Text(64), "writable": Flag()}, asks=True
    ),
    "request_host": Rule(Reach.OWN, {"host": Text(253)}, asks=True),
    "ask_user": Rule(Reach.OWN, {"question": Text(4000)}, {"options": Texts(12, Text(200))}),
    "delegate": Rule(Reach.OWN, {"prompt": Text(16_000)}, {"wait": Flag()}),
}

#: All that a helper may do besides working: look, and have helpers of its own.
HELPERS: Final = frozenset({"list_tasks", "get_task", "recall", "search_history", "delegate"})


def offered(group: Group) -> tuple[str, ...]:
    """The tools that an agent of this group is shown: those that it may use at all."""
    return tuple(
        name for name, rule in COMMANDS.items() if rule.reach is Reach.OWN or group.is_main
    )


def offered_to_helpers(group: Group) -> tuple[str, ...]:
    """The tools that a helper of this group is shown."""
    return tuple(name for name in offered(group) if name in HELPERS)


def refusal(caller: Caller, name: str) -> str | None:
    """Why ``caller`` may not give the command ``name``, or None if they may."""
    rule = COMMANDS.get(name)
    if rule is None:
        return f"there is no command {name[:64]!r}"
    if caller.depth and name not in HELPERS:
        return f"{name} is not for helpers; say in your answer what should be done"
    if rule.reach is Reach.OWN:
        return None
    if not caller.is_main:
        return f"{name} is for the main group alone"
    if not caller.trusted:
        return (
            f"{name} works only when everybody who asked since this container began may give orders in"
            " main; let the owner say /new and ask for it alone"
        )
    return None


def asks(caller: Caller, name: str, args: Mapping[str, Any]) -> bool:
    """Whether a command that ``caller`` may give is carried out only once a person in main has said so."""
    if name == "schedule_task":
        elsewhere = bool(args.get("target_group", caller.folder) != caller.folder)
        return elsewhere and not (caller.is_main and caller.trusted)
    return COMMANDS[name].asks


def misfit(name: str, args: Mapping[str, Any]) -> str | None:
    """What is wrong with the arguments of a known command, or None. The list is closed."""
    rule = COMMANDS[name]
    known = {**rule.needs, **rule.may}
    for key in args:
        if key not in known:
            return f"{name} has no argument {key[:64]!r}; it has: {', '.join(known)}"
    for key in rule.needs:
        if key not in args:
            return f"{name} needs the argument {key!r}"
    for key, value in args.items():
        if (wrong := known[key].wrong(value)) is not None:
            return f"{name}: {key} {wrong}"
    return None
