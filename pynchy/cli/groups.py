"""`pynchy groups`: add, change and remove the chats that are answered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pynchy.cli import words
from pynchy.cli.client import Failure, ask, printable
from pynchy.cli.mounts import group_lines
from pynchy.cli.output import json_option, show
from pynchy.cli.table import moment, table
from pynchy.exits import Exit
from pynchy.files.disk import spell_bytes

_folder = click.argument("folder", shell_complete=words.groups)


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Manage groups and their chats. Without a subcommand: the list.

    \b
    pynchy groups
    pynchy groups add console:family --name Family
    """
    if context.invoked_subcommand is None:
        context.invoke(list_groups)


@command.command("list")
@json_option
def list_groups(as_json: bool) -> None:
    """List the groups and their chats.

    \b
    pynchy groups list --json
    """
    show(ask("groups.list"), _table, as_json=as_json)


def _table(found: list[dict[str, Any]]) -> Iterator[str]:
    rows = [
        (
            group["folder"],
            group["name"],
            _state(group) or _answers(group),
            ", ".join(group["chats"]) or "no chat",
        )
        for group in found
    ]
    yield from table(("group", "name", "answers", "chats"), rows)


@command.command("show")
@_folder
@json_option
def show_group(folder: str, as_json: bool) -> None:
    """Show everything that holds for group FOLDER, and where it comes from.

    \b
    pynchy groups show family
    """
    show(ask("groups.show", folder=folder), _everything, as_json=as_json)


def _everything(found: dict[str, Any]) -> Iterator[str]:
    who = "everybody" if found["allowed"] is None else ", ".join(found["allowed"]) or "its owner"
    yield f"{found['folder']}: {found['name']}{', paused' if found['paused'] else ''}"
    yield f"chats: {', '.join(found['chats']) or 'none'}"
    yield f"answers: {_answers(found)}"
    yield f"listens to: {who}; others: {found['others']}"
    yield ""
    rows = [(each["key"], _spelled(each), each["source"]) for each in found["settings"]]
    yield from table(("setting", "value", "from"), rows)
    yield ""
    yield from group_lines(found)


def _spelled(setting: dict[str, Any]) -> str:
    key, value = setting["key"], setting["value"]
    if value is None:
        limited = key.startswith("budget.") or key in ("disk", "files")
        return "no limit" if limited else "not set"
    if key == "disk":
        return spell_bytes(value)
    if key.endswith("_dollars"):
        return f"${value:.2f}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or ("any" if key == "models" else "none")
    return str(value)


@command.command("discover")
@json_option
def discover(as_json: bool) -> None:
    """List the messengers' chats that are not registered, the latest active first.

    These are the account's groups, asked of the messenger now, and people who have written to it.
    Only their names and times are kept.

    \b
    pynchy groups discover
    """
    found = ask("groups.discover")
    if not found["asked"] and not as_json:
        known = "; this is what was known before" if found["chats"] else ""
        click.echo(f"No messenger is connected{known}. To link one: pynchy auth whatsapp", err=True)
    show(found, _chats, as_json=as_json)
    if found["chats"] and not as_json:
        click.echo("Register one with: pynchy groups add CHAT", err=True)


def _chats(found: dict[str, Any]) -> Iterator[str]:
    for chat in found["chats"]:
        name = " ".join(chat["name"].split()) or "no name"
        yield f"{chat['chat']}  {moment(chat['last_at']) or 'never active'}  {name}"


@command.command("add")
@click.argument("chat")
@click.option("--folder", default="", help="The group's folder; its name, in a-z, 0-9 and -.")
@click.option("--name", default="", help="What to call it; the chat's name.")
@click.option(
    "--trigger", metavar="NAME", default=None, help="Answer to @NAME; the assistant's name."
)
@click.option("--no-trigger", is_flag=True, help="Answer every message.")
@json_option
def add_group(
    chat: str, folder: str, name: str, trigger: str | None, no_trigger: bool, as_json: bool
) -> None:
    """Register CHAT for a new group, or as one more chat of an existing one.

    For an existing group, the options change it. `pynchy groups discover` lists the messengers'
    chats; a phone number with its country code means the chat with that number.

    \b
    pynchy groups add console:family --name Family --folder family
    pynchy groups add 120363012345678901@g.us
    """
    if trigger and no_trigger:
        raise click.UsageError("--trigger and --no-trigger exclude each other")
    if trigger is not None and not trigger.strip("@ "):
        raise click.UsageError("--trigger: expected a name, such as @Pynchy; or --no-trigger")
    group = ask(
        "groups.add",
        chat=chat,
        folder=folder,
        name=name,
        trigger=trigger or "",
        requires_trigger=False if no_trigger else True if trigger else None,
    )
    show(group, _line, as_json=as_json)


