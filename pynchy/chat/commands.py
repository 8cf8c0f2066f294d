"""Parse the commands that people type in a chat, and decide who may give each.

The rule that keeps it so: a table and two questions, no effects. A line is a command only if it is
wholly one; "/new idea: …" and "/etc/passwd" are things people say, and go to the agent.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from pynchy.model import Group, Message
from pynchy.text.triggers import ADDRESSED, after_name, begins_with_name, calls_by_name, is_owner


@attrs.frozen
class Command:
    """A command with its one argument, "" if there is none."""

    name: str
    argument: str = ""


@attrs.frozen
class Rule:
    """How a command is written, where it is known and what it does."""

    usage: str
    does: str
    argument: re.Pattern[str] | None = None  # None: it stands alone
    required: bool = False
    main: bool = False  # known in main alone, and obeyed only from those main trusts


_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/\[\]-]{0,99}", re.ASCII)
_FOLDER: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_CODE: Final = re.compile(r"[0-9A-Za-z]{4}-?[0-9A-Za-z]{4}", re.ASCII)

COMMANDS: Final[dict[str, Rule]] = {
    "help": Rule("/help", "list these commands"),
    "stop": Rule("/stop", "stop what I am doing"),
    "new": Rule("/new", "begin a new conversation; files and memory stay"),
    "compact": Rule("/compact", "shorten our conversation, keeping what matters"),
    "status": Rule("/status", "what I am doing"),
    "tasks": Rule("/tasks", "what is scheduled"),
    "usage": Rule("/usage", "what was used today"),
    "model": Rule("/model [NAME]", "which model answers; with a name, change it", _WORD),
    "groups": Rule("/groups", "all groups", main=True),
    "pause": Rule("/pause GROUP", "answer that group no more", _FOLDER, required=True, main=True),
    "resume": Rule("/resume GROUP", "answer it again", _FOLDER, required=True, main=True),
    "approve": Rule(
        "/approve CODE", "let an agent do what it asked", _CODE, required=True, main=True
    ),
    "deny": Rule("/deny CODE", "do not let it", _CODE, required=True, main=True),
}


def parse(message: Message, group: Group) -> Command | None:
    """The command that ``message`` is in ``group``, or None if it is something said.

    It may be addressed (``@Name /stop``, ``Name, /stop``). What is attached, edited, taken back or unknown in this
    group is no command.
    """
    if message.attachments or message.edits is not None or message.revokes is not None:
        return None
    text = message.text.strip()
    if len(text) > 300:
        return None
    if begins_with_name(text, group.trigger):
        at = text.find("/")
        if not begins_with_name(text[:at], group.trigger) or _has_words(text[:at], group.trigger):
            return None
        text = text[at:]
    elif calls_by_name(text, group.trigger):
        text = after_name(text, group.trigger)
    match text.split():
        case [slash]:
            name, argument = slash, ""
        case [slash, argument]:
            name = slash
        case _:
            return None
    if not name.startswith("/") or not name.isascii():
        return None
    name = name[1:].lower()
    rule = COMMANDS.get(name)
    if rule is None or (rule.main and not group.is_main):
        return None
    if argument:
        fits = rule.argument is not None and rule.argument.fullmatch(argument) is not None
        return Command(name, argument) if fits else None
    return None if rule.required else Command(name)


def _has_words(head: str, name: str) -> bool:
    """Whether something is between the address and the slash."""
    letters = sum(character.isalnum() for character in head)
    return letters > sum(character.isalnum() for character in name)


def refusal(command: Command, message: Message, group: Group) -> str | None:
    """Why the sender may not give this command here, or None.

    What stands in main's part of the table, and what makes the group dearer, wants somebody who was
    named: an allowed sender, or the owner. Silence about who is allowed never means everybody
    there. All else is for whoever the group listens to.
    """
    if is_owner(message):
        return None
    named = group.allowed_senders is not None and message.sender in group.allowed_senders
    if (
        COMMANDS[command.name].main
        or group.is_main
        or (command.name == "model" and command.argument)
    ):
        return (
            None if named else f"Only the owner and senders they allowed may use /{command.name}."
        )
    if group.allowed_senders is None or named:
        return None
    return f"You are not among the allowed senders of {group.name}."


def help_text(group: Group) -> str:
    """What can be ordered in this group."""
    lines = [
        f"{rule.usage}: {rule.does}" for rule in COMMANDS.values() if group.is_main or not rule.main
    ]
    if group.answers != "all":
        lines.insert(0, f"I answer {ADDRESSED[group.answers].format(group.trigger)}. Commands:")
    return "\n".join(lines)
