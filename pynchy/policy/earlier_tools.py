"""Take tool calls as earlier assistants had them, whose conversations, notes and skills still name those arguments.

The rule that keeps it so: pure, and only where nothing else can be meant. What was taken for what is told to the agent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pynchy.policy.tools import TOOLS
from pynchy_agent.values import Whole

#: What an argument was called, and is now.
_RENAMED: Final = {
    "jid": "chat",
    "target_group_jid": "target_group",
    "target_jid": "target_group",
    "group_folder": "folder",
}
_NUMBER: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


def read(name: str, args: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """The arguments as the tool has them today, and a note on each that was another."""
    if (tool := TOOLS.get(name)) is None:
        return args, []
    known = tool.arguments
    taken: dict[str, Any] = {}
    notes: list[str] = []
    for key, value in args.items():
        new = _RENAMED.get(key, key)
        if key in known or new not in known or new in args:
            new = key
        else:
            notes.append(f"{key} is called {new} here")
        taken[new] = value
    for key, value in taken.items():
        if isinstance(value, str) and _NUMBER.fullmatch(value) and _is_number(name, taken, key):
            taken[key] = int(value)
            unit = " seconds (not milliseconds)" if key == "schedule_value" else ""
            notes.append(f"{key} is a number, taken as {int(value)}{unit}")
    if name == "schedule_task" and "context_mode" not in taken:
        taken["context_mode"] = "group"
        notes.append("context_mode was not said, taken as group")
    return taken, notes


def _is_number(name: str, args: Mapping[str, Any], key: str) -> bool:
    if key == "schedule_value":  # no other kind of schedule is digits alone
        return bool(args.get("schedule_type", "interval") == "interval")
    argument = TOOLS[name].arguments.get(key)
    return argument is not None and isinstance(argument.kind, Whole)