@command.command("allow")
@_folder
@click.argument("senders", nargs=-1, metavar="[NUMBER]...")
@click.option("--everybody", is_flag=True, help="Listen to everybody again.")
@click.option(
    "--others",
    type=click.Choice(["context", "ignored"]),
    help="Whether what others write is context, or not kept at all.",
)
def allow(folder: str, senders: tuple[str, ...], everybody: bool, others: str | None) -> None:
    """Let only these people wake the assistant in group FOLDER.

    Give numbers with their country code. The owner always may. In main, these people may do
    everything that the owner may do in a chat.

    \b
    pynchy groups allow family +491701234567 +491707654321 --others ignored
    pynchy groups allow family --everybody
    """
    if everybody == bool(senders):
        raise click.UsageError("name those who are allowed, or --everybody")
    found = ask(
        "groups.allow",
        folder=folder,
        senders=",".join(senders) or "everybody",
        others=others or "",
    )
    who = "everybody" if found["senders"] is None else ", ".join(found["senders"])
    click.echo(printable(f"{found['folder']} listens to {who}; others: {found['others']}"))


@command.command("mount")
@_folder
@click.argument("path")
@click.option("--name", default="", help="Its name below /workspace/extra; the last of PATH.")
@click.option("--writable", is_flag=True, help="May be written, where the allowlist agrees.")
def mount(folder: str, path: str, name: str, writable: bool) -> None:
    """Give group FOLDER the folder or file PATH of this machine, from its next run on.

    The allowlist decides (see `pynchy mounts`). A refused mount is remembered and takes effect once
    the allowlist permits it; until then the exit code is 1.

    \b
    pynchy groups mount family ~/Photos --name photos
    """
    from pynchy.container.mounts.rules import name_after  # here: no other command needs it

    path = path if path.startswith("~") else str(Path(path).absolute())  # as seen from here
    if not os.path.exists(os.path.expanduser(path)):  # noqa: PTH110, PTH111  # False, too, where it cannot be looked at
        raise Failure(f"{path}: there is no such folder or file, or you may not see it", Exit.USAGE)
    name = name or name_after(path)
    found = ask("groups.mount", folder=folder, path=path, name=name, writable=writable)
    show(found, group_lines, as_json=False)
    if name in {each["name"] for each in found["refused"]}:
        raise SystemExit(Exit.OURS)


@command.command("set", context_settings={"ignore_unknown_options": True})  # -3 is a wrong value
@_folder
@click.argument("key", default="")
@click.argument("value", default="")
@click.option("--json", "as_json", is_flag=True, help="All its settings, as JSON.")
def set_value(folder: str, key: str, value: str, as_json: bool) -> None:
    """Set what group FOLDER answers, may reach and may spend, from its next run on.

    Without KEY, the keys are listed. Without VALUE, the default applies again. `answers` says what
    it takes as addressed to it, each with those before: mention (@Name anywhere), reply (replies to
    its messages), name (its name first, the default), all (every message). `models` are all that it
    may use: the usual one if it is among them, or else the first.

    \b
    pynchy groups set family answers reply
    pynchy groups set family egress allowlist
    pynchy groups set family hosts example.org,*.example.net
    pynchy groups set family model opus
    pynchy groups set family models claude-sonnet-4-5
    pynchy groups set family server_tools web_search
    pynchy groups set family budget.day_dollars 2.50
    pynchy groups set family disk 2g
    pynchy groups set family image agent-browser
    pynchy groups set family language de
    """
    if not key:
        show(ask("groups.show", folder=folder), _keys, as_json=as_json)
        return
    found = ask("groups.set", folder=folder, key=key, value=value)

    def lines(found: dict[str, Any]) -> Iterator[str]:
        now = found.get(key)
        for word in key.split("."):  # budget.day_dollars is day_dollars of the budget
            now = now.get(word) if isinstance(now, dict) else found.get(word)
        spelled = ", ".join(map(str, now)) if isinstance(now, list) else now
        if key == "disk" and isinstance(now, int) and now:
            spelled = spell_bytes(now)
        is_now = "has the default again" if now is None else f"is {spelled}"
        yield f"{folder}: {key} {is_now}, from its next {'message' if key == 'answers' else 'run'} on"

    show(found, lines, as_json=as_json)


