"""`pynchy tasks`: manage scheduled tasks, and show what came of each run."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from pynchy.cli import reading, words
from pynchy.cli.client import indented, open_connection, printable
from pynchy.cli.table import moment, table

_JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Manage scheduled tasks. Without a subcommand: the list.

    A TASK is named by its name, its id, or the beginning of its id.

    \b
    pynchy tasks
    pynchy tasks add main "what is on today?" --cron "0 8 * * 1-5" --name briefing
    pynchy tasks run briefing
    """
    if context.invoked_subcommand is None:
        _list(group="", ended=False, as_json=False)


@command.command("list")
@click.option("--group", default="", shell_complete=words.groups, help="Of this group only.")
@click.option("--ended", is_flag=True, help="Those that are over, too.")
@_JSON
def list_tasks(group: str, ended: bool, as_json: bool) -> None:
    """List the tasks, next due first.

    \b
    pynchy tasks list --group family --ended
    """
    _list(group=group, ended=ended, as_json=as_json)


def _list(*, group: str, ended: bool, as_json: bool) -> None:
    found = reading.ask("tasks.list", group=group, ended=ended)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    rows = [
        (
            task["id"][: words.SHORT],
            task["group"],
            _state(task),
            moment(task["next_run"]) or "not due",
            f"{task['kind']} {task['value']}",
            task["name"] or task["prompt"],
        )
        for task in found
    ]
    for line in table(("task", "group", "state", "next", "when", "what"), rows):
        click.echo(line)
    if not found:
        click.echo("nothing is scheduled")


@command.command("show")
@click.argument("task", shell_complete=words.tasks)
@_JSON
def show(task: str, as_json: bool) -> None:
    """Show TASK and its newest runs.

    \b
    pynchy tasks show briefing
    """
    found = reading.ask("tasks.show", task=task)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(printable(_line(found)))
    click.echo(printable(f"  in {found['chat']}, {found['context']}, {found['timezone']}"))
    click.echo(printable(f"  {indented(found['prompt'])}"))
    rows = [
        (
            moment(slot["due_at"]),
            slot["state"] + (f" ({slot['reason']})" if slot["reason"] else ""),
            f"{slot['missed']} missed before" if slot["missed"] else "",
            slot["said"] or "",
        )
        for slot in found["slots"]
    ]
    for line in table(("due", "became", "missed", "said"), rows):
        click.echo(f"  {line}")
    if not rows:
        click.echo("  it has not been due yet")


@command.command("add")
@click.argument("group", shell_complete=words.groups)
@click.argument("prompt")
@click.option("--cron", default="", help='Five fields: "0 8 * * 1-5".')
@click.option("--every", default="", metavar="TIME", help="An interval: 90, 30m, 2h, 1d.")
@click.option("--at", default="", metavar="TIME", help="Once: 2026-12-24T18:00.")
@click.option("--isolated", is_flag=True, help="In a fresh conversation each time.")
@click.option("--name", default="", help="What to call it.")
@click.option("--skip-missed", is_flag=True, help="Do not make up for what was missed.")
@_JSON
def add(
    group: str,
    prompt: str,
    cron: str,
    every: str,
    at: str,
    isolated: bool,
    name: str,
    skip_missed: bool,
    as_json: bool,
) -> None:
    """Schedule PROMPT in GROUP, at the times that one of the options gives.

    \b
    pynchy tasks add main "what is on today?" --cron "0 8 * * 1-5"
    pynchy tasks add main "has the kettle boiled?" --every 30m
    pynchy tasks add main "remind me of the cake" --at 2026-12-24T18:00
    """
    given = [("cron", cron), ("interval", _seconds(every)), ("once", at)]
    chosen = [(kind, value) for kind, value in given if value]
    if len(chosen) != 1:
        raise click.UsageError("say one of --cron, --every and --at")
    ((kind, value),) = chosen
    made = _ask(
        "tasks.add",
        group=group,
        prompt=prompt,
        kind=kind,
        value=value,
        context="isolated" if isolated else "group",
        name=name,
        catch_up="skip" if skip_missed else "coalesce",
    )
    _say(made, as_json=as_json)


@command.command("pause")
@click.argument("task", shell_complete=words.tasks)
@_JSON
def pause(task: str, as_json: bool) -> None:
    """Pause TASK.

    \b
    pynchy tasks pause briefing
    """
    _say(_ask("tasks.pause", task=task), as_json=as_json)


@command.command("resume")
@click.argument("task", shell_complete=words.tasks)
@_JSON
def resume(task: str, as_json: bool) -> None:
    """Resume TASK, from its next time after now.

    \b
    pynchy tasks resume briefing
    """
    _say(_ask("tasks.resume", task=task), as_json=as_json)


@command.command("run")
@click.argument("task", shell_complete=words.tasks)
@_JSON
def run(task: str, as_json: bool) -> None:
    """Run TASK once, now, in addition to its schedule.

    \b
    pynchy tasks run briefing
    """
    _say(_ask("tasks.run", task=task), as_json=as_json)


@command.command("remove")
@click.argument("task", shell_complete=words.tasks)
@_JSON
def remove(task: str, as_json: bool) -> None:
    """Delete TASK.

    \b
    pynchy tasks remove briefing
    """
    _say(_ask("tasks.remove", task=task), as_json=as_json)


def _seconds(every: str) -> str:
    """An interval in seconds, as the schedule takes it."""
    if not every:
        return ""
    found = re.fullmatch(r"(\d+)\s*([smhd]?)", every.strip().lower())
    if found is None:
        raise click.UsageError(f"--every {every}: expected a time such as 90, 30m, 2h or 1d")
    return str(int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]])


def _ask(op: str, **arguments: object) -> Any:
    with open_connection() as connection:
        return connection.ask(op, **arguments)


def _say(task: dict[str, Any], *, as_json: bool) -> None:
    click.echo(json.dumps(task, indent=2) if as_json else printable(_line(task)))


def _line(task: dict[str, Any]) -> str:
    due = f"next {moment(task['next_run'])}" if task["next_run"] else "not due"
    name = task["name"] or task["prompt"]
    name = name if len(name) <= 60 else name[:59] + "…"
    what = f"{task['kind']} {task['value']}"
    return f"{task['id']}  {task['group']}  {_state(task)}, {what}, {due}: {name}"


def _state(task: dict[str, Any]) -> str:
    return f"{task['state']} ({task['reason']})" if task["reason"] else str(task["state"])
