"""Change what a group may reach and spend: each change once, whoever asks for it.

Procedure. These are for the owner, and for a person in main who approves what an agent asked for. No agent changes
them by itself.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from pynchy.actions.actor import Actor
from pynchy.actions.effects import Effects
from pynchy.actions.groups import Naming, rename, set_model
from pynchy.actions.record import check_main, note
from pynchy.actions.refused import Refused, refused
from pynchy.container.mounts.rules import MountRequest
from pynchy.gateway.prices import asked_of
from pynchy.model import GroupId
from pynchy.policy import group_settings
from pynchy.store import groups
from pynchy.store.database import Tx

Document = dict[str, Any]
#: The settings that are lists, and what one entry is called.
LISTS: Final = {"hosts": "host", "models": "model", "server_tools": "tool"}


def add_mount(
    tx: Tx, actor: Actor, folder: GroupId, request: MountRequest
) -> tuple[Document, Effects]:
    """Give a group a folder of this machine, from its next run on, if the allowlist lets it be."""
    before = _settings(tx, actor, folder)
    document = group_settings.with_mount(before, request)
    return _set(tx, actor, folder, document, "mount added", **attrs.asdict(request))


def remove_mount(tx: Tx, actor: Actor, folder: GroupId, name: str) -> tuple[Document, Effects]:
    """Take a mount away, from the group's next run on."""
    document = group_settings.without_mount(_settings(tx, actor, folder), name)
    if document is None:
        raise Refused(f"{folder} has no mount {name[:80]!r}", "bad_request")
    return _set(tx, actor, folder, document, "mount removed", name=name)


def add_entry(
    tx: Tx, actor: Actor, folder: GroupId, key: str, entry: str
) -> tuple[Document, Effects]:
    """Let a group have one more of `LISTS`, from its next run on."""
    before = _settings(tx, actor, folder)
    document = group_settings.with_entry(before, key, entry)
    return _set(tx, actor, folder, document, f"{LISTS[key]} added", **{LISTS[key]: entry})


def set_value(
    tx: Tx, actor: Actor, folder: GroupId, key: str, value: str
) -> tuple[Document, Effects]:
    """Set one of a group's settings, from its next run on; without a value, as for everybody. What a group answers
    holds from its next message on."""
    if key == "answers":
        before = _settings(tx, actor, folder)
        naming = Naming(answers=value or "name")
        return {**before, "answers": naming.answers}, rename(tx, actor, folder, naming)
    if key == "model":
        before = _settings(tx, actor, folder)
        model = None if value in ("", "default") else _model_name(value)
        with refused(group_settings.BadSettings):
            models = group_settings.read(before).models
        if model is not None and models and asked_of(models, model) != model:
            raise Refused(
                f"{folder} may use {', '.join(models)} alone; first: pynchy groups set {folder} models",
                "bad_request",
            )
        return {**before, "model": model}, set_model(tx, actor, folder, model)
    with refused(group_settings.BadSettings):
        document = group_settings.with_value(_settings(tx, actor, folder), key, value)
    return _set(tx, actor, folder, document, "setting changed", key=key, value=value[:200])


def _model_name(name: str) -> str:
    if len(name) > 100 or not name.isprintable() or not name.isascii() or " " in name:
        raise Refused(
            f"{name[:40]!r} is no name of a model; examples: opus, sonnet, claude-sonnet-4-5",
            "bad_request",
        )
    return name


def _settings(tx: Tx, actor: Actor, folder: GroupId) -> Document:
    check_main(tx, actor, folder)
    if actor.kind == "agent":
        raise Refused("only its owner may change what a group may reach and spend")
    return groups.settings(tx, folder)


def _set(
    tx: Tx, actor: Actor, folder: GroupId, document: Document, action: str, **detail: object
) -> tuple[Document, Effects]:
    with refused(group_settings.BadSettings):
        group_settings.read(document)
    groups.set_settings(tx, folder, document)
    note(tx, actor, action, folder, **detail)
    return document, Effects(outdated=(folder,))
