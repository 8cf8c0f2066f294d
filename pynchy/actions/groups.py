"""What can be done to a group and its conversation: each act once, whoever asks for it.

Procedure. Below the acts stand the commands of main's agent, which parse, call an act and put the answer in
words. A group that an agent registers is approved by a person first, see `approvals`; mounts, limits and egress
are in `settings`, which no agent reaches by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from pynchy.actions.actor import Actor
from pynchy.actions.call import Call, Done, Scaffold
from pynchy.actions.effects import Effects, Stopped
from pynchy.actions.record import check_main, check_reach, note
from pynchy.actions.refused import Refused, refused
from pynchy.container.folders import InTheWay
from pynchy.limits import LISTS
from pynchy.model import (
    MAIN,
    ChatId,
    Group,
    GroupId,
    SenderId,
    TurnTold,
    channel_of,
    folder_of,
)
from pynchy.store import breakers, erasure, groups, questions, runs, turns
from pynchy.store.database import Tx
from pynchy.text.triggers import ADDRESSED, ANSWERS

# --- whether it is served ------------------------------------------------------------------------


def pause(tx: Tx, actor: Actor, folder: GroupId) -> Effects:
    """Answer a group no more for now; its messages are kept. No effects if it is paused already."""
    check_main(tx, actor, folder)
    if not groups.set_paused(tx, folder, paused=True):
        return Effects()
    note(tx, actor, "group paused", folder)
    return Effects(paused=(folder,))


def resume(tx: Tx, actor: Actor, folder: GroupId) -> Effects:
    """Answer a group again, beginning with what came meanwhile; one that was held back goes on, too.

    No effects if it was neither paused nor held back.
    """
    check_main(tx, actor, folder)
    was_paused = groups.set_paused(tx, folder, paused=False)
    # Only a person lets a group go on that did too much by itself.
    was_held_back = actor.kind != "agent" and breakers.let_go_on(tx, folder)
    if not was_paused and not was_held_back:
        return Effects()
    note(tx, actor, "group resumed", folder, **({"held_back": True} if was_held_back else {}))
    return Effects(resumed=(folder,), schedules=True)


@attrs.frozen
class Ended:
    """What a stop has ended: turns, questions that waited for an answer, and whether an agent was there."""

    turns: int
    questions: int
    agent: bool


def stop(tx: Tx, actor: Actor, folder: GroupId) -> tuple[Ended, Effects]:
    """End what a group works on. What nobody has begun to answer yet stays."""
    check_reach(tx, actor, folder)
    stopped = turns.cancel(tx, folder)
    dropped = questions.drop(tx, folder)
    # An agent that has answered may still run programs.
    live = any(run.kind != "task" or stopped for run in runs.live(tx, folder))
    ended = Ended(len(stopped), len(dropped), live)
    if stopped or live:
        note(tx, actor, "turns stopped" if stopped else "agent ended", folder)
        return ended, Effects(stopped=(_stopped(folder, stopped),))
    if dropped:
        note(tx, actor, "questions dropped", folder)
    return ended, Effects()


def begin_anew(tx: Tx, actor: Actor, folder: GroupId) -> Effects:
    """End what a group works on, and its conversation. Files and memory stay."""
    check_reach(tx, actor, folder)
    stopped = turns.cancel(tx, folder)
    questions.drop(tx, folder)
    groups.new_session(tx, folder)
    note(tx, actor, "conversation ended", folder)
    return Effects(stopped=(_stopped(folder, stopped),))


def compact(tx: Tx, actor: Actor, folder: GroupId) -> Effects:
    """Have a group's conversation shortened. No effects if there is none yet."""
    check_reach(tx, actor, folder)
    group, chat = groups.get(tx, folder), actor.chat
    if group is None or group.session is None or chat is None:
        return Effects()
    turns.add(
        tx,
        turns.Work(
            folder=folder,
            chat=chat,
            kind="notice",
            prompt="/compact",
            source=turns.COMPACT,
            steps=0,
        ),
    )
    note(tx, actor, "conversation shortened", folder)
    return Effects(look=(folder,))


def _stopped(folder: GroupId, cancelled: Sequence[turns.Turn]) -> Stopped:
    told = (
        TurnTold(each.chat, each.id, "cancelled") for each in cancelled if each.state != "claimed"
    )
    return Stopped(folder, tuple(told))


# --- how it is served ----------------------------------------------------------------------------


def _new_folder(name: str) -> GroupId:
    folder = folder_of(name)
    if folder is None or folder == MAIN:
        raise Refused(
            "a folder name has small letters, digits and hyphens, and is not main or global",
            "bad_request",
        )
    return folder


def _name(name: str) -> str:
    if not name.strip() or not name.isprintable() or len(name) > 100:
        text = "a name is one line that can be seen, of at most 100 characters"
        raise Refused(text, "bad_request")
    return name.strip()


