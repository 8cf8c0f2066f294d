"""`pynchy status`: show the state of the daemon and what it is doing."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from pynchy.cli.client import NotRunning, ask, printable
from pynchy.cli.output import json_option, show
from pynchy.config.paths import Home
from pynchy.exits import Exit
from pynchy.files.disk import spell_bytes


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Show the daemon's state: version, runtime, groups, runs, queue, outbox, channels.

    Exits with 4 if it is not running, with the last line of its log.

    \b
    pynchy status
    pynchy status --json
    """
    home = Home.of(os.environ)
    try:
        status = ask("status")
    except NotRunning as error:
        if as_json:
            down = {"running": False, "home": str(home.root), "last": last_word(home)}
            show(down, _lines, as_json=True)
            raise SystemExit(Exit.NOT_RUNNING) from None
        if last := last_word(home):
            click.echo(f"the last line of its log: {last}", err=True)
        raise error from None
    show(status, _lines, as_json=as_json)


def last_word(home: Home) -> str:
    """What the daemon wrote down last, if anything: how it ended, as a rule."""
    try:
        with home.log.open("rb") as file:
            file.seek(max(0, home.log.stat().st_size - 16_384))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    lines = [line for line in lines if line[:2].isdigit() or line.startswith("{")]
    return printable(lines[-1])[:300] if lines else ""


def _lines(status: dict[str, Any]) -> list[str]:
    outbox = status["outbox"]
    lines = [
        f"pynchy {status['version']}, process {status['pid']}, up {spell(status['uptime'])}",
        f"home       {status['home']}",
        f"runtime    {status['runtime']}",
        f"model      {_model(status)}",
        "channels   " + ", ".join(f"{n} {state}" for n, state in status["channels"].items()),
        f"containers {len(status['runs'])} of {status['containers']}",
    ]
    warnings = list(status.get("warnings", ()))
    if (disk := status.get("disk", {})).get("held"):
        warnings.append("too little room on the disk: no new run is started")
    if "free" in disk:
        free, least = spell_bytes(disk["free"]), spell_bytes(disk["least"])
        lines.append(f"disk       {free} free, {least} needed")
    lines[1:1] = [f"warning    {warning}" for warning in warnings]
    for run in status["runs"]:
        busy = "working" if run["turns"] else "idle"
        kind = "" if run["kind"] == "session" else f"{run['kind']}, "
        lines.append(
            f"  {run['folder']}: {kind}{run['state']}, {busy}, since {spell(run['seconds'])}"
        )
    lines.append("queue      " + (", ".join(status["queue"]) or "empty"))
    waiting = ", ".join(f"{count} {state}" for state, count in outbox.items() if count)
    lines.append("outbox     " + (waiting or "empty"))
    if status["retrying"]:
        lines.append(f"waiting    {status['retrying']} turn{'s' * (status['retrying'] != 1)}")
    held = {hold["scope"]: hold for hold in status.get("held", ())}
    for hold in held.values():
        whose = hold["scope"].partition("group:")[2]
        words = f"{whose}: {hold['words']}" if whose else hold["words"]
        then = "it is tried now" if hold["trying"] else ""
        if hold["at"] is not None:
            then = f"the next try is at {_clock(hold['at'])}"
        said = ", ".join(part for part in (words, f"since {_clock(hold['since'])}", then) if part)
        lines.append(f"held back  {said}")
        if hold["reason"]:
            lines.append(f"  because: {' '.join(hold['reason'].split())[:300]}")
    for retry in status["retries"]:
        until = f", given up at {_clock(retry['until'])}" if retry.get("until") else ""
        if retry.get("held_by") in held:
            lines.append(f"  {retry['folder']}: try {retry['attempt'] + 1} then{until}")
            continue
        error = " ".join(retry["error"].split())
        lines.append(
            f"  {retry['folder']}: try {retry['attempt'] + 1} at {_clock(retry['at'])}{until}, after {error[:300]}"
        )
    lines.append(f"groups     {len(status['groups'])}")
    bills = {bill["group"]: bill for bill in status.get("bills", ())}
    main = bills.get("main", {})
    for group in status["groups"]:
        trigger = f"@{group['trigger']}" if group["answers"] != "all" else "every message"
        paused = ", paused" if group["paused"] else ", held back" if group.get("held_back") else ""
        lines.append(
            f"  {group['folder']}: {', '.join(group['chats']) or 'no chat'}, {trigger}{paused}"
        )
        if bill := bills.get(group["folder"]):
            model = f"{bill['words']['model']}, " if bill["model"] != main.get("model") else ""
            lines.append(
                f"    {model}today {bill['words']['today']}; a message now costs {bill['words']['message']}"
            )
    return lines


def _model(status: dict[str, Any]) -> str:
    """Who answers, and what all groups together may spend today."""
    bills = status.get("bills") or [{}]
    if not (words := bills[0].get("words")):
        return str(status["model"])
    return f"{status['model']}: {words['model']}; all groups today: {words['of_all']}"


def _clock(at: int) -> str:
    """A moment by this machine's clock; with its day, if that is another one."""
    then = time.localtime(at / 1e6)
    today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", then)


def spell(seconds: float) -> str:
    whole = int(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h" if whole < 172_800 else f"{whole // 86_400} days"
