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
from pynchy.actions import tasks
from pynchy.actions.call import Call, Done, Scaffold, no_folders, undone_if_refused
from pynchy.actions.refused import Refused
from pynchy.container.mounts.rules import Wish, name_after, unfit
from pynchy.gateway.hosts import check_owner, check_pattern
from pynchy.model import MAIN, GroupId, folder_of
from pynchy.policy import group_settings
from pynchy.policy.requests import Request, code_of, digest, question, read
from pynchy.policy.tools import Caller
from pynchy.store import approvals, audit, groups, guard_reports, notices
from pynchy.store.approvals import Approval
from pynchy.store.database import Tx


class CannotDecide(Exception):
    """There is nothing to decide here; the text says why, to the person. ``code`` is for their program."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@attrs.frozen
class Decided:
    """What came of a decision: ``text`` for the person, ``done`` for what follows after the commit."""

    approval: Approval
    text: str
    done: Done


def ask(call: Call, command: str) -> Done:
    """Keep what an agent asks for and show it to main. Raises `Refused` if no approval could help."""
    request = Request(call.caller.folder, command, _CHECKS[command](call))
    canonical = request.canonical
    sha256 = digest(canonical)
    waiting = approvals.same(call.db, request.folder, sha256)
    if waiting is not None:
        return Done(ok=True, text=_waits(waiting), fresh=True)
    chat = groups.main_chat(call.db)
    if chat is None:
        raise Refused("there is nobody in main who could be asked")
    code = code_of(call.new_id())
    while approvals.get(call.db, code) is not None:
        code = code_of(call.new_id())
    try:
        asked = approvals.ask(
            Tx(call.db, call.now),
            code=code,
            folder=request.folder,
            chat=call.caller.chat,
            run=call.caller.run,
            turn=call.caller.turn,
            command=command,
            request=canonical,
            sha256=sha256,
        )
    except approvals.TooMany as error:
        raise Refused(str(error)) from None
    minutes = round(approvals.LIFETIME / 60)
    for said in question(request, code=code, minutes=minutes):
        notices.tell(Tx(call.db, call.now, call.new_id), chat, said)
    audit.record(
        Tx(call.db, call.now),
        actor=f"agent of {request.folder}",
        action="approval asked",
        folder=request.folder,
        detail={"code": code, "command": command, "sha256": sha256, "turn": call.caller.turn},
    )
    return Done(ok=True, text=_waits(asked), fresh=True, speaks=True, schedules=True)


def _waits(approval: Approval) -> str:
    return (
        f"waiting for approval {approval.code}: nothing is done yet, a person in main has been asked."
        " You will be woken with the outcome: end your turn, without asking again"
    )


def decide(
    tx: Tx, code: str, *, approve: bool, by: str, scaffold: Scaffold = no_folders, sha256: str = ""
) -> Decided:
    """Take a person's word on a request. Whether they may give it has been settled by the caller.

    ``sha256``, if given, is what they were shown. Raises `CannotDecide`; nothing was changed then.
    """
    found = approvals.get(tx, code)
    if found is None:
        raise CannotDecide("unknown_code", "There is no request of that code.")
    if found.state != "asked":
        raise CannotDecide("not_open", f"That request is over: {_STATES[found.state]}.")
    if found.expires_at <= tx.now:
        raise CannotDecide("not_open", "That request has expired; it must be asked for again.")
    if sha256 not in ("", found.sha256) or digest(found.request) != found.sha256:
        raise CannotDecide("changed", "That is not the request that was shown.")
    if not approve:
        woken = approvals.end(tx, found, "denied", by=by, outcome="")
        text = f"Denied: {found.command} of {found.folder}."
        return Decided(found, text, Done(ok=True, text=text, fresh=True, wakes=woken))
    try:
        with undone_if_refused(tx):
            done = _carry_out(tx, found, by=by, scaffold=scaffold)
    except Refused as error:
        woken = approvals.end(tx, found, "failed", by=by, outcome=str(error))
        text = f"Approved, but it could not be done: {error}."
        return Decided(found, text, Done(ok=False, text=text, fresh=True, wakes=woken))
    woken = approvals.end(tx, found, "done", by=by, outcome=done.text)
    text = f"Approved, for {found.folder}: {done.text}."
    return Decided(found, text, attrs.evolve(done, wakes=woken))


_STATES: Final = {
    "done": "it was approved",
    "failed": "it was approved, and could not be done",
    "denied": "it was denied",
    "expired": "it has expired",
}


def _carry_out(tx: Tx, approval: Approval, *, by: str, scaffold: Scaffold) -> Done:
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
    call = Call(tx, caller, args, tx.now, tx.new_id, None, timezone, scaffold)
    return _EFFECTS[request.command](call, by)


# --- what can be asked for: a check when it is asked, an effect when it is approved ----------------


def _check_mount(call: Call) -> dict[str, Any]:
    path = call.args["path"]
    wish = Wish(
        path=path,
        name=call.args.get("name") or name_after(path),
        writable=call.args.get("writable", False),
    )
    _new_mount(call, wish)
    return attrs.asdict(wish)


def _mount(call: Call, by: str) -> Done:
    wish = Wish(**call.args)
    groups.set_settings(call.db, call.caller.folder, _new_mount(call, wish))
    _changed(call, "mount added", {**attrs.asdict(wish)}, by=by)
    text = f"{wish.path} is a mount, {wish.name}, from the next run on, if the allowlist lets it be"
    return Done(ok=True, text=text, fresh=True, outdated=call.caller.folder)


def _new_mount(call: Call, wish: Wish) -> dict[str, Any]:
    """The settings with one more mount, or `Refused`: no request changes a mount that is there."""
    if (reason := unfit(wish)) is not None:
        raise Refused(reason)
    document = groups.settings(call.db, call.caller.folder)
    if any(each.get("name") == wish.name for each in document.get("mounts", [])):
        raise Refused(f"this group has a mount of the name {wish.name} already")
    return _readable(group_settings.with_mount(document, wish))


def _check_host(call: Call) -> dict[str, Any]:
    try:
        host = check_pattern(call.args["host"])
        check_owner(host)
    except ValueError as error:
        raise Refused(str(error)) from None
    _new_host(call, host)
    return {"host": host}


def _host(call: Call, by: str) -> Done:
    host = call.args["host"]
    groups.set_settings(call.db, call.caller.folder, _new_host(call, host))
    _changed(call, "host added", {"host": host}, by=by)
    text = f"{host} is on the list of hosts, from the next run on"
    return Done(ok=True, text=text, fresh=True, outdated=call.caller.folder)


def _new_host(call: Call, host: str) -> dict[str, Any]:
    """The settings with one more host, or `Refused`: no request opens what the owner has closed."""
    document = groups.settings(call.db, call.caller.folder)
    if document.get("egress") == "none":
        raise Refused("its owner has closed every way out of this group; nobody in a chat opens it")
    hosts = document.get("hosts", [])
    if host in hosts:
        raise Refused(f"{host} is on this group's list already, from its next run on at the latest")
    return _readable({**document, "hosts": [*hosts, host]})


def _check_group(call: Call) -> dict[str, Any]:
    return group_commands.registration(call)


def _group(call: Call, by: str) -> Done:
    done = group_commands.register(call)
    _changed(call, "group registered", {"folder": call.args["folder"]}, by=by)
    return done


def _check_task(call: Call) -> dict[str, Any]:
    folder = call.args["target_group"]
    if folder_of(folder) is None:
        raise Refused("target_group is no name of a group")
    tasks.read_schedule(call)
    return {**call.args, "timezone": call.timezone}


def _task(call: Call, by: str) -> Done:
    done = tasks.schedule_for(call, GroupId(call.args["target_group"]))
    _changed(call, "task scheduled", {"for": call.args["target_group"]}, by=by)
    return done


def _readable(document: dict[str, Any]) -> dict[str, Any]:
    try:
        group_settings.read(document)
    except group_settings.BadSettings as error:
        raise Refused(str(error)) from None
    return document


def _changed(call: Call, action: str, detail: dict[str, object], *, by: str) -> None:
    guard_reports.settings_changed(
        Tx(call.db, call.now), folder=call.caller.folder, action=action, detail=detail, by=by
    )


_CHECKS: Final[Mapping[str, Callable[[Call], dict[str, Any]]]] = {
    "register_group": _check_group,
    "schedule_task": _check_task,
    "request_mount": _check_mount,
    "request_host": _check_host,
}
_EFFECTS: Final[Mapping[str, Callable[[Call, str], Done]]] = {
    "register_group": _group,
    "schedule_task": _task,
    "request_mount": _mount,
    "request_host": _host,
}