def _trigger(name: str) -> str:
    cleaned = name.removeprefix("@").strip()
    if not cleaned or not cleaned.isprintable() or len(cleaned) > 64:
        raise Refused("a trigger is a name of one line, of at most 64 characters", "bad_request")
    return cleaned


def _answers(answers: str) -> str:
    if answers not in ANSWERS:
        raise Refused(f"answers: expected {', '.join(ANSWERS)}", "bad_request")
    return answers


@attrs.frozen
class Naming:
    """How a group is called and what wakes it; what is None stays as it is. Raises `Refused` if that is odd.

    ``answers`` is one of `ANSWERS`; ``requires_trigger`` says no more than whether it is "all".
    """

    name: str | None = attrs.field(default=None, converter=attrs.converters.optional(_name))
    trigger: str | None = attrs.field(default=None, converter=attrs.converters.optional(_trigger))
    requires_trigger: bool | None = None
    answers: str | None = attrs.field(default=None, converter=attrs.converters.optional(_answers))

    @property
    def columns(self) -> dict[str, Any]:
        """What is to be changed, as rows have it."""
        asked = attrs.asdict(self)
        if answers := asked.pop("answers"):
            asked["requires_trigger"] = answers != "all"
            asked["called_by"] = None if answers == "all" else answers
        return {name: value for name, value in asked.items() if value is not None}


def rename(tx: Tx, actor: Actor, folder: GroupId, naming: Naming) -> Effects:
    """Change how a group is called and what wakes it."""
    check_main(tx, actor, folder)
    asked = naming.columns
    if not asked:
        return Effects()
    if folder == MAIN and naming.answers not in (None, "all"):
        raise Refused("main answers everything", "bad_request")
    groups.update(tx, folder, **asked)
    note(tx, actor, "group changed", folder, **asked)
    return Effects(registered=True)


def set_model(tx: Tx, actor: Actor, folder: GroupId, model: str | None) -> Effects:
    """Let another model answer, from the next run on; the default one with None."""
    check_reach(tx, actor, folder)
    if not actor.trusted:
        raise Refused("only the owner and senders they allowed may choose the model")
    groups.set_model(tx, folder, model)
    note(tx, actor, "model set", folder, model=model or "default")
    return Effects(outdated=(folder,))


def allow(
    tx: Tx,
    actor: Actor,
    folder: GroupId,
    senders: tuple[SenderId, ...] | None,
    others: str = "",
) -> Effects:
    """Say to whom a group listens (None: to everybody) and, if ``others`` is given, what becomes of the rest."""
    check_main(tx, actor, folder)
    if folder == MAIN and actor.kind == "agent":
        raise Refused("only its owner may say who is obeyed in main")
    groups.set_allowed_senders(tx, folder, senders)
    if others:
        groups.set_settings(tx, folder, {**groups.settings(tx, folder), "others": others})
    shown = "everybody" if senders is None else list(senders)
    note(tx, actor, "allowed senders", folder, senders=shown, others=others)
    return Effects(registered=True)


# --- which groups there are ----------------------------------------------------------------------


@attrs.frozen
class Registration:
    """A chat that is to be answered, as a group of its own. Raises `Refused` if a name in it is odd."""

    folder: GroupId = attrs.field(converter=_new_folder)
    chat: ChatId
    name: str = attrs.field(converter=_name)
    trigger: str = attrs.field(converter=_trigger)
    requires_trigger: bool = True


def register(
    tx: Tx, actor: Actor, wanted: Registration, scaffold: Scaffold
) -> tuple[Group, Effects]:
    """Make a group with its folders. Raises `Refused` ("taken") if something is in its place."""
    if not actor.reaches_all:
        raise Refused("only main may register groups, in a turn that its owner asked for")
    with refused(groups.CannotRegister, InTheWay, code="taken"):
        group = groups.register(
            tx,
            folder=wanted.folder,
            name=wanted.name,
            chats=(wanted.chat,),
            trigger=wanted.trigger,
            requires_trigger=wanted.requires_trigger,
        )
        scaffold(group)
    note(tx, actor, "group registered", wanted.folder, chat=wanted.chat)
    return group, Effects(registered=True)


def add_chat(
    tx: Tx, actor: Actor, folder: GroupId, chat: ChatId, naming: Naming
) -> tuple[Group, Effects]:
    """Answer one more chat as this group. Raises `Refused` ("taken") if it is another's."""
    check_main(tx, actor, folder)
    with refused(groups.CannotRegister, code="taken"):
        groups.add_chat(tx, folder, chat)
    group = groups.update(tx, folder, **naming.columns)
    assert group is not None  # it was there a moment ago, in this transaction
    note(tx, actor, "group changed", folder, chat=chat)
    return group, Effects(registered=True)


