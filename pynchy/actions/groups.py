"""What main's agent may do with groups.

The table lets only main in, and only in a turn that people main trusts asked for. A new group is approved by
a person besides, see `approvals`. What is settled here by no agent at all: mounts, limits and egress.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pynchy.actions.call import Call, Done
from pynchy.actions.refused import Refused
from pynchy.container.folders import InTheWay
from pynchy.model import MAIN, ChatId, Group, GroupId, SenderId, folder_of
from pynchy.schedule.times import spell
from pynchy.store import groups, turns
from pynchy.store.database import Tx

MOST_SEEN: Final = 100  # chats that are not registered, in a list


def _list_groups(call: Call) -> Done:
    lines = []
    for group in groups.list_groups(call.db):
        chats = ", ".join(groups.chats_of(call.db, group.folder)) or "no chat"
        asks = f"needs @{group.trigger}" if group.requires_trigger else "answers everything"
        lines.append(f"{group.folder} ({group.name}): {chats}; {asks}{', paused' * group.paused}")
    seen, count = groups.unregistered_chats(call.db, limit=MOST_SEEN)
    if seen:
        lines.append("Not registered:")
    for chat in seen:
        at = "never active" if chat.last_at is None else spell(chat.last_at, call.timezone)
        lines.append(f"{chat.chat} ({chat.name or 'no name'}), {at}")
    if count > len(seen):
        lines.append(f"and {count - len(seen)} more, longer ago")
    return Done(ok=True, text="\n".join(lines), fresh=True)


def _refresh_groups(call: Call) -> Done:
    text = "the messenger is asked; what it says is in list_groups, within some seconds"
    return Done(ok=True, text=text, fresh=True, refreshes=True)


def registration(call: Call) -> dict[str, Any]:
    """The whole of the registration that a call asks for. Raises `Refused` if it could not be made now."""
    folder, chat = _free_folder(call.args["folder"]), ChatId(call.args["chat"])
    seen = groups.seen_chat(call.db, chat)
    if seen is None:
        raise Refused("no such chat has been seen; list_groups shows those that were")
    if seen.folder is not None:
        raise Refused(f"that chat belongs to {seen.folder} already")
    if groups.get(call.db, folder) is not None:
        raise Refused(f"folder {folder} is registered already")
    return {
        "chat": chat,
        "folder": folder,
        "name": _name(call.args["name"]),
        "trigger": _trigger(call.args.get("trigger") or _main(call).trigger),
        "requires_trigger": call.args.get("requires_trigger", True),
    }


def register(call: Call) -> Done:
    """Register a chat as its `registration` says, checked anew."""
    whole = registration(call)
    folder = GroupId(whole["folder"])
    try:
        group = groups.register(
            Tx(call.db, call.now),
            folder=folder,
            name=whole["name"],
            chats=(ChatId(whole["chat"]),),
            trigger=whole["trigger"],
            requires_trigger=whole["requires_trigger"],
        )
        call.scaffold(group)
    except (groups.CannotRegister, InTheWay) as error:
        raise Refused(str(error)) from None
    asks = (
        f"@{group.trigger} wakes me there"
        if group.requires_trigger
        else "I answer everything there"
    )
    return Done(ok=True, text=f"registered {folder}; {asks}", fresh=True)


def _update_group(call: Call) -> Done:
    folder = _known(call).folder
    args = call.args
    if folder == MAIN and "allowed_senders" in args:
        raise Refused("who may give orders in main is for its owner to say, not for an agent")
    if folder == MAIN and "paused" in args:
        raise Refused("main is not paused by its own agent")
    trigger = _trigger(args["trigger"]) if "trigger" in args else None
    groups.update(
        call.db,
        folder,
        name=_name(args["name"]) if "name" in args else None,
        trigger=trigger,
        requires_trigger=args.get("requires_trigger"),
    )
    if "model" in args:
        groups.set_model(call.db, folder, None if args["model"] == "default" else args["model"])
    if "allowed_senders" in args:
        senders = tuple(SenderId(each) for each in args["allowed_senders"])
        groups.set_allowed_senders(call.db, folder, senders or None)
    paused = args.get("paused")
    if paused is not None:
        groups.set_paused(call.db, folder, paused=paused)
    return Done(
        ok=True,
        text=f"{folder} is changed",
        fresh=True,
        paused=_pausing(folder, paused),
        outdated=folder if "model" in args else None,
    )


def _unregister_group(call: Call) -> Done:
    folder = _known(call).folder
    if folder == MAIN:
        raise Refused("main cannot be unregistered")
    turns.cancel(Tx(call.db, call.now), folder, all_of_it=True)
    groups.remove(call.db, folder)
    text = f"{folder} is not answered any more; its files stay"
    return Done(ok=True, text=text, fresh=True, removed=folder)


def _pausing(folder: GroupId, paused: bool | None) -> tuple[GroupId, bool] | None:
    return None if paused is None else (folder, paused)


def _main(call: Call) -> Group:
    found = groups.get(call.db, MAIN)
    assert found is not None
    return found


def _known(call: Call) -> Group:
    found = groups.get(call.db, GroupId(call.args["folder"]))
    if found is None:
        raise Refused("there is no such group; list_groups shows them")
    return found


def _free_folder(name: str) -> GroupId:
    folder = folder_of(name)
    if folder is None or folder == MAIN:
        raise Refused(
            "a folder name has small letters, digits and hyphens, and is not main or global"
        )
    return folder


def _name(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise Refused("a name is one line that can be seen")
    return name.strip()


def _trigger(name: str) -> str:
    cleaned = name.removeprefix("@").strip()
    if not cleaned or not cleaned.isprintable():
        raise Refused("a trigger is a name of one line")
    return cleaned


HANDLERS: Final[Mapping[str, Callable[[Call], Done]]] = {
    "list_groups": _list_groups,
    "refresh_groups": _refresh_groups,
    "update_group": _update_group,
    "unregister_group": _unregister_group,
}
