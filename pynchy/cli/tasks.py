"""`pynchy tasks`: what is scheduled, and what became of each time it was due."""

from __future__ import annotations

import json
from typing import Any

import click

from pynchy.cli.client import open_connection, printable

_JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Scheduled work: list, show, add, pause, resume, run, remove. Alone: the list.

    \b
    pynchy tasks
    pynchy tasks add main "what is on today?" --cron "0 8 * * 1-5"
    """
    if context.invoked_subcommand is None:
        _list(group="", ended=False, as_json=False)


@command.command("list")
@click.option("--group", default="", help="Of this group only.")
@click.option("--ended", is_flag=True, help="Those that are over, too.")
@_JSON
def list_tasks(group: str, ended: bool, as_json: bool) -> None:
    """The tasks, the next due first.

    \b
    pynchy tasks list --group family --ended
    """
    _list(group=group, ended=ended, as_json=as_json)


def _list(*, group: str, ended: bool, as_json: bool) -> None:
    found = _ask("tasks.list", group=group, ended=ended)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for task in found:
        click.echo(printable(_line(task)))
    if not found:
        click.echo("nothing is scheduled")


@command.command("show")
@click.argument("task")
@_JSON
def show(task: str, as_json: bool) -> None:
    """One TASK with what became of its newest slots.

    \b
    pynchy tasks show 0b4c7b1a9d2e4f60a1b2c3d4e5f60718
    """
    found = _ask("tasks.show", task=task)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(printable(_line(found)))
    click.echo(printable(f"  in {found['chat']}, {found['context']}, {found['timezone']}"))
    for slot in found["slots"]:
        reason = f" ({slot['reason']})" if slot["reason"] else ""
        missed = f", {slot['missed']} missed before" if slot["missed"] else ""
        click.echo(printable(f"  {slot['due_at']}  {slot['state']}{reason}{missed}"))


@command.command("add")
@click.argument("group")
@click.argument("prompt")
@click.option("--cron", default="", help='Five fields: "0 8 * * 1-5".')
@click.option("--every", type=int, default=0, metavar="SECONDS", help="An interval.")
@click.option("--at", default="", metavar="TIME", help="Once: 2026-12-24T18:00.")
@click.option("--isolated", is_flag=True, help="In a fresh conversation each time.")
@click.option("--name", default="", help="What to call it.")
@click.option("--skip-missed", is_flag=True, help="Do not make up for what was missed.")
@_JSON
def add(
    group: str,
    prompt: str,
    cron: str,
    every: int,
    at: str,
    isolated: bool,
    name: str,
    skip_missed: bool,
    as_json: bool,
) -> None:
    """Have PROMPT done in GROUP, at the times that one of the options says.

    \b
    pynchy tasks add main "what is on today?" --cron "0 8 * * 1-5"
    """
    given = [("cron", cron), ("interval", str(every) if every else ""), ("once", at)]
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
@click.argument("task")
@_JSON
def pause(task: str, as_json: bool) -> None:
    """Let TASK rest.

    \b
    pynchy tasks pause 0b4c7b1a9d2e4f60a1b2c3d4e5f60718
    """
    _say(_ask("tasks.pause", task=task), as_json=as_json)


@command.command("resume")
@click.argument("task")
@_JSON
def resume(task: str, as_json: bool) -> None:
    """Let TASK go on, from its next time after now.

    \b
    pynchy tasks resume 0b4c7b1a9d2e4f60a1b2c3d4e5f60718
    """
    _say(_ask("tasks.resume", task=task), as_json=as_json)


@command.command("run")
@click.argument("task")
@_JSON
def run(task: str, as_json: bool) -> None:
    """Run TASK once, now, besides its schedule.

    \b
    pynchy tasks run 0b4c7b1a9d2e4f60a1b2c3d4e5f60718
    """
    _say(_ask("tasks.run", task=task), as_json=as_json)


@command.command("remove")
@click.argument("task")
@_JSON
def remove(task: str, as_json: bool) -> None:
    """End TASK for good.

    \b
    pynchy tasks remove 0b4c7b1a9d2e4f60a1b2c3d4e5f60718
    """
    _say(_ask("tasks.remove", task=task), as_json=as_json)


def _ask(op: str, **arguments: object) -> Any:
    with open_connection() as connection:
        return connection.ask(op, **arguments)


def _say(task: dict[str, Any], *, as_json: bool) -> None:
    click.echo(json.dumps(task, indent=2) if as_json else printable(_line(task)))


def _line(task: dict[str, Any]) -> str:
    due = f"next {task['next_run']}" if task["next_run"] else "not due"
    reason = f" ({task['reason']})" if task["reason"] else ""
    name = task["name"] or task["prompt"]
    name = name if len(name) <= 60 else name[:59] + "…"
    what = f"{task['kind']} {task['value']}"
    return f"{task['id']}  {task['group']}  {task['state']}{reason}, {what}, {due}: {name}"