def set_main_chat(tx: Tx, actor: Actor, chat: ChatId | None) -> tuple[list[ChatId], Effects]:
    """Give main this WhatsApp chat and no other one, or none; all its chats. Raises `Refused` ("taken")."""
    if actor.kind != "owner":
        raise Refused("only the owner may choose main's chat")
    with refused(groups.CannotRegister, code="taken"):
        for other in groups.chats_of(tx, MAIN):
            if channel_of(other) == "whatsapp" and other != chat:
                groups.remove_chat(tx, other)
        if chat is not None:
            groups.add_chat(tx, MAIN, chat)
    note(tx, actor, "main's chat", MAIN, chat=chat or "")
    return groups.chats_of(tx, MAIN), Effects(registered=True)


def remove(tx: Tx, actor: Actor, folder: GroupId) -> Effects:
    """Answer a group no more, for good. Its files and its history stay."""
    check_main(tx, actor, folder)
    if folder == MAIN:
        raise Refused("main cannot be removed")
    stopped = turns.cancel(tx, folder, all_of_it=True)
    groups.remove(tx, folder)
    note(tx, actor, "group removed", folder)
    return Effects(registered=True, stopped=(_stopped(folder, stopped),), removed=(folder,))


def forget(tx: Tx, actor: Actor, folder: GroupId) -> tuple[dict[str, int], Effects] | None:
    """Delete all rows of a group; how many of each kind. None as long as one of its runs may have a container.
    For `maintenance.erasure`, which deletes its files before."""
    counts = erasure.erase(tx, folder)
    if counts is None:
        return None
    note(tx, actor, "group forgotten", folder, **counts)
    return counts, Effects(registered=True, removed=(folder,))


# --- the commands of main's agent ----------------------------------------------------------------


def _list_groups(call: Call) -> Done:
    lines = []
    for group in groups.list_groups(call.tx):
        chats = ", ".join(groups.chats_of(call.tx, group.folder)) or "no chat"
        asks = f"@{group.trigger}, answers: {group.answers}"
        lines.append(f"{group.folder} ({group.name}): {chats}; {asks}{', paused' * group.paused}")
    seen, count = groups.unregistered_chats(call.tx, limit=LISTS.chats)
    if seen:
        lines.append("Not registered:")
    for chat in seen:
        at = "never active" if chat.last_at is None else call.spell(chat.last_at)
        lines.append(f"{chat.chat} ({chat.name or 'no name'}), {at}")
    if count > len(seen):
        lines.append(f"and {count - len(seen)} more, longer ago")
    return Done.now("\n".join(lines))


def _refresh_groups(call: Call) -> Done:
    text = "the messenger is asked; what it says is in list_groups, within some seconds"
    return Done.now(text, Effects(refreshes=True))


def registration(call: Call) -> Registration:
    """The whole of the registration that a call asks for. Raises `Refused` if it could not be made now."""
    main = groups.get(call.tx, MAIN)
    assert main is not None
    wanted = Registration(**{"trigger": main.trigger, **call.args})
    seen = groups.seen_chat(call.tx, wanted.chat)
    if seen is None:
        raise Refused("no such chat has been seen; list_groups shows those that were")
    if seen.folder is not None:
        raise Refused(f"that chat belongs to {seen.folder} already")
    if groups.get(call.tx, wanted.folder) is not None:
        raise Refused(f"folder {wanted.folder} is registered already")
    return wanted


def register_asked(call: Call, actor: Actor) -> Done:
    """Register a chat as its `registration` says, checked anew, on the word of whoever approved it."""
    group, effects = register(call.tx, actor, registration(call), call.host.scaffold)
    asks = ADDRESSED[group.answers].format(group.trigger)
    return Done.now(f"registered {group.folder}; I answer {asks} there", effects)


def _update_group(call: Call) -> Done:
    tx, actor, args = call.tx, call.actor, call.args
    folder = GroupId(args["folder"])
    naming = Naming(**{each.name: args.get(each.name) for each in attrs.fields(Naming)})
    effects = rename(tx, actor, folder, naming)
    if "model" in args:
        model = None if args["model"] == "default" else args["model"]
        effects += set_model(tx, actor, folder, model)
    if "allowed_senders" in args:
        senders = tuple(SenderId(each) for each in args["allowed_senders"])
        effects += allow(tx, actor, folder, senders or None)
    if "paused" in args:
        if folder == MAIN:
            raise Refused("main is not paused by its own agent")
        effects += (pause if args["paused"] else resume)(tx, actor, folder)
    return Done.now(f"{folder} is changed", effects)


def _unregister_group(call: Call) -> Done:
    folder = GroupId(call.args["folder"])
    effects = remove(call.tx, call.actor, folder)
    return Done.now(f"{folder} is not answered any more; its files stay", effects)


HANDLERS: Final[Mapping[str, Callable[[Call], Done]]] = {
    "list_groups": _list_groups,
    "refresh_groups": _refresh_groups,
    "update_group": _update_group,
    "unregister_group": _unregister_group,
}
