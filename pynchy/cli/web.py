"""`pynchy web`: a page on this machine that shows what goes on."""

from __future__ import annotations

import os
import sys

import click

from pynchy.cli.client import Failure
from pynchy.exits import Exit
from pynchy.home import Home, NotPrivate

PORT = 8710


@click.command()
@click.option(
    "--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0 takes any."
)
@click.option(
    "--host",
    "hosts",
    metavar="NAME",
    multiple=True,
    help="Another name by which it may be called, behind a proxy of yours; may be repeated.",
)
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
def command(port: int, hosts: tuple[str, ...], open_it: bool) -> None:
    """Serve a page that shows what goes on, on 127.0.0.1 alone. Ctrl-C ends it.

    It prints a link that opens the page in one browser, and the next link once that was used.

    \b
    pynchy web
    pynchy web --open
    pynchy web --port 9000
    """
    import trio

    from pynchy.web.server import PortTaken, serve

    def link(url: str, first: bool) -> None:
        click.echo(url if first else f"for another browser: {url}")
        sys.stdout.flush()
        if first and sys.stderr.isatty():
            click.echo("open it in a browser on this machine; Ctrl-C ends the page", err=True)
        if first and open_it:
            click.launch(url)

    async def run() -> None:
        await serve(Home.of(os.environ), port=port, names=frozenset(hosts), link=link)

    try:
        trio.run(run)
    except PortTaken as error:
        raise Failure(f"{error}; --port 0 takes any that is free", Exit.OURS) from error
    except NotPrivate as error:
        raise Failure(str(error), Exit.CONFIG) from error
