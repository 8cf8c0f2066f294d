"""Approvals: ask a person in main, and carry out what they approve.

What an agent asks for is checked as far as it can be, put into its one form and kept; main is shown all of
it. What is approved is what was kept, looked at anew as things are then, and carried out in the transaction
that takes the approval. The rule that keeps it so: only `decide` carries anything out, and it takes nothing
from the agent but the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from pynchy.actions import groups as group_commands
from pynchy.actions import settings, tasks
from pynchy.actions.actor import Actor
from pynchy.actions.call import Call, Done, Host, Scaffold, no_folders
from pynchy.actions.effects import Effects
from pynchy.actions.record import note
from pynchy.actions.refused import Refused, refused
from pynchy.container.mounts.rules import MountRequest, name_after, unfit
from pynchy.limits import APPROVALS
from pynchy.model import MAIN, GroupId, folder_of
from pynchy.policy import group_settings
from pynchy.policy.allowance import check_owner, check_pattern
from pynchy.policy.requests import Request, code_of, digest, question, read
from pynchy.policy.tools import Caller
from pynchy.policy.wording import End
from pynchy.store import approvals, groups, notices
from pynchy.store.approvals import Approval
from pynchy.store.database import Tx


@attrs.frozen
class Decided:
    """What came of a decision: ``text`` for the person; ``ok``, unless it was approved and cannot be done."""

    approval: Approval
    text: str
    ok: bool = True


def ask(call: Call, command: str) -> Done:
    """Keep what an agent asks for and show it to main. Raises `Refused` if no approval could help."""
    tx, caller = call.tx, call.caller
    request = Request(caller.folder, command, _CHECKS[command](call))
    waiting = approvals.same(tx, request.folder, digest(request.canonical))
    if waiting is not None:
        return Done.now(_waits(waiting))
    chat = groups.main_chat(tx)
    if chat is None:
        raise Refused("main has no chat in which anybody could be asked")
    if (open_now := approvals.count_open(tx, request.folder)) >= APPROVALS.open:
        raise Refused(f"{open_now} requests of this group wait for a person already")
    if (today := approvals.count_today(tx, request.folder)) >= APPROVALS.a_day:
        raise Refused(f"this group has asked for {today} things within a day; that is enough")
    code = code_of(tx.new_id())
    while approvals.get(tx, code) is not None:
        code = code_of(tx.new_id())
    asked = approvals.ask(tx, caller, request, code=code)
    for said in question(request, code=code, minutes=round(APPROVALS.lifetime / 60)):
        notices.tell(tx, chat, said)
    detail = {"code": code, "command": command, "sha256": asked.sha256}
    note(tx, call.actor, "approval asked", request.folder, **detail)
    return Done.now(_waits(asked), Effects(speaks=True, schedules=True))


def _waits(approval: Approval) -> str:
    return (
        f"waiting for approval {approval.code}: nothing is done yet, a person in main has been asked."
        " You will be woken with the outcome: end your turn, without asking again"
    )


def decide(
    tx: Tx,
    actor: Actor,
    code: str,
    *,
    approve: bool,
    scaffold: Scaffold = no_folders,
    sha256: str = "",
) -> tuple[Decided, Effects]:
    """Take a person's word on a request.

    ``sha256``, if given, is what they were shown. Raises `Refused`; nothing was changed then.
    """
    if actor.kind == "agent" or not actor.reaches_all:
        raise Refused("only the owner and senders they allowed may decide requests")
    found = approvals.get(tx, code)
    if found is None:
        raise Refused("There is no request of that code.", "unknown_code")
    if found.state != "asked":
        raise Refused(f"That request is over: {_STATES[found.state]}.", "not_open")
    if found.expires_at <= tx.now:
        raise Refused("That request has expired; it must be asked for again.", "not_open")
    if sha256 not in ("", found.sha256) or digest(found.request) != found.sha256:
        raise Refused("That is not the request that was shown.", "changed")
    state: End
    effects = Effects()
    if not approve:
        state, outcome, text = "denied", "", f"Denied: {found.command} of {found.folder}."
    else:
        try:
            with tx.undone_if_raised():
                done = _carry_out(tx, found, actor, scaffold=scaffold)
            state, outcome, effects = "done", done.text, done.effects
            text = f"Approved, for {found.folder}: {done.text}."
        except Refused as error:
            state, outcome = "failed", str(error)
            text = f"Approved, but it could not be done: {error}."
    woken = approvals.end(tx, found, state, by=actor.name, outcome=outcome)
    if woken is not None:
        effects += Effects(look=(woken,))
    return Decided(found, text, ok=state != "failed"), effects


_STATES: Final = {
    "done": "it was approved",
    "failed": "it was approved, and could not be done",
    "denied": "it was denied",
    "expired": "it has expired",
}


def _carry_out(tx: Tx, approval: Approval, actor: Actor, *, scaffold: Scaffold) -> Done:
    request = read(approval.request)
    if not groups.is_since(tx, request.folder, approval.asked_at):
        raise Refused("the group that asked is gone")
    caller = Caller(
        folder=request.folder,
        is_main=request.folder == MAIN,
        run=approval.run,
        chat=approval.chat,
        turn=approval.turn,
        trusted=False,  # one thing was approved, and no more
    )
    args = dict(request.args)
    timezone = str(args.pop("timezone", "UTC"))
    call = Call(tx, caller, args, host=Host(timezone, scaffold))
    return APPROVED[request.command](call, actor)


# --- what can be asked for: a check when it is asked, an effect when it is approved ----------------


def _new_mount(call: Call) -> MountRequest:
    """The mount that a call asks for, if it would be a new one: no request changes one that is there."""
    path = call.args["path"]
    name = call.args.get("name") or name_after(path)
    request = MountRequest(path=path, name=name, writable=call.args.get("writable", False))
    if (reason := unfit(request)) is not None:
        raise Refused(reason)
    document = groups.settings(call.tx, call.caller.folder)
    if any(each.get("name") == request.name for each in document.get("mounts", [])):
        raise Refused(f"this group has a mount of the name {request.name} already")
    _check(group_settings.with_mount(document, request))
    return request


def _mount(call: Call, actor: Actor) -> Done:
    request = _new_mount(call)
    _, effects = settings.add_mount(call.tx, actor, call.caller.folder, request)
    text = f"{request.path} is a mount, {request.name}, from the next run on, if the allowlist lets it be"
    return Done.now(text, effects)


def _new_host(call: Call) -> str:
    """The host that a call asks for, if it would be a new one: no request opens what the owner has closed."""
    with refused(ValueError):
        host = check_pattern(call.args["host"])
        check_owner(host)
    document = groups.settings(call.tx, call.caller.folder)
    if document.get("egress") == "none":
        raise Refused("its owner has closed every way out of this group; nobody in a chat opens it")
    if host in document.get("hosts", []):
        raise Refused(f"{host} is on this group's list already, from its next run on at the latest")
    _check(group_settings.with_entry(document, "hosts", host))
    return host


def _host(call: Call, actor: Actor) -> Done:
    host = _new_host(call)
    _, effects = settings.add_entry(call.tx, actor, call.caller.folder, "hosts", host)
    return Done.now(f"{host} is on the list of hosts, from the next run on", effects)


def _new_tool(call: Call) -> dict[str, str]:
    """The tool or the model that a call asks for, if it would be a new one: no request opens what the owner has
    closed."""
    tool, model = call.args["tool"], call.args.get("model", "")
    document = groups.settings(call.tx, call.caller.folder)
    key, entry = _entry(tool, model)
    if tool == "model" and not model:
        raise Refused("name the model that you ask for")
    if tool != "model" and model:
        raise Refused(f"a model is named, but {tool} is asked for")
    if tool == "model" and not document.get(key):
        raise Refused("this group may use every model already")
    if tool != "model" and not call.host.searches:
        raise Refused("the model API has no web search; the setting is model.web_search")
    if tool != "model" and (document.get("egress") == "none" or "none" in document.get(key, [])):
        raise Refused("its owner has closed that to this group; nobody in a chat opens it")
    if entry in document.get(key, []):
        raise Refused(f"{entry} is this group's already, from its next run on at the latest")
    _check(group_settings.with_entry(document, key, entry))
    return {"tool": tool, **({"model": model} if model else {})}


def _entry(tool: str, model: str) -> tuple[str, str]:
    """The setting that a request of a tool adds to, and what."""
    return ("models", model) if tool == "model" else ("server_tools", tool)


def _tool(call: Call, actor: Actor) -> Done:
    asked = _new_tool(call)
    key, entry = _entry(asked["tool"], asked.get("model", ""))
    _, effects = settings.add_entry(call.tx, actor, call.caller.folder, key, entry)
    return Done.now(f"{entry} is this group's, from the next run on", effects)


def _check_task(call: Call) -> dict[str, Any]:
    folder = call.args["target_group"]
    if folder_of(folder) is None:
        raise Refused("target_group is not the name of a group")
    tasks.read_schedule(call)
    return {**call.args, "timezone": call.host.timezone}


def _task(call: Call, actor: Actor) -> Done:
    return tasks.schedule_asked(call, actor, GroupId(call.args["target_group"]))


def _check(document: dict[str, Any]) -> None:
    with refused(group_settings.BadSettings):
        group_settings.read(document)


_CHECKS: Final[Mapping[str, Callable[[Call], dict[str, Any]]]] = {
    "register_group": lambda call: attrs.asdict(group_commands.registration(call)),
    "schedule_task": _check_task,
    "request_mount": lambda call: attrs.asdict(_new_mount(call)),
    "request_host": lambda call: {"host": _new_host(call)},
    "request_tool": _new_tool,
}
APPROVED: Final[Mapping[str, Callable[[Call, Actor], Done]]] = {
    "register_group": group_commands.register_asked,
    "schedule_task": _task,
    "request_mount": _mount,
    "request_host": _host,
    "request_tool": _tool,
}
