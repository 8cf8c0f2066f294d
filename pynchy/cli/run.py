"""`pynchy run`: start the daemon and, on a terminal, chat with it."""

from __future__ import annotations

import click

from pynchy.cli.start import start


@click.command()
@click.option("--offline", is_flag=True, help="Use the built-in model: no account, no network.")
@click.option(
    "--set",
    "settings",
    metavar="SECTION.KEY=VALUE",
    multiple=True,
    help="Any setting of docs/config.md, for this run; may be repeated.",
)
def command(offline: bool, settings: tuple[str, ...]) -> None:
    """Start the assistant; on a terminal, chat with it.

    Without a terminal it prints "ready" and runs until a signal. Ctrl-D or /quit leaves the chat and
    stops the daemon.

    \b
    pynchy run --offline
    pynchy run --set limits.containers=2 --set logging.level=debug
    """
    flags: dict[str, object] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise click.UsageError(f"--set {setting}: expected SECTION.KEY=VALUE")
        flags[name.strip()] = value
    if offline:
        flags["model.offline"] = True
    raise SystemExit(start(flags))
