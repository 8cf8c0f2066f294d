"""`pynchy toolbox`: what agents make documents and figures with, where the machine has to bring it."""

from __future__ import annotations

import os
import sys

import click

from pynchy.cli.client import Failure
from pynchy.exits import Exit


@click.group()
def command() -> None:
    """Install what agents make spreadsheets, documents, PDFs and charts with.

    For agents in bwrap; the image of the other engines has it already. `pynchy doctor` says whether it is there, and
    which programs of the machine it could use.

    \b
    pynchy toolbox install
    """


@command.command("install")
@click.option("--quiet", is_flag=True, help="Say nothing unless something is wrong.")
def install(quiet: bool) -> None:
    """Fetch and install it, unless it is there and of this release: some 140 MB to fetch, 450 on the disk.

    The packages are those of this release's lock, checked by hash. Agents that start afterwards have it.

    \b
    pynchy toolbox install
    """
    from pynchy.container import toolbox

    if sys.platform != "linux":
        if not quiet:
            click.echo("not needed here: the agent's image has it")
        return
    where = toolbox.place()
    if toolbox.state(where) != "current":
        if not quiet:
            click.echo("fetching and compiling it takes some 20 s ...")
        try:
            toolbox.install(where, os.environ)
        except (toolbox.NotInstalled, OSError) as error:
            raise Failure(f"the toolbox could not be installed: {error}", Exit.OURS) from None
    if not quiet:
        click.echo(f"installed: {where}")
