"""What can be done to scheduled tasks: each act once, whoever asks for it.

Procedure. A group has its own tasks. The owner, and main in a turn that people main trusts asked for, have
everybody's. A task of another group and one that does not exist look the same to everyone else. Below the acts
stand the agents' commands. A task that an agent wants for another group is asked for in main, see `approvals`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from pynchy.actions.actor import Actor
from pynchy.actions.call import Call, Done
from pynchy.actions.effects import Effects
from pynchy.actions.record import note
from pynchy.actions.refused import Refused, refused
from pynchy.model import ChatId, GroupId, Micros, SenderId, TaskId, after, channel_of
from pynchy.policy.authority import OWNER
from pynchy.schedule.firing import CatchUp
from pynchy.schedule.times import BadSchedule, Schedule, next_slot, parse
from pynchy.store import authority, groups, task_rows, tasks
from pynchy.store.database import Database, Tx

SHOWN: Final = 200  # characters of a prompt, or of what was said, in a list

_SCHEDULES: Final = Effects(schedules=True)
_Acted = tuple[task_rows.Task, Effects]


@attrs.frozen
class NewTask:
    """A task that is wanted. It speaks in ``chat``, or where its group is spoken to if that is None."""

    folder: GroupId
    prompt: str
    schedule: Schedule
    context: task_rows.Context
    chat: ChatId | None = None
    name: str = ""
    script: str | None = None
    catch_up: CatchUp = "coalesce"


def create(
    tx: Tx, actor: Actor, wanted: NewTask, creator: tuple[SenderId, int] = (OWNER, 0)
) -> _Acted:
    """Make a task with the authority of ``creator``, who stands so many tasks deep."""
    if not actor.reaches(wanted.folder):
        raise Refused(
            "only main may make tasks for other groups, in a turn that its owner asked for"
        )
    chat = wanted.chat or _chat_of(tx, wanted.folder)
    if actor.steps:
        _not_too_soon(tx, wanted.folder, wanted.schedule, tx.now)
        twin = tasks.like(tx, wanted.folder, wanted.prompt, wanted.schedule)
        if twin is not None:
            raise Refused(f"{twin} says the same at the same times; there is no need for another")
    values = {**attrs.asdict(wanted, recurse=False), "chat": chat}
    made_by, depth = creator
    order = tasks.Order(id=TaskId(tx.new_id()), creator=made_by, depth=depth, **values)
    with refused(tasks.CannotSchedule):
        task = tasks.create(tx, order)
    note(tx, actor, "task scheduled", task.folder, task=task.id)
    return task, _SCHEDULES


def change(tx: Tx, actor: Actor, id: TaskId, wanted: tasks.Change) -> _Acted:
    """Change a task that is not over."""
    task = find(tx, actor, id)
    if task.creator == OWNER and actor.is_main and not actor.trusted:
        raise Refused("the owner made this task: only a turn that they asked for may change it")
    if wanted.schedule is not None and actor.steps:
        _not_too_soon(tx, task.folder, wanted.schedule, tasks.last_run(tx, id) or tx.now)
    changed = tasks.change(tx, id, wanted)
    if changed is None:
        raise Refused(f"the task is {task.state} and can no longer be changed")
    note(tx, actor, "task changed", task.folder, task=id)
    return changed, _SCHEDULES


def pause(tx: Tx, actor: Actor, id: TaskId) -> _Acted:
    """Let a task rest."""
    task = find(tx, actor, id)
    reason = "its agent asked" if actor.kind == "agent" else "the owner asked"
    if not task_rows.pause(tx, id, reason=reason):
        raise Refused(f"the task is {task.state}, not active")
    note(tx, actor, "task paused", task.folder, task=id)
    return find(tx, actor, id), _SCHEDULES


def resume(tx: Tx, actor: Actor, id: TaskId) -> _Acted:
    """Let a task that rests go on."""
    task = find(tx, actor, id)
    with refused(tasks.CannotSchedule):
        if not tasks.resume(tx, id):
            raise Refused(f"the task is {task.state}, not paused")
    note(tx, actor, "task resumed", task.folder, task=id)
    return find(tx, actor, id), _SCHEDULES


def cancel(tx: Tx, actor: Actor, id: TaskId) -> _Acted:
    """End a task for good."""
    task = find(tx, actor, id)
    if not tasks.cancel(tx, id):
        raise Refused(f"the task is {task.state} already")
    note(tx, actor, "task cancelled", task.folder, task=id)
    return find(tx, actor, id), _SCHEDULES


def run_now(tx: Tx, actor: Actor, id: TaskId) -> _Acted:
    """Run a task once, out of its order."""
    task = find(tx, actor, id)
    with refused(tasks.CannotSchedule):
        made = tasks.run_now(tx, id, asked_in=actor.steps)
    if not made:
        raise Refused("the task waits to run already, or is over")
    note(tx, actor, "task run", task.folder, task=id)
    return find(tx, actor, id), Effects(due=(task.folder,))


def find(db: Database, actor: Actor, id: TaskId) -> task_rows.Task:
    """The task of this id, if the actor may know that it exists; else `Refused`."""
    task = task_rows.get(db, id)
    if task is None or not actor.reaches(task.folder):
        raise Refused("there is no task of that id; list_tasks shows them", "bad_request")
    return task


def _chat_of(db: Database, folder: GroupId) -> ChatId:
    chats = groups.chats_of(db, folder)
    if not chats:
        raise Refused(f"there is no group {folder[:80]}, or it has no chat", "unknown_group")
    return min(chats, key=lambda chat: (channel_of(chat) == "console", chat))


def _not_too_soon(tx: Tx, folder: GroupId, schedule: Schedule, since: Micros) -> None:
    """A turn that nobody asked for has nothing run sooner than an interval would."""
    least = tasks.least_period(folder)
    first = next_slot(schedule, Micros(tx.now - 1))
    if first is not None and first.at < after(since, least):
        raise Refused(
            f"nobody asked for this turn: what it schedules begins {least:.0f} s from now at the earliest,"
            " and no task runs more often than that"
        )


# --- the commands of agents ----------------------------------------------------------------------


def _schedule_task(call: Call) -> Done:
    return schedule_asked(
        call, call.actor, GroupId(call.args.get("target_group", call.caller.folder))
    )


def schedule_asked(call: Call, actor: Actor, folder: GroupId) -> Done:
    """Make the task that a call describes: of the agent itself, or of whoever approved it."""
    wanted = NewTask(
        folder=folder,
        chat=call.caller.chat if folder == call.caller.folder else None,
        prompt=call.args["prompt"],
        script=call.args.get("script"),
        schedule=read_schedule(call),
        context=call.args["context_mode"],
    )
    task, effects = create(call.tx, actor, wanted, authority.creator_of(call.tx, call.caller))
    return Done.now(f"scheduled as {task.id}; {_next(task, call)}", effects)


def read_schedule(call: Call) -> Schedule:
    """The schedule that a call names. Raises `Refused`."""
    return _schedule(call, call.args["schedule_type"], call.args["schedule_value"])


def _list_tasks(call: Call) -> Done:
    found = tasks.of_group(call.tx, None if call.actor.reaches_all else call.caller.folder)
    if not found:
        return Done.now("nothing is scheduled")
    return Done.now("\n".join(_line(task, call) for task in found))


def _get_task(call: Call) -> Done:
    task = find(call.tx, call.actor, _id(call))
    lines = [
        _line(task, call),
        f"timezone {task.schedule.timezone}, made {call.spell(task.created_at)}",
        f"prompt: {task.prompt}",
    ]
    if task.script:
        lines.append(f"script: {task.script}")
    for row in tasks.ledger(call.tx, task.id, limit=5):
        reason = f" ({row['reason']})" if row["reason"] else ""
        said = f": {_cut(row['said'])}" if row["said"] else ""
        lines.append(f"{call.spell(row['due_at'])} {row['state']}{reason}{said}")
    return Done.now("\n".join(lines))


def _update_task(call: Call) -> Done:
    args = call.args
    schedule: Schedule | None = None
    if "schedule_type" in args or "schedule_value" in args:
        if "schedule_value" not in args:
            raise Refused("a new schedule_type needs a schedule_value")
        kind = args.get("schedule_type") or find(call.tx, call.actor, _id(call)).schedule.kind
        schedule = _schedule(call, kind, args["schedule_value"])
    wanted = tasks.Change(
        args.get("prompt"), args.get("script"), args.get("context_mode"), schedule
    )
    task, effects = change(call.tx, call.actor, _id(call), wanted)
    return Done.now(f"changed; {_next(task, call)}", effects)


def _simply(act: Callable[[Tx, Actor, TaskId], _Acted], said: str) -> Callable[[Call], Done]:
    """The command that does this to one task; ``said`` is its answer, with the next run in the place of ``{}``."""

    def command(call: Call) -> Done:
        task, effects = act(call.tx, call.actor, _id(call))
        return Done.now(said.format(_next(task, call)), effects)

    return command


def _id(call: Call) -> TaskId:
    return TaskId(call.args["task_id"])


def _schedule(call: Call, kind: str, value: Any) -> Schedule:
    if kind == "interval" and isinstance(value, str):
        raise Refused("the schedule_value of an interval is a number of seconds, not a text")
    with refused(BadSchedule):
        return parse(
            kind,
            value,
            timezone=call.host.timezone,
            now=call.tx.now,
            from_main=call.caller.is_main,
        )


def _next(task: task_rows.Task, call: Call) -> str:
    if task.next_run is None:
        return "it does not run by itself now"
    return f"the next run is {call.spell(task.next_run)}"


def _line(task: task_rows.Task, call: Call) -> str:
    parts = [f"{task.id} {task.schedule.kind} {task.schedule.value} ({task.context}) {task.state}"]
    if task.folder != call.caller.folder:
        parts.append(f"of {task.folder}")
    if task.reason:
        parts.append(f"because {task.reason}")
    parts.append(_next(task, call))
    last = tasks.ledger(call.tx, task.id, limit=1)
    if last:
        said = f", said: {_cut(last[0]['said'])}" if last[0]["said"] else ""
        parts.append(f"last {call.spell(last[0]['due_at'])} {last[0]['state']}{said}")
    return "; ".join(parts) + f"; prompt: {_cut(task.prompt)}"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[:SHOWN] + " …"


HANDLERS: Final[Mapping[str, Callable[[Call], Done]]] = {
    "schedule_task": _schedule_task,
    "list_tasks": _list_tasks,
    "get_task": _get_task,
    "update_task": _update_task,
    "pause_task": _simply(pause, "paused; resume_task lets it go on"),
    "resume_task": _simply(resume, "resumed; {}"),
    "cancel_task": _simply(cancel, "cancelled for good"),
    "run_task_now": _simply(run_now, "it runs as soon as a slot is free"),
}
