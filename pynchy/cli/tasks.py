"""`pynchy tasks`: manage scheduled tasks, and show what came of each run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import attrs
import click

from pynchy.cli import reading, words
from pynchy.cli.client import ask, indented
from pynchy.cli.output import json_option, show
from pynchy.cli.table import moment, table


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
        context.invoke(list_tasks)


@command.command("list")
@click.option("--group", default="", shell_complete=words.groups, help="Of this group only.")
@click.option("--ended", is_flag=True, help="Include those that are over.")
@json_option
def list_tasks(group: str, ended: bool, as_json: bool) -> None:
    """List the tasks, next due first.

    \b
    pynchy tasks list --group family --ended
    """
    show(reading.ask("tasks.list", group=group, ended=ended), _table, as_json=as_json)


def _table(found: list[dict[str, Any]]) -> Iterator[str]:
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
    head = ("task", "group", "state", "next", "when", "what")
    yield from table(head, rows, empty="nothing is scheduled")


@command.command("show")
@click.argument("task", shell_complete=words.tasks)
@json_option
def show_task(task: str, as_json: bool) -> None:
    """Show TASK and its newest runs.

    \b
    pynchy tasks show briefing
    """
    show(reading.ask("tasks.show", task=task), _details, as_json=as_json)


def _details(task: dict[str, Any]) -> Iterator[str]:
    yield from _line(task)
    yield f"  in {task['chat']}, {task['context']}, {task['timezone']}"
    yield f"  {indented(task['prompt'])}"
    rows = [
        (
            moment(slot["due_at"]),
            slot["state"] + (f" ({slot['reason']})" if slot["reason"] else ""),
            f"{slot['missed']} missed before" if slot["missed"] else "",
            slot["said"] or "",
        )
        for slot in task["slots"]
    ]
    head = ("due", "became", "missed", "said")
    yield from (f"  {line}" for line in table(head, rows, empty="it has not been due yet"))


@attrs.frozen
class NewTask:
    """What `pynchy tasks add` is given."""

    group: str
    prompt: str
    cron: str
    every: str
    at: str
    isolated: bool
    name: str
    skip_missed: bool

    def arguments(self) -> dict[str, str]:
        """The same as the op takes it. Raises UsageError unless it has one schedule."""
        given = {"cron": self.cron, "interval": self.every, "once": self.at}
        chosen = [(kind, value) for kind, value in given.items() if value]
        if len(chosen) != 1:
            raise click.UsageError("give one of --cron, --every and --at")
        ((kind, value),) = chosen
        return {
            "group": self.group,
            "prompt": self.prompt,
            "kind": kind,
            "value": value,
            "context": "isolated" if self.isolated else "group",
            "name": self.name,
            "catch_up": "skip" if self.skip_missed else "coalesce",
        }


@command.command("add")
@click.argument("group", shell_complete=words.groups)
@click.argument("prompt")
@click.option("--cron", default="", help='Five fields, as "0 8 * * 1-5", or @daily.')
@click.option("--every", default="", metavar="TIME", help="An interval: 90, 30m, 2h, 1 day.")
@click.option(
    "--at",
    default="",
    metavar="TIME",
    help="Once: 8:00, tomorrow 8:00, friday 18:00, 2026-12-24T18:00.",
)
@click.option("--isolated", is_flag=True, help="In a fresh conversation each time.")
@click.option("--name", default="", help="What to call it.")
@click.option("--skip-missed", is_flag=True, help="Do not make up for what was missed.")
@json_option
def add(*, as_json: bool, **given: Any) -> None:
    """Schedule PROMPT in GROUP, at the times that one of the options gives.

    \b
    pynchy tasks add main "what is on today?" --cron "0 8 * * 1-5"
    pynchy tasks add main "has the kettle boiled?" --every 30m
    pynchy tasks add main "take the bins out" --at "tomorrow 8:00"
    pynchy tasks add main "remind me of the cake" --at 2026-12-24T18:00
    """
    show(ask("tasks.add", **NewTask(**given).arguments()), _line, as_json=as_json)


_ACTS: Final = {
    "pause": "Pause TASK.",
    "resume": "Resume TASK, from its next time after now.",
    "run": "Run TASK once, now, in addition to its schedule.",
    "remove": "Delete TASK.",
}


def _add_act(name: str, does: str) -> None:
    @command.command(name, help=f"{does}\n\n\b\npynchy tasks {name} briefing")
    @click.argument("task", shell_complete=words.tasks)
    @json_option
    def act(task: str, as_json: bool) -> None:
        show(ask(f"tasks.{name}", task=task), _line, as_json=as_json)


for _name, _does in _ACTS.items():
    _add_act(_name, _does)


def _line(task: dict[str, Any]) -> Iterator[str]:
    due = f"next {moment(task['next_run'])}" if task["next_run"] else "not due"
    name = task["name"] or task["prompt"]
    name = name if len(name) <= 60 else name[:59] + "…"
    what = f"{task['kind']} {task['value']}"
    yield f"{task['id']}  {task['group']}  {_state(task)}, {what}, {due}: {name}"


def _state(task: dict[str, Any]) -> str:
    return f"{task['state']} ({task['reason']})" if task["reason"] else str(task["state"])