def _keys(found: dict[str, Any]) -> Iterator[str]:
    rows = [(each["key"], _spelled(each), each["expected"]) for each in found["settings"]]
    answers = ("answers", found["answers"], "one of mention, reply, name, all")
    yield from table(("key", "now", "expected"), [answers, *rows])


@command.command("unmount")
@_folder
@click.argument("name")
def unmount(folder: str, name: str) -> None:
    """Remove mount NAME from group FOLDER, from its next run on.

    \b
    pynchy groups unmount family photos
    """
    found = ask("groups.unmount", folder=folder, name=name)
    show(found, group_lines, as_json=False)


@command.command("stop")
@_folder
def stop_group(folder: str) -> None:
    """Stop the work of group FOLDER, as `/stop` in its chat does.

    \b
    pynchy groups stop family
    """
    done = ask("groups.stop", folder=folder)
    idle = "its agent was idle, and is ended" if done.get("ended") else "there was nothing to stop"
    click.echo(f"{folder}: {'stopped' if done['stopped'] else idle}")


@command.command("pause")
@_folder
def pause_group(folder: str) -> None:
    """Pause group FOLDER: it is not answered, and its messages are kept.

    \b
    pynchy groups pause family
    """
    ask("groups.pause", folder=folder)
    click.echo(f"{folder} is paused; to resume: pynchy groups resume {folder}")


@command.command("resume")
@_folder
def resume_group(folder: str) -> None:
    """Resume group FOLDER, starting with the messages that came meanwhile.

    This also releases a group that was held back because its agent did too much on its own.

    \b
    pynchy groups resume family
    """
    ask("groups.resume", folder=folder)
    click.echo(f"{folder} is resumed")


@command.command("remove")
@_folder
def remove_group(folder: str) -> None:
    """Stop answering group FOLDER. Nothing is deleted: its files and history stay.

    To delete them, too: `pynchy groups forget FOLDER`.

    \b
    pynchy groups remove family
    """
    ask("groups.remove", folder=folder)
    click.echo(f"{folder} is no longer answered; its files and history stay")
    click.echo(f"To delete them: pynchy groups forget {folder}", err=True)


@command.command("forget")
@_folder
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def forget_group(folder: str, yes: bool, as_json: bool) -> None:
    """Delete group FOLDER and all its data. This cannot be undone.

    To stop answering it and keep everything: `pynchy groups remove FOLDER`.

    Deleted are its messages and replies, conversations, tasks, memories, search index, files and
    run logs. A group that was removed before can be deleted too. What stays: the audit's record of
    the deletion, and the sums of what its calls cost. Backups contain the group until they expire:
    those of three nights and three weeks, and your own (`pynchy backup`).

    \b
    pynchy groups forget old-project
    pynchy groups forget old-project --yes
    """
    if not yes:
        click.confirm(f"Delete {folder}, all its messages and all its files?", abort=True, err=True)
    found = ask("groups.forget", folder=folder)
    kinds = ("messages", "replies", "tasks", "memories")
    gone = ", ".join(f"{found[each]} {each}" for each in kinds)
    show(found, lambda found: [f"{folder} is deleted: {gone}, and its files"], as_json=as_json)
    for path in found["left"]:
        click.echo(f"could not be deleted: {printable(path)}", err=True)
    if found["left"]:
        raise SystemExit(Exit.OURS)


def _answers(group: dict[str, Any]) -> str:
    match group["answers"]:
        case "all":
            return "everything"
        case "name":
            return f"@{group['trigger']}"
    return f"@{group['trigger']}, by {group['answers']}"


def _state(group: dict[str, Any]) -> str:
    return "paused" if group["paused"] else "held back" if group.get("held_back") else ""


def _line(group: dict[str, Any]) -> Iterator[str]:
    paused = f", {state}" if (state := _state(group)) else ""
    chats = ", ".join(group["chats"]) or "no chat"
    yield f"{group['folder']}: {group['name']}, {chats}, answers {_answers(group)}{paused}"
