"""`pynchy web`: serve a page on this machine that shows what goes on."""

from __future__ import annotations

import html
import os
import sys
from functools import partial
from pathlib import Path

import click

from pynchy.cli.client import Failure
from pynchy.config.paths import Home
from pynchy.exits import Exit

PORT = 8710
OPENER = "open-page.html"


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
    """Serve the web page on 127.0.0.1. Ctrl-C ends it.

    It prints a link that opens the page in one browser; once used, it prints the next.

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
            click.launch(_opener(home, url).as_uri())

    home = Home.of(os.environ)

    async def run() -> None:
        await serve(home, port=port, names=frozenset(hosts), link=link)

    try:
        trio.run(run)
    except PortTaken as error:
        raise Failure(f"{error}; --port 0 takes any that is free", Exit.OURS) from error
    finally:
        (home.run / OPENER).unlink(missing_ok=True)


def _opener(home: Home, url: str) -> Path:
    """A file of ours alone that leads a browser to ``url``. A command line can be read by every user of the machine,
    and so could a link that is an argument of the browser's."""
    path = home.run / OPENER
    path.unlink(missing_ok=True)
    with open(path, "x", encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
        file.write(
            "<!doctype html><meta charset=utf-8><title>Pynchy</title>"
            f'<meta http-equiv=refresh content="0; url={html.escape(url)}">'
            f'<a href="{html.escape(url)}">Open Pynchy</a>\n'
        )
    return path
