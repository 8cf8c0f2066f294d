"""`pynchy mounts`: manage the folders of this machine that groups may be given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from pynchy.cli.client import Failure, ask, printable
from pynchy.cli.output import json_option, show
from pynchy.exits import Exit


@click.group()
def command() -> None:
    """Manage the allowlist of folders that groups may mount with `pynchy groups mount`.

    \b
    pynchy mounts init
    pynchy mounts check && pynchy mounts reload
    """


@command.command("init")
def init() -> None:
    """Write a template of the allowlist, if there is none.

    \b
    pynchy mounts init
    """
    from pynchy.container.mounts.rules import TEMPLATE

    path = _path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise Failure(f"{path} already exists", Exit.OURS) from None
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(TEMPLATE)
    click.echo(f"{path}: edit it, then: pynchy mounts check && pynchy mounts reload")


@command.command("check")
def check() -> None:
    """Check the allowlist, and show what it allows. Changes nothing.

    \b
    pynchy mounts check
    """
    from pynchy.container.mounts.allowlist import read_allowlist, real_roots
    from pynchy.container.mounts.rules import BadAllowlist

    path = _path()
    try:
        found = read_allowlist(path)
    except BadAllowlist as error:
        raise Failure(f"nothing is mounted: {error}", Exit.CONFIG) from None
    if found is None:
        click.echo(f"nothing is mounted: there is no {path}; see: pynchy mounts init")
        return
    places = real_roots(found, user_home=Path.home())
    for root, real in zip(found.roots, places, strict=True):
        how = "may be written" if root.writable else "read only"
        where = str(real) if real is not None else "not there"
        click.echo(printable(f"{root.path}: {how}, {where}"))
    others = "read only" if found.non_main_read_only else "as the roots say"
    click.echo(f"groups other than main: {others}; {len(found.blocked)} patterns are blocked")


@command.command("reload")
def reload() -> None:
    """Make the running daemon read the allowlist again.

    \b
    pynchy mounts reload
    """
    roots = ask("mounts.reload")["roots"]
    if roots is None:
        click.echo("nothing is mounted: there is no allowlist; see: pynchy mounts init")
    else:
        click.echo(f"{roots} folder{'s' * (roots != 1)} and what is below may be mounted")


@command.command("list")
@json_option
def list_mounts(as_json: bool) -> None:
    """List each group's mounts, and those that are refused.

    \b
    pynchy mounts list
    """
    show(ask("mounts.check"), _all_lines, as_json=as_json)


def _all_lines(found: list[dict[str, Any]]) -> list[str]:
    told = [line for group in found for line in _mounts(group)]
    return told or ["no group has asked for a folder; see: pynchy groups mount --help"]


def _path() -> Path:
    from pynchy.config.sources import from_environ

    config = from_environ(os.environ)
    return config.container.mount_allowlist or config.home.mount_allowlist


def group_lines(group: dict[str, Any]) -> list[str]:
    """One group's mounts, for a person."""
    return _mounts(group) or [f"{group['folder']}: no mounts"]


def _mounts(group: dict[str, Any]) -> list[str]:
    told = [
        f"{each['target']} is {each['source']}{', writable' * each['writable']}"
        for each in group["mounts"]
    ]
    told += [f"not {each['name']}: {each['reason']}" for each in group["refused"]]
    return [f"{group['folder']}: {each}" for each in [*told, *group["notes"]]]
