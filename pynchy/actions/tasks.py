"""What agents may do with scheduled tasks.

A group has its own tasks. Main, in a turn that people main trusts asked for, has everybody's. A task of
another group and one that does not exist look the same to everyone else. A task for another group that is
not main's to give is asked for in main, see `approvals`; it comes back here with `schedule_for`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pynchy.actions.call import Call, Done
from pynchy.actions.refused import Refused
from pynchy.model import ChatId, GroupId, Micros, TaskId, after, channel_of
from pynchy.schedule.times import BadSchedule, Schedule, next_slot, parse, spell
from pynchy.store import authority, groups, task_rows, tasks
from pynchy.store.database import Tx

SHOWN: Final = 200  # characters of a prompt, or of what was said, in a list


def _schedule_task(call: Call) -> Done:
    folder = GroupId(call.args.get("target_group", call.caller.folder))
    if folder != call.caller.folder and not _reaches_all(call):
        raise Refused("tasks of other groups are for main, in a turn that its owner asked for")
    return schedule_for(call, folder)


def schedule_for(call: Call, folder: GroupId) -> Done:
    """Make the task that a call describes, for a group that it may make one for."""
    chat = call.caller.chat if folder == call.caller.folder else _chat_of(call, folder)
    schedule = read_schedule(call)
    if call.caller.steps:
        _not_too_soon(call, folder, schedule, call.now)
        twin = tasks.like(call.db, folder, call.args["prompt"], schedule)
        if twin is not None:
            raise Refused(f"{twin} says the same at the same times; there is no need for another")
    creator, depth = authority.creator_of(call.db, call.caller)
    try:
        task = tasks.create(
            Tx(call.db, call.now),
            id=TaskId(call.new_id()),
            folder=folder,
            chat=chat,
            prompt=call.args["prompt"],
            script=call.args.get("script"),
            schedule=schedule,
            context=call.args["context_mode"],
            creator=creator,
            depth=depth,
        )
    except tasks.CannotSchedule as error:
        raise Refused(str(error)) from None
    return _changed(f"scheduled as {task.id}; {_next(task, call)}")


def read_schedule(call: Call) -> Schedule:
    """The schedule that a call names. Raises `Refused`."""
    return _schedule(call, call.args["schedule_type"], call.args["schedule_value"])


def _list_tasks(call: Call) -> Done:
    found = tasks.of_group(call.db, None if _reaches_all(call) else call.caller.folder)
    if not found:
        return Done(ok=True, text="nothing is scheduled", fresh=True)
    return Done(ok=True, text="\n".join(_line(task, call) for task in found), fresh=True)


def _get_task(call: Call) -> Done:
    task = _own(call)
    lines = [
        _line(task, call),
        f"timezone {task.schedule.timezone}, made {spell(task.created_at, call.timezone)}",
        f"prompt: {task.prompt}",
    ]
    if task.script:
        lines.append(f"script: {task.script}")
    for row in tasks.ledger(call.db, task.id, limit=5):
        reason = f" ({row['reason']})" if row["reason"] else ""
        said = f": {_cut(row['said'])}" if row["said"] else ""
        lines.append(f"{spell(row['due_at'], call.timezone)} {row['state']}{reason}{said}")
    return Done(ok=True, text="\n".join(lines), fresh=True)


def _update_task(call: Call) -> Done:
    task = _own(call)
    if task.creator == authority.OWNER and call.caller.is_main and not call.caller.trusted:
        raise Refused("the owner made this task: only a turn that they asked for may change it")
    args = call.args
    schedule: Schedule | None = None
    if "schedule_type" in args or "schedule_value" in args:
        if "schedule_value" not in args:
            raise Refused("a new schedule_type needs a schedule_value")
        kind = args.get("schedule_type", task.schedule.kind)
        schedule = _schedule(call, kind, args["schedule_value"])
        if call.caller.steps:
            since = tasks.last_run(call.db, task.id) or call.now
            _not_too_soon(call, task.folder, schedule, since)
    changed = tasks.change(
        Tx(call.db, call.now),
        task.id,
        prompt=args.get("prompt"),
        script=args.get("script"),
        context=args.get("context_mode"),
        schedule=schedule,
    )
    if changed is None:
        raise Refused(f"the task is {task.state} and can no longer be changed")
    return _changed(f"changed; {_next(changed, call)}")


def _pause_task(call: Call) -> Done:
    task = _own(call)
    if not task_rows.pause(call.db, task.id, reason="its agent asked"):
        raise Refused(f"the task is {task.state}, not active")
    return _changed("paused; resume_task lets it go on")


def _resume_task(call: Call) -> Done:
    task = _own(call)
    try:
        if not tasks.resume(Tx(call.db, call.now), task.id):
            raise Refused(f"the task is {task.state}, not paused")
    except tasks.CannotSchedule as error:
        raise Refused(str(error)) from None
    return _changed(f"resumed; {_next(_own(call), call)}")


def _cancel_task(call: Call) -> Done:
    task = _own(call)
    if not tasks.cancel(Tx(call.db, call.now), task.id):
        raise Refused(f"the task is {task.state} already")
    return _changed("cancelled for good")


def _run_task_now(call: Call) -> Done:
    task = _own(call)
    try:
        made = tasks.run_now(Tx(call.db, call.now), task.id, asked_in=call.caller.steps)
    except tasks.CannotSchedule as error:
        raise Refused(str(error)) from None
    if not made:
        raise Refused("the task waits to run already, or is over")
    return Done(ok=True, text="it runs as soon as a slot is free", fresh=True, due=task.folder)


# --- shared ---


def _reaches_all(call: Call) -> bool:
    return call.caller.is_main and call.caller.trusted


def _own(call: Call) -> task_rows.Task:
    """The task that is named, if the caller may know that it exists."""
    task = task_rows.get(call.db, TaskId(call.args["task_id"]))
    if task is None or (task.folder != call.caller.folder and not _reaches_all(call)):
        raise Refused("there is no task of that id; list_tasks shows them")
    return task


def _chat_of(call: Call, folder: GroupId) -> ChatId:
    chats = groups.chats_of(call.db, folder)
    if not chats:
        raise Refused(f"there is no group {folder}, or it has no chat; list_groups shows them")
    return min(chats, key=lambda chat: (channel_of(chat) == "console", chat))


def _schedule(call: Call, kind: str, value: Any) -> Schedule:
    if kind == "interval" and isinstance(value, str):
        raise Refused("the schedule_value of an interval is a number of seconds, not a text")
    try:
        return parse(
            kind,
            value,
            timezone=call.timezone,
            now=call.now,
            from_main=call.caller.is_main,
        )
    except BadSchedule as error:
        raise Refused(str(error)) from None


def _not_too_soon(call: Call, folder: GroupId, schedule: Schedule, since: Micros) -> None:
    """A turn that nobody asked for has nothing run sooner than an interval would."""
    least = tasks.least_period(folder)
    first = next_slot(schedule, Micros(call.now - 1))
    if first is not None and first.at < after(since, least):
        raise Refused(
            f"nobody asked for this turn: what it schedules begins {least:.0f} s from now at the earliest,"
            " and no task runs more often than that"
        )


def _changed(text: str) -> Done:
    return Done(ok=True, text=text, fresh=True, schedules=True)


def _next(task: task_rows.Task, call: Call) -> str:
    if task.next_run is None:
        return "it does not run by itself now"
    return f"the next run is {spell(task.next_run, call.timezone)}"


def _line(task: task_rows.Task, call: Call) -> str:
    parts = [f"{task.id} {task.schedule.kind} {task.schedule.value} ({task.context}) {task.state}"]
    if task.folder != call.caller.folder:
        parts.append(f"of {task.folder}")
    if task.reason:
        parts.append(f"because {task.reason}")
    parts.append(_next(task, call))
    last = tasks.ledger(call.db, task.id, limit=1)
    if last:
        said = f", said: {_cut(last[0]['said'])}" if last[0]["said"] else ""
        parts.append(f"last {spell(last[0]['due_at'], call.timezone)} {last[0]['state']}{said}")
    return "; ".join(parts) + f"; prompt: {_cut(task.prompt)}"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[:SHOWN] + " …"


HANDLERS: Final[Mapping[str, Callable[[Call], Done]]] = {
    "schedule_task": _schedule_task,
    "list_tasks": _list_tasks,
    "get_task": _get_task,
    "update_task": _update_task,
    "pause_task": _pause_task,
    "resume_task": _resume_task,
    "cancel_task": _cancel_task,
    "run_task_now": _run_task_now,
}
